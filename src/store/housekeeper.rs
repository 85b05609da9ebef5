//! What can be done for those who store before they need it: segments kept in reserve, pages had
//! from the system, dead bytes gathered, what has expired or was flushed taken away. In steps of
//! some tens of microseconds, by whatever thread has the time, at moments that it is told:
//! `crate::housekeeper` is the thread of a server.
//!
//! # The sweep
//!
//! A segment knows when the first of its items ends. The sweeper then goes through it and removes
//! what is over, where it lies; what lives is not moved. Going through a segment is worth it only
//! for a part of it, so the next time is when a sixteenth more will be over, or all of the rest.

use super::arena::SegmentId;
use super::counters::Counters;
use super::index::Hash;
use super::item::Item;
use super::reclaim::Foreground;
use super::segment::Walk;
use super::{PREFETCH_KEYS, Store};
use crate::clock::Seconds;
use crossbeam_epoch::LocalHandle;
use std::sync::Arc;

/// See the module's text.
#[derive(Debug)]
pub struct Housekeeper {
    store: Arc<Store>,
    reader: LocalHandle,
    counters: Arc<Counters>,
    /// When segments were last looked through for those to be swept.
    looked_at: Seconds,
    /// When the whole limit was last tried for.
    retried_at: Seconds,
    due: Vec<SegmentId>,
    sweep: Option<Sweep>,
}

/// How much is left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chores {
    /// Those who store may have to wait: the next step should follow at once.
    Urgent,
    /// There is more to do, but nobody waits for it.
    Some,
    /// Nothing for now.
    None,
}

/// A segment that is being swept.
#[derive(Debug)]
struct Sweep {
    walk: Walk,
    horizon: Horizon,
}

/// How many bytes end when: by the power of two of the seconds that are left, with the earliest end
/// of each.
#[derive(Debug)]
struct Horizon([(u64, Seconds); 33]);

impl Housekeeper {
    pub(super) fn new(store: Arc<Store>, counters: Arc<Counters>) -> Self {
        let reader = store.index.register();
        Self { store, reader, counters, looked_at: 0, retried_at: 0, due: Vec::new(), sweep: None }
    }

    /// Does some of what there is to do at this moment.
    pub fn step(&mut self, now: Seconds) -> Chores {
        let store = Arc::clone(&self.store);
        store.flush_if_due(now);
        if let Some(file) = &store.file {
            file.note_time(now);
            if now.saturating_sub(self.retried_at) >= RETRY_SECONDS {
                self.retried_at = now;
                store.space.retry_limit();
            }
        }
        let mut guard = self.reader.pin();
        let counters = &self.counters;
        let mut foreground = Foreground { store: &store, guard: &mut guard, now, counters };
        if foreground.approach_limit() {
            return Chores::Urgent;
        }
        let is_refilling = foreground.refill_reserve(STEP_BYTES);
        if store.space.waits_for_readers() {
            foreground.let_readers_go();
        }
        drop(guard);
        if is_refilling {
            return Chores::Urgent;
        }
        if store.space.wants_pages() {
            store.space.populate_next();
            return Chores::Urgent;
        }
        if self.sweep(now) || self.compact(now) {
            return Chores::Some;
        }
        if store.space.waits_for_readers() { Chores::Some } else { Chores::None }
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Gathers what is dead, if it is too much.
    fn compact(&self, now: Seconds) -> bool {
        let mut guard = self.reader.pin();
        let counters = &self.counters;
        let foreground = Foreground { store: &self.store, guard: &mut guard, now, counters };
        foreground.compact(STEP_BYTES)
    }

    /// Sweeps a piece of a segment. Returns `false` if there is none to be swept.
    fn sweep(&mut self, now: Seconds) -> bool {
        if self.sweep.is_none() {
            if self.due.is_empty() && self.looked_at != now {
                self.looked_at = now;
                self.due = self.store.space.due(now);
            }
            let Some(segment) = self.due.pop() else { return false };
            let walk = self.store.space.start_sweep(segment);
            self.sweep = walk.map(|walk| Sweep { walk, horizon: Horizon::default() });
        }
        let Some(mut sweep) = self.sweep.take() else { return true };
        if self.sweep_piece(&mut sweep, now) {
            self.sweep = Some(sweep);
        } else {
            let part = self.store.space.capacity() / SWEPT_PART;
            self.store.space.finish_sweep(&sweep.walk, sweep.horizon.next(part as u64));
        }
        true
    }

    /// Returns `false` at the end of the segment.
    fn sweep_piece(&self, sweep: &mut Sweep, now: Seconds) -> bool {
        let Self { store, counters, .. } = self;
        let mut guard = self.reader.pin();
        if !store.space.resume_sweep(&mut sweep.walk, &guard) {
            // It may be put back yet, and the rest of it has to be swept then.
            store.space.finish_sweep(&sweep.walk, now);
            return false;
        }
        let sweeper = Foreground { store, guard: &mut guard, now, counters };
        let end = sweep.walk.offset + STEP_BYTES;
        let mut dead: Vec<(Hash, Item<'_>)> = Vec::with_capacity(PREFETCH_KEYS);
        while sweep.walk.offset < end {
            let entry = store.space.next_live_entry(&mut sweep.walk, sweeper.guard);
            let is_over = entry.is_none();
            if let Some((entry, item)) = entry
                && entry.at == item.location()
            {
                if store.is_live(&item, now) {
                    sweep.horizon.add(item.expiry(), entry.bytes as u64, now);
                } else {
                    dead.push((store.index.hash(item.key()), item));
                }
            }
            if is_over || dead.len() == PREFETCH_KEYS {
                sweeper.remove_dead(&dead);
                dead.clear();
            }
            if is_over {
                return false;
            }
        }
        sweeper.remove_dead(&dead);
        true
    }
}

impl Default for Horizon {
    fn default() -> Self {
        Self([(0, Seconds::MAX); 33])
    }
}

impl Horizon {
    /// The item was alive a moment ago; a touch may have ended it since.
    fn add(&mut self, expiry: Seconds, bytes: u64, now: Seconds) {
        if expiry != 0 {
            let left_seconds = expiry.saturating_sub(now);
            let (sum, first) = &mut self.0[(Seconds::BITS - left_seconds.leading_zeros()) as usize];
            *sum += bytes;
            *first = expiry.min(*first);
        }
    }

    /// When `part` bytes more will be over, or the most there are: not before, but perhaps later.
    fn next(&self, part: u64) -> Seconds {
        let mut sum = 0;
        let mut next = Seconds::MAX;
        for &(bytes, first) in self.0.iter().filter(|(bytes, _)| *bytes > 0) {
            sum += bytes;
            next = first;
            if sum >= part {
                break;
            }
        }
        next
    }
}

/// What one step passes over: some hundreds of small items, some tens of microseconds.
const STEP_BYTES: usize = 16 << 10;

/// A file system that was full may have room again.
const RETRY_SECONDS: Seconds = 60;

/// A segment is swept when one byte in so many is over.
const SWEPT_PART: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Expiry, Options, Traits};

