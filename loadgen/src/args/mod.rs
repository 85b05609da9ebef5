//! The command line.

pub mod number;
pub mod workload;

use std::fs::OpenOptions;
use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use clap_complete::Shell;

use crate::args::number::seconds;
use crate::args::workload::WorkloadArgs;
use crate::dialect::Dialect;
use crate::engine::Plan;
use crate::engine::address::Address;
use crate::engine::error::named;
use crate::engine::limit::Limit;
use crate::engine::schedule::{Arrivals, Pace, Rate, ramp_over};
use crate::output::assertion::Assertion;
use crate::slo::Objective;

/// Loads servers that speak memcached, checks every byte of their answers, and tells the truth
/// about their latency.
#[derive(Debug, Parser)]
#[command(name = "loadgen", version, args_conflicts_with_subcommands = true)]
#[command(after_long_help = EXAMPLES)]
pub struct Cli {
    /// Something else than a run.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// A run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// What there is besides a run.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a workload down as a trace: csv on stdout
    Synthesise(Box<SynthesiseArgs>),
    /// Compare two servers, started in turn, with confidence intervals
    Compare(Box<CompareArgs>),
    /// Add up the findings of several machines
    Merge(MergeArgs),
    /// Print the man page, or that of a command
    Man {
        /// Which; the program's own where none is named
        command: Option<String>,
    },
    /// Print a shell's completions
    Completions {
        /// For which shell
        #[arg(value_enum)]
        shell: Shell,
    },
}

/// A workload as a trace.
#[derive(Clone, Debug, clap::Args)]
pub struct SynthesiseArgs {
    /// How many requests
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub requests: u64,
    /// Requests a second, for the times in the trace
    #[arg(long, value_name = "RATE", default_value = "10k")]
    pub rate: Rate,
    /// What is asked
    #[command(flatten)]
    pub workload: WorkloadArgs,
}

/// A run.
#[derive(Clone, Debug, clap::Args)]
pub struct RunArgs {
    /// Where the server listens: HOST[:PORT] or the path of a Unix socket, *WEIGHT behind it; keys
    /// live among several as libmemcached's weighted ketama has them
    #[arg(long = "server", value_name = "SERVER", value_delimiter = ',')]
    #[arg(default_value = "127.0.0.1:11211")]
    pub servers: Vec<Address>,
    /// In which words to speak
    #[arg(long, value_enum, default_value_t = Dialect::Text)]
    pub dialect: Dialect,
    /// Connections to each server, over all threads
    #[arg(long, value_name = "N", default_value = "50")]
    pub connections: NonZeroUsize,
    /// Threads of the load generator
    #[arg(long, value_name = "N", default_value = "1")]
    pub threads: NonZeroUsize,
    /// Requests that a connection has under way; in a closed loop they are sent at once
    #[arg(long, value_name = "N", default_value = "1")]
    pub pipeline: NonZeroUsize,
    /// Requests a second, whatever the server does: an open loop; FROM..TO rises over --ramp
    #[arg(long, value_name = "RATE")]
    pub rate: Option<Rate>,
    /// How requests are spread around the rate
    #[arg(long, value_enum, default_value_t = Arrivals::Poisson, requires = "rate")]
    pub arrivals: Arrivals,
    /// How long the rate rises [default: the whole run]
    #[arg(long, value_name = "S", requires = "rate", value_parser = seconds)]
    pub ramp: Option<Duration>,
    /// How long to run
    #[arg(long, value_name = "S", default_value = "10", conflicts_with = "requests")]
    #[arg(value_parser = seconds)]
    pub seconds: Duration,
    /// How many requests to send, instead of how long
    #[arg(long, value_name = "N")]
    pub requests: Option<u64>,
    /// How long an answer may take
    #[arg(long, value_name = "S", default_value = "10", value_parser = seconds)]
    pub timeout: Duration,
    /// Store every key before the run
    #[arg(long)]
    pub preload: bool,
    /// Requests to send before those that count
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub warm_up_requests: u64,
    /// Count wrong answers instead of ending the run at the first
    #[arg(long)]
    pub count_wrong: bool,
    /// Find the highest rate that keeps a latency, as in p99=1ms; runs of the given length each
    #[arg(long, value_name = "BOUND", conflicts_with_all = NOT_IN_A_SEARCH)]
    pub find_slo: Option<Objective>,
    /// The server's process, if it is not the one that listens at its address
    #[arg(long, value_name = "PID")]
    pub pid: Option<i32>,
    /// What is told of the run
    #[command(flatten)]
    pub output: OutputArgs,
    /// What is asked
    #[command(flatten)]
    pub workload: WorkloadArgs,
}

/// What is told of a run.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Print JSON instead of a summary
    #[arg(long)]
    pub json: bool,
    /// Latencies by percentile, for HdrHistogram's plotters
    #[arg(long, value_name = "FILE")]
    pub hgrm: Option<PathBuf>,
    /// Everything, for `loadgen merge`
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// A page with throughput over time, latency by percentile, hit ratio and memory; of a
    /// comparison, both servers side by side
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// The page's title
    #[arg(long, value_name = "TEXT", default_value = "loadgen", requires = "report")]
    pub title: String,
    /// What must be found for the exit code to be 0, as in 'p99<2ms', 'errors==0', 'rate>=100k',
    /// 'hit_ratio>0.9'
    #[arg(long = "assert", value_name = "BOUND")]
    pub assertions: Vec<Assertion>,
}

