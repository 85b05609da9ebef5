//! The whole server less its sockets: a stream of bytes in, answers out.

use super::random::Random;
use larder::clock::Seconds;
use larder::command::{Context, Observer};
use larder::config::{Config, Dialects};
use larder::output::Output;
use larder::protocol::KEY_BYTES_MAX;
use larder::protocol::binary::REQUEST_MAGIC;
use larder::protocol::text::{LINE_BYTES_MAX, Tokens};
use larder::serve::{Limits, Served, Session, Stop, serve};
use larder::shared::Shared;
use larder::store::Handle;
use memchr::memmem;

/// A connection that brings a stream of bytes. The first eight say how it arrives.
pub fn server(input: &[u8]) {
    let Some((seed, stream)) = input.split_first_chunk() else { return };
    let stream = &stream[..stream.len().min(STREAM_BYTES_MAX)];
    let mut arrival = Arrival::torn(u64::from_le_bytes(*seed));
    let time_passes = arrival.time_passes;
    let torn = Server::new().receive(stream, &mut arrival);
    if !time_passes && is_served_alike(stream) {
        let whole = Server::new().receive(stream, &mut Arrival::whole());
        let has_room = torn.evictions + whole.evictions == 0;
        if has_room && !contains_any(&whole.bytes, &IN_THE_MOMENT) {
            assert_equal(&torn.bytes, &whole.bytes);
        }
    }
}

/// A server without sockets, and one connection to it.
struct Server {
    shared: Shared,
    handle: Handle,
    now: Seconds,
    session: Session,
    /// What could not be served yet.
    rest: Vec<u8>,
    scanned: usize,
    answer: Answer,
}

/// What was answered in all.
#[derive(Default)]
struct Answer {
    bytes: Vec<u8>,
    evictions: u64,
}

/// How a stream arrives and is served.
struct Arrival {
    random: Random,
    is_torn: bool,
    time_passes: bool,
}

impl Server {
    fn new() -> Self {
        let config =
            Config { memory_bytes: 1 << 20, item_bytes_max: ITEM_BYTES_MAX, ..Config::tiny() };
        let shared = Shared::new(config, Vec::new()).expect("the system has the memory");
        let handle = shared.store.register();
        let session = Session::new(&shared.config, Dialects::Any);
        let (rest, answer) = Default::default();
        Self { shared, handle, now: NOW, session, rest, scanned: 0, answer }
    }

    fn receive(mut self, stream: &[u8], arrival: &mut Arrival) -> Answer {
        let mut coming = stream;
        let mut stop = Stop::Input;
        while !coming.is_empty() && !matches!(stop, Stop::Close(_)) {
            let (piece, after) = coming.split_at(arrival.piece_bytes(coming.len()));
            coming = after;
            self.rest.extend_from_slice(piece);
            stop = self.serve(arrival);
        }
        self.shared.store.check();
        let totals = self.shared.store.totals();
        assert!(totals.segments_in_use <= totals.segments, "{totals:?}");
        self.answer.evictions = totals.evictions;
        self.answer
    }

    /// Serves what has come, turn by turn, until more must come.
    fn serve(&mut self, arrival: &mut Arrival) -> Stop {
        let mut idle_turns = 0;
        loop {
            self.now += arrival.seconds();
            let mut limits = arrival.limits();
            let limit_bytes = limits.output_bytes.min(STREAM_BYTES_MAX);
            let mut output = Output::new(&self.shared.config);
            let Served { consumed, scanned, stop } = self.turn(&mut output, &mut limits);
            let output = output.take_bytes();
            let is_idle = consumed == 0 && output.is_empty();
            idle_turns = if is_idle { idle_turns + 1 } else { 0 };
            assert!(idle_turns < IDLE_TURNS_MAX, "no progress");
            self.rest.drain(..consumed);
            self.scanned = scanned;
            assert!(scanned <= self.rest.len());
            if arrival.is_torn {
                assert!(output.len() <= limit_bytes + REPLY_BYTES_MAX, "{} bytes", output.len());
            }
            self.answer.bytes.extend(output);
            match stop {
                Stop::Turn | Stop::Output => {}
                Stop::Close(_) | Stop::Fail => return stop,
                Stop::Input => {
                    assert!(self.rest.len() <= REST_BYTES_MAX, "{} bytes wait", self.rest.len());
                    assert!(self.session.buffered_bytes() <= 2 * ITEM_BYTES_MAX);
                    return stop;
                }
            }
        }
    }

