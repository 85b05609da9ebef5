//! Bytes in, bytes out: serves the requests in a piece of input, appending the replies to a piece
//! of output.
//!
//! There is no socket here and nothing waits. A request may begin in one piece of input and end in
//! a later one; what must be remembered in between is the connection's [`Phase`]. Only what cannot
//! be understood yet is left in the input, and that is never more than [`text::LINE_BYTES_MAX`]
//! bytes and a little: keys are looked up as they come, a value is taken over into a buffer of its
//! own, and what is to be ignored is dropped at once.

use crate::command::{self, Context, Then};
use crate::protocol::encode::Encoder;
use crate::protocol::text::{self, LongLine, Parsed, Tokens, VALUE_END};
use crate::protocol::{Fault, KEY_BYTES_MAX, Mode, Request, Retrieval, Storage};
use crate::shared::Shared;
use crate::store::PREFETCH_KEYS;
use memchr::{memchr, memrchr};
use std::mem;

/// Where a connection stands in what its client sends.
#[derive(Debug, Default)]
pub enum Phase {
    /// A command comes next.
    #[default]
    Command,
    /// Keys of a retrieval come next, and the end of their line.
    Keys(Retrieval),
    /// The rest of a line comes next. It earns this fault at its end.
    Refusal(Fault),
    /// The rest of a value comes next.
    Value(Box<PartialValue>),
    /// As many bytes come next that mean nothing.
    Swallow(usize),
}

/// A value of which a part has arrived.
#[derive(Debug)]
pub struct PartialValue {
    mode: Mode,
    flags: u32,
    exptime: i32,
    quiet: bool,
    key_bytes: usize,
    /// Key, value and line end. It grows with what arrives: to announce costs a client nothing.
    bytes: Vec<u8>,
    total_bytes: usize,
}

/// The limits within which [`serve`] stays.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests that may still be begun; it is counted down.
    pub requests: usize,
    /// Bytes of output above which nothing further is begun.
    pub output_bytes: usize,
}

/// How far [`serve`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// Bytes of the input that are done with.
    pub consumed: usize,
    /// Bytes behind those that are known to hold no line end.
    pub scanned: usize,
    /// Why it came no further.
    pub stop: Stop,
}

/// Why [`serve`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The rest of the input is not yet a request.
    Input,
    /// There is more input, but it is the turn of others.
    Turn,
    /// There is more input, but the output must be sent first.
    Output,
    /// The connection is to be closed when the output is sent.
    Close,
}

/// Serves what is in `input`, whose first `scanned` bytes are known to hold no line end.
pub fn serve(
    context: &mut Context<'_>,
    phase: &mut Phase,
    input: &[u8],
    scanned: usize,
    output: &mut Vec<u8>,
    limits: &mut Limits,
) -> Served {
    let mut serving = Serving { context, phase, input, position: 0, scanned, ahead: 0, output };
    let stop = serving.run(limits);
    Served { consumed: serving.position, scanned: serving.scanned, stop }
}

struct Serving<'s, 'w> {
    context: &'s mut Context<'w>,
    phase: &'s mut Phase,
    input: &'s [u8],
    position: usize,
    /// From `position`.
    scanned: usize,
    /// Requests whose keys the store was told of.
    ahead: usize,
    output: &'s mut Vec<u8>,
}

