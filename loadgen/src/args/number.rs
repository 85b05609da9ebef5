//! Numbers on the command line.

use std::time::Duration;

use crate::random::floor;

/// A duration written in seconds, fractions allowed.
///
/// # Errors
///
/// When the text is not a number of seconds that a [`Duration`] can hold.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

pub(crate) fn not_negative(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| *number >= 0.0 && number.is_finite());
    number.ok_or_else(|| format!("`{text}` is not a number from 0"))
}

pub(crate) fn positive(text: &str) -> Result<f64, String> {
    match not_negative(text)? {
        0.0 => Err("it must be above 0".to_owned()),
        number => Ok(number),
    }
}

pub(crate) fn share(text: &str) -> Result<f64, String> {
    match not_negative(text)? {
        ..=1.0 => not_negative(text),
        _ => Err("it must be between 0 and 1".to_owned()),
    }
}

/// A number of bytes, with `k`, `m` or `g` for 1024s.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let lower = text.to_ascii_lowercase();
    let units = [('k', 1024.0), ('m', 1_048_576.0), ('g', 1_073_741_824.0)];
    let unit = units.into_iter().find_map(|(unit, bytes)| Some((lower.strip_suffix(unit)?, bytes)));
    let (digits, bytes) = unit.unwrap_or((&lower, 1.0));
    positive(digits).map(|number| floor(number * bytes))
}

/// A time with its unit, in nanoseconds; without one, in seconds.
pub(crate) fn time_nanos(text: &str) -> Option<f64> {
    let units = [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9)];
    let with_unit = units.into_iter().find_map(|(unit, nanos)| {
        text.strip_suffix(unit)?.trim().parse::<f64>().ok().map(|number| number * nanos)
    });
    with_unit.or_else(|| text.parse::<f64>().ok().map(|seconds| seconds * 1e9))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_ranges() {
        assert_eq!(bytes("400m"), Ok(400 << 20));
        assert_eq!(bytes("1.5K"), Ok(1536));
        assert!(bytes("x").is_err() && bytes("0").is_err() && bytes("-1g").is_err());
        assert_eq!((share("1"), share("0.5")), (Ok(1.0), Ok(0.5)));
        assert!(share("1.1").is_err() && share("-1").is_err() && positive("0").is_err());
        assert!(seconds("-1").is_err() && seconds("x").is_err());
    }
}
