//! memcached's three dialects: how a request is written, how a reply is read. What an answer means
//! for a request is the same in all of them and stands in [`crate::engine`].

mod binary;
mod meta;
mod text;

use crate::workload::operation::Operation;

/// A way of speaking to memcached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Dialect {
    /// The classic text protocol
    Text,
    /// Meta commands
    Meta,
    /// The binary protocol
    Binary,
}

/// A request that stores, but for its value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Store<'a> {
    pub(crate) operation: Operation,
    pub(crate) key: &'a [u8],
    pub(crate) ttl_seconds: u32,
    pub(crate) value_bytes: usize,
    /// For [`Operation::Cas`].
    pub(crate) token: u64,
}

/// A piece of an answer: one value, or the end of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply<'a> {
    Value {
        key: &'a [u8],
        value: &'a [u8],
        token: u64,
    },
    /// No more values of this get.
    End,
    /// The one key of this get was not found.
    Miss,
    Stored,
    Deleted,
    Touched,
    /// It is done; the dialect has one word for all of that.
    Done,
    NotStored,
    Exists,
    NotFound,
    Number(u64),
    /// The server could or would not.
    Error(&'a [u8]),
}

/// A reply at the start of the input, and its length.
pub(crate) type Parsed<'a> = Option<(Reply<'a>, usize)>;

/// Bytes that are no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl Dialect {
    /// Whether a get of `keys` keys ends with its value, without a further word.
    pub(crate) fn value_ends_get(self, keys: usize) -> bool {
        self != Self::Text && keys == 1
    }

    /// Begins a get of `keys` keys, which [`Self::get_key`] and [`Self::get_end`] complete.
    pub(crate) fn get_begin(self, tokens: bool, output: &mut Vec<u8>) {
        if self == Self::Text {
            output.extend_from_slice(if tokens { b"gets" } else { b"get" });
        }
    }

    pub(crate) fn get_key(self, key: &[u8], keys: usize, tokens: bool, output: &mut Vec<u8>) {
        match self {
            Self::Text => {
                output.push(b' ');
                output.extend_from_slice(key);
            }
            Self::Meta => meta::get_key(key, keys > 1, tokens, output),
            Self::Binary => binary::get_key(key, keys > 1, output),
        }
    }

    pub(crate) fn get_end(self, keys: usize, output: &mut Vec<u8>) {
        match self {
            Self::Text => output.extend_from_slice(b"\r\n"),
            Self::Meta if keys > 1 => output.extend_from_slice(b"mn\r\n"),
            Self::Binary if keys > 1 => binary::noop(output),
            Self::Meta | Self::Binary => {}
        }
    }

    /// Writes a request that stores up to its value, which must follow, and then
    /// [`Self::store_end`].
    pub(crate) fn store_begin(self, store: &Store<'_>, output: &mut Vec<u8>) {
        match self {
            Self::Text => text::store(store, output),
            Self::Meta => meta::store(store, output),
            Self::Binary => binary::store(store, output),
        }
    }

    pub(crate) fn store_end(self, output: &mut Vec<u8>) {
        if self != Self::Binary {
            output.extend_from_slice(b"\r\n");
        }
    }

    /// Adds one to a counter.
    pub(crate) fn incr(self, key: &[u8], output: &mut Vec<u8>) {
        match self {
            Self::Text => words(&[b"incr ", key, b" 1\r\n"], output),
            Self::Meta => words(&[b"ma ", key, b" v\r\n"], output),
            Self::Binary => binary::incr(key, output),
        }
    }

    pub(crate) fn touch(self, key: &[u8], ttl_seconds: u32, output: &mut Vec<u8>) {
        let mut number = itoa::Buffer::new();
        let ttl = number.format(ttl_seconds).as_bytes();
        match self {
            Self::Text => words(&[b"touch ", key, b" ", ttl, b"\r\n"], output),
            Self::Meta => words(&[b"mg ", key, b" T", ttl, b"\r\n"], output),
            Self::Binary => binary::touch(key, ttl_seconds, output),
        }
    }

    pub(crate) fn delete(self, key: &[u8], output: &mut Vec<u8>) {
        match self {
            Self::Text => words(&[b"delete ", key, b"\r\n"], output),
            Self::Meta => words(&[b"md ", key, b"\r\n"], output),
            Self::Binary => binary::delete(key, output),
        }
    }

    /// Reads the reply at the start of `input`; `None` while it is still arriving.
    pub(crate) fn reply(self, input: &[u8]) -> Result<Parsed<'_>, Malformed> {
        match self {
            Self::Text => text::reply(input),
            Self::Meta => meta::reply(input),
            Self::Binary => binary::reply(input),
        }
    }

    /// Beyond key and value, what the longest piece of an answer takes.
    pub(crate) const OVERHEAD_BYTES: usize = LINE_BYTES_MAX + 2;
}

