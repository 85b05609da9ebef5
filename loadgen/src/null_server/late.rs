//! Answers that come late on purpose: known delays and stalls, for a load generator to measure.
//!
//! A reply is held until its time has come and until those before it on its connection are sent. A
//! stall is a server that does nothing for a while: what arrives is read at its end, and what would
//! have been sent is sent then.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::str::FromStr;
use std::time::{Duration, Instant};

use crate::args::number::time_nanos;
use crate::clock::{self, nanos};
use crate::random::{Random, floor};
use crate::timer::Timer;

/// How long each request is held.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Delay {
    /// Always as long, in nanoseconds: `fixed:500us`.
    Fixed(f64),
    /// From the one to the other, in nanoseconds: `uniform:1ms,3ms`.
    Uniform(f64, f64),
    /// With this mean, in nanoseconds: `exp:200us`.
    Exponential(f64),
}

/// When the server does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// When it begins, in nanoseconds since the first request.
    begin_nanos: u64,
    /// How long it is.
    nanos: u64,
    /// How long after its beginning the next one begins; `None` when it is the only one.
    period_nanos: Option<u64>,
}

/// By how much answers are late.
#[derive(Clone, Debug)]
pub struct Lateness {
    delay: Option<Delay>,
    stall: Option<Stall>,
    random: Random,
    /// When the first request arrived.
    start: Option<Instant>,
}

impl Lateness {
    /// Delays drawn from the sequence of `seed`, in the order in which requests arrive.
    #[must_use]
    pub fn new(delay: Option<Delay>, stall: Option<Stall>, seed: u64) -> Self {
        Self { delay, stall, random: Random::new(seed, 0), start: None }
    }

    /// When the answer to a request is due that arrives now, in nanoseconds since the first one.
    fn due_nanos(&mut self) -> u64 {
        let now_nanos = self.now_nanos();
        let delay_nanos = self.delay.map_or(0, |delay| delay.draw(&mut self.random));
        self.stalled(self.stalled(now_nanos).saturating_add(delay_nanos))
    }

    /// The end of the stall that `nanos` falls into, or `nanos` itself.
    fn stalled(&self, nanos: u64) -> u64 {
        self.stall.map_or(nanos, |stall| stall.end_of(nanos))
    }

    fn now_nanos(&mut self) -> u64 {
        let now = clock::now();
        nanos(now - *self.start.get_or_insert(now))
    }
}

impl Delay {
    /// One delay, in nanoseconds.
    pub fn draw(self, random: &mut Random) -> u64 {
        floor(match self {
            Self::Fixed(nanos) => nanos,
            Self::Uniform(from, to) => from + random.unit() * (to - from),
            Self::Exponential(mean) => mean * random.exponential(),
        })
    }
}

impl Stall {
    fn end_of(self, nanos: u64) -> u64 {
        let Some(since) = nanos.checked_sub(self.begin_nanos) else { return nanos };
        let since = self.period_nanos.map_or(since, |period| since % period);
        nanos.saturating_add(self.nanos.saturating_sub(since))
    }
}

impl FromStr for Delay {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || match text.split_once(':')? {
            ("fixed", time) => Some(Self::Fixed(time_nanos(time)?)),
            ("exp", mean) => Some(Self::Exponential(time_nanos(mean)?)),
            ("uniform", range) => {
                let (from, to) = range.split_once(',')?;
                Some(Self::Uniform(time_nanos(from)?, time_nanos(to)?))
            }
            _ => None,
        };
        let in_order = |delay: &Self| match *delay {
            Self::Fixed(nanos) | Self::Exponential(nanos) => nanos >= 0.0,
            Self::Uniform(from, to) => 0.0 <= from && from <= to,
        };
        parse().filter(in_order).ok_or_else(|| {
            format!("`{text}` is no delay, as in fixed:500us, uniform:1ms,3ms or exp:200us")
        })
    }
}

