//! What is asked of a server, and for how long.

use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::Duration;

use crate::item::{KEY_BYTES, Values};

/// The requests of a run. A run is closed-loop: each connection sends `pipeline` requests, waits
/// for all their replies, and only then sends the next.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Connections over all threads.
    pub connections: usize,
    /// Requests a connection sends with one write.
    pub pipeline: usize,
    /// Keys in one get.
    pub keys_per_get: usize,
    /// Gets to sets.
    pub mix: Mix,
    /// Length of every value.
    pub value_bytes: usize,
    /// Number of distinct keys.
    pub keys: NonZeroU64,
    /// Where the random sequence of keys and operations begins.
    pub seed: u64,
    /// What the values must be.
    pub values: Values,
}

impl Workload {
    /// The sets that store every key once, in order, `pipeline` at a time.
    #[must_use]
    pub fn preload(&self) -> Self {
        Self { connections: 1, pipeline: 16, mix: Mix::SETS, ..self.clone() }
    }

    /// The longest indivisible piece of a reply: one value with its header.
    pub(crate) fn reply_piece_bytes_max(&self) -> usize {
        self.value_bytes + KEY_BYTES + LINE_OVERHEAD_BYTES
    }
}

/// A proportion of gets to sets, written `gets:sets`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    /// Parts that are gets.
    pub gets: u32,
    /// Parts that are sets.
    pub sets: u32,
}

impl Mix {
    /// Nothing but gets.
    pub const GETS: Self = Self { gets: 1, sets: 0 };
    /// Nothing but sets.
    pub const SETS: Self = Self { gets: 0, sets: 1 };

    /// Parts in all, never 0.
    #[must_use]
    pub fn parts(self) -> u64 {
        u64::from(self.gets) + u64::from(self.sets)
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once(':').and_then(|(gets, sets)| {
            Some(Self { gets: gets.parse().ok()?, sets: sets.parse().ok()? })
        });
        parts
            .filter(|mix| mix.parts() > 0)
            .ok_or_else(|| format!("`{text}` is not GETS:SETS, as in 9:1"))
    }
}

/// When a run ends. Batches under way are finished, so a run may go a little beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// After this time.
    Time(Duration),
    /// After this many requests, over all threads.
    Requests(u64),
}

/// `VALUE `, flags, a length of up to 20 digits, the separators, and the line end behind the value.
const LINE_OVERHEAD_BYTES: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_is_two_numbers_not_both_zero() {
        assert_eq!("9:1".parse(), Ok(Mix { gets: 9, sets: 1 }));
        assert_eq!("0:1".parse(), Ok(Mix::SETS));
        for bad in ["", "9", "0:0", "a:1", "1:-1", "1:2:3"] {
            assert!(bad.parse::<Mix>().is_err(), "{bad}");
        }
    }
}
