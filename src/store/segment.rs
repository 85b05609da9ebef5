//! Which segments there are and what state each is in. Plain code over a table under one lock,
//! taken once per segment and not once per item; only the count of live bytes is touched by every
//! store, and is an atomic.
//!
//! ```text
//!            take              seal                   reclaim, or the last live byte gone
//!   free  ---------->  open  -------->  sealed  ------------------------->  retired
//!    ^                                                                         |
//!    '------------ every reader that could see it has gone (epoch) ------------'
//! ```
//!
//! Where somebody still sends from a segment when its readers have gone, it waits for him, too
//! (`segment/aside.rs`).
//!
//! # The budget
//!
//! The arena is a little larger than the memory limit; what is in use is not. Segments in use plus
//! the bytes of the index stay within the limit: when the index grows, fewer segments may be in
//! use, and what a segment leaves behind goes back to the system.
//!
//! # Which segment to clear
//!
//! The order of eviction is `policy.rs`'s. Which segment has the most dead bytes, or items whose
//! time is over, is found by reading the gauges of all, without the lock: that is a look at 16 bytes
//! for each segment that is cleared, whole. What was found may have changed by then, which
//! [`Space::start_clearing`] notices.

mod ahead;
mod aside;
mod restore;

pub(super) use self::restore::{Restored, beyond};

use super::arena::{Arena, FIRST_ENTRY, Label, Location, SegmentId};
use super::index::LOCATION_BITS;
use super::item::{self, Entry, Item};
use super::policy::{Queue, Queues};
use crate::clock::Seconds;
use crate::sync::{AtomicU32, AtomicUsize, Mutex, Ordering, lock};
use crossbeam_epoch::Guard;
use std::io;
use std::sync::Arc;

/// All segments of a store. Shared, and kept alive by whatever waits for its readers to go.
#[derive(Debug)]
pub(super) struct Space {
    pub(super) arena: Arena,
    gauges: Box<[Gauge]>,
    /// How many loans there are of what lies in each segment.
    loans: Box<[AtomicU32]>,
    /// Segments that others cannot use or may not be able to: see `segment/aside.rs`.
    aside: AtomicU32,
    pool: Mutex<Pool>,
    /// Segments in use, those aside that only wait for readers.
    taken: AtomicU32,
    /// How many segments should be free, or be when their readers have gone.
    reserve: AtomicU32,
    /// As in the pool.
    fresh: AtomicU32,
    /// Up to this one, segments had their pages populated before they were used.
    populated: AtomicU32,
    /// Bytes of the limit that are not for segments: the index and the tables of fixed size.
    other_bytes: AtomicUsize,
    memory_bytes: AtomicUsize,
    /// The limit that holds now. It follows one that shrinks in steps, so that nobody who stores
    /// has to wait until all that is too much has gone.
    present_bytes: AtomicUsize,
}

/// The plain part.
#[derive(Debug)]
struct Pool {
    /// Free segments whose pages are with us.
    warm: Vec<SegmentId>,
    /// Free segments whose pages went back to the system.
    cold: Vec<SegmentId>,
    /// From this one on, segments were never used.
    fresh: SegmentId,
    /// From this one on, the system has given no pages yet.
    touched: SegmentId,
    /// The segments in use by the order in which they are to be evicted.
    queues: Queues,
    segments: Box<[Segment]>,
    /// Segments open, sealed, being cleared or retired.
    in_use: u32,
    retired: u32,
    lent: u32,
    opened: u64,
}

/// What is known of a segment. All but the state means something while it is in use.
#[derive(Clone, Copy, Debug)]
struct Segment {
    state: State,
    queue: Queue,
    /// Its place in the queue. A segment that is filled from others has that of the first of them.
    rank: u64,
    /// Counts segments in the order of their opening.
    opened: u64,
}

/// What anyone may read of a segment, without the lock. All zeros until the segment is used for the
/// first time: memory for sixteen times the limit is not to be touched before.
#[derive(Debug, Default)]
struct Gauge {
    /// Bytes of entries that are not known to be dead. All of an open segment, so that what is
    /// written to it need not be counted one by one.
    live_bytes: AtomicU32,
    /// Of a sealed segment, the header included; else 0.
    used_bytes: AtomicU32,
    /// No item in the segment ends before this second.
    first_expiry: AtomicU32,
    /// 1 for the main queue.
    queue: AtomicU32,
}

