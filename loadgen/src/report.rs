//! What a run found.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::batch::Batch;

/// The sums of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// Requests answered, each of their bytes as it must be.
    pub requests: u64,
    /// Keys asked for and found.
    pub hits: u64,
    /// Keys asked for and not found.
    pub misses: u64,
    /// From the first request sent to the last reply.
    pub elapsed: Duration,
    /// Nanoseconds from a batch's first byte out to its last byte in.
    latency_nanos: Histogram<u64>,
}

impl Report {
    /// Requests answered in a second.
    #[must_use]
    pub fn requests_per_second(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }

    /// The time within which this share of the batches, from 0 to 1, was answered.
    #[must_use]
    pub fn latency(&self, quantile: f64) -> Duration {
        Duration::from_nanos(self.latency_nanos.value_at_quantile(quantile))
    }

    pub(crate) fn add(&mut self, requests: u64, batch: &Batch, latency: Duration) {
        self.requests += requests;
        self.hits += batch.hits;
        self.misses += batch.misses;
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.latency_nanos.saturating_record(nanos);
    }

    /// Adds what another thread found in the same run.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.hits += other.hits;
        self.misses += other.misses;
        self.elapsed = self.elapsed.max(other.elapsed);
        self.latency_nanos.add(&other.latency_nanos).expect("histograms of the same bounds");
    }
}

impl Default for Report {
    fn default() -> Self {
        let latency_nanos = Histogram::new_with_bounds(1, LATENCY_NANOS_MAX, 3)
            .expect("bounds and precision are in the range the histogram takes");
        Self { requests: 0, hits: 0, misses: 0, elapsed: Duration::ZERO, latency_nanos }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = |quantile| self.latency(quantile).as_secs_f64() * 1e6;
        writeln!(formatter, "requests       {} in {:.2?}", self.requests, self.elapsed)?;
        writeln!(formatter, "requests/s     {:.0}", self.requests_per_second())?;
        writeln!(formatter, "keys found     {} of {}", self.hits, self.hits + self.misses)?;
        let (p50, p99) = (micros(0.5), micros(0.99));
        writeln!(formatter, "batch latency  p50 {p50:.1} µs, p99 {p99:.1} µs")?;
        writeln!(
            formatter,
            "               in a closed loop: a slow server is asked less often, so"
        )?;
        writeln!(formatter, "               this is not the latency of requests at a fixed rate")?;
        writeln!(formatter, "errors         0 (the first would have ended the run)")
    }
}

const LATENCY_NANOS_MAX: u64 = 60_000_000_000;
