//! Base64 as memcached reads it: what is no digit of it is passed over, and a key ends with the
//! first padding.

use super::KEY_BYTES_MAX;
use std::fmt::{self, Display, Write};

/// Room for what a key decodes to.
pub type DecodedKey = [u8; DECODED_BYTES_MAX];

/// No key was decoded yet.
pub const NO_KEY: DecodedKey = [0; DECODED_BYTES_MAX];

/// Decodes a key of at most [`KEY_BYTES_MAX`] bytes and returns how many bytes it has. `None` if
/// its digits do not come in fours, or mean nothing.
#[must_use]
pub fn decode(text: &[u8], decoded: &mut DecodedKey) -> Option<usize> {
    let digits = || text.iter().filter_map(|&byte| value(byte).map(|value| (byte, value)));
    if digits().count() % 4 != 0 {
        return None;
    }
    let mut length = 0;
    let (mut quad, mut digits_taken, mut padding) = (0u32, 0, 0);
    for (byte, value) in digits() {
        quad = quad << 6 | u32::from(value);
        digits_taken += 1;
        padding += usize::from(byte == PADDING);
        if digits_taken % 4 == 0 {
            decoded[length..length + 3].copy_from_slice(&quad.to_be_bytes()[1..]);
            length += 3;
            quad = 0;
            if padding > 0 {
                break;
            }
        }
    }
    let length = if padding > 2 { 0 } else { length.saturating_sub(padding) };
    (length > 0).then_some(length)
}

/// Shows bytes in base64, with padding.
#[derive(Clone, Copy, Debug)]
pub struct Encoded<'a>(pub &'a [u8]);

impl Display for Encoded<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.chunks(3) {
            let byte = |place| chunk.get(place).copied().map_or(0, usize::from);
            let quad = byte(0) << 16 | byte(1) << 8 | byte(2);
            for place in 0..4 {
                let digit = DIGITS[quad >> (18 - 6 * place) & 63];
                let digit = if place > chunk.len() { PADDING } else { digit };
                formatter.write_char(char::from(digit))?;
            }
        }
        Ok(())
    }
}

fn value(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        PADDING => Some(0),
        _ => None,
    }
}

const PADDING: u8 = b'=';
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const DECODED_BYTES_MAX: usize = KEY_BYTES_MAX / 4 * 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_memcached_decodes_is_decoded() {
        for (text, decoded) in [
            ("Zm9v", &b"foo"[..]),
            ("Zm8=", b"fo"),
            ("Zg==", b"f"),
            ("Zm9vYmFy", b"foobar"),
            ("Z!m9v", b"foo"),
            ("Zg==Zm9v", b"f"),
            ("//79", b"\xff\xfe\xfd"),
        ] {
            let mut buffer = NO_KEY;
            let key_bytes = decode(text.as_bytes(), &mut buffer).expect("it is a key");
            assert_eq!(&buffer[..key_bytes], decoded, "{text}");
        }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for key in [&b"f"[..], b"fo", b"foo", b"foob", b"\xff\xfe\xfd", b"a key\n"] {
            let text = Encoded(key).to_string();
            let mut buffer = NO_KEY;
            let key_bytes = decode(text.as_bytes(), &mut buffer).expect("it is a key");
            assert_eq!(&buffer[..key_bytes], key, "{text}");
        }
        assert_eq!(Encoded(b"fo").to_string(), "Zm8=");
    }

    #[test]
    fn the_longest_key_has_room() {
        let mut buffer = NO_KEY;
        assert_eq!(decode(&[b'A'; 248], &mut buffer), Some(186));
        assert_eq!(decode(&[b'A'; KEY_BYTES_MAX], &mut buffer), None);
    }

    #[test]
    fn nonsense_is_none() {
        let mut buffer = NO_KEY;
        for text in ["", "Zm9", "Zm9vY", "====", "Z===", "!!!!"] {
            assert_eq!(decode(text.as_bytes(), &mut buffer), None, "{text}");
        }
    }
}
