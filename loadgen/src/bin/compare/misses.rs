//! Misses on read-through replays with the shape of published workloads. Every server is asked the
//! same, from empty, and what counts begins when all of them are full.
//!
//! Each workload comes in two forms. In the first the working set drifts as published: keys are
//! replaced by new ones (`data/README.md`). So much of what is then missed is asked for the first
//! time that no cache can avoid it; this share stands beside the misses. In the second the working
//! set stays, more keys are asked for once, and popularity is flat enough for the working set not to
//! fit: what is kept decides.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use loadgen::args::workload::WorkloadArgs;
use loadgen::engine::Plan;
use loadgen::engine::limit::Limit;
use loadgen::engine::run;
use loadgen::process::allowed_cores;
use loadgen::workload::Workload;
use loadgen::workload::operation::Operation;
use loadgen::workload::traffic::{Part, Traffic};

use crate::cpu;
use crate::servers::{Contestant, Kind};
use crate::summary::{Goal, Table};

/// A workload, and how many times the requests that count come before them, until every cache is
/// full.
struct Replay {
    preset: &'static str,
    /// `None`: it drifts as published.
    staying: Option<Staying>,
    warm_ups: u64,
}

/// What makes a workload's working set stay.
struct Staying {
    one_hit: f64,
    zipf: f64,
}

pub(crate) fn measure(contestants: &[Contestant], requests: u64, seed: u64) -> io::Result<Table> {
    let contestants: Vec<_> =
        contestants.iter().filter(|contestant| contestant.kind != Kind::Null).collect();
    let mut header = vec!["misses, % of the keys asked for".to_owned()];
    header.extend(contestants.iter().map(|contestant| contestant.title.clone()));
    header.extend(["never asked for before".to_owned(), "over memcached".to_owned()]);
    let title =
        format!("Read-through replays in {MEGABYTES} MiB, {WORKING_SETS} times as much in use");
    let mut table = Table::new(title, header);
    let mut ratios = [Vec::new(), Vec::new()];
    for replay in &REPLAYS {
        let workload = replay.workload(seed).map_err(io::Error::other)?;
        let misses = contestants
            .iter()
            .map(|contestant| replay.misses(contestant, &workload, requests))
            .collect::<io::Result<Vec<_>>>()?;
        let percent = |share: f64| format!("{:.2}", 100.0 * share);
        let mut row = vec![replay.name()];
        row.extend(misses.iter().copied().map(percent));
        row.push(percent(replay.unavoidable(&workload, requests)));
        let ratio = ratio(&contestants, &misses);
        ratios[usize::from(replay.staying.is_some())].extend(ratio);
        row.push(ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.3}")));
        table.push(row);
    }
    for (form, ratios) in [DRIFTING, STAYING].into_iter().zip(&ratios) {
        let mean = geometric_mean(ratios).map(|mean| format!("{mean:.3} {}", GOAL.verdict(mean)));
        let mut row = vec![format!("geometric mean, {form}")];
        row.extend(contestants.iter().map(|_| String::new()));
        row.extend([String::new(), mean.unwrap_or("-".to_owned())]);
        table.push(row);
    }
    Ok(table)
}

impl Replay {
    fn name(&self) -> String {
        let form = if self.staying.is_some() { STAYING } else { DRIFTING };
        format!("{}, {form}", self.preset)
    }

    fn workload(&self, seed: u64) -> Result<Workload, String> {
        let args = WorkloadArgs {
            preset: Some(self.preset.parse()?),
            working_set: Some((MEGABYTES * WORKING_SETS) << 20),
            cache_aside: true,
            seed,
            drift: self.staying.as_ref().map(|_| 0.0),
            one_hit: self.staying.as_ref().map(|staying| staying.one_hit),
            zipf: self.staying.as_ref().map(|staying| staying.zipf),
            ..WorkloadArgs::default()
        };
        args.workload()
    }