/// The way from entry to entry through a segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk {
    pub(super) segment: SegmentId,
    /// Which of its uses this is.
    opened: u64,
    /// Where the next entry lies.
    pub(super) offset: usize,
    /// Where the last one ends.
    pub(super) end: usize,
}

/// A segment that was taken out to be cleared, and how far that is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clearing {
    pub(super) walk: Walk,
    pub(super) queue: Queue,
    pub(super) rank: u64,
}

/// What the gauges of all sealed segments say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Survey {
    /// Bytes that hold nothing live any more. What was never used does not count: moving does not
    /// gain it.
    pub(super) dead_bytes: u64,
    /// The segment with the most of them, if that is worth moving the others.
    pub(super) deadest: Option<SegmentId>,
    /// A segment in which an item's time may be over.
    pub(super) lapsed: Option<SegmentId>,
    /// A segment that a flush has passed over.
    pub(super) flushed: Option<SegmentId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    /// Free, and its pages are with the system, who had them back.
    Released,
    Open,
    Sealed,
    /// Taken out by the one who clears it.
    Clearing,
    Retired,
    /// Nobody can find anything in it any more, but what was lent of it is not back.
    Lent,
}

impl Space {
    /// All segments of an arena, free. `other_bytes` is what of the limit is not for segments from
    /// the start.
    pub(super) fn new(arena: Arena, memory_bytes: usize, other_bytes: usize) -> Self {
        let segments = arena.segments();
        let pool = Pool {
            warm: Vec::new(),
            cold: Vec::new(),
            fresh: 0,
            touched: 0,
            queues: Queues::default(),
            segments: (0..segments).map(|_| Segment::FREE).collect(),
            in_use: 0,
            retired: 0,
            lent: 0,
            opened: 0,
        };
        Self {
            arena,
            gauges: (0..segments).map(|_| Gauge::default()).collect(),
            loans: (0..segments).map(|_| AtomicU32::new(0)).collect(),
            aside: AtomicU32::new(0),
            pool: Mutex::new(pool),
            taken: AtomicU32::new(0),
            reserve: AtomicU32::new(0),
            fresh: AtomicU32::new(0),
            populated: AtomicU32::new(0),
            other_bytes: AtomicUsize::new(other_bytes),
            memory_bytes: AtomicUsize::new(memory_bytes),
            present_bytes: AtomicUsize::new(memory_bytes),
        }
    }

