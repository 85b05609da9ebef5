//! Two servers under the same load, round by round in turn, and how far their figures differ by
//! more than noise.
//!
//! Each round takes both, the order alternating, so that what disturbs one disturbs the other. A
//! round gives a ratio of each figure; the logarithms of these have a mean and, by Student's t, an
//! interval that holds the true one with 95 %. Where it holds 1, the difference is noise.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::args::{CompareArgs, RunArgs};
use crate::engine::address::Address;
use crate::engine::run;
use crate::load::{Outcome, measure};
use crate::output::html::count;
use crate::process::{Server, raise_file_limit};

/// All that was found of two servers.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Every figure of both.
    pub figures: Vec<Compared>,
    /// A and B.
    pub sides: [Side; 2],
}

/// One of the two servers.
#[derive(Clone, Debug)]
pub struct Side {
    /// Its command line.
    pub command: String,
    /// What was found of it, round by round.
    pub rounds: Vec<Outcome>,
}

/// A figure of both servers in every round.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Compared {
    /// What it is.
    pub figure: &'static str,
    /// The medians of A and B.
    pub medians: [f64; 2],
    /// B over A, with the ends of its interval; `None` where it cannot be told.
    pub ratio: Option<Ratio>,
}

/// A ratio and the interval that holds it with 95 %.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Ratio {
    /// The geometric mean.
    pub mean: f64,
    /// Where the interval begins.
    pub low: f64,
    /// Where it ends.
    pub high: f64,
}

/// Starts both servers, loads them in turn, and compares.
///
/// # Errors
///
/// When a server cannot be started, or gives a wrong answer.
pub fn compare(args: &CompareArgs) -> Result<Comparison, Box<dyn std::error::Error>> {
    refuse_what_is_for_single_runs(&args.run)?;
    raise_file_limit()?;
    let servers = [start(&args.a)?, start(&args.b)?];
    let runs = servers.each_ref().map(|server| {
        let servers = vec![Address::from(server.address)];
        RunArgs { servers, pid: Some(server.pid()), ..args.run.clone() }
    });
    let commands = [args.a.clone(), args.b.clone()];
    let mut sides = commands.map(|command| Side { command, rounds: Vec::new() });
    for round in 0..args.rounds.get() {
        for turn in 0..2 {
            let index = (turn + round) % 2;
            let mut run = runs[index].clone();
            // The same for both, and not the same again, which a cache would know by heart.
            run.workload.seed = args.run.workload.seed.wrapping_add(round as u64);
            let plan = Arc::new(run.plan()?);
            if args.run.preload && round == 0 {
                run::preload(&plan)?;
            }
            let outcome = measure(&plan, &run)?;
            eprintln!(
                "round {} of {}, {}: {:.0}/s",
                round + 1,
                args.rounds,
                ["A", "B"][index],
                outcome.report.requests_per_second()
            );
            sides[index].rounds.push(outcome);
        }
    }
    Ok(Comparison { figures: summary(&sides), sides })
}

impl Comparison {
    /// What makes the figures less than they seem, each with how often it did.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let outcomes = || self.sides.iter().flat_map(|side| &side.rounds);
        let loud = outcomes().filter_map(|outcome| outcome.noise).filter(|noise| noise.is_loud());
        let others = loud.clone().map(|noise| noise.others * 100.0).fold(0.0, f64::max);
        let failed = outcomes().filter(|outcome| outcome.report.total.counters.failures() > 0);
        let (loud, failed, all) = (loud.count(), failed.count(), outcomes().count());
        let mut warnings = Vec::new();
        if loud > 0 {
            warnings.push(format!(
                "the machine was not quiet in {loud} of {all} runs: up to {others:.0} % of its time \
                 went to other processes"
            ));
        }
        if failed > 0 {
            warnings.push(format!("requests failed in {failed} of {all} runs"));
        }
        warnings
    }
}

