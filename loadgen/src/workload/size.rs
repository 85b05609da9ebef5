//! Distributions of key and value sizes. A size is a function of a point in [0, 1), and the point
//! is a function of the key: the same key has the same size always and everywhere.

use std::str::FromStr;

use crate::random::floor;

/// A distribution of sizes in bytes.
#[derive(Clone, Debug, PartialEq)]
pub enum Size {
    /// Always the same: `100`.
    Fixed(f64),
    /// Anything between two sizes alike: `uniform:16,255`.
    Uniform(f64, f64),
    /// Logarithms normally distributed, given by the mean of the sizes and the deviation of the
    /// logarithms: `lognormal:273,0.6`.
    Lognormal(f64, f64),
    /// Generalised Pareto, by location, scale and shape: `pareto:15,214.476,0.348238`.
    Pareto(f64, f64, f64),
    /// Generalised extreme values, by location, scale and shape: `gev:30.8,8.2,0.079`.
    Gev(f64, f64, f64),
    /// Known percentiles, geometrically in between: `quantiles:50=63,90=895,99=25000`.
    Quantiles(Vec<(f64, f64)>),
    /// The values of the pool "ETC" of Atikoglu et al. (2012), Table 5 and section 5.1: up to 14
    /// bytes by table, above as generalised Pareto.
    Etc,
}

impl Size {
    /// The size at a point of [0, 1): the smaller the point, the smaller the size.
    #[must_use]
    pub fn at(&self, point: f64) -> u64 {
        floor(self.real(point) + 0.5).min(BYTES_MAX)
    }

    /// The mean, by the middles of many equal parts.
    #[must_use]
    pub fn mean(&self) -> f64 {
        let part = |index: u32| self.at((f64::from(index) + 0.5) / f64::from(MEAN_PARTS)) as f64;
        (0..MEAN_PARTS).map(part).sum::<f64>() / f64::from(MEAN_PARTS)
    }

    /// The same with a tail above the last known percentile that gives it this mean, as far as a
    /// tail can.
    #[must_use]
    pub fn with_tail(&self, mean: f64) -> Self {
        let Self::Quantiles(known) = self else { return self.clone() };
        let &(percent, last) = known.last().expect("a percentile is known");
        let share = 1.0 - percent / 100.0;
        // Up to here the mean counts the tail as if it stayed at the last size.
        let missing = (mean - self.mean()) / share + last;
        let (mut low, mut high) = (last * 1.000_001, BYTES_MAX as f64);
        for _ in 0..TAIL_STEPS {
            let end = libm::sqrt(low * high);
            let tail_mean = (end - last) / libm::log(end / last);
            if tail_mean < missing { low = end } else { high = end }
        }
        Self::Quantiles(known.iter().copied().chain([(100.0, low)]).collect())
    }

    /// The greatest size there can be.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.at(1.0 - f64::EPSILON / 2.0)
    }

    fn real(&self, point: f64) -> f64 {
        match self {
            Self::Fixed(bytes) => *bytes,
            Self::Uniform(low, high) => (low + point * (high - low + 1.0) - 0.5).min(*high),
            Self::Lognormal(mean, deviation) => {
                let middle = libm::log(*mean) - deviation * deviation / 2.0;
                libm::exp(middle + deviation * normal_quantile(point))
            }
            Self::Pareto(location, scale, shape) => pareto(*location, *scale, *shape, point),
            Self::Gev(location, scale, shape) => {
                let log = -libm::log(point.max(f64::MIN_POSITIVE));
                location + scale * libm::expm1(-shape * libm::log(log)) / shape
            }
            Self::Quantiles(known) => between(known, point * 100.0),
            Self::Etc => etc(point),
        }
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || format!("`{text}` is not a size: {SYNTAX}");
        let (kind, rest) = text.split_once(':').unwrap_or(("fixed", text));
        if kind == "quantiles" {
            return quantiles(rest).ok_or_else(bad);
        }
        if text == "etc" {
            return Ok(Self::Etc);
        }
        let numbers: Vec<f64> =
            rest.split(',').map(str::parse).collect::<Result<_, _>>().map_err(|_| bad())?;
        if !numbers.iter().all(|number| number.is_finite() && *number >= 0.0) {
            return Err(bad());
        }
        match (kind, numbers.as_slice()) {
            ("fixed", [bytes]) => Ok(Self::Fixed(*bytes)),
            ("uniform", [low, high]) if low <= high => Ok(Self::Uniform(*low, *high)),
            ("lognormal", [mean, deviation]) if *mean > 0.0 => {
                Ok(Self::Lognormal(*mean, *deviation))
            }
            ("pareto", [location, scale, shape]) if *shape > 0.0 => {
                Ok(Self::Pareto(*location, *scale, *shape))
            }
            ("gev", [location, scale, shape]) if *shape > 0.0 => {
                Ok(Self::Gev(*location, *scale, *shape))
            }
            _ => Err(bad()),
        }
    }
}

