//! The parser of the classic text protocol: a command on a line, and for some a value behind it.
//!
//! Parsing is pure and borrows from the line. It counts nothing and knows nothing of what was
//! stored. Only blanks separate tokens: a tab, a NUL or any byte above 127 is part of a key.

use super::manage::Area;
use super::number::{lenient_i64, lenient_u64, strict_exptime, strict_i32, strict_u32, strict_u64};
use super::{
    Counting, Deletion, Direction, Fault, KEY_BYTES_MAX, Mode, Request, Retrieval, Storage,
};
use memchr::{memchr, memchr2, memchr3};
use std::slice;

/// Input in which a line may stay without an end. Only a retrieval may be longer.
pub const LINE_BYTES_MAX: usize = 2048;

/// A line, understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// What it asks for.
    pub parsed: Parsed<'a>,
    /// The client wants no reply.
    pub quiet: bool,
}

/// What a line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// A request. That of a [`Retrieval`] is followed by its keys: the rest of the line, as blanks
    /// and tokens.
    Request(Request<'a>, &'a [u8]),
    /// Nothing that can be done.
    Refused {
        /// Why.
        fault: Fault,
        /// Bytes behind the line that belong to it and are not to be taken for commands.
        swallow_bytes: usize,
    },
    /// A meta command, for [`meta::parse`](super::meta::parse).
    Meta,
    /// Not this protocol: a web browser that was led here must not make it further.
    Alien,
}

/// What may be behind input that has no line end within [`LINE_BYTES_MAX`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LongLine {
    /// A retrieval, whose keys begin at this offset.
    Keys(Retrieval, usize),
    /// A retrieval, were it not for the blanks before it. It is read to its end and refused.
    Indented,
    /// Something that will not be waited for.
    Hostile,
}

/// Understands a line, given with its end (`\n`, or `\r\n`).
#[must_use]
pub fn parse(line: &[u8]) -> Line<'_> {
    if line.len() < SHORTEST_LINE_BYTES {
        return Line::refused(Fault::BadFormat, false);
    }
    let line = without_end(line);
    let (command, rest) = line.split_at(token_bytes(line));
    match command {
        b"get" => keys(Retrieval { cas: false, touch: None }, rest),
        b"gets" => keys(Retrieval { cas: true, touch: None }, rest),
        b"gat" => touched_keys(false, rest),
        b"gats" => touched_keys(true, rest),
        b"set" => storage(Mode::Set, rest),
        b"add" => storage(Mode::Add, rest),
        b"replace" => storage(Mode::Replace, rest),
        b"append" => storage(Mode::Append, rest),
        b"prepend" => storage(Mode::Prepend, rest),
        b"cas" => compared_storage(rest),
        b"delete" => keyed(rest, 1, |key, _| Ok(Request::Delete(Deletion::plain(key)))),
        b"touch" => keyed(rest, 2, touch),
        b"incr" => keyed(rest, 2, |key, delta| count(Direction::Up, key, delta)),
        b"decr" => keyed(rest, 2, |key, delta| count(Direction::Down, key, delta)),
        b"flush_all" => flush(rest),
        b"cache_memlimit" => memory_limit(rest),
        b"verbosity" => verbosity(rest),
        b"version" => Line::request(Request::Version, false),
        b"quit" => Line::request(Request::Quit, false),
        b"stats" => stats(rest),
        b"shutdown" => shutdown(rest),
        b"mg" | b"ms" | b"md" | b"ma" | b"mn" | b"me" => {
            Line { parsed: Parsed::Meta, quiet: false }
        }
        _ => managed(command, rest).unwrap_or_else(|| unknown(line)),
    }
}

