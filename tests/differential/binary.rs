//! Packets of the binary protocol.

use crate::sequence::{Command, Company, Piece};
use crate::support::Random;
use crate::words::{COUNTERS, KEYS, any, any_key, any_value, once_in};

/// A request that can be told what to get wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Packet {
    opcode: u8,
    extras: Vec<u8>,
    key: Vec<u8>,
    value: Vec<u8>,
    condition: Condition,
}

/// What the unique number of a request is.
#[derive(Clone, Copy, Debug, Default)]
enum Condition {
    #[default]
    None,
    /// The one that the server sent last, or so many before it.
    Seen(usize),
    Chosen(u64),
}

/// What a client may want: one command, or a few that belong together.
pub(crate) fn phrase(random: &mut Random) -> Vec<Command> {
    let packet = match random.below(40) {
        0..=8 => storage(random),
        9..=12 => joining(random),
        13..=18 => retrieval(random),
        19..=21 => Packet::of_key(any_of(random, &DELETIONS), any_key(random)),
        22..=26 => arithmetic(random),
        27..=28 => touch(random),
        29..=32 => return on_condition(random),
        33 => flush(random),
        34 => Packet { opcode: any_of(random, &[NOOP, VERSION]), ..Packet::default() },
        35 => Packet::of_key(STAT, "no such topic"),
        36..=37 => return vec![counter_read(random)],
        38 => unknown(random),
        _ => return vec![parting(random)],
    };
    vec![packet.command(random)]
}

fn storage(random: &mut Random) -> Packet {
    let key = any_key(random);
    let condition = match random.below(12) {
        0 => Condition::Chosen(123_456_789_012_345),
        1 => Condition::Chosen(u64::MAX),
        _ => Condition::None,
    };
    let flags: u32 = any_of(random, &[0, 0, 1, 0x8000_0000, u32::MAX]);
    let mut extras = flags.to_be_bytes().to_vec();
    extras.extend(exptime(random));
    let value = any_value(random, key);
    let opcode = any_of(random, &STORAGES);
    Packet { opcode, extras, key: key.into(), value, condition }
}

fn joining(random: &mut Random) -> Packet {
    let key = any_key(random);
    let value = any_value(random, key);
    Packet { value, ..Packet::of_key(any_of(random, &JOININGS), key) }
}

fn retrieval(random: &mut Random) -> Packet {
    Packet::of_key(any_of(random, &RETRIEVALS), any(random, &KEYS))
}

fn touch(random: &mut Random) -> Packet {
    let packet = Packet::of_key(any_of(random, &TOUCHES), any(random, &KEYS));
    Packet { extras: exptime(random), ..packet }
}

fn arithmetic(random: &mut Random) -> Packet {
    let delta: u64 = any_of(random, &[0, 1, 9, 100, 1 << 63, u64::MAX]);
    let initial: u64 = any_of(random, &[0, 5, 10, u64::MAX]);
    let mut extras = [delta.to_be_bytes(), initial.to_be_bytes()].concat();
    extras.extend(if once_in(random, 2) { vec![0xff; 4] } else { exptime(random) });
    Packet { extras, ..Packet::of_key(any_of(random, &ARITHMETIC), any(random, &COUNTERS)) }
}

/// Reads a unique number, then does something on condition of it, or of the one before.
fn on_condition(random: &mut Random) -> Vec<Command> {
    let counts = once_in(random, 3);
    let key = any(random, if counts { &COUNTERS[..] } else { &KEYS });
    let mut then = match random.below(4) {
        0 if counts => arithmetic(random),
        0..=1 => storage(random),
        2 => joining(random),
        _ => Packet::of_key(any_of(random, &DELETIONS), key),
    };
    if !(COUNTERS.contains(&key) && then.value.trim_ascii().is_empty()) {
        then.key = key.into();
    }
    then.condition = Condition::Seen(random.below(3) / 2);
    let read = Packet::of_key(any_of(random, &[GET, GETK]), key).command(random);
    vec![read.with(Company::Alone), then.command(random)]
}

/// Numbers that are counted with are read while nothing else is under way (PADDING).
fn counter_read(random: &mut Random) -> Command {
    let mut packet = if once_in(random, 3) { touch(random) } else { retrieval(random) };
    packet.key = any(random, &COUNTERS).into();
    packet.command(random).with(Company::Alone)
}

/// No flush is for later (REVIVED).
fn flush(random: &mut Random) -> Packet {
    let exptime: &[u8] = any(random, &[&b""[..], &[0; 4]]);
    Packet { opcode: any_of(random, &[FLUSH, FLUSHQ]), extras: exptime.into(), ..Packet::default() }
}

/// An opcode that means nothing, without extras and key (SWALLOWED TWICE).
fn unknown(random: &mut Random) -> Packet {
    let opcode = any_of(random, &[0x1b, 0x20, 0x25, 0x30, 0x3c, 0x40, 0x7f, 0x80, 0xff]);
    let length = if opcode == SASL_LIST { 0 } else { random.below(50) };
    Packet { opcode, value: random.bytes(length), ..Packet::default() }
}

