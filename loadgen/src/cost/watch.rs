//! The servers of a run and the machine they are on, looked at before and after.

use std::io;
use std::time::Duration;

use crate::cost::machine::{Noise, Ticks};
use crate::cost::stats::{self, Stats};
use crate::cost::{Cost, Process, Usage};
use crate::engine::address::Address;

/// What was seen before a run.
#[derive(Debug)]
pub struct Watch {
    servers: Vec<Address>,
    /// The servers' processes; none where not all of them are seen, for a part of the cost would
    /// pass for all of it.
    processes: Vec<Process>,
    ourselves: Process,
    usage: Usage,
    our_cpu: Duration,
    ticks: Ticks,
    stats: Vec<Stats>,
    resident_bytes_by_interval: Vec<u64>,
}

/// What a run came to, for the servers and the machine.
#[derive(Debug)]
pub struct Watched {
    /// Of all servers, where they run on this machine.
    pub cost: Option<Cost>,
    /// What they counted, all together.
    pub growth: Vec<(&'static str, i64)>,
    /// What else the machine did.
    pub noise: Noise,
}

impl Watch {
    /// Looks at `servers`, whose process is `pid` if it is not to be found by where they listen.
    ///
    /// # Errors
    ///
    /// When there is no such process, or the system does not tell.
    pub fn new(servers: &[Address], pid: Option<i32>) -> io::Result<Self> {
        let processes = match pid {
            Some(pid) => vec![Process::new(pid)?],
            None => {
                let all: Option<Vec<_>> = servers.iter().map(Process::listening).collect();
                let mut all = all.unwrap_or_default();
                all.sort_by_key(|process| process.pid());
                all.dedup_by_key(|process| process.pid());
                all
            }
        };
        let ourselves = Process::new(std::process::id().try_into().expect("a process id"))?;
        let stats = ask(servers);
        let usage = usage(&processes)?;
        let (our_cpu, ticks) = (ourselves.usage()?.cpu, Ticks::now()?);
        Ok(Self {
            servers: servers.to_vec(),
            processes,
            ourselves,
            usage,
            our_cpu,
            ticks,
            stats,
            resident_bytes_by_interval: Vec::new(),
        })
    }

    /// An interval is over.
    pub fn tick(&mut self) {
        let bytes = self.processes.iter().map(|process| process.resident_bytes());
        if let Ok(bytes) = bytes.sum::<io::Result<u64>>() {
            self.resident_bytes_by_interval.push(bytes);
        }
    }

    /// The run is over.
    ///
    /// # Errors
    ///
    /// When a process is gone.
    pub fn end(self) -> io::Result<Watched> {
        let (usage, ticks) = (usage(&self.processes)?, Ticks::now()?);
        let our_cpu = self.ourselves.usage()?.cpu.saturating_sub(self.our_cpu);
        let stats = ask(&self.servers);
        let items = stats.iter().map(|stats| stats.get("curr_items")?.parse::<u64>().ok()).sum();
        let cost = (!self.processes.is_empty()).then(|| Cost {
            resident_bytes_by_interval: self.resident_bytes_by_interval,
            ..Cost::between(&self.processes, self.usage, usage, items)
        });
        let ours = our_cpu + usage.cpu.saturating_sub(self.usage.cpu);
        let noise = ticks.noise_since(self.ticks, ours);
        Ok(Watched { cost, growth: stats::growth(&self.stats, &stats), noise })
    }
}

/// What each server says of itself; of one that does not answer, nothing.
fn ask(servers: &[Address]) -> Vec<Stats> {
    servers.iter().map(|server| stats::ask(server, "").unwrap_or_default()).collect()
}

fn usage(processes: &[Process]) -> io::Result<Usage> {
    processes.iter().map(|process| process.usage()).sum()
}
