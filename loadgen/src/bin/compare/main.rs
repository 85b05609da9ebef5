//! Compares servers on one machine in one run: processor time per request, requests a second,
//! memory per idle connection; misses, payload in memory and latency while items are evicted.
//!
//! Processor time is the figure that holds still on a machine with other things to do; throughput
//! is reported beside it. Servers take turns, so that whatever disturbs one disturbs all, and a
//! median stands for each with its spread.

mod cpu;
mod eviction;
mod expiry;
mod idle;
mod memory;
mod misses;
mod servers;
mod summary;
mod throughput;
mod tool;

use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use loadgen::args::number::seconds;

use servers::{Contestant, Kind};

/// Compares larder with memcached and with a server that looks nothing up.
///
/// Prints Markdown tables. Whether a goal is met is told in them; the exit code is 0 either way.
#[derive(Debug, Parser)]
#[command(version, name = "compare")]
struct Args {
    /// What to measure
    #[arg(value_enum, default_values = ["cpu", "throughput", "idle"])]
    figures: Vec<Figure>,
    /// Which servers to measure
    #[arg(long, value_enum, value_delimiter = ',', default_value = "larder,memcached,null")]
    servers: Vec<Kind>,
    /// larder's program [default: the one built beside this]
    #[arg(long, value_name = "PATH")]
    larder: Option<PathBuf>,
    /// memcached's program
    #[arg(long, value_name = "PATH", default_value = "memcached")]
    memcached: PathBuf,
    /// How often each figure is taken; the median is reported
    #[arg(long, value_name = "N", default_value = "5")]
    rounds: NonZeroUsize,
    /// How long each figure is taken, after a fifth of that to warm up
    #[arg(long, value_name = "S", default_value = "1", value_parser = seconds)]
    seconds: Duration,
    /// Idle connections
    #[arg(long, value_name = "N", default_value = "10000")]
    idle_connections: NonZeroUsize,
    /// Requests of each replay that count, after at least as many to fill the cache
    #[arg(long, value_name = "N", default_value_t = 4_000_000)]
    replay_requests: u64,
    /// The memory limit of the servers that are filled, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 256)]
    fill_megabytes: u64,
    /// Items that end in the same second
    #[arg(long, value_name = "N", default_value_t = 10_000_000)]
    expiring_items: u64,
    /// Where the random sequence of keys begins
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// A figure to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Figure {
    /// Server CPU per request: one worker on one core, the load on another
    Cpu,
    /// Requests a second of the whole machine: two workers, the load on the same cores
    Throughput,
    /// Resident memory per idle connection
    Idle,
    /// Misses on replays of published workloads in 100 MiB: minutes
    Misses,
    /// Keys and values over resident memory, full
    Memory,
    /// How long gets take while sets evict at full speed
    Eviction,
    /// How long gets take while millions of items that ended at once are cleared away: minutes
    Expiry,
    /// The load generator itself on one core, against the null server on another
    Loadgen,
}

/// How each figure is taken.
#[derive(Clone, Copy, Debug)]
struct Effort {
    rounds: usize,
    duration: Duration,
    seed: u64,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> io::Result<()> {
    let contestants = args
        .servers
        .iter()
        .map(|&kind| Contestant::new(kind, args.larder.as_deref(), &args.memcached))
        .collect::<io::Result<Vec<_>>>()?;
    let effort = Effort { rounds: args.rounds.get(), duration: args.seconds, seed: args.seed };
    println!("{}\n", servers::machine()?);
    for figure in &args.figures {
        let table = match figure {
            Figure::Cpu => cpu::measure(&contestants, effort)?,
            Figure::Throughput => throughput::measure(&contestants, effort)?,
            Figure::Idle => idle::measure(&contestants, args.idle_connections.get())?,
            Figure::Misses => misses::measure(&contestants, args.replay_requests, args.seed)?,
            Figure::Memory => memory::measure(&contestants, args.fill_megabytes, args.seed)?,
            Figure::Eviction => eviction::measure(&contestants, effort)?,
            Figure::Expiry => expiry::measure(&contestants, args.expiring_items, args.seed)?,
            Figure::Loadgen => tool::measure(effort)?,
        };
        println!("{table}");
    }
    Ok(())
}
