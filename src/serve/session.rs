//! What is remembered of a client between two pieces of its input.

use super::partial::Partial;
use super::{binary, text};
use crate::command::Stream;
use crate::config::{Config, Dialects};
use crate::protocol::binary::REQUEST_MAGIC;

/// A client's state.
///
/// Whether a client has authenticated is kept apart from the phase that its requests are in, is
/// asked before each request, and is changed in one place for each dialect: no end of a request,
/// whatever went wrong in it, can let somebody in. Which dialect it speaks is decided once.
#[derive(Debug)]
pub struct Session {
    pub(super) phase: Phase,
    pub(super) authenticated: bool,
    /// How often it said of itself what is not right.
    pub(super) failed_logins: u32,
    dialects: Dialects,
}

/// Where a client stands in what it sends.
#[derive(Debug)]
pub(super) enum Phase {
    /// Nothing has come yet.
    Opening,
    /// Lines come.
    Text(text::Phase),
    /// Packets come.
    Binary(binary::Phase),
}

impl Session {
    /// Of a client that has said nothing yet, where `dialects` are spoken.
    #[must_use]
    pub fn new(config: &Config, dialects: Dialects) -> Self {
        let authenticated = config.authentication.is_none();
        Self { phase: Phase::Opening, authenticated, failed_logins: 0, dialects }
    }

    /// Decides which dialect it is that a client speaks who begins with this byte.
    pub(super) fn open(&mut self, first: u8) {
        self.phase = match (self.dialects, first) {
            (Dialects::Any, REQUEST_MAGIC) | (Dialects::Binary, _) => {
                Phase::Binary(binary::Phase::default())
            }
            (Dialects::Any | Dialects::Text, _) => Phase::Text(text::Phase::default()),
        };
    }

    /// What the client may speak.
    #[must_use]
    pub fn dialects(&self) -> Dialects {
        self.dialects
    }

    /// Takes notice of an attempt to come in; `false` if there have been too many that failed.
    pub(super) fn may_try_again(failed_logins: &mut u32) -> bool {
        *failed_logins += 1;
        *failed_logins < FAILED_LOGINS_MAX
    }

    /// The reply that takes longer than a turn, if one is under way.
    pub(crate) fn stream(&mut self) -> Option<&mut Stream> {
        match &mut self.phase {
            Phase::Text(text::Phase::Stream(stream)) => Some(stream),
            Phase::Binary(binary::Phase::Reply(reply)) => Some(&mut reply.stream),
            _ => None,
        }
    }

    /// A request comes next, and will be carried out.
    #[must_use]
    pub fn awaits_command(&self) -> bool {
        self.authenticated
            && match &self.phase {
                Phase::Opening => true,
                Phase::Text(phase) => matches!(phase, text::Phase::Command),
                Phase::Binary(phase) => matches!(phase, binary::Phase::Packet),
            }
    }

    /// A value comes next.
    #[must_use]
    pub fn awaits_value(&self) -> bool {
        match &self.phase {
            Phase::Opening => false,
            Phase::Text(phase) => matches!(phase, text::Phase::Value(_) | text::Phase::Token(_)),
            Phase::Binary(phase) => matches!(phase, binary::Phase::Body(_)),
        }
    }

    /// Where the bytes that come next may be written to at once: they are part of a large value.
    pub(crate) fn room(&mut self) -> Option<&mut [u8]> {
        self.value()?.room()
    }

    /// Takes notice that so many were.
    pub(crate) fn advance(&mut self, bytes: usize) {
        if let Some(value) = self.value() {
            value.advance(bytes);
        }
    }

    fn value(&mut self) -> Option<&mut Partial> {
        match &mut self.phase {
            Phase::Opening => None,
            Phase::Text(phase) => phase.value(),
            Phase::Binary(phase) => phase.value(),
        }
    }

    /// What comes next means nothing.
    #[must_use]
    pub fn swallows(&self) -> bool {
        match &self.phase {
            Phase::Opening => false,
            Phase::Text(phase) => matches!(phase, text::Phase::Swallow(_)),
            Phase::Binary(phase) => matches!(phase, binary::Phase::Swallow(_)),
        }
    }

    /// A reply has been begun that a client must not be left with.
    #[must_use]
    pub fn is_mid_reply(&self) -> bool {
        matches!(self.phase, Phase::Text(text::Phase::Keys(_)))
    }

    /// Bytes of buffers that it holds.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        match &self.phase {
            Phase::Opening => 0,
            Phase::Text(phase) => phase.buffered_bytes(),
            Phase::Binary(phase) => phase.buffered_bytes(),
        }
    }
}

/// So many wrong passwords end a connection. (memcached lets a client guess on.)
const FAILED_LOGINS_MAX: u32 = 16;
