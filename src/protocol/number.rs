//! Numbers as memcached reads them. It reads them in two ways, and clients have come to rely on
//! both: most arguments are read strictly, digit by digit; flags, the expiry of a stored item and
//! the text of a counter as C's `strtol` family would.

/// An unsigned number of digits only.
#[must_use]
pub fn strict_u64(token: &[u8]) -> Option<u64> {
    if token.is_empty() || token.len() > U64_TEXT_BYTES_MAX {
        return None;
    }
    digits(token)
}

/// An unsigned number of digits only.
#[must_use]
pub fn strict_u32(token: &[u8]) -> Option<u32> {
    if token.len() > I32_TEXT_BYTES_MAX {
        return None;
    }
    strict_u64(token).and_then(|number| u32::try_from(number).ok())
}

/// A number with a minus sign or without. The sign alone is 0, as it is to memcached.
#[must_use]
pub fn strict_i32(token: &[u8]) -> Option<i32> {
    if token.is_empty() || token.len() > I32_TEXT_BYTES_MAX {
        return None;
    }
    let magnitude = |token| digits(token).and_then(|number| i64::try_from(number).ok());
    let number = match token.strip_prefix(b"-") {
        Some(token) => -magnitude(token)?,
        None => magnitude(token)?,
    };
    i32::try_from(number).ok()
}

/// A time to live, as [`strict_i32`].
#[must_use]
pub fn strict_exptime(token: &[u8]) -> Option<i64> {
    strict_i32(token).map(i64::from)
}

/// An unsigned number that may stand between white space, and behind a sign. What follows the white
/// space is not looked at. A negative number is none, but for -0.
#[must_use]
pub fn lenient_u64(text: &[u8]) -> Option<u64> {
    lenient(text).and_then(unsigned)
}

/// As [`lenient_u64`], of a text that does not lie in one piece.
#[must_use]
pub fn lenient_u64_of(text: impl Iterator<Item = u8>) -> Option<u64> {
    spelled_out(text).and_then(unsigned)
}

/// As [`lenient_u64`], but signed.
#[must_use]
pub fn lenient_i64(text: &[u8]) -> Option<i64> {
    let (negative, number) = lenient(text)?;
    if negative { 0i64.checked_sub_unsigned(number) } else { i64::try_from(number).ok() }
}

fn lenient(text: &[u8]) -> Option<(bool, u64)> {
    // What most say of most items is 0.
    if let &[digit @ b'0'..=b'9'] = text {
        return Some((false, u64::from(digit - b'0')));
    }
    spelled_out(text.iter().copied())
}

/// Whether the number is negative, and its magnitude.
fn spelled_out(text: impl Iterator<Item = u8>) -> Option<(bool, u64)> {
    let mut text = text.skip_while(|&byte| is_space(byte)).peekable();
    let is_negative = text.next_if(|byte| matches!(byte, b'-' | b'+')) == Some(b'-');
    let mut number = None;
    for byte in text {
        match byte {
            b'0'..=b'9' => number = Some(with_digit(number.unwrap_or(0), byte - b'0')?),
            _ if is_space(byte) || byte == 0 => break,
            _ => return None,
        }
    }
    number.map(|number| (is_negative, number))
}

fn unsigned((is_negative, number): (bool, u64)) -> Option<u64> {
    (!is_negative || number == 0).then_some(number)
}

fn digits(token: &[u8]) -> Option<u64> {
    token.iter().try_fold(0u64, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 { None } else { with_digit(number, digit) }
    })
}

fn with_digit(number: u64, digit: u8) -> Option<u64> {
    number.checked_mul(10)?.checked_add(u64::from(digit))
}

/// White space to C: `is_ascii_whitespace` knows no vertical tab.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

const U64_TEXT_BYTES_MAX: usize = 20;
const I32_TEXT_BYTES_MAX: usize = 11;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_numbers_are_digits_in_range() {
        assert_eq!(strict_u64(b"18446744073709551615"), Some(u64::MAX));
        for text in ["", "18446744073709551616", "000000000000000000000", "-1", "+1", "1x", " 1"] {
            assert_eq!(strict_u64(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(strict_u32(b"4294967295"), Some(u32::MAX));
        assert_eq!(strict_u32(b"4294967296"), None);
    }

    #[test]
    fn strict_signed_numbers_reach_both_ends() {
        assert_eq!(strict_i32(b"2147483647"), Some(i32::MAX));
        assert_eq!(strict_i32(b"-2147483648"), Some(i32::MIN));
        assert_eq!(strict_i32(b"-"), Some(0));
        for text in ["", "2147483648", "-2147483649", "+1", "--1", "1 ", "000000000001"] {
            assert_eq!(strict_i32(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn lenient_numbers_tolerate_what_strtoul_does() {
        for text in ["7", " 7", "\t+7", "7 ", "7\r\n", "007", "7 rest", "7\0rest"] {
            assert_eq!(lenient_u64(text.as_bytes()), Some(7), "{text:?}");
            assert_eq!(lenient_u64_of(text.bytes()), Some(7), "{text:?}");
        }
        for text in ["", " ", "-7", "7x", "0x7", "+", "x", "18446744073709551616"] {
            assert_eq!(lenient_u64(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(lenient_u64(b"-0"), Some(0));
        assert_eq!(lenient_i64(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(lenient_i64(b"-9223372036854775809"), None);
        assert_eq!(lenient_i64(b"9223372036854775808"), None);
    }
}
