//! The vocabulary that parsers, commands and encoders share: what a client can ask, and what it can
//! be told.
//!
//! A dialect exists in a parser and in an encoder only. In between there are [`Request`]s,
//! [`Outcome`]s and [`Fault`]s, which say nothing of how they were or will be written. This module
//! knows no socket and no store.

pub mod base64;
pub mod binary;
pub mod encode;
pub mod listing;
pub mod login;
pub mod manage;
pub mod meta;
pub mod number;
pub mod sasl;
pub mod text;
pub mod uri;

use self::manage::{Area, Refusal};
use crate::clock::Seconds;
use std::fmt::Display;

/// Longest key, in bytes. Keys are not otherwise restricted: they are bytes, not text.
pub const KEY_BYTES_MAX: usize = 250;

/// The version that clients and tools are told: the memcached whose replies these are.
pub const COMPATIBLE_VERSION: &str = "1.6.45";

/// One thing that a client asks for. Keys and names are borrowed from the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Items by key. The keys are not part of the request: there may be more of them than fit in
    /// memory, so they are taken from the input one by one.
    Retrieve(Retrieval),
    /// Store the value that follows.
    Store(Storage<'a>),
    /// Remove an item, or what it is good for.
    Delete(Deletion<'a>),
    /// Give an item a new time to live.
    Touch {
        /// The item.
        key: &'a [u8],
        /// As the client gave it, see [`Storage::exptime`].
        exptime: i64,
    },
    /// Count up or down.
    Count(Counting<'a>),
    /// Drop everything that is stored.
    Flush {
        /// When, see [`Storage::exptime`]; but nothing in the past: 0 and less is now. `None` if it
        /// cannot be read: whether flushing is allowed at all is said first.
        exptime: Option<i64>,
    },
    /// Nothing, but an answer.
    Noop,
    /// Ask for the version.
    Version,
    /// Set how much is logged.
    Verbosity {
        /// The number of `-v`.
        level: u32,
    },
    /// Change the memory limit.
    LimitMemory {
        /// To so many MiB.
        megabytes: u32,
    },
    /// Ask for figures.
    Stats {
        /// Which; empty for the general ones.
        topic: &'a [u8],
        /// What more there is to say of the topic, as blanks and tokens.
        arguments: &'a [u8],
    },
    /// Manage the server.
    Manage {
        /// What of it.
        area: Area,
        /// What about it, as blanks and tokens.
        arguments: &'a [u8],
    },
    /// Stop the server.
    Shutdown {
        /// The way in which to stop; empty for the plain one.
        manner: &'a [u8],
    },
    /// End the connection.
    Quit,
}

/// How items are to be retrieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retrieval {
    /// Show each item's cas.
    pub cas: bool,
    /// Give each item this time to live, see [`Storage::exptime`].
    pub touch: Option<i64>,
}

/// One item that is asked for, and what is to become of it by that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetch<'a> {
    /// The key, of at most [`KEY_BYTES_MAX`] bytes.
    pub key: &'a [u8],
    /// Count it as a use of the item.
    pub mark: bool,
    /// Give the item this time to live, see [`Storage::exptime`].
    pub touch: Option<i64>,
    /// Offer the lease if the item ends soon.
    pub recache: Option<Recache>,
    /// Where there is no item, put an empty one that ends then, and give the lease.
    pub create: Option<i64>,
    /// The cas for an item that is created, where it is not to be a new one.
    pub cas: Option<u64>,
}

impl<'a> Fetch<'a> {
    /// Asks for an item, and for nothing else.
    #[must_use]
    pub fn plain(key: &'a [u8]) -> Self {
        Self { key, mark: true, touch: None, recache: None, create: None, cas: None }
    }
}

/// When an item ends so soon that somebody should bring what is to replace it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recache {
    /// Before then, see [`Storage::exptime`].
    pub exptime: i64,
    /// By its new time to live, not by the one that it had.
    pub touched: bool,
}

/// What is to be stored, less the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Storage<'a> {
    /// Under which condition.
    pub mode: Mode,
    /// The key, of at most [`KEY_BYTES_MAX`] bytes.
    pub key: &'a [u8],
    /// The client's flags.
    pub flags: u32,
    /// 0: never expires; negative: has expired; up to 30 days: seconds from now; otherwise: a Unix
    /// second. Text has 32 bits for it with a sign, a packet 32 without.
    pub exptime: i64,
    /// Length of the value, without the line end that follows it.
    pub value_bytes: usize,
    /// Store only if the item's cas is this one: no item has 0. ([`Mode::Add`] does not compare.)
    pub compare: Option<u64>,
    /// A value that was made for a lower cas than the item's is taken, too, but as a stale one.
    pub accept_stale: bool,
    /// The cas that the item gets, where it is not to be a new one.
    pub cas: Option<u64>,
    /// [`Mode::Append`] and [`Mode::Prepend`] create an item where there is none.
    pub create: bool,
    /// If there is no room for the value, the old one goes, too: the client takes it for replaced.
    pub replaces_or_removes: bool,
}