fn pareto(location: f64, scale: f64, shape: f64, point: f64) -> f64 {
    location + scale * libm::expm1(-shape * libm::log1p(-point)) / shape
}

fn etc(point: f64) -> f64 {
    let mut sum = 0.0;
    for (bytes, share) in (0_u32..).zip(ETC_HEAD) {
        sum += share;
        if point < sum {
            return f64::from(bytes);
        }
    }
    pareto(15.0, 214.476, 0.348_238, (point - sum) / (1.0 - sum))
}

fn quantiles(text: &str) -> Option<Size> {
    let pair = |pair: &str| {
        let (percent, bytes) = pair.split_once('=')?;
        Some((percent.parse::<f64>().ok()?, bytes.parse::<f64>().ok()?))
    };
    let known = text.split(',').map(pair).collect::<Option<Vec<_>>>()?;
    let rising = known.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 <= two[1].1);
    let in_range = |&(percent, bytes): &(f64, f64)| {
        (0.0..=100.0).contains(&percent) && bytes >= 1.0 && bytes.is_finite()
    };
    (rising && known.iter().all(in_range)).then_some(Size::Quantiles(known))
}

/// Geometric interpolation; outside the known percentiles their first and last size.
fn between(known: &[(f64, f64)], percent: f64) -> f64 {
    let above = known.partition_point(|(known, _)| *known <= percent);
    match (above.checked_sub(1).map(|below| known[below]), known.get(above)) {
        (Some((low, from)), Some((high, to))) => {
            from * libm::pow(to / from, (percent - low) / (high - low))
        }
        (Some((_, bytes)), None) | (None, Some(&(_, bytes))) => bytes,
        (None, None) => 0.0,
    }
}

/// The inverse of the normal distribution, by Acklam's rational approximation (relative error
/// below 1.2e-9).
fn normal_quantile(point: f64) -> f64 {
    let point = point.clamp(1e-12, 1.0 - 1e-12);
    let tail = |q: f64| polynomial(&TAIL_TOP, q) / polynomial(&TAIL_BOTTOM, q);
    if point < TAIL {
        tail(libm::sqrt(-2.0 * libm::log(point)))
    } else if point > 1.0 - TAIL {
        -tail(libm::sqrt(-2.0 * libm::log1p(-point)))
    } else {
        let (q, r) = (point - 0.5, (point - 0.5) * (point - 0.5));
        polynomial(&MIDDLE_TOP, r) * q / polynomial(&MIDDLE_BOTTOM, r)
    }
}

/// Highest power first.
fn polynomial(coefficients: &[f64], x: f64) -> f64 {
    coefficients.iter().fold(0.0, |sum, coefficient| sum * x + coefficient)
}

const SYNTAX: &str = "BYTES, uniform:LOW,HIGH, lognormal:MEAN,SIGMA, pareto:LOCATION,SCALE,SHAPE, \
                      gev:LOCATION,SCALE,SHAPE, quantiles:P=BYTES,.. or etc";
