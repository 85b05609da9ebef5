//! What stays and what goes: S3-FIFO (Yang et al., SOSP 2023), over segments. Plain code, without
//! threads, atomics or memory.
//!
//! ```text
//!             stored                 used at least once
//!            -------->  probation  ---------------------->  main  <---.
//!                           |                                |  |      | used since: once less
//!          not used: a ghost'                       not used'   '------'
//! ```
//!
//! New items lie on probation, in about a tenth of the memory, long enough to show whether they are
//! wanted: most keys are asked for once. A key that is stored again while its ghost is remembered
//! was wanted after all and needs no second proof. Both queues are first in, first out; an item is
//! judged when it comes to the end of its queue, and not before, so that a hit moves nothing.

use super::arena::SegmentId;
use super::index::FREQUENCY_MAX;
use std::collections::BTreeSet;

/// A queue of segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    Probation,
    Main,
}

/// What becomes of an item at the end of its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes on in the main queue with this frequency.
    Keep { frequency: u8 },
    /// It is evicted and leaves a ghost.
    Remember,
    /// It is evicted.
    Forget,
}

/// The segments of both queues.
#[derive(Debug, Default)]
pub(super) struct Queues {
    probation: Members,
    main: Members,
}

#[derive(Debug, Default)]
struct Members {
    /// Segments that may be cleared, by their place in the queue: the first is the next.
    sealed: BTreeSet<(u64, SegmentId)>,
    /// These, and those that are being filled.
    count: u32,
}

/// Judges an item at the end of its queue.
pub(super) fn judge(queue: Queue, frequency: u8) -> Verdict {
    match (queue, frequency) {
        (Queue::Probation, 0) => Verdict::Remember,
        (Queue::Probation, _) => Verdict::Keep { frequency: 0 },
        (Queue::Main, 0) => Verdict::Forget,
        (Queue::Main, uses) => Verdict::Keep { frequency: uses - 1 },
    }
}

/// The frequency of a new item of so many bytes, where `allowed_bytes` may be in use. What takes up
/// too much of the probation would leave it before anybody could ask for it; it is admitted without
/// proof.
pub(super) fn stored(bytes: u64, allowed_bytes: u64) -> u8 {
    let probation_bytes = allowed_bytes / u64::from(PROBATION_PART);
    if bytes > probation_bytes / LARGE_PART { ADMITTED } else { 0 }
}

/// The frequency of an item that takes the place of one in `queue`. It begins on probation like any
/// other, but what was admitted to the main queue need not prove itself again.
pub(super) fn overwritten(queue: Queue, frequency: u8) -> u8 {
    match queue {
        Queue::Probation => frequency,
        Queue::Main => frequency.max(ADMITTED),
    }
}

/// Whether a ghost still counts after `age` other items became ghosts, where the store has `items`:
/// as many are remembered as there are items.
pub(super) fn is_remembered(age: u64, items: u64) -> bool {
    age <= items
}

impl Queues {
    /// Counts a segment that is being filled.
    pub(super) fn open(&mut self, queue: Queue) {
        self.of(queue).count += 1;
    }

    /// A segment of the queue is full, or is put back: from now on it may be cleared.
    pub(super) fn seal(&mut self, queue: Queue, rank: u64, segment: SegmentId) {
        self.of(queue).sealed.insert((rank, segment));
    }

    /// Takes a sealed segment out, to be cleared, or because it is empty.
    pub(super) fn take_out(&mut self, queue: Queue, rank: u64, segment: SegmentId) {
        self.of(queue).sealed.remove(&(rank, segment));
    }

    /// A segment that was taken out is empty.
    pub(super) fn close(&mut self, queue: Queue) {
        self.of(queue).count -= 1;
    }

    /// The segment whose items are judged next, where `allowed` segments may be in use.
    pub(super) fn next(&self, allowed: u32) -> Option<SegmentId> {
        let (first, second) = if self.probation.count > probation_segments(allowed) {
            (&self.probation, &self.main)
        } else {
            (&self.main, &self.probation)
        };
        first.sealed.first().or(second.sealed.first()).map(|&(_, segment)| segment)
    }

    /// Has the oldest segment of an overlong probation pass to the main queue unjudged, as is right
    /// while there is room for everybody. Gives that segment.
    pub(super) fn pass(&mut self, allowed: u32) -> Option<SegmentId> {
        if self.probation.count <= probation_segments(allowed) {
            return None;
        }
        let passed = self.probation.sealed.pop_first()?;
        self.probation.count -= 1;
        self.main.count += 1;
        self.main.sealed.insert(passed);
        Some(passed.1)
    }

