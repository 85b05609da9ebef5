//! The parser of the meta commands: a command of two letters, a key, flags. A flag is a letter,
//! with a token glued to it or without.
//!
//! All commands share one set of flags; what means nothing to a command is passed over. A flag of
//! the reply is written where it stands in the request, so the [`Reply`] keeps them as they came.

mod encode;

pub use self::encode::Encoder;

use super::base64::{self, DecodedKey};
use super::number::{strict_exptime, strict_u32, strict_u64};
use super::text::{Tokens, VALUE_BYTES_MAX, VALUE_END, without_end};
use super::{
    Counting, Creation, Deletion, Direction, Fault, Fetch, KEY_BYTES_MAX, Keep, Mode, Recache,
    Storage,
};
use memchr::{memchr, memchr2};

/// A line, understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// What it asks for.
    pub parsed: Parsed<'a>,
    /// How it wants to be answered.
    pub reply: Reply<'a>,
}

/// What a line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// `mg`
    Fetch(Fetch<'a>),
    /// `ms`, and a value follows.
    Store(Storage<'a>),
    /// `md`
    Delete(Deletion<'a>),
    /// `ma`
    Count(Counting<'a>),
    /// `me`
    Inspect {
        /// The item.
        key: &'a [u8],
    },
    /// `mn`
    Noop,
    /// Nothing that can be done.
    Refused {
        /// Why.
        fault: Fault,
        /// Bytes behind the line that belong to it and are not to be taken for commands.
        swallow_bytes: usize,
    },
}

/// What of a request its reply depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reply<'a> {
    /// As it came: not decoded.
    key: &'a [u8],
    /// As they came: blanks and tokens.
    flags: &'a [u8],
    asked: FlagSet,
    /// The cas of the value that the client has: it need not be sent again.
    known_cas: Option<u64>,
    /// Length of the value that comes with the request, if one does.
    sent_bytes: Option<usize>,
}

/// Letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct FlagSet(u64);

/// Understands a line, given with its end, that begins with a meta command. A key that is encoded
/// is put into `decoded`.
#[must_use]
pub fn parse<'a>(line: &'a [u8], decoded: &'a mut DecodedKey) -> Line<'a> {
    let mut tokens = Tokens::new(without_end(line));
    let command = tokens.next().unwrap_or_default();
    if command == b"mn" {
        return Line { parsed: Parsed::Noop, reply: Reply::default() };
    }
    let key = tokens.next();
    let sent_bytes = (command == b"ms").then(|| tokens.next().and_then(value_bytes));
    let (Some(key), None | Some(Some(_))) = (key, sent_bytes) else {
        return Line::refused(Fault::BadFormat);
    };
    let sent_bytes = sent_bytes.flatten();
    let flags = tokens.rest();
    let is_flag = |flag: &[u8]| matches!(flag[0], b'0'..=b'9' | b'A'..=b'z');
    if !Tokens::new(flags).take(FLAGS_READ_MAX).all(is_flag) {
        return Line::refused(Fault::BadFormat);
    }
    let reply = Reply { key, flags, sent_bytes, ..Reply::default() };
    match command {
        b"me" => inspection(reply, decoded),
        b"mg" => request(reply, FLAGS_MAX, decoded, fetch),
        b"ms" => match request(reply, FLAGS_MAX - 1, decoded, storage) {
            Line { parsed: Parsed::Refused { fault, .. }, reply } => {
                let swallow_bytes = reply.sent_bytes.unwrap_or(0) + VALUE_END.len();
                Line { parsed: Parsed::Refused { fault, swallow_bytes }, reply }
            }
            line => line,
        },
        b"md" => request(reply, FLAGS_MAX, decoded, deletion),
        _ => match request(reply, FLAGS_MAX, decoded, counting) {
            Line { parsed: Parsed::Refused { fault, .. }, .. }
                if !matches!(fault, Fault::InvalidCountingMode | Fault::OpaqueTooLong) =>
            {
                Line::refused(Fault::InvalidOrDuplicateFlag)
            }
            line => line,
        },
    }
}

/// An `mg` at the start of `input`, in a plain form: nothing is to become of the item, and the key
/// stands for itself. With it, how it wants to be answered and what follows the line. [`parse`]
/// would say the same of it; this says it with one look at the bytes. `None` says nothing.
#[must_use]
#[inline]
pub fn lone_fetch(input: &[u8]) -> Option<(&[u8], Reply<'_>, &[u8])> {
    let line = input.strip_prefix(b"mg ")?;
    let key_end = memchr2(b' ', b'\n', line)?;
    let (key, rest) = line.split_at(key_end);
    let key = if rest[0] == b'\n' { key.strip_suffix(b"\r").unwrap_or(key) } else { key };
    let (asked, flags, rest) = plain_flags(rest)?;
    let is_key = (1..=KEY_BYTES_MAX).contains(&key.len());
    is_key.then(|| (key, Reply { key, flags, asked, ..Reply::default() }, rest))
}

/// Bytes behind the line of a meta command that belong to it, as far as can be seen at a glance.
#[must_use]
pub fn announced_bytes(line: &[u8]) -> usize {
    if !line.starts_with(b"ms ") {
        return 0;
    }
    let token = Tokens::new(without_end(line)).nth(2);
    token.and_then(value_bytes).map_or(0, |bytes| bytes + VALUE_END.len())
}

/// The flags of a line that say only what to show, if there are no others: which, how they stand
/// there, and what follows the line.
#[inline]
fn plain_flags(line: &[u8]) -> Option<(FlagSet, &[u8], &[u8])> {
    // What most ask for, flags of one letter each, is known at a glance.
    let mut left = BARE;
    let mut rest = line;
    loop {
        match rest {
            [b'\n', after @ ..] | [b'\r', b'\n', after @ ..] => {
                let flags = &line[..line.len() - rest.len()];
                return Some((BARE.without(left), flags, after));
            }
            [b' ', flag, after @ ..] if left.has(*flag) => {
                left = left.without(FlagSet::of(&[*flag]));
                rest = after;
            }
            _ => return plain_flags_and_opaque(line),
        }
    }
}

/// As [`plain_flags`], in whatever form.
#[inline(never)]
fn plain_flags_and_opaque(line: &[u8]) -> Option<(FlagSet, &[u8], &[u8])> {
    let end = memchr(b'\n', line)? + 1;
    let flags = without_end(&line[..end]);
    let mut asked = FlagSet::default();
    for (number, flag) in Tokens::new(flags).enumerate() {
        let is_plain = PLAIN.has(flag[0]) && (flag[0] != b'O' || flag.len() <= OPAQUE_BYTES_MAX);
        if !is_plain || !asked.add(flag[0]) || number == FLAGS_MAX {
            return None;
        }
    }
    Some((asked, flags, &line[end..]))
}

/// What the flags of a line say.
struct Arguments<'a> {
    asked: FlagSet,
    key: &'a [u8],
    mode: Option<u8>,
    client_flags: u32,
    compare: Option<u64>,
    cas: Option<u64>,
    touch: Option<i64>,
    create: Option<i64>,
    /// What an item that is created ends up with: the last of `touch` and `create`.
    created_exptime: i64,
    recache: Option<Recache>,
    initial: u64,
    delta: u64,
}

impl<'a> Line<'a> {
    fn refused(fault: Fault) -> Self {
        let parsed = Parsed::Refused { fault, swallow_bytes: 0 };
        Self { parsed, reply: Reply::default() }
    }
}

/// The request of a line with a key and flags, of which there may be so many.
fn request<'a>(
    mut reply: Reply<'a>,
    flags_max: usize,
    decoded: &'a mut DecodedKey,
    understand: impl FnOnce(&Arguments<'a>, &mut Reply<'a>) -> Result<Parsed<'a>, Fault>,
) -> Line<'a> {
    let understood = arguments(&reply, flags_max, decoded).and_then(|arguments| {
        reply.asked = arguments.asked;
        let parsed = understand(&arguments, &mut reply)?;
        let opaque = Tokens::new(reply.flags).find(|flag| flag[0] == b'O').unwrap_or_default();
        if opaque.len() > OPAQUE_BYTES_MAX { Err(Fault::OpaqueTooLong) } else { Ok(parsed) }
    });
    match understood {
        Ok(parsed) => Line { parsed, reply },
        Err(fault) => Line { parsed: Parsed::Refused { fault, swallow_bytes: 0 }, reply },
    }
}

