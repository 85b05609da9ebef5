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
