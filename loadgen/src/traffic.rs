//! Which operation comes next, and on which key. The same seed gives the same sequence on every
//! machine.

use crate::workload::{Mix, Workload};

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Ask for one or more keys.
    Get,
    /// Store one key.
    Set,
}

/// An endless sequence of operations and keys.
#[derive(Clone, Debug)]
pub struct Traffic {
    mix: Mix,
    order: Order,
    random: Random,
    keys: u64,
}

/// How keys follow one another.
#[derive(Clone, Copy, Debug)]
enum Order {
    Uniform,
    Sequential { next: u64 },
}

impl Traffic {
    /// Every key equally likely; `stream` tells the sequences of several threads apart.
    #[must_use]
    pub fn uniform(workload: &Workload, stream: u64) -> Self {
        Self::new(workload, stream, Order::Uniform)
    }

    /// Key 0, key 1 and so on, round and round.
    #[must_use]
    pub fn sequential(workload: &Workload) -> Self {
        Self::new(workload, 0, Order::Sequential { next: 0 })
    }

    /// The kind of the next request.
    pub fn operation(&mut self) -> Operation {
        match self.mix {
            Mix { sets: 0, .. } => Operation::Get,
            Mix { gets: 0, .. } => Operation::Set,
            Mix { gets, .. } if self.random.below(self.mix.parts()) < u64::from(gets) => {
                Operation::Get
            }
            _ => Operation::Set,
        }
    }

    /// The number of the next key.
    pub fn key(&mut self) -> u64 {
        match &mut self.order {
            Order::Uniform => self.random.below(self.keys),
            Order::Sequential { next } => {
                let key = *next;
                *next = (key + 1) % self.keys;
                key
            }
        }
    }

    fn new(workload: &Workload, stream: u64, order: Order) -> Self {
        let random = Random::new(workload.seed, stream);
        Self { mix: workload.mix, order, random, keys: workload.keys.get() }
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): one addition and two multiplications a number, and
/// every seed is a good one.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn new(seed: u64, stream: u64) -> Self {
        let mut random = Self(seed);
        let offset = random.next();
        Self(offset.wrapping_add(stream.wrapping_mul(STREAM_STRIDE)))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, by multiplication instead of division; the bias is at most `bound`
    /// in 2^64.
    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

/// Far from SplitMix64's own step, so that streams do not run in each other's tracks.
const STREAM_STRIDE: u64 = 0xD1B5_4A32_D192_ED03;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::Values;
    use std::num::NonZeroU64;

    fn workload(mix: Mix, keys: u64) -> Workload {
        Workload {
            connections: 1,
            pipeline: 1,
            keys_per_get: 1,
            mix,
            value_bytes: 1,
            keys: NonZeroU64::new(keys).unwrap(),
            seed: 42,
            values: Values::Keyed,
        }
    }

    #[test]
    fn the_generator_is_splitmix64() {
        let mut random = Random(1_234_567);
        assert_eq!(random.next(), 6_457_827_717_110_365_317);
        assert_eq!(random.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn a_seed_repeats_itself_and_streams_differ() {
        let draw = |stream| {
            let mut traffic = Traffic::uniform(&workload(Mix::GETS, 1 << 40), stream);
            std::array::from_fn::<u64, 8, _>(|_| traffic.key())
        };
        assert_eq!(draw(0), draw(0));
        assert_ne!(draw(0), draw(1));
    }

    #[test]
    fn uniform_keys_cover_the_range_evenly() {
        let mut traffic = Traffic::uniform(&workload(Mix::GETS, 10), 0);
        let mut counts = [0_u32; 10];
        for _ in 0..10_000 {
            counts[usize::try_from(traffic.key()).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }

    #[test]
    fn sequential_keys_go_round() {
        let mut traffic = Traffic::sequential(&workload(Mix::SETS, 3));
        assert_eq!(std::array::from_fn(|_| traffic.key()), [0, 1, 2, 0]);
    }

    #[test]
    fn operations_come_in_the_asked_proportion() {
        let gets = |mix| {
            let mut traffic = Traffic::uniform(&workload(mix, 10), 0);
            (0..10_000).filter(|_| traffic.operation() == Operation::Get).count()
        };
        assert_eq!(gets(Mix::GETS), 10_000);
        assert_eq!(gets(Mix::SETS), 0);
        assert!((8_850..9_150).contains(&gets(Mix { gets: 9, sets: 1 })));
    }
}
