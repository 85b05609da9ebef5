//! The text of each key. A key is a number everywhere in this program; the text is written when it
//! is sent and compared when it comes back.

use std::sync::Arc;

use crate::random::{floor, mix, unit};
use crate::truth::counters::COUNTER_BASE;
use crate::workload::size::Size;
use crate::workload::trace::Trace;

/// What the numbers are called.
#[derive(Clone, Debug)]
pub enum Keys {
    /// `key:` and the number in base 32, filled up with zeros to the size that this key has. Short
    /// sizes lose the prefix; where not even the number fits, the key is as long as the number.
    Made {
        /// How long they are.
        bytes: Size,
    },
    /// As a trace has them; its counters have made ones, for they are not its values.
    Listed(Arc<Trace>),
}

impl Keys {
    /// The text of key number `id`, in `buffer`.
    pub fn text<'a>(&'a self, id: u64, buffer: &'a mut KeyBuffer) -> &'a [u8] {
        match self {
            Self::Made { bytes: Size::Fixed(bytes) } => made(id, floor(*bytes), buffer),
            Self::Made { bytes } => made(id, bytes.at(unit(mix(id ^ KEY_SIZE_SALT))), buffer),
            Self::Listed(_) if id >= COUNTER_BASE => made(id, COUNTER_KEY_BYTES, buffer),
            Self::Listed(trace) => trace.key(id),
        }
    }

    /// The number by which the values of key number `id` know it.
    #[must_use]
    pub fn identity(&self, id: u64) -> u64 {
        match self {
            Self::Listed(trace) if id < COUNTER_BASE => trace.identity(id),
            Self::Listed(_) | Self::Made { .. } => id,
        }
    }
}

/// The number by which values know the key of this text: that of a made key, and of another text
/// one that follows from all of it. So a key is known whatever wrote its value, and wherever a
/// trace comes upon it first.
pub(crate) fn identity(text: &[u8]) -> u64 {
    let digit = |letter: &u8| DIGITS.iter().position(|digit| digit == letter);
    let digits = text.strip_prefix(PREFIX).unwrap_or(text).iter();
    let number = digits
        .map(digit)
        .try_fold(0_u64, |number, digit| number.checked_mul(32)?.checked_add(digit? as u64));
    let mut buffer = [0; KEY_BYTES_MAX];
    match number {
        Some(id) if made(id, text.len() as u64, &mut buffer) == text => id,
        _ => text.iter().fold(TEXT_SALT, |hash, &letter| mix(hash ^ u64::from(letter))),
    }
}

/// Room for the longest key that memcached takes.
pub type KeyBuffer = [u8; KEY_BYTES_MAX];

fn made(id: u64, bytes: u64, buffer: &mut KeyBuffer) -> &[u8] {
    let digits = usize::try_from(id.max(1).ilog(32) + 1).expect("at most 13");
    let bytes = usize::try_from(bytes).unwrap_or(KEY_BYTES_MAX).clamp(digits, KEY_BYTES_MAX);
    let text = &mut buffer[..bytes];
    let prefix_bytes = if bytes >= PREFIX.len() + digits { PREFIX.len() } else { 0 };
    let (prefix, number) = text.split_at_mut(prefix_bytes);
    prefix.copy_from_slice(&PREFIX[..prefix_bytes]);
    let (zeros, number) = number.split_at_mut(bytes - prefix_bytes - digits);
    zeros.fill(b'0');
    let mut rest = id;
    for digit in number.iter_mut().rev() {
        *digit = DIGITS[(rest % 32) as usize];
        rest /= 32;
    }
    text
}

const COUNTER_KEY_BYTES: u64 = 16;
/// memcached's limit.
pub const KEY_BYTES_MAX: usize = 250;
const PREFIX: &[u8] = b"key:";
const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
/// Where the numbers of texts begin.
const TEXT_SALT: u64 = 0x7465_7874_0000;
/// Keeps a key's size apart from everything else that follows from its number.
const KEY_SIZE_SALT: u64 = 0x6B65_7900;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn text(keys: &Keys, id: u64) -> String {
        let mut buffer = [0; KEY_BYTES_MAX];
        String::from_utf8(keys.text(id, &mut buffer).to_vec()).unwrap()
    }

    #[test]
    fn keys_have_the_asked_length_and_the_number() {
        let keys = Keys::Made { bytes: Size::Fixed(16.0) };
        assert_eq!(text(&keys, 0), "key:000000000000");
        assert_eq!(text(&keys, 33), "key:000000000011");
        assert_eq!(text(&keys, 1 << 59).len(), 16);
        let short = Keys::Made { bytes: Size::Fixed(1.0) };
        assert_eq!(text(&short, 31), "v");
        assert_eq!(text(&short, 32), "10");
    }

    #[test]
    fn a_key_is_known_by_its_text() {
        for bytes in [1, 3, 9, 16, 250] {
            let keys = Keys::Made { bytes: Size::Fixed(f64::from(bytes)) };
            for id in [0, 31, 32, 33, 1 << 40, 1 << 59] {
                assert_eq!(identity(text(&keys, id).as_bytes()), id);
            }
        }
        let others = ["user:7", "user:8", "key:", "", "KEY:1", "key:1\u{e9}", "zzzzzzzzzzzzzzzz"];
        let known: HashSet<_> = others.map(|text| identity(text.as_bytes())).into_iter().collect();
        assert_eq!(known.len(), others.len());
        let trace = |text: &str| Arc::new(Trace::read(text.as_bytes()).unwrap());
        let [one, other] = ["0,a7,2,3,get,0\n0,key:0011,8,3,get,0\n", "0,key:0011,8,3,get,0\n"]
            .map(|text| Keys::Listed(trace(text)));
        assert_eq!((one.identity(1), other.identity(0)), (33, 33));
    }

    #[test]
    fn a_traces_counters_have_keys_of_their_own() {
        let trace = Arc::new(Trace::read(&b"0,one,3,0,incr,0\n"[..]).unwrap());
        let keys = Keys::Listed(trace);
        assert_eq!((text(&keys, 0).as_str(), text(&keys, COUNTER_BASE).len()), ("one", 16));
    }

    #[test]
    fn keys_of_every_length_are_distinct() {
        let keys = Keys::Made { bytes: "uniform:1,20".parse().unwrap() };
        let texts: HashSet<_> = (0..20_000).map(|id| text(&keys, id)).collect();
        assert_eq!(texts.len(), 20_000);
        assert!(texts.iter().any(|text| text.len() == 20));
    }
}
