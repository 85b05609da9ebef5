//! Runs a case of the table over a socket, in each of the ways its bytes can arrive.
//!
//! A case that leaves the connection open is followed by a sentinel and a half-close, and everything until the server's own
//! close is compared: an answer too many is caught, silence is proven, and nothing waits for a time to pass.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;

use larder::clock::Clock;

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
        talk.say(&literal("flush_all noreply\r\n"));
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
    control.write_all(b"flush_all\r\nquit\r\n").expect("a fresh connection is writable");
    let mut answer = Vec::new();
    control.read_to_end(&mut answer).expect("flush_all is answered");
}

/// Both halves of one connection: what is still to be sent, what came, what should have come.
struct Conversation {
    stream: TcpStream,
    delivery: Delivery,
    unsent: Vec<u8>,
    expected: Vec<Piece>,
    received: Vec<u8>,
    bound: HashMap<String, Vec<u8>>,
    clock: Clock,
}

impl Conversation {
    fn new(stream: TcpStream, delivery: Delivery) -> Self {
        Self {
            stream,
            delivery,
            unsent: Vec::new(),
            expected: Vec::new(),
            received: Vec::new(),
            bound: HashMap::new(),
            clock: Clock::start(),
        }
    }

    /// Waits for the answers that are due, if `pieces` cannot be sent before them.
    fn resolve(&mut self, pieces: &[Piece]) -> Result<(), Fault> {
        let unknown = |name: &String| !self.bound.contains_key(name);
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
                Comparison::Equal(_) => return Ok(()),
                Comparison::Differs => return Err(self.report("another answer")),
                Comparison::Incomplete => {}
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
                Piece::Bound(name) => self.unsent.extend_from_slice(&self.bound[name]),
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
        self.expected.extend_from_slice(pieces);
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
            Comparison::Equal(length) if length == self.received.len() => Ok(()),
            Comparison::Equal(_) => Err(self.report("more than the answer")),
            Comparison::Differs => Err(self.report("another answer")),
            Comparison::Incomplete => Err(self.report("less than the answer")),
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

    /// Compares what came so far with what must come, binding names on the way.
    fn compare(&mut self) -> Comparison {
        let mut rest = &self.received[..];
        for (index, piece) in self.expected.iter().enumerate() {
            let length = match piece {
                Piece::Bytes(bytes) => {
                    let common = bytes.len().min(rest.len());
                    if bytes[..common] != rest[..common] {
                        return Comparison::Differs;
                    }
                    bytes.len()
                }
                Piece::Now(_) => panic!("a time in an answer cannot be compared exactly"),
                Piece::Digits | Piece::Bound(_) => {
                    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
                    if digits == 0 && !rest.is_empty() {
                        return Comparison::Differs;
                    }
                    digits
                }
                Piece::Skip => match &self.expected[index + 1..] {
                    [Piece::Bytes(next), ..] => {
                        rest.windows(next.len()).position(|at| at == next).unwrap_or(rest.len())
                    }
                    _ => panic!("a skip needs a text to stop at"),
                },
                Piece::Any => rest.iter().take_while(|&&byte| byte != b'\r').count(),
            };
            if rest.len() < length || (rest.len() == length && !matches!(piece, Piece::Bytes(_))) {
                return Comparison::Incomplete;
            }
            let (matched, after) = rest.split_at(length);
            if let Piece::Bound(name) = piece
                && *self.bound.entry(name.clone()).or_insert_with(|| matched.to_vec()) != matched
            {
                return Comparison::Differs;
            }
            rest = after;
        }
        Comparison::Equal(self.received.len() - rest.len())
    }

    fn report(&self, what: &str) -> Fault {
        let expected: String = self.expected.iter().map(show).collect();
        let received = self.received.escape_ascii().to_string();
        let common = expected.bytes().zip(received.bytes()).take_while(|(a, b)| a == b).count();
        format!(
            "{what}\n    expected {}\n    received {}",
            excerpt(&expected, common),
            excerpt(&received, common)
        )
    }
}

/// How far the received bytes agree with the expected ones.
enum Comparison {
    /// All of the expectation, which took this many bytes.
    Equal(usize),
    Incomplete,
    Differs,
}

fn literal(text: &str) -> Vec<Piece> {
    vec![Piece::Bytes(text.as_bytes().to_vec())]
}

fn show(piece: &Piece) -> String {
    match piece {
        Piece::Bytes(bytes) => bytes.escape_ascii().to_string(),
        Piece::Bound(name) => format!("{{cas:{name}}}"),
        Piece::Now(offset) => format!("{{now{offset:+}}}"),
        Piece::Digits => "{digits}".into(),
        Piece::Any => "{any}".into(),
        Piece::Skip => "{..}".into(),
    }
}

/// The neighbourhood of the first difference, for a message that can be read.
fn excerpt(text: &str, around: usize) -> String {
    let start = around.saturating_sub(EXCERPT_LEN);
    let shown: String = text.chars().skip(start).take(2 * EXCERPT_LEN).collect();
    let ellipsis = if start > 0 { "..." } else { "" };
    format!("{ellipsis}{shown} ({} characters in all)", text.len())
}

const SENTINEL: (&str, &str) = ("version\r\n", "VERSION 1.6.45\r\n");
const NEIGHBOUR: (&str, &str) = (
    "set neighbour 7 0 5\r\nhello\r\nget neighbour\r\ndelete neighbour\r\n",
    "STORED\r\nVALUE neighbour 7 5\r\nhello\r\nEND\r\nDELETED\r\n",
);
const BYTEWISE_MAX_LEN: usize = 3000;
const CHUNK_LEN: usize = 997;
const EXCERPT_LEN: usize = 160;
