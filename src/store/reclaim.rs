//! Making room: which segment is cleared next, and what becomes of the items in it.
//!
//! While little of the memory is dead, the oldest segment is evicted: its items are dropped, first
//! in, first out. When more than an eighth is dead (overwritten, deleted), the segment with the
//! most dead bytes is compacted instead: its live entries move together. Under `-M` nothing live is
//! ever dropped, so compaction is all there is. In both, items that have expired or were flushed
//! are dropped.
//!
//! Clearing is done by the writer that needs the room, one segment ahead of its need, by one writer
//! at a time.

use super::append::{Appender, Supply};
use super::arena::SegmentId;
use super::change::Change;
use super::index::Hash;
use super::item::{Entry, Item};
use super::{Counters, OutOfMemory, Store};
use crate::clock::Seconds;
use crate::sync::{Ordering, lock, yield_now};
use crossbeam_epoch::Guard;

/// A writer's supply of segments: free ones, or room made by clearing others.
pub(super) struct Foreground<'a> {
    pub(super) store: &'a Store,
    pub(super) guard: &'a mut Guard,
    pub(super) now: Seconds,
    pub(super) counters: &'a Counters,
}

/// The supply of whoever moves items out of a segment: free ones only, for clearing cannot wait for
/// clearing.
struct Moving<'a> {
    change: Change<'a>,
}

/// What becomes of the live items of a segment that is cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Evicted,
    Moved,
}

/// The segment to which live items are moved. Whoever holds its lock is the one who clears.
#[derive(Debug, Default)]
pub(super) struct Mover {
    appender: Appender,
}

impl Supply for Foreground<'_> {
    fn take(&mut self) -> Result<SegmentId, OutOfMemory> {
        let mut clearings = 0;
        let mut waits = 0;
        loop {
            if let Some(segment) = self.store.space.take() {
                self.stay_ahead();
                return Ok(segment);
            }
            let (_, soon) = self.store.space.available();
            if soon == 0 {
                // With eviction there is an end of itself: when nothing is left to evict.
                if clearings == CLEARINGS_MAX && !self.store.evict {
                    return Err(OutOfMemory);
                }
                // What is retired takes the room that moving needs, until its readers have gone.
                if let Err(error) = self.clear_one(1, clearings >= MOVES_MAX)
                    && !self.store.space.waits_for_readers()
                {
                    return Err(error);
                }
                clearings += 1;
            }
            self.let_readers_go();
            waits += 1;
            if waits > WAITS_BEFORE_YIELD {
                yield_now();
            }
        }
    }

    fn retire(&mut self, segment: SegmentId) {
        self.change().retire(segment);
    }
}

impl Supply for Moving<'_> {
    fn take(&mut self) -> Result<SegmentId, OutOfMemory> {
        self.change.store.space.take_for_move().ok_or(OutOfMemory)
    }

    fn retire(&mut self, segment: SegmentId) {
        self.change.retire(segment);
    }
}

