//! Misses on read-through replays with the shape of published workloads. Every server is asked the
//! same, from empty.
//!
//! A replay follows from what is published of a recording, and from nothing else: popularity by its
//! exponent, keys asked for once, operations, mean sizes, and as many requests for each key as were
//! recorded, so that about as many of them as published are a key's first (`data/README.md`). What
//! counts is the second half: by then every cache is full. The keys take so many times the memory,
//! the same for every workload. What is asked for the first time in the second half, which no cache
//! avoids, stands beside the misses.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use loadgen::args::workload::WorkloadArgs;
use loadgen::engine::Plan;
use loadgen::engine::limit::Limit;
use loadgen::engine::run;
use loadgen::process::allowed_cores;
use loadgen::random::floor;
use loadgen::workload::Workload;
use loadgen::workload::operation::Operation;
use loadgen::workload::preset::Preset;
use loadgen::workload::traffic::{Part, Traffic};

use crate::cpu;
use crate::servers::{Contestant, Kind};
use crate::summary::{Goal, Table};

/// A published workload.
struct Replay {
    preset: Preset,
    workload: Workload,
    /// How many requests fill the cache, and as many that count.
    half_requests: u64,
}

/// Replays all workloads, or `only` one, with `requests_max` requests each.
pub(crate) fn measure(
    contestants: &[Contestant],
    requests_max: Option<u64>,
    only: Option<&str>,
    seed: u64,
) -> io::Result<Table> {
    let contestants: Vec<_> =
        contestants.iter().filter(|contestant| contestant.kind != Kind::Null).collect();
    let mut header = vec!["misses, % of the keys asked for".to_owned()];
    header.extend(contestants.iter().map(|contestant| contestant.title.clone()));
    header.extend(["never asked for before".to_owned(), "over memcached".to_owned()]);
    let title =
        format!("Read-through replays in {MEGABYTES} MiB, {WORKING_SETS} times as much in use");
    let mut table = Table::new(title, header);
    let mut ratios = Vec::new();
    let presets = only.map_or_else(|| PRESETS.to_vec(), |name| vec![name]);
    for preset in presets {
        let replay = Replay::new(preset, requests_max, seed).map_err(io::Error::other)?;
        let misses = contestants
            .iter()
            .map(|contestant| replay.misses(contestant))
            .collect::<io::Result<Vec<_>>>()?;
        let percent = |share: f64| format!("{:.2}", 100.0 * share);
        let mut row = vec![replay.preset.name.clone()];
        row.extend(misses.iter().copied().map(percent));
        row.push(percent(replay.unavoidable()));
        let ratio = ratio(&contestants, &misses);
        ratios.extend(ratio);
        row.push(ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.3}")));
        table.push(row);
    }
    let mean = geometric_mean(&ratios).map(|mean| format!("{mean:.3} {}", GOAL.verdict(mean)));
    let mut row = vec!["geometric mean".to_owned()];
    row.extend(contestants.iter().map(|_| String::new()));
    row.extend([String::new(), mean.unwrap_or("-".to_owned())]);
    table.push(row);
    Ok(table)
}

impl Replay {
    fn new(preset: &str, requests_max: Option<u64>, seed: u64) -> Result<Self, String> {
        let preset: Preset = preset.parse()?;
        let args = WorkloadArgs {
            preset: Some(preset.clone()),
            working_set: Some((MEGABYTES * WORKING_SETS) << 20),
            cache_aside: true,
            seed,
            ..WorkloadArgs::default()
        };
        let workload = args.workload()?;
        let recorded = floor(workload.key_count as f64 * preset.draws_per_key);
        let half_requests = requests_max.map_or(recorded, |most| most.min(recorded)) / 2;
        Ok(Self { preset, workload, half_requests })
    }

    /// Misses of all the keys asked for.
    fn misses(&self, contestant: &Contestant) -> io::Result<f64> {
        let cores = allowed_cores()?;
        let server =
            contestant.start_with_memory(MEGABYTES, WORKERS, &cores, cpu::CONNECTIONS_MAX)?;
        let plan = Plan {
            connections: CONNECTIONS,
            pipeline: PIPELINE,
            ..Plan::new(self.workload.clone(), vec![server.address.into()])
        };
        let limit = Limit::Requests(self.half_requests);
        let warm_up = self.half_requests;
        let report = run::run(&Arc::new(plan), warm_up, limit, Duration::MAX, &mut |_, _| {})?;
        Ok(1.0 - report.total.counters.hit_ratio())
    }

    /// Keys asked for that were never drawn before, of all that are asked for while it counts.
    fn unavoidable(&self) -> f64 {
        let mut traffic = Traffic::new(&Arc::new(self.workload.clone()), Part::WHOLE);
        let (mut seen, mut asked, mut first) = (HashSet::new(), 0_u64, 0_u64);
        for number in 0..2 * self.half_requests {
            let Some(next) = traffic.request() else { break };
            let is_first = seen.insert(traffic.item().id);
            let asks = matches!(next.operation, Operation::Get | Operation::Gets | Operation::Cas);
            if asks && number >= self.half_requests {
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

const PRESETS: [&str; 5] = ["cluster52", "cluster20", "cluster40", "cluster19", "cluster29"];

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
    fn every_replay_is_as_long_as_recorded_and_meets_new_keys() {
        for preset in PRESETS {
            let recorded = Replay::new(preset, None, 1).unwrap();
            let draws = recorded.workload.key_count as f64 * recorded.preset.draws_per_key;
            assert!((2.0 * recorded.half_requests as f64 / draws - 1.0).abs() < 0.001);
            assert!(recorded.workload.cache_aside && recorded.workload.drift == 0.0);
            let short = Replay::new(preset, Some(4000), 1).unwrap();
            assert_eq!(short.half_requests, 2000);
            let share = short.unavoidable();
            assert!(share > 0.1 && share < 1.0, "{preset}: {share}");
        }
    }
}
