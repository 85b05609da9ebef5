//! The one place that reads the clock.

use std::time::{Duration, Instant, SystemTime};

/// The current moment.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Nanoseconds since 1970, as far as the system knows.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
pub(crate) fn unix_nanos() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, nanos)
}

/// The date, as in 2026-01-31, in UTC.
pub(crate) fn today() -> String {
    date(unix_nanos() / 1_000_000_000 / SECONDS_A_DAY)
}

/// The date so many days after the first of January 1970. Years are counted from March, so that the
/// leap day is their last, and in eras of 400, which all have as many days.
fn date(days: u64) -> String {
    let since = days + 719_468;
    let (era, day) = (since / 146_097, since % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    format!("{:04}-{month:02}-{day:02}", era * 400 + year)
}

/// A duration in whole nanoseconds.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Waits a moment before asking another process again whether it is ready.
#[expect(clippy::disallowed_methods, reason = "a foreign process's start has no event to wait for")]
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}

const SECONDS_A_DAY: u64 = 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_their_dates() {
        let dates = [0, 58, 59, 11_016, 11_017, 19_782, 20_513, 20_779].map(date);
        let expected = [
            "1970-01-01",
            "1970-02-28",
            "1970-03-01",
            "2000-02-29",
            "2000-03-01",
            "2024-02-29",
            "2026-03-01",
            "2026-11-22",
        ];
        assert_eq!(dates, expected);
    }
}