    /// The sealed segments that lie near this place in a queue: no more than a sixteenth of its
    /// length away.
    pub(super) fn near(&self, queue: Queue, rank: u64) -> impl Iterator<Item = SegmentId> {
        let sealed = match queue {
            Queue::Probation => &self.probation.sealed,
            Queue::Main => &self.main.sealed,
        };
        let [first, last] = [sealed.first(), sealed.last()].map(|end| end.map_or(0, |end| end.0));
        let reach = (last - first) / NEAR_PART;
        let (from, to) = (rank.saturating_sub(reach), rank.saturating_add(reach));
        sealed.range((from, 0)..=(to, SegmentId::MAX)).map(|&(_, segment)| segment)
    }

    /// The number of sealed segments.
    pub(super) fn sealed(&self) -> usize {
        self.probation.sealed.len() + self.main.sealed.len()
    }

    /// The number of segments, sealed or being filled or cleared.
    pub(super) fn count(&self) -> u32 {
        self.probation.count + self.main.count
    }

    fn of(&mut self, queue: Queue) -> &mut Members {
        match queue {
            Queue::Probation => &mut self.probation,
            Queue::Main => &mut self.main,
        }
    }
}

fn probation_segments(allowed: u32) -> u32 {
    (allowed / PROBATION_PART).max(1)
}

/// The frequency of an item that is admitted to the main queue as soon as it comes to the end of
/// its probation.
pub(super) const ADMITTED: u8 = 1;

/// An item is large if it takes more than a fourth of the probation.
const LARGE_PART: u64 = 4;

/// What is no more than one part in so many of a queue apart is near.
const NEAR_PART: u64 = 16;

/// One segment in so many is for probation.
const PROBATION_PART: u32 = 10;

