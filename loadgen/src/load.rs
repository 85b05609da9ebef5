//! A run from its beginning to its end: warnings, the keys to begin with, the load, what it cost,
//! and all that is told of it.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use crate::args::{OutputArgs, RunArgs};
use crate::cost::Cost;
use crate::cost::machine::Noise;
use crate::cost::watch::Watch;
use crate::debug_build;
use crate::engine::Plan;
use crate::engine::error::{Error, named};
use crate::engine::limit::Limit;
use crate::engine::run;
use crate::engine::schedule::Pace;
use crate::measure::report::Report;
use crate::output::plain::Plain;
use crate::output::progress::Progress;
use crate::output::{hgrm, html, json, log};
use crate::process::raise_file_limit;
use crate::slo::{self, Objective};

/// All that is known of a run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Whether requests came by a schedule.
    pub open: bool,
    /// What was found.
    pub report: Report,
    /// What it cost the servers, where they run on this machine.
    pub cost: Option<Cost>,
    /// What the servers counted meanwhile.
    pub stats: Vec<(&'static str, i64)>,
    /// How loud the machine was.
    pub noise: Option<Noise>,
    /// What makes the figures less than they seem.
    pub warnings: Vec<String>,
}

/// Runs what the command line says and tells of it.
///
/// # Errors
///
/// When the run cannot be made; a run whose findings are not as they must be is told in the code.
pub fn load(args: &RunArgs) -> Result<ExitCode, Box<dyn std::error::Error>> {
    args.output.try_files()?;
    raise_file_limit()?;
    let plan = Arc::new(args.plan()?);
    plan.servers.iter().for_each(debug_build::warn);
    if args.preload {
        run::preload(&plan)?;
    }
    let done = match &args.find_slo {
        Some(objective) => find_slo(&plan, args, objective),
        None => measure(&plan, args).map(|outcome| tell(&outcome, &args.output)),
    };
    done?
}

/// What the command line's last step comes to.
type Told = Result<ExitCode, Box<dyn std::error::Error>>;

fn find_slo(plan: &Plan, args: &RunArgs, objective: &Objective) -> Result<Told, Error> {
    let found = slo::find(args, plan, objective, &mut |trial| {
        let kept = if trial.kept { "kept" } else { "broken" };
        eprintln!("{:.0}/s: {:.1} µs, {kept}", trial.rate, trial.latency_us);
    })?;
    match (found, args.output.json) {
        (Some(trial), true) => writeln!(io::stdout(), "{}", serde_json::json!(trial))?,
        (Some(trial), false) => {
            writeln!(io::stdout(), "highest rate that keeps {objective}: {:.0}/s", trial.rate)?;
        }
        (None, _) => {
            eprintln!("loadgen: no rate keeps {objective}");
            return Ok(Ok(ExitCode::from(EXIT_ASSERTION)));
        }
    }
    Ok(Ok(ExitCode::SUCCESS))
}

