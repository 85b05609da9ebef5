//! The highest rate at which a latency stays within a bound.
//!
//! Rates double until one breaks the bound, then the range is halved, by ratio, until its ends are
//! a twentieth apart. A rate keeps the bound when its run does: latency within it, nothing failed,
//! nothing left unsent, and all answered hardly later than the last was due, for a backlog that a
//! short run hides would break the bound in a longer one.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::args::RunArgs;
use crate::args::number::time_nanos;
use crate::engine::Plan;
use crate::engine::error::Error;
use crate::engine::schedule::{Pace, Rate};
use crate::load::{Outcome, measure};
use crate::output::assertion::quantile;

/// A bound on a latency, as in `p99=1ms`.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    text: String,
    quantile: f64,
    nanos: f64,
}

/// What was tried.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Trial {
    /// Requests a second.
    pub rate: f64,
    /// The latency, in microseconds.
    pub latency_us: f64,
    /// Whether the bound was kept.
    pub kept: bool,
}

impl Objective {
    /// What a run came to that lasted `duration` by its schedule.
    fn trial(&self, rate: f64, duration: Duration, outcome: &Outcome) -> Trial {
        let report = &outcome.report;
        let (latencies, counters) = (report.total.latencies.all(), &report.total.counters);
        let nanos = latencies.value_at_quantile(self.quantile) as f64;
        let answered = counters.requests() > 0 && counters.failures() == 0;
        let in_time = report.elapsed.as_secs_f64() <= duration.as_secs_f64() * OVERTIME_MAX;
        let kept = answered && in_time && nanos <= self.nanos;
        Trial { rate, latency_us: nanos / 1e3, kept }
    }

    /// The rate at which a run has a request beyond the quantile, so that there is one to look at.
    fn least_rate(&self, duration: Duration) -> f64 {
        let requests = 1.0 / (1.0 - self.quantile).max(f64::EPSILON);
        (requests / duration.as_secs_f64().max(f64::EPSILON)).clamp(1.0, FIRST_RATE)
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl FromStr for Objective {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.split_once('=').and_then(|(name, bound)| {
            Some((quantile(name.trim())?, time_nanos(bound.trim()).filter(|nanos| *nanos > 0.0)?))
        });
        let (quantile, nanos) =
            parsed.ok_or_else(|| format!("`{text}` is no bound on a latency, as in p99=1ms"))?;
        Ok(Self { text: text.to_owned(), quantile, nanos })
    }
}

/// Finds the highest rate by runs of `args`, beginning at its rate; each trial is told to
/// `observe`.
///
/// # Errors
///
/// When a run cannot be made.
pub fn find(
    args: &RunArgs,
    plan: &Plan,
    objective: &Objective,
    observe: &mut dyn FnMut(Trial),
) -> Result<Option<Trial>, Error> {
    let first = args.rate.map_or(FIRST_RATE, |rate| rate.from.max(1.0));
    let least = objective.least_rate(args.seconds);
    search(first, least, |rate| {
        let pace = Pace::Open(Rate::steady(rate), args.arrivals);
        let plan = Arc::new(Plan { pace, ..plan.clone() });
        let trial = objective.trial(rate, args.seconds, &measure(&plan, args)?);
        observe(trial);
        Ok(trial)
    })
}

fn search<E>(
    first: f64,
    least: f64,
    mut run: impl FnMut(f64) -> Result<Trial, E>,
) -> Result<Option<Trial>, E> {
    let (mut best, mut broken): (Option<Trial>, Option<f64>) = (None, None);
    let mut rate = first;
    loop {
        let trial = run(rate)?;
        match trial.kept {
            true => best = Some(trial),
            false => broken = Some(rate),
        }
        rate = match (best, broken) {
            (Some(best), Some(broken)) if broken / best.rate <= CLOSE => return Ok(Some(best)),
            (Some(best), Some(broken)) => (best.rate * broken).sqrt(),
            (Some(best), None) if best.rate >= RATE_MAX => return Ok(Some(best)),
            (Some(best), None) => best.rate * 2.0,
            (None, _) if rate <= least => return Ok(None),
            (None, _) => (rate / 4.0).max(least),
        };
    }
}

const FIRST_RATE: f64 = 1000.0;
const CLOSE: f64 = 1.05;
const RATE_MAX: f64 = 1e8;
/// A tenth of a run.
const OVERTIME_MAX: f64 = 1.1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::operation::Operation;

    /// A server that keeps the bound up to `capacity`.
    fn found(first: f64, capacity: f64) -> (Option<f64>, u32) {
        let mut runs = 0;
        let trial = search(first, 1.0, |rate| {
            runs += 1;
            Ok::<_, ()>(Trial { rate, latency_us: 0.0, kept: rate <= capacity })
        });
        (trial.unwrap().map(|trial| trial.rate), runs)
    }

    #[test]
    fn the_highest_rate_is_found_from_below_and_above() {
        for (first, capacity) in [(1000.0, 123_456.0), (1e6, 777.0), (1000.0, 1000.0)] {
            let (rate, runs) = found(first, capacity);
            let rate = rate.unwrap();
            assert!(rate <= capacity && rate > capacity / 1.05, "{rate} of {capacity}");
            assert!(runs < 20, "{runs}");
        }
        assert_eq!(found(1000.0, 0.0).0, None);
    }

    #[test]
    fn a_backlog_that_outlasts_the_run_breaks_the_bound() {
        let objective: Objective = "p99=5s".parse().unwrap();
        let mut outcome = Outcome::default();
        let counters = &mut outcome.report.total.counters;
        counters.answered[Operation::Get as usize] = 100;
        outcome.report.total.latencies.record(Operation::Get, 2_000_000_000);
        for (elapsed_millis, kept) in [(1000, true), (1099, true), (3000, false)] {
            outcome.report.elapsed = Duration::from_millis(elapsed_millis);
            assert_eq!(objective.trial(1.0, Duration::from_secs(1), &outcome).kept, kept);
        }
    }

    #[test]
    fn the_search_ends_where_no_request_lies_beyond_the_quantile() {
        let least = |bound: &str, seconds| {
            bound.parse::<Objective>().unwrap().least_rate(Duration::from_secs(seconds)).round()
        };
        assert_eq!(
            (least("p99=1ms", 10), least("p99.9=1ms", 5), least("p50=1ms", 9)),
            (10.0, 200.0, 1.0)
        );
        assert_eq!(least("max=1ms", 10), FIRST_RATE);
        let mut rates = Vec::new();
        let never = search(1000.0, 100.0, |rate| {
            rates.push(rate);
            Ok::<_, ()>(Trial { rate, latency_us: 0.0, kept: false })
        });
        assert_eq!((never, rates), (Ok(None), vec![1000.0, 250.0, 100.0]));
    }

    #[test]
    fn what_is_no_bound_is_refused() {
        assert_eq!("p99.9=500us".parse::<Objective>().unwrap().nanos, 5e5);
        for bad in ["p99", "p99=0", "p99=x", "q=1ms"] {
            assert!(bad.parse::<Objective>().is_err(), "{bad}");
        }
    }
}
