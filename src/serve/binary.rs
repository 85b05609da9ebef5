//! The binary protocol: packets are served one by one, but for retrievals that follow one another,
//! which are looked up together.

mod entry;
mod stream;

use self::stream::Reply;
use super::partial::Partial;
use super::{Limits, Stop};
use crate::command::{self, Context, Then};
use crate::output::Loans;
use crate::protocol::binary::encode::Encoder;
use crate::protocol::binary::{self, Asked, Body, Command, HEADER_BYTES, Header};
use crate::protocol::{Encode, Fault, Outcome, Request};
use crate::store::{Incoming, PREFETCH_KEYS};
use crate::watch::CloseReason;
use std::ops::ControlFlow;
use std::{mem, slice};

/// Where a connection stands in its packets.
#[derive(Debug, Default)]
pub(super) enum Phase {
    /// A packet comes next.
    #[default]
    Packet,
    /// The rest of a packet's body comes next.
    Body(Box<PartialPacket>),
    /// As many bytes come next that mean nothing.
    Swallow(usize),
    /// A reply is under way that takes longer than a turn. Its packet is done with.
    Reply(Box<Reply>),
}

/// A packet whose value has arrived in part.
#[derive(Debug)]
pub(super) struct PartialPacket {
    header: Header,
    /// Extras, key and value.
    body: Partial,
}

pub(super) struct Serving<'s, 'w> {
    pub(super) context: &'s mut Context<'w>,
    pub(super) phase: &'s mut Phase,
    pub(super) authenticated: &'s mut bool,
    pub(super) failed_logins: &'s mut u32,
    pub(super) input: &'s [u8],
    pub(super) position: usize,
    /// Requests whose keys the store was told of.
    pub(super) ahead: usize,
    pub(super) output: &'s mut Vec<u8>,
    /// Large values, which are no part of it.
    pub(super) loans: &'s mut Loans,
}