/// Judges input that has no line end, although it is longer than [`LINE_BYTES_MAX`].
#[must_use]
pub fn judge_long_line(input: &[u8]) -> LongLine {
    let blanks = input.iter().take_while(|&&byte| byte == b' ').count();
    let line = &input[blanks..];
    let (cas, length) = if line.starts_with(b"get ") {
        (false, 4)
    } else if line.starts_with(b"gets ") {
        (true, 5)
    } else {
        return LongLine::Hostile;
    };
    match blanks {
        0 => LongLine::Keys(Retrieval { cas, touch: None }, length),
        1..=LEADING_BLANKS_MAX => LongLine::Indented,
        _ => LongLine::Hostile,
    }
}

/// A `get` or `gets` of one key at the start of `input`, in its plainest form: the retrieval, the
/// key, and what follows the line. [`parse`] would say the same of it; this says it with one look
/// at the bytes, because most of what a cache is asked is this. `None` says nothing.
#[must_use]
pub fn lone_get(input: &[u8]) -> Option<(Retrieval, &[u8], &[u8])> {
    let (cas, rest) = match input.strip_prefix(b"get ") {
        Some(rest) => (false, rest),
        None => (true, input.strip_prefix(b"gets ")?),
    };
    let end = memchr2(b' ', b'\n', rest)?;
    let key = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
    let is_plain = rest[end] == b'\n' && (1..=KEY_BYTES_MAX).contains(&key.len());
    is_plain.then_some((Retrieval { cas, touch: None }, key, &rest[end + 1..]))
}

/// A `set` at the start of `input` in its plainest form, and the length of its line. [`parse`] would
/// say the same of it; this says it with one look at the bytes. `None` says nothing.
#[must_use]
pub fn plain_set(input: &[u8]) -> Option<(Storage<'_>, usize)> {
    let rest = input.strip_prefix(b"set ")?;
    // What is not of one line is no key.
    let (key, rest) = rest.split_at(memchr2(b' ', b'\n', rest)?);
    let (flags, rest) = short_number(rest.strip_prefix(b" ")?, b' ')?;
    let (exptime, rest) = short_number(rest, b' ')?;
    let (value_bytes, rest) = short_number(rest, b'\r')?;
    let rest = rest.strip_prefix(b"\n")?;
    let is_plain = (1..=KEY_BYTES_MAX).contains(&key.len());
    let plain = Storage::plain(Mode::Set, key, usize::try_from(value_bytes).ok()?);
    let exptime = exptime.into();
    is_plain.then_some((Storage { flags, exptime, ..plain }, input.len() - rest.len()))
}

/// A number of a few digits, which ends with a byte of this kind, and what follows that.
fn short_number(text: &[u8], end: u8) -> Option<(u32, &[u8])> {
    let mut number = 0;
    for (digits, &byte) in text.iter().enumerate().take(SHORT_NUMBER_DIGITS + 1) {
        let digit = u32::from(byte.wrapping_sub(b'0'));
        if digit > 9 {
            return (digits > 0 && byte == end).then(|| (number, &text[digits + 1..]));
        }
        number = number.wrapping_mul(10).wrapping_add(digit);
    }
    None
}

/// The key that the first request in `input` will probably ask for: what stands second. A wrong
/// guess, say in what is not a request, is for the caller to bear.
#[must_use]
pub fn first_key(input: &[u8]) -> Option<&[u8]> {
    let start = input.iter().take(COMMAND_BYTES_MAX).position(|&byte| byte == b' ')?;
    let rest = input[start..].trim_ascii_start();
    let rest = &rest[..rest.len().min(KEY_BYTES_MAX + 1)];
    memchr3(b' ', b'\r', b'\n', rest).map(|end| &rest[..end])
}

/// A line less its end.
#[must_use]
pub fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// What stands between blanks.
#[derive(Clone, Debug)]
pub struct Tokens<'a> {
    rest: &'a [u8],
}

impl<'a> Tokens<'a> {
    /// The tokens of `text`.
    #[must_use]
    pub fn new(text: &'a [u8]) -> Self {
        Self { rest: text }
    }

