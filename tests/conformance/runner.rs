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
use crate::packet::{Way, packet};
use crate::support::Server;
use crate::table::{Case, Dialect, Peer, Piece, Proof, Table};

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
    table: &Table,
    case: &Case,
    delivery: Delivery,
) -> Result<(), Fault> {
    let habits = Habits::of(table);
    flush(server, &habits);
    let mut talk = Conversation::new(server.connect(), delivery);
    let neighbour = matches!(delivery, Delivery::BetweenOthers);
    if neighbour {
        talk.say(&habits.neighbour.0);
        talk.expect(&habits.neighbour.1);
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
        talk.say(&habits.neighbour.0);
        if !case.closed {
            talk.expect(&habits.neighbour.1);
        }
    }
    talk.finish(case.closed, &habits)
}

/// Runs every case that can be pipelined as one long pipeline, a flush between each two.
pub(crate) fn run_as_one(server: &Server, peer: Peer, table: &Table) -> Result<(), Fault> {
    let habits = Habits::of(table);
    let mut talk = Conversation::new(server.connect(), Delivery::Whole);
    for case in table.cases.iter().filter(|case| can_be_pipelined(case, peer)) {
        talk.say(&habits.silent_flush);
        for exchange in &case.exchanges {
            talk.say(&exchange.send);
            talk.expect(&named_apart(exchange.expect(peer), &case.name));
        }
    }
    talk.finish(false, &habits)
}

/// A case that ends without a line feed: the next line's would become its own.
fn ends_within_a_line(case: &Case) -> bool {
    let last = case.exchanges.last().and_then(|exchange| exchange.send.last());
    matches!(last, Some(Piece::Bytes(bytes)) if !bytes.ends_with(b"\n"))
}

/// A case that closes, or must see an answer before it can go on, ends a pipeline.
fn can_be_pipelined(case: &Case, peer: Peer) -> bool {
    let waits = |piece: &Piece| matches!(piece, Piece::Bound(_) | Piece::Cas(_));
    let is_proof = peer == Peer::Larder || case.proof == Proof::Full;
    is_proof
        && !case.closed
        && !case.exchanges.iter().flat_map(|exchange| &exchange.send).any(waits)
}

/// The same pieces, their names bound for one case alone.
fn named_apart(pieces: &[Piece], case: &str) -> Vec<Piece> {
    let rename = |piece: &Piece| match piece {
        Piece::Cas(name) if name == "_" => piece.clone(),
        Piece::Bound(name) => Piece::Bound(format!("{name} of {case}")),
        Piece::Cas(name) => Piece::Cas(format!("{name} of {case}")),
        other => other.clone(),
    };
    pieces.iter().map(rename).collect()
}

/// Empties the server, so that no case sees another's keys.
fn flush(server: &Server, habits: &Habits) {
    let mut control = server.connect();
    for piece in habits.silent_flush.iter().chain(&habits.quit) {
        let Piece::Bytes(bytes) = piece else { unreachable!("habits are plain") };
        control.write_all(bytes).expect("a fresh connection is writable");
    }
    control.read_to_end(&mut Vec::new()).expect("the server closes");
}

/// What the runner itself says, in the dialect of a file.
struct Habits {
    /// Twice, because memcached lets an item go that one of its threads is looking at.
    silent_flush: Vec<Piece>,
    quit: Vec<Piece>,
    /// A request that is always answered, and its answer.
    sentinel: (Vec<Piece>, Vec<Piece>),
    /// Requests that leave nothing behind, and their answers.
    neighbour: (Vec<Piece>, Vec<Piece>),
}

impl Habits {
    fn of(table: &Table) -> Self {
        match table.dialect {
            Dialect::Text => Self {
                silent_flush: literal("flush_all noreply\r\nflush_all noreply\r\n"),
                quit: literal("quit\r\n"),
                sentinel: (literal("version\r\n"), literal("VERSION 1.6.45\r\n")),
                neighbour: (
                    literal(
                        "set neighbour 7 0 5\r\nhello\r\nget neighbour\r\ndelete neighbour\r\n",
                    ),
                    literal("STORED\r\nVALUE neighbour 7 5\r\nhello\r\nEND\r\nDELETED\r\n"),
                ),
            },
            Dialect::Binary => Self {
                silent_flush: requests(&["flushq", "flushq"]),
                quit: requests(&["quitq"]),
                sentinel: version(),
                neighbour: (
                    requests(&[
                        "setq flags=7 exptime=0 key=neighbour value=hello",
                        "incrementq delta=1 initial=1 exptime=0 key=counter",
                        "gatk exptime=0 key=neighbour",
                        "deleteq key=neighbour",
                        "deleteq key=counter",
                        "getkq key=neighbour",
                    ]),
                    replies(&["gatk flags=7 cas=_ key=neighbour value=hello"]),
                ),
            },
            Dialect::LimitedBinary => Self {
                silent_flush: Vec::new(),
                quit: requests(&["quitq"]),
                sentinel: version(),
                neighbour: version(),
            },
        }
    }
}

fn version() -> (Vec<Piece>, Vec<Piece>) {
    (requests(&["version"]), replies(&["version value=1.6.45"]))
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
        let refers =
            |piece: &Piece| matches!(piece, Piece::Bound(name) | Piece::Cas(name) if unknown(name));
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
                Piece::Bound(name) | Piece::Cas(name) => {
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
    fn finish(mut self, closed: bool, habits: &Habits) -> Result<(), Fault> {
        if !closed {
            self.say(&habits.sentinel.0);
            self.expect(&habits.sentinel.1);
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

fn requests(lines: &[&str]) -> Vec<Piece> {
    packets(lines, Way::Request)
}

fn replies(lines: &[&str]) -> Vec<Piece> {
    packets(lines, Way::Reply)
}

fn packets(lines: &[&str], way: Way) -> Vec<Piece> {
    lines.iter().flat_map(|line| packet(line, way).expect("the packet is well written")).collect()
}

const BYTEWISE_MAX_LEN: usize = 3000;
const CHUNK_LEN: usize = 997;
