//! Whether what a server answers is true: values that describe themselves, and a ledger of what has
//! been acknowledged, against which every answer is held.

pub mod counters;
pub mod ledger;
pub mod value;

use std::fmt;

/// A way in which an answer is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A value that nobody stored: parts of several, or bytes that changed.
    Torn,
    /// The value of another key.
    Foreign,
    /// A value older than one whose storing was acknowledged before it was asked for.
    Stale,
    /// Not what the protocol allows here.
    Violation,
}

impl Fault {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Torn, Self::Foreign, Self::Stale, Self::Violation];

    /// One word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Torn => "torn",
            Self::Foreign => "foreign",
            Self::Stale => "stale",
            Self::Violation => "violation",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Torn => "a torn value",
            Self::Foreign => "the value of another key",
            Self::Stale => "a stale value",
            Self::Violation => "a violation of the protocol",
        })
    }
}
