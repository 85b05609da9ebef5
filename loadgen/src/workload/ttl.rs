//! Times to live, a property of each key.

use std::str::FromStr;

use crate::random::{mix, unit};

/// How long values live: times with weights, as in `60s:0.39,1h:0.61`; `0` is for ever.
#[derive(Clone, Debug, PartialEq)]
pub struct Ttl(Vec<(u32, f64)>);

impl Ttl {
    /// For ever.
    #[must_use]
    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// Until a date, in seconds since 1970, for every key.
    #[must_use]
    pub fn until(date: u32) -> Self {
        Self(vec![(date, 1.0)])
    }

    /// Of key number `id`, in seconds; 0 is for ever, and what is more than 30 days a date.
    #[must_use]
    pub fn seconds(&self, id: u64) -> u32 {
        if self.0.is_empty() {
            return 0;
        }
        let point = unit(mix(id ^ TTL_SALT));
        let found = self.0.iter().find(|(_, end)| point < *end);
        found.or(self.0.last()).map_or(0, |(seconds, _)| *seconds)
    }
}

impl FromStr for Ttl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || format!("`{text}` is not a time to live, as in 60s:0.4,1h:0.6");
        let mut weights = Vec::new();
        for part in text.split([',', ' ']).filter(|part| !part.is_empty()) {
            let (time, weight) = part.split_once(':').unwrap_or((part, "1"));
            let weight: f64 = weight.parse().map_err(|_| bad())?;
            if !(weight > 0.0 && weight.is_finite()) {
                return Err(bad());
            }
            weights.push((seconds(time).ok_or_else(bad)?, weight));
        }
        let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
        let mut sum = 0.0;
        for (_, weight) in &mut weights {
            sum += *weight / total;
            *weight = sum;
        }
        Ok(Self(weights))
    }
}

/// A time of at most 30 days, for what is more memcached takes for a date.
fn seconds(text: &str) -> Option<u32> {
    let (number, unit) = match text.find(|c: char| c.is_ascii_alphabetic()) {
        Some(at) => text.split_at(at),
        None => (text, "s"),
    };
    let unit = match unit {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    let seconds = number.parse::<f64>().ok().filter(|n| *n >= 0.0)? * unit;
    u32::try_from(crate::random::floor(seconds)).ok().map(|seconds| seconds.min(SECONDS_MAX))
}

const SECONDS_MAX: u32 = 30 * 86_400;
const TTL_SALT: u64 = 0x7474_6C00;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_in_the_asked_proportion() {
        let ttl: Ttl = "60s:0.3, 1.5h:0.6, 92.6d:0.1".parse().unwrap();
        let mut counts = [0; 3];
        for id in 0..10_000 {
            let index = match ttl.seconds(id) {
                60 => 0,
                5400 => 1,
                2_592_000 => 2,
                other => panic!("{other}"),
            };
            counts[index] += 1;
        }
        let expected: [i32; 3] = [3000, 6000, 1000];
        for (count, expected) in counts.iter().zip(expected) {
            assert!(expected.abs_diff(*count) < 150, "{counts:?}");
        }
    }

    #[test]
    fn without_times_values_live_for_ever() {
        assert_eq!(Ttl::none().seconds(7), 0);
        assert_eq!("0".parse::<Ttl>().unwrap().seconds(7), 0);
        assert!("60x".parse::<Ttl>().is_err() && "60s:0".parse::<Ttl>().is_err());
    }
}
