//! Values that describe themselves.
//!
//! ```text
//! | key number | version | length | checksum | filling that follows from all of these ... |
//!      8          8         4        4          to the end
//! ```
//!
//! Every byte follows from key, version and length, so that a value needs no memory of what was
//! stored to be checked whole, and one put together from two is seen. What is too short for the
//! header is filling that follows from the key alone. Lengthened values have blocks of eight bytes,
//! which follow from the key, before or behind.

use crate::random::mix;
use crate::truth::Fault;

/// How a server's values are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Values {
    /// By key, version and checksum: what a server returns that stores what it is given
    Truthful,
    /// One letter, whatever the key: what the null server returns, which stores nothing
    Constant,
}

/// What a value says of itself; 0 where it is too short to say it.
pub type Version = u64;

impl Values {
    /// Appends the value of key number `id` in this version, `bytes` long.
    pub fn write(self, id: u64, version: Version, bytes: usize, output: &mut Vec<u8>) {
        if self == Self::Constant {
            output.resize(output.len() + bytes, CONSTANT_BYTE);
        } else if bytes < HEADER_BYTES {
            fill(short_seed(id), bytes, output);
        } else {
            let header = Header { id, version, bytes: bytes as u64 };
            output.extend_from_slice(&id.to_le_bytes());
            output.extend_from_slice(&version.to_le_bytes());
            output.extend_from_slice(&header.sum_and_length());
            fill(header.seed(), bytes - HEADER_BYTES, output);
        }
    }

    /// Checks every byte of `value`, which must be of key number `id`, and returns its version.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn check(self, id: u64, value: &[u8]) -> Result<Version, Fault> {
        if self == Self::Constant {
            // Without an early end, so that many bytes are compared at once.
            let difference = value.iter().fold(0, |sum, &byte| sum | (byte ^ CONSTANT_BYTE));
            return if difference == 0 { Ok(0) } else { Err(Fault::Torn) };
        }
        match check_plain(id, value) {
            Err(_) => check_lengthened(id, value),
            checked => checked,
        }
    }
}

/// The eight bytes by which a value of key number `id` is lengthened.
#[must_use]
pub fn block(id: u64) -> [u8; 8] {
    mix(id ^ BLOCK_SALT).to_le_bytes()
}

/// Tells what a header tells.
#[derive(Clone, Copy)]
struct Header {
    id: u64,
    version: Version,
    bytes: u64,
}

impl Header {
    fn parse(value: &[u8]) -> Option<Self> {
        let (header, _) = value.split_first_chunk::<HEADER_BYTES>()?;
        let word =
            |at: usize| header[at..at + 8].first_chunk().map(|word| u64::from_le_bytes(*word));
        let header = Self { id: word(0)?, version: word(8)?, bytes: word(16)? & 0xFFFF_FFFF };
        (value[16..HEADER_BYTES] == header.sum_and_length()).then_some(header)
    }

    /// Where the filling begins.
    fn seed(self) -> u64 {
        mix(mix(self.id ^ self.version.rotate_left(29)) ^ self.bytes)
    }

    /// The length in the lower half, the sum in the upper.
    fn sum_and_length(self) -> [u8; 8] {
        ((self.seed() & !0xFFFF_FFFF) | self.bytes).to_le_bytes()
    }
}

fn check_plain(id: u64, value: &[u8]) -> Result<Version, Fault> {
    if value.len() < HEADER_BYTES {
        return filled(short_seed(id), value).then_some(0).ok_or(Fault::Torn);
    }
    let header = Header::parse(value).ok_or(Fault::Torn)?;
    if header.bytes != value.len() as u64 || !filled(header.seed(), &value[HEADER_BYTES..]) {
        return Err(Fault::Torn);
    }
    if header.id == id { Ok(header.version) } else { Err(Fault::Foreign) }
}

/// A value between its blocks.
fn check_lengthened(id: u64, value: &[u8]) -> Result<Version, Fault> {
    let (block, fault) = (block(id), check_plain(id, value));
    let mut rest = value;
    while let Some(shorter) = rest.strip_prefix(&block) {
        rest = shorter;
    }
    let whole = Header::parse(rest).and_then(|header| usize::try_from(header.bytes).ok());
    if let Some((plain, blocks)) = whole.and_then(|bytes| rest.split_at_checked(bytes)) {
        let (blocks, left) = blocks.as_chunks::<8>();
        let lengthened = left.is_empty() && blocks.iter().all(|found| *found == block);
        return if lengthened { check_plain(id, plain) } else { Err(Fault::Torn) };
    }
    while let Some(shorter) = rest.strip_suffix(&block) {
        rest = shorter;
    }
    if rest.len() < HEADER_BYTES && rest.len() < value.len() {
        check_plain(id, rest)
    } else {
        fault
    }
}

