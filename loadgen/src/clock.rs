//! The one place that reads the clock.

use std::time::{Duration, Instant};

/// The current moment.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Waits a moment before asking another process again whether it is ready.
#[expect(clippy::disallowed_methods, reason = "a foreign process's start has no event to wait for")]
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}
