//! Clients of the binary protocol that say who they are, by SASL.

use super::{Serving, Stop};
use crate::auth::{Authentication, Method};
use crate::command;
use crate::protocol::binary::{Body, Header};
use crate::protocol::{Encode, Fault, sasl};
use crate::serve::Session;

impl Serving<'_, '_> {
    /// Whether clients have to say who they are, and can.
    pub(super) fn has_entry(&self) -> bool {
        let method = self.context.shared.config.authentication.as_deref();
        matches!(method.map(Authentication::method), Some(Method::Sasl { .. }))
    }

    /// Why an attempt to come in is not even listened to.
    pub(super) fn check_entry(&self, header: &Header, body: &Body<'_>) -> Result<(), Fault> {
        if !self.has_entry() {
            return Err(Fault::UnknownCommand);
        }
        if body.key.len() > sasl::MECHANISM_BYTES_MAX {
            return Err(Fault::BadFormat);
        }
        if header.value_bytes() > sasl::MESSAGE_BYTES_MAX {
            return Err(Fault::OutOfMemory);
        }
        Ok(())
    }

    /// Lets a client in, or not. Whoever tries again is out until it succeeds.
    pub(super) fn entry(
        &mut self,
        header: &Header,
        body: &Body<'_>,
        further: bool,
    ) -> Option<Stop> {
        *self.authenticated = false;
        let Body { key: mechanism, value: message, .. } = *body;
        if !further && sasl::is_plain(mechanism) && message.is_empty() {
            self.encoder(header).go_on();
            return None;
        }
        // Which mechanism goes on was agreed upon before.
        let credentials =
            (further || sasl::is_plain(mechanism)).then(|| sasl::credentials(message)).flatten();
        if command::authenticate(self.context, credentials) {
            *self.authenticated = true;
            self.encoder(header).authenticated();
        } else {
            self.encoder(header).unauthenticated();
            if !Session::may_try_again(self.failed_logins) {
                return Some(Stop::BROKEN);
            }
        }
        None
    }

    /// Tells the ways to come in.
    pub(super) fn mechanisms(&mut self, header: &Header) {
        if self.has_entry() {
            self.encoder(header).mechanisms(sasl::MECHANISMS);
        } else {
            self.encoder(header).fault(Fault::UnknownCommand);
        }
    }
}
