//! Runs a case of the table over a socket, in each of the ways its bytes can arrive.
//!
//! A case that leaves the connection open is followed by a sentinel and a half-close, and
//! everything until the server's own close is compared: an answer too many is caught, silence is
//! proven, and nothing waits for a time to pass.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;

use larder::clock::Clock;

use crate::expectation::{Comparison, Expectation};
use crate::support::Server;
use crate::table::{Case, Peer, Piece, Proof, Table};

/// How the bytes of a case are handed to the kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Delivery {
    /// Each line that has an answer waits for it.
    Lockstep,
    /// As few writes as the case allows.
    Whole,
    /// One write for each byte; the middle of a large value goes in pieces of an odd size.
    Bytewise,
    /// One write together with the commands of a neighbour before and after it.
    BetweenOthers,
}

impl Delivery {
    /// Other commands are sent on the same connection.
    pub(crate) fn needs_others(self) -> bool {
        matches!(self, Self::BetweenOthers)
    }
}

/// A place where the answer is not what the table says, told so that it can be repeated by hand.
pub(crate) type Fault = String;

/// Runs one case on a connection of its own.
pub(crate) fn run(
    server: &Server,
    peer: Peer,
    case: &Case,
    delivery: Delivery,
) -> Result<(), Fault> {
    flush(server);
    let mut talk = Conversation::new(server.connect(), delivery);
    let neighbour = matches!(delivery, Delivery::BetweenOthers);
    if neighbour {
        talk.say(&literal(NEIGHBOUR.0));
        talk.expect(&literal(NEIGHBOUR.1));
        if case.closed && peer == Peer::Memcached {
            // It drops the answers that it has not sent yet when it closes.
            talk.await_answers()?;
        }
    }
    for exchange in &case.exchanges {
        talk.resolve(&exchange.send)?;
        talk.say(&exchange.send);
        talk.expect(exchange.expect(peer));
    }
    if neighbour && !(case.closed && ends_within_a_line(case)) {
        talk.say(&literal(NEIGHBOUR.0));
        if !case.closed {
            talk.expect(&literal(NEIGHBOUR.1));
        }
    }
    talk.finish(case.closed)
}

/// Runs every case that can be pipelined as one long pipeline, a flush between each two.
pub(crate) fn run_as_one(server: &Server, peer: Peer, table: &Table) -> Result<(), Fault> {
    let mut talk = Conversation::new(server.connect(), Delivery::Whole);
    for case in table.cases.iter().filter(|case| can_be_pipelined(case, peer)) {
        talk.say(&[Piece::Bytes(SILENT_FLUSH.to_vec())]);
        for exchange in &case.exchanges {
            talk.say(&exchange.send);
            talk.expect(&named_apart(exchange.expect(peer), &case.name));
        }
    }
    talk.finish(false)
}

/// A case that ends without a line feed: the next line's would become its own.
fn ends_within_a_line(case: &Case) -> bool {
    let last = case.exchanges.last().and_then(|exchange| exchange.send.last());
    matches!(last, Some(Piece::Bytes(bytes)) if !bytes.ends_with(b"\n"))
}

/// A case that closes, or must see an answer before it can go on, ends a pipeline.
fn can_be_pipelined(case: &Case, peer: Peer) -> bool {
    let waits = |piece: &Piece| matches!(piece, Piece::Bound(_));
    let is_proof = peer == Peer::Larder || case.proof == Proof::Full;
    is_proof
        && !case.closed
        && !case.exchanges.iter().flat_map(|exchange| &exchange.send).any(waits)
}

/// The same pieces, their names bound for one case alone.
fn named_apart(pieces: &[Piece], case: &str) -> Vec<Piece> {
    let rename = |piece: &Piece| match piece {
        Piece::Bound(name) => Piece::Bound(format!("{name} of {case}")),
        other => other.clone(),
    };
    pieces.iter().map(rename).collect()
}

/// Empties the server, so that no case sees another's keys.
fn flush(server: &Server) {
    let mut control = server.connect();
    control
        .write_all(FLUSH)
        .and_then(|()| control.write_all(b"quit\r\n"))
        .expect("a fresh connection is writable");
    let mut answer = Vec::new();
    control.read_to_end(&mut answer).expect("flush_all is answered");
}

/// Both halves of one connection: what is still to be sent, what came, what should have come.
struct Conversation {
    stream: TcpStream,
    delivery: Delivery,
    unsent: Vec<u8>,
    expected: Expectation,
    received: Vec<u8>,
    clock: Clock,
}

impl Conversation {
    fn new(stream: TcpStream, delivery: Delivery) -> Self {
        Self {
            stream,
            delivery,
            unsent: Vec::new(),
            expected: Expectation::default(),
            received: Vec::new(),
            clock: Clock::start(),
        }
    }

    /// Waits for the answers that are due, if `pieces` cannot be sent before them.
    fn resolve(&mut self, pieces: &[Piece]) -> Result<(), Fault> {
        let unknown = |name: &str| self.expected.bound(name).is_none();
        let refers = |piece: &Piece| matches!(piece, Piece::Bound(name) if unknown(name));
        if matches!(self.delivery, Delivery::Lockstep) || pieces.iter().any(refers) {
            self.await_answers()?;
        }
        Ok(())
    }

