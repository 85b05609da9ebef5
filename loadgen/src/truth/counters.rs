//! What has been acknowledged of counters. A counter only grows: when it was evicted or has
//! expired, it is made anew from where it stood, so that an answer that is not above the greatest
//! one acknowledged before its question is wrong.

use std::sync::atomic::{AtomicU64, Ordering};

/// The greatest acknowledged number of each counter.
#[derive(Debug)]
pub struct CounterLedger(Vec<AtomicU64>);

impl CounterLedger {
    /// For counters of the keys 0 to `key_count - 1`.
    #[must_use]
    pub fn new(key_count: u64) -> Self {
        Self((0..key_count).map(|_| AtomicU64::new(0)).collect())
    }

    /// What a number must be above from now on; 0 for counters that are not kept.
    #[must_use]
    pub fn floor(&self, id: u64) -> u64 {
        self.of(id).map_or(0, |number| number.load(Ordering::Acquire))
    }

    /// An increment was answered with `number`.
    pub fn acknowledge(&self, id: u64, number: u64) {
        if let Some(greatest) = self.of(id) {
            greatest.fetch_max(number, Ordering::Release);
        }
    }

    fn of(&self, id: u64) -> Option<&AtomicU64> {
        self.0.get(usize::try_from(id.checked_sub(COUNTER_BASE)?).ok()?)
    }
}

/// The number of the counter that belongs to key 0: counters have keys of their own.
pub const COUNTER_BASE: u64 = 1 << 48;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_only_grows() {
        let ledger = CounterLedger::new(2);
        ledger.acknowledge(COUNTER_BASE + 1, 7);
        ledger.acknowledge(COUNTER_BASE + 1, 5);
        assert_eq!([0, 1, 2].map(|index| ledger.floor(COUNTER_BASE + index)), [0, 7, 0]);
        assert_eq!(ledger.floor(1), 0);
    }
}