fn arguments<'a>(
    reply: &Reply<'a>,
    flags_max: usize,
    decoded: &'a mut DecodedKey,
) -> Result<Arguments<'a>, Fault> {
    if reply.key.len() > KEY_BYTES_MAX {
        return Err(Fault::BadFormat);
    }
    if Tokens::new(reply.flags).nth(flags_max).is_some() {
        return Err(Fault::TooManyFlags);
    }
    let mut arguments = Arguments::new(reply.key);
    // A flag that cannot be read is told of at the end: one that must not be there is worse.
    let (mut fault, mut decoded_bytes) = (None, None);
    for flag in Tokens::new(reply.flags) {
        if !KNOWN.has(flag[0]) {
            return Err(Fault::InvalidFlag);
        }
        if !arguments.asked.add(flag[0]) {
            return Err(Fault::DuplicateFlag);
        }
        match arguments.take(flag[0], &flag[1..]) {
            // What this one is called depends on what was wrong before.
            Err(Fault::BadFormat) => fault = fault.or(Some(Fault::BadFormat)),
            Err(other) => fault = Some(other),
            Ok(()) => {}
        }
        if flag[0] == b'b' {
            decoded_bytes = base64::decode(reply.key, decoded);
            fault = decoded_bytes.map_or(Some(Fault::UndecodableKey), |_| fault);
        }
    }
    if let Some(fault) = fault {
        return Err(fault);
    }
    if let Some(key_bytes) = decoded_bytes {
        arguments.key = &decoded[..key_bytes];
    }
    Ok(arguments)
}

