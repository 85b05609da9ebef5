//! What a slot of the index says, bit by bit (`index.rs` has the picture): an item and how often it
//! was used, the ghost of one that was evicted, or nothing.

use super::super::arena::Location;
use super::super::item::Item;
use crate::sync::{AtomicU64, Ordering};

/// A slot of a shard.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Slot<'i>(pub(super) &'i AtomicU64);

/// An item and the slot in which it was found.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Found<'g> {
    pub(in crate::store) item: Item<'g>,
    pub(in crate::store) slot: Slot<'g>,
    /// What the slot held then.
    pub(super) seen: u64,
}

/// When a ghost became one, in a unit of the policy's. Never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct Stamp(pub(super) u64);

impl Slot<'_> {
    /// How often the item was used, [`FREQUENCY_MAX`] at most.
    pub(in crate::store) fn frequency(&self) -> u8 {
        frequency_of(self.0.load(Ordering::Relaxed))
    }
}

impl Found<'_> {
    /// Counts a use. Whoever changes the slot at the same time wins: one use more or less decides
    /// nothing.
    pub(in crate::store) fn count_use(&self) {
        if frequency_of(self.seen) < FREQUENCY_MAX {
            let counted = self.seen + (1 << FREQUENCY_SHIFT);
            let slot = self.slot.0;
            // A slot that still holds what was seen names the same item. Whoever reads the item by
            // way of this store is behind the one that published it: the exchange continues it.
            let _lost =
                slot.compare_exchange(self.seen, counted, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

impl Stamp {
    /// A stamp of a count, which it keeps modulo 2^39 and off 0.
    pub(in crate::store) fn new(count: u64) -> Self {
        Self((count & STAMP_MASK).max(1))
    }

    /// How much the count has grown since.
    pub(in crate::store) fn age(self, count: u64) -> u64 {
        count.wrapping_sub(self.0) & STAMP_MASK
    }
}

/// A slot with an item.
pub(super) fn item_slot(tag: u64, frequency: u8, at: Location) -> u64 {
    debug_assert!(frequency <= FREQUENCY_MAX);
    tag << TAG_SHIFT | LIVE | u64::from(frequency) << FREQUENCY_SHIFT | at.0
}

/// A slot with a ghost.
pub(super) fn ghost_slot(tag: u64, stamp: Stamp) -> u64 {
    tag << TAG_SHIFT | stamp.0
}

pub(super) fn location_of(slot: u64) -> Location {
    Location(slot & ((1 << LOCATION_BITS) - 1))
}

pub(super) fn frequency_of(slot: u64) -> u8 {
    u8::try_from(slot >> FREQUENCY_SHIFT & u64::from(FREQUENCY_MAX)).expect("masked")
}

pub(super) const TAG_SHIFT: u32 = 40;
/// In units of 8 bytes: an arena of 1 TiB.
pub(in crate::store) const LOCATION_BITS: u32 = 37;
const FREQUENCY_SHIFT: u32 = LOCATION_BITS;
/// How far uses are counted.
pub(in crate::store) const FREQUENCY_MAX: u8 = 3;
pub(super) const LIVE_SHIFT: u32 = 39;
pub(super) const LIVE: u64 = 1 << LIVE_SHIFT;
pub(super) const STAMP_MASK: u64 = LIVE - 1;
pub(super) const EMPTY: u64 = 0;
