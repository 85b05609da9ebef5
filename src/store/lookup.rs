//! What a look-up says of a key, and what a change may make of it: that nothing has happened to the
//! key since.

use super::item::Item;

/// What a look-up finds a key to name at a moment: an item, or why there is none.
#[derive(Debug)]
pub enum State<'b> {
    /// A live item.
    Hit(Item<'b>),
    /// No such key.
    Missing,
    /// The key was there, but its time is over.
    Expired,
    /// The key was there, but a flush has passed over it.
    Flushed,
}

/// Names the exact state of a key that a look-up saw: "this very item", live, or "nothing" live.
/// Equal again means that nothing happened to the key in between, a change of expiry and the marks
/// of use aside. It names the item by its version, which is never used again, and not by its place,
/// which is: reserving room may let go of what the batch has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Witness(u64);

/// A condition on the key's present state, checked under the shard's lock.
#[derive(Clone, Copy, Debug)]
pub enum Expected {
    /// No condition.
    Any,
    /// The key is as the lookup saw it.
    Unchanged(Witness),
}

impl State<'_> {
    /// For [`Expected::Unchanged`].
    #[must_use]
    pub fn witness(&self) -> Witness {
        match self {
            Self::Hit(item) => Witness::of(Some(*item)),
            Self::Missing | Self::Expired | Self::Flushed => Witness::of(None),
        }
    }
}

impl Witness {
    pub(super) fn of(item: Option<Item<'_>>) -> Self {
        Self(item.map_or(0, |item| item.version()))
    }
}
