//! Making way for an item in a table that has room, only not where the item must lie: others move
//! on within their windows, the one behind before the one in front.
//!
//! # Why a reader that takes no lock misses none of them
//!
//! An item only ever moves to a bucket that comes later in its own window, and is written there
//! before its old slot is written over. A reader looks through the window in order. If it finds the
//! old slot written over, it has, with that, acquired the new place, which it still has to look at.
//! (Whoever looks through a whole table must hold the lock: there, "later" may be before.)

use super::super::tables::Bucket;
use super::slot::{EMPTY, TAG_SHIFT};
use super::{WINDOW_BUCKETS, home, vacant, window};
use crate::sync::{AtomicU64, Ordering};

/// A bucket that room is looked for in.
#[derive(Clone, Copy, Debug)]
struct Step {
    bucket: usize,
    /// From which step, and which slot there, an item could move to this bucket.
    from: Option<(usize, usize)>,
}

/// Empties a slot for a tag, all of whose window is taken, by as few moves as possible. The caller
/// holds the shard's lock.
pub(super) fn make_way(table: &[Bucket], tag: u64) -> Option<&AtomicU64> {
    let window = window(table.len(), home(table.len(), tag), 0);
    let mut steps: Vec<Step> = Vec::with_capacity(STEPS_MAX);
    steps.extend(window.map(|bucket| Step { bucket, from: None }));
    let mut next = 0;
    while next < steps.len() {
        for (number, slot) in table[steps[next].bucket].0.iter().enumerate() {
            let tag = slot.load(Ordering::Relaxed) >> TAG_SHIFT;
            for bucket in later(table.len(), tag, steps[next].bucket) {
                if steps.len() == STEPS_MAX {
                    return None;
                }
                if steps.iter().any(|step| step.bucket == bucket) {
                    continue;
                }
                steps.push(Step { bucket, from: Some((next, number)) });
                if let Some(place) = vacant(&table[bucket]) {
                    return Some(move_along(table, &steps, place));
                }
            }
        }
        next += 1;
    }
    None
}

/// Moves an item of each bucket on the way to the last step to the next, the last first.
fn move_along<'t>(table: &'t [Bucket], steps: &[Step], mut place: &'t AtomicU64) -> &'t AtomicU64 {
    let mut step = steps.last();
    while let Some((from, slot)) = step.and_then(|step| step.from) {
        let left = &table[steps[from].bucket].0[slot];
        // A use that is counted in between is lost, and decides nothing.
        place.store(left.load(Ordering::Relaxed), Ordering::Release);
        place = left;
        step = steps.get(from);
    }
    place.store(EMPTY, Ordering::Release);
    place
}

/// The buckets in which a tag may lie behind this one.
fn later(buckets: usize, tag: u64, bucket: usize) -> impl Iterator<Item = usize> {
    let home = home(buckets, tag);
    let from_home = if bucket < home { bucket + buckets } else { bucket } - home;
    debug_assert!(from_home < WINDOW_BUCKETS);
    window(buckets, home, from_home + 1)
}

/// So many buckets are looked at: the window, and as many as three moves can lead to.
const STEPS_MAX: usize = 4 * WINDOW_BUCKETS - 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::index::slot::LIVE;
    use crate::store::index::{TAG_BITS, vacancy_in};
    use std::collections::BTreeSet;

    /// Whoever looks through the windows in order finds everything, after each insertion.
    #[test]
    fn tables_fill_to_nine_tenths_and_everything_is_found() {
        let table: Vec<Bucket> = (0..64).map(|_| Bucket::default()).collect();
        let mut values = BTreeSet::new();
        let mut random = 1_u64;
        let (mut plain, mut moved) = (0, 0);
        loop {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let tag = random >> (u64::BITS - TAG_BITS);
            let slot = match vacancy_in(&table, tag) {
                Some(slot) => {
                    plain += usize::from(moved == 0);
                    slot
                }
                None => {
                    let Some(slot) = make_way(&table, tag) else { break };
                    moved += 1;
                    slot
                }
            };
            assert_eq!(slot.load(Ordering::Relaxed), EMPTY, "nothing is written over");
            let value = tag << TAG_SHIFT | LIVE | values.len() as u64;
            slot.store(value, Ordering::Relaxed);
            values.insert(value);
            assert!(values.iter().all(|value| is_found(&table, *value)));
        }
        let slots = table.iter().flat_map(|bucket| &bucket.0);
        let held: Vec<_> = slots.map(|slot| slot.load(Ordering::Relaxed)).collect();
        assert_eq!(held.iter().filter(|value| **value != EMPTY).count(), values.len(), "once each");
        assert!(plain < 64 * 8 * 8 / 10, "{plain} before the first had to move");
        assert!(values.len() > 64 * 8 * 17 / 20, "{} in the end", values.len());
    }

    fn is_found(table: &[Bucket], value: u64) -> bool {
        let tag = value >> TAG_SHIFT;
        let mut window = window(table.len(), home(table.len(), tag), 0);
        window
            .any(|bucket| table[bucket].0.iter().any(|slot| slot.load(Ordering::Relaxed) == value))
    }

    #[test]
    fn a_table_of_two_buckets_is_full_when_it_is() {
        let table: Vec<Bucket> = (0..2).map(|_| Bucket::default()).collect();
        for number in 0..16 {
            let slot = vacancy_in(&table, number << 20).expect("there is room for sixteen");
            slot.store(number << 20 << TAG_SHIFT | LIVE, Ordering::Relaxed);
        }
        assert!(vacancy_in(&table, 0).is_none() && make_way(&table, 0).is_none());
    }
}