impl Foreground<'_> {
    /// Clears segments until those in use are within the limit, or will be when their readers have
    /// gone.
    ///
    /// # Errors
    /// Nothing more can be cleared.
    pub(super) fn shrink_to_limit(&mut self) -> Result<(), OutOfMemory> {
        while self.store.space.is_beyond_limit() {
            let mut mover = lock(&self.store.mover);
            self.clear_next(true, &mut mover)?;
            drop(mover);
            self.let_readers_go();
        }
        Ok(())
    }

    /// Clears a segment early enough that its readers have gone when it is needed: one for each
    /// writer.
    fn stay_ahead(&mut self) {
        if !self.store.evict {
            return;
        }
        let writers = u32::try_from(self.store.writers.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        let wanted = writers.min(self.store.space.arena.segments() / RESERVE_PART).max(1);
        if self.store.space.available().1 < wanted {
            // If nothing can be cleared now, the next to need a segment will find out and say so.
            let _nothing_to_clear = self.clear_one(wanted, false);
        }
    }

    /// Moves this writer to the present, so that the epoch can advance and what was retired become
    /// free.
    fn let_readers_go(&mut self) {
        for _ in 0..EPOCHS_TO_FREE {
            self.guard.repin();
            self.guard.flush();
        }
    }

    /// Clears one segment, unless `wanted` segments are or will be available without it.
    fn clear_one(&mut self, wanted: u32, stop_moving: bool) -> Result<(), OutOfMemory> {
        let mut mover = lock(&self.store.mover);
        if self.store.space.available().1 >= wanted {
            return Ok(());
        }
        self.clear_next(stop_moving, &mut mover)
    }

    fn clear_next(&self, stop_moving: bool, mover: &mut Mover) -> Result<(), OutOfMemory> {
        let (segment, fate) = self.choose(stop_moving).ok_or(OutOfMemory)?;
        self.clear(segment, fate, mover)
    }

    fn choose(&self, stop_moving: bool) -> Option<(SegmentId, Fate)> {
        let space = &self.store.space;
        if !self.store.evict {
            let flushed_until = self.store.flushed_segments.load(Ordering::Relaxed);
            let segment = space
                .oldest(flushed_until)
                .or_else(|| space.deadest(space.capacity() / DEAD_PART_MIN))
                .or_else(|| space.lapsed(self.now))?;
            return Some((segment, Fate::Moved));
        }
        if !stop_moving
            && self.store.is_an_eighth_dead()
            && let Some(segment) = space.deadest(space.capacity() / DEAD_PART_MIN)
        {
            return Some((segment, Fate::Moved));
        }
        Some((space.oldest(u64::MAX)?, Fate::Evicted))
    }

    /// Takes every item of a segment out of it and hands the segment to the epoch.
    fn clear(&self, segment: SegmentId, fate: Fate, mover: &mut Mover) -> Result<(), OutOfMemory> {
        let change = self.change();
        for (entry, item) in self.store.space.live_entries(segment, self.guard) {
            if let Err(error) = self.clear_entry(&entry, item, fate, mover) {
                if self.store.space.stop_clearing(segment) {
                    change.retire(segment);
                }
                return Err(error);
            }
        }
        self.store.space.retire_cleared(segment);
        change.retire(segment);
        Ok(())
    }

    fn clear_entry(
        &self,
        entry: &Entry,
        item: Item<'_>,
        fate: Fate,
        mover: &mut Mover,
    ) -> Result<(), OutOfMemory> {
        let change = self.change();
        let hash = self.store.index.hash(item.key());
        if !self.store.is_live(&item, self.now) && change.drop_dead(hash, item) {
            self.counters.reclaimed.add(1);
            self.counters.expired_unfetched.add(u64::from(!item.is_fetched()));
            return Ok(());
        }
        let moved = match fate {
            Fate::Moved => self.move_entry(entry, hash, item, mover),
            Fate::Evicted => Err(OutOfMemory),
        };
        match moved {
            Ok(true) => self.counters.moved.add(1),
            Err(error) if !self.store.evict => return Err(error),
            Err(_) if change.drop_item(hash, item) => {
                if let Some(listener) = self.store.eviction_listener.get() {
                    listener.0(&item, self.now);
                }
                self.counters.evictions.add(1);
                self.counters.evicted_unfetched.add(u64::from(!item.is_fetched()));
            }
            // Replaced a moment ago; its writer may not have marked it yet. Nobody must find its
            // way from a fragment to a head whose segment is retired.
            _ => item.mark_dead(),
        }
        Ok(())
    }

    /// Moves an entry to the mover's segment; `false` if its item is not its key's any more.
    fn move_entry(
        &self,
        entry: &Entry,
        hash: Hash,
        item: Item<'_>,
        mover: &mut Mover,
    ) -> Result<bool, OutOfMemory> {
        let space = &self.store.space;
        let mut supply = Moving { change: self.change() };
        let copy = mover.appender.copy(space, entry, &mut supply)?;
        let moved = self.change().move_entry(hash, item, entry, copy);
        if !moved {
            mover.appender.take_back(space, copy);
        }
        Ok(moved)
    }

    fn change(&self) -> Change<'_> {
        Change { store: self.store, guard: self.guard, now: self.now, counters: self.counters }
    }
}

/// A retired segment is free two epochs later; a third round runs what the second made ready.
const EPOCHS_TO_FREE: usize = 3;

/// A segment is worth compacting if at least one byte in this many is dead.
const DEAD_PART_MIN: usize = 16;

/// At most one segment in this many is kept free ahead of need.
const RESERVE_PART: u32 = 16;

/// So many compactions for one segment, then eviction.
const MOVES_MAX: u32 = 16;

/// So many clearings without one free segment to show for them, then a store that may not evict
/// refuses.
const CLEARINGS_MAX: u32 = 32;

/// Rounds of waiting for readers before the processor is given to them.
const WAITS_BEFORE_YIELD: u32 = 2;