/// Filling is a sequence of words with a constant distance.
fn fill(seed: u64, bytes: usize, output: &mut Vec<u8>) {
    let mut word = seed;
    for _ in 0..bytes / 8 {
        output.extend_from_slice(&word.to_le_bytes());
        word = word.wrapping_add(WORD_STEP);
    }
    output.extend_from_slice(&word.to_le_bytes()[..bytes % 8]);
}

fn filled(seed: u64, filling: &[u8]) -> bool {
    let (words, rest) = filling.as_chunks::<8>();
    let mut word = seed;
    let mut difference = 0;
    for found in words {
        difference |= u64::from_le_bytes(*found) ^ word;
        word = word.wrapping_add(WORD_STEP);
    }
    difference == 0 && word.to_le_bytes().starts_with(rest)
}

fn short_seed(id: u64) -> u64 {
    mix(id ^ SHORT_SALT)
}

/// Every byte of a [`Values::Constant`] value.
pub const CONSTANT_BYTE: u8 = b'x';
const HEADER_BYTES: usize = 24;
const WORD_STEP: u64 = 0x9E37_79B9_7F4A_7C15;
const SHORT_SALT: u64 = 0x7368_6F72_7400;
const BLOCK_SALT: u64 = 0x626C_6F63_6B00;

#[cfg(test)]
mod tests {
    use super::*;

    fn value(id: u64, version: Version, bytes: usize) -> Vec<u8> {
        let mut value = Vec::new();
        Values::Truthful.write(id, version, bytes, &mut value);
        assert_eq!(value.len(), bytes);
        value
    }

    fn check(id: u64, value: &[u8]) -> Result<Version, Fault> {
        Values::Truthful.check(id, value)
    }

    #[test]
    fn a_value_tells_its_version() {
        for bytes in [24, 25, 31, 32, 100, 5000] {
            assert_eq!(check(7, &value(7, 3 << 32 | 9, bytes)), Ok(3 << 32 | 9));
        }
        for bytes in 0..24 {
            assert_eq!(check(7, &value(7, 9, bytes)), Ok(0));
        }
    }

    #[test]
    fn the_value_of_another_key_is_foreign() {
        assert_eq!(check(8, &value(7, 1, 100)), Err(Fault::Foreign));
        assert_eq!(check(8, &value(7, 1, 10)), Err(Fault::Torn));
    }

    #[test]
    fn one_flipped_bit_anywhere_is_seen() {
        for bytes in [5, 24, 100] {
            let mut value = value(7, 1, bytes);
            for position in 0..bytes {
                value[position] ^= 1;
                assert!(check(7, &value).is_err(), "{bytes} bytes, byte {position}");
                value[position] ^= 1;
            }
        }
    }

    #[test]
    fn two_versions_in_one_are_torn_wherever_they_meet() {
        let (old, new) = (value(7, 1, 100), value(7, 2, 100));
        for seam in 9..100 {
            let torn = [&old[..seam], &new[seam..]].concat();
            assert_eq!(check(7, &torn), Err(Fault::Torn), "{seam}");
        }
    }

    #[test]
    fn a_short_read_is_torn() {
        let value = value(7, 1, 100);
        assert!((24..100).all(|bytes| check(7, &value[..bytes]) == Err(Fault::Torn)));
        assert_eq!(check(7, &[&value[..], b"x"].concat()), Err(Fault::Torn));
    }

    #[test]
    fn lengthened_values_are_checked_whole() {
        let block = block(7);
        for bytes in [3, 24, 100] {
            let plain = value(7, 5, bytes);
            let version = check(7, &plain);
            assert!(version.is_ok());
            assert_eq!(check(7, &[&plain[..], &block, &block].concat()), version);
            assert_eq!(check(7, &[&block, &plain[..], &block].concat()), version);
            assert!(check(7, &[&plain[..], &block[..7]].concat()).is_err());
            assert!(check(8, &[&plain[..], &block].concat()).is_err());
        }
    }

    #[test]
    fn constant_values_are_one_letter() {
        let mut value = Vec::new();
        Values::Constant.write(7, 1, 100, &mut value);
        assert_eq!(Values::Constant.check(9, &value), Ok(0));
        value[50] = b'y';
        assert_eq!(Values::Constant.check(9, &value), Err(Fault::Torn));
    }
}