impl<'s> Serving<'s, '_> {
    pub(super) fn run(&mut self, limits: &mut Limits) -> Stop {
        loop {
            if self.rest().is_empty() && !matches!(self.phase, Phase::Reply(_)) {
                return Stop::Input;
            }
            if self.output.len() + self.loans.bytes() >= limits.output_bytes {
                return Stop::Output;
            }
            let stop = match *self.phase {
                Phase::Packet if limits.requests == 0 => Some(Stop::Turn),
                Phase::Packet => self.packet(limits),
                Phase::Body(_) => self.more_body(),
                Phase::Swallow(left) => self.swallow(left),
                Phase::Reply(_) => self.reply(),
            };
            if let Some(stop) = stop {
                return stop;
            }
        }
    }

    fn rest(&self) -> &'s [u8] {
        &self.input[self.position..]
    }

    fn packet(&mut self, limits: &mut Limits) -> Option<Stop> {
        let rest = self.rest();
        let Some((header, rest)) = rest.split_first_chunk() else { return Some(Stop::Input) };
        let Some(header) = Header::read(header) else { return Some(Stop::BROKEN) };
        if let Err(fault) = header.check_lengths() {
            self.encoder(&header).fault(fault);
            return Some(Stop::BROKEN);
        }
        if !*self.authenticated && !header.is_for_everybody() {
            self.encoder(&header).unauthenticated();
            return Some(Stop::BROKEN);
        }
        if let Err(fault) = header.check_parts() {
            self.encoder(&header).fault(fault);
            return Some(Stop::BROKEN);
        }
        let Some(body) = header.body(rest) else { return Some(Stop::Input) };
        if let Some(Command::Get(_)) = header.command {
            self.gets(&header, body.key, limits);
            return None;
        }
        self.look_ahead(&header);
        limits.requests -= 1;
        self.position += HEADER_BYTES;
        match header.asked(&body) {
            Asked::Item(touch) => {
                self.items(touch, &[header], &[body.key], limits.output_bytes);
            }
            Asked::Request(Request::Quit) => {
                self.encoder(&header).outcome(Outcome::Ok);
                return Some(Stop::Close(CloseReason::Normal));
            }
            Asked::Request(request) => {
                let mut encoder = Encoder::new(self.output, &header);
                match command::execute(self.context, request, &mut encoder) {
                    Then::Continue => {}
                    Then::Stream(stream) => {
                        self.position += header.body_bytes();
                        *self.phase = Phase::Reply(Box::new(Reply::new(header, stream)));
                        return None;
                    }
                    Then::Close(reason) => return Some(Stop::Close(reason)),
                }
            }
            Asked::Store(storage) => match command::admit(self.context, &storage) {
                Ok(()) => return self.valued(&header, &body, rest),
                Err(fault) => self.encoder(&header).fault(fault),
            },
            Asked::Entry { .. } => match self.check_entry(&header, &body) {
                Ok(()) => return self.valued(&header, &body, rest),
                Err(fault) => self.encoder(&header).fault(fault),
            },
            Asked::Mechanisms => self.mechanisms(&header),
            Asked::Nothing => self.encoder(&header).fault(Fault::UnknownCommand),
        }
        self.swallow(header.body_bytes())
    }

    /// Announces the keys of a pipeline to the store before the first of its packets is served,
    /// which has this header.
    fn look_ahead(&mut self, header: &Header) {
        if self.ahead == 0 && self.rest().len() > header.packet_bytes() {
            self.ahead = self.context.batch.prefetch(binary::keys_ahead(self.rest()));
        }
        self.ahead = self.ahead.saturating_sub(1);
    }

    /// Serves as many retrievals as follow one another, of which this is the first. Nothing is
    /// stored between them, so they can be looked up together.
    fn gets(&mut self, header: &Header, key: &[u8], limits: &mut Limits) {
        let rest = self.rest();
        let group = (rest.len() > header.packet_bytes() && limits.requests > 1)
            .then(|| Gets::take(header, rest, limits.requests));
        let (headers, keys) = match &group {
            Some(group) => group.parts(),
            None => (slice::from_ref(header), slice::from_ref(&key)),
        };
        let done = self.items(None, headers, keys, limits.output_bytes);
        limits.requests -= done;
        self.position += headers[..done].iter().map(Header::packet_bytes).sum::<usize>();
    }

    /// Answers with the items under the keys of these packets, until the output has reached a
    /// length. Returns how many packets are done with.
    fn items(
        &mut self,
        touch: Option<i64>,
        headers: &[Header],
        keys: &[&[u8]],
        output_bytes: usize,
    ) -> usize {
        let Self { context, output, loans, .. } = self;
        command::retrieve(context, touch, keys, |number, hit| {
            let mut encoder = Encoder::new(output, &headers[number]);
            let key = keys[number];
            match hit {
                Some(hit) => {
                    let write = |output: &mut Vec<u8>| hit.value().write_to(output, loans);
                    encoder.item(key, hit.flags(), hit.cas(), hit.value_bytes(), write);
                }
                None => encoder.miss(key),
            }
            if output.len() + loans.bytes() < output_bytes {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })
    }

    /// Serves a packet that has a value, or takes over what has arrived of it; `rest` is all the
    /// input behind its header.
    fn valued(&mut self, header: &Header, body: &Body<'_>, rest: &[u8]) -> Option<Stop> {
        if body.value.len() == header.value_bytes() {
            self.position += header.body_bytes();
            return self.complete(header, body, None);
        } else {
            let fields = &rest[..header.body_bytes() - header.value_bytes()];
            if !self.context.shared.may_receive(0, fields.len()) {
                let fault = self.no_memory(header, body);
                self.encoder(header).fault(fault);
                return self.swallow(header.body_bytes());
            }
            let body = Partial::new(fields, header.value_bytes());
            *self.phase = Phase::Body(Box::new(PartialPacket { header: *header, body }));
            self.position += fields.len();
        }
        None
    }

    fn more_body(&mut self) -> Option<Stop> {
        let rest = self.rest();
        let Phase::Body(partial) = &mut *self.phase else {
            return None;
        };
        let taken = rest.len().min(partial.body.missing_bytes());
        let header = partial.header;
        let receive = |context: &mut Context<'_>, fields: &[u8]| receive(context, &header, fields);
        let grown = partial.body.grow(&rest[..taken], self.context, receive);
        if grown && partial.body.missing_bytes() > 0 {
            self.position += taken;
            return None;
        }
        let Phase::Body(partial) = mem::take(self.phase) else {
            return None;
        };
        let PartialPacket { header, body: mut partial } = *partial;
        let missing_bytes = partial.missing_bytes();
        let received = partial.take_incoming();
        let body = header.body(partial.bytes()).expect("extras and key were there from the start");
        if !grown {
            drop(received);
            let fault = self.no_memory(&header, &body);
            self.encoder(&header).fault(fault);
            return self.swallow(missing_bytes);
        }
        self.position += taken;
        self.complete(&header, &body, received)
    }

    /// Serves a packet whose value is there: what was received of it in its place, and the rest.
    fn complete(
        &mut self,
        header: &Header,
        body: &Body<'_>,
        received: Option<Incoming>,
    ) -> Option<Stop> {
        match header.asked(body) {
            Asked::Store(storage) => {
                match command::store(self.context, &storage, received, body.value) {
                    Ok(outcome) => self.encoder(header).outcome(outcome),
                    Err(fault) => self.encoder(header).fault(fault),
                }
            }
            Asked::Entry { further } => return self.entry(header, body, further),
            _ => unreachable!("no other packet has a value"),
        }
        None
    }

    fn no_memory(&mut self, header: &Header, body: &Body<'_>) -> Fault {
        match header.asked(body) {
            Asked::Store(storage) => command::no_memory(self.context, &storage),
            _ => Fault::OutOfMemory,
        }
    }

    fn swallow(&mut self, bytes: usize) -> Option<Stop> {
        let swallowed = bytes.min(self.rest().len());
        self.position += swallowed;
        *self.phase = match bytes - swallowed {
            0 => Phase::Packet,
            left => Phase::Swallow(left),
        };
        None
    }

    fn encoder(&mut self, header: &Header) -> Encoder<'_> {
        Encoder::new(self.output, header)
    }
}