    /// What follows the token that was taken last.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let mut text = self.rest;
        // What is of one letter, as most flags of the meta commands are, is known at a glance.
        if let [b' ', token, rest @ ..] = text
            && *token != b' '
            && matches!(rest, [] | [b' ', ..])
        {
            self.rest = rest;
            return Some(slice::from_ref(token));
        }
        while let [b' ', rest @ ..] = text {
            text = rest;
        }
        if text.is_empty() {
            return None;
        }
        let (token, rest) = text.split_at(token_bytes(text));
        self.rest = rest;
        Some(token)
    }
}

impl<'a> Line<'a> {
    /// The line of a request that is to be answered.
    #[must_use]
    pub fn of(request: Request<'a>) -> Self {
        Self::request(request, false)
    }

    fn request(request: Request<'a>, quiet: bool) -> Self {
        Self { parsed: Parsed::Request(request, &[]), quiet }
    }

    fn refused(fault: Fault, quiet: bool) -> Self {
        Self { parsed: Parsed::Refused { fault, swallow_bytes: 0 }, quiet }
    }
}

/// The length of the token at the start of `text`. Nearly all are too short for `memchr` to gain
/// anything.
fn token_bytes(text: &[u8]) -> usize {
    let Some(start) = text.first_chunk() else {
        return text.iter().position(|&byte| byte == b' ').unwrap_or(text.len());
    };
    // Sixteen bytes at once: a byte that is 0 now borrows from its highest bit.
    let zeros = u128::from_le_bytes(*start) ^ (ONES * u128::from(b' '));
    let blanks = zeros.wrapping_sub(ONES) & !zeros & (ONES << 7);
    if blanks != 0 {
        return blanks.trailing_zeros() as usize / 8;
    }
    let rest = &text[start.len()..];
    start.len() + memchr(b' ', rest).unwrap_or(rest.len())
}

/// `get <key>+`. There is one at least; how long each is, is seen when its turn comes.
fn keys(retrieval: Retrieval, keys: &[u8]) -> Line<'_> {
    if keys.iter().all(|&byte| byte == b' ') {
        return Line::refused(Fault::BadFormat, false);
    }
    Line { parsed: Parsed::Request(Request::Retrieve(retrieval), keys), quiet: false }
}

/// `gat <exptime> <key>+`
fn touched_keys(cas: bool, rest: &[u8]) -> Line<'_> {
    let mut tokens = Tokens::new(rest);
    let exptime = tokens.next().unwrap_or_default();
    if first(tokens.rest()).is_empty() {
        return Line::refused(Fault::BadFormat, false);
    }
    match strict_exptime(exptime) {
        Some(exptime) => keys(Retrieval { cas, touch: Some(exptime) }, tokens.rest()),
        None => Line::refused(Fault::InvalidExptime, false),
    }
}

/// `set <key> <flags> <exptime> <bytes> [noreply]`
fn storage(mode: Mode, rest: &[u8]) -> Line<'_> {
    conditional_storage(mode, |_| Some(None), rest)
}

/// `cas <key> <flags> <exptime> <bytes> <cas> [noreply]`
fn compared_storage(rest: &[u8]) -> Line<'_> {
    conditional_storage(Mode::Set, |cas| strict_u64(cas).map(Some), rest)
}