impl FromStr for Stall {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (every, rest) = text.strip_prefix("every:").map_or((false, text), |s| (true, s));
            let (at, length) = rest.split_once(':')?;
            let (begin_nanos, nanos) = (floor(time_nanos(at)?), floor(time_nanos(length)?));
            let period_nanos = every.then_some(begin_nanos);
            Some(Self { begin_nanos, nanos, period_nanos })
        };
        let apart = |stall: &Self| stall.period_nanos.is_none_or(|period| stall.nanos < period);
        parse()
            .filter(apart)
            .ok_or_else(|| format!("`{text}` is no stall, as in 2s:100ms or every:1s:100ms"))
    }
}

/// The replies that a server holds, over all connections.
pub(super) struct Held {
    lateness: Lateness,
    /// When a connection has something to send, the next one first.
    due: BinaryHeap<Reverse<(u64, usize)>>,
    timer: Timer,
}

impl Held {
    pub(super) fn new(lateness: Lateness, timer: Timer) -> Self {
        Self { lateness, due: BinaryHeap::new(), timer }
    }

    /// When the reply to a request is due that this connection has sent just now and that may not
    /// overtake the one due at `after_nanos`.
    pub(super) fn hold(&mut self, connection: usize, after_nanos: u64) -> u64 {
        let due_nanos = self.lateness.due_nanos().max(after_nanos);
        self.due.push(Reverse((due_nanos, connection)));
        due_nanos
    }

    /// The time in nanoseconds, and the connection of one reply that is due by then.
    pub(super) fn pop(&mut self) -> Option<(u64, usize)> {
        let now_nanos = self.lateness.now_nanos();
        let Reverse((due_nanos, connection)) = *self.due.peek()?;
        if due_nanos > now_nanos {
            return None;
        }
        self.due.pop();
        Some((now_nanos, connection))
    }

    /// Has the timer wake the server when the next reply is due.
    pub(super) fn wake(&mut self) -> io::Result<()> {
        let Some(Reverse((due_nanos, _))) = self.due.peek() else { return Ok(()) };
        let wait_nanos = due_nanos.saturating_sub(self.lateness.now_nanos());
        self.timer.set(Duration::from_nanos(wait_nanos))
    }
}

#[cfg(test)]
mod tests {
    use mio::{Poll, Token};

    use super::*;

    #[test]
    fn delays_have_their_means() {
        for (text, mean) in [("fixed:500us", 5e5), ("uniform:1ms,3ms", 2e6), ("exp:200us", 2e5)] {
            let (delay, mut random) = (text.parse::<Delay>().unwrap(), Random::new(1, 0));
            let sum: u64 = (0..100_000).map(|_| delay.draw(&mut random)).sum();
            assert!((sum as f64 / 1e5 / mean - 1.0).abs() < 0.01, "{text}: {sum}");
        }
    }

    #[test]
    fn a_stall_ends_at_once_for_all_that_fell_into_it() {
        let once: Stall = "2us:100ns".parse().unwrap();
        let ends = [1999, 2000, 2099, 2100, 4000].map(|nanos| once.end_of(nanos));
        assert_eq!(ends, [1999, 2100, 2100, 2100, 4000]);
        let every: Stall = "every:1us:100ns".parse().unwrap();
        let ends = [0, 999, 1000, 1099, 1100, 7005].map(|nanos| every.end_of(nanos));
        assert_eq!(ends, [0, 999, 1100, 1100, 1100, 7100]);
    }

    #[test]
    fn replies_are_due_in_their_order() {
        let poll = Poll::new().unwrap();
        let timer = Timer::register(poll.registry(), Token(0)).unwrap();
        let mut held = Held::new(Lateness::new(Some(Delay::Fixed(0.0)), None, 1), timer);
        assert_eq!(held.hold(3, u64::MAX), u64::MAX);
        assert!(held.hold(4, 0) < u64::MAX);
        assert_eq!(held.pop().map(|(_, connection)| connection), Some(4));
        assert_eq!(held.pop(), None);
    }

    #[test]
    fn what_is_no_delay_and_no_stall_is_refused() {
        for bad in ["", "fixed", "fixed:x", "exp:-1ms", "uniform:3ms,1ms", "normal:1ms"] {
            assert!(bad.parse::<Delay>().is_err(), "{bad}");
        }
        for bad in ["", "1s", "every:100ms:1s", "1s:x"] {
            assert!(bad.parse::<Stall>().is_err(), "{bad}");
        }
    }
}
