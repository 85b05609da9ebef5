//! The parser of the binary protocol: packets, each a header of fixed length, extras, a key and a
//! value, whose lengths stand in the header.
//!
//! Whatever can be wrong with a packet is seen from its header alone, before anything of what
//! follows is waited for. A packet that contradicts itself ends the connection, because nobody can
//! tell where the next one begins.

pub mod encode;

use super::{
    Counting, Creation, Deletion, Direction, Fault, KEY_BYTES_MAX, Mode, Request, Storage,
};
use std::iter;

/// The first byte of every request, and of no command of the text protocol.
pub const REQUEST_MAGIC: u8 = 0x80;
/// What every packet begins with.
pub const HEADER_BYTES: usize = 24;

/// The header of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What replies repeat.
    pub tag: Tag,
    /// What is asked for; `None` if there is no such thing.
    pub command: Option<Command>,
    /// The client wants to hear of no success, and of no miss of a retrieval.
    pub quiet: bool,
    /// What the item's cas must be; 0 if that does not matter.
    pub cas: u64,
    extras_bytes: usize,
    key_bytes: usize,
    body_bytes: usize,
}

/// What a reply repeats of its request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tag {
    /// As it came, quiet or not.
    pub opcode: u8,
    /// The client's own.
    pub opaque: [u8; 4],
}

/// What is asked for, quietly or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// An item.
    Get(Shown),
    /// An item, with a new time to live.
    Touch(Shown),
    /// Store under a condition.
    Store(Mode),
    /// Remove an item.
    Delete,
    /// Count.
    Count(Direction),
    /// Drop everything.
    Flush,
    /// An answer.
    Noop,
    /// The version.
    Version,
    /// Figures.
    Stat,
    /// End the connection.
    Quit,
    /// Ways to authenticate.
    ListMechanisms,
    /// Authenticate.
    Authenticate,
    /// Go on authenticating.
    Step,
}

/// What a client is shown of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Its flags.
    Flags,
    /// Its flags and value.
    Value,
    /// Its flags, key and value.
    KeyAndValue,
}

/// What follows a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body<'a> {
    extras: &'a [u8],
    /// The key, of at most [`KEY_BYTES_MAX`] bytes.
    pub key: &'a [u8],
    /// The value, as far as it has arrived.
    pub value: &'a [u8],
}

