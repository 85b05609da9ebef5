//! Items that describe themselves: the value follows from the key, so a reply can be checked byte
//! for byte without a memory of what was stored, and a value that belongs to another key is seen at
//! once.

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
        let pattern = self.pattern(key);
        (0..bytes / KEY_BYTES).for_each(|_| output.extend_from_slice(&pattern));
        output.extend_from_slice(&pattern[..bytes % KEY_BYTES]);
    }

    /// Whether `value` is what `key` must hold.
    #[must_use]
    pub fn matches(self, key: &Key, value: &[u8]) -> bool {
        let pattern = self.pattern(key);
        let (whole, rest) = value.as_chunks::<KEY_BYTES>();
        whole.iter().all(|chunk| *chunk == pattern) && pattern.starts_with(rest)
    }

    /// What a value repeats from its first byte to its last.
    fn pattern(self, key: &Key) -> Key {
        match self {
            Self::Keyed => *key,
            Self::Constant => [CONSTANT_BYTE; KEY_BYTES],
        }
    }
}

/// The text of key number `id`: its last twelve hexadecimal digits behind `key:`.
#[must_use]
pub fn key(id: u64) -> Key {
    let mut text = *b"key:000000000000";
    let mut rest = id;
    for digit in text[4..].iter_mut().rev() {
        *digit = DIGITS[(rest % 16) as usize];
        rest /= 16;
    }
    text
}

/// Every byte of a [`Values::Constant`] value.
pub const CONSTANT_BYTE: u8 = b'x';
const DIGITS: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_distinct_and_of_one_length() {
        assert_eq!(&key(0), b"key:000000000000");
        assert_eq!(&key(0x0123_4567), b"key:000001234567");
        assert_eq!(&key((1 << 48) - 1), b"key:ffffffffffff");
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
