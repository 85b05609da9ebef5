//! Which segment to clear or to sweep, and the way through it from entry to entry.
//!
//! The order of eviction is `policy.rs`'s. Which segment has the most dead bytes, or items whose
//! time is over, is found by reading the gauges of all, without the lock: that is a look at 16
//! bytes for each segment that is cleared, whole. What was found may have changed by then, which
//! [`Space::start_clearing`] notices.

use super::super::arena::{FIRST_ENTRY, SegmentId};
use super::super::item::{self, Entry, Item};
use super::super::policy::Queue;
use super::{FLUSHED, Gauge, NEVER, Segment, Space, State};
use crate::clock::Seconds;
use crate::sync::{Ordering, lock};
use crossbeam_epoch::Guard;

/// What the gauges of all sealed segments say.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::store) struct Survey {
    /// Bytes that hold nothing live any more. What was never used does not count: moving does not
    /// gain it.
    pub(in crate::store) dead_bytes: u64,
    /// The segment with the most of them, if that is worth moving the others.
    pub(in crate::store) deadest: Option<SegmentId>,
    /// A segment in which an item's time may be over.
    pub(in crate::store) lapsed: Option<SegmentId>,
    /// A segment that a flush has passed over.
    pub(in crate::store) flushed: Option<SegmentId>,
}

/// A segment that was taken out to be cleared, and how far that is.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Clearing {
    pub(in crate::store) walk: Walk,
    pub(in crate::store) queue: Queue,
    pub(in crate::store) rank: u64,
}

/// The way from entry to entry through a segment.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Walk {
    pub(in crate::store) segment: SegmentId,
    /// Which of its uses this is.
    opened: u64,
    /// Where the next entry lies.
    pub(in crate::store) offset: usize,
    /// Where the last one ends.
    pub(in crate::store) end: usize,
}

impl Space {
    /// Reads the gauges of all sealed segments.
    pub(in crate::store) fn survey(&self, now: Seconds) -> Survey {
        let mut survey = Survey::default();
        let mut dead_max = self.capacity() / DEAD_PART_MIN - 1;
        for (segment, gauge) in self.used_gauges() {
            let Some(dead_bytes) = gauge.dead_bytes() else { continue };
            survey.dead_bytes += dead_bytes as u64;
            if dead_bytes > dead_max {
                dead_max = dead_bytes;
                survey.deadest = Some(segment);
            }
            match gauge.first_expiry.load(Ordering::Relaxed) {
                FLUSHED => survey.flushed = Some(segment),
                expiry if expiry <= now => survey.lapsed = Some(segment),
                _ => {}
            }
        }
        survey
    }

    /// The segment to compact instead of the deadest: if some of its queue were compacted before it,
    /// and there is room left where their items went (`open`, of either queue), then one that lies
    /// near them in the queue and has at least half as many dead bytes. So items that are put
    /// together are of an age, and the queue keeps its order.
    pub(in crate::store) fn beside(
        &self,
        open: [Option<SegmentId>; 2],
        deadest: SegmentId,
    ) -> SegmentId {
        let dead_bytes = |segment: SegmentId| self.gauges[segment as usize].dead_bytes();
        let pool = lock(&self.pool);
        let queue = pool.segments[deadest as usize].queue;
        let mut open = open.into_iter().flatten().map(|open| pool.segments[open as usize]);
        let Some(open) = open.find(|open| open.queue == queue) else { return deadest };
        let near = pool.queues.near(queue, open.rank).max_by_key(|&segment| dead_bytes(segment));
        near.filter(|&near| dead_bytes(near) >= dead_bytes(deadest).map(|bytes| bytes / 2))
            .unwrap_or(deadest)
    }

