//! Pages that are had from the system before they are needed, and those among them that turn out
//! not to be: a page that nobody uses counts as resident like any other.
//!
//! The system may take milliseconds to give a huge page, so whoever stores must not be the first to
//! touch it: some huge pages are populated ahead of the segment that was opened last. A huge page
//! is had as a whole, whatever part of it is asked for. Once the memory is full, what the limit
//! leaves no segments for (the index has grown since, or the huge page reaches beyond) goes back.

use super::super::arena::SegmentId;
use super::{Ordering, Pool, Space, lock};

impl Space {
    /// Whether the segments that will be used for the first time next have no pages yet.
    pub(in crate::store) fn wants_pages(&self) -> bool {
        let fresh = self.fresh.load(Ordering::Relaxed);
        let shift = self.arena.segment_bytes().ilog2();
        let (least, most) = (POPULATED_BYTES_MIN >> shift, POPULATED_BYTES_MAX >> shift);
        let ahead = (fresh as usize / POPULATED_PART).clamp(least, most);
        let wanted = fresh + u32::try_from(ahead).expect("small");
        fresh > 0 && self.populated.load(Ordering::Relaxed) < wanted.min(self.segments_allowed())
    }

    /// Populates the next segment that [wants](Space::wants_pages) pages. One thread at a time
    /// does so.
    pub(in crate::store) fn populate_next(&self) {
        let next = self.populated.load(Ordering::Relaxed).max(self.fresh.load(Ordering::Relaxed));
        if next < self.segments_allowed() {
            self.arena.populate(next);
            self.note_touched(&mut lock(&self.pool), next);
        }
        self.populated.store(next + 1, Ordering::Relaxed);
    }

    /// Notes that the system gave pages of a segment that is, or was, fresh.
    pub(super) fn note_touched(&self, pool: &mut Pool, segment: SegmentId) {
        pool.touched = pool.touched.max(self.arena.end_of_huge_page(segment));
    }

    /// Gives back pages of fresh segments that the limit has no room for, from the last down.
    pub(super) fn release_ahead(&self, pool: &mut Pool) {
        let taken = pool.in_use + u32::try_from(pool.warm.len()).expect("no more than segments");
        let room = self.segments_allowed().saturating_sub(taken);
        let end = pool.fresh.saturating_add(room);
        if pool.touched > end {
            pool.released = pool.released.max(pool.touched);
        }
        while pool.touched > end {
            pool.touched -= 1;
            // SAFETY: a fresh segment was never used, and is not open to others while we hold the
            // lock.
            unsafe { self.arena.release(pool.touched) };
        }
    }
}

/// One byte in so many that are in use is populated ahead of its first use, ...
const POPULATED_PART: usize = 16;

/// ... some huge pages at least, ...
const POPULATED_BYTES_MIN: usize = 8 << 20;

/// ... and no more than outlast some tenths of a second in which the system gives few.
const POPULATED_BYTES_MAX: usize = 64 << 20;
