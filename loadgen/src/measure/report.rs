//! The findings of a run: in all, and interval by interval.

use std::time::Duration;

use crate::measure::{Counters, Sample};

/// What a run found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Everything.
    pub total: Sample,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// How long an interval is.
    pub interval: Duration,
    /// What was found in each.
    pub intervals: Vec<Interval>,
}

/// What an interval found.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Interval {
    /// Its number, from 0.
    pub index: u64,
    /// Sums.
    pub counters: Counters,
    /// Latencies in nanoseconds at [`QUANTILES`].
    pub latency_nanos: [u64; QUANTILES.len()],
}

impl Report {
    /// Requests answered in a second.
    #[must_use]
    pub fn requests_per_second(&self) -> f64 {
        self.total.counters.requests() as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// Adds what another machine found at the same time: interval by interval, of whose latencies
    /// the greater stand for both.
    pub fn merge(&mut self, other: &Self) {
        self.total.add(&other.total);
        self.elapsed = self.elapsed.max(other.elapsed);
        self.interval = self.interval.max(other.interval);
        for interval in &other.intervals {
            match self.intervals.iter_mut().find(|mine| mine.index == interval.index) {
                Some(mine) => mine.add(interval),
                None => self.intervals.push(interval.clone()),
            }
        }
        self.intervals.sort_by_key(|interval| interval.index);
    }

    /// Adds what was found in an interval.
    pub fn push(&mut self, index: u64, sample: &Sample) {
        let latencies = sample.latencies.all();
        let latency_nanos = QUANTILES.map(|quantile| latencies.value_at_quantile(quantile));
        self.intervals.push(Interval { index, counters: sample.counters.clone(), latency_nanos });
        self.total.add(sample);
    }
}

impl Interval {
    fn add(&mut self, other: &Self) {
        self.counters.add(&other.counters);
        let pairs = self.latency_nanos.iter_mut().zip(&other.latency_nanos);
        pairs.for_each(|(mine, theirs)| *mine = (*mine).max(*theirs));
    }
}

/// Of which an interval keeps the latencies.
pub const QUANTILES: [f64; 5] = [0.5, 0.9, 0.99, 0.999, 1.0];