impl<'a> Storage<'a> {
    /// A value for good, without flags and further conditions.
    #[must_use]
    pub fn plain(mode: Mode, key: &'a [u8], value_bytes: usize) -> Self {
        Self {
            mode,
            key,
            flags: 0,
            exptime: 0,
            value_bytes,
            compare: None,
            accept_stale: false,
            cas: None,
            create: false,
            replaces_or_removes: mode == Mode::Set,
        }
    }
}

/// The condition on which a value is stored, and what it does to the one that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Always.
    Set,
    /// If there is no such item.
    Add,
    /// If there is such an item.
    Replace,
    /// Behind the item's value.
    Append,
    /// Before the item's value.
    Prepend,
}

/// What is to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deletion<'a> {
    /// The key, of at most [`KEY_BYTES_MAX`] bytes.
    pub key: &'a [u8],
    /// Only if the item's cas is this one.
    pub compare: Option<u64>,
    /// Of the item, something stays.
    pub keep: Option<Keep>,
}

impl<'a> Deletion<'a> {
    /// Whatever the key holds.
    #[must_use]
    pub fn plain(key: &'a [u8]) -> Self {
        Self { key, compare: None, keep: None }
    }
}

/// What stays of an item that is not removed as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// The value goes, and an item with these client's flags stays, which never ends unless
    /// [`Keep::exptime`] says when.
    pub emptied: Option<u32>,
    /// What stays is stale, under a new cas, and its lease is to be had.
    pub stale: bool,
    /// When it ends, see [`Storage::exptime`].
    pub exptime: Option<i64>,
    /// The cas that it gets: else a new one if it is stale, and the one that it had if not.
    pub cas: Option<u64>,
}

/// What is to be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counting<'a> {
    /// The key, of at most [`KEY_BYTES_MAX`] bytes.
    pub key: &'a [u8],
    /// Which way.
    pub direction: Direction,
    /// By how much.
    pub delta: u64,
    /// Only if the item's cas is this one.
    pub compare: Option<u64>,
    /// The cas that the item gets, where it is not to be a new one.
    pub cas: Option<u64>,
    /// Give the item this time to live, see [`Storage::exptime`].
    pub touch: Option<i64>,
    /// Create an item where there is none.
    pub create: Option<Creation>,
}

impl<'a> Counting<'a> {
    /// Whatever the cas of the counter, which must be there.
    #[must_use]
    pub fn plain(key: &'a [u8], direction: Direction, delta: u64) -> Self {
        Self { key, direction, delta, compare: None, cas: None, touch: None, create: None }
    }
}

/// A counter that begins to exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Creation {
    /// What it begins with.
    pub initial: u64,
    /// See [`Storage::exptime`].
    pub exptime: i64,
}

/// Which way to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Up, modulo 2^64.
    Up,
    /// Down, no further than to 0.
    Down,
}

/// How a request ended that did what it is there for, or found that it need not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The value is stored.
    Stored(Stored),
    /// The mode's condition does not hold.
    NotStored,
    /// The item has another cas.
    Exists,
    /// There is no such item.
    NotFound,
    /// The item is removed, or what was to be removed of it.
    Deleted,
    /// The item, with these flags of its client, has its new time to live.
    Touched {
        /// The client's flags.
        flags: u32,
    },
    /// Counted.
    Counted(Counted),
    /// Done.
    Ok,
    /// The counters start from zero.
    Reset,
}

/// What a value became.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The item's cas.
    pub cas: u64,
    /// The length of its whole value.
    pub value_bytes: usize,
}

/// What a counter became.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// What it counted to.
    pub number: u64,
    /// The item's cas.
    pub cas: u64,
    /// When it ended before a new time to live (0: never).
    pub expiry: Seconds,
    /// It did not exist before.
    pub created: bool,
}

/// What can be told of an item besides its key and value, as it was before it was fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// The client's flags.
    pub flags: u32,
    /// The cas.
    pub cas: u64,
    /// The value's length.
    pub value_bytes: usize,
    /// When it ends (0: never).
    pub expiry: Seconds,
    /// When it was last used.
    pub last_access: Seconds,
    /// Whether it was ever fetched.
    pub fetched: bool,
    /// It did not exist before.
    pub created: bool,
    /// It is out of date.
    pub stale: bool,
    /// Who brings what is to replace it.
    pub lease: Lease,
}

