//! How long gets take while another connection stores as fast as it can and every item that it
//! stores drives out another.
//!
//! One worker on one core serves both, the load is on another core: what a server does to make room
//! stands in the way of the gets, whichever of its threads does it.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use loadgen::engine::Plan;
use loadgen::engine::error::Error;
use loadgen::engine::limit::Limit;
use loadgen::engine::run;
use loadgen::measure::report::Report;
use loadgen::process::{Server, on_cores};
use loadgen::workload::Workload;
use loadgen::workload::operation::{Mix, Operation};

use crate::Effort;
use crate::cpu;
use crate::servers::{Contestant, Kind, stat};
use crate::summary::{Goal, Table, Takes};

pub(crate) fn measure(contestants: &[Contestant], effort: Effort) -> io::Result<Table> {
    let (server_core, client_core) = cpu::two_cores()?;
    let contestants: Vec<_> =
        contestants.iter().filter(|contestant| contestant.kind != Kind::Null).collect();
    let servers = contestants
        .iter()
        .map(|contestant| {
            let cores = [server_core];
            let server =
                contestant.start_with_memory(MEGABYTES, 1, &cores, cpu::CONNECTIONS_MAX)?;
            // Not by `run::preload`, for memcached may refuse some of what it has no room for.
            load(&Arc::new(plan(&server, Operation::Set, effort.seed)), Limit::Requests(KEYS))?;
            Ok(server)
        })
        .collect::<io::Result<Vec<_>>>()?;
    let evictions = |server: &Server| stat(server, "evictions");
    let before = servers.iter().map(evictions).collect::<io::Result<Vec<_>>>()?;
    let mut takes = vec![Figures::default(); contestants.len()];
    on_cores(&[client_core], || {
        for round in 0..effort.rounds {
            for turn in 0..servers.len() {
                let index = (turn + round) % servers.len();
                takes[index].take(&servers[index], effort)?;
            }
        }
        Ok::<_, io::Error>(())
    })??;
    for (server, before) in servers.iter().zip(before) {
        if evictions(server)? == before {
            return Err(io::Error::new(ErrorKind::InvalidData, "nothing was evicted"));
        }
    }
    Ok(table(&contestants, &takes))
}

/// What is measured of one server.
#[derive(Clone, Default)]
struct Figures {
    /// In microseconds.
    p999: Takes,
    /// Of those who evict.
    sets_per_second: Takes,
}

impl Figures {
    fn take(&mut self, server: &Server, effort: Effort) -> io::Result<()> {
        let seed = effort.seed + 1;
        let gets = Arc::new(plan(server, Operation::Get, seed));
        let sets = Arc::new(plan(server, Operation::Set, seed));
        let storing = Limit::Time(effort.duration + effort.duration / 5);
        let (histogram, stored) = std::thread::scope(|scope| {
            let storing = scope.spawn(move || load(&sets, storing));
            let plan = &gets;
            let asked = load(plan, Limit::Time(effort.duration / 10))
                .and_then(|_| load(plan, Limit::Time(effort.duration)));
            let stored = storing.join().expect("a client thread does not panic");
            Ok::<_, Error>((asked?.total.latencies.all(), stored?))
        })?;
        self.p999.push(histogram.value_at_quantile(0.999) as f64 / 1e3);
        self.sets_per_second.push(stored.requests_per_second());
        Ok(())
    }
}

fn load(plan: &Arc<Plan>, limit: Limit) -> Result<Report, Error> {
    run::run(plan, 0, limit, Duration::MAX, &mut |_, _| {})
}

fn plan(server: &Server, operation: Operation, seed: u64) -> Plan {
    let workload =
        Workload { mix: Mix::only(operation), key_count: KEYS, seed, ..Workload::default() };
    Plan { pipeline: PIPELINE, ..Plan::new(workload, vec![server.address.into()]) }
}

fn table(contestants: &[&Contestant], takes: &[Figures]) -> Table {
    let header = ["latency of gets, µs", "p99.9", "sets/s meanwhile", "p99.9 over memcached"];
    let title = format!(
        "One worker, {MEGABYTES} MiB, {PIPELINE} gets pipelined while {PIPELINE} pipelined sets evict"
    );
    let mut table = Table::new(title, header.map(str::to_owned).to_vec());
    let of = |kind| {
        let index = contestants.iter().position(|contestant| contestant.kind == kind)?;
        takes[index].p999.median_if_any()
    };
    for (contestant, figures) in contestants.iter().zip(takes) {
        let ratio = match (contestant.kind, of(Kind::Larder), of(Kind::Memcached)) {
            (Kind::Larder, Some(larder), Some(memcached)) => {
                let ratio = larder / memcached;
                format!("{ratio:.2} {}", GOAL.verdict(ratio))
            }
            _ => "-".to_owned(),
        };
        table.push(vec![
            contestant.title.clone(),
            format!("{:.0}", figures.p999),
            format!("{:.0}", figures.sets_per_second),
            ratio,
        ]);
    }
    table
}

const MEGABYTES: u64 = 64;
/// Several times what there is room for.
const KEYS: u64 = 2_000_000;
const PIPELINE: usize = 16;
const GOAL: Goal = Goal::AtMost(1.0);