    fn turn(&mut self, output: &mut Output, limits: &mut Limits) -> Served {
        let mut context = Context {
            shared: &self.shared,
            counters: &self.shared.workers[0].counters,
            batch: self.handle.batch(self.now),
            observer: Observer::new(&self.shared),
        };
        serve(&mut context, &mut self.session, &self.rest, self.scanned, output, limits)
    }
}

impl Arrival {
    fn torn(seed: u64) -> Self {
        Self { random: Random(seed), is_torn: true, time_passes: seed & 1 == 1 }
    }

    fn whole() -> Self {
        Self { random: Random(0), is_torn: false, time_passes: false }
    }

    fn piece_bytes(&mut self, coming_bytes: usize) -> usize {
        if self.is_torn { coming_bytes.min(1 + self.any_size()) } else { coming_bytes }
    }

    fn seconds(&mut self) -> Seconds {
        let passes = self.time_passes && self.random.below(8) == 0;
        if passes { SECONDS[self.random.below(SECONDS.len())] } else { 0 }
    }

    fn limits(&mut self) -> Limits {
        if self.is_torn {
            Limits { requests: 1 + self.random.below(8), output_bytes: 1 + self.any_size() }
        } else {
            Limits { requests: usize::MAX, output_bytes: usize::MAX }
        }
    }

    /// Small ones are as common as large ones.
    fn any_size(&mut self) -> usize {
        let limit = 1 << self.random.below(13);
        self.random.below(limit)
    }
}

/// Fails with what is near the first difference.
fn assert_equal(torn: &[u8], whole: &[u8]) {
    let common = torn.iter().zip(whole).take_while(|(a, b)| a == b).count();
    let near = |bytes: &[u8]| {
        let end = bytes.len().min(common + SHOWN_BYTES);
        bytes[common.saturating_sub(SHOWN_BYTES)..end].escape_ascii().to_string()
    };
    assert!(torn == whole, "in pieces: {}\nas a whole: {}", near(torn), near(whole));
}

/// Whether the pieces and turns in which a stream is served may make no difference. They do for a
/// line that is too long, which is refused if it is seen before its end, and for a key that is too
/// long, which takes those of the items before it along that were not sent yet.
fn is_served_alike(stream: &[u8]) -> bool {
    let is_short = |line: &[u8]| {
        line.len() <= LINE_BYTES_MAX && Tokens::new(line).all(|token| token.len() <= KEY_BYTES_MAX)
    };
    stream.first() == Some(&REQUEST_MAGIC)
        || !contains_any(stream, &TOLD_AT_WILL) && stream.split(|&byte| byte == b'\n').all(is_short)
}

fn contains_any(bytes: &[u8], words: &[&[u8]]) -> bool {
    words.iter().any(|word| memmem::find(bytes, word).is_some())
}

const NOW: Seconds = 1_800_000_000;
const SECONDS: [Seconds; 5] = [1, 2, 10, 100, 3600];
const STREAM_BYTES_MAX: usize = 1 << 16;
const ITEM_BYTES_MAX: usize = 1 << 14;
/// What a reply may be beyond the limit that it begins under: an item, or figures.
const REPLY_BYTES_MAX: usize = 2 * ITEM_BYTES_MAX;
/// A line, or the parts of a packet before its value.
const REST_BYTES_MAX: usize = LINE_BYTES_MAX + 512;
/// What answers tell of the moment in which they were made, or of the memory that was left then.
const IN_THE_MOMENT: [&[u8]; 3] = [b"\x81\x10", b"out of memory", b"Out of memory"];
/// What asks for something that each server tells in an order of its own, or as it happens.
const TOLD_AT_WILL: [&[u8]; 3] = [b"watch", b"lru_crawler", b"stats"];
/// A walk over the store may find nothing to tell for a while.
const IDLE_TURNS_MAX: usize = 10_000;
const SHOWN_BYTES: usize = 200;
