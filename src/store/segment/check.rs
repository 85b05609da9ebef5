//! The table of segments held to a recount.

use super::super::arena::Label;
use super::super::policy::Queue;
use super::{Segment, Space, State};
use crate::sync::{Ordering, lock};

impl Space {
    /// Checks the table against itself and, where nobody stores anything, the counts against a
    /// recount.
    pub(in crate::store) fn check(&self, live_recounted: &[u32]) {
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
