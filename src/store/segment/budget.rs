//! How many segments may be in use, and how many of them should be free.
//!
//! The arena is larger than the memory limit; what is in use is not. Segments in use plus the bytes
//! of the index stay within the limit: when the index grows, fewer segments may be in use, and what
//! a segment leaves behind goes back to the system.

use super::super::index::{LOCATION_BITS, Resized};
use super::{SEGMENTS_BEYOND_LIMIT, Space};
use crate::sync::{Ordering, lock};
use std::io;

impl Space {
    /// How many segments the arena of a store has that can outgrow its limit so many times.
    ///
    /// # Errors
    /// They are too many.
    pub(in crate::store) fn segments_of(
        memory_bytes: usize,
        segment_shift: u32,
        growth: usize,
    ) -> io::Result<u32> {
        let most_bytes = memory_bytes.saturating_mul(growth).min(ARENA_BYTES_MAX);
        let segments = u32::try_from(most_bytes >> segment_shift)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "too many segments"))?;
        Ok(segments + SEGMENTS_BEYOND_LIMIT)
    }

    /// The memory limit.
    pub(in crate::store) fn memory_bytes(&self) -> usize {
        self.memory_bytes.load(Ordering::Relaxed)
    }

    /// Changes the memory limit, to at most what the arena has room for: `false` if it is more. A
    /// larger limit holds at once, a smaller one is [approached](Space::approach_limit).
    pub(in crate::store) fn set_memory_bytes(&self, memory_bytes: usize) -> bool {
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
    pub(in crate::store) fn approach_limit(&self) -> bool {
        let mut pool = lock(&self.pool);
        let (limit, present) = (self.memory_bytes(), self.present_bytes.load(Ordering::Relaxed));
        if present <= limit {
            return false;
        }
        // What is free and still here goes back as slowly: the lock is held meanwhile.
        let ahead = pool.touched.saturating_sub(pool.fresh) as usize;
        let resident = pool.in_use as usize + pool.warm.len() + ahead;
        let taken =
            resident * self.arena.segment_bytes() + self.other_bytes.load(Ordering::Relaxed);
        let step = LIMIT_STEP_SEGMENTS * self.arena.segment_bytes();
        let next = present.min(taken).saturating_sub(step).max(limit);
        self.present_bytes.store(next, Ordering::Relaxed);
        self.release_beyond_limit(&mut pool);
        true
    }

    /// Has the limit that was set hold, though a file system had no room for it a while ago: it may
    /// have now. Who stores next will find out.
    pub(in crate::store) fn retry_limit(&self) {
        self.present_bytes.fetch_max(self.memory_bytes(), Ordering::Relaxed);
    }

    /// Tells the budget that a table of the index has another size now.
    pub(in crate::store) fn index_resized(&self, resized: Resized) {
        self.other_bytes.fetch_add(resized.bytes_added, Ordering::Relaxed);
        self.other_bytes.fetch_sub(resized.bytes_removed, Ordering::Relaxed);
    }

    /// How many segments the limit leaves room for beside the index. They are never too few for all
    /// to store: each writer has one open, and so have those who move what stays.
    pub(in crate::store) fn segments_allowed(&self) -> u32 {
        let other = self.other_bytes.load(Ordering::Relaxed);
        let bytes = self.present_bytes.load(Ordering::Relaxed).saturating_sub(other);
        u32::try_from(bytes >> self.arena.segment_bytes().ilog2())
            .unwrap_or(u32::MAX)
            .max(self.writers.load(Ordering::Relaxed) + SEGMENTS_BESIDE_WRITERS)
            .min(self.arena.segments() - SEGMENTS_BEYOND_LIMIT)
    }

    /// Bytes of entries that the limit leaves room for beside the index.
    pub(in crate::store) fn bytes_allowed(&self) -> u64 {
        u64::from(self.segments_allowed()) * self.capacity() as u64
    }

    /// The largest item that the limit leaves room for beside what writers have open, with a little
    /// to spare.
    pub(in crate::store) fn item_bytes_max(&self) -> usize {
        let segments = self.segments_allowed().saturating_sub(self.aside());
        segments as usize * self.capacity() / 4 * 3
    }

    /// How many segments are free, or will be when their readers have gone. Costs no lock.
    pub(in crate::store) fn spare(&self) -> u32 {
        self.segments_allowed().saturating_sub(self.taken.load(Ordering::Relaxed))
    }

    /// How many segments could be taken now, and how many more when the readers have gone.
    pub(in crate::store) fn available(&self) -> (u32, u32) {
        let pool = lock(&self.pool);
        let allowed = self.segments_allowed();
        (allowed.saturating_sub(pool.in_use), allowed.saturating_sub(pool.in_use - pool.retired))
    }

    /// Whether more will be in use than is allowed even when the readers have gone.
    pub(in crate::store) fn is_beyond_limit(&self) -> bool {
        let pool = lock(&self.pool);
        pool.in_use - pool.retired > self.segments_allowed()
    }

    /// Counts one who stores.
    pub(in crate::store) fn add_writer(&self) {
        self.writers.fetch_add(1, Ordering::Relaxed);
    }

    /// One who stores has gone.
    pub(in crate::store) fn remove_writer(&self) {
        self.writers.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many segments should be free ahead of need: one for every second writer, and two more.
    pub(in crate::store) fn reserve(&self) -> u32 {
        let wanted = self.writers.load(Ordering::Relaxed) / 2 + 2;
        wanted.min(self.segments_allowed() / RESERVE_PART).max(1)
    }
}

/// Maps what a store needs that can outgrow its limit so many times, or that cannot if the system
/// refuses: a process may be limited in its addresses, and a system that promises nobody more than
/// it has counts them as memory, so that as many as can be had would be too many for others.
///
/// # Errors
/// Those of `map`, when there is no room even for a store that cannot.
pub(in crate::store) fn map_with_growth<T>(map: impl Fn(usize) -> io::Result<T>) -> io::Result<T> {
    match map(GROWTH_MAX) {
        Err(error) if error.kind() == io::ErrorKind::OutOfMemory => map(1),
        mapped => mapped,
    }
}

/// By how much a store can outgrow the limit that it started with: addresses are kept for so many
/// times as much memory. A shard of the index can hold that many times its share of items.
const GROWTH_MAX: usize = 16;

/// What a slot of the index can address, less the little that is beyond the limit.
pub(in crate::store) const ARENA_BYTES_MAX: usize = (8 << LOCATION_BITS) / 16 * 15;

/// What a store begins with at least.
pub(in crate::store) const SEGMENTS_MIN: u32 = 4;

/// However large the index is, so many segments may be in use beside those that writers fill: three
/// are filled with what is moved, one is cleared, and one is to be had.
const SEGMENTS_BESIDE_WRITERS: u32 = 5;

/// At most a segment in so many is kept in reserve.
const RESERVE_PART: u32 = 16;

/// By how much a limit that shrinks is lowered at a time.
const LIMIT_STEP_SEGMENTS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::arena::Arena;

    #[test]
    fn a_limit_that_a_full_disk_lowered_is_tried_again() {
        let arena = Arena::new(64, 12).expect("mapped");
        let space = Space::new(arena, 32 << 12, 0);
        space.present_bytes.store(10 << 12, Ordering::Relaxed);
        assert_eq!(space.segments_allowed(), 10);
        space.retry_limit();
        assert_eq!(space.segments_allowed(), 32);
        space.present_bytes.store(40 << 12, Ordering::Relaxed);
        space.retry_limit();
        assert_eq!(space.segments_allowed(), 40, "one that shrinks goes on shrinking");
    }

    #[test]
    fn what_is_free_goes_back_in_steps() {
        let arena = Arena::new(64, 12).expect("mapped");
        let space = Space::new(arena, 60 << 12, 0);
        let taken: Vec<_> = std::iter::from_fn(|| space.take()).collect();
        for segment in taken {
            space.free(&mut lock(&space.pool), segment);
        }
        let warm = || lock(&space.pool).warm.len();
        assert_eq!(warm(), 60);
        assert!(space.set_memory_bytes(8 << 12));
        let mut before = warm();
        while space.approach_limit() {
            assert!(warm() >= before - LIMIT_STEP_SEGMENTS, "{} of {before}", warm());
            before = warm();
        }
        assert_eq!(before, 8);
    }
}
