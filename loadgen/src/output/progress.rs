//! The line that moves while a run goes on: how far it is, the rate and the p99 of the last
//! interval. On a terminal only.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::engine::limit::Limit;
use crate::measure::Sample;

/// A line on stderr; gone when dropped.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    interval: Duration,
    limit: Limit,
}

impl Progress {
    /// For a run until `limit`, told every `interval`.
    #[must_use]
    pub fn new(limit: Limit, interval: Duration) -> Self {
        let bar = match limit {
            Limit::Time(duration) => ProgressBar::new(duration.as_secs()),
            Limit::Requests(requests) => ProgressBar::new(requests),
            Limit::Traffic => ProgressBar::new_spinner(),
        };
        let style = ProgressStyle::with_template("{elapsed} {wide_bar} {msg}");
        bar.set_style(style.expect("a template that is tested"));
        Self { bar, interval, limit }
    }

    /// An interval is over.
    pub fn show(&self, index: u64, sample: &Sample) {
        match self.limit {
            Limit::Time(_) => {
                let seconds = self.interval.as_secs_f64() * (index + 1) as f64;
                self.bar.set_position(crate::random::floor(seconds));
            }
            Limit::Requests(_) | Limit::Traffic => self.bar.inc(sample.counters.requests()),
        }
        self.bar.set_message(message(self.interval, sample));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn message(interval: Duration, sample: &Sample) -> String {
    let counters = &sample.counters;
    let rate = counters.requests() as f64 / interval.as_secs_f64();
    let p99 = sample.latencies.all().value_at_quantile(0.99) as f64 / 1e3;
    let hits = counters.hit_ratio() * 100.0;
    let bad = counters.failures() + counters.wrong();
    let bad = if bad > 0 { format!(", {bad} failed") } else { String::new() };
    format!("{rate:.0}/s, p99 {p99:.0} µs, {hits:.1} % found{bad}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::operation::Operation;

    #[test]
    fn a_line_tells_rate_and_p99() {
        let mut sample = Sample::default();
        sample.latencies.record(Operation::Get, 250_000);
        sample.counters.answered[Operation::Get as usize] = 5000;
        (sample.counters.hits, sample.counters.errors) = (9, 2);
        let text = message(Duration::from_millis(500), &sample);
        assert_eq!(text, "10000/s, p99 250 µs, 100.0 % found, 2 failed");
        Progress::new(Limit::Requests(10), Duration::from_secs(1)).show(0, &sample);
    }
}
