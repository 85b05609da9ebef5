//! Clients that have not said who they are: they may say it, and nothing else.

use super::{Limits, Phase, Serving, Stop};
use crate::command;
use crate::protocol::login::{self, Line, Refusal};
use crate::protocol::text::LINE_BYTES_MAX;
use crate::serve::Session;
use crate::serve::partial::Partial;
use std::mem;

impl Serving<'_, '_> {
    pub(super) fn login(&mut self, limits: &mut Limits) -> Option<Stop> {
        let arrived_bytes = self.rest().len();
        if arrived_bytes < login::INPUT_BYTES_MIN {
            return Some(Stop::Input);
        }
        let Some(line) = self.line() else {
            return Some(if arrived_bytes > LINE_BYTES_MAX { Stop::BROKEN } else { Stop::Input });
        };
        limits.requests -= 1;
        match login::parse(line) {
            Line::Announces(total_bytes) => {
                *self.phase = Phase::Token(Box::new(Partial::new(&[], total_bytes)));
            }
            Line::Refused(refusal) => self.output.extend_from_slice(refusal.reply()),
            Line::Hostile => return Some(Stop::BROKEN),
        }
        None
    }

    pub(super) fn more_token(&mut self) -> Option<Stop> {
        let rest = self.rest();
        let Phase::Token(partial) = &mut *self.phase else {
            return None;
        };
        let taken = rest.len().min(partial.missing_bytes());
        if !partial.keep(&rest[..taken], self.context.shared) {
            // Memory is for those who are known.
            return Some(Stop::BROKEN);
        }
        let is_whole = partial.missing_bytes() == 0;
        self.consume(taken);
        if is_whole && let Phase::Token(value) = mem::take(self.phase) {
            let result = self.authenticate(value.bytes());
            let reply = result.map_or_else(Refusal::reply, |()| login::WELCOME);
            self.output.extend_from_slice(reply);
            if result.is_err() && !Session::may_try_again(self.failed_logins) {
                return Some(Stop::BROKEN);
            }
        }
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