/// A comparison as a table.
#[derive(Debug)]
pub struct Table<'a>(pub &'a [Compared]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "| median of the rounds | A | B | B over A (95 %) | |")?;
        writeln!(formatter, "|---|---|---|---|---|")?;
        for Compared { figure, medians: [a, b], ratio } in self.0 {
            let (ratio, verdict) = match ratio {
                Some(ratio) => (ratio.to_string(), ratio.verdict()),
                None => ("-".to_owned(), "too few rounds"),
            };
            let [a, b] = [*a, *b].map(readable);
            writeln!(formatter, "| {figure} | {a} | {b} | {ratio} | {verdict} |")?;
        }
        Ok(())
    }
}

impl Ratio {
    /// Of pairs of positive figures, A before B; `None` of fewer than two.
    #[must_use]
    pub fn of(pairs: &[[f64; 2]]) -> Option<Self> {
        let logs: Vec<_> = pairs
            .iter()
            .filter(|pair| pair.iter().all(|figure| *figure > 0.0))
            .map(|[a, b]| (b / a).ln())
            .collect();
        if logs.len() < 2 {
            return None;
        }
        let count = logs.len() as f64;
        let mean = logs.iter().sum::<f64>() / count;
        let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (count - 1.0);
        let reach = student(logs.len() - 1) * (variance / count).sqrt();
        Some(Self { mean: mean.exp(), low: (mean - reach).exp(), high: (mean + reach).exp() })
    }

    /// What it means.
    #[must_use]
    pub fn verdict(self) -> &'static str {
        if self.low > 1.0 {
            "B has more"
        } else if self.high < 1.0 {
            "B has less"
        } else {
            "noise"
        }
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:.3} ({:.3} to {:.3})", self.mean, self.low, self.high)
    }
}

/// A program with its arguments, split at blanks; it finds its port by the variable that memcached
/// reads.
fn start(command: &str) -> io::Result<Server> {
    let mut words = command.split_whitespace();
    let program = words.next().ok_or_else(|| io::Error::other("an empty command"))?;
    Server::start(program.as_ref(), &words.collect::<Vec<_>>(), None)
}

/// Options that a single run has and a comparison has no use for.
fn refuse_what_is_for_single_runs(args: &RunArgs) -> Result<(), String> {
    let output = &args.output;
    let given = [
        ("--log", output.log.is_some()),
        ("--hgrm", output.hgrm.is_some()),
        ("--assert", !output.assertions.is_empty()),
        ("--find-slo", args.find_slo.is_some()),
        ("--pid", args.pid.is_some()),
    ];
    match given.into_iter().find(|(_, given)| *given) {
        Some((option, _)) => Err(format!("a comparison has no {option}")),
        None => Ok(()),
    }
}

fn summary(sides: &[Side; 2]) -> Vec<Compared> {
    let compared = |(name, figure): &(&'static str, Figure)| {
        let [a, b] = sides.each_ref().map(|side| side.rounds.iter().map(figure));
        let pairs = a.zip(b).map(|(a, b)| Some([a?, b?])).collect::<Option<Vec<_>>>()?;
        let medians = [0, 1].map(|side| median(pairs.iter().map(|pair| pair[side]).collect()));
        let any = pairs.iter().flatten().any(|figure| *figure > 0.0);
        any.then(|| Compared { figure: name, medians, ratio: Ratio::of(&pairs) })
    };
    FIGURES.iter().filter_map(compared).collect()
}