    /// The first item of the segment that is judged next, or of the oldest one that is being filled
    /// where none is full yet.
    pub(in crate::store) fn first_in_line<'g>(&'g self, guard: &'g Guard) -> Option<Item<'g>> {
        let pool = lock(&self.pool);
        let used = || (0..).zip(&pool.segments[..pool.fresh as usize]);
        let open = || used().filter(|(_, segment)| segment.state == State::Open);
        let oldest = || open().min_by_key(|(_, segment)| segment.opened).map(|(id, _)| id);
        let segment = pool.queues.next(self.segments_allowed()).or_else(oldest)?;
        let Segment { opened, .. } = pool.segments[segment as usize];
        drop(pool);
        let mut walk = Walk { segment, opened, offset: FIRST_ENTRY, end: FIRST_ENTRY };
        let is_there = self.resume_sweep(&mut walk, guard);
        is_there.then(|| self.next_live_entry(&mut walk, guard)).flatten().map(|(_, item)| item)
    }

    /// Takes a sealed segment out, to be cleared. `None` if it is not sealed any more.
    pub(in crate::store) fn start_clearing(&self, segment: SegmentId) -> Option<Clearing> {
        let mut pool = lock(&self.pool);
        let Segment { state, queue, rank, opened } = pool.segments[segment as usize];
        if state != State::Sealed {
            return None;
        }
        let end = self.gauges[segment as usize].used_bytes.swap(0, Ordering::Relaxed) as usize;
        pool.queues.take_out(queue, rank, segment);
        pool.segments[segment as usize].state = State::Clearing;
        Some(Clearing { walk: Walk { segment, opened, offset: FIRST_ENTRY, end }, queue, rank })
    }

    /// Puts a segment back that could not be cleared. Returns `true` if it had become empty, as
    /// [`Space::seal`] does.
    pub(in crate::store) fn stop_clearing(&self, clearing: &Clearing) -> bool {
        let mut pool = lock(&self.pool);
        let Walk { segment, end, .. } = clearing.walk;
        assert_eq!(pool.segments[segment as usize].state, State::Clearing);
        self.enqueue(&mut pool, segment, end)
    }

    /// Puts a segment that was taken out back, whole, at the end of the main queue. Returns `true`
    /// if it had become empty, as [`Space::seal`] does.
    pub(in crate::store) fn admit(&self, clearing: &Clearing) -> bool {
        let mut pool = lock(&self.pool);
        let Walk { segment, end, .. } = clearing.walk;
        pool.queues.close(clearing.queue);
        pool.queues.open(Queue::Main);
        pool.segments[segment as usize].rank = pool.opened;
        self.enter_main(&mut pool, segment);
        self.enqueue(&mut pool, segment, end)
    }

    /// Ends the clearing: nothing in the segment is in the index any more. (Who took it out of
    /// there may still be about to count it as dead, but is pinned.) The caller hands the segment
    /// to the epoch.
    pub(in crate::store) fn retire_cleared(&self, segment: SegmentId) {
        let mut pool = lock(&self.pool);
        assert_eq!(pool.segments[segment as usize].state, State::Clearing);
        self.retire(&mut pool, segment);
    }

    /// The segments in which an item's time may be over.
    pub(in crate::store) fn due(&self, now: Seconds) -> Vec<SegmentId> {
        let is_due = |gauge: &Gauge| gauge.first_expiry.load(Ordering::Relaxed) <= now;
        let due = self.used_gauges().filter(|(_, gauge)| is_due(gauge));
        due.map(|(segment, _)| segment).collect()
    }

    /// The way through a segment for one who takes dead items out of it where it is, even while it
    /// is being filled. Its end has to be [set](Space::resume_sweep) under each guard. `None` if it
    /// is not in use, or about to be cleared.
    pub(in crate::store) fn start_sweep(&self, segment: SegmentId) -> Option<Walk> {
        let pool = lock(&self.pool);
        let Segment { state, opened, .. } = pool.segments[segment as usize];
        let first_expiry = &self.gauges[segment as usize].first_expiry;
        match state {
            State::Open | State::Sealed => {
                first_expiry.swap(NEVER, Ordering::AcqRel);
                Some(Walk { segment, opened, offset: FIRST_ENTRY, end: FIRST_ENTRY })
            }
            State::Clearing => None,
            State::Free | State::Released | State::Retired | State::Lent => {
                first_expiry.store(NEVER, Ordering::Relaxed);
                None
            }
        }
    }

