//! Counts that a handle keeps for itself and anyone may read: no line of memory is written by two
//! threads.

use crate::counter::Counter;

/// What one handle counted. Differences (`items`, `item_bytes`) wrap: only their sum over all
/// handles means something.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) items: Counter,
    pub(super) item_bytes: Counter,
    pub(super) stored: Counter,
    pub(super) evictions: Counter,
    pub(super) evicted_unfetched: Counter,
    pub(super) expired_unfetched: Counter,
    pub(super) reclaimed: Counter,
    pub(super) swept: Counter,
    pub(super) moved: Counter,
    /// Items taken out of the index that a flush had passed over.
    pub(super) flushed_items: Counter,
    pub(super) flushed_bytes: Counter,
}

/// Figures of a store. Counts are since start, sizes are bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Items in the index now that no flush has passed over; those are among them whose time is
    /// over but whom nobody has asked for since. (While a flush and stores run side by side, it may
    /// be off by those.)
    pub items: u64,
    /// What they take in the arena: header, key, value, padding.
    pub items_bytes: u64,
    /// Items ever published.
    pub stored: u64,
    /// Live items dropped for room.
    pub evictions: u64,
    /// Of these, never fetched.
    pub evicted_unfetched: u64,
    /// Items whose room was needed and reclaimed after they had expired or been flushed.
    pub reclaimed: u64,
    /// Items that were removed before anybody needed their room, for the same reasons.
    pub swept: u64,
    /// Of both, never fetched.
    pub expired_unfetched: u64,
    /// Live entries (items, or parts of large ones) moved to gather what dead ones left.
    pub moved: u64,
    /// Bytes of index tables.
    pub index_bytes: u64,
    /// Binary logarithm of the number of index slots, rounded down.
    pub index_power: u32,
    /// The size of a segment.
    pub segment_bytes: u64,
    /// Segments that may be in use, by the memory limit less the index.
    pub segments: u64,
    /// Segments that are.
    pub segments_in_use: u64,
    /// Of these, lent to be sent from, or being filled with values that are still arriving.
    pub segments_aside: u64,
    /// Bytes of the segments in use that hold nothing live, or nothing yet.
    pub dead_bytes: u64,
}

/// What the index holds, and of what it held how much a flush had passed over. All handles
/// together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Held {
    pub(super) items: u64,
    pub(super) bytes: u64,
    pub(super) flushed_items: u64,
    pub(super) flushed_bytes: u64,
}

impl Held {
    pub(super) fn plus(self, counters: &Counters) -> Self {
        Self {
            items: self.items.wrapping_add(counters.items.get()),
            bytes: self.bytes.wrapping_add(counters.item_bytes.get()),
            flushed_items: self.flushed_items + counters.flushed_items.get(),
            flushed_bytes: self.flushed_bytes + counters.flushed_bytes.get(),
        }
    }

    /// Sums of differences that were read while others count may be below 0 for a moment.
    pub(super) fn settled(self) -> Self {
        let at_least_0 = |sum: u64| if sum > u64::MAX / 2 { 0 } else { sum };
        Self { items: at_least_0(self.items), bytes: at_least_0(self.bytes), ..self }
    }

    /// What the index held or had lost to flushes: at a flush, this is all that the flush passes
    /// over.
    pub(super) fn flushable(&self) -> (u64, u64) {
        (self.items.wrapping_add(self.flushed_items), self.bytes.wrapping_add(self.flushed_bytes))
    }

    /// Items and bytes that no flush has passed over, where the last one found `flushable`.
    pub(super) fn unflushed(&self, flushable: (u64, u64)) -> (u64, u64) {
        let left = |flushable: u64, flushed| flushable.saturating_sub(flushed);
        (
            self.items.saturating_sub(left(flushable.0, self.flushed_items)),
            self.bytes.saturating_sub(left(flushable.1, self.flushed_bytes)),
        )
    }
}

impl Totals {
    pub(super) fn plus(self, counters: &Counters) -> Self {
        Self {
            stored: self.stored + counters.stored.get(),
            evictions: self.evictions + counters.evictions.get(),
            evicted_unfetched: self.evicted_unfetched + counters.evicted_unfetched.get(),
            reclaimed: self.reclaimed + counters.reclaimed.get(),
            swept: self.swept + counters.swept.get(),
            expired_unfetched: self.expired_unfetched + counters.expired_unfetched.get(),
            moved: self.moved + counters.moved.get(),
            ..self
        }
    }
}