/// Retrievals to look up together.
struct Gets<'k> {
    headers: [Header; PREFETCH_KEYS],
    keys: [&'k [u8]; PREFETCH_KEYS],
    count: usize,
}

impl<'k> Gets<'k> {
    /// Those that `input` begins with, the first of which has this header.
    fn take(first: &Header, input: &'k [u8], requests_max: usize) -> Self {
        let mut gets =
            Self { headers: [*first; PREFETCH_KEYS], keys: [&[]; PREFETCH_KEYS], count: 0 };
        let mut rest = input;
        while gets.count < requests_max.min(PREFETCH_KEYS)
            && let Some((header, key, after)) = binary::lone_get(rest)
        {
            gets.headers[gets.count] = header;
            gets.keys[gets.count] = key;
            gets.count += 1;
            rest = after;
        }
        gets
    }

    fn parts(&self) -> (&[Header], &[&'k [u8]]) {
        (&self.headers[..self.count], &self.keys[..self.count])
    }
}

/// Begins to receive the value of a packet where it will lie.
fn receive(context: &mut Context<'_>, header: &Header, fields: &[u8]) -> Option<Incoming> {
    match header.asked(&header.body(fields)?) {
        Asked::Store(storage) => command::receive(context, &storage),
        _ => None,
    }
}

impl Phase {
    /// The value that is arriving.
    pub(super) fn value(&mut self) -> Option<&mut Partial> {
        if let Self::Body(partial) = self { Some(&mut partial.body) } else { None }
    }

    pub(super) fn buffered_bytes(&self) -> usize {
        match self {
            Self::Body(partial) => partial.body.capacity_bytes(),
            Self::Reply(reply) => reply.buffered_bytes(),
            Self::Packet | Self::Swallow(_) => 0,
        }
    }
}
