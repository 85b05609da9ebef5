//! Meta commands: from their lines to commands and replies.

use super::value::Answer;
use super::{Limits, Serving, Stop};
use crate::command;
use crate::protocol::meta::{self, Encoder, Line, Parsed, Reply};
use crate::protocol::{Fault, Outcome, base64};
use crate::store::PREFETCH_KEYS;
use std::ops::ControlFlow;

impl Serving<'_, '_> {
    /// Serves a line that begins with a meta command.
    pub(super) fn meta(&mut self, line: &[u8]) -> Option<Stop> {
        let now = self.context.batch.now();
        let mut decoded = base64::NO_KEY;
        let Line { parsed, reply } = meta::parse(line, &mut decoded);
        let mut encoder = Encoder::new(self.output, &reply, now);
        match parsed {
            Parsed::Fetch(fetch) => {
                let loans = &mut *self.loans;
                let show = |item: &_, value: command::Value<'_>| {
                    encoder.item(item, |output| value.write_to(output, loans));
                };
                if command::fetch(self.context, &fetch, show).is_none() {
                    encoder.miss();
                }
            }
            Parsed::Store(storage) => return self.storage(line, &storage, Answer::Meta(reply)),
            Parsed::Delete(deletion) => {
                let result = command::delete(self.context, &deletion);
                self.meta_result(reply, result);
            }
            Parsed::Count(counting) => {
                let result = command::count(self.context, &counting);
                self.meta_result(reply, result);
            }
            Parsed::Inspect { key } => match command::inspect(self.context, key) {
                Some((item, item_bytes)) => encoder.inspected(&item, item_bytes),
                None => encoder.nothing_to_inspect(),
            },
            Parsed::Noop => encoder.noop(),
            Parsed::Refused { fault, swallow_bytes } => {
                encoder.fault(fault);
                return self.swallow(swallow_bytes);
            }
        }
        None
    }

    pub(super) fn meta_result(&mut self, reply: Reply<'_>, result: Result<Outcome, Fault>) {
        let mut encoder = Encoder::new(self.output, &reply, self.context.batch.now());
        match result {
            Ok(outcome) => encoder.outcome(outcome),
            Err(fault) => encoder.fault(fault),
        }
    }

    /// Serves as many plain `mg` as follow one another, and says whether there were any. Nothing is
    /// stored between them, so their keys can be looked up together.
    pub(super) fn lone_fetches(&mut self, limits: &mut Limits) -> bool {
        if !self.rest().starts_with(b"mg ") {
            return false;
        }
        let mut keys: [&[u8]; PREFETCH_KEYS] = [&[]; PREFETCH_KEYS];
        let mut replies = [(Reply::default(), 0); PREFETCH_KEYS];
        let mut rest = self.rest();
        let mut count = 0;
        while count < limits.requests.min(PREFETCH_KEYS)
            && let Some((key, reply, after)) = meta::lone_fetch(rest)
        {
            keys[count] = key;
            replies[count] = (reply, after.len());
            rest = after;
            count += 1;
        }
        if count == 0 {
            return false;
        }
        let now = self.context.batch.now();
        let (output, loans) = (&mut *self.output, &mut *self.loans);
        let done = command::fetch_each(self.context, &keys[..count], |number, found| {
            let mut encoder = Encoder::new(output, &replies[number].0, now);
            match found {
                Some((item, value)) => {
                    encoder.item(item, |output| value.write_to(output, loans));
                }
                None => encoder.miss(),
            }
            if encoder.written() + loans.bytes() < limits.output_bytes {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        limits.requests -= done;
        let (_, rest_bytes) = replies[done - 1];
        self.consume(self.rest().len() - rest_bytes);
        true
    }
}