impl<'s> Serving<'s, '_> {
    fn run(&mut self, limits: &mut Limits) -> Stop {
        loop {
            if self.rest().is_empty() {
                return Stop::Input;
            }
            if self.output.len() >= limits.output_bytes {
                return Stop::Output;
            }
            let stop = match *self.phase {
                Phase::Command if limits.requests == 0 => Some(Stop::Turn),
                Phase::Command => self.command(limits),
                Phase::Keys(retrieval) => self.more_keys(retrieval, limits.output_bytes),
                Phase::Refusal(fault) => self.refuse_line(fault),
                Phase::Value(_) => self.more_value(),
                Phase::Swallow(left) => self.swallow(left),
            };
            if let Some(stop) = stop {
                return stop;
            }
        }
    }

    /// Serves as many requests as follow one another that ask for one key each, and says whether
    /// there were any. Nothing is stored between them, so their keys can be looked up together.
    fn lone_gets(&mut self, limits: &mut Limits) -> bool {
        let Some((retrieval, key, rest)) = text::lone_get(self.rest()) else { return false };
        let group = (!rest.is_empty() && limits.requests > 1)
            .then(|| KeyGroup::of_lone_gets(self.rest(), limits.requests));
        let keys = group.as_ref().map_or(std::slice::from_ref(&key), KeyGroup::keys);
        let mut encoder = Encoder::new(self.output, false);
        let done = command::retrieve(
            self.context,
            retrieval,
            keys,
            limits.output_bytes,
            &mut encoder,
            Encoder::end,
        );
        limits.requests -= done;
        let rest = group.map_or(rest, |group| group.rest_after(done));
        self.consume(self.rest().len() - rest.len());
        true
    }

    /// Announces the keys of a pipeline to the store before the first of its requests is served,
    /// whose line this is.
    fn look_ahead(&mut self, line: &[u8]) {
        if self.ahead == 0 && !self.rest().is_empty() {
            let pipeline = &self.input[self.position - line.len()..];
            self.ahead = self.context.batch.prefetch(text::keys_ahead(pipeline));
        }
        self.ahead = self.ahead.saturating_sub(1);
    }

    fn rest(&self) -> &'s [u8] {
        &self.input[self.position..]
    }

    fn consume(&mut self, bytes: usize) {
        self.position += bytes;
        self.scanned = 0;
    }

    /// The next line with its end, which is consumed, or what to do for want of one.
    fn line(&mut self) -> Option<&'s [u8]> {
        let rest = self.rest();
        let Some(newline) = memchr(b'\n', &rest[self.scanned..]) else {
            self.scanned = rest.len();
            return None;
        };
        let line = &rest[..=self.scanned + newline];
        self.consume(line.len());
        Some(line)
    }

    fn command(&mut self, limits: &mut Limits) -> Option<Stop> {
        if self.scanned == 0 && self.lone_gets(limits) {
            return None;
        }
        let Some(line) = self.line() else {
            return self.unfinished_line();
        };
        limits.requests -= 1;
        self.look_ahead(line);
        let text::Line { parsed, quiet } = text::parse(line);
        match parsed {
            Parsed::Request(Request::Retrieve(retrieval), keys) => {
                let end = self.position;
                self.position -= keys.len() + line.len() - text::without_end(line).len();
                return self.keys(retrieval, Some(end), limits.output_bytes);
            }
            Parsed::Request(Request::Store(storage), _) => return self.storage(&storage, quiet),
            Parsed::Request(request, _) => {
                let mut encoder = Encoder::new(self.output, quiet);
                if command::execute(self.context, request, &mut encoder) == Then::Close {
                    return Some(Stop::Close);
                }
            }
            Parsed::Refused { fault, swallow_bytes } => {
                Encoder::new(self.output, quiet).fault(fault);
                return self.swallow(swallow_bytes);
            }
            Parsed::Alien => return Some(Stop::Close),
        }
        None
    }

    fn unfinished_line(&mut self) -> Option<Stop> {
        let rest = self.rest();
        if rest.len() <= text::LINE_BYTES_MAX {
            return Some(Stop::Input);
        }
        match text::judge_long_line(rest) {
            LongLine::Keys(retrieval, offset) => {
                self.consume(offset);
                *self.phase = Phase::Keys(retrieval);
                None
            }
            LongLine::Indented => {
                *self.phase = Phase::Refusal(Fault::UnknownCommand);
                None
            }
            LongLine::Hostile => Some(Stop::Close),
        }
    }

    /// Looks up the keys that come next. Their line ends just before `end`, or has not arrived yet
    /// as a whole.
    fn keys(
        &mut self,
        retrieval: Retrieval,
        end: Option<usize>,
        output_bytes: usize,
    ) -> Option<Stop> {
        let keys = match end {
            Some(end) => text::without_end(&self.input[self.position..end]),
            None => before_last_blank(self.rest()),
        };
        let output_start = self.output.len();
        let mut encoder = Encoder::new(self.output, false);
        let mut rest = keys;
        let too_long = loop {
            let group = KeyGroup::take(rest);
            let done = command::retrieve(
                self.context,
                retrieval,
                group.keys(),
                output_bytes,
                &mut encoder,
                |_| {},
            );
            rest = group.rest_after(done);
            if done == group.count && (group.ends_too_long || done < PREFETCH_KEYS) {
                break group.ends_too_long;
            }
            if encoder.written() >= output_bytes {
                self.consume(keys.len() - rest.len());
                *self.phase = Phase::Keys(retrieval);
                return Some(Stop::Output);
            }
        };
        let Some(end) = end else {
            self.consume(keys.len());
            return self.unfinished_keys(retrieval, too_long, output_start);
        };
        if too_long {
            // Clients expect the fault in the place of the items.
            encoder.retract(output_start);
            encoder.fault(Fault::BadFormat);
        } else {
            encoder.end();
        }
        self.consume(end - self.position);
        *self.phase = Phase::Command;
        None
    }

    /// What follows is at most the beginning of a key, with the carriage return of the line's end.
    fn unfinished_keys(
        &mut self,
        retrieval: Retrieval,
        too_long: bool,
        output_start: usize,
    ) -> Option<Stop> {
        if too_long || self.rest().len() > KEY_BYTES_MAX + 1 {
            self.output.truncate(output_start);
            *self.phase = Phase::Refusal(Fault::BadFormat);
            return None;
        }
        *self.phase = Phase::Keys(retrieval);
        self.scanned = self.rest().len();
        Some(Stop::Input)
    }

    fn more_keys(&mut self, retrieval: Retrieval, output_bytes: usize) -> Option<Stop> {
        let newline = memchr(b'\n', &self.rest()[self.scanned..]);
        let end = newline.map(|newline| self.position + self.scanned + newline + 1);
        self.keys(retrieval, end, output_bytes)
    }

    fn refuse_line(&mut self, fault: Fault) -> Option<Stop> {
        if self.line().is_some() {
            Encoder::new(self.output, false).fault(fault);
            *self.phase = Phase::Command;
        } else {
            self.consume(self.rest().len());
        }
        None
    }

    fn storage(&mut self, storage: &Storage<'_>, quiet: bool) -> Option<Stop> {
        let total_bytes = storage.value_bytes + VALUE_END.len();
        if let Err(fault) = command::admit(self.context, storage) {
            Encoder::new(self.output, quiet).fault(fault);
            return self.swallow(total_bytes);
        }
        let rest = self.rest();
        if let Some(value) = rest.get(..total_bytes) {
            self.value(storage, value, quiet);
            self.consume(total_bytes);
        } else {
            *self.phase = Phase::Value(Box::new(PartialValue::new(storage, quiet)));
        }
        None
    }

    fn more_value(&mut self) -> Option<Stop> {
        let rest = self.rest();
        let Phase::Value(partial) = &mut *self.phase else {
            return None;
        };
        let taken = rest.len().min(partial.missing_bytes());
        let grown = partial.grow(&rest[..taken], self.context.shared);
        if grown && partial.missing_bytes() > 0 {
            self.consume(taken);
            return None;
        }
        let Phase::Value(partial) = mem::take(self.phase) else {
            return None;
        };
        let missing_bytes = partial.missing_bytes();
        let (storage, value) = partial.split();
        if !grown {
            let fault = command::no_memory(self.context, &storage);
            Encoder::new(self.output, partial.quiet).fault(fault);
            return self.swallow(missing_bytes);
        }
        self.value(&storage, value, partial.quiet);
        self.consume(taken);
        None
    }

    /// Stores a value that has arrived together with its end.
    fn value(&mut self, storage: &Storage<'_>, value: &[u8], quiet: bool) {
        let mut encoder = Encoder::new(self.output, quiet);
        let Some(value) = value.strip_suffix(VALUE_END) else {
            encoder.fault(Fault::BadDataChunk);
            return;
        };
        match command::store(self.context, storage, value) {
            Ok(outcome) => encoder.outcome(outcome),
            Err(fault) => encoder.fault(fault),
        }
    }

    fn swallow(&mut self, bytes: usize) -> Option<Stop> {
        let swallowed = bytes.min(self.rest().len());
        self.consume(swallowed);
        *self.phase = match bytes - swallowed {
            0 => Phase::Command,
            left => Phase::Swallow(left),
        };
        None
    }
}

