//! When requests are due. A schedule does not wait for answers and does not know the clock: it is a
//! sequence of times, and what is sent late is late against it.

use std::str::FromStr;
use std::time::Duration;

use crate::random::{Random, floor};
use crate::workload::traffic::Part;

/// What makes a connection send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// The answers to what it sent before: a closed loop.
    Closed,
    /// A schedule: an open loop.
    Open(Rate, Arrivals),
    /// The times in a trace, this many times as fast.
    Recorded(f64),
}

/// Requests a second, over all threads, steady or rising from one rate to another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// At the beginning.
    pub from: f64,
    /// After the ramp.
    pub to: f64,
    /// How long the ramp takes; 0 where there is none.
    pub ramp_seconds: f64,
}

/// How times are spread around the rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Arrivals {
    /// Independent of one another, as those of many users are
    Poisson,
    /// Evenly
    Uniform,
    /// With the generalised Pareto distances of the pool "ETC" (2012), which come in bursts
    Pareto,
}

impl Rate {
    /// The same all the time.
    #[must_use]
    pub fn steady(rate: f64) -> Self {
        Self { from: rate, to: rate, ramp_seconds: 0.0 }
    }

    /// When `count` requests are due in all, in seconds.
    fn time(&self, count: f64) -> f64 {
        let in_ramp = f64::midpoint(self.from, self.to) * self.ramp_seconds;
        if count >= in_ramp {
            return self.ramp_seconds + (count - in_ramp) / self.to;
        }
        // count = from * t + growth * t^2 / 2, solved without the difference of near numbers.
        let growth = (self.to - self.from) / self.ramp_seconds;
        let root = libm::sqrt((self.from * self.from + 2.0 * growth * count).max(0.0));
        2.0 * count / (self.from + root)
    }
}

impl FromStr for Rate {
    type Err = String;

    /// `10000`, `10k`, or from one to another as `1k..50k`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (from, to) = text.split_once("..").unwrap_or((text, text));
        let (from, to) = (number(from)?, number(to)?);
        match to > 0.0 {
            true => Ok(Self { from, to, ramp_seconds: 0.0 }),
            false => Err(format!("`{text}`: a rate ends above 0")),
        }
    }
}

/// One thread's times.
#[derive(Clone, Debug)]
pub struct Schedule {
    rate: Rate,
    arrivals: Arrivals,
    random: Random,
    part_count: f64,
    /// Requests of this thread up to the next one.
    count: f64,
    next_nanos: u64,
}

impl Schedule {
    /// This part of all times; the parts of an even schedule interleave evenly.
    #[must_use]
    pub fn new(rate: Rate, arrivals: Arrivals, seed: u64, part: Part) -> Self {
        let random = Random::new(seed ^ SCHEDULE_SALT, part.index as u64);
        let count = match arrivals {
            Arrivals::Uniform => part.index as f64 / part.count as f64,
            Arrivals::Poisson | Arrivals::Pareto => 0.0,
        };
        let mut schedule =
            Self { rate, arrivals, random, part_count: part.count as f64, count, next_nanos: 0 };
        schedule.advance();
        schedule
    }

    /// When the next request is due, in nanoseconds.
    #[must_use]
    pub fn next_nanos(&self) -> u64 {
        self.next_nanos
    }

    /// Goes on to the request after that.
    pub fn advance(&mut self) {
        self.count += match self.arrivals {
            Arrivals::Uniform => 1.0,
            Arrivals::Poisson => self.random.exponential(),
            Arrivals::Pareto => {
                let log = libm::log1p(-self.random.unit());
                (1.0 - ETC_SHAPE) * libm::expm1(-ETC_SHAPE * log) / ETC_SHAPE
            }
        };
        self.next_nanos = floor(self.rate.time(self.count * self.part_count) * 1e9);
    }
}

/// A number with `k`, `m` or nothing behind it.
fn number(text: &str) -> Result<f64, String> {
    let (digits, unit) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1e3),
        None => text.strip_suffix(['m', 'M']).map_or((text, 1.0), |digits| (digits, 1e6)),
    };
    let number = digits.parse::<f64>().ok().filter(|number| *number >= 0.0 && number.is_finite());
    number.map(|number| number * unit).ok_or_else(|| format!("`{text}` is not a rate, as in 10k"))
}

/// The time that is due at the end of `duration`, as a rate's ramp.
#[must_use]
pub fn ramp_over(rate: Rate, duration: Duration) -> Rate {
    let ramp_seconds = if rate.from == rate.to { 0.0 } else { duration.as_secs_f64() };
    Rate { ramp_seconds, ..rate }
}

/// Of the distances between requests to "ETC" (Atikoglu et al., 2012).
const ETC_SHAPE: f64 = 0.154_971;
/// Keeps times apart from keys.
const SCHEDULE_SALT: u64 = 0x7469_6D65_0000;

#[cfg(test)]
mod tests {
    use super::*;

    fn times(rate: &str, arrivals: Arrivals, part: Part, count: usize) -> Vec<u64> {
        let rate = ramp_over(rate.parse().unwrap(), Duration::from_secs(10));
        let mut schedule = Schedule::new(rate, arrivals, 1, part);
        let mut times = Vec::new();
        for _ in 0..count {
            times.push(schedule.next_nanos());
            schedule.advance();
        }
        times
    }

    #[test]
    fn even_times_interleave_over_threads() {
        let mut all: Vec<_> = (0..4)
            .flat_map(|index| times("1k", Arrivals::Uniform, Part { index, count: 4 }, 5))
            .collect();
        all.sort_unstable();
        assert_eq!(all.len(), 20);
        assert!(all.windows(2).all(|two| (two[1] - two[0]).abs_diff(1_000_000) <= 2), "{all:?}");
    }

    #[test]
    fn random_distances_have_the_rate_and_their_own_spread() {
        for (arrivals, variation) in
            [(Arrivals::Poisson, 1.0), (Arrivals::Pareto, 1.0 / (1.0 - 2.0 * ETC_SHAPE).sqrt())]
        {
            let times = times("10k", arrivals, Part::WHOLE, 100_000);
            let distances: Vec<_> =
                times.windows(2).map(|two| (two[1] - two[0]) as f64 / 100_000.0).collect();
            let count = distances.len() as f64;
            let mean = distances.iter().sum::<f64>() / count;
            let variance = distances.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / count;
            assert!((mean - 1.0).abs() < 0.02, "{arrivals:?}: {mean}");
            let found = variance.sqrt() / mean;
            assert!((found / variation - 1.0).abs() < 0.05, "{arrivals:?}: {found}");
        }
    }

    #[test]
    fn a_ramp_rises_evenly_and_then_stays() {
        let times = times("0..1000", Arrivals::Uniform, Part::WHOLE, 10_000);
        let until = |seconds: u64| times.partition_point(|&nanos| nanos <= seconds * 1_000_000_000);
        // Half the rate times the time squared over ten, then a thousand a second.
        assert!(until(5).abs_diff(1250) <= 1 && until(10).abs_diff(5000) <= 1, "{}", until(5));
        assert!(until(12).abs_diff(7000) <= 1);
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        assert_eq!("1.5m".parse(), Ok(Rate::steady(1.5e6)));
        for bad in ["", "x", "-1", "0", "5..0", "1..x"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
    }
}
