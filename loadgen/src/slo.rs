//! The highest rate at which a latency stays within a bound.
//!
//! Rates double until one breaks the bound, then the range is halved, by ratio, until its ends are a
//! twentieth apart. A rate keeps the bound when its run does: latency within it, nothing failed,
//! nothing left unsent.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

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
    fn trial(&self, rate: f64, outcome: &Outcome) -> Trial {
        let total = &outcome.report.total;
        let nanos = total.latencies.all().value_at_quantile(self.quantile) as f64;
        let answered = total.counters.requests() > 0 && total.counters.failures() == 0;
        Trial { rate, latency_us: nanos / 1e3, kept: answered && nanos <= self.nanos }
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

/// Finds the highest rate by runs of `args`, beginning at its rate; each trial is told to `observe`.
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
    search(first, |rate| {
        let pace = Pace::Open(Rate::steady(rate), args.arrivals);
        let plan = Arc::new(Plan { pace, ..plan.clone() });
        let trial = objective.trial(rate, &measure(&plan, args)?);
        observe(trial);
        Ok(trial)
    })
}

fn search<E>(first: f64, mut run: impl FnMut(f64) -> Result<Trial, E>) -> Result<Option<Trial>, E> {
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
            (None, _) if rate <= RATE_MIN => return Ok(None),
            (None, _) => rate / 4.0,
        };
    }
}

const FIRST_RATE: f64 = 1000.0;
const CLOSE: f64 = 1.05;
const RATE_MIN: f64 = 1.0;
const RATE_MAX: f64 = 1e8;

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that keeps the bound up to `capacity`.
    fn found(first: f64, capacity: f64) -> (Option<f64>, u32) {
        let mut runs = 0;
        let trial = search(first, |rate| {
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
    fn what_is_no_bound_is_refused() {
        assert_eq!("p99.9=500us".parse::<Objective>().unwrap().nanos, 5e5);
        for bad in ["p99", "p99=0", "p99=x", "q=1ms"] {
            assert!(bad.parse::<Objective>().is_err(), "{bad}");
        }
    }
}
