//! The parser of the binary protocol: packets, each a header of fixed length, extras, a key and a
//! value, whose lengths stand in the header.
//!
//! Whatever can be wrong with a packet is seen from its header alone, before anything of what
//! follows is waited for. A packet that contradicts itself ends the connection: nobody can tell
//! where the next one begins.

pub mod encode;

use super::{Direction, Fault, KEY_BYTES_MAX, Mode};

/// The first byte of every request, and of no command of the text protocol.
pub const REQUEST_MAGIC: u8 = 0x80;

/// What every packet begins with.
pub const HEADER_BYTES: usize = 24;

/// The header of a request, understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What replies repeat.
    pub tag: Tag,
    /// What is asked for; `None` if there is no such thing.
    pub command: Option<Command>,
    /// Nothing is to be said of a success, or of a miss of a retrieval.
    pub quiet: bool,
    /// To compare, where it is not 0.
    pub cas: u64,
    extras_bytes: usize,
    key_bytes: usize,
    body_bytes: usize,
}

/// What a reply repeats of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// As it came, quiet or not.
    pub opcode: u8,
    /// The client's own.
    pub opaque: [u8; 4],
}

/// What an opcode stands for, be it quiet or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// An item.
    Get(Reply),
    /// An item, which is given a new time to live.
    Touch(Reply),
    /// Store under a condition.
    Store(Mode),
    /// Remove an item.
    Delete,
    /// Count.
    Count(Direction),
    /// Drop everything.
    Flush,
    /// Nothing, but to be answered.
    Noop,
    /// The version.
    Version,
    /// Figures.
    Stat,
    /// End the connection.
    Quit,
    /// The ways to authenticate.
    ListMechanisms,
    /// Authenticate.
    Authenticate,
    /// Go on authenticating.
    Step,
}

/// What of an item a client wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Its flags.
    Flags,
    /// Flags and value.
    Value,
    /// Flags, key and value.
    KeyAndValue,
}
