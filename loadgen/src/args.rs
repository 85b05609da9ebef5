//! The command line.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use clap::Parser;

use crate::item::Values;
use crate::workload::{Limit, Mix, Workload};

/// Loads a memcached server and checks every byte of its replies.
///
/// The load is a closed loop: each connection sends --pipeline requests, waits for all their
/// replies, then sends the next. The first wrong byte ends the run with exit code 1.
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub struct Args {
    /// Where the server listens
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:11211")]
    #[arg(value_parser = resolve)]
    pub server: SocketAddr,
    /// Connections, over all threads
    #[arg(long, value_name = "N", default_value = "50")]
    pub connections: NonZeroUsize,
    /// Threads of the load generator
    #[arg(long, value_name = "N", default_value = "1")]
    pub threads: NonZeroUsize,
    /// Requests a connection sends at once
    #[arg(long, value_name = "N", default_value = "1")]
    pub pipeline: NonZeroUsize,
    /// Keys in one get
    #[arg(long, value_name = "N", default_value = "1")]
    pub keys_per_get: NonZeroUsize,
    /// Proportion of gets to sets
    #[arg(long, value_name = "GETS:SETS", default_value = "1:0")]
    pub mix: Mix,
    /// Length of every value
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    pub value_bytes: usize,
    /// What the values must be
    #[arg(long, value_enum, default_value_t = Values::Keyed)]
    pub values: Values,
    /// Distinct keys, each as likely as any other
    #[arg(long, value_name = "N", default_value = "100000")]
    pub keys: NonZeroU64,
    /// Where the random sequence begins; the same seed asks the same
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// How long to run
    #[arg(long, value_name = "S", default_value = "10", conflicts_with = "requests")]
    #[arg(value_parser = seconds)]
    pub seconds: Duration,
    /// How many requests to send, instead of how long
    #[arg(long, value_name = "N")]
    pub requests: Option<u64>,
    /// Store every key before the run
    #[arg(long)]
    pub preload: bool,
}

impl Args {
    /// What to ask.
    #[must_use]
    pub fn workload(&self) -> Workload {
        Workload {
            connections: self.connections.get(),
            pipeline: self.pipeline.get(),
            keys_per_get: self.keys_per_get.get(),
            mix: self.mix,
            value_bytes: self.value_bytes,
            keys: self.keys,
            seed: self.seed,
            values: self.values,
        }
    }

    /// For how long.
    #[must_use]
    pub fn limit(&self) -> Limit {
        self.requests.map_or(Limit::Time(self.seconds), Limit::Requests)
    }

    /// Threads, each with a connection at least.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads.min(self.connections).get()
    }
}

/// A duration written in seconds, fractions allowed.
///
/// # Errors
///
/// When the text is not a number of seconds that a [`Duration`] can hold.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn resolve(text: &str) -> Result<SocketAddr, String> {
    let mut addresses = text.to_socket_addrs().map_err(|error| error.to_string())?;
    addresses.next().ok_or_else(|| format!("`{text}` has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn requests_stand_in_for_seconds() {
        let limit = |args: &[&str]| Args::try_parse_from(args).map(|args| args.limit());
        assert_eq!(limit(&["loadgen"]).unwrap(), Limit::Time(Duration::from_secs(10)));
        assert_eq!(limit(&["loadgen", "--requests", "7"]).unwrap(), Limit::Requests(7));
        assert!(limit(&["loadgen", "--requests", "7", "--seconds", "1"]).is_err());
        assert!(limit(&["loadgen", "--seconds", "-1"]).is_err());
        assert!(limit(&["loadgen", "--pipeline", "0"]).is_err());
    }
}