    /// Sends what is to be sent and reads until the expected answers are there.
    fn await_answers(&mut self) -> Result<(), Fault> {
        self.send().map_err(|error| format!("cannot send: {error}"))?;
        let mut chunk = [0; 16 << 10];
        loop {
            match self.compare() {
                Comparison::Met(_) => return Ok(()),
                Comparison::Differs(_) => return Err(self.report("another answer")),
                Comparison::Incomplete(_) => {}
            }
            match self.stream.read(&mut chunk) {
                Ok(count) if count > 0 => self.received.extend_from_slice(&chunk[..count]),
                other => return Err(self.report(&format!("the answer ends early ({other:?})"))),
            }
        }
    }

    fn say(&mut self, pieces: &[Piece]) {
        for piece in pieces {
            match piece {
                Piece::Bytes(bytes) => self.unsent.extend_from_slice(bytes),
                Piece::Bound(name) => {
                    let number = self.expected.bound(name).expect("resolved before");
                    self.unsent.extend_from_slice(number);
                }
                Piece::Now(offset) => {
                    let time = i64::from(self.clock.now_seconds()) + offset;
                    self.unsent.extend_from_slice(time.to_string().as_bytes());
                }
                Piece::Digits | Piece::Any | Piece::Skip => {
                    panic!("a client cannot send a wildcard")
                }
            }
        }
    }

    fn expect(&mut self, pieces: &[Piece]) {
        self.expected.add(pieces);
    }

    /// Sends the rest, reads to the end, and compares the whole.
    fn finish(mut self, closed: bool) -> Result<(), Fault> {
        if !closed {
            self.say(&literal(SENTINEL.0));
            self.expect(&literal(SENTINEL.1));
        }
        let (sent, read) = self.send_while_reading(closed);
        if let (Err(error), false) = (&sent, closed) {
            return Err(self.report(&format!("cannot send ({error})")));
        }
        match read {
            Err(error) if !(closed && error.kind() == io::ErrorKind::ConnectionReset) => {
                return Err(self.report(&format!("the connection does not end ({error})")));
            }
            _ => {}
        }
        match self.compare() {
            Comparison::Met(length) if length == self.received.len() => Ok(()),
            Comparison::Met(_) => Err(self.report("more than the answer")),
            Comparison::Differs(_) => Err(self.report("another answer")),
            Comparison::Incomplete(_) => Err(self.report("less than the answer")),
        }
    }

    /// Writes from a second thread, so that a long pipeline cannot lock both ends up in a write.
    fn send_while_reading(&mut self, closed: bool) -> (io::Result<()>, io::Result<()>) {
        let mut reader = self.stream.try_clone().expect("a socket can be cloned");
        let mut received = std::mem::take(&mut self.received);
        let results = thread::scope(|scope| {
            let reading = scope.spawn(|| reader.read_to_end(&mut received).map(drop));
            let sent = self
                .send()
                .and_then(|()| if closed { Ok(()) } else { self.stream.shutdown(Shutdown::Write) });
            (sent, reading.join().expect("reading does not panic"))
        });
        self.received = received;
        results
    }

    fn send(&mut self) -> io::Result<()> {
        let bytes = std::mem::take(&mut self.unsent);
        if !matches!(self.delivery, Delivery::Bytewise) {
            return self.stream.write_all(&bytes);
        }
        let head = bytes.len().min(BYTEWISE_MAX_LEN);
        let tail = bytes.len().saturating_sub(BYTEWISE_MAX_LEN).max(head);
        for byte in &bytes[..head] {
            self.stream.write_all(&[*byte])?;
        }
        for chunk in bytes[head..tail].chunks(CHUNK_LEN) {
            self.stream.write_all(chunk)?;
        }
        for byte in &bytes[tail..] {
            self.stream.write_all(&[*byte])?;
        }
        Ok(())
    }

    fn compare(&mut self) -> Comparison {
        self.expected.compare(&self.received)
    }

    /// Says what went wrong and where.
    fn report(&mut self, what: &str) -> Fault {
        let place = match self.compare() {
            Comparison::Differs(place) | Comparison::Incomplete(place) => place,
            Comparison::Met(length) => {
                let surplus = self.received[length..].escape_ascii();
                return format!("{what}, beyond the answer: {surplus}");
            }
        };
        format!("{what}\n    {}", self.expected.show(place, &self.received))
    }
}

fn literal(text: &str) -> Vec<Piece> {
    vec![Piece::Bytes(text.as_bytes().to_vec())]
}

/// Twice, because memcached lets an item go that one of its threads is looking at.
const FLUSH: &[u8] = b"flush_all\r\nflush_all\r\n";
const SILENT_FLUSH: &[u8] = b"flush_all noreply\r\nflush_all noreply\r\n";
const SENTINEL: (&str, &str) = ("version\r\n", "VERSION 1.6.45\r\n");
const NEIGHBOUR: (&str, &str) = (
    "set neighbour 7 0 5\r\nhello\r\nget neighbour\r\ndelete neighbour\r\n",
    "STORED\r\nVALUE neighbour 7 5\r\nhello\r\nEND\r\nDELETED\r\n",
);
const BYTEWISE_MAX_LEN: usize = 3000;
const CHUNK_LEN: usize = 997;