/// A storage line, of which `compare` understands what follows the length.
fn conditional_storage(
    mode: Mode,
    compare: impl Fn(&[u8]) -> Option<Option<u64>>,
    rest: &[u8],
) -> Line<'_> {
    let mut tokens = Tokens::new(rest);
    let mut token = || tokens.next().unwrap_or_default();
    let (key, flags, exptime, value_bytes) = (token(), token(), token(), token());
    // A line whose length cannot be read has no value behind it that could be found, and its
    // `noreply` is not believed.
    let Some(value_bytes) = strict_i32(value_bytes).and_then(|bytes| usize::try_from(bytes).ok())
    else {
        return Line::refused(Fault::BadFormat, false);
    };
    if value_bytes > VALUE_BYTES_MAX {
        return Line::refused(Fault::BadFormat, false);
    }
    let cas = tokens.next().unwrap_or_default();
    let quiet = asks_for_no_reply(tokens.last().unwrap_or(cas));
    let understood = || {
        let compare = compare(cas)?;
        let flags = truncated_flags(lenient_u64(flags)?);
        let exptime = truncated_exptime(lenient_i64(exptime)?);
        (key.len() <= KEY_BYTES_MAX).then_some(Storage {
            flags,
            exptime,
            compare,
            replaces_or_removes: mode == Mode::Set && compare.is_none(),
            ..Storage::plain(mode, key, value_bytes)
        })
    };
    match understood() {
        Some(storage) => Line::request(Request::Store(storage), quiet),
        None => {
            let fault = Fault::BadFormat;
            let swallow_bytes = value_bytes + VALUE_END.len();
            Line { parsed: Parsed::Refused { fault, swallow_bytes }, quiet }
        }
    }
}

/// `<command> <key> [<argument>] [noreply]`, of which `arity` tokens must be there.
fn keyed<'a>(
    rest: &'a [u8],
    arity: usize,
    understand: impl FnOnce(&'a [u8], &'a [u8]) -> Result<Request<'a>, Fault>,
) -> Line<'a> {
    let mut tokens = Tokens::new(rest);
    let Some(key) = tokens.next() else {
        return Line::refused(Fault::BadFormat, false);
    };
    let argument = tokens.next();
    if argument.is_none() && arity > 1 {
        return Line::refused(Fault::BadFormat, false);
    }
    let quiet = asks_for_no_reply(tokens.last().or(argument).unwrap_or(key));
    if key.len() > KEY_BYTES_MAX {
        return Line::refused(Fault::BadFormat, quiet);
    }
    match understand(key, argument.unwrap_or_default()) {
        Ok(request) => Line::request(request, quiet),
        Err(fault) => Line::refused(fault, quiet),
    }
}

fn touch<'a>(key: &'a [u8], exptime: &[u8]) -> Result<Request<'a>, Fault> {
    let exptime = strict_exptime(exptime).ok_or(Fault::InvalidExptime)?;
    Ok(Request::Touch { key, exptime })
}

fn count<'a>(direction: Direction, key: &'a [u8], delta: &[u8]) -> Result<Request<'a>, Fault> {
    let delta = strict_u64(delta).ok_or(Fault::InvalidDelta)?;
    Ok(Request::Count(Counting::plain(key, direction, delta)))
}

/// `flush_all [<exptime>] [noreply]`
fn flush(rest: &[u8]) -> Line<'_> {
    let quiet = asks_for_no_reply(last(rest));
    let exptime = match Tokens::new(rest).count() {
        0 => Some(0),
        1 if quiet => Some(0),
        _ => strict_exptime(first(rest)),
    };
    Line::request(Request::Flush { exptime }, quiet)
}

/// `stats [<topic> [<argument>...]]`
fn stats(rest: &[u8]) -> Line<'_> {
    let mut tokens = Tokens::new(rest);
    let topic = tokens.next().unwrap_or_default();
    Line::request(Request::Stats { topic, arguments: tokens.rest() }, false)
}

/// `cache_memlimit <MiB> [noreply]`
fn memory_limit(rest: &[u8]) -> Line<'_> {
    let quiet = asks_for_no_reply(last(rest));
    match strict_u32(first(rest)) {
        Some(megabytes) => Line::request(Request::LimitMemory { megabytes }, quiet),
        None => Line::refused(Fault::UnknownCommand, quiet),
    }
}

/// `verbosity <level> [noreply]`
fn verbosity(rest: &[u8]) -> Line<'_> {
    let quiet = asks_for_no_reply(last(rest));
    match strict_u32(first(rest)) {
        Some(level) => Line::request(Request::Verbosity { level }, quiet),
        None => Line::refused(Fault::BadFormat, quiet),
    }
}