/// Who brings what is to replace an item: one of all who ask for it gets the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// Nobody has it.
    Free,
    /// Who is told this.
    Won,
    /// Somebody else.
    Taken,
}

/// Why a request was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No such command.
    UnknownCommand,
    /// Too few arguments, or one that cannot be read.
    BadFormat,
    /// The value is not followed by a line end.
    BadDataChunk,
    /// An expiry that is no number.
    InvalidExptime,
    /// A delta that is no unsigned number.
    InvalidDelta,
    /// Counting something that is no number.
    NonNumeric,
    /// An argument that cannot be read.
    BadToken,
    /// A number to begin with that cannot be read.
    InvalidInitial,
    /// A number to count by that cannot be read.
    InvalidDeltaToken,
    /// The same argument twice.
    DuplicateFlag,
    /// No such argument.
    InvalidFlag,
    /// More arguments than a request can have.
    TooManyFlags,
    /// Arguments of a counting that cannot be understood, for whatever reason.
    InvalidOrDuplicateFlag,
    /// A key that is encoded, but not so that it can be decoded.
    UndecodableKey,
    /// More to be given back with the reply than fits one.
    OpaqueTooLong,
    /// No such way to store.
    InvalidStorageMode,
    /// No such way to count.
    InvalidCountingMode,
    /// `flush_all` is switched off.
    FlushNotAllowed,
    /// Listing keys is switched off.
    DumpNotAllowed,
    /// Too few arguments to list keys.
    DumpArguments,
    /// There can be no such slab class.
    IllegalClass,
    /// Looking at figures by prefix is switched off.
    DetailNotAllowed,
    /// No word, or a wrong one, for what becomes of the figures by prefix.
    DetailUsage,
    /// A memory limit that is too small for anything.
    LimitTooSmall,
    /// A memory limit that was meant in bytes.
    LimitInBytes,
    /// A memory limit that cannot be had.
    LimitOutOfBounds,
    /// A way to stop that does not exist.
    InvalidShutdownMode,
    /// `shutdown` is not switched on.
    ShutdownNotEnabled,
    /// The item would be larger than the largest allowed.
    TooLarge,
    /// No room for a value, and nothing may be evicted.
    OutOfMemoryStoring,
    /// No room for a counted value, and nothing may be evicted.
    OutOfMemory,
    /// A command that manages the server is refused.
    Management(Refusal),
    /// No room for a counter that is to be created, and nothing may be evicted.
    OutOfMemoryCreating,
}

/// Writes replies as a dialect has them.
pub trait Encode {
    /// How a request ended.
    fn outcome(&mut self, outcome: Outcome);

    /// Why a request was not carried out.
    fn fault(&mut self, fault: Fault);

    /// The version that this server is compatible with.
    fn version(&mut self);

    /// A figure.
    fn stat(&mut self, name: impl Display, value: impl Display);

    /// The end of items or figures.
    fn end(&mut self);

    /// Bytes of output that wait to be sent.
    fn written(&self) -> usize;
}

/// Whether a key can stand on a line as it is. (Those that cannot come in base64, or in the binary
/// protocol.)
#[must_use]
pub fn is_text_key(key: &[u8]) -> bool {
    !key.contains(&b' ') && !key.contains(&b'\n') && !key.ends_with(b"\r")
}

/// When an item with this expiry of a client's ends (0: never).
#[must_use]
pub fn expiry(exptime: i64, now: Seconds) -> Seconds {
    match u32::try_from(exptime) {
        Err(_) if exptime < 0 => LONG_AGO,
        Ok(delay @ 1..=RELATIVE_SECONDS_MAX) => now.saturating_add(delay),
        Ok(second) => second,
        Err(_) => Seconds::MAX,
    }
}

/// A second that is over, and not "never".
const LONG_AGO: Seconds = 1;
/// Longer expiries, 30 days, are points in time.
const RELATIVE_SECONDS_MAX: u32 = 60 * 60 * 24 * 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiries_are_relative_for_thirty_days() {
        let now = 1_800_000_000;
        assert_eq!(expiry(0, now), 0);
        assert_eq!(expiry(1, now), now + 1);
        assert_eq!(expiry(2_592_000, now), now + 2_592_000);
        assert_eq!(expiry(2_592_001, now), 2_592_001);
        assert_eq!(expiry(-1, now), LONG_AGO);
        assert_eq!(expiry(i64::MIN, now), LONG_AGO);
        assert_eq!(expiry(u32::MAX.into(), now), u32::MAX);
        assert_eq!(expiry(i64::MAX, now), u32::MAX);
    }
}