    /// How many segments the arena of a store has, which can outgrow its limit.
    ///
    /// # Errors
    /// They are too many.
    pub(super) fn segments_of(memory_bytes: usize, segment_shift: u32) -> io::Result<u32> {
        let most_bytes = memory_bytes.saturating_mul(GROWTH_MAX).min(ARENA_BYTES_MAX);
        let segments = u32::try_from(most_bytes >> segment_shift)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "too many segments"))?;
        Ok(segments + SEGMENTS_BEYOND_LIMIT)
    }

    /// Bytes of entries that a segment can hold.
    pub(super) fn capacity(&self) -> usize {
        self.arena.segment_bytes() - FIRST_ENTRY
    }

    /// Tells the budget that the index now takes `bytes_added` more and `bytes_removed` less.
    pub(super) fn index_resized(&self, bytes_added: usize, bytes_removed: usize) {
        self.other_bytes.fetch_add(bytes_added, Ordering::Relaxed);
        self.other_bytes.fetch_sub(bytes_removed, Ordering::Relaxed);
    }

    /// The memory limit.
    pub(super) fn memory_bytes(&self) -> usize {
        self.memory_bytes.load(Ordering::Relaxed)
    }

    /// Changes the memory limit, to at most what the arena has room for: `false` if it is more. A
    /// larger limit holds at once, a smaller one is [approached](Space::approach_limit).
    pub(super) fn set_memory_bytes(&self, memory_bytes: usize) -> bool {
        let room = (self.arena.segments() - SEGMENTS_BEYOND_LIMIT) as usize;
        if memory_bytes / self.arena.segment_bytes() > room {
            return false;
        }
        self.memory_bytes.store(memory_bytes, Ordering::Relaxed);
        self.present_bytes.fetch_max(memory_bytes, Ordering::Relaxed);
        true
    }

    /// Brings the limit that holds a step closer to the one that was set. Pages that are beyond it
    /// now go back to the system, those of segments in use when they are free. Returns `false` if
    /// there is nothing to do.
    pub(super) fn approach_limit(&self) -> bool {
        let mut pool = lock(&self.pool);
        let (limit, present) = (self.memory_bytes(), self.present_bytes.load(Ordering::Relaxed));
        if present <= limit {
            return false;
        }
        let taken = pool.in_use as usize * self.arena.segment_bytes()
            + self.other_bytes.load(Ordering::Relaxed);
        let step = LIMIT_STEP_SEGMENTS * self.arena.segment_bytes();
        let next = present.min(taken).saturating_sub(step).max(limit);
        self.present_bytes.store(next, Ordering::Relaxed);
        self.release_beyond_limit(&mut pool);
        true
    }

    /// The largest item that the limit leaves room for beside what writers have open, with a little
    /// to spare.
    pub(super) fn item_bytes_max(&self) -> usize {
        let segments = self.segments_allowed().saturating_sub(self.aside());
        segments as usize * self.capacity() / 4 * 3
    }

    /// Opens a free segment for new items if the budget allows one more.
    pub(super) fn take(&self) -> Option<SegmentId> {
        let mut pool = lock(&self.pool);
        if pool.in_use >= self.segments_allowed() {
            return None;
        }
        self.open(&mut pool, Queue::Probation, None)
    }

    /// Opens a free segment for what is being moved out of another that will be free soon: the
    /// budget may be passed by the few segments that the arena has beyond the limit. Where a limit
    /// that shrank has left more than that in use, one segment may be opened after the other: as
    /// long as none waits for readers, each is made good by the one that is cleared with it.
    /// Without a rank it goes to the end of its queue.
    pub(super) fn take_for_move(&self, queue: Queue, rank: Option<u64>) -> Option<SegmentId> {
        let mut pool = lock(&self.pool);
        let is_beyond = pool.in_use >= self.segments_allowed() + SEGMENTS_BEYOND_LIMIT;
        if is_beyond && pool.retired + pool.lent > 0 {
            return None;
        }
        self.open(&mut pool, queue, rank)
    }

    /// Sets how many segments should be free ahead of need.
    pub(super) fn set_reserve(&self, segments: u32) {
        self.reserve.store(segments, Ordering::Relaxed);
    }

    /// How many segments should be free ahead of need.
    pub(super) fn reserve(&self) -> u32 {
        self.reserve.load(Ordering::Relaxed)
    }

    /// How many segments are free, or will be when their readers have gone. Costs no lock.
    pub(super) fn spare(&self) -> u32 {
        self.segments_allowed().saturating_sub(self.taken.load(Ordering::Relaxed))
    }

    /// How many segments could be taken now, and how many more when the readers have gone.
    pub(super) fn available(&self) -> (u32, u32) {
        let pool = lock(&self.pool);
        let allowed = self.segments_allowed();
        (allowed.saturating_sub(pool.in_use), allowed.saturating_sub(pool.in_use - pool.retired))
    }

    /// Whether more will be in use than is allowed even when the readers have gone.
    pub(super) fn is_beyond_limit(&self) -> bool {
        let pool = lock(&self.pool);
        pool.in_use - pool.retired > self.segments_allowed()
    }

    /// Whether segments will be free when their readers have gone.
    pub(super) fn waits_for_readers(&self) -> bool {
        lock(&self.pool).retired > 0
    }

    /// Closes an open segment in which nothing more is being written: from now on it may be
    /// reclaimed. Returns `true` if it had nothing live in it and is retired at once; the caller
    /// then hands it to the epoch.
    pub(super) fn seal(&self, segment: SegmentId, used_bytes: usize) -> bool {
        let mut pool = lock(&self.pool);
        let state = pool.segments[segment as usize].state;
        assert_eq!(state, State::Open, "only an open segment is sealed");
        self.note_used(segment, used_bytes);
        let unused_bytes = self.arena.segment_bytes() - used_bytes;
        let unused_bytes = u32::try_from(unused_bytes).expect("within a segment");
        self.gauges[segment as usize].live_bytes.fetch_sub(unused_bytes, Ordering::AcqRel);
        let is_empty = self.enqueue(&mut pool, segment, used_bytes);
        self.pass_while_there_is_room(&mut pool);
        is_empty
    }

    /// Notes that the entries in so many bytes of the caller's open segment are published or dead.
    #[inline]
    pub(super) fn note_used(&self, segment: SegmentId, used_bytes: usize) {
        // SAFETY: the caller has it open, and wrote the entries up to there.
        unsafe {
            let sum = if self.arena.is_kept() {
                let (before_bytes, sum) = self.arena.progress(segment);
                item::checksum(&self.arena, segment, before_bytes, used_bytes, sum)
            } else {
                0
            };
            self.arena.set_progress(segment, used_bytes, sum);
        }
    }

    /// Notes that an item whose head is at `at` ends at `expiry`. The item must be in sight of who
    /// [sweeps](Space::start_sweep) by then, for who sweeps takes notice of what is noted before.
    pub(super) fn note_expiry(&self, at: Location, expiry: Seconds) {
        let first = &self.gauge(at).first_expiry;
        if expiry != 0 && expiry < first.load(Ordering::Relaxed) {
            first.fetch_min(expiry, Ordering::Release);
        }
    }

    /// Counts an entry as dead. Returns `true` if it was the last one of a sealed segment, which is
    /// retired at once; the caller then hands it to the epoch.
    pub(super) fn remove_live(&self, at: Location, bytes: usize) -> bool {
        let bytes = u32::try_from(bytes).expect("within a segment");
        let before = self.gauge(at).live_bytes.fetch_sub(bytes, Ordering::AcqRel);
        debug_assert!(before >= bytes);
        before == bytes && self.retire_if_empty(&mut lock(&self.pool), self.arena.segment_of(at))
    }

    /// The queue of an entry's segment.
    pub(super) fn queue_of(&self, at: Location) -> Queue {
        match self.gauge(at).queue.load(Ordering::Relaxed) {
            0 => Queue::Probation,
            _ => Queue::Main,
        }
    }

    /// The segment whose items are judged next.
    pub(super) fn next_in_line(&self) -> Option<SegmentId> {
        lock(&self.pool).queues.next(self.segments_allowed())
    }

    /// Reads the gauges of all sealed segments.
    pub(super) fn survey(&self, now: Seconds) -> Survey {
        let mut survey = Survey::default();
        let mut dead_max = self.capacity() / DEAD_PART_MIN - 1;
        for (segment, gauge) in self.used_gauges() {
            let used_bytes = gauge.used_bytes.load(Ordering::Relaxed) as usize;
            if used_bytes == 0 {
                continue;
            }
            let live_bytes = gauge.live_bytes.load(Ordering::Relaxed) as usize;
            let dead_bytes = (used_bytes - FIRST_ENTRY).saturating_sub(live_bytes);
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

    /// Notes that whatever is in any segment now has been flushed.
    pub(super) fn note_flush(&self) {
        for (_, gauge) in self.used_gauges() {
            gauge.first_expiry.store(FLUSHED, Ordering::Relaxed);
        }
    }

    /// Takes a sealed segment out, to be cleared. `None` if it is not sealed any more.
    pub(super) fn start_clearing(&self, segment: SegmentId) -> Option<Clearing> {
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
    pub(super) fn stop_clearing(&self, clearing: &Clearing) -> bool {
        let mut pool = lock(&self.pool);
        let Walk { segment, end, .. } = clearing.walk;
        assert_eq!(pool.segments[segment as usize].state, State::Clearing);
        self.enqueue(&mut pool, segment, end)
    }

    /// Puts a segment that was taken out back, whole, at the end of the main queue. Returns `true`
    /// if it had become empty, as [`Space::seal`] does.
    pub(super) fn admit(&self, clearing: &Clearing) -> bool {
        let mut pool = lock(&self.pool);
        let Walk { segment, end, .. } = clearing.walk;
        pool.queues.close(clearing.queue);
        pool.queues.open(Queue::Main);
        pool.segments[segment as usize].rank = pool.opened;
        self.enter_main(&mut pool, segment);
        self.enqueue(&mut pool, segment, end)
    }

    /// The segments in which an item's time may be over.
    pub(super) fn due(&self, now: Seconds) -> Vec<SegmentId> {
        let is_due = |gauge: &Gauge| gauge.first_expiry.load(Ordering::Relaxed) <= now;
        let due = self.used_gauges().filter(|(_, gauge)| is_due(gauge));
        due.map(|(segment, _)| segment).collect()
    }

    /// The way through a segment for one who takes dead items out of it where it is, even while it
    /// is being filled. Its end has to be [set](Space::resume_sweep) under each guard. `None` if it
    /// is not in use, or about to be cleared.
    pub(super) fn start_sweep(&self, segment: SegmentId) -> Option<Walk> {
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
    pub(super) fn resume_sweep(&self, walk: &mut Walk, _guard: &Guard) -> bool {
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
    pub(super) fn finish_sweep(&self, walk: &Walk, due: Seconds) {
        let first_expiry = &self.gauges[walk.segment as usize].first_expiry;
        first_expiry.fetch_min(due, Ordering::Relaxed);
    }

    /// Ends the clearing: nothing in the segment is in the index any more. (Who took it out of
    /// there may still be about to count it as dead, but is pinned.) The caller hands the segment
    /// to the epoch.
    pub(super) fn retire_cleared(&self, segment: SegmentId) {
        let mut pool = lock(&self.pool);
        assert_eq!(pool.segments[segment as usize].state, State::Clearing);
        self.retire(&mut pool, segment);
    }

    /// Makes a retired segment free as soon as every reader that could hold a location in it has
    /// gone. The guard belongs to the epoch of the index whose readers these are, and nothing in
    /// that index names an entry of the segment any more.
    pub(super) fn free_after_readers(self: &Arc<Self>, segment: SegmentId, guard: &Guard) {
        let space = Arc::clone(self);
        guard.defer(move || space.give_back(segment));
        // Out of this thread's own list: nobody else could free it there, and this thread may have
        // nothing to do for hours.
        guard.flush();
    }

    fn give_back(&self, segment: SegmentId) {
        let mut pool = lock(&self.pool);
        assert_eq!(pool.segments[segment as usize].state, State::Retired);
        assert_eq!(self.gauges[segment as usize].live_bytes.load(Ordering::Acquire), 0);
        pool.retired -= 1;
        if self.is_lent(segment) {
            pool.segments[segment as usize].state = State::Lent;
            pool.lent += 1;
            self.note_taken(&pool);
        } else {
            self.free(&mut pool, segment);
        }
    }

    /// Lets a segment be used again that nobody looks at and nobody has.
    fn free(&self, pool: &mut Pool, segment: SegmentId) {
        self.gauges[segment as usize].first_expiry.store(NEVER, Ordering::Relaxed);
        // SAFETY: it was in use until now, and is not yet free to others.
        unsafe { self.arena.clear_header(segment) };
        pool.segments[segment as usize].state = State::Free;
        pool.in_use -= 1;
        self.note_taken(pool);
        let resident = pool.in_use as usize + pool.warm.len();
        if resident >= self.segments_allowed() as usize {
            // SAFETY: by the caller's word no reader and no writer is left.
            unsafe { self.arena.release(segment) };
            pool.segments[segment as usize].state = State::Released;
            pool.cold.push(segment);
        } else {
            pool.warm.push(segment);
        }
    }

    /// The next live entry of a segment that is being cleared or swept, with the item that it is
    /// part of. The guard is that of the one who does so.
    ///
    /// Whoever kills an item marks its fragments dead before its head's segment can be retired. So
    /// a fragment that is seen alive under a guard has a head whose segment is not used again
    /// before the guard is gone.
    pub(super) fn next_live_entry<'g>(
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

    /// Segments open, sealed or retired.
    pub(super) fn in_use(&self) -> u32 {
        lock(&self.pool).in_use
    }

    /// Bytes of the segments in use that hold nothing live, where the items in the index take
    /// `items_bytes`.
    pub(super) fn dead_bytes(&self, items_bytes: u64) -> u64 {
        let in_use = u64::from(self.in_use()) * self.capacity() as u64;
        in_use.saturating_sub(items_bytes)
    }

    /// Bytes of entries that the limit leaves room for beside the index.
    pub(super) fn bytes_allowed(&self) -> u64 {
        u64::from(self.segments_allowed()) * self.capacity() as u64
    }

    /// How many segments the limit leaves room for beside the index.
    pub(super) fn segments_allowed(&self) -> u32 {
        let other = self.other_bytes.load(Ordering::Relaxed);
        let bytes = self.present_bytes.load(Ordering::Relaxed).saturating_sub(other);
        u32::try_from(bytes >> self.arena.segment_bytes().ilog2())
            .unwrap_or(u32::MAX)
            .clamp(SEGMENTS_MIN, self.arena.segments() - SEGMENTS_BEYOND_LIMIT)
    }

    fn open(&self, pool: &mut Pool, queue: Queue, rank: Option<u64>) -> Option<SegmentId> {
        let segment = self.free_segment(pool)?;
        let index = segment as usize;
        pool.opened += 1;
        pool.in_use += 1;
        pool.queues.open(queue);
        let opened = pool.opened;
        let rank = rank.unwrap_or(opened);
        pool.segments[index] = Segment { state: State::Open, queue, rank, opened };
        let capacity = u32::try_from(self.capacity()).expect("within a segment");
        self.gauges[index].live_bytes.store(capacity, Ordering::Relaxed);
        self.gauges[index].first_expiry.store(NEVER, Ordering::Relaxed);
        self.gauges[index].queue.store(u32::from(queue == Queue::Main), Ordering::Relaxed);
        let label = Label { opened, rank, is_main: queue == Queue::Main };
        // SAFETY: a free segment belongs to nobody; from here on it is the caller's.
        unsafe { self.arena.write_header(segment, label, item::first_checksum(segment, opened)) };
        self.note_taken(pool);
        self.release_beyond_limit(pool);
        Some(segment)
    }

    /// Takes a free segment, whose memory is there to be written to.
    fn free_segment(&self, pool: &mut Pool) -> Option<SegmentId> {
        if let Some(segment) = pool.warm.pop() {
            return Some(segment);
        }
        let segment = pool.cold.last().copied().unwrap_or(pool.fresh);
        if segment == self.arena.segments() {
            return None;
        }
        if !self.arena.prepare(segment) {
            // Nowhere to write to: until the limit is set anew, what there is must do.
            let taken_bytes = pool.in_use as usize * self.arena.segment_bytes()
                + self.other_bytes.load(Ordering::Relaxed);
            self.present_bytes.fetch_min(taken_bytes, Ordering::Relaxed);
            return None;
        }
        if pool.cold.pop().is_none() {
            self.note_touched(pool, segment);
            pool.fresh += 1;
            self.gauges[segment as usize].first_expiry.store(NEVER, Ordering::Relaxed);
            self.fresh.store(pool.fresh, Ordering::Release);
        }
        Some(segment)
    }

    /// Gives back the pages of free segments that the limit has no room for any more.
    fn release_beyond_limit(&self, pool: &mut Pool) {
        self.release_ahead(pool);
        while pool.in_use as usize + pool.warm.len() > self.segments_allowed() as usize {
            let Some(segment) = pool.warm.pop() else { break };
            // SAFETY: a free segment has no readers and no writer, and it is not free to others
            // while we hold the lock.
            unsafe { self.arena.release(segment) };
            pool.segments[segment as usize].state = State::Released;
            pool.cold.push(segment);
        }
    }

    /// Lets a segment be cleared, or retires it if it is empty.
    fn enqueue(&self, pool: &mut Pool, segment: SegmentId, used_bytes: usize) -> bool {
        let used_bytes = u32::try_from(used_bytes).expect("within a segment");
        let Segment { queue, rank, .. } = pool.segments[segment as usize];
        pool.segments[segment as usize].state = State::Sealed;
        pool.queues.seal(queue, rank, segment);
        self.gauges[segment as usize].used_bytes.store(used_bytes, Ordering::Relaxed);
        self.retire_if_empty(pool, segment)
    }

    /// While there is room for everybody, nobody is on probation.
    fn pass_while_there_is_room(&self, pool: &mut Pool) {
        let allowed = self.segments_allowed();
        if allowed.saturating_sub(pool.in_use) <= 2 * self.reserve() {
            return;
        }
        while let Some(segment) = pool.queues.pass(allowed) {
            self.enter_main(pool, segment);
        }
    }

    /// Has a segment be one of the main queue's.
    fn enter_main(&self, pool: &mut Pool, segment: SegmentId) {
        let Segment { queue, rank, .. } = &mut pool.segments[segment as usize];
        *queue = Queue::Main;
        self.gauges[segment as usize].queue.store(1, Ordering::Relaxed);
        self.arena.set_place(segment, true, *rank);
    }

    /// The last of `seal` and `remove_live` to pass through the pool's lock sees that the segment
    /// is both sealed and empty.
    fn retire_if_empty(&self, pool: &mut Pool, segment: SegmentId) -> bool {
        let Segment { state, queue, rank, .. } = pool.segments[segment as usize];
        let gauge = &self.gauges[segment as usize];
        if state != State::Sealed || gauge.live_bytes.load(Ordering::Acquire) != 0 {
            return false;
        }
        gauge.used_bytes.store(0, Ordering::Relaxed);
        pool.queues.take_out(queue, rank, segment);
        self.retire(pool, segment);
        true
    }

    fn retire(&self, pool: &mut Pool, segment: SegmentId) {
        let segment = &mut pool.segments[segment as usize];
        segment.state = State::Retired;
        pool.queues.close(segment.queue);
        pool.retired += 1;
        self.note_taken(pool);
    }

    fn note_taken(&self, pool: &Pool) {
        self.taken.store(pool.in_use - pool.retired, Ordering::Relaxed);
    }

    /// The gauges of all segments that were ever used.
    fn used_gauges(&self) -> impl Iterator<Item = (SegmentId, &Gauge)> {
        let fresh = self.fresh.load(Ordering::Acquire) as usize;
        (0..).zip(&self.gauges[..fresh])
    }

    fn gauge(&self, at: Location) -> &Gauge {
        &self.gauges[self.arena.segment_of(at) as usize]
    }

    /// Checks the table against itself and, where nobody stores anything, the counts against a
    /// recount.
    pub(super) fn check(&self, live_recounted: &[u32]) {
        let pool = lock(&self.pool);
        for (id, (gauge, &recounted)) in (0..).zip(self.gauges.iter().zip(live_recounted)) {
            let counted = gauge.live_bytes.load(Ordering::Relaxed) as usize;
            let unwritten = match pool.segments[id as usize].state {
                // SAFETY: it is in use, and nobody stores anything during a check.
                State::Open => self.arena.segment_bytes() - unsafe { self.arena.progress(id).0 },
                _ => 0,
            };
            assert_eq!(counted, recounted as usize + unwritten, "live bytes of segment {id}");
        }
        let count = |wanted: &[State]| {
            pool.segments.iter().filter(|segment| wanted.contains(&segment.state)).count()
        };
        let free = count(&[State::Free, State::Released]);
        let fresh = pool.segments.len() - pool.fresh as usize;
        assert_eq!(free, pool.warm.len() + pool.cold.len() + fresh);
        assert_eq!(pool.segments.len() - free, pool.in_use as usize);
        assert_eq!(count(&[State::Retired]), pool.retired as usize);
        assert_eq!(count(&[State::Lent]), pool.lent as usize);
        assert_eq!(count(&[State::Sealed]), pool.queues.sealed());
        assert_eq!(pool.in_use - pool.retired - pool.lent, pool.queues.count());
        for (id, segment) in (0..).zip(&pool.segments) {
            if segment.state == State::Sealed {
                let used_bytes = self.gauges[id as usize].used_bytes.load(Ordering::Relaxed);
                // SAFETY: a sealed segment's header does not change, and nobody stores anything
                // during a check.
                let (label, progress) = unsafe { (self.arena.label(id), self.arena.progress(id)) };
                let Segment { opened, rank, queue, .. } = *segment;
                assert_eq!(label, Some(Label { opened, rank, is_main: queue == Queue::Main }));
                assert_eq!(progress.0, used_bytes as usize);
            }
        }
    }
}

impl Segment {
    const FREE: Self = Self { state: State::Free, queue: Queue::Probation, rank: 0, opened: 0 };
}

/// What moving may take beyond the limit: the segments that are being filled, and one for a large
/// item.
const SEGMENTS_BEYOND_LIMIT: u32 = 4;

/// By how much a store can outgrow the limit that it started with: addresses are kept for so many
/// times as much memory. A shard of the index can hold that many times its share of items.
pub(super) const GROWTH_MAX: usize = 16;

/// What a slot of the index can address, less the little that is beyond the limit.
pub(super) const ARENA_BYTES_MAX: usize = (8 << LOCATION_BITS) / 16 * 15;

/// By how much a limit that shrinks is lowered at a time.
const LIMIT_STEP_SEGMENTS: usize = 4;

/// However large the index is, so many segments may be in use.
pub(super) const SEGMENTS_MIN: u32 = 4;

/// A segment is worth compacting if at least one byte in this many is dead.
const DEAD_PART_MIN: usize = 16;

/// Later than any moment.
const NEVER: Seconds = Seconds::MAX;

/// Earlier than any moment: a flush has passed over the segment's items.
const FLUSHED: Seconds = 0;