/// `shutdown [graceful]`
fn shutdown(rest: &[u8]) -> Line<'_> {
    let quiet = asks_for_no_reply(last(rest));
    Line::request(Request::Shutdown { manner: rest.trim_ascii() }, quiet)
}

/// `<command> [<argument>...]`, for commands that manage the server.
fn managed<'a>(command: &[u8], rest: &'a [u8]) -> Option<Line<'a>> {
    let area = Area::named(command)?;
    let quiet = area.can_be_quiet() && asks_for_no_reply(last(rest));
    Some(Line::request(Request::Manage { area, arguments: rest }, quiet))
}

fn unknown(line: &[u8]) -> Line<'_> {
    let last_token = last(line);
    let quiet = asks_for_no_reply(last_token);
    if last_token.starts_with(b"HTTP/") && Tokens::new(line).count() > 1 {
        return Line { parsed: Parsed::Alien, quiet };
    }
    Line::refused(Fault::UnknownCommand, quiet)
}

fn asks_for_no_reply(last_token: &[u8]) -> bool {
    last_token == b"noreply"
}

fn first(rest: &[u8]) -> &[u8] {
    Tokens::new(rest).next().unwrap_or_default()
}

fn last(rest: &[u8]) -> &[u8] {
    Tokens::new(rest).last().unwrap_or_default()
}

/// Flags beyond 32 bits lose what is beyond.
#[expect(clippy::cast_possible_truncation, reason = "memcached truncates them, and says STORED")]
fn truncated_flags(flags: u64) -> u32 {
    flags as u32
}

/// An expiry beyond 32 bits loses what is beyond.
#[expect(clippy::cast_possible_truncation, reason = "memcached truncates it, and says STORED")]
fn truncated_exptime(exptime: i64) -> i64 {
    i64::from(exptime as i32)
}

