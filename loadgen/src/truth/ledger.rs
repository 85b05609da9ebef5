//! What has been acknowledged, key by key, for all threads: the least version that an answer may
//! have.
//!
//! Whoever writes takes the key's next version. When its write is acknowledged, everything that had
//! been settled before the write was sent is superseded for certain; of writes that were under way
//! at the same time nobody knows which came last. So a key remembers the lowest version that was
//! under way when the write began, and that is the floor when it is acknowledged: exact where
//! writes do not overlap, and never above what a truthful server may answer. A delete takes a
//! version like any write, which no value has. A write without an answer stays under way for ever.
//!
//! An answer is stale when its version is below the floor at the time of its question.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::truth::value::Version;

/// The ledger of one run.
#[derive(Debug)]
pub struct Ledger {
    /// Tells the values of this run from those of others; the upper half of every version.
    run: u32,
    key_count: u64,
    slots: Vec<Slot>,
}

/// The keys of one number modulo the key count; of these only the newest generation is in use.
#[derive(Debug, Default)]
struct Slot {
    /// The generation in the upper half, the floor in the lower.
    floor: AtomicU64,
    writes: Mutex<Writes>,
}

#[derive(Debug, Default)]
struct Writes {
    generation: u32,
    issued: u32,
    /// The lowest version under way since there last was none.
    lowest: u32,
    under_way: u32,
}

/// A write under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Write {
    /// What its value says.
    pub version: Version,
    /// What its acknowledgement makes the least version of the key; 0 for keys that nobody shares.
    settles: u32,
}

impl Ledger {
    /// For `key_count` keys; `run` tells its values from those of other runs and machines.
    #[must_use]
    pub fn new(key_count: u64, run: u32) -> Self {
        let slots = (0..key_count).map(|_| Slot::default()).collect();
        Self { run, key_count, slots }
    }

    /// Begins a write of key number `id`.
    pub fn begin(&self, id: u64) -> Write {
        let Some((slot, generation)) = self.slot(id) else {
            return Write { version: self.versioned(1), settles: 0 };
        };
        let mut writes = slot.writes.lock().expect("no holder panics");
        writes.issued = writes.issued.wrapping_add(1);
        let version = self.versioned(writes.issued);
        if generation < writes.generation {
            return Write { version, settles: 0 };
        }
        if generation > writes.generation {
            (writes.generation, writes.under_way) = (generation, 0);
        }
        if writes.under_way == 0 {
            writes.lowest = writes.issued;
        }
        writes.under_way += 1;
        Write { version, settles: writes.lowest }
    }

    /// A write of key number `id` was answered; `applied` tells whether it took effect.
    pub fn settle(&self, id: u64, write: Write, applied: bool) {
        let Some((slot, generation)) = self.slot(id) else { return };
        if write.settles == 0 {
            return;
        }
        let mut writes = slot.writes.lock().expect("no holder panics");
        if generation != writes.generation {
            return;
        }
        writes.under_way -= 1;
        if applied {
            let floor = u64::from(generation) << 32 | u64::from(write.settles);
            slot.floor.fetch_max(floor, Ordering::Release);
        }
    }

    /// The least version that an answer for key number `id` may have from now on.
    #[must_use]
    pub fn floor(&self, id: u64) -> u32 {
        let Some((slot, generation)) = self.slot(id) else { return 0 };
        let floor = slot.floor.load(Ordering::Acquire);
        if floor >> 32 == u64::from(generation) { (floor & 0xFFFF_FFFF) as u32 } else { 0 }
    }

    /// How `version` stands to a floor.
    #[must_use]
    pub fn judge(&self, version: Version, floor: u32) -> Age {
        if version == 0 {
            Age::Untold
        } else if version >> 32 != u64::from(self.run) {
            Age::OtherRun
        } else if version & 0xFFFF_FFFF < u64::from(floor) {
            Age::Stale
        } else {
            Age::Current
        }
    }

    fn versioned(&self, number: u32) -> Version {
        u64::from(self.run) << 32 | u64::from(number)
    }

