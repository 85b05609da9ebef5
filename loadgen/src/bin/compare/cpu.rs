//! Server CPU per request: one worker alone on its core, the load on another, so that neither takes
//! the other's time.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use loadgen::dialect::Dialect;
use loadgen::engine::Plan;
use loadgen::engine::client::Client;
use loadgen::engine::limit::Limit;
use loadgen::engine::run;
use loadgen::measure::{Counters, Sample};
use loadgen::null_server;
use loadgen::process::{Server, allowed_cores, on_cores};
use loadgen::workload::Workload;
use loadgen::workload::operation::{Mix, Operation};
use loadgen::workload::size::Size;
use loadgen::workload::traffic::{Part, Traffic};

use crate::Effort;
use crate::servers::{Contestant, Kind};
use crate::summary::{Goal, Table, Takes};

/// A shape of load and larder's goals under it.
struct Case {
    name: &'static str,
    dialect: Dialect,
    operation: Operation,
    pipeline: usize,
    keys_per_get: usize,
    over_memcached: Goal,
    over_null: Option<Goal>,
}

impl Case {
    fn plan(&self, contestant: &Contestant, server: &Server, seed: u64) -> Arc<Plan> {
        let workload = Workload {
            mix: Mix::only(self.operation),
            keys_per_get: self.keys_per_get,
            ..workload(contestant, seed)
        };
        let (pipeline, dialect) = (self.pipeline, self.dialect);
        Arc::new(Plan { pipeline, dialect, ..Plan::clone(&plan(workload, server)) })
    }

    /// The null server has one dialect only.
    fn is_for(&self, kind: Kind) -> bool {
        kind != Kind::Null || self.dialect == Dialect::Text
    }
}

/// What all figures under load have in common.
pub(crate) fn workload(contestant: &Contestant, seed: u64) -> Workload {
    Workload {
        key_count: KEYS,
        value_bytes: Size::Fixed(null_server::VALUE_BYTES as f64),
        seed,
        values: contestant.values(),
        ..Workload::default()
    }
}

/// A closed loop of one request at a time.
pub(crate) fn plan(workload: Workload, server: &Server) -> Arc<Plan> {
    let servers = vec![server.address.into()];
    Arc::new(Plan { connections: CONNECTIONS, ..Plan::new(workload, servers) })
}

/// Refuses findings with misses or failures: those cost less than hits, so the figure would be
/// another one.
pub(crate) fn all_found(counters: &Counters) -> io::Result<()> {
    match (counters.misses, counters.failures()) {
        (0, 0) => Ok(()),
        (misses, failures) => {
            let message = format!("{misses} keys that were stored are gone, {failures} failures");
            Err(io::Error::other(message))
        }
    }
}

pub(crate) fn measure(contestants: &[Contestant], effort: Effort) -> io::Result<Table> {
    let (server_core, client_core) = two_cores()?;
    let servers = contestants
        .iter()
        .map(|contestant| {
            let server = contestant.start(1, &[server_core], CONNECTIONS_MAX)?;
            run::preload(&plan(workload(contestant, effort.seed), &server))?;
            Ok(server)
        })
        .collect::<io::Result<Vec<_>>>()?;
    let mut takes = vec![vec![Figures::default(); contestants.len()]; CASES.len()];
    on_cores(&[client_core], || {
        for round in 0..effort.rounds {
            for (case, takes) in CASES.iter().zip(&mut takes) {
                for turn in 0..contestants.len() {
                    // Another server begins each round, in case the first turn is not like the
                    // others.
                    let index = (turn + round) % contestants.len();
                    let (server, contestant) = (&servers[index], &contestants[index]);
                    if case.is_for(contestant.kind) {
                        let plan = case.plan(contestant, server, effort.seed);
                        takes[index].take(server, &plan, effort.duration)?;
                    }
                }
            }
        }
        Ok::<_, io::Error>(())
    })??;
    Ok(table(contestants, &takes))
}

/// What is measured of one server in one case.
#[derive(Clone, Default)]
struct Figures {
    /// Per request, or per key where a get asks for several.
    cpu_micros: Takes,
    requests_per_second: Takes,
}

impl Figures {
    fn take(&mut self, server: &Server, plan: &Arc<Plan>, duration: Duration) -> io::Result<()> {
        let traffic = Traffic::new(&plan.workload, Part::WHOLE);
        let mut client = Client::connect(plan, Part::WHOLE, traffic)?;
        client.run(Limit::Time(duration / 5), Duration::MAX, &mut |_, _| {})?;
        let before = server.cpu_time()?;
        let mut found = Counters::default();
        let mut observe = |_: u64, sample: &Sample| found = sample.counters.clone();
        let elapsed = client.run(Limit::Time(duration), Duration::MAX, &mut observe)?;
        let cpu = server.cpu_time()? - before;
        all_found(&found)?;
        let requests = found.requests() as f64;
        let units = requests * plan.workload.keys_per_get as f64;
        self.cpu_micros.push(cpu.as_secs_f64() * 1e6 / units);
        self.requests_per_second.push(requests / elapsed.as_secs_f64());
        Ok(())
    }
}

