//! The one place that reads the clock. Everything else is told the time.
//!
//! Seconds are Unix seconds, held in 32 bits (good until 2106), and never run backwards: the wall
//! clock is read once, at start, and the monotonic clock counts on from there, so that a step of
//! the wall clock neither kills nor revives an item.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment in Unix seconds. 0 means "never" where an expiry is meant.
pub type Seconds = u32;

/// The source of [`Seconds`] for a running server.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
    origin_since_epoch: Duration,
}

impl Clock {
    /// Reads both clocks, once.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    pub fn start() -> Self {
        let origin_since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { origin: Instant::now(), origin_since_epoch }
    }

    /// The current Unix second.
    #[must_use]
    pub fn now_seconds(&self) -> Seconds {
        Seconds::try_from(self.since_epoch().as_secs()).unwrap_or(Seconds::MAX)
    }

    /// The Unix second of [`Clock::start`].
    #[must_use]
    pub fn started_seconds(&self) -> Seconds {
        Seconds::try_from(self.origin_since_epoch.as_secs()).unwrap_or(Seconds::MAX)
    }

    /// Time since the Unix epoch.
    #[must_use]
    pub fn since_epoch(&self) -> Duration {
        self.origin_since_epoch.saturating_add(self.uptime())
    }

    /// Time since [`Clock::start`].
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    pub fn uptime(&self) -> Duration {
        Instant::now().duration_since(self.origin)
    }
}