/// What follows every value.
pub const VALUE_END: &[u8] = b"\r\n";
/// The longest value that can be announced: with its end it is still a 31-bit length.
pub(super) const VALUE_BYTES_MAX: usize = i32::MAX as usize - VALUE_END.len();
/// Two bytes of a command and a full line end: what is shorter is no command.
const SHORTEST_LINE_BYTES: usize = 4;
/// A 1 in each byte.
const ONES: u128 = u128::MAX / 0xff;
/// As many as fit 32 bits whatever they are.
const SHORT_NUMBER_DIGITS: usize = 9;
/// The longest name of a command that a key follows, and a little.
const COMMAND_BYTES_MAX: usize = 16;
/// Blanks that a long retrieval may begin with.
const LEADING_BLANKS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn request(line: &str) -> Request<'_> {
        match parse(line.as_bytes()).parsed {
            Parsed::Request(request, _) => request,
            other => panic!("{line:?} is {other:?}"),
        }
    }

    #[test]
    fn a_storage_line_is_read_field_by_field() {
        let storage = Storage { flags: 7, exptime: -1, ..Storage::plain(Mode::Set, b"key", 5) };
        for line in ["set key 7 -1 5\r\n", "set  key  +7 -1 5  \n", "set key 4294967303 -1 5 x\r\n"]
        {
            assert_eq!(request(line), Request::Store(storage), "{line:?}");
            assert!(!parse(line.as_bytes()).quiet);
        }
        let storage = Storage { compare: Some(9), replaces_or_removes: false, ..storage };
        assert_eq!(request("cas key 7 4294967295 5 9 noreply\r\n"), Request::Store(storage));
    }

    #[test]
    fn a_readable_length_is_swallowed_and_another_is_not() {
        let refused = |line: &str| match parse(line.as_bytes()) {
            Line { parsed: Parsed::Refused { fault: Fault::BadFormat, swallow_bytes }, quiet } => {
                (swallow_bytes, quiet)
            }
            other => panic!("{line:?} is {other:?}"),
        };
        let long_key = "k".repeat(KEY_BYTES_MAX + 1);
        assert_eq!(refused(&format!("set {long_key} 0 0 5\r\n")), (7, false));
        assert_eq!(refused("set key x 0 5 noreply\r\n"), (7, true));
        assert_eq!(refused("set key 0 x 2147483645\r\n"), (2_147_483_647, false));
        assert_eq!(refused("cas key 0 0 5 noreply\r\n"), (7, true));
        for length in ["-1", "+1", "x", "2147483646", "4294967296", "noreply"] {
            assert_eq!(refused(&format!("set key 0 0 {length} noreply\r\n")), (0, false));
        }
    }

    #[test]
    fn a_plain_set_is_what_it_is_to_the_parser() {
        let key = "k".repeat(KEY_BYTES_MAX);
        for (line, is_plain) in [
            ("set key 0 0 100\r\n", true),
            ("set k\te\u{e9}y 999999999 86400 0\r\n", true),
            (&format!("set {key} 1 2 3\r\n"), true),
            (&format!("set {key}k 1 2 3\r\n"), false),
            ("set key 1000000000 0 1\r\n", false),
            ("set key 0 -1 1\r\n", false),
            ("set key 0 0 1\n", false),
            ("set key 0 0 1 \r\n", false),
            ("set key 0 0 1 noreply\r\n", false),
            ("set  key 0 0 1\r\n", false),
            ("set key 0  0 1\r\n", false),
            ("set  0 0 1\r\n", false),
            ("set key 0 0 \r\n", false),
            ("set key 0 0 1\r", false),
            ("set k\r\ney 0 0 1\r\n", false),
            ("add key 0 0 1\r\n", false),
        ] {
            let plain = plain_set(line.as_bytes());
            assert_eq!(plain.is_some(), is_plain, "{line:?}");
            if let Some((storage, line_bytes)) = plain {
                assert_eq!(line_bytes, line.len());
                assert_eq!(parse(line.as_bytes()), Line::request(Request::Store(storage), false));
                assert_eq!(plain_set(format!("{line}rest\n").as_bytes()), plain);
            }
        }
    }

    #[test]
    fn the_first_key_stands_second() {
        assert_eq!(first_key(b"set a 0 0 9\r\n123"), Some(b"a".as_slice()));
        assert_eq!(first_key(b"get  a\r\nget b\r\n"), Some(b"a".as_slice()));
        assert_eq!(first_key(b"delete a\n"), Some(b"a".as_slice()));
        assert_eq!(first_key(b"version\r\n"), None);
    }

    #[test]
    fn only_blanks_separate() {
        assert_eq!(
            request("delete k\te\0y\rs\r\n"),
            Request::Delete(Deletion::plain(b"k\te\0y\rs"))
        );
        let tokens: Vec<_> = Tokens::new(b"  a  b\xff ").collect();
        assert_eq!(tokens, [b"a".as_slice(), b"b\xff"]);
        for length in 1..40 {
            for byte in (0..=u8::MAX).filter(|&byte| byte != b' ') {
                let token = vec![byte; length];
                for behind in [&b""[..], b" ", b"   !!! !!!! !   ! !", b" aaaaaaaaaaaaaaaaaaaaaaaa"]
                {
                    let text = [&token, behind].concat();
                    assert_eq!(Tokens::new(&text).next(), Some(&*token));
                }
            }
        }
    }

    #[test]
    fn a_browser_is_sent_away() {
        let parsed = |line: &str| parse(line.as_bytes()).parsed == Parsed::Alien;
        assert!(parsed("GET / HTTP/1.1\r\n"));
        assert!(!parsed("HTTP/1.1\r\n"));
        assert!(!parsed("get key HTTP/1.1\r\n"));
    }
}