    #[test]
    fn a_segment_is_swept_again_when_enough_of_it_is_over() {
        let mut horizon = Horizon::default();
        assert_eq!(horizon.next(100), Seconds::MAX, "nothing ends");
        horizon.add(0, 1000, NOW);
        assert_eq!(horizon.next(100), Seconds::MAX, "nothing ends yet");
        horizon.add(NOW + 1, 10, NOW);
        assert_eq!(horizon.next(100), NOW + 1, "all that ends");
        horizon.add(NOW + 70, 10, NOW);
        horizon.add(NOW + 65, 80, NOW);
        assert_eq!(horizon.next(100), NOW + 65);
        horizon.add(Seconds::MAX, 1000, NOW);
        assert_eq!(horizon.next(100), NOW + 65);
        assert_eq!(horizon.next(101), Seconds::MAX);
    }

    #[test]
    fn what_was_ended_while_it_was_looked_at_is_swept_again() {
        let mut horizon = Horizon::default();
        horizon.add(1, 10, NOW);
        horizon.add(NOW + 70, 1000, NOW);
        assert_eq!(horizon.next(10), 1);
    }

    #[test]
    fn a_sweep_that_was_cut_short_is_made_up_for() {
        let options =
            Options { memory_bytes: 1 << 20, segment_bytes: 1 << 16, shards_log2: 2, evict: true };
        let store = Store::new(&options).expect("a little memory");
        let mut handle = store.register();
        for number in 0..600_u32 {
            let traits = Traits::plain(0, Expiry::At(NOW + 1));
            handle.batch(NOW).put(&number.to_le_bytes(), &[0; 500], traits).expect("room");
        }
        drop(handle);
        let mut housekeeper = store.housekeeper();
        while store.totals().swept == 0 {
            housekeeper.step(NOW + 1);
        }
        let segment = housekeeper.sweep.as_ref().expect("it goes on").walk.segment;
        let clearing = store.space.start_clearing(segment).expect("a full one");
        while housekeeper.step(NOW + 1) != Chores::None {}
        assert!(store.totals().items > 0, "what was taken out is not swept");
        store.space.stop_clearing(&clearing);
        while housekeeper.step(NOW + 2) != Chores::None {}
        assert_eq!(store.totals().items, 0);
    }

    const NOW: Seconds = 1000;
}
