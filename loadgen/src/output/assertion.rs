//! What a run must have found for its exit code to be 0.

use std::fmt;
use std::str::FromStr;

use crate::args::number::time_nanos;
use crate::measure::report::Report;

/// A bound on a figure: `p99<2ms`, `errors==0`, `rate>=100k`, `hit_ratio>0.9`.
#[derive(Clone, Debug)]
pub struct Assertion {
    text: String,
    figure: Figure,
    comparison: Comparison,
    bound: f64,
}

/// A figure of a run.
#[derive(Clone, Copy, Debug)]
enum Figure {
    /// Latency in nanoseconds at a quantile.
    Latency(f64),
    Mean,
    /// Of what was sent later than due, at a quantile.
    SentLate(f64),
    Named(fn(&Report) -> f64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Less,
    AtMost,
    Equal,
    AtLeast,
    More,
}

impl Assertion {
    /// The figure, if it is not as it must be.
    #[must_use]
    pub fn broken_by(&self, report: &Report) -> Option<f64> {
        let figure = self.figure.of(report);
        let kept = match self.comparison {
            Comparison::Less => figure < self.bound,
            Comparison::AtMost => figure <= self.bound,
            Comparison::Equal => (figure - self.bound).abs() < f64::EPSILON,
            Comparison::AtLeast => figure >= self.bound,
            Comparison::More => figure > self.bound,
        };
        (!kept).then_some(figure)
    }

    /// A figure of this assertion in words.
    #[must_use]
    pub fn tell(&self, figure: f64) -> String {
        match self.figure {
            Figure::Named(_) => figure.to_string(),
            Figure::Latency(_) | Figure::Mean | Figure::SentLate(_) => {
                format!("{:.1} µs", figure / 1e3)
            }
        }
    }
}

impl fmt::Display for Assertion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl FromStr for Assertion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let comparisons = [
            ("<=", Comparison::AtMost),
            (">=", Comparison::AtLeast),
            ("==", Comparison::Equal),
            ("<", Comparison::Less),
            (">", Comparison::More),
        ];
        let found = comparisons.into_iter().find_map(|(sign, comparison)| {
            text.split_once(sign).map(|(name, bound)| (name.trim(), comparison, bound.trim()))
        });
        let (name, comparison, bound) =
            found.ok_or_else(|| format!("`{text}` compares nothing, as p99<2ms does"))?;
        let figure = figure(name).ok_or_else(|| {
            format!("`{name}` is no figure: p50, p99.9, max, mean, late_p99 or one of {NAMES}")
        })?;
        let bound = bound_of(bound, figure).ok_or_else(|| format!("`{bound}` is no bound"))?;
        Ok(Self { text: text.to_owned(), figure, comparison, bound })
    }
}

impl Figure {
    fn of(self, report: &Report) -> f64 {
        let total = &report.total;
        match self {
            Self::Latency(quantile) => total.latencies.all().value_at_quantile(quantile) as f64,
            Self::Mean => total.latencies.all().mean(),
            Self::SentLate(quantile) => total.lateness.value_at_quantile(quantile) as f64,
            Self::Named(figure) => figure(report),
        }
    }
}

/// The quantile of a latency's name, as in `p99.9`.
pub(crate) fn quantile(name: &str) -> Option<f64> {
    if name == "max" {
        return Some(1.0);
    }
    let percent: f64 = name.strip_prefix('p')?.parse().ok()?;
    (0.0..=100.0).contains(&percent).then_some(percent / 100.0)
}

fn figure(name: &str) -> Option<Figure> {
    if let Some(quantile) = quantile(name) {
        return Some(Figure::Latency(quantile));
    }
    if let Some(quantile) = name.strip_prefix("late_").and_then(quantile) {
        return Some(Figure::SentLate(quantile));
    }
    Some(Figure::Named(match name {
        "mean" => return Some(Figure::Mean),
        "rate" => Report::requests_per_second,
        "requests" => |report| report.total.counters.requests() as f64,
        "hit_ratio" => |report| report.total.counters.hit_ratio(),
        "misses" => |report| report.total.counters.misses as f64,
        "failures" => |report| report.total.counters.failures() as f64,
        "errors" => |report| report.total.counters.errors as f64,
        "timeouts" => |report| report.total.counters.timeouts as f64,
        "reconnects" => |report| report.total.counters.reconnects as f64,
        "unsent" => |report| report.total.counters.unsent as f64,
        "wrong" => |report| report.total.counters.wrong() as f64,
        _ => return None,
    }))
}

fn bound_of(text: &str, figure: Figure) -> Option<f64> {
    match figure {
        Figure::Latency(_) | Figure::Mean | Figure::SentLate(_) => time_nanos(text),
        Figure::Named(_) => {
            let units = [('k', 1e3), ('m', 1e6), ('%', 0.01)];
            let scaled = units.into_iter().find_map(|(unit, factor)| {
                text.strip_suffix(unit)?.trim().parse::<f64>().ok().map(|number| number * factor)
            });
            scaled.or_else(|| text.parse().ok())
        }
    }
}

const NAMES: &str = "rate, requests, hit_ratio, misses, failures, errors, timeouts, reconnects, \
                     unsent, wrong";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Sample;
    use crate::workload::operation::Operation;

    fn report() -> Report {
        let mut sample = Sample::default();
        for millis in 1..=100 {
            sample.latencies.record(Operation::Get, millis * 1_000_000);
            sample.counters.answered[Operation::Get as usize] += 1;
        }
        (sample.counters.hits, sample.counters.misses) = (90, 10);
        let elapsed = std::time::Duration::from_secs(2);
        let mut report = Report { elapsed, ..Report::default() };
        report.push(0, &sample);
        report
    }

    #[test]
    fn bounds_are_kept_or_broken() {
        let kept = |text: &str| text.parse::<Assertion>().unwrap().broken_by(&report()).is_none();
        for text in
            ["p99<101ms", "p50<=0.0501", "max>=99ms", "mean<51ms", "errors==0", "rate>=0.05k"]
        {
            assert!(kept(text), "{text}");
        }
        for text in ["p99<98ms", "requests>100", "hit_ratio>90%", "misses<10", "max < 1us"] {
            assert!(!kept(text), "{text}");
        }
    }

    #[test]
    fn what_is_no_assertion_is_refused() {
        for bad in ["p99", "p101<1ms", "speed>3", "errors==x", "p99<2mm", ""] {
            assert!(bad.parse::<Assertion>().is_err(), "{bad}");
        }
    }
}
