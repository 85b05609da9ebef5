//! When a run ends, and what one thread may still begin until then.

use std::time::Duration;

use crate::clock::nanos;
use crate::workload::traffic::Part;

/// When a run ends. Requests under way are waited for, so a run may go a little beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// After this time.
    Time(Duration),
    /// After this many requests, over all threads; those that an answer leads to come on top.
    Requests(u64),
    /// When the trace, or every key in turn, is at its end.
    Traffic,
}

/// What may still begin.
#[derive(Debug)]
pub(crate) enum Budget {
    Until(u64),
    Requests(u64),
    Traffic { over: bool },
}

impl Budget {
    pub(crate) fn new(limit: Limit, part: Part) -> Self {
        match limit {
            Limit::Time(duration) => Self::Until(nanos(duration)),
            Limit::Requests(requests) => Self::Requests(part.of(requests)),
            Limit::Traffic => Self::Traffic { over: false },
        }
    }

    /// Whether a request may begin that is due then.
    pub(crate) fn allows(&self, due_nanos: u64) -> bool {
        match self {
            Self::Until(end_nanos) => due_nanos < *end_nanos,
            Self::Requests(left) => *left > 0,
            Self::Traffic { over } => !over,
        }
    }

    /// A request has begun, or there was none left to begin.
    pub(crate) fn take(&mut self, begun: bool) {
        match self {
            Self::Requests(left) if begun => *left -= 1,
            Self::Until(_) if begun => {}
            Self::Traffic { .. } if begun => {}
            over => *over = Self::Traffic { over: true },
        }
    }

    /// How long requests have been waited for that should have begun by now.
    pub(crate) fn overtime(&self, now_nanos: u64) -> u64 {
        match self {
            Self::Until(end_nanos) => now_nanos.saturating_sub(*end_nanos),
            Self::Requests(_) | Self::Traffic { .. } => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_run_out_and_are_shared() {
        let mut budget = Budget::new(Limit::Requests(5), Part { index: 1, count: 3 });
        for _ in 0..2 {
            assert!(budget.allows(u64::MAX));
            budget.take(true);
        }
        assert!(!budget.allows(0));
    }

    #[test]
    fn time_runs_out_for_what_is_due_after_it() {
        let mut budget = Budget::new(Limit::Time(Duration::from_secs(1)), Part::WHOLE);
        assert!(budget.allows(999_999_999) && !budget.allows(1_000_000_000));
        assert_eq!((budget.overtime(0), budget.overtime(1_500_000_000)), (0, 500_000_000));
        budget.take(false);
        assert!(!budget.allows(0));
    }

    #[test]
    fn a_trace_ends_when_there_is_nothing_left_to_begin() {
        let mut budget = Budget::new(Limit::Traffic, Part::WHOLE);
        budget.take(true);
        assert!(budget.allows(0));
        budget.take(false);
        assert!(!budget.allows(0));
    }
}
