//! The load generator itself: how much one core of it drives, and how late it is.
//!
//! The null server is on one core, the tool on the other. Where the server is the one that cannot
//! keep up, the tool's core is idle; requests for each second of the tool's own processor time say
//! what it could drive, and are not less for what else the machine has to do.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use loadgen::engine::Plan;
use loadgen::engine::client::Client;
use loadgen::engine::limit::Limit;
use loadgen::engine::schedule::{Arrivals, Pace, Rate};
use loadgen::measure::Sample;
use loadgen::process::on_cores;
use loadgen::workload::traffic::{Part, Traffic};
use nix::time::{ClockId, clock_gettime};

use crate::Effort;
use crate::cpu::{self, two_cores};
use crate::servers::{Contestant, Kind};
use crate::summary::{Goal, Table, Takes};

/// A shape of load.
struct Case {
    name: &'static str,
    pipeline: usize,
    /// Of requests a second in a closed loop; an open loop has half of that.
    goal: f64,
}

/// What is measured of one shape.
#[derive(Default)]
struct Figures {
    requests_per_second: Takes,
    per_cpu_second: Takes,
    idle_percent: Takes,
    /// Of an open loop, in microseconds.
    late_p50: Takes,
    late_p99: Takes,
}

/// One run of a client on this thread.
struct Run {
    sample: Sample,
    elapsed: Duration,
    /// Of this thread.
    cpu: Duration,
}

pub(crate) fn measure(effort: Effort) -> io::Result<Table> {
    let (server_core, client_core) = two_cores()?;
    let contestant = Contestant::new(Kind::Null, None, Path::new(""))?;
    let server = contestant.start(1, &[server_core], cpu::CONNECTIONS_MAX)?;
    let mut takes = CASES.map(|_| Figures::default());
    on_cores(&[client_core], || {
        for _ in 0..effort.rounds {
            for (case, figures) in CASES.iter().zip(&mut takes) {
                let plan = cpu::plan(cpu::workload(&contestant, effort.seed), &server);
                let plan = Plan { pipeline: case.pipeline, ..Plan::clone(&plan) };
                let pace = Pace::Open(Rate::steady(case.goal / 2.0), Arrivals::Poisson);
                figures.closed(&run(plan.clone(), effort)?);
                figures.open(&run(Plan { pace, timeout: PATIENCE, ..plan }, effort)?);
            }
        }
        Ok::<_, io::Error>(())
    })??;
    Ok(table(&takes))
}

impl Figures {
    fn closed(&mut self, run: &Run) {
        let requests = run.sample.counters.requests() as f64;
        let idle = Duration::from_nanos(run.sample.counters.idle_nanos);
        self.requests_per_second.push(requests / run.elapsed.as_secs_f64());
        self.per_cpu_second.push(requests / run.cpu.as_secs_f64());
        self.idle_percent.push(idle.as_secs_f64() / run.elapsed.as_secs_f64() * 100.0);
    }

    fn open(&mut self, run: &Run) {
        let micros = |quantile| run.sample.lateness.value_at_quantile(quantile) as f64 / 1e3;
        self.late_p50.push(micros(0.5));
        self.late_p99.push(micros(0.99));
    }
}

fn run(plan: Plan, effort: Effort) -> io::Result<Run> {
    let plan = Arc::new(plan);
    let traffic = Traffic::new(&plan.workload, Part::WHOLE);
    let mut client = Client::connect(&plan, Part::WHOLE, traffic)?;
    client.run(Limit::Time(effort.duration / 5), Duration::MAX, &mut |_, _| {})?;
    let mut sample = Sample::default();
    let before = thread_cpu()?;
    let mut observe = |_: u64, found: &Sample| sample = found.clone();
    let elapsed = client.run(Limit::Time(effort.duration), Duration::MAX, &mut observe)?;
    let cpu = thread_cpu()? - before;
    Ok(Run { sample, elapsed, cpu })
}

fn thread_cpu() -> io::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

fn table(takes: &[Figures]) -> Table {
    let header = [
        "one core of loadgen",
        "requests/s",
        "per second of its CPU",
        "waiting, %",
        "goal",
        "at half the goal, sent late by p50, µs",
        "p99, µs",
        "goal",
    ];
    let title = "Against the null server on the other core".to_owned();
    let mut table = Table::new(title, header.map(str::to_owned).to_vec());
    for (case, figures) in CASES.iter().zip(takes) {
        table.push(vec![
            case.name.to_owned(),
            format!("{:.0}", figures.requests_per_second),
            format!("{:.0}", figures.per_cpu_second),
            format!("{:.1}", figures.idle_percent),
            Goal::AtLeast(case.goal).verdict(figures.requests_per_second.median()),
            format!("{:.1}", figures.late_p50),
            format!("{:.1}", figures.late_p99),
            LATE_MICROS.verdict(figures.late_p99.median()),
        ]);
    }
    table
}

const CASES: [Case; 2] = [
    Case { name: "get, one at a time", pipeline: 1, goal: 150_000.0 },
    Case { name: "get, 64 pipelined", pipeline: 64, goal: 2_500_000.0 },
];
/// What a busy machine leaves of a schedule is not waited for.
const PATIENCE: Duration = Duration::from_secs(1);
const LATE_MICROS: Goal = Goal::AtMost(50.0);