const _: () = assert!(ADMITTED <= FREQUENCY_MAX);

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    #[test]
    fn an_item_is_judged_by_its_uses() {
        assert_eq!(judge(Queue::Probation, 0), Verdict::Remember);
        assert_eq!(judge(Queue::Probation, 1), Verdict::Keep { frequency: 0 });
        assert_eq!(judge(Queue::Probation, 3), Verdict::Keep { frequency: 0 });
        assert_eq!(judge(Queue::Main, 3), Verdict::Keep { frequency: 2 });
        assert_eq!(judge(Queue::Main, 1), Verdict::Keep { frequency: 0 });
        assert_eq!(judge(Queue::Main, 0), Verdict::Forget);
    }

    #[test]
    fn a_large_item_needs_no_proof() {
        assert_eq!(stored(100, 8000), 0);
        assert_eq!(stored(201, 8000), ADMITTED);
    }

    #[test]
    fn an_overwritten_item_keeps_what_it_has_earned() {
        assert_eq!(overwritten(Queue::Probation, 0), 0);
        assert_eq!(overwritten(Queue::Probation, 2), 2);
        assert_eq!(overwritten(Queue::Main, 0), ADMITTED);
        assert_eq!(overwritten(Queue::Main, 3), 3);
    }

    #[test]
    fn probation_is_cleared_first_while_it_is_more_than_a_tenth() {
        let mut queues = Queues::default();
        assert_eq!(queues.next(20), None);
        for (queue, rank) in [(Queue::Main, 7), (Queue::Probation, 9), (Queue::Main, 3)] {
            queues.open(queue);
            queues.seal(queue, rank, u32::try_from(rank).expect("small"));
        }
        assert_eq!(queues.next(20), Some(3), "the oldest of the main queue");
        queues.open(Queue::Probation);
        queues.open(Queue::Probation);
        assert_eq!(queues.next(20), Some(9), "what is being filled counts");
        queues.take_out(Queue::Probation, 9, 9);
        assert_eq!(queues.next(20), Some(3), "it cannot be cleared");
        queues.close(Queue::Probation);
        assert_eq!(queues.next(20), Some(3));
    }

    #[test]
    fn near_is_no_more_than_a_sixteenth_of_a_queue_away() {
        let mut queues = Queues::default();
        assert_eq!(queues.near(Queue::Main, 7).count(), 0);
        for rank in 0..=64 {
            queues.open(Queue::Main);
            queues.seal(Queue::Main, 100 + rank, u32::try_from(rank).expect("small"));
        }
        let near = |queue, rank| queues.near(queue, rank).collect::<Vec<_>>();
        assert_eq!(near(Queue::Main, 130), (26..=34).collect::<Vec<_>>());
        assert_eq!(near(Queue::Main, 99), [0, 1, 2, 3]);
        assert_eq!(near(Queue::Main, 3), []);
        assert_eq!(near(Queue::Probation, 130), []);
    }

    #[test]
    fn an_overlong_probation_passes_in_order_and_keeps_its_tenth() {
        let mut queues = Queues::default();
        for rank in 1..=5 {
            queues.open(Queue::Probation);
            queues.seal(Queue::Probation, rank, u32::try_from(rank).expect("small"));
        }
        let passed: Vec<_> = std::iter::from_fn(|| queues.pass(20)).collect();
        assert_eq!(passed, [1, 2, 3]);
        assert_eq!((queues.next(20), queues.next(10)), (Some(1), Some(4)));
        assert_eq!((queues.count(), queues.sealed()), (5, 5));
    }

    /// Ten segments of two items: what a trace leaves behind, worked out by hand.
    #[test]
    fn what_is_asked_for_once_does_not_drive_out_what_is_asked_for_again() {
        let mut cache = Cache::default();
        for key in ["a", "b", "c", "d"] {
            cache.put(key);
            cache.get(key);
        }
        let once: Vec<String> = (0..40).map(|number| number.to_string()).collect();
        once.iter().for_each(|key| cache.put(key));
        assert_eq!(cache.keys(Queue::Main), ["a", "b", "c", "d"]);
        assert_eq!(cache.evicted.len(), 40 + 4 - 20);
        assert_eq!(cache.evicted.first(), Some(&"0".to_owned()));
        // What is on probation now is used; of the main queue, which grows full, nothing is.
        once[24..].iter().for_each(|key| cache.get(key));
        for number in 100..140 {
            cache.put(&number.to_string());
        }
        let kept = ["c", "d"].into_iter().chain(once[24..].iter().map(String::as_str));
        assert_eq!(cache.keys(Queue::Main), kept.collect::<Vec<_>>());
    }

    /// The least that a store does with the policy: segments of two items, ten of them.
    #[derive(Default)]
    struct Cache {
        queues: Queues,
        segments: Vec<(Queue, VecDeque<(String, u8)>)>,
        evicted: Vec<String>,
    }

    impl Cache {
        fn put(&mut self, key: &str) {
            self.append(Queue::Probation, key, 0);
            while self.queues.count() > SEGMENTS {
                self.clear();
            }
        }

        fn get(&mut self, key: &str) {
            let items = self.segments.iter_mut().flat_map(|(_, items)| items);
            for (_, frequency) in items.filter(|(name, _)| name == key) {
                *frequency = (*frequency + 1).min(FREQUENCY_MAX);
            }
        }

        fn keys(&self, queue: Queue) -> Vec<&str> {
            let segments = self.segments.iter().filter(|(of, _)| *of == queue);
            segments.flat_map(|(_, items)| items).map(|(key, _)| key.as_str()).collect()
        }

        fn append(&mut self, queue: Queue, key: &str, frequency: u8) {
            let newest = self.segments.iter_mut().rfind(|(of, _)| *of == queue);
            match newest {
                Some((_, items)) if items.len() == 1 => {
                    items.push_back((key.to_owned(), frequency));
                    let segment = self.segments.iter().rposition(|(of, _)| *of == queue);
                    let segment = u32::try_from(segment.expect("just found")).expect("small");
                    self.queues.seal(queue, u64::from(segment), segment);
                }
                _ => {
                    self.queues.open(queue);
                    self.segments.push((queue, VecDeque::from([(key.to_owned(), frequency)])));
                }
            }
        }

        fn clear(&mut self) {
            let segment = self.queues.next(SEGMENTS).expect("one is sealed");
            let (queue, items) = &mut self.segments[segment as usize];
            let (queue, items) = (*queue, std::mem::take(items));
            self.queues.take_out(queue, u64::from(segment), segment);
            self.queues.close(queue);
            for (key, frequency) in items {
                match judge(queue, frequency) {
                    Verdict::Keep { frequency } => self.append(Queue::Main, &key, frequency),
                    Verdict::Remember | Verdict::Forget => self.evicted.push(key),
                }
            }
        }
    }

    const SEGMENTS: u32 = 10;
}
