//! The servers of a run and the machine they are on, looked at before and after.

use std::io;
use std::time::Duration;

use crate::cost::machine::{Noise, Ticks};
use crate::cost::stats::{self, Stats};
use crate::cost::{Cost, Process, Usage};
use crate::engine::address::Address;
use crate::engine::error::named;

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
    /// What else the machine did; `None` where nobody knows what a server did.
    pub noise: Option<Noise>,
    /// Whether a process that was watched has ended, and what it cost and counted with it.
    pub gone: bool,
}

impl Watch {
    /// Looks at `servers`, whose process is `pid` if it is not to be found by where they listen.
    ///
    /// # Errors
    ///
    /// When there is no such process, or the system does not tell.
    pub fn new(servers: &[Address], pid: Option<i32>) -> io::Result<Self> {
        let processes = match pid {
            Some(pid) => {
                let process = Process::new(pid);
                vec![process.map_err(|error| named(format_args!("process {pid}"), &error))?]
            }
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
    /// When the system does not tell.
    pub fn end(self) -> io::Result<Watched> {
        let Ok(usage) = usage(&self.processes) else {
            return Ok(Watched { cost: None, growth: Vec::new(), noise: None, gone: true });
        };
        let ticks = Ticks::now()?;
        let our_cpu = self.ourselves.usage()?.cpu.saturating_sub(self.our_cpu);
        let stats = ask(&self.servers);
        let items = stats.iter().map(|stats| stats.get("curr_items")?.parse::<u64>().ok()).sum();
        let cost = (!self.processes.is_empty()).then(|| Cost {
            resident_bytes_by_interval: self.resident_bytes_by_interval,
            ..Cost::between(&self.processes, self.usage, usage, items)
        });
        let ours = our_cpu + usage.cpu.saturating_sub(self.usage.cpu);
        let noise = Some(ticks.noise_since(self.ticks, ours));
        Ok(Watched { cost, growth: stats::growth(&self.stats, &stats), noise, gone: false })
    }
}

/// What each server says of itself; of one that does not answer, nothing.
fn ask(servers: &[Address]) -> Vec<Stats> {
    servers.iter().map(|server| stats::ask(server, "").unwrap_or_default()).collect()
}

fn usage(processes: &[Process]) -> io::Result<Usage> {
    processes.iter().map(|process| process.usage()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_that_ends_meanwhile_takes_what_it_cost_with_it() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let watch = Watch::new(&[], Some(pid)).unwrap();
        assert!(watch.end().unwrap().cost.is_some());
        let watch = Watch::new(&[], Some(pid)).unwrap();
        drop(child.stdin.take());
        child.wait().unwrap();
        let watched = watch.end().unwrap();
        assert!(watched.gone && watched.cost.is_none() && watched.noise.is_none());
        let error = Watch::new(&[], Some(pid)).unwrap_err();
        assert!(error.to_string().starts_with(&format!("process {pid}: ")), "{error}");
    }
}