fn words(words: &[&[u8]], output: &mut Vec<u8>) {
    words.iter().for_each(|word| output.extend_from_slice(word));
}

/// The first line without its end, and its length with it; `None` while it is still arriving.
fn line(input: &[u8]) -> Result<Option<(&[u8], usize)>, Malformed> {
    match memchr::memchr(b'\n', input) {
        Some(end) => match input[..end].strip_suffix(b"\r") {
            Some(line) => Ok(Some((line, end + 1))),
            None => Err(Malformed),
        },
        None if input.len() > LINE_BYTES_MAX => Err(Malformed),
        None => Ok(None),
    }
}

/// A decimal number, all of `text`.
fn number(text: &[u8]) -> Result<u64, Malformed> {
    if text.is_empty() {
        return Err(Malformed);
    }
    text.iter().try_fold(0_u64, |number, &byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return Err(Malformed);
        }
        number.checked_mul(10).and_then(|n| n.checked_add(u64::from(digit))).ok_or(Malformed)
    })
}

/// A value of `bytes` behind a line of `line_bytes`, with its line end; `None` while it is still
/// arriving.
fn block(input: &[u8], line_bytes: usize, bytes: u64) -> Result<Option<(&[u8], usize)>, Malformed> {
    if bytes > VALUE_BYTES_MAX {
        return Err(Malformed);
    }
    let end = line_bytes + usize::try_from(bytes).map_err(|_| Malformed)?;
    match (input.get(line_bytes..end), input.get(end..end + 2)) {
        (Some(value), Some(b"\r\n")) => Ok(Some((value, end + 2))),
        (_, Some(_)) => Err(Malformed),
        (_, None) => Ok(None),
    }
}

/// memcached's own limit on a value.
const VALUE_BYTES_MAX: u64 = 1 << 30;
/// Longer than any line of a reply.
const LINE_BYTES_MAX: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    /// A reply is the same however it is cut, and none before it is whole.
    #[track_caller]
    pub(super) fn assert_reply(dialect: Dialect, input: &[u8], expected: Reply<'_>) {
        for end in 0..input.len() {
            assert_eq!(dialect.reply(&input[..end]), Ok(None), "{}", input[..end].escape_ascii());
        }
        let more = [input, b"more"].concat();
        assert_eq!(dialect.reply(&more), Ok(Some((expected, input.len()))));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        assert_eq!(number(b"18446744073709551615"), Ok(u64::MAX));
        for bad in [&b""[..], b"-1", b"1 ", b"18446744073709551616"] {
            assert_eq!(number(bad), Err(Malformed));
        }
    }

    #[test]
    fn a_value_that_goes_on_past_its_length_is_malformed() {
        assert_eq!(Dialect::Text.reply(b"VALUE key 0 1\r\nabc\r\n"), Err(Malformed));
        assert_eq!(Dialect::Meta.reply(b"VA 1 kkey\r\nabc\r\n"), Err(Malformed));
        assert_eq!(Dialect::Text.reply(b"VALUE key 0 9999999999\r\n"), Err(Malformed));
    }

    #[test]
    fn a_line_without_end_is_not_waited_for() {
        let endless = vec![b'V'; LINE_BYTES_MAX + 1];
        assert_eq!(Dialect::Text.reply(&endless), Err(Malformed));
        assert_eq!(Dialect::Text.reply(b"END\n"), Err(Malformed));
    }
}
