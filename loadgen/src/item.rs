//! Items that describe themselves: the value follows from the key, so a reply can be checked byte for byte without a memory of
//! what was stored, and a value that belongs to another key is seen at once.

/// Length of every key.
pub const KEY_BYTES: usize = 16;

/// The text of a key.
pub type Key = [u8; KEY_BYTES];

/// How a server's values are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Values {
    /// The key, over and over: what a server returns that stores what it is given.
    Keyed,
    /// One letter, whatever the key: what the null server returns, which stores nothing.
    Constant,
}

impl Values {
    /// Appends the value of `key`, `bytes` long.
    pub fn write(self, key: &Key, bytes: usize, output: &mut Vec<u8>) {
        match self {
            Self::Keyed => {
                (0..bytes / KEY_BYTES).for_each(|_| output.extend_from_slice(key));
                output.extend_from_slice(&key[..bytes % KEY_BYTES]);
            }
            Self::Constant => output.resize(output.len() + bytes, CONSTANT_BYTE),
        }
    }

    /// Whether `value` is what `key` must hold.
    #[must_use]
    pub fn matches(self, key: &Key, value: &[u8]) -> bool {
        match self {
            Self::Keyed => value.chunks(KEY_BYTES).all(|chunk| key.starts_with(chunk)),
            Self::Constant => value.iter().all(|&byte| byte == CONSTANT_BYTE),
        }
    }
}

/// The text of key number `id`: its last twelve decimal digits behind `key:`.
#[must_use]
pub fn key(id: u64) -> Key {
    let mut text = *b"key:000000000000";
    let mut rest = id;
    for digit in text[4..].iter_mut().rev() {
        *digit = DIGITS[(rest % 10) as usize];
        rest /= 10;
    }
    text
}

/// Every byte of a [`Values::Constant`] value.
pub const CONSTANT_BYTE: u8 = b'x';
const DIGITS: &[u8; 10] = b"0123456789";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_distinct_and_of_one_length() {
        assert_eq!(&key(0), b"key:000000000000");
        assert_eq!(&key(1_234_567), b"key:000001234567");
        assert_eq!(&key(999_999_999_999), b"key:999999999999");
    }

    #[test]
    fn a_value_matches_its_own_key_only() {
        let mut value = Vec::new();
        Values::Keyed.write(&key(7), 100, &mut value);
        assert_eq!(value.len(), 100);
        assert!(Values::Keyed.matches(&key(7), &value));
        assert!(!Values::Keyed.matches(&key(8), &value));
        assert!(!Values::Constant.matches(&key(7), &value));
    }

    #[test]
    fn one_flipped_byte_anywhere_is_seen() {
        for values in [Values::Keyed, Values::Constant] {
            let mut value = Vec::new();
            values.write(&key(7), 100, &mut value);
            for position in 0..value.len() {
                value[position] ^= 1;
                assert!(!values.matches(&key(7), &value), "{values:?}, byte {position}");
                value[position] ^= 1;
            }
            assert!(values.matches(&key(7), &value));
        }
    }
}