impl<'a> Arguments<'a> {
    fn new(key: &'a [u8]) -> Self {
        Self {
            asked: FlagSet::default(),
            key,
            mode: None,
            client_flags: 0,
            compare: None,
            cas: None,
            touch: None,
            create: None,
            created_exptime: 0,
            recache: None,
            initial: 0,
            delta: 1,
        }
    }

    /// Takes what is glued to a flag.
    fn take(&mut self, flag: u8, token: &[u8]) -> Result<(), Fault> {
        let exptime = || strict_exptime(token).ok_or(Fault::BadToken);
        let cas = || strict_u64(token).ok_or(Fault::BadToken);
        match flag {
            b'N' => {
                self.create = Some(exptime()?);
                self.created_exptime = exptime()?;
            }
            b'T' => {
                self.touch = Some(exptime()?);
                self.created_exptime = exptime()?;
            }
            b'R' => {
                self.recache = Some(Recache { exptime: exptime()?, touched: self.touch.is_some() });
            }
            b'F' => self.client_flags = strict_u32(token).ok_or(Fault::BadFormat)?,
            b'C' => self.compare = Some(cas()?),
            b'E' => self.cas = Some(cas()?),
            b'J' => self.initial = strict_u64(token).ok_or(Fault::InvalidInitial)?,
            b'D' => self.delta = strict_u64(token).ok_or(Fault::InvalidDeltaToken)?,
            b'M' => self.mode = Some(token.first().copied().unwrap_or(b' ')),
            _ => {}
        }
        Ok(())
    }
}

/// `mg <key> <flags>*`
fn fetch<'a>(arguments: &Arguments<'a>, reply: &mut Reply<'a>) -> Result<Parsed<'a>, Fault> {
    reply.known_cas = arguments.compare;
    Ok(Parsed::Fetch(Fetch {
        key: arguments.key,
        mark: !arguments.asked.has(b'u'),
        touch: arguments.touch,
        recache: arguments.recache,
        create: arguments.create.map(|_| arguments.created_exptime),
        cas: arguments.cas,
    }))
}

/// `ms <key> <datalen> <flags>*`
fn storage<'a>(arguments: &Arguments<'a>, reply: &mut Reply<'a>) -> Result<Parsed<'a>, Fault> {
    let mode = match arguments.mode {
        None | Some(0 | b'S') => Mode::Set,
        Some(b'E') => Mode::Add,
        Some(b'A') => Mode::Append,
        Some(b'P') => Mode::Prepend,
        Some(b'R') => Mode::Replace,
        Some(_) => return Err(Fault::InvalidStorageMode),
    };
    let is_joining = matches!(mode, Mode::Append | Mode::Prepend);
    let create = arguments.create.filter(|_| is_joining);
    Ok(Parsed::Store(Storage {
        mode,
        key: arguments.key,
        flags: arguments.client_flags,
        exptime: create.or(arguments.touch).unwrap_or(0),
        value_bytes: reply.sent_bytes.unwrap_or(0),
        compare: arguments.compare.filter(|&cas| cas != 0 || !is_joining),
        accept_stale: arguments.asked.has(b'I'),
        cas: arguments.cas.filter(|&cas| cas != 0),
        create: create.is_some(),
        replaces_or_removes: true,
    }))
}

