//! What a run found: counters and latencies, second by second and in all.

pub mod report;

use hdrhistogram::Histogram;

use crate::truth::Fault;
use crate::workload::operation::Operation;

/// Sums of an interval or a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counters {
    /// Requests answered, by operation, in the order of [`Operation::ALL`].
    pub answered: [u64; Operation::ALL.len()],
    /// Keys asked for and found.
    pub hits: u64,
    /// Keys asked for and not found.
    pub misses: u64,
    /// Changes that did not apply: of an add, what was there; of others, mostly what was not.
    pub refused: u64,
    /// Requests that the server answered with an error.
    pub errors: u64,
    /// Requests that were not answered in time.
    pub timeouts: u64,
    /// Requests whose connection was lost before they were answered.
    pub lost: u64,
    /// Connections that were opened again.
    pub reconnects: u64,
    /// Requests of the schedule that were never sent, since no connection was free to the end.
    pub unsent: u64,
    /// Wrong answers, by [`Fault`], in the order of [`Fault::ALL`].
    pub faults: [u64; Fault::ALL.len()],
    /// Values that another run or machine had stored: whole, of unknown age.
    pub other_runs: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Time in which the threads had nothing to do, in nanoseconds.
    pub idle_nanos: u64,
}

impl Counters {
    /// Requests answered.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.answered.iter().sum()
    }

    /// Requests that came to nothing: errors, timeouts, lost with their connection, never sent.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.errors + self.timeouts + self.lost + self.unsent
    }

    /// Wrong answers of all kinds.
    #[must_use]
    pub fn wrong(&self) -> u64 {
        self.faults.iter().sum()
    }

    /// Share of the keys asked for that were found; 0 where none was asked for.
    #[must_use]
    pub fn hit_ratio(&self) -> f64 {
        self.hits as f64 / (self.hits + self.misses).max(1) as f64
    }

    fn add(&mut self, other: &Self) {
        let pairs = self.answered.iter_mut().zip(&other.answered);
        pairs.chain(self.faults.iter_mut().zip(&other.faults)).for_each(|(sum, n)| *sum += n);
        self.hits += other.hits;
        self.misses += other.misses;
        self.refused += other.refused;
        self.errors += other.errors;
        self.timeouts += other.timeouts;
        self.lost += other.lost;
        self.reconnects += other.reconnects;
        self.unsent += other.unsent;
        self.other_runs += other.other_runs;
        self.sent_bytes += other.sent_bytes;
        self.received_bytes += other.received_bytes;
        self.idle_nanos += other.idle_nanos;
    }
}

/// Latencies in nanoseconds, by operation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Latencies([Option<Histogram<u64>>; Operation::ALL.len()]);

impl Latencies {
    /// Counts one; an operation's first makes room for all that follow.
    pub fn record(&mut self, operation: Operation, nanos: u64) {
        let histogram = self.0[operation as usize].get_or_insert_with(histogram);
        histogram.saturating_record(nanos.max(1));
    }

    /// Those of one operation.
    #[must_use]
    pub fn of(&self, operation: Operation) -> Option<&Histogram<u64>> {
        self.0[operation as usize].as_ref()
    }

    /// Those of all operations together.
    #[must_use]
    pub fn all(&self) -> Histogram<u64> {
        let mut all = histogram();
        self.0.iter().flatten().for_each(|one| all.add(one).expect("the same bounds"));
        all
    }

    /// Adds to those of one operation.
    pub fn add_to(&mut self, operation: Operation, other: &Histogram<u64>) {
        let histogram = self.0[operation as usize].get_or_insert_with(histogram);
        histogram.add(other).expect("the same bounds");
    }

    fn add(&mut self, other: &Self) {
        for operation in Operation::ALL {
            if let Some(histogram) = other.of(operation) {
                self.add_to(operation, histogram);
            }
        }
    }

    fn clear(&mut self) {
        self.0.iter_mut().flatten().for_each(Histogram::reset);
    }
}

/// What one thread, or all, found in one interval, or in all.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Sums.
    pub counters: Counters,
    /// From the intended time of each request to the end of its answer.
    pub latencies: Latencies,
    /// How much later than intended requests were sent by this program's own fault, in nanoseconds.
    pub lateness: Histogram<u64>,
    /// What the server said when it answered with an error for the first time.
    pub first_error: Option<String>,
}

impl Sample {
    /// Adds another.
    pub fn add(&mut self, other: &Self) {
        self.counters.add(&other.counters);
        self.latencies.add(&other.latencies);
        self.lateness.add(&other.lateness).expect("the same bounds");
        if self.first_error.is_none() {
            self.first_error.clone_from(&other.first_error);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.counters = Counters::default();
        self.latencies.clear();
        self.lateness.reset();
        self.first_error = None;
    }
}

impl Default for Sample {
    fn default() -> Self {
        let (counters, latencies) = (Counters::default(), Latencies::default());
        Self { counters, latencies, lateness: histogram(), first_error: None }
    }
}

/// From a nanosecond to a minute, to three digits.
#[must_use]
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, NANOS_MAX, 3)
        .expect("bounds and precision are in the range the histogram takes")
}

const NANOS_MAX: u64 = 60_000_000_000;
