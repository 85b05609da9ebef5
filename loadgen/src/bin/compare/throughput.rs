//! Requests a second of the whole machine: two workers and two threads of load share all cores, as
//! the system pleases.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use loadgen::engine::Plan;
use loadgen::engine::limit::Limit;
use loadgen::engine::run;
use loadgen::process::allowed_cores;

use crate::Effort;
use crate::cpu;
use crate::servers::{Contestant, Kind};
use crate::summary::{Goal, Table, Takes};

pub(crate) fn measure(contestants: &[Contestant], effort: Effort) -> io::Result<Table> {
    let cores = allowed_cores()?;
    // The null server has one thread only.
    let contestants: Vec<_> =
        contestants.iter().filter(|contestant| contestant.kind != Kind::Null).collect();
    let servers = contestants
        .iter()
        .map(|contestant| {
            let server = contestant.start(WORKERS, &cores, cpu::CONNECTIONS_MAX)?;
            run::preload(&cpu::plan(cpu::workload(contestant, effort.seed), &server))?;
            Ok(server)
        })
        .collect::<io::Result<Vec<_>>>()?;
    let header = ["get, requests/s", "one at a time", "goal", "16 pipelined"];
    let title = format!(
        "The whole machine, {WORKERS} workers, {CONNECTIONS} connections, the load on the same cores"
    );
    let mut table = Table::new(title, header.map(str::to_owned).to_vec());
    let mut takes = vec![[Takes::default(), Takes::default()]; contestants.len()];
    for _ in 0..effort.rounds {
        for ((contestant, server), takes) in contestants.iter().zip(&servers).zip(&mut takes) {
            for (takes, pipeline) in takes.iter_mut().zip([1, 16]) {
                let plan = cpu::plan(cpu::workload(contestant, effort.seed), server);
                let plan = Plan {
                    connections: CONNECTIONS,
                    pipeline,
                    threads: THREADS,
                    ..Plan::clone(&plan)
                };
                takes.push(requests_per_second(plan, effort)?);
            }
        }
    }
    for (contestant, [single, pipelined]) in contestants.iter().zip(&takes) {
        let verdict = match contestant.kind {
            Kind::Larder => GOAL.verdict(single.median()),
            Kind::Memcached | Kind::Null => "-".to_owned(),
        };
        let title = contestant.title.clone();
        table.push(vec![title, format!("{single:.0}"), verdict, format!("{pipelined:.0}")]);
    }
    Ok(table)
}

fn requests_per_second(plan: Plan, effort: Effort) -> io::Result<f64> {
    let limit = Limit::Time(effort.duration);
    let report = run::run(&Arc::new(plan), 0, limit, Duration::MAX, &mut |_, _| {})?;
    cpu::all_found(&report.total.counters)?;
    Ok(report.requests_per_second())
}

const WORKERS: usize = 2;
const THREADS: usize = 2;
/// A whole machine is asked by more clients than one worker is.
const CONNECTIONS: usize = 200;
const GOAL: Goal = Goal::AtLeast(150_000.0);
