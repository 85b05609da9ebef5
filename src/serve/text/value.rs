//! Values on their way in.

use super::{Phase, Serving, Stop};
use crate::command::{self, Context};
use crate::protocol::base64::{self, DecodedKey};
use crate::protocol::encode::Encoder;
use crate::protocol::text::{self, Parsed, VALUE_END};
use crate::protocol::{Encode, Fault, Outcome, Request, Storage, meta};
use crate::serve::partial::Partial;
use crate::stats::Count;
use crate::store::Incoming;
use std::mem;

/// How the request wants to be answered that a value came with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer<'l> {
    Classic { quiet: bool },
    Meta(meta::Reply<'l>),
}

impl Serving<'_, '_> {
    pub(super) fn storage(
        &mut self,
        line: &[u8],
        storage: &Storage<'_>,
        answer: Answer<'_>,
    ) -> Option<Stop> {
        let total_bytes = storage.value_bytes + VALUE_END.len();
        if let Err(fault) = command::admit(self.context, storage) {
            self.answer(answer, Err(fault));
            return self.swallow(total_bytes);
        }
        let rest = self.rest();
        if let Some(value) = rest.get(..total_bytes) {
            self.value(storage, None, value, answer);
            self.consume(total_bytes);
        } else if self.context.shared.may_receive(0, line.len()) {
            *self.phase = Phase::Value(Box::new(Partial::new(line, total_bytes)));
        } else {
            let fault = command::no_memory(self.context, storage);
            self.answer(answer, Err(fault));
            return self.swallow(total_bytes);
        }
        None
    }

    pub(super) fn more_value(&mut self) -> Option<Stop> {
        let rest = self.rest();
        let Phase::Value(partial) = &mut *self.phase else {
            return None;
        };
        let taken = rest.len().min(partial.missing_bytes());
        let grown = partial.grow(&rest[..taken], self.context, receive);
        if grown && partial.missing_bytes() > 0 {
            self.consume(taken);
            return None;
        }
        let Phase::Value(mut partial) = mem::take(self.phase) else {
            return None;
        };
        let missing_bytes = partial.missing_bytes();
        let received = partial.take_incoming();
        let (line, value) = partial.split();
        let mut decoded = base64::NO_KEY;
        let (storage, answer) =
            understand(line, &mut decoded).expect("it was a storage line when it came");
        if !grown {
            drop(received);
            let fault = command::no_memory(self.context, &storage);
            self.answer(answer, Err(fault));
            return self.swallow(missing_bytes);
        }
        self.value(&storage, received, value, answer);
        self.consume(taken);
        None
    }

    /// Stores a value that has arrived, a part in its place and the rest, together with its end.
    fn value(
        &mut self,
        storage: &Storage<'_>,
        received: Option<Incoming>,
        rest: &[u8],
        answer: Answer<'_>,
    ) {
        let result = match rest.strip_suffix(VALUE_END) {
            Some(rest) => command::store(self.context, storage, received, rest),
            None => {
                self.context.counters.count(Count::CmdSet);
                Err(Fault::BadDataChunk)
            }
        };
        self.answer(answer, result);
    }

    fn answer(&mut self, answer: Answer<'_>, result: Result<Outcome, Fault>) {
        match answer {
            Answer::Classic { quiet } => {
                let mut encoder = Encoder::new(self.output, quiet);
                match result {
                    Ok(outcome) => encoder.outcome(outcome),
                    Err(fault) => encoder.fault(fault),
                }
            }
            Answer::Meta(reply) => self.meta_result(reply, result),
        }
    }
}

/// Begins to receive the value that a line announced where it will lie.
fn receive(context: &mut Context<'_>, line: &[u8]) -> Option<Incoming> {
    let mut decoded = base64::NO_KEY;
    let (storage, _) = understand(line, &mut decoded)?;
    command::receive(context, &storage)
}

/// What a line said that a value follows.
fn understand<'l>(
    line: &'l [u8],
    decoded: &'l mut DecodedKey,
) -> Option<(Storage<'l>, Answer<'l>)> {
    let text::Line { parsed, quiet } = text::parse(line);
    match parsed {
        Parsed::Request(Request::Store(storage), _) => Some((storage, Answer::Classic { quiet })),
        Parsed::Meta => match meta::parse(line, decoded) {
            meta::Line { parsed: meta::Parsed::Store(storage), reply } => {
                Some((storage, Answer::Meta(reply)))
            }
            _ => None,
        },
        _ => None,
    }
}
