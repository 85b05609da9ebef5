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
//! # The budget
//!
//! The arena is a little larger than the memory limit; what is in use is not. Segments in use plus
//! the bytes of the index stay within the limit: when the index grows, fewer segments may be in
//! use, and what a segment leaves behind goes back to the system.

use super::arena::{Arena, FIRST_ENTRY, Location, SEGMENT_MAGIC, SegmentHeader, SegmentId};
use super::item::{self, Entry, Item};
use crate::clock::Seconds;
use crate::sync::{AtomicU32, AtomicUsize, Mutex, Ordering, lock};
use crossbeam_epoch::Guard;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// All segments of a store. Shared, and kept alive by whatever waits for its readers to go.
#[derive(Debug)]
pub(super) struct Space {
    pub(super) arena: Arena,
    live_bytes: Box<[AtomicU32]>,
    /// No item in the segment ends before this second.
    first_expiry: Box<[AtomicU32]>,
    pool: Mutex<Pool>,
    /// Bytes of the limit that are not for segments: the index and the tables of fixed size.
    other_bytes: AtomicUsize,
    memory_bytes: AtomicUsize,
}

/// The plain part.
#[derive(Debug)]
struct Pool {
    /// Free segments whose pages are with us.
    warm: Vec<SegmentId>,
    /// Free segments whose pages are with the system; the lowest last.
    cold: Vec<SegmentId>,
    /// Sealed segments by the order of their opening: the first is the oldest.
    sealed: BTreeMap<u64, SegmentId>,
    state: Box<[State]>,
    /// Segments open, sealed or retired.
    in_use: u32,
    retired: u32,
    opened: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    /// Free, and its pages are with the system, who had them back.
    Released,
    Open {
        sequence: u64,
    },
    Sealed {
        sequence: u64,
        used_bytes: u32,
    },
    /// Taken out by the one who clears it.
    Clearing {
        sequence: u64,
        used_bytes: u32,
    },
    Retired,
}