/// What a packet asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    /// The item under the packet's key, which is given this time to live, see
    /// [`Storage::exptime`].
    Item(Option<i64>),
    /// To store the packet's value.
    Store(Storage<'a>),
    /// Something that is complete in itself.
    Request(Request<'a>),
    /// To be let in, by the mechanism in the key, with what the value says.
    Entry {
        /// The value goes on where the server answered the first.
        further: bool,
    },
    /// The ways to be let in.
    Mechanisms,
    /// Nothing that there is.
    Nothing,
}

impl Header {
    /// Reads a header. `None` if it is none: then this is not, or no longer, this protocol.
    #[must_use]
    pub fn read(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let [
            REQUEST_MAGIC,
            opcode,
            key0,
            key1,
            extras_bytes,
            _,
            _,
            _,
            body0,
            body1,
            body2,
            body3,
            opaque0,
            opaque1,
            opaque2,
            opaque3,
            cas @ ..,
        ] = *bytes
        else {
            return None;
        };
        let (command, quiet) = command(opcode);
        Some(Self {
            tag: Tag { opcode, opaque: [opaque0, opaque1, opaque2, opaque3] },
            command,
            quiet,
            cas: u64::from_be_bytes(cas),
            extras_bytes: usize::from(extras_bytes),
            key_bytes: usize::from(u16::from_be_bytes([key0, key1])),
            body_bytes: u32::from_be_bytes([body0, body1, body2, body3]) as usize,
        })
    }

    /// Why nobody can tell where the next packet begins, or would want to wait for it.
    ///
    /// # Errors
    /// The lengths contradict each other, or are beyond what any value can have.
    pub fn check_lengths(&self) -> Result<(), Fault> {
        if self.extras_bytes + self.key_bytes > self.body_bytes {
            return Err(Fault::UnknownCommand);
        }
        if self.body_bytes > BODY_BYTES_MAX { Err(Fault::BadFormat) } else { Ok(()) }
    }

    /// Whether the packet has the parts that its command needs, and no others.
    ///
    /// # Errors
    /// It has not.
    pub fn check_parts(&self) -> Result<(), Fault> {
        let (extras_bytes, with_key, with_value) =
            (self.extras_bytes, self.key_bytes > 0, self.value_bytes() > 0);
        let fits = match self.command {
            None => true,
            Some(Command::Get(_) | Command::Delete) => extras_bytes == 0 && with_key && !with_value,
            Some(Command::Touch(_)) => extras_bytes == 4 && with_key && !with_value,
            Some(Command::Count(_)) => extras_bytes == 20 && with_key && !with_value,
            Some(Command::Store(Mode::Append | Mode::Prepend)) => extras_bytes == 0 && with_key,
            Some(Command::Store(_)) => extras_bytes == 8 && with_key,
            Some(Command::Authenticate | Command::Step) => extras_bytes == 0 && with_key,
            Some(Command::Stat) => extras_bytes == 0 && !with_value,
            Some(Command::Flush) => matches!(extras_bytes, 0 | 4) && !with_key && !with_value,
            Some(Command::Noop | Command::Version | Command::Quit | Command::ListMechanisms) => {
                extras_bytes == 0 && !with_key && !with_value
            }
        };
        if fits && self.key_bytes <= KEY_BYTES_MAX { Ok(()) } else { Err(Fault::BadFormat) }
    }

    /// Whether a client may ask for this that has not said who it is.
    #[must_use]
    pub fn is_for_everybody(&self) -> bool {
        matches!(
            self.command,
            Some(
                Command::ListMechanisms | Command::Authenticate | Command::Step | Command::Version
            )
        )
    }

    /// Bytes of all of it.
    #[must_use]
    pub fn packet_bytes(&self) -> usize {
        HEADER_BYTES + self.body_bytes
    }

    /// Bytes of everything behind the header.
    #[must_use]
    pub fn body_bytes(&self) -> usize {
        self.body_bytes
    }

    /// Bytes of the value, if the lengths are [right](Self::check_lengths).
    #[must_use]
    pub fn value_bytes(&self) -> usize {
        self.body_bytes - self.key_bytes - self.extras_bytes
    }

    /// What `bytes` are that followed this header. `None` if extras and key are not all there.
    #[must_use]
    pub fn body<'a>(&self, bytes: &'a [u8]) -> Option<Body<'a>> {
        let (extras, rest) = bytes.split_at_checked(self.extras_bytes)?;
        let (key, rest) = rest.split_at_checked(self.key_bytes)?;
        let value = &rest[..rest.len().min(self.value_bytes())];
        Some(Body { extras, key, value })
    }

    /// What is asked for, if the header has the [right parts](Self::check_parts).
    #[must_use]
    pub fn asked<'a>(&self, body: &Body<'a>) -> Asked<'a> {
        let Some(command) = self.command else { return Asked::Nothing };
        match command {
            Command::Get(_) => Asked::Item(None),
            Command::Touch(_) => Asked::Item(Some(body.exptime(0))),
            Command::Store(mode) => Asked::Store(self.storage(mode, body)),
            Command::Delete => {
                let compare = self.compare();
                Asked::Request(Request::Delete(Deletion { key: body.key, compare, keep: None }))
            }
            Command::Count(direction) => {
                Asked::Request(Request::Count(self.counting(direction, body)))
            }
            Command::Flush => Asked::Request(Request::Flush { exptime: Some(body.exptime(0)) }),
            Command::Noop => Asked::Request(Request::Noop),
            Command::Version => Asked::Request(Request::Version),
            Command::Stat => stat(body.key),
            Command::Quit => Asked::Request(Request::Quit),
            Command::ListMechanisms => Asked::Mechanisms,
            Command::Authenticate => Asked::Entry { further: false },
            Command::Step => Asked::Entry { further: true },
        }
    }

    fn storage<'a>(&self, mode: Mode, body: &Body<'a>) -> Storage<'a> {
        let joins = matches!(mode, Mode::Append | Mode::Prepend);
        let compare = self.compare();
        Storage {
            // To be compared, there must be an item, and nothing else is asked of it then.
            mode: if joins || compare.is_none() { mode } else { Mode::Set },
            key: body.key,
            flags: body.u32(0),
            exptime: body.exptime(4),
            value_bytes: self.value_bytes(),
            compare,
            accept_stale: false,
            cas: None,
            create: false,
            replaces_or_removes: mode == Mode::Set,
        }
    }

    fn counting<'a>(&self, direction: Direction, body: &Body<'a>) -> Counting<'a> {
        let creates = body.u32(16) != NO_CREATION;
        let creation = Creation { initial: body.u64(8), exptime: body.exptime(16) };
        Counting {
            key: body.key,
            direction,
            delta: body.u64(0),
            compare: self.compare(),
            cas: None,
            touch: None,
            create: creates.then_some(creation),
        }
    }

    fn compare(&self) -> Option<u64> {
        (self.cas != 0).then_some(self.cas)
    }
}

