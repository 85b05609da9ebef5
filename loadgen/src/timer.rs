//! Wakes a poll to the microsecond. A poll's own timeout counts whole milliseconds, which is far
//! too coarse for when a request or a reply is due.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

/// A timer that a poll waits for besides its sockets.
#[derive(Debug)]
pub(crate) struct Timer(TimerFd);

impl Timer {
    /// One that is not set, known to the poll by `token`.
    pub(crate) fn register(registry: &Registry, token: Token) -> io::Result<Self> {
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
        let descriptor = timer.as_fd().as_raw_fd();
        registry.register(&mut SourceFd(&descriptor), token, Interest::READABLE)?;
        Ok(Self(timer))
    }

    /// Has the poll woken once after `wait`; what was set before is forgotten.
    pub(crate) fn set(&self, wait: Duration) -> io::Result<()> {
        // A wait of nothing would switch the timer off.
        let wait = TimeSpec::from_duration(wait.max(Duration::from_nanos(1)));
        Ok(self.0.set(Expiration::OneShot(wait), TimerSetTimeFlags::empty())?)
    }
}
