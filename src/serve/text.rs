//! The text protocol: a command on a line, for some a value behind it.
//!
//! Keys are looked up as they come, a value is taken over into a buffer of its own, and what is to
//! be ignored is dropped at once. So a line whose end is missing is all that is ever left in the
//! input.

mod ahead;
mod keys;
mod login;
mod meta;
mod value;

use self::ahead::Ahead;
use self::keys::KeyGroup;
use self::value::Answer;
use super::partial::Partial;
use super::{Limits, Stop};
use crate::command::{self, Context, Progress, Stream, Then};
use crate::output::Loans;
use crate::protocol::encode::Encoder;
use crate::protocol::text::{self, LongLine, Parsed};
use crate::protocol::{Encode, Fault, KEY_BYTES_MAX, Request, Retrieval};
use crate::store::PREFETCH_KEYS;
use memchr::{memchr, memrchr};
use std::ops::ControlFlow;

/// Where a connection stands in its lines.
#[derive(Debug, Default)]
pub(super) enum Phase {
    /// A command comes next.
    #[default]
    Command,
    /// Keys of a retrieval come next, and the end of their line.
    Keys(Retrieval),
    /// The rest of a line comes next. It earns this fault at its end.
    Refusal(Fault),
    /// The rest of a value comes next.
    Value(Box<Partial>),
    /// As many bytes come next that mean nothing.
    Swallow(usize),
    /// The rest of what a client says of itself comes next.
    Token(Box<Partial>),
    /// A reply is under way that takes longer than a turn.
    Stream(Box<Stream>),
}

pub(super) struct Serving<'s, 'w> {
    pub(super) context: &'s mut Context<'w>,
    pub(super) phase: &'s mut Phase,
    pub(super) authenticated: &'s mut bool,
    pub(super) failed_logins: &'s mut u32,
    pub(super) input: &'s [u8],
    pub(super) position: usize,
    /// From `position`.
    pub(super) scanned: usize,
    /// Where the first request begins, or the first behind a stream.
    pub(super) first: usize,
    pub(super) output: &'s mut Vec<u8>,
    /// Large values, which are no part of it.
    pub(super) loans: &'s mut Loans,
}

