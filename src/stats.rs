//! Figures that the threads keep: each worker its own, summed when somebody asks.
//!
//! A counter has one writer. Starting over would be a second one; it is therefore a matter of
//! remembering what was counted until then.

use crate::counter::Counter;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "these are the names that the figures have on the wire")]
pub enum Count {
    GetHits,
    GetMisses,
    GetExpired,
    GetFlushed,
    TouchHits,
    TouchMisses,
    CmdSet,
    CmdFlush,
    CmdMeta,
    DeleteHits,
    DeleteMisses,
    IncrHits,
    IncrMisses,
    DecrHits,
    DecrMisses,
    CasHits,
    CasMisses,
    CasBadval,
    /// What memcached would have changed in its place.
    ChangedInPlace,
    StoreTooLarge,
    StoreNoMemory,
    BytesRead,
    BytesWritten,
    AuthCmds,
    AuthErrors,
    IdleKicks,
    UdpDropped,
    BuffersOverdrawn,
    ConnYields,
}

/// One worker's counts. They are kept on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counters([Counter; COUNTS]);

impl Counters {
    /// Counts one.
    pub fn count(&self, what: Count) {
        self.add(what, 1);
    }

    /// Counts several.
    pub fn add(&self, what: Count, amount: u64) {
        self.0[what as usize].add(amount);
    }
}

/// Counts of several workers, summed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sums([u64; COUNTS]);

impl Sums {
    /// One sum.
    #[must_use]
    pub fn get(&self, what: Count) -> u64 {
        self.0[what as usize]
    }

    /// Adds a worker's counts.
    pub fn add(&mut self, counters: &Counters) {
        for (sum, counter) in self.0.iter_mut().zip(&counters.0) {
            *sum = sum.wrapping_add(counter.get());
        }
    }

    /// What was counted since `earlier`; nothing where that is the later of the two, which may
    /// happen when somebody else starts over.
    #[must_use]
    pub fn since(mut self, earlier: &Self) -> Self {
        for (sum, earlier) in self.0.iter_mut().zip(earlier.0) {
            *sum = sum.saturating_sub(earlier);
        }
        self
    }
}

const COUNTS: usize = Count::ConnYields as usize + 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_start_over_without_touching_the_counters() {
        let workers = [Counters::default(), Counters::default()];
        workers[0].count(Count::GetHits);
        workers[1].add(Count::GetHits, 2);
        let sum = || {
            let mut sums = Sums::default();
            workers.iter().for_each(|counters| sums.add(counters));
            sums
        };
        let earlier = sum();
        assert_eq!(earlier.get(Count::GetHits), 3);
        workers[0].count(Count::ConnYields);
        let since = sum().since(&earlier);
        assert_eq!(since.get(Count::GetHits), 0);
        assert_eq!(since.get(Count::ConnYields), 1);
    }

    /// `stats` in one thread beside `stats reset` in another: sums of such figures overflowed.
    #[test]
    fn figures_that_started_over_meanwhile_are_zero() {
        let counters = Counters::default();
        let sum = || {
            let mut sums = Sums::default();
            sums.add(&counters);
            sums
        };
        let summed = sum();
        counters.count(Count::GetHits);
        let since = summed.since(&sum());
        assert_eq!(since.get(Count::GetHits), 0);
    }
}