/// `md <key> <flags>*`
fn deletion<'a>(arguments: &Arguments<'a>, _reply: &mut Reply<'a>) -> Result<Parsed<'a>, Fault> {
    let (empties, stale) = (arguments.asked.has(b'x'), arguments.asked.has(b'I'));
    let keep = Keep {
        emptied: empties.then_some(arguments.client_flags),
        stale,
        exptime: arguments.touch,
        cas: arguments.cas,
    };
    Ok(Parsed::Delete(Deletion {
        key: arguments.key,
        compare: arguments.compare,
        keep: (empties || stale).then_some(keep),
    }))
}

/// `ma <key> <flags>*`
fn counting<'a>(arguments: &Arguments<'a>, _reply: &mut Reply<'a>) -> Result<Parsed<'a>, Fault> {
    let direction = match arguments.mode {
        None | Some(0 | b'I' | b'+') => Direction::Up,
        Some(b'D' | b'-') => Direction::Down,
        Some(_) => return Err(Fault::InvalidCountingMode),
    };
    let creation = Creation { initial: arguments.initial, exptime: arguments.created_exptime };
    Ok(Parsed::Count(Counting {
        key: arguments.key,
        direction,
        delta: arguments.delta,
        compare: arguments.compare.filter(|&cas| cas != 0),
        cas: arguments.cas,
        touch: arguments.touch,
        create: arguments.create.map(|_| creation),
    }))
}

/// `me <key> [b]`. Other flags are not looked at.
fn inspection<'a>(reply: Reply<'a>, decoded: &'a mut DecodedKey) -> Line<'a> {
    let is_encoded = Tokens::new(reply.flags).any(|flag| flag == b"b");
    let key = match reply.key.len() {
        0..=KEY_BYTES_MAX if is_encoded => {
            base64::decode(reply.key, decoded).map(|key_bytes| &decoded[..key_bytes])
        }
        0..=KEY_BYTES_MAX => Some(reply.key),
        _ => None,
    };
    match key {
        Some(key) => Line { parsed: Parsed::Inspect { key }, reply },
        None => Line::refused(Fault::BadFormat),
    }
}

fn value_bytes(token: &[u8]) -> Option<usize> {
    let bytes = usize::try_from(strict_exptime(token)?).ok()?;
    (bytes <= VALUE_BYTES_MAX).then_some(bytes)
}

impl FlagSet {
    const fn of(letters: &[u8]) -> Self {
        let mut set = 0;
        let mut number = 0;
        while number < letters.len() {
            set |= 1 << (letters[number] - b'A');
            number += 1;
        }
        Self(set)
    }

    fn has(self, letter: u8) -> bool {
        let number = letter.wrapping_sub(b'A');
        number < 64 && self.0 >> number & 1 != 0
    }

    fn is_within(self, other: Self) -> bool {
        self.without(other) == Self::default()
    }

    const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Adds a letter, unless it was there.
    fn add(&mut self, letter: u8) -> bool {
        let was_there = self.has(letter);
        self.0 |= 1 << (letter - b'A');
        !was_there
    }
}

/// Flags that some command knows.
const KNOWN: FlagSet = FlagSet::of(b"bcfhklqstuvxCDEFIJLMNOPRT");
/// Those of an `mg` that say only what to show.
const PLAIN: FlagSet = FlagSet::of(b"cfhkqstlvLOP");
/// Those of them with which a token means nothing.
const BARE: FlagSet = PLAIN.without(FlagSet::of(b"O"));
/// Beside command and key.
const FLAGS_MAX: usize = 18;
/// Those behind are too many, whatever they are.
const FLAGS_READ_MAX: usize = 21;
/// The flag included.
const OPAQUE_BYTES_MAX: usize = 32;

#[cfg(test)]
mod tests;