    /// Brings a walk up to date under a guard, as long as which its segment is not used again.
    /// Returns `false` if it has been used for something else since.
    pub(in crate::store) fn resume_sweep(&self, walk: &mut Walk, _guard: &Guard) -> bool {
        let pool = lock(&self.pool);
        let Segment { state, opened, .. } = pool.segments[walk.segment as usize];
        let is_there = opened == walk.opened && matches!(state, State::Open | State::Sealed);
        if is_there {
            // SAFETY: it is in use, and whoever retires it does so after the guard was pinned.
            walk.end = unsafe { self.arena.progress(walk.segment).0 };
        }
        is_there
    }

    /// Ends a sweep: the segment should be swept again at `due`.
    pub(in crate::store) fn finish_sweep(&self, walk: &Walk, due: Seconds) {
        let first_expiry = &self.gauges[walk.segment as usize].first_expiry;
        first_expiry.fetch_min(due, Ordering::Relaxed);
    }

    /// The next live entry of a segment that is being cleared or swept, with the item that it is
    /// part of. The guard is that of the one who does so.
    ///
    /// Whoever kills an item marks its fragments dead before its head's segment can be retired. So
    /// a fragment that is seen alive under a guard has a head whose segment is not used again
    /// before the guard is gone.
    pub(in crate::store) fn next_live_entry<'g>(
        &'g self,
        walk: &mut Walk,
        _guard: &'g Guard,
    ) -> Option<(Entry, Item<'g>)> {
        while walk.offset < walk.end {
            let at = self.arena.location(walk.segment, walk.offset);
            // SAFETY: entries follow one another without gaps up to what the owner said was used. A
            // segment that is being cleared is not used again before the one who clears it retires
            // it; one that is swept was in use under this guard (`resume_sweep`).
            let entry = unsafe { item::entry_at(&self.arena, at) };
            walk.offset += entry.bytes;
            if !entry.is_dead {
                // SAFETY: the entry lives, so its head is written and stays in place under the
                // guard (see above).
                let item = unsafe { Item::new(&self.arena, entry.head) };
                return Some((entry, item));
            }
        }
        None
    }
}

impl Gauge {
    /// Bytes of a sealed segment that hold nothing live any more.
    fn dead_bytes(&self) -> Option<usize> {
        let used_bytes = self.used_bytes.load(Ordering::Relaxed) as usize;
        let live_bytes = self.live_bytes.load(Ordering::Relaxed) as usize;
        (used_bytes > 0).then(|| (used_bytes - FIRST_ENTRY).saturating_sub(live_bytes))
    }
}

/// A segment is worth compacting if at least one byte in this many is dead.
const DEAD_PART_MIN: usize = 16;

#[cfg(test)]
mod tests {
    use crate::store::{Expiry, Options, Store, Traits};

    #[test]
    fn the_first_in_line_tells_how_long_an_item_stays() {
        let options =
            Options { memory_bytes: 1 << 20, segment_bytes: 1 << 12, shards_log2: 2, evict: true };
        let store = Store::new(&options).expect("a little memory");
        let mut handle = store.register();
        assert_eq!(handle.batch(NOW).oldest_age_seconds(), 0, "there is nothing");
        let traits = Traits::plain(0, Expiry::At(0));
        let mut put = |now, key: u32| {
            handle.batch(now).put(&key.to_le_bytes(), &[0; 500], traits).expect("room");
            handle.batch(now + 7).oldest_age_seconds()
        };
        assert_eq!(put(NOW, 0), 7, "its segment is still open");
        (1..100).for_each(|key| assert_eq!(put(NOW + key, key), 7 + key));
        (100..10_000).for_each(|key| assert!(put(NOW + key, key) > 7, "{key}"));
        // There is room for less than two thousand.
        assert!(put(NOW + 10_000, 0) < 2000);
    }

    const NOW: u32 = 1000;
}