/// No server takes more.
const BYTES_MAX: u64 = 1 << 30;
const MEAN_PARTS: u32 = 20_000;
/// Halvings of the range of a tail.
const TAIL_STEPS: u32 = 50;
const ETC_HEAD: [f64; 15] = [
    0.00536, 0.00047, 0.17820, 0.09239, 0.00018, 0.02740, 0.00065, 0.00606, 0.00023, 0.00837,
    0.00837, 0.08989, 0.00092, 0.00326, 0.01980,
];
const TAIL: f64 = 0.024_25;
const TAIL_TOP: [f64; 6] = [
    -7.784_894_002_430_293e-3,
    -3.223_964_580_411_365e-1,
    -2.400_758_277_161_838,
    -2.549_732_539_343_734,
    4.374_664_141_464_968,
    2.938_163_982_698_783,
];
const TAIL_BOTTOM: [f64; 5] = [
    7.784_695_709_041_462e-3,
    3.224_671_290_700_398e-1,
    2.445_134_137_142_996,
    3.754_408_661_907_416,
    1.0,
];
const MIDDLE_TOP: [f64; 6] = [
    -3.969_683_028_665_376e1,
    2.209_460_984_245_205e2,
    -2.759_285_104_469_687e2,
    1.383_577_518_672_69e2,
    -3.066_479_806_614_716e1,
    2.506_628_277_459_239,
];
const MIDDLE_BOTTOM: [f64; 6] = [
    -5.447_609_879_822_406e1,
    1.615_858_368_580_409e2,
    -1.556_989_798_598_866e2,
    6.680_131_188_771_972e1,
    -1.328_068_155_288_572e1,
    1.0,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn size(text: &str) -> Size {
        text.parse().unwrap()
    }

    fn drawn_mean(size: &Size) -> f64 {
        let mut random = Random::new(3, 0);
        (0..200_000).map(|_| size.at(random.unit()) as f64).sum::<f64>() / 200_000.0
    }

    #[test]
    fn every_distribution_has_its_mean() {
        let means = [
            ("100", 100.0),
            ("uniform:16,255", 135.5),
            ("lognormal:273,0.6", 273.0),
            ("lognormal:67485,0.6", 67_485.0),
            // The location and the scale over one less the shape.
            ("pareto:15,214.476,0.348238", 15.0 + 214.476 / (1.0 - 0.348_238)),
            // By the gamma function: location + scale * (gamma(1 - shape) - 1) / shape.
            ("gev:30.7984,8.20449,0.078688", 36.31),
        ];
        for (text, mean) in means {
            let size = size(text);
            let (drawn, computed) = (drawn_mean(&size), size.mean());
            assert!((drawn / mean - 1.0).abs() < 0.02, "{text}: drawn {drawn}, not {mean}");
            assert!((computed / mean - 1.0).abs() < 0.02, "{text}: {computed}, not {mean}");
        }
    }

    #[test]
    fn quantiles_come_back() {
        let size = size("quantiles:10=95,50=159,90=191,99=959");
        let mut random = Random::new(3, 0);
        let mut drawn: Vec<_> = (0..100_001).map(|_| size.at(random.unit())).collect();
        drawn.sort_unstable();
        for (index, bytes) in [(10_000, 95_u64), (50_000, 159), (90_000, 191), (99_000, 959)] {
            assert!(drawn[index].abs_diff(bytes) <= 1 + bytes / 25, "{index}: {}", drawn[index]);
        }
    }

    #[test]
    fn a_uniform_size_reaches_both_ends_and_no_further() {
        let size = size("uniform:3,5");
        let sizes: Vec<_> = [0.0, 0.3, 0.4, 0.6, 0.7, 0.999_999].map(|at| size.at(at)).into();
        assert_eq!(sizes, [3, 3, 4, 4, 5, 5]);
    }

    #[test]
    fn etc_has_two_byte_values_as_often_as_published() {
        let mut random = Random::new(3, 0);
        let two = (0..100_000).filter(|_| Size::Etc.at(random.unit()) == 2).count();
        assert!(two.abs_diff(17_820) < 500, "{two}");
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for bad in ["", "x", "-1", "uniform:5", "uniform:5,3", "quantiles:50=5,40=6", "gev:1,2,0"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }
}