/// A retrieval at the start of `input` that leaves times to live alone, if it is all there: its
/// header, its key, and what follows it.
#[must_use]
pub fn lone_get(input: &[u8]) -> Option<(Header, &[u8], &[u8])> {
    let (header, rest) = input.split_first_chunk()?;
    let header = Header::read(header)?;
    let Some(Command::Get(_)) = header.command else { return None };
    header.check_lengths().and_then(|()| header.check_parts()).ok()?;
    let (key, rest) = rest.split_at_checked(header.body_bytes)?;
    Some((header, key, rest))
}

/// The keys that packets at the start of `input` are about, as far as it is worth looking. A wrong
/// guess is for the caller to bear.
pub fn keys_ahead(input: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = &input[..input.len().min(BYTES_AHEAD_MAX)];
    iter::from_fn(move || {
        let (header, body) = rest.split_first_chunk()?;
        let header = Header::read(header)?;
        header.check_lengths().ok()?;
        let key = header.body(body)?.key;
        rest = body.get(header.body_bytes..).unwrap_or_default();
        Some(key)
    })
}

impl Body<'_> {
    /// The time to live that the extras hold at an offset: 0 (never) if they end before it.
    fn exptime(&self, at: usize) -> i64 {
        self.u32(at).into()
    }

    fn u32(&self, at: usize) -> u32 {
        let bytes = self.extras.get(at..).and_then(<[u8]>::first_chunk);
        bytes.map_or(0, |bytes| u32::from_be_bytes(*bytes))
    }

    fn u64(&self, at: usize) -> u64 {
        let bytes = self.extras.get(at..).and_then(<[u8]>::first_chunk);
        bytes.map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }
}

/// Figures. Of their names, memcached looks at the beginning, but for some that must be whole.
fn stat(name: &[u8]) -> Asked<'_> {
    let (topic, arguments): (&[u8], &[u8]) = match name {
        b"" | b"items" | b"slabs" | b"sizes" | b"larder" => (name, b""),
        _ if name.starts_with(b"reset") => (b"reset", b""),
        _ if name.starts_with(b"settings") => (b"settings", b""),
        _ => match name.strip_prefix(b"detail") {
            Some(arguments) => (b"detail", arguments),
            None => return Asked::Nothing,
        },
    };
    Asked::Request(Request::Stats { topic, arguments })
}

fn command(opcode: u8) -> (Option<Command>, bool) {
    let (command, quiet) = match opcode {
        0x00 => (Command::Get(Shown::Value), false),
        0x01 => (Command::Store(Mode::Set), false),
        0x02 => (Command::Store(Mode::Add), false),
        0x03 => (Command::Store(Mode::Replace), false),
        0x04 => (Command::Delete, false),
        0x05 => (Command::Count(Direction::Up), false),
        0x06 => (Command::Count(Direction::Down), false),
        0x07 => (Command::Quit, false),
        0x08 => (Command::Flush, false),
        0x09 => (Command::Get(Shown::Value), true),
        0x0a => (Command::Noop, false),
        0x0b => (Command::Version, false),
        0x0c => (Command::Get(Shown::KeyAndValue), false),
        0x0d => (Command::Get(Shown::KeyAndValue), true),
        0x0e => (Command::Store(Mode::Append), false),
        0x0f => (Command::Store(Mode::Prepend), false),
        0x10 => (Command::Stat, false),
        0x11 => (Command::Store(Mode::Set), true),
        0x12 => (Command::Store(Mode::Add), true),
        0x13 => (Command::Store(Mode::Replace), true),
        0x14 => (Command::Delete, true),
        0x15 => (Command::Count(Direction::Up), true),
        0x16 => (Command::Count(Direction::Down), true),
        0x17 => (Command::Quit, true),
        0x18 => (Command::Flush, true),
        0x19 => (Command::Store(Mode::Append), true),
        0x1a => (Command::Store(Mode::Prepend), true),
        0x1c => (Command::Touch(Shown::Flags), false),
        0x1d => (Command::Touch(Shown::Value), false),
        0x1e => (Command::Touch(Shown::Value), true),
        0x20 => (Command::ListMechanisms, false),
        0x21 => (Command::Authenticate, false),
        0x22 => (Command::Step, false),
        0x23 => (Command::Touch(Shown::KeyAndValue), false),
        0x24 => (Command::Touch(Shown::KeyAndValue), true),
        _ => return (None, false),
    };
    (Some(command), quiet)
}