/// To three digits or to the whole number.
pub(crate) fn readable(figure: f64) -> String {
    match figure.abs() {
        100.0.. => count(figure),
        10.0.. => format!("{figure:.1}"),
        1.0.. => format!("{figure:.2}"),
        _ => format!("{figure:.3}"),
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.len() % 2 {
        0 => f64::midpoint(figures[middle - 1], figures[middle]),
        _ => figures[middle],
    }
}

/// The 97.5 % quantile of Student's t.
fn student(degrees: usize) -> f64 {
    STUDENT.get(degrees - 1).copied().unwrap_or(1.96 + 2.5 / degrees as f64)
}

/// A figure of an outcome, where it has it.
pub(crate) type Figure = fn(&Outcome) -> Option<f64>;

pub(crate) const FIGURES: [(&str, Figure); 9] = [
    ("requests/s", |outcome| Some(outcome.report.requests_per_second())),
    ("latency p50, µs", |outcome| Some(latency(outcome, 0.5))),
    ("latency p99, µs", |outcome| Some(latency(outcome, 0.99))),
    ("latency p99.9, µs", |outcome| Some(latency(outcome, 0.999))),
    ("misses, % of keys", |outcome| {
        let counters = &outcome.report.total.counters;
        let asked = counters.hits + counters.misses > 0;
        asked.then(|| 100.0 - counters.hit_ratio() * 100.0)
    }),
    ("server CPU, µs a request", |outcome| {
        Some(outcome.cost.as_ref()?.cpu_micros / requests(outcome))
    }),
    ("context switches a request", |outcome| {
        Some(outcome.cost.as_ref()?.switches as f64 / requests(outcome))
    }),
    ("server memory, MiB", |outcome| {
        Some(outcome.cost.as_ref()?.resident_bytes as f64 / 1_048_576.0)
    }),
    ("items a MiB", |outcome| outcome.cost.as_ref()?.items_per_mebibyte()),
];

fn latency(outcome: &Outcome, quantile: f64) -> f64 {
    outcome.report.total.latencies.all().value_at_quantile(quantile) as f64 / 1e3
}

fn requests(outcome: &Outcome) -> f64 {
    outcome.report.total.counters.requests().max(1) as f64
}

const STUDENT: [f64; 20] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use crate::workload::operation::Operation;

    /// Rounds in which B has `factor` times A's figure, each with noise of its own and some of
    /// both.
    fn rounds(factor: f64, seed: u64) -> Vec<[f64; 2]> {
        let mut random = Random::new(seed, 0);
        let round = |_| {
            let both = 1.0 + random.unit();
            [both * (1.0 + 0.1 * random.unit()), both * factor * (1.0 + 0.1 * random.unit())]
        };
        (0..9).map(round).collect()
    }

    #[test]
    fn a_difference_is_told_from_noise() {
        let ratio = Ratio::of(&rounds(0.8, 1)).unwrap();
        assert!((ratio.mean - 0.8).abs() < 0.04 && ratio.verdict() == "B has less", "{ratio}");
        assert_eq!(Ratio::of(&rounds(1.25, 1)).unwrap().verdict(), "B has more");
        let truly_noise =
            (0..200).filter(|seed| Ratio::of(&rounds(1.0, *seed)).unwrap().verdict() == "noise");
        assert!((180..=198).contains(&truly_noise.count()));
    }

    #[test]
    fn the_interval_is_students() {
        // Logarithms 0, 1 and 2 times ln 2: mean ln 2, deviation ln 2, over the root of three.
        let ratio = Ratio::of(&[[1.0, 1.0], [1.0, 2.0], [1.0, 4.0]]).unwrap();
        let reach = 4.303 * std::f64::consts::LN_2 / 3.0_f64.sqrt();
        assert!((ratio.mean - 2.0).abs() < 1e-9);
        assert!((ratio.high / ratio.mean).ln() - reach < 1e-9);
        assert_eq!(Ratio::of(&[[1.0, 2.0]]), None);
        assert_eq!(Ratio::of(&[[0.0, 2.0], [1.0, 2.0]]), None);
    }

    #[test]
    fn figures_are_readable() {
        let readable = [1_234_567.8, 12.34, 1.234, 0.1234].map(readable);
        assert_eq!(readable, ["1,234,568", "12.3", "1.23", "0.123"]);
    }

    #[test]
    fn a_table_has_what_was_found() {
        let side = |answered: u64| {
            let mut outcome = Outcome::default();
            outcome.report.elapsed = std::time::Duration::from_secs(1);
            outcome.report.total.counters.answered[0] = answered;
            outcome.report.total.latencies.record(Operation::Get, 1000);
            Side { command: String::new(), rounds: vec![outcome.clone(), outcome] }
        };
        let figures = summary(&[side(1), side(2)]);
        // Of a server that is not on this machine no cost is known, and no key was missed.
        assert_eq!(figures.len(), 4);
        let table = Table(&figures).to_string();
        assert!(
            table.contains("| requests/s | 1.00 | 2.00 | 2.000 (2.000 to 2.000) | B has more |")
        );
        assert_eq!(table.lines().count(), 2 + figures.len());
    }
}
