//! Segments that are aside: lent, or being filled with a value that is still arriving.
//!
//! A value that is being sent from where it lies outlasts the batch that found it, so no epoch
//! keeps its segments: a count of loans does. Whoever lends counts under the guard under which he
//! found the item. A segment is given back only when all such guards are gone; the one who gives it
//! back then sees every loan, and leaves the segment to whoever returns the last.
//!
//! What is lent can be evicted, overwritten and moved like anything else; only the room that this
//! makes comes later, when the client has read, and what is being filled makes no room at all. So
//! both together may be no more than three quarters of what the limit allows, and nothing further
//! is received beyond a half. A segment counts as lent from the first loan on, though nobody may
//! have missed it yet.

use super::super::arena::{Location, SegmentId};
use super::{Ordering, Queue, Space, State, lock};

impl Space {
    /// How many segments are aside.
    pub(in crate::store) fn aside(&self) -> u32 {
        self.aside.load(Ordering::Relaxed)
    }

    /// Whether so many more may be lent. (Threads that ask at the same time may all be told so.)
    pub(in crate::store) fn may_lend(&self, segments: usize) -> bool {
        let most = self.segments_allowed() / 4 * 3;
        (self.aside() as usize).saturating_add(segments) <= most as usize
    }

    /// Whether one more may be filled with what arrives.
    pub(in crate::store) fn may_receive(&self) -> bool {
        self.aside() < self.segments_allowed() / 2
    }

    /// Counts a loan of what lies in a segment. The caller has found it there under a guard that is
    /// not gone yet.
    pub(in crate::store) fn lend(&self, segment: SegmentId) {
        if self.loans[segment as usize].fetch_add(1, Ordering::Relaxed) == 0 {
            self.aside.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Ends a loan.
    pub(in crate::store) fn return_loan(&self, segment: SegmentId) {
        // What was read from the segment was read before whoever uses it next sees the count.
        if self.loans[segment as usize].fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        self.aside.fetch_sub(1, Ordering::Relaxed);
        let mut pool = lock(&self.pool);
        // Somebody may have lent of it again, or have been faster to find that nobody has.
        if pool.segments[segment as usize].state == State::Lent && !self.is_lent(segment) {
            pool.lent -= 1;
            self.free(&mut pool, segment);
        }
    }

    pub(super) fn is_lent(&self, segment: SegmentId) -> bool {
        self.loans[segment as usize].load(Ordering::Acquire) > 0
    }

    /// Has who finds the file know that the entry at `at` fills the caller's segment.
    pub(in crate::store) fn note_filled(&self, at: Location) {
        self.arena.set_written(self.arena.segment_of(at), self.arena.segment_bytes());
    }

    /// Counts a segment that the caller has opened to fill it with what arrives.
    pub(in crate::store) fn put_aside(&self) {
        self.aside.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts it no more: what it holds is an item like others now.
    pub(in crate::store) fn end_aside(&self, segments: u32) {
        self.aside.fetch_sub(segments, Ordering::Relaxed);
    }

    /// Gives up an open segment of the caller's own that never held anything that others could
    /// find.
    pub(in crate::store) fn abandon(&self, segment: SegmentId) {
        let mut pool = lock(&self.pool);
        assert_eq!(pool.segments[segment as usize].state, State::Open);
        let queue: Queue = pool.segments[segment as usize].queue;
        pool.queues.close(queue);
        self.gauges[segment as usize].live_bytes.store(0, Ordering::Relaxed);
        self.free(&mut pool, segment);
    }
}