impl<'s> Serving<'s, '_> {
    pub(super) fn run(&mut self, limits: &mut Limits) -> Stop {
        loop {
            if self.rest().is_empty() && !matches!(self.phase, Phase::Stream(_)) {
                return Stop::Input;
            }
            if self.is_full(limits) {
                return Stop::Output;
            }
            let stop = match *self.phase {
                Phase::Command if limits.requests == 0 => Some(Stop::Turn),
                Phase::Command if !*self.authenticated => self.login(limits),
                Phase::Command => self.commands(limits),
                Phase::Keys(retrieval) => self.more_keys(retrieval, limits.output_bytes),
                Phase::Refusal(fault) => self.refuse_line(fault),
                Phase::Value(_) => self.more_value(),
                Phase::Swallow(left) => self.swallow(left),
                Phase::Token(_) => self.more_token(),
                Phase::Stream(_) => self.stream(limits.output_bytes),
            };
            if let Some(stop) = stop {
                return stop;
            }
        }
    }

    /// Serves requests at the start of the input that need no more than one look, if there are any.
    fn lone_requests(&mut self, limits: &mut Limits) -> bool {
        match self.rest().first() {
            Some(b'g') => self.lone_gets(limits),
            Some(b'm') => self.lone_fetches(limits),
            _ => false,
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
        let done = retrieve(
            self.context,
            retrieval,
            keys,
            limits.output_bytes,
            (&mut encoder, self.loans),
            Encoder::end,
        );
        limits.requests -= done;
        let rest = group.map_or(rest, |group| group.rest_after(done));
        self.consume(self.rest().len() - rest.len());
        true
    }

    /// Whether the client must take some replies before it gets more.
    fn is_full(&self, limits: &Limits) -> bool {
        self.output.len() + self.loans.bytes() >= limits.output_bytes
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

    /// Serves the next requests, as many as are understood at once, or until one changes what is to
    /// come.
    fn commands(&mut self, limits: &mut Limits) -> Option<Stop> {
        if self.scanned == 0 && self.lone_requests(limits) {
            return None;
        }
        let mut ahead = Ahead::default();
        ahead.read(self.input, self.position, self.scanned);
        self.context.batch.prefetch(ahead.keys());
        let mut requests = ahead.requests();
        let Some(mut request) = requests.next() else {
            self.scanned = self.rest().len();
            return self.unfinished_line();
        };
        loop {
            limits.requests -= 1;
            self.consume(request.line.len());
            let stop = self.command(request.line, request.meaning, limits);
            let goes_on = matches!(self.phase, Phase::Command)
                && limits.requests > 0
                && !self.is_full(limits);
            request = match requests.next() {
                Some(next) if stop.is_none() && goes_on && next.start == self.position => next,
                _ => return stop,
            };
        }
    }

    /// Serves a request whose line is consumed.
    fn command(
        &mut self,
        line: &'s [u8],
        text::Line { parsed, quiet }: text::Line<'_>,
        limits: &Limits,
    ) -> Option<Stop> {
        match parsed {
            Parsed::Request(Request::Retrieve(retrieval), keys) => {
                let end = self.position;
                self.position -= keys.len() + line.len() - text::without_end(line).len();
                return self.keys(retrieval, Some(end), limits.output_bytes);
            }
            Parsed::Request(Request::Store(storage), _) => {
                return self.storage(line, &storage, Answer::Classic { quiet });
            }
            Parsed::Request(Request::Manage { area, arguments }, _) => {
                let is_first = self.position - line.len() == self.first;
                let mut encoder = Encoder::new(self.output, quiet);
                let stream = command::manage(self.context, area, arguments, is_first, &mut encoder);
                self.begin(stream);
            }
            Parsed::Request(request, _) => {
                let mut encoder = Encoder::new(self.output, quiet);
                match command::execute(self.context, request, &mut encoder) {
                    Then::Continue => {}
                    Then::Stream(stream) => self.begin(Some(stream)),
                    Then::Close(reason) => return Some(Stop::Close(reason)),
                }
            }
            Parsed::Refused { fault, swallow_bytes } => {
                Encoder::new(self.output, quiet).fault(fault);
                return self.swallow(swallow_bytes);
            }
            Parsed::Meta => {
                self.context.observer = self.context.observer.of_meta(true);
                let stop = self.meta(line);
                self.context.observer = self.context.observer.of_meta(false);
                return stop;
            }
            Parsed::Alien => return Some(Stop::BROKEN),
        }
        None
    }

    fn begin(&mut self, stream: Option<Stream>) {
        if let Some(stream) = stream {
            *self.phase = Phase::Stream(Box::new(stream));
        }
    }

    fn stream(&mut self, output_bytes: usize) -> Option<Stop> {
        let Phase::Stream(stream) = &mut *self.phase else { return None };
        match stream.advance(self.context, output_bytes, self.output) {
            Progress::GoesOn => Some(Stop::Turn),
            Progress::Waits => {
                // Nothing that the client says can mean anything any more.
                self.consume(self.rest().len());
                Some(Stop::Input)
            }
            Progress::Ended => {
                *self.phase = Phase::Command;
                self.first = self.position;
                None
            }
        }
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
            LongLine::Hostile => Some(Stop::BROKEN),
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
            let output = (&mut encoder, &mut *self.loans);
            let done =
                retrieve(self.context, retrieval, group.keys(), output_bytes, output, |_| {});
            rest = group.rest_after(done);
            if done == group.count && (group.ends_too_long || done < PREFETCH_KEYS) {
                break group.ends_too_long;
            }
            if encoder.written() + self.loans.bytes() >= output_bytes {
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
            self.loans.retract(output_start);
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
            self.loans.retract(output_start);
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

impl Phase {
    /// The value that is arriving.
    pub(super) fn value(&mut self) -> Option<&mut Partial> {
        if let Self::Value(partial) = self { Some(partial) } else { None }
    }

    pub(super) fn buffered_bytes(&self) -> usize {
        match self {
            Self::Value(partial) | Self::Token(partial) => partial.capacity_bytes(),
            _ => 0,
        }
    }
}

/// Writes the items under keys ([`PREFETCH_KEYS`] at most), until the output has reached a length.
/// `end_key` is called behind each, whether there was an item or not. Returns how many keys are
/// done with.
fn retrieve<'e>(
    context: &mut Context<'_>,
    retrieval: Retrieval,
    keys: &[&[u8]],
    output_bytes: usize,
    (encoder, loans): (&mut Encoder<'e>, &mut Loans),
    mut end_key: impl FnMut(&mut Encoder<'e>),
) -> usize {
    command::retrieve(context, retrieval.touch, keys, |number, hit| {
        if let Some(hit) = hit {
            let cas = retrieval.cas.then(|| hit.cas());
            let write = |output: &mut Vec<u8>| hit.value().write_to(output, loans);
            encoder.value(keys[number], hit.flags(), cas, hit.value_bytes(), write);
        }
        end_key(encoder);
        if encoder.written() + loans.bytes() < output_bytes {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })
}

fn before_last_blank(keys: &[u8]) -> &[u8] {
    memrchr(b' ', keys).map_or(&[], |blank| &keys[..=blank])
}