impl Space {
    /// `other_bytes` is what of the limit is not for segments from the start.
    ///
    /// # Errors
    /// The system refuses the mapping.
    pub(super) fn new(
        memory_bytes: usize,
        segment_shift: u32,
        other_bytes: usize,
    ) -> io::Result<Self> {
        let segments = u32::try_from(memory_bytes >> segment_shift)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "too many segments"))?
            + SEGMENTS_BEYOND_LIMIT;
        let arena = Arena::new(segments, segment_shift)?;
        let pool = Pool {
            warm: Vec::with_capacity(segments as usize),
            cold: (0..segments).rev().collect(),
            sealed: BTreeMap::new(),
            state: (0..segments).map(|_| State::Free).collect(),
            in_use: 0,
            retired: 0,
            opened: 0,
        };
        Ok(Self {
            arena,
            live_bytes: (0..segments).map(|_| AtomicU32::new(0)).collect(),
            first_expiry: (0..segments).map(|_| AtomicU32::new(NEVER)).collect(),
            pool: Mutex::new(pool),
            other_bytes: AtomicUsize::new(other_bytes),
            memory_bytes: AtomicUsize::new(memory_bytes),
        })
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

    /// Changes the memory limit, to at most what the arena has room for: `false` if it is more.
    /// Pages that are now beyond the limit go back to the system, those of segments in use when
    /// they are free.
    pub(super) fn set_memory_bytes(&self, memory_bytes: usize) -> bool {
        let room = (self.arena.segments() - SEGMENTS_BEYOND_LIMIT) as usize;
        if memory_bytes / self.arena.segment_bytes() > room {
            return false;
        }
        let mut pool = lock(&self.pool);
        self.memory_bytes.store(memory_bytes, Ordering::Relaxed);
        while pool.in_use as usize + pool.warm.len() > self.segments_allowed() as usize {
            let Some(segment) = pool.warm.pop() else { break };
            // SAFETY: a free segment has no readers and no writer, and it is not free to others
            // while we hold the lock.
            unsafe { self.arena.release(segment) };
            pool.state[segment as usize] = State::Released;
            pool.cold.push(segment);
        }
        true
    }

    /// The largest item that the limit leaves room for beside what writers have open, with a little
    /// to spare.
    pub(super) fn item_bytes_max(&self) -> usize {
        self.segments_allowed() as usize * self.capacity() / 4 * 3
    }

    /// Opens a free segment if the budget allows one more.
    pub(super) fn take(&self) -> Option<SegmentId> {
        let mut pool = lock(&self.pool);
        if pool.in_use >= self.segments_allowed() {
            return None;
        }
        self.open(&mut pool)
    }

    /// Opens a free segment for what is being moved out of another that will be free soon: the
    /// budget may be passed by the few segments that the arena has beyond the limit. Where a limit
    /// that shrank has left more than that in use, one segment may be opened after the other: as
    /// long as none waits for readers, each is made good by the one that is cleared with it.
    pub(super) fn take_for_move(&self) -> Option<SegmentId> {
        let mut pool = lock(&self.pool);
        let is_beyond = pool.in_use >= self.segments_allowed() + SEGMENTS_BEYOND_LIMIT;
        if is_beyond && pool.retired > 0 {
            return None;
        }
        self.open(&mut pool)
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
        let used_bytes = u32::try_from(used_bytes).expect("within a segment");
        let mut pool = lock(&self.pool);
        let State::Open { sequence } = pool.state[segment as usize] else {
            unreachable!("only an open segment is sealed")
        };
        // SAFETY: until it is in `sealed` below, the segment is the caller's alone.
        unsafe {
            let header = SegmentHeader { magic: SEGMENT_MAGIC, used_bytes, sequence };
            self.arena.write_header(segment, header);
        }
        pool.state[segment as usize] = State::Sealed { sequence, used_bytes };
        pool.sealed.insert(sequence, segment);
        self.retire_if_empty(&mut pool, segment)
    }

    /// Counts an entry of `bytes` as live.
    pub(super) fn add_live(&self, at: Location, bytes: usize) {
        let bytes = u32::try_from(bytes).expect("within a segment");
        self.live_bytes[self.arena.segment_of(at) as usize].fetch_add(bytes, Ordering::Relaxed);
    }

    /// Notes that an item whose head is at `at` ends at `expiry`.
    pub(super) fn note_expiry(&self, at: Location, expiry: Seconds) {
        let first = &self.first_expiry[self.arena.segment_of(at) as usize];
        if expiry != 0 && expiry < first.load(Ordering::Relaxed) {
            first.fetch_min(expiry, Ordering::Relaxed);
        }
    }

    /// Counts an entry as dead. Returns `true` if it was the last one of a sealed segment, which is
    /// retired at once; the caller then hands it to the epoch.
    pub(super) fn remove_live(&self, at: Location, bytes: usize) -> bool {
        let bytes = u32::try_from(bytes).expect("within a segment");
        let segment = self.arena.segment_of(at);
        let before = self.live_bytes[segment as usize].fetch_sub(bytes, Ordering::AcqRel);
        debug_assert!(before >= bytes);
        before == bytes && self.retire_if_empty(&mut lock(&self.pool), segment)
    }

    /// Takes the oldest sealed segment out, to be cleared, if it was opened no later than the
    /// segment of that number.
    pub(super) fn oldest(&self, opened_max: u64) -> Option<SegmentId> {
        let mut pool = lock(&self.pool);
        let (_, &segment) = pool.sealed.range(..=opened_max).next()?;
        pool.start_clearing(segment);
        Some(segment)
    }

    /// Takes the sealed segment with the most dead bytes out, to be cleared, if they are at least
    /// `dead_min`. What was never used does not count: moving does not gain it.
    pub(super) fn deadest(&self, dead_min: usize) -> Option<SegmentId> {
        let mut pool = lock(&self.pool);
        let dead_bytes = |segment: SegmentId| {
            let live = self.live_bytes[segment as usize].load(Ordering::Relaxed) as usize;
            (pool.used_bytes(segment) - FIRST_ENTRY).saturating_sub(live)
        };
        let segment = pool.sealed.values().copied().max_by_key(|&segment| dead_bytes(segment))?;
        if dead_bytes(segment) < dead_min {
            return None;
        }
        pool.start_clearing(segment);
        Some(segment)
    }

    /// Takes a sealed segment out, to be cleared, in which an item's time may be over.
    pub(super) fn lapsed(&self, now: Seconds) -> Option<SegmentId> {
        let mut pool = lock(&self.pool);
        let is_lapsed = |&segment: &SegmentId| {
            self.first_expiry[segment as usize].load(Ordering::Relaxed) <= now
        };
        let segment = pool.sealed.values().copied().find(is_lapsed)?;
        pool.start_clearing(segment);
        Some(segment)
    }

    /// How many segments were ever opened.
    pub(super) fn opened(&self) -> u64 {
        lock(&self.pool).opened
    }

    /// Puts a segment back that could not be cleared. Returns `true` if it had become empty, as
    /// [`Space::seal`] does.
    pub(super) fn stop_clearing(&self, segment: SegmentId) -> bool {
        let mut pool = lock(&self.pool);
        let State::Clearing { sequence, used_bytes } = pool.state[segment as usize] else {
            unreachable!("only a segment that was taken out is put back")
        };
        pool.state[segment as usize] = State::Sealed { sequence, used_bytes };
        pool.sealed.insert(sequence, segment);
        self.retire_if_empty(&mut pool, segment)
    }

    /// Ends the clearing: nothing in the segment is in the index any more. (Who took it out of
    /// there may still be about to count it as dead, but is pinned.) The caller hands the segment
    /// to the epoch.
    pub(super) fn retire_cleared(&self, segment: SegmentId) {
        let mut pool = lock(&self.pool);
        pool.state[segment as usize] = State::Retired;
        pool.retired += 1;
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
        assert_eq!(pool.state[segment as usize], State::Retired);
        assert_eq!(self.live_bytes[segment as usize].load(Ordering::Acquire), 0);
        self.first_expiry[segment as usize].store(NEVER, Ordering::Relaxed);
        pool.state[segment as usize] = State::Free;
        pool.retired -= 1;
        pool.in_use -= 1;
        let resident = pool.in_use as usize + pool.warm.len();
        if resident >= self.segments_allowed() as usize {
            // SAFETY: `free_after_readers` is the only caller, at a time when no reader is left; no
            // writer has a free segment.
            unsafe { self.arena.release(segment) };
            pool.state[segment as usize] = State::Released;
            pool.cold.push(segment);
        } else {
            pool.warm.push(segment);
        }
    }

    /// The live entries of a segment that is being cleared, each with the item that it is part of.
    /// The guard is that of the one who clears it.
    ///
    /// Whoever kills an item marks its fragments dead before its head's segment can be retired. So
    /// a fragment that is seen alive under a guard has a head whose segment is not used again
    /// before the guard is gone.
    pub(super) fn live_entries<'g>(
        &'g self,
        segment: SegmentId,
        _guard: &'g Guard,
    ) -> impl Iterator<Item = (Entry, Item<'g>)> {
        let used_bytes = lock(&self.pool).used_bytes(segment);
        let mut offset = FIRST_ENTRY;
        std::iter::from_fn(move || {
            while offset < used_bytes {
                let at = self.arena.location(segment, offset);
                // SAFETY: entries follow one another without gaps up to `used_bytes`, and a segment
                // that is being cleared is not used again before the one who clears it retires it.
                let entry = unsafe { item::entry_at(&self.arena, at) };
                offset += entry.bytes;
                if !entry.is_dead {
                    // SAFETY: the entry lives, so its head is written and stays in place under the
                    // guard (see above).
                    let item = unsafe { Item::new(&self.arena, entry.head) };
                    return Some((entry, item));
                }
            }
            None
        })
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

    /// How many segments the limit leaves room for beside the index.
    pub(super) fn segments_allowed(&self) -> u32 {
        let other = self.other_bytes.load(Ordering::Relaxed);
        let bytes = self.memory_bytes().saturating_sub(other);
        u32::try_from(bytes / self.arena.segment_bytes())
            .unwrap_or(u32::MAX)
            .clamp(SEGMENTS_MIN, self.arena.segments() - SEGMENTS_BEYOND_LIMIT)
    }

    fn open(&self, pool: &mut Pool) -> Option<SegmentId> {
        let segment = match pool.warm.pop() {
            Some(segment) => segment,
            None => pool.cold.pop()?,
        };
        if pool.state[segment as usize] == State::Released {
            self.arena.take_again(segment);
        }
        pool.opened += 1;
        pool.in_use += 1;
        pool.state[segment as usize] = State::Open { sequence: pool.opened };
        // SAFETY: a free segment belongs to nobody; from here on it is the caller's.
        unsafe {
            let header =
                SegmentHeader { magic: SEGMENT_MAGIC, used_bytes: 0, sequence: pool.opened };
            self.arena.write_header(segment, header);
        }
        Some(segment)
    }

    /// The last of `seal` and `remove_live` to pass through the pool's lock sees that the segment
    /// is both sealed and empty.
    fn retire_if_empty(&self, pool: &mut Pool, segment: SegmentId) -> bool {
        let State::Sealed { sequence, .. } = pool.state[segment as usize] else { return false };
        if self.live_bytes[segment as usize].load(Ordering::Acquire) != 0 {
            return false;
        }
        pool.sealed.remove(&sequence);
        pool.state[segment as usize] = State::Retired;
        pool.retired += 1;
        true
    }

    /// Checks the table against itself and, where nobody stores anything, the counts against a
    /// recount.
    pub(super) fn check(&self, live_recounted: &[u32]) {
        for (segment, &recounted) in live_recounted.iter().enumerate() {
            let counted = self.live_bytes[segment].load(Ordering::Relaxed);
            assert_eq!(counted, recounted, "live bytes of segment {segment}");
        }
        let pool = lock(&self.pool);
        let count = |wanted: fn(&State) -> bool| pool.state.iter().filter(|s| wanted(s)).count();
        let free = count(|s| matches!(s, State::Free | State::Released));
        assert_eq!(free, pool.warm.len() + pool.cold.len());
        assert_eq!(pool.state.len() - free, pool.in_use as usize);
        assert_eq!(count(|s| *s == State::Retired), pool.retired as usize);
        assert_eq!(count(|s| matches!(s, State::Sealed { .. })), pool.sealed.len());
        for (&sequence, &segment) in &pool.sealed {
            let State::Sealed { used_bytes, .. } = pool.state[segment as usize] else {
                panic!("segment {segment} is in the sealed list and {:?}", pool.state)
            };
            // SAFETY: a sealed segment's header does not change, and nobody stores anything during
            // a check.
            let header = unsafe { self.arena.read_header(segment) };
            assert_eq!(header, SegmentHeader { magic: SEGMENT_MAGIC, used_bytes, sequence });
        }
    }
}

impl Pool {
    /// Of a segment that is sealed or being cleared.
    fn used_bytes(&self, segment: SegmentId) -> usize {
        match self.state[segment as usize] {
            State::Sealed { used_bytes, .. } | State::Clearing { used_bytes, .. } => {
                used_bytes as usize
            }
            state => unreachable!("nothing is known of what a segment holds that is {state:?}"),
        }
    }

    fn start_clearing(&mut self, segment: SegmentId) {
        let State::Sealed { sequence, used_bytes } = self.state[segment as usize] else {
            unreachable!("only a sealed segment is cleared")
        };
        self.sealed.remove(&sequence);
        self.state[segment as usize] = State::Clearing { sequence, used_bytes };
    }
}

/// What moving may take beyond the limit: one segment that is being filled, and one for a large
/// item.
const SEGMENTS_BEYOND_LIMIT: u32 = 2;

/// However large the index is, so many segments may be in use.
pub(super) const SEGMENTS_MIN: u32 = 4;

/// Later than any moment.
const NEVER: Seconds = Seconds::MAX;
