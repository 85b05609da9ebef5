//! How often each key is asked for.
//!
//! Zipf's law by rejection-inversion (Hörmann and Derflinger, "Rejection-inversion to generate
//! variates from monotone discrete distributions", 1996): constant time and no tables whatever the
//! exponent, below 1 and at 1 as well. Ranks are 1 for the most popular key and so on.

use crate::random::{Random, floor};

/// A distribution over the ranks 0 to `count - 1`.
#[derive(Clone, Debug)]
pub enum Popularity {
    /// Each as likely as any other.
    Uniform {
        /// How many.
        count: u64,
    },
    /// Rank r with a probability that falls as (r + 1) to the power of minus the exponent.
    Zipf(Zipf),
}

impl Popularity {
    /// `count` ranks; an exponent of 0 is uniform.
    #[must_use]
    pub fn new(count: u64, exponent: f64) -> Self {
        if exponent == 0.0 {
            Self::Uniform { count }
        } else {
            Self::Zipf(Zipf::new(count, exponent))
        }
    }

    /// A rank.
    pub fn draw(&self, random: &mut Random) -> u64 {
        match self {
            Self::Uniform { count } => random.below(*count),
            Self::Zipf(zipf) => zipf.draw(random),
        }
    }
}

/// Zipf's law; see the module.
#[derive(Clone, Debug)]
pub struct Zipf {
    count: f64,
    exponent: f64,
    /// The integral up to the first rank's upper edge, less that rank's weight.
    integral_first: f64,
    /// The integral up to the last rank's upper edge.
    integral_last: f64,
    /// Below this distance from the inverse a rank is accepted without a look at its weight.
    shortcut: f64,
}

impl Zipf {
    fn new(count: u64, exponent: f64) -> Self {
        let count = count as f64;
        let mut zipf =
            Self { count, exponent, integral_first: 0.0, integral_last: 0.0, shortcut: 0.0 };
        zipf.integral_first = zipf.integral(1.5) - 1.0;
        zipf.integral_last = zipf.integral(count + 0.5);
        zipf.shortcut = 2.0 - zipf.inverse(zipf.integral(2.5) - zipf.weight(2.0));
        zipf
    }

    fn draw(&self, random: &mut Random) -> u64 {
        loop {
            let span = self.integral_first - self.integral_last;
            let area = self.integral_last + random.unit() * span;
            let point = self.inverse(area);
            let rank = (point + 0.5).clamp(1.0, self.count).trunc();
            if rank - point <= self.shortcut
                || area >= self.integral(rank + 0.5) - self.weight(rank)
            {
                return floor(rank) - 1;
            }
        }
    }

    /// x to the power of minus the exponent.
    fn weight(&self, x: f64) -> f64 {
        libm::exp(-self.exponent * libm::log(x))
    }

    /// The integral of the weight from 1 to x.
    fn integral(&self, x: f64) -> f64 {
        let log = libm::log(x);
        expm1_over((1.0 - self.exponent) * log) * log
    }

    /// Where the integral has this value.
    fn inverse(&self, area: f64) -> f64 {
        let scaled = (area * (1.0 - self.exponent)).max(-1.0);
        libm::exp(log1p_over(scaled) * area)
    }
}

/// (e^x - 1) / x, continuous at 0.
fn expm1_over(x: f64) -> f64 {
    if x.abs() > NEAR_ZERO { libm::expm1(x) / x } else { 1.0 + x / 2.0 * (1.0 + x / 3.0) }
}

/// ln(1 + x) / x, continuous at 0.
fn log1p_over(x: f64) -> f64 {
    if x.abs() > NEAR_ZERO { libm::log1p(x) / x } else { 1.0 - x * (0.5 - x / 3.0) }
}

/// Below this the first terms of the series are exact to the last bit.
const NEAR_ZERO: f64 = 1e-8;

#[cfg(test)]
mod tests {
    use super::*;

    /// Pearson's statistic of `draws` draws over the first ranks one by one and all others as one.
    fn chi_squared(count: u64, exponent: f64) -> f64 {
        let (popularity, mut random) = (Popularity::new(count, exponent), Random::new(1, 0));
        let single = 50.min(count);
        let mut seen = vec![0_u32; usize::try_from(single).unwrap() + 1];
        for _ in 0..DRAWS {
            let rank = popularity.draw(&mut random);
            assert!(rank < count);
            seen[usize::try_from(rank.min(single)).unwrap()] += 1;
        }
        let weight = |rank: u64| (rank as f64 + 1.0).powf(-exponent);
        let total: f64 = (0..count).map(weight).sum();
        let mut expected: Vec<_> = (0..single).map(weight).collect();
        expected.push((single..count).map(weight).sum());
        let cells = seen.iter().zip(&expected).filter(|(_, weight)| **weight > 0.0);
        cells
            .map(|(&seen, weight)| {
                let expected = weight / total * f64::from(DRAWS);
                (f64::from(seen) - expected).powi(2) / expected.max(1e-9)
            })
            .sum()
    }

    const DRAWS: u32 = 200_000;

    #[test]
    fn every_exponent_fits_its_law() {
        // 50 degrees of freedom: above 86.7 by chance once in a thousand; the seed is fixed.
        for exponent in [0.0, 0.0242, 0.3048, 0.735, 0.8551, 0.99, 1.0, 1.2117, 1.6414] {
            let statistic = chi_squared(10_000, exponent);
            assert!(statistic < 86.7, "exponent {exponent}: {statistic}");
        }
        // Rare ranks of a steep law are too few for the statistic: fewer ranks.
        assert!(chi_squared(10, 2.6774) < 27.9);
        assert!(chi_squared(1, 1.0) < 1e-6);
    }

    #[test]
    fn draws_are_the_same_on_every_machine() {
        let draw = |exponent| {
            let (zipf, mut random) = (Popularity::new(1 << 30, exponent), Random::new(5, 0));
            std::array::from_fn::<u64, 6, _>(|_| zipf.draw(&mut random))
        };
        assert_eq!(draw(0.99), PINNED_099);
        assert_eq!(draw(0.0), PINNED_UNIFORM);
    }

    const PINNED_099: [u64; 6] = [0, 136_881_839, 12, 95, 13_095_120, 0];
    const PINNED_UNIFORM: [u64; 6] =
        [1_052_096_657, 113_675_878, 927_566_008, 835_412_693, 240_373_939, 1_071_493_787];
}