/// Writes an outcome in every form that was asked for, and judges it. Files come first: they are
/// there even when nobody is left to read the summary.
///
/// # Errors
///
/// When a file cannot be written.
pub fn tell(outcome: &Outcome, args: &OutputArgs) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let report = &outcome.report;
    write(args.hgrm.as_deref(), |file| hgrm::write(&report.total.latencies.all(), file))?;
    write(args.log.as_deref(), |file| log::write(outcome.open, report, file))?;
    write(args.report.as_deref(), |file| {
        let page = html::page(outcome, &args.title, &command_line());
        file.write_all(page.as_bytes())
    })?;
    match args.json {
        true => writeln!(io::stdout(), "{:#}", json::outcome(outcome))?,
        false => write!(io::stdout(), "{}", Plain(outcome))?,
    }
    for warning in &outcome.warnings {
        eprintln!("warning: {warning}");
    }
    let mut broken = false;
    for assertion in &args.assertions {
        if let Some(figure) = assertion.broken_by(report) {
            eprintln!("loadgen: not {assertion}: {}", assertion.tell(figure));
            broken = true;
        }
    }
    Ok(if report.total.counters.wrong() > 0 {
        ExitCode::from(EXIT_WRONG)
    } else if broken {
        ExitCode::from(EXIT_ASSERTION)
    } else if report.total.counters.requests() == 0 {
        eprintln!("loadgen: no request was answered");
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Loads the servers and watches them.
///
/// # Errors
///
/// As [`run::run`].
pub fn measure(plan: &Arc<Plan>, args: &RunArgs) -> Result<Outcome, Error> {
    let limit = args.limit();
    let mut watch = Watch::new(&plan.servers, args.pid)?;
    let progress = Progress::new(limit, INTERVAL);
    let report = run::run(plan, args.warm_up_requests, limit, INTERVAL, &mut |index, sample| {
        progress.show(index, sample);
        watch.tick();
    })?;
    drop(progress);
    let watched = watch.end()?;
    let outcome = Outcome {
        open: plan.pace != Pace::Closed,
        stats: watched.growth,
        cost: watched.cost,
        noise: watched.noise,
        warnings: Vec::new(),
        report,
    };
    let mut warnings = warnings(&outcome, plan.threads, limit);
    if watched.gone {
        warnings.push("a server's process has ended: what it cost is not known".to_owned());
    }
    Ok(Outcome { warnings, ..outcome })
}

fn warnings(outcome: &Outcome, threads: usize, limit: Limit) -> Vec<String> {
    let (report, counters) = (&outcome.report, &outcome.report.total.counters);
    let mut warnings = Vec::new();
    let available = report.elapsed.as_nanos() as f64 * threads as f64;
    let idle = counters.idle_nanos as f64 / available.max(1.0);
    let long_enough = report.elapsed >= Duration::from_millis(500);
    if !outcome.open && idle < IDLE_MIN && long_enough {
        warnings.push(format!(
            "the load generator was busy for {:.0} % of the time: it may be what is measured; \
             more --threads",
            (1.0 - idle) * 100.0
        ));
    }
    let late = Duration::from_nanos(report.total.lateness.value_at_quantile(0.99));
    if outcome.open && late > LATE_MAX {
        warnings.push(format!(
            "one request in a hundred was sent {late:.1?} late or more by the load generator itself"
        ));
    }
    if counters.unsent > 0 {
        warnings.push(format!(
            "the servers did not keep up: {} requests of the schedule were never sent",
            counters.unsent
        ));
    }
    if let Some(noise) = outcome.noise.filter(|noise| noise.is_loud() && long_enough) {
        warnings.push(format!(
            "the machine was not quiet: {:.0} % of its time went to other processes, {:.0} % to \
             other virtual machines",
            noise.others * 100.0,
            noise.stolen * 100.0
        ));
    }
    if matches!(limit, Limit::Time(duration) if duration < INTERVAL) {
        warnings.push("less than a second is too short for figures to hold still".to_owned());
    }
    warnings
}

/// As a shell takes it, so that a page can tell how it was made.
#[must_use]
pub fn command_line() -> String {
    std::env::args().map(quoted).collect::<Vec<_>>().join(" ")
}

fn quoted(word: String) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:,=+%@".contains(letter);
    match !word.is_empty() && word.chars().all(plain) {
        true => word,
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// Writes a file, if one is asked for.
///
/// # Errors
///
/// When it cannot be written; the error names it.
pub fn write(
    path: Option<&Path>,
    content: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    let Some(path) = path else { return Ok(()) };
    let named = |error| named(path.display(), &error);
    let mut file = BufWriter::new(File::create(path).map_err(named)?);
    content(&mut file).and_then(|()| file.flush()).map_err(named)
}

/// A server gave a wrong answer.
pub const EXIT_WRONG: u8 = 3;
/// A figure is not as `--assert` demands.
pub const EXIT_ASSERTION: u8 = 4;
const INTERVAL: Duration = Duration::from_secs(1);
const IDLE_MIN: f64 = 0.05;
const LATE_MAX: Duration = Duration::from_micros(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_as_a_shell_takes_them() {
        let quoted = ["--rate=1..5k", "p99<2ms", "it's", ""].map(|word| quoted(word.to_owned()));
        assert_eq!(quoted, ["--rate=1..5k", "'p99<2ms'", r"'it'\''s'", "''"]);
    }
}
