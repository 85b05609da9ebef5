//! Why a run ends early.

use std::fmt;
use std::io::{self, ErrorKind};

use crate::engine::exchange::Wrong;

/// Why a run ended early.
#[derive(Debug)]
pub enum Error {
    /// A server could not be reached, or the system refused.
    Io(io::Error),
    /// A server gave a wrong answer.
    Wrong(Wrong),
}

/// An error of the system with what it is about.
pub(crate) fn named(what: impl fmt::Display, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(formatter),
            Self::Wrong(wrong) => wrong.fmt(formatter),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Io(error) => error,
            Error::Wrong(wrong) => Self::new(ErrorKind::InvalidData, wrong),
        }
    }
}
