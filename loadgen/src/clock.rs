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

/// A duration in whole nanoseconds.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Waits a moment before asking another process again whether it is ready.
#[expect(clippy::disallowed_methods, reason = "a foreign process's start has no event to wait for")]
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}
