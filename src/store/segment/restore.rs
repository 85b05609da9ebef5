//! The table of segments as a file says it is.

use super::{NEVER, Pool, SEGMENTS_BEYOND_LIMIT, SEGMENTS_MIN, Segment, Space, State};
use crate::clock::Seconds;
use crate::store::arena::{Label, SegmentId};
use crate::store::policy::{Queue, Queues};
use crate::sync::{Ordering, lock};
use std::collections::HashMap;

/// A segment that was found to hold entries.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Restored {
    pub(in crate::store) segment: SegmentId,
    pub(in crate::store) label: Label,
    /// Where its last entry ends.
    pub(in crate::store) end: usize,
    /// When its first item ends.
    pub(in crate::store) first_expiry: Seconds,
}

impl Restored {
    fn queue(&self) -> Queue {
        if self.label.is_main { Queue::Main } else { Queue::Probation }
    }
}

/// Chooses which segments to let go, in the order of eviction, so that those that stay are at most
/// `fit`. Returns the others.
pub(in crate::store) fn beyond(segments: &[Restored], fit: u32) -> Vec<SegmentId> {
    let mut queues = Queues::default();
    for one in segments {
        queues.open(one.queue());
        queues.seal(one.queue(), one.label.rank, one.segment);
    }
    let by_id: HashMap<_, _> = segments.iter().map(|one| (one.segment, one)).collect();
    let mut gone = Vec::new();
    while queues.count() > fit
        && let Some(segment) = queues.next(fit)
    {
        let one = by_id[&segment];
        queues.take_out(one.queue(), one.label.rank, segment);
        queues.close(one.queue());
        gone.push(segment);
    }
    gone
}

impl Space {
    /// How many segments fit the limit, if the index takes so many bytes for the items of each,
    /// with a little to spare.
    pub(in crate::store) fn segments_fit(&self, index_bytes: usize) -> u32 {
        let other_bytes = self.other_bytes.load(Ordering::Relaxed);
        let bytes = self.memory_bytes().saturating_sub(other_bytes);
        let fit = bytes / (self.arena.segment_bytes() + index_bytes);
        let fit = u32::try_from(fit).unwrap_or(u32::MAX).max(SEGMENTS_MIN);
        fit.saturating_add(SEGMENTS_BEYOND_LIMIT)
    }

    /// Counts what lives in a segment that was found.
    pub(in crate::store) fn count_live(&self, segment: SegmentId, live_bytes: usize) {
        let live_bytes = u32::try_from(live_bytes).expect("within a segment");
        self.gauges[segment as usize].live_bytes.store(live_bytes, Ordering::Relaxed);
    }

    /// Takes over the segments that were found, whose live bytes are counted; all others of the
    /// first `in_file` are free. Where more is in use than the limit allows, it is
    /// [approached](Space::approach_limit). Returns the live bytes of all.
    pub(in crate::store) fn restore(&self, found: &[Restored], in_file: u32) -> u64 {
        let mut pool = lock(&self.pool);
        pool.fresh = in_file;
        pool.touched = in_file;
        self.fresh.store(in_file, Ordering::Release);
        pool.opened = found.iter().map(|one| one.label.opened).max().unwrap_or(0);
        let mut live_bytes = 0;
        for one in found {
            let Restored { segment, label, end, first_expiry } = *one;
            let gauge = &self.gauges[segment as usize];
            let live_here = gauge.live_bytes.load(Ordering::Relaxed);
            if live_here == 0 {
                continue;
            }
            live_bytes += u64::from(live_here);
            // A rank is not covered by any checksum, and no segment can be before its time.
            let (queue, rank) = (one.queue(), label.rank.min(pool.opened));
            self.arena.set_place(segment, label.is_main, rank);
            pool.segments[segment as usize] =
                Segment { state: State::Sealed, queue, rank, opened: label.opened };
            gauge
                .used_bytes
                .store(u32::try_from(end).expect("within a segment"), Ordering::Relaxed);
            gauge.first_expiry.store(first_expiry, Ordering::Relaxed);
            gauge.queue.store(u32::from(label.is_main), Ordering::Relaxed);
            pool.queues.open(queue);
            pool.queues.seal(queue, rank, segment);
            pool.in_use += 1;
        }
        self.keep_free(&mut pool, in_file);
        self.note_taken(&pool);
        let taken_bytes = pool.in_use as usize * self.arena.segment_bytes()
            + self.other_bytes.load(Ordering::Relaxed);
        self.present_bytes.fetch_max(taken_bytes, Ordering::Relaxed);
        live_bytes
    }

    /// Has the segments that nothing was found in be free, and gives back the pages of those that
    /// the limit has no room for. The lowest are used first.
    fn keep_free(&self, pool: &mut Pool, in_file: u32) {
        let is_free = |pool: &Pool, segment: &SegmentId| {
            pool.segments[*segment as usize].state == State::Free
        };
        let free: Vec<_> = (0..in_file).filter(|segment| is_free(pool, segment)).collect();
        let room = self.segments_allowed().saturating_sub(pool.in_use) as usize;
        for (number, &segment) in free.iter().enumerate().rev() {
            let is_hole = self.arena.is_hole(segment);
            // SAFETY: nobody knows of this space yet.
            unsafe {
                if !is_hole && self.arena.label(segment).is_some() {
                    self.arena.clear_header(segment);
                }
            }
            self.gauges[segment as usize].first_expiry.store(NEVER, Ordering::Relaxed);
            if !is_hole && number < room && self.arena.prepare(segment) {
                pool.warm.push(segment);
                continue;
            }
            if !is_hole {
                // SAFETY: as above.
                unsafe { self.arena.release(segment) };
            }
            pool.segments[segment as usize].state = State::Released;
            pool.cold.push(segment);
        }
    }
}
