//! Who may walk over everything that is stored, one client at a time, and what the walks found.
//!
//! The walk itself is the reply of the client's connection, a piece of it each turn
//! ([`crate::command`]); no thread is needed for it.

use crate::clock::Seconds;
use crate::sync::{Mutex, lock};
use std::sync::Arc;

/// See the module's text.
#[derive(Debug)]
pub struct Crawler(Mutex<State>);

#[derive(Debug)]
struct State {
    enabled: bool,
    running: Option<Running>,
    figures: Figures,
}

#[derive(Debug)]
struct Running {
    number: u64,
    last_step: Seconds,
}

/// The right to walk, until dropped or lost.
#[derive(Debug)]
pub struct Turn {
    crawler: Arc<Crawler>,
    number: u64,
}

/// Counts for `stats`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Walks begun.
    pub starts: u64,
    /// Items looked at.
    pub checked: u64,
    /// Dead items dropped.
    pub reclaimed: u64,
}

/// Somebody else walks.
#[derive(Clone, Copy, Debug)]
pub struct Busy;

impl Crawler {
    /// With nobody walking.
    #[must_use]
    pub fn new(enabled: bool) -> Self {
        Self(Mutex::new(State { enabled, running: None, figures: Figures::default() }))
    }

    /// Whether walking is allowed.
    #[must_use]
    pub fn enabled(&self) -> bool {
        lock(&self.0).enabled
    }

    /// Allows it or not; `false` if that changes nothing.
    pub fn enable(&self, enabled: bool) -> bool {
        std::mem::replace(&mut lock(&self.0).enabled, enabled) != enabled
    }

    /// Whether somebody walks.
    #[must_use]
    pub fn running(&self) -> bool {
        lock(&self.0).running.is_some()
    }

    /// What was counted since start.
    #[must_use]
    pub fn figures(&self) -> Figures {
        lock(&self.0).figures
    }

    /// Begins a walk.
    ///
    /// # Errors
    /// [`Busy`], unless whoever walks has not made a step for [`STALL_SECONDS`], because its client
    /// does not read: then the turn is lost to the newcomer.
    pub fn start(self: &Arc<Self>, now: Seconds) -> Result<Turn, Busy> {
        let mut state = lock(&self.0);
        let stalled = |running: &Running| now.saturating_sub(running.last_step) > STALL_SECONDS;
        if state.running.as_ref().is_some_and(|running| !stalled(running)) {
            return Err(Busy);
        }
        state.figures.starts += 1;
        let number = state.figures.starts;
        state.running = Some(Running { number, last_step: now });
        Ok(Turn { crawler: Arc::clone(self), number })
    }
}

impl Turn {
    /// Makes it known that the walk goes on and what it found; `false` if the turn is lost.
    pub fn step(&self, now: Seconds, checked: u64, reclaimed: u64) -> bool {
        let mut state = lock(&self.crawler.0);
        let State { running, figures, .. } = &mut *state;
        figures.checked += checked;
        figures.reclaimed += reclaimed;
        match running {
            Some(running) if running.number == self.number => {
                running.last_step = now;
                true
            }
            _ => false,
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let running = &mut lock(&self.crawler.0).running;
        if running.as_ref().is_some_and(|running| running.number == self.number) {
            *running = None;
        }
    }
}

/// A client that reads nothing for so long is not waited for by others.
pub const STALL_SECONDS: Seconds = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_walks_at_a_time() {
        let crawler = Arc::new(Crawler::new(true));
        let turn = crawler.start(100).unwrap();
        assert!(crawler.start(100).is_err());
        assert!(turn.step(130, 10, 1));
        assert!(crawler.start(130 + STALL_SECONDS).is_err());
        drop(turn);
        assert!(!crawler.running());
        assert!(crawler.start(131).is_ok());
        assert_eq!((crawler.figures().starts, crawler.figures().checked), (2, 10));
    }

    #[test]
    fn who_stalls_loses_the_turn() {
        let crawler = Arc::new(Crawler::new(true));
        let stalled = crawler.start(100).unwrap();
        let turn = crawler.start(101 + STALL_SECONDS).unwrap();
        assert!(!stalled.step(102 + STALL_SECONDS, 0, 0));
        drop(stalled);
        assert!(crawler.running());
        assert!(turn.step(103 + STALL_SECONDS, 0, 0));
    }

    #[test]
    fn enabling_twice_changes_nothing() {
        let crawler = Crawler::new(true);
        assert!(!crawler.enable(true));
        assert!(crawler.enable(false));
        assert!(!crawler.enabled());
    }
}