    /// Misses of all the keys asked for.
    fn misses(
        &self,
        contestant: &Contestant,
        workload: &Workload,
        requests: u64,
    ) -> io::Result<f64> {
        let cores = allowed_cores()?;
        let server =
            contestant.start_with_memory(MEGABYTES, WORKERS, &cores, cpu::CONNECTIONS_MAX)?;
        let plan = Plan {
            connections: CONNECTIONS,
            pipeline: PIPELINE,
            ..Plan::new(workload.clone(), vec![server.address.into()])
        };
        let limit = Limit::Requests(requests);
        let warm_up = self.warm_ups * requests;
        let report = run::run(&Arc::new(plan), warm_up, limit, Duration::MAX, &mut |_, _| {})?;
        Ok(1.0 - report.total.counters.hit_ratio())
    }

    /// Keys asked for that were never drawn before, of all that are asked for while it counts.
    fn unavoidable(&self, workload: &Workload, requests: u64) -> f64 {
        let mut traffic = Traffic::new(&Arc::new(workload.clone()), Part::WHOLE);
        let (mut seen, mut asked, mut first) = (HashSet::new(), 0_u64, 0_u64);
        for number in 0..(self.warm_ups + 1) * requests {
            let Some(next) = traffic.request() else { break };
            let is_first = seen.insert(traffic.item().id);
            let asks = matches!(next.operation, Operation::Get | Operation::Gets | Operation::Cas);
            if asks && number >= self.warm_ups * requests {
                asked += 1;
                first += u64::from(is_first);
            }
        }
        first as f64 / asked.max(1) as f64
    }
}

/// larder's misses over memcached's, where both were measured.
fn ratio(contestants: &[&Contestant], misses: &[f64]) -> Option<f64> {
    let of = |kind| {
        let index = contestants.iter().position(|contestant| contestant.kind == kind)?;
        Some(misses[index])
    };
    Some(of(Kind::Larder)? / of(Kind::Memcached)?)
}

fn geometric_mean(ratios: &[f64]) -> Option<f64> {
    let logs: f64 = ratios.iter().map(|ratio| ratio.ln()).sum();
    (!ratios.is_empty()).then(|| (logs / ratios.len() as f64).exp())
}

const MEGABYTES: u64 = 100;
/// The keys in use at a time take so many times the memory.
const WORKING_SETS: u64 = 4;
const WORKERS: usize = 1;
const CONNECTIONS: usize = 4;
const PIPELINE: usize = 32;
const GOAL: Goal = Goal::AtMost(0.89);

const DRIFTING: &str = "drifting";
const STAYING: &str = "staying";

const REPLAYS: [Replay; 10] = [
    drifting("cluster52", 1),
    // Small items, of which few are new: this takes longest to fill anything.
    drifting("cluster20", 5),
    drifting("cluster40", 1),
    drifting("cluster19", 1),
    drifting("cluster29", 1),
    staying("cluster52", 0.03, 1.1),
    staying("cluster20", 0.25, 1.1),
    staying("cluster40", 0.001, 0.8551),
    staying("cluster19", 0.07, 0.735),
    staying("cluster29", 0.2, 0.9),
];

const fn drifting(preset: &'static str, warm_ups: u64) -> Replay {
    Replay { preset, staying: None, warm_ups }
}

const fn staying(preset: &'static str, one_hit: f64, zipf: f64) -> Replay {
    Replay { preset, staying: Some(Staying { one_hit, zipf }), warm_ups: 1 }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn ratios_are_larders_over_memcacheds() {
        let contestants = [Kind::Memcached, Kind::Larder].map(|kind| Contestant {
            kind,
            title: String::new(),
            program: PathBuf::new(),
        });
        let both = contestants.each_ref();
        assert_eq!(ratio(&both, &[0.5, 0.25]), Some(0.5));
        assert_eq!(ratio(&both[1..], &[0.25]), None);
        assert!((geometric_mean(&[0.5, 2.0, 8.0]).unwrap() - 2.0).abs() < 1e-9);
        assert_eq!(geometric_mean(&[]), None);
    }

    #[test]
    fn every_replay_has_a_workload_and_first_requests() {
        for replay in &REPLAYS {
            let workload = replay.workload(1).unwrap();
            let drifts = workload.drift > 0.0;
            assert!(workload.cache_aside && drifts == replay.staying.is_none());
            let share = replay.unavoidable(&workload, 2000);
            assert!(share > 0.1 && share < 1.0, "{}: {share}", replay.name());
        }
    }
}