    /// Where a key is kept, with its generation; keys asked for once are not kept.
    fn slot(&self, id: u64) -> Option<(&Slot, u32)> {
        if id >= crate::workload::traffic::ONE_HIT_BASE {
            return None;
        }
        let (generation, index) = match id < self.key_count {
            true => (0, id),
            false => (u32::try_from(id / self.key_count).ok()?, id % self.key_count),
        };
        Some((self.slots.get(usize::try_from(index).ok()?)?, generation))
    }
}

/// How old an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// As new as it must be.
    Current,
    /// Older than what was acknowledged.
    Stale,
    /// Stored by another run or machine; its order is not known here.
    OtherRun,
    /// Too short to say.
    Untold,
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: u64 = 9 << 32;

    fn ledger() -> Ledger {
        Ledger::new(10, 9)
    }

    #[test]
    fn an_acknowledged_write_makes_older_ones_stale() {
        let ledger = ledger();
        let first = ledger.begin(3);
        ledger.settle(3, first, true);
        let second = ledger.begin(3);
        assert_eq!((first.version, second.version), (RUN + 1, RUN + 2));
        // Until it is acknowledged either may be answered.
        assert_eq!(ledger.judge(first.version, ledger.floor(3)), Age::Current);
        ledger.settle(3, second, true);
        assert_eq!(ledger.judge(first.version, ledger.floor(3)), Age::Stale);
        assert_eq!(ledger.judge(second.version, ledger.floor(3)), Age::Current);
        assert_eq!(ledger.floor(4), 0);
    }

    #[test]
    fn of_writes_that_overlap_either_may_win() {
        let ledger = ledger();
        let (first, second) = (ledger.begin(3), ledger.begin(3));
        ledger.settle(3, second, true);
        ledger.settle(3, first, true);
        for write in [first, second] {
            assert_eq!(ledger.judge(write.version, ledger.floor(3)), Age::Current);
        }
        let third = ledger.begin(3);
        ledger.settle(3, third, true);
        assert_eq!(ledger.judge(second.version, ledger.floor(3)), Age::Stale);
    }

    #[test]
    fn a_write_without_effect_or_answer_settles_nothing() {
        let ledger = ledger();
        let stored = ledger.begin(3);
        ledger.settle(3, stored, true);
        let refused = ledger.begin(3);
        ledger.settle(3, refused, false);
        assert_eq!(ledger.judge(stored.version, ledger.floor(3)), Age::Current);
        let _lost = ledger.begin(3);
        let after = ledger.begin(3);
        ledger.settle(3, after, true);
        // The lost one may still arrive, but what was stored before both is gone.
        assert_eq!(ledger.judge(refused.version, ledger.floor(3)), Age::Stale);
        assert_eq!(ledger.judge(_lost.version, ledger.floor(3)), Age::Current);
    }

    #[test]
    fn a_delete_supersedes_too() {
        let ledger = ledger();
        let stored = ledger.begin(3);
        ledger.settle(3, stored, true);
        let deleted = ledger.begin(3);
        ledger.settle(3, deleted, true);
        assert_eq!(ledger.judge(stored.version, ledger.floor(3)), Age::Stale);
    }

    #[test]
    fn generations_of_a_slot_know_nothing_of_each_other() {
        let ledger = ledger();
        let old = ledger.begin(3);
        let new = ledger.begin(13);
        ledger.settle(13, new, true);
        ledger.settle(3, old, true);
        assert_eq!((ledger.floor(3), ledger.floor(13)), (0, 2));
        let late = ledger.begin(3);
        ledger.settle(3, late, true);
        assert_eq!((ledger.floor(3), ledger.floor(13)), (0, 2));
    }

    #[test]
    fn values_of_other_runs_are_told_apart() {
        let ledger = ledger();
        assert_eq!(ledger.judge(8 << 32 | 1, 5), Age::OtherRun);
        assert_eq!(ledger.judge(0, 5), Age::Untold);
    }
}