/// What ends a connection.
fn parting(random: &mut Random) -> Command {
    let mut packet = match random.below(4) {
        0 => retrieval(random),
        1 => storage(random),
        2 => arithmetic(random),
        _ => touch(random),
    };
    packet.value.truncate(100);
    if once_in(random, 3) {
        let mut bytes = packet.bytes(0);
        bytes.truncate(1 + random.below(bytes.len() - 1));
        return Command::literal([bytes]).with(Company::HangsUp);
    }
    let bytes = match random.below(7) {
        0 => Packet { opcode: any_of(random, &[QUIT, QUITQ]), ..Packet::default() }.bytes(0),
        // The first packet of a connection would make another dialect of it.
        1 => {
            let bytes = with_byte(packet.bytes(0), 0, any_of(random, &[0, 0x81, b'g', 0xff]));
            [Packet { opcode: NOOP, ..Packet::default() }.bytes(0), bytes].concat()
        }
        2 => {
            packet.key = vec![b'l'; 251 + random.below(300)];
            packet.bytes(0)
        }
        3 => {
            packet.key.clear();
            packet.bytes(0)
        }
        4 => {
            packet.extras.push(0);
            packet.bytes(0)
        }
        // The body is shorter than what is in it.
        5 => with_byte(packet.bytes(0), BODY_BYTES_LAST, 0),
        // The body is longer than anything can be.
        _ => with_byte(packet.bytes(0), BODY_BYTES_FIRST, 0x7f),
    };
    Command::literal([bytes]).with(Company::Closes)
}

impl Packet {
    pub(crate) fn of_key(opcode: u8, key: &str) -> Self {
        Self { opcode, key: key.into(), ..Self::default() }
    }

    pub(crate) fn with_value(self, value: &[u8]) -> Self {
        Self { value: value.into(), ..self }
    }

    pub(crate) fn command(self, random: &mut Random) -> Command {
        let opaque = if once_in(random, 2) { 0 } else { random.below(1 << 30) };
        let bytes = self.bytes(u32::try_from(opaque).expect("30 bits"));
        let (start, body) = (&bytes[..CAS_OFFSET], &bytes[HEADER_BYTES..]);
        let cas = match self.condition {
            Condition::None => Piece::Bytes(vec![0; 8]),
            Condition::Chosen(cas) => Piece::Bytes(cas.to_be_bytes().to_vec()),
            Condition::Seen(back) => Piece::Cas { back },
        };
        let pieces = vec![Piece::Bytes(start.into()), cas, Piece::Bytes(body.into())];
        Command { pieces, company: Company::Any }
    }

    /// The whole packet, without a condition.
    fn bytes(&self, opaque: u32) -> Vec<u8> {
        let key_bytes = u16::try_from(self.key.len()).expect("a short key");
        let extras_bytes = u8::try_from(self.extras.len()).expect("short extras");
        let body = [&self.extras[..], &self.key, &self.value].concat();
        let body_bytes = u32::try_from(body.len()).expect("a short body");
        let mut bytes = vec![0x80, self.opcode];
        bytes.extend(key_bytes.to_be_bytes());
        bytes.extend([extras_bytes, 0, 0, 0]);
        bytes.extend(body_bytes.to_be_bytes());
        bytes.extend(opaque.to_be_bytes());
        bytes.extend([0; 8]);
        bytes.extend(body);
        bytes
    }
}

fn with_byte(mut bytes: Vec<u8>, offset: usize, byte: u8) -> Vec<u8> {
    bytes[offset] = byte;
    bytes
}

/// None of the times ends while the test runs, unless it ends at once.
fn exptime(random: &mut Random) -> Vec<u8> {
    any_of(random, &TIMES).to_be_bytes().to_vec()
}

fn any_of<T: Copy>(random: &mut Random, choices: &[T]) -> T {
    choices[random.below(choices.len())]
}

const HEADER_BYTES: usize = 24;
const CAS_OFFSET: usize = 16;
/// The body's length stands in four bytes of the header.
const BODY_BYTES_FIRST: usize = 8;
const BODY_BYTES_LAST: usize = 11;

/// The last ones are more than text can say, and none is farther off than that (FAR OFF).
const TIMES: [u32; 9] =
    [0, 0, 0, 10_000, 2_592_000, 2_592_001, 0x7fff_ffff, 0x8000_0000, 0xd000_0000];

const GET: u8 = 0x00;
const GETK: u8 = 0x0c;
pub(crate) const NOOP: u8 = 0x0a;
pub(crate) const VERSION: u8 = 0x0b;
const STAT: u8 = 0x10;
const QUIT: u8 = 0x07;
const QUITQ: u8 = 0x17;
const FLUSH: u8 = 0x08;
const FLUSHQ: u8 = 0x18;
pub(crate) const SASL_LIST: u8 = 0x20;
/// Each with its quiet form, the loud ones twice as often.
const STORAGES: [u8; 11] = [0x01, 0x01, 0x01, 0x02, 0x03, 0x01, 0x02, 0x03, 0x11, 0x12, 0x13];
const JOININGS: [u8; 6] = [0x0e, 0x0f, 0x0e, 0x0f, 0x19, 0x1a];
const RETRIEVALS: [u8; 6] = [GET, GETK, GET, GETK, 0x09, 0x0d];
const DELETIONS: [u8; 3] = [0x04, 0x04, 0x14];
const ARITHMETIC: [u8; 6] = [0x05, 0x06, 0x05, 0x06, 0x15, 0x16];
const TOUCHES: [u8; 6] = [0x1c, 0x1c, 0x1d, 0x1e, 0x23, 0x24];
