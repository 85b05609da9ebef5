//! Clients that have not said who they are: they may say it, and nothing else.

use super::{Limits, Phase, Serving, Stop};
use crate::command;
use crate::protocol::login::{self, Line, Refusal};
use crate::protocol::text::LINE_BYTES_MAX;
use crate::serve::Session;
use std::mem;

/// What a client says of itself, of which a part has arrived. It grows with what arrives.
pub(in crate::serve) struct PartialToken {
    bytes: Vec<u8>,
    total_bytes: usize,
}

impl PartialToken {
    pub(super) fn buffered_bytes(&self) -> usize {
        self.bytes.capacity()
    }
}

impl std::fmt::Debug for PartialToken {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("PartialToken").finish_non_exhaustive()
    }
}

impl Serving<'_, '_> {
    pub(super) fn login(&mut self, limits: &mut Limits) -> Option<Stop> {
        let arrived_bytes = self.rest().len();
        if arrived_bytes < login::INPUT_BYTES_MIN {
            return Some(Stop::Input);
        }
        let Some(line) = self.line() else {
            return Some(if arrived_bytes > LINE_BYTES_MAX { Stop::Close } else { Stop::Input });
        };
        limits.requests -= 1;
        match login::parse(line) {
            Line::Announces(total_bytes) => {
                let partial = PartialToken { bytes: Vec::new(), total_bytes };
                *self.phase = Phase::Token(Box::new(partial));
            }
            Line::Refused(refusal) => self.output.extend_from_slice(refusal.reply()),
            Line::Hostile => return Some(Stop::Close),
        }
        None
    }

    pub(super) fn more_token(&mut self) -> Option<Stop> {
        let rest = self.rest();
        let Phase::Token(partial) = &mut *self.phase else {
            return None;
        };
        let taken = rest.len().min(partial.total_bytes - partial.bytes.len());
        partial.bytes.extend_from_slice(&rest[..taken]);
        if partial.bytes.len() == partial.total_bytes {
            let value = mem::take(&mut partial.bytes);
            *self.phase = Phase::Command;
            let result = self.authenticate(&value);
            let reply = result.map_or_else(Refusal::reply, |()| login::WELCOME);
            self.output.extend_from_slice(reply);
            if result.is_err() && !Session::may_try_again(self.failed_logins) {
                return Some(Stop::Close);
            }
        }
        self.consume(taken);
        None
    }

    fn authenticate(&mut self, value: &[u8]) -> Result<(), Refusal> {
        let (user, password) = login::credentials(value)?;
        if command::authenticate(self.context, Some((user, password))) {
            *self.authenticated = true;
            Ok(())
        } else {
            Err(Refusal::Failure)
        }
    }
}