/// Two servers and a load.
#[derive(Clone, Debug, clap::Args)]
pub struct CompareArgs {
    /// The first server's command line, split at blanks; it must listen on a port of its choice and
    /// write it where MEMCACHED_PORT_FILENAME says, as memcached and larder do with -p -1
    #[arg(long, value_name = "COMMAND")]
    pub a: String,
    /// The second server's
    #[arg(long, value_name = "COMMAND")]
    pub b: String,
    /// How often each is loaded
    #[arg(long, value_name = "N", default_value = "7")]
    pub rounds: NonZeroUsize,
    /// The load
    #[command(flatten)]
    pub run: RunArgs,
}

/// Findings to add up.
#[derive(Clone, Debug, clap::Args)]
pub struct MergeArgs {
    /// What --log has written
    #[arg(value_name = "LOG", required = true)]
    pub logs: Vec<PathBuf>,
    /// What is told of their sum
    #[command(flatten)]
    pub output: OutputArgs,
}

impl OutputArgs {
    /// Opens every file that is to be written, for a run may be long.
    ///
    /// # Errors
    ///
    /// When one cannot be written; the error names it.
    pub fn try_files(&self) -> io::Result<()> {
        for path in [&self.hgrm, &self.log, &self.report].into_iter().flatten() {
            let opened = OpenOptions::new().append(true).create(true).open(path);
            opened.map_err(|error| named(path.display(), &error))?;
        }
        Ok(())
    }
}

impl RunArgs {
    /// What to do.
    ///
    /// # Errors
    ///
    /// When the trace cannot be read.
    pub fn plan(&self) -> Result<Plan, String> {
        let connections = self.connections.get();
        let pace = match (self.rate, self.workload.trace_speed) {
            (Some(rate), _) => {
                Pace::Open(ramp_over(rate, self.ramp.unwrap_or(self.seconds)), self.arrivals)
            }
            (None, Some(speed)) => Pace::Recorded(speed),
            (None, None) => Pace::Closed,
        };
        Ok(Plan {
            dialect: self.dialect,
            pace,
            connections,
            threads: self.threads.get().min(connections),
            pipeline: self.pipeline.get(),
            timeout: self.timeout,
            faults_are_fatal: !self.count_wrong,
            ..Plan::new(self.workload.workload()?, self.servers.clone())
        })
    }

    /// For how long.
    #[must_use]
    pub fn limit(&self) -> Limit {
        match (self.requests, &self.workload.trace) {
            (Some(requests), _) => Limit::Requests(requests),
            (None, Some(_)) => Limit::Traffic,
            (None, None) => Limit::Time(self.seconds),
        }
    }
}

/// A search is many runs, and tells of none.
const NOT_IN_A_SEARCH: [&str; 6] = ["trace", "requests", "hgrm", "log", "report", "assertions"];
const EXAMPLES: &str = "\
Examples:
  How fast is it? 50 connections, one request at a time, then sixteen at once:
    loadgen --preload
    loadgen --preload --pipeline 16 --threads 2

  How long do requests take that come whether or not the server is ready? Ten thousand a second,
  nine gets to a set; the latency counts from when each was due:
    loadgen --preload --rate 10k --mix get:9,set:1 --seconds 60

  A cache before a database, as observed at Twitter, on 400 MiB of items; how many misses?
    loadgen --preset cluster52 --working-set 400m --cache-aside --requests 10000000

  The same requests again, from a file:
    loadgen synthesise --preset cluster52 --requests 1000000 > trace.csv
    loadgen --trace trace.csv --cache-aside

  In CI, the exit code tells: 4 where a bound is broken, 3 on a wrong answer:
    loadgen --rate 5k --seconds 20 --assert 'p99<2ms' --assert 'failures==0'

  From several machines at once, added up without loss:
    loadgen --server 10.0.0.5 --rate 50k --log a.hlog      (on each)
    loadgen merge a.hlog b.hlog --hgrm all.hgrm

Exit codes: 0 well, 1 the run could not be made, 2 the command line is wrong, 3 a wrong answer, 4 an
assertion is broken.";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_key_that_no_server_takes_is_refused() {
        let plan =
            |bytes| Cli::try_parse_from(["loadgen", "--key-bytes", bytes]).unwrap().run.plan();
        assert!(plan("250").is_ok() && plan("uniform:1,300").is_ok());
        assert_eq!(plan("251").unwrap_err(), "a key has 250 bytes at most");
    }

    #[test]
    fn requests_stand_in_for_seconds() {
        let limit = |args: &[&str]| Cli::try_parse_from(args).map(|cli| cli.run.limit());
        assert_eq!(limit(&["loadgen"]).unwrap(), Limit::Time(Duration::from_secs(10)));
        assert_eq!(limit(&["loadgen", "--requests", "7"]).unwrap(), Limit::Requests(7));
        assert!(limit(&["loadgen", "--requests", "7", "--seconds", "1"]).is_err());
        assert!(limit(&["loadgen", "--seconds", "-1"]).is_err());
        assert!(limit(&["loadgen", "--pipeline", "0"]).is_err());
        assert!(limit(&["loadgen", "--find-slo", "p99=1ms", "--report", "run.html"]).is_err());
    }
}
