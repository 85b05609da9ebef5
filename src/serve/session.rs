//! What is remembered of a client between two pieces of its input.

use super::{Phase, Stream};
use crate::config::{Config, Dialects};

/// A client's state.
///
/// Whether a client has authenticated is kept apart from the phase that its requests are in, is
/// asked before each request, and is changed in one place: no end of a request, whatever went
/// wrong in it, and no change of dialect can let somebody in.
#[derive(Debug)]
pub struct Session {
    pub(super) phase: Phase,
    pub(super) authenticated: bool,
    dialects: Dialects,
}

impl Session {
    /// Of a client that has said nothing yet, where `dialects` are spoken.
    #[must_use]
    pub fn new(config: &Config, dialects: Dialects) -> Self {
        let authenticated = config.authentication.is_none();
        Self { phase: Phase::default(), authenticated, dialects }
    }

    /// What the client may speak.
    #[must_use]
    pub fn dialects(&self) -> Dialects {
        self.dialects
    }

    /// Where the client stands in what it sends.
    #[must_use]
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// The reply that takes longer than a turn, if one is under way.
    pub(crate) fn stream(&mut self) -> Option<&mut Stream> {
        match &mut self.phase {
            Phase::Stream(stream) => Some(stream),
            _ => None,
        }
    }

    /// A request comes next, and will be carried out.
    #[must_use]
    pub fn awaits_command(&self) -> bool {
        self.authenticated && matches!(self.phase, Phase::Command)
    }
}