/// As many keys as are worth looking up together.
struct KeyGroup<'k> {
    line: &'k [u8],
    keys: [&'k [u8]; PREFETCH_KEYS],
    /// What of the line follows each key.
    rests: [&'k [u8]; PREFETCH_KEYS],
    count: usize,
    /// The next one is longer than a key can be.
    ends_too_long: bool,
}

impl<'k> KeyGroup<'k> {
    fn new(line: &'k [u8]) -> Self {
        let nothing: [&[u8]; PREFETCH_KEYS] = [&[]; PREFETCH_KEYS];
        Self { line, keys: nothing, rests: nothing, count: 0, ends_too_long: false }
    }

    /// The keys of requests for one key each at the start of `input`, as far as they are alike.
    fn of_lone_gets(input: &'k [u8], requests_max: usize) -> Self {
        let mut group = Self::new(input);
        let mut rest = input;
        let mut alike = None;
        while group.count < requests_max.min(PREFETCH_KEYS)
            && let Some((retrieval, key, after)) = text::lone_get(rest)
            && *alike.get_or_insert(retrieval) == retrieval
        {
            group.push(key, after);
            rest = after;
        }
        group
    }

    fn push(&mut self, key: &'k [u8], rest: &'k [u8]) {
        self.keys[self.count] = key;
        self.rests[self.count] = rest;
        self.count += 1;
    }

    fn take(line: &'k [u8]) -> Self {
        let mut group = Self::new(line);
        let mut tokens = Tokens::new(line);
        while group.count < PREFETCH_KEYS
            && let Some(key) = tokens.next()
        {
            if key.len() > KEY_BYTES_MAX {
                group.ends_too_long = true;
                break;
            }
            group.push(key, tokens.rest());
        }
        group
    }

    fn keys(&self) -> &[&'k [u8]] {
        &self.keys[..self.count]
    }

    /// What of the line follows the first `done` keys.
    fn rest_after(&self, done: usize) -> &'k [u8] {
        match done.checked_sub(1) {
            Some(last) => self.rests[last],
            None => self.line,
        }
    }
}

