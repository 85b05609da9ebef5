//! The vocabulary that parsers, commands and encoders share: what a client can ask, and what it can
//! be told.
//!
//! A dialect exists in a parser and in an encoder only. In between there are [`Request`]s,
//! [`Outcome`]s and [`Fault`]s, which say nothing of how they were or will be written. This module
//! knows no socket and no store.

pub mod encode;
pub mod login;
pub mod number;
pub mod text;

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
    /// Remove an item.
    Delete {
        /// The item.
        key: &'a [u8],
    },
    /// Give an item a new time to live.
    Touch {
        /// The item.
        key: &'a [u8],
        /// As the client gave it, see [`Storage::exptime`].
        exptime: i32,
    },
    /// Count up or down.
    Count {
        /// The item.
        key: &'a [u8],
        /// Which way.
        direction: Direction,
        /// By how much.
        delta: u64,
    },
    /// Drop everything that is stored.
    Flush {
        /// When, see [`Storage::exptime`]; but nothing in the past: 0 and less is now. `None` if it
        /// cannot be read: whether flushing is allowed at all is said first.
        exptime: Option<i32>,
    },
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
    pub touch: Option<i32>,
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
    /// second.
    pub exptime: i32,
    /// Length of the value, without the line end that follows it.
    pub value_bytes: usize,
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
    /// If the item's cas is still this one.
    Cas(u64),
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
    Stored,
    /// The mode's condition does not hold.
    NotStored,
    /// The item has another cas.
    Exists,
    /// There is no such item.
    NotFound,
    /// The item is removed.
    Deleted,
    /// The item has its new time to live.
    Touched,
    /// Done.
    Ok,
    /// The counters start from zero.
    Reset,
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
    /// A request of a client that has not said who it is.
    Unauthenticated,
    /// What a client says of itself is longer than it can be.
    TokenTooLong,
    /// What a client says of itself is not followed by a line end.
    TokenUnterminated,
    /// What a client says of itself is not a user and a password.
    TokenFormat,
    /// No such user, or another password.
    AuthenticationFailed,
}