fn table(contestants: &[Contestant], takes: &[Vec<Figures>]) -> Table {
    let mut header = vec!["server CPU, µs; requests/s".to_owned()];
    header.extend(contestants.iter().map(|contestant| contestant.title.clone()));
    header.extend(["over memcached".to_owned(), "over the null server".to_owned()]);
    let title = format!(
        "One worker, {CONNECTIONS} connections, {KEYS} keys, values of {} bytes",
        null_server::VALUE_BYTES
    );
    let mut table = Table::new(title, header);
    for (case, figures) in CASES.iter().zip(takes) {
        let cpu = |kind| {
            let index = contestants.iter().position(|contestant| contestant.kind == kind)?;
            figures[index].cpu_micros.median_if_any()
        };
        let ratio = |to, goal| verdict(cpu(Kind::Larder)?, cpu(to)?, goal);
        let none = || "-".to_owned();
        let mut row = vec![case.name.to_owned()];
        row.extend(figures.iter().map(
            |figures| match figures.requests_per_second.median_if_any() {
                Some(rate) => format!("{:.3}; {rate:.0}", figures.cpu_micros),
                None => none(),
            },
        ));
        row.push(ratio(Kind::Memcached, Some(case.over_memcached)).unwrap_or_else(none));
        row.push(ratio(Kind::Null, case.over_null).unwrap_or_else(none));
        table.push(row);
    }
    table
}

fn verdict(figure: f64, reference: f64, goal: Option<Goal>) -> Option<String> {
    let ratio = figure / reference;
    let verdict = goal.map_or("no goal".to_owned(), |goal| goal.verdict(ratio));
    Some(format!("{ratio:.2} {verdict}"))
}

/// One core for the server, another for the load; the same where there is only one.
pub(crate) fn two_cores() -> io::Result<(usize, usize)> {
    let cores = allowed_cores()?;
    if cores.len() < 2 {
        eprintln!("warning: one core only, so the server and the load disturb each other");
    }
    Ok((cores[0], cores[cores.len().min(2) - 1]))
}

const CONNECTIONS: usize = 50;
/// memcached's own default.
pub(crate) const CONNECTIONS_MAX: usize = 1024;
const KEYS: u64 = 100_000;
const CASES: [Case; 7] = [
    Case {
        name: "get, one at a time",
        dialect: Dialect::Text,
        operation: Operation::Get,
        pipeline: 1,
        keys_per_get: 1,
        over_memcached: Goal::AtMost(0.85),
        over_null: Some(Goal::AtMost(1.10)),
    },
    Case {
        name: "get, 16 pipelined",
        dialect: Dialect::Text,
        operation: Operation::Get,
        pipeline: 16,
        keys_per_get: 1,
        over_memcached: Goal::AtMost(0.40),
        over_null: Some(Goal::AtMost(1.60)),
    },
    Case {
        name: "get of 100 keys, per key",
        dialect: Dialect::Text,
        operation: Operation::Get,
        pipeline: 1,
        keys_per_get: 100,
        over_memcached: Goal::AtMost(0.25),
        over_null: Some(Goal::AtMost(2.50)),
    },
    Case {
        name: "set, one at a time",
        dialect: Dialect::Text,
        operation: Operation::Set,
        pipeline: 1,
        keys_per_get: 1,
        over_memcached: Goal::AtMost(0.85),
        over_null: None,
    },
    Case {
        name: "set, 16 pipelined",
        dialect: Dialect::Text,
        operation: Operation::Set,
        pipeline: 16,
        keys_per_get: 1,
        over_memcached: Goal::AtMost(0.45),
        over_null: None,
    },
    Case {
        name: "mg, 16 pipelined",
        dialect: Dialect::Meta,
        operation: Operation::Get,
        pipeline: 16,
        keys_per_get: 1,
        over_memcached: Goal::AtMost(0.40),
        over_null: None,
    },
    Case {
        name: "binary get, one at a time",
        dialect: Dialect::Binary,
        operation: Operation::Get,
        pipeline: 1,
        keys_per_get: 1,
        over_memcached: Goal::AtMost(0.85),
        over_null: None,
    },
];

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn contestant(kind: Kind) -> Contestant {
        Contestant { kind, title: format!("{kind:?}"), program: PathBuf::new() }
    }

    fn figures(cpu_micros: f64) -> Figures {
        let mut figures = Figures::default();
        figures.cpu_micros.push(cpu_micros);
        figures.requests_per_second.push(1000.0);
        figures
    }

    #[test]
    fn goals_are_judged_by_the_ratio_of_medians() {
        let contestants = [Kind::Null, Kind::Larder, Kind::Memcached].map(contestant);
        let takes = vec![[4.0, 6.0, 8.0].map(figures).to_vec(); CASES.len()];
        let table = table(&contestants, &takes).to_string();
        let row = table.lines().find(|line| line.contains("get, one at a time")).unwrap();
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        assert_eq!(cells[2..5], ["4.000; 1000", "6.000; 1000", "8.000; 1000"]);
        assert_eq!(cells[5], "0.75 met (at most 0.85)");
        assert_eq!(cells[6], "1.50 missed (at most 1.1)");
    }

    #[test]
    fn findings_with_misses_or_failures_are_refused() {
        assert!(all_found(&Counters::default()).is_ok());
        assert!(all_found(&Counters { misses: 1, ..Counters::default() }).is_err());
        assert!(all_found(&Counters { errors: 1, ..Counters::default() }).is_err());
    }

    #[test]
    fn a_server_left_out_leaves_its_ratios_open() {
        let takes = vec![vec![figures(4.0)]; CASES.len()];
        let table = table(&[contestant(Kind::Larder)], &takes).to_string();
        assert!(
            table
                .lines()
                .skip(4)
                .all(|line| line.ends_with("| -              | -                    |")),
            "{table}"
        );
    }
}