impl Phase {
    /// A reply has been begun that a client must not be left with.
    #[must_use]
    pub fn is_mid_reply(&self) -> bool {
        matches!(self, Self::Keys(_))
    }

    /// Bytes of buffers that it holds.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        if let Self::Value(partial) = self { partial.bytes.capacity() } else { 0 }
    }
}

impl PartialValue {
    fn new(storage: &Storage<'_>, quiet: bool) -> Self {
        let Storage { mode, key, flags, exptime, value_bytes } = *storage;
        let total_bytes = key.len() + value_bytes + VALUE_END.len();
        Self { mode, flags, exptime, quiet, key_bytes: key.len(), bytes: key.to_vec(), total_bytes }
    }

    fn missing_bytes(&self) -> usize {
        self.total_bytes - self.bytes.len()
    }

    /// Takes over what has arrived, if there is memory for it. There is never room for more than
    /// twice as much.
    fn grow(&mut self, arrived: &[u8], shared: &Shared) -> bool {
        let bytes = self.bytes.len() + arrived.len();
        if bytes > self.bytes.capacity() {
            let capacity = bytes.saturating_mul(2).min(self.total_bytes);
            let additional_bytes = capacity - self.bytes.len();
            if !shared.may_buffer(additional_bytes)
                || self.bytes.try_reserve_exact(additional_bytes).is_err()
            {
                return false;
            }
        }
        self.bytes.extend_from_slice(arrived);
        true
    }

    /// The request, and what is there of the value with its end.
    fn split(&self) -> (Storage<'_>, &[u8]) {
        let Self { mode, flags, exptime, .. } = *self;
        let (key, value) = self.bytes.split_at(self.key_bytes);
        let value_bytes = self.total_bytes - self.key_bytes - VALUE_END.len();
        (Storage { mode, key, flags, exptime, value_bytes }, value)
    }
}

fn before_last_blank(keys: &[u8]) -> &[u8] {
    memrchr(b' ', keys).map_or(&[], |blank| &keys[..=blank])
}

#[cfg(test)]
mod tests;
