//! What an item has besides key and value: given to it when it is made, or changed in place later.

use super::item::{MARK_FETCHED, MARK_LEASED, MARK_STALE};
use crate::clock::Seconds;

/// What an item has besides key and value.
#[derive(Clone, Copy, Debug)]
pub struct Traits {
    /// The client's flags.
    pub flags: u32,
    /// When it ends.
    pub expiry: Expiry,
    /// The cas, where it is not to be a new one of the store's own.
    pub cas: Option<u64>,
    /// What it is marked with.
    pub marks: Marks,
}

impl Traits {
    /// Those of a new item.
    #[must_use]
    pub fn plain(flags: u32, expiry: Expiry) -> Self {
        Self { flags, expiry, cas: None, marks: Marks::New }
    }
}

/// When an item ends.
#[derive(Clone, Copy, Debug)]
pub enum Expiry {
    /// At this second (0: never). An item is dead as soon as `expiry <= now`.
    At(Seconds),
    /// When the item that it replaces ends, read at the moment of replacement. Needs
    /// [`Expected::Unchanged`] of a hit.
    Inherit,
}

/// What can be changed of an item in place.
#[derive(Clone, Copy, Debug)]
pub struct Amendment {
    /// When it ends.
    pub expiry: Option<Seconds>,
    /// Give the lease to the caller, if nobody has it.
    pub lease: bool,
}

/// What [`Batch::amend`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amended {
    /// As asked.
    Done {
        /// The caller has got the lease.
        leased: bool,
    },
    /// Something else than expected was there, and still is.
    Changed,
}

/// What an item is marked with when it becomes its key's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marks {
    /// Nothing: it is new.
    New,
    /// It only holds the place of what its creator, who has the lease, will bring.
    Placeholder,
    /// All that its predecessor was marked with: it is that item, changed in place.
    Same,
    /// It is new, and out of date from the beginning. The lease is to be had.
    NewStale,
    /// It is its predecessor, out of date as of now. The lease is to be had.
    Invalidated,
    /// It is as much out of date as its predecessor, whose lease stands.
    StillStale,
}

impl Marks {
    /// Those of its own.
    pub(super) fn given(self) -> u32 {
        match self {
            Self::New | Self::Same => 0,
            Self::Placeholder => MARK_LEASED,
            Self::NewStale | Self::Invalidated | Self::StillStale => MARK_STALE,
        }
    }

    /// Those of the predecessor that it takes over.
    pub(super) fn inherited(self) -> u32 {
        match self {
            Self::New | Self::Placeholder | Self::NewStale => 0,
            Self::Same => MARK_FETCHED | MARK_STALE | MARK_LEASED,
            Self::Invalidated => MARK_FETCHED,
            Self::StillStale => MARK_LEASED,
        }
    }
}