/// Instead of the time to live of a counter that begins.
const NO_CREATION: u32 = u32::MAX;
/// Input that [`keys_ahead`] looks at.
const BYTES_AHEAD_MAX: usize = 2048;
/// The largest item that `-I` can allow.
const BODY_BYTES_MAX: usize = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    fn header(opcode: u8, key_bytes: u16, extras_bytes: u8, body_bytes: u32) -> Header {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = REQUEST_MAGIC;
        bytes[1] = opcode;
        bytes[2..4].copy_from_slice(&key_bytes.to_be_bytes());
        bytes[4] = extras_bytes;
        bytes[8..12].copy_from_slice(&body_bytes.to_be_bytes());
        Header::read(&bytes).expect("the magic is right")
    }

    #[test]
    fn a_header_is_read_field_by_field() {
        let mut bytes = [0; HEADER_BYTES];
        bytes
            .copy_from_slice(b"\x80\x11\x01\x02\x08\x00\x00\x00\0\0\x02\x03opaq\0\0\0\0\0\0\x01\0");
        let header = Header::read(&bytes).expect("the magic is right");
        assert_eq!(header.tag, Tag { opcode: 0x11, opaque: *b"opaq" });
        assert_eq!(header.command, Some(Command::Store(Mode::Set)));
        assert!(header.quiet);
        assert_eq!(header.cas, 256);
        assert_eq!((header.extras_bytes, header.key_bytes, header.body_bytes), (8, 258, 515));
        bytes[0] = 0x81;
        assert_eq!(Header::read(&bytes), None);
    }

    #[test]
    fn quiet_opcodes_ask_for_the_same_as_those_that_are_not() {
        let quiet = (0x09..=0x0d).step_by(4).chain(0x11..=0x1a).chain([0x1e, 0x24]);
        let loud =
            [0x00, 0x0c, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x0e, 0x0f, 0x1d, 0x23];
        for (quiet, loud) in quiet.zip(loud) {
            assert_eq!(command(quiet), (command(loud).0, true), "{quiet:#x}");
            assert!(!command(loud).1, "{loud:#x}");
        }
    }

    #[test]
    fn lengths_that_contradict_each_other_are_told_from_those_that_are_too_large() {
        let check = |key, extras, body| header(0x01, key, extras, body).check_lengths();
        assert_eq!(check(3, 8, 11), Ok(()));
        assert_eq!(check(3, 8, 10), Err(Fault::UnknownCommand));
        assert_eq!(check(u16::MAX, u8::MAX, 0), Err(Fault::UnknownCommand));
        assert_eq!(check(3, 8, 1 << 30), Ok(()));
        assert_eq!(check(3, 8, (1 << 30) + 1), Err(Fault::BadFormat));
        assert_eq!(check(u16::MAX, u8::MAX, u32::MAX), Err(Fault::BadFormat));
    }

    #[test]
    fn a_comparison_needs_an_item_whatever_the_mode() {
        for (opcode, mode) in [(0x01, Mode::Set), (0x02, Mode::Set), (0x03, Mode::Set)] {
            let header = Header { cas: 7, ..header(opcode, 1, 8, 9) };
            let body = header.body(b"\0\0\0\x05\0\0\0\x09k").expect("it is all there");
            let Asked::Store(storage) = header.asked(&body) else { panic!("{opcode:#x}") };
            assert_eq!((storage.mode, storage.compare), (mode, Some(7)));
            assert_eq!((storage.flags, storage.exptime, storage.key), (5, 9, &b"k"[..]));
            assert_eq!(storage.replaces_or_removes, opcode == 0x01);
        }
    }

    #[test]
    fn a_counter_may_be_told_not_to_begin() {
        let header = header(0x05, 1, 20, 21);
        let counting = |exptime: [u8; 4]| {
            let bytes = [&[0; 7][..], &[1], &[0; 7], &[2], &exptime, b"k"].concat();
            match header.asked(&header.body(&bytes).expect("it is all there")) {
                Asked::Request(Request::Count(counting)) => (counting.delta, counting.create),
                other => panic!("{other:?}"),
            }
        };
        let creation = |exptime| Some(Creation { initial: 2, exptime });
        assert_eq!(counting([0; 4]), (1, creation(0)));
        assert_eq!(counting([0, 0, 0, 9]), (1, creation(9)));
        assert_eq!(counting([0xff, 0xff, 0xff, 0xfe]), (1, creation(0xffff_fffe)), "2106");
        assert_eq!(counting([0xff; 4]), (1, None));
    }

    #[test]
    fn names_of_figures_are_told_by_their_beginning_or_as_a_whole() {
        let topic = |name| match stat(name) {
            Asked::Request(Request::Stats { topic, arguments }) => Some((topic, arguments)),
            _ => None,
        };
        assert_eq!(topic(b""), Some((&b""[..], &b""[..])));
        assert_eq!(topic(b"resetting"), Some((&b"reset"[..], &b""[..])));
        assert_eq!(topic(b"detail dump"), Some((&b"detail"[..], &b" dump"[..])));
        assert_eq!(topic(b"items"), Some((&b"items"[..], &b""[..])));
        for name in [&b"item"[..], b"itemsx", b"sett", b"conns", b"cachedump 1 1"] {
            assert_eq!(topic(name), None);
        }
    }
}
