//! Requests understood ahead of their turn, so that the store can wait for the memory of all their
//! keys at once.

use crate::protocol::text::{self, Line, Parsed, Tokens, VALUE_END};
use crate::protocol::{Counting, Deletion, Request, Storage, meta};
use crate::store::PREFETCH_KEYS;
use memchr::memchr;

/// The requests at the start of a piece of input whose lines are there, a few at most.
#[derive(Debug, Default)]
pub(super) struct Ahead<'s>([Option<Understood<'s>>; PREFETCH_KEYS]);

/// A request whose turn comes when the input is served up to its line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Understood<'s> {
    /// Where in the input the line begins.
    pub(super) start: usize,
    /// With its end.
    pub(super) line: &'s [u8],
    pub(super) meaning: Line<'s>,
}

impl<'s> Ahead<'s> {
    /// Reads `input` from the start of a line on, of which so many bytes are known to hold no line
    /// end. Values are passed over.
    pub(super) fn read(&mut self, input: &'s [u8], mut start: usize, mut scanned: usize) {
        let first = start;
        for place in &mut self.0 {
            let Some(rest) = input.get(start..) else { break };
            // Written where it stays: to move it costs as much as to understand it.
            if scanned == 0
                && let Some((storage, line_bytes)) = text::plain_set(rest)
            {
                let meaning = Line::of(Request::Store(storage));
                *place = Some(Understood { start, line: &rest[..line_bytes], meaning });
                start =
                    start.saturating_add(line_bytes).saturating_add(value_and_end_bytes(&storage));
            } else {
                let Some((line, meaning)) = understand(rest, scanned) else { break };
                let request = place.insert(Understood { start, line, meaning });
                start = start.saturating_add(line.len()).saturating_add(request.bytes_behind());
            }
            scanned = 0;
            if start - first > AHEAD_BYTES_MAX {
                break;
            }
        }
    }

    pub(super) fn requests(&self) -> impl Iterator<Item = &Understood<'s>> {
        self.0.iter().flatten()
    }

    /// The keys that they ask for first.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'s [u8]> {
        self.requests().filter_map(Understood::key)
    }
}

impl<'s> Understood<'s> {
    fn key(&self) -> Option<&'s [u8]> {
        match self.meaning.parsed {
            Parsed::Request(Request::Store(storage), _) => Some(storage.key),
            Parsed::Request(Request::Retrieve(_), keys) => Tokens::new(keys).next(),
            Parsed::Request(
                Request::Delete(Deletion { key, .. })
                | Request::Count(Counting { key, .. })
                | Request::Touch { key, .. },
                _,
            ) => Some(key),
            Parsed::Meta => Tokens::new(text::without_end(self.line)).nth(1),
            _ => None,
        }
    }

    /// How much of what follows the line belongs to it.
    fn bytes_behind(&self) -> usize {
        match self.meaning.parsed {
            Parsed::Request(Request::Store(storage), _) => value_and_end_bytes(&storage),
            Parsed::Refused { swallow_bytes, .. } => swallow_bytes,
            Parsed::Meta => meta::announced_bytes(self.line),
            _ => 0,
        }
    }
}

/// How much follows the line of a storage command.
fn value_and_end_bytes(storage: &Storage<'_>) -> usize {
    storage.value_bytes + VALUE_END.len()
}

/// The line at the start of `input`, if it is there as a whole, and what it means.
fn understand(input: &[u8], scanned: usize) -> Option<(&[u8], Line<'_>)> {
    let newline = memchr(b'\n', &input[scanned..])?;
    let line = &input[..=scanned + newline];
    Some((line, text::parse(line)))
}

/// How much input is looked through ahead of its turn: as much as is surely still in the
/// processor's cache when its turn comes.
const AHEAD_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_passed_over_on_the_way_to_the_next_line() {
        let input =
            b"??set a 0 0 9\r\nget x\r\n y\r\nget b c\r\nms d 3 q\r\n1\n2\r\nversion\r\nmg e v\r\n\
            set i 0 0 7\r\nget x\r\n\r\nset f 0 x 3\r\n1\r\n\r\ncas g 0 0 2147483645 1\r\nget h\r\n";
        let mut ahead = Ahead::default();
        ahead.read(input, 2, 3);
        let keys: Vec<_> = ahead.keys().collect();
        assert_eq!(keys, [b"a", b"b", b"d", b"e", b"i", b"g"]);
        for request in ahead.requests() {
            assert!(input[request.start..].starts_with(request.line));
        }
        assert_eq!(read(b"get a\r\nget b"), 1);
    }

    #[test]
    fn only_so_much_is_read_ahead() {
        assert_eq!(read(&b"get a\r\n".repeat(40)), PREFETCH_KEYS);
        let large = [b"set a 0 0 3000\r\n".as_slice(), &[b'x'; 3000], b"\r\n"].concat();
        assert_eq!(read(&large.repeat(4)), 2);
    }

    fn read(input: &[u8]) -> usize {
        let mut ahead = Ahead::default();
        ahead.read(input, 0, 0);
        ahead.requests().count()
    }
}
