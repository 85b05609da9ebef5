//! The command line.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;

use crate::dialect::Dialect;
use crate::engine::Plan;
use crate::engine::address::Address;
use crate::engine::client::Limit;
use crate::engine::schedule::{Arrivals, Pace, Rate, ramp_over};
use crate::truth::value::Values;
use crate::workload::Workload;
use crate::workload::keys::Keys;
use crate::workload::operation::Mix;
use crate::workload::size::Size;
use crate::workload::trace::Trace;
use crate::workload::ttl::Ttl;

/// Loads servers that speak memcached, checks every byte of their answers, and tells the truth
/// about their latency.
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub struct Args {
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
    /// Count wrong answers instead of ending the run at the first
    #[arg(long)]
    pub count_wrong: bool,
    /// What is asked
    #[command(flatten)]
    pub workload: WorkloadArgs,
}

/// What is asked.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Workload")]
pub struct WorkloadArgs {
    /// Operations in proportion: get gets set add append prepend cas incr touch delete
    #[arg(long, value_name = "OP:WEIGHT,..", default_value = "get")]
    pub mix: Mix,
    /// Distinct keys
    #[arg(long, value_name = "N", default_value = "100000")]
    pub keys: NonZeroU64,
    /// Length of a key, a property of each: BYTES or a distribution as for --value-bytes
    #[arg(long, value_name = "SIZE", default_value = "16")]
    pub key_bytes: Size,
    /// Length of a value, a property of each key: BYTES, uniform:LOW,HIGH, lognormal:MEAN,SIGMA,
    /// pareto:LOCATION,SCALE,SHAPE, gev:.., quantiles:P=BYTES,.. or etc
    #[arg(long, value_name = "SIZE", default_value = "100")]
    pub value_bytes: Size,
    /// Exponent of the keys' popularity; 0 makes all alike
    #[arg(long, value_name = "ALPHA", default_value_t = 0.0, value_parser = not_negative)]
    pub zipf: f64,
    /// Share of the keys asked for that are never asked for again
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    pub one_hit: f64,
    /// Share of the keys that a million requests replace by new ones
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = not_negative)]
    pub drift: f64,
    /// How long values live, a property of each key: TIME:WEIGHT,.. as in 60s:0.4,1h:0.6
    #[arg(long, value_name = "TTL", default_value = "0")]
    pub ttl: Ttl,
    /// Keys in one get
    #[arg(long, value_name = "N", default_value = "1")]
    pub keys_per_get: NonZeroUsize,
    /// Follow a miss by a set
    #[arg(long)]
    pub cache_aside: bool,
    /// Where the random sequences begin; the same seed asks the same, on every machine
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// What the values must be
    #[arg(long, value_enum, default_value_t = Values::Truthful)]
    pub values: Values,
    /// Requests as recorded: csv of time, key, key size, value size, operation, time to live
    #[arg(long, value_name = "FILE", conflicts_with_all = ["mix", "keys", "zipf", "requests"])]
    pub trace: Option<PathBuf>,
    /// How many times as fast as recorded [default: as fast as the server answers]
    #[arg(long, value_name = "FACTOR", requires = "trace", value_parser = positive)]
    pub trace_speed: Option<f64>,
}

impl Args {
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

impl WorkloadArgs {
    /// What is asked.
    ///
    /// # Errors
    ///
    /// When the trace cannot be read.
    pub fn workload(&self) -> Result<Workload, String> {
        let trace = match &self.trace {
            Some(path) => {
                let named = |error| format!("{}: {error}", path.display());
                let file = std::fs::File::open(path).map_err(named)?;
                let trace = Trace::read(std::io::BufReader::new(file));
                Some(Arc::new(trace.map_err(named)?))
            }
            None => None,
        };
        let keys = match &trace {
            Some(trace) => Keys::Listed(Arc::clone(trace)),
            None => Keys::Made { bytes: self.key_bytes.clone() },
        };
        Ok(Workload {
            mix: self.mix.clone(),
            key_count: trace.as_ref().map_or(self.keys.get(), |trace| trace.key_count()),
            keys,
            value_bytes: self.value_bytes.clone(),
            ttl: self.ttl.clone(),
            zipf: self.zipf,
            one_hit: self.one_hit,
            drift: self.drift,
            keys_per_get: self.keys_per_get.get(),
            cache_aside: self.cache_aside,
            seed: self.seed,
            values: self.values,
            trace,
        })
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

fn not_negative(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| *number >= 0.0 && number.is_finite());
    number.ok_or_else(|| format!("`{text}` is not a number from 0"))
}

fn positive(text: &str) -> Result<f64, String> {
    not_negative(text).and_then(|number| match number > 0.0 {
        true => Ok(number),
        false => Err("it must be above 0".to_owned()),
    })
}

fn share(text: &str) -> Result<f64, String> {
    not_negative(text).and_then(|number| match number <= 1.0 {
        true => Ok(number),
        false => Err("it must be between 0 and 1".to_owned()),
    })
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
