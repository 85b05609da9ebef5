//! Clients that must say who they are: attempts to log in, and what else they ask for, in text and
//! by SASL.
//!
//! Several requests of an unknown client that arrive together are answered as one by memcached, so
//! each is awaited; and each is of a kind that is answered by one line, whether the client is known
//! or not. By SASL nobody is let in here: that takes cyrus-sasl's user database.

use crate::binary::{NOOP, Packet, SASL_LIST, VERSION};
use crate::sequence::{Command, Company};
use crate::support::Random;
use crate::words::{any, once_in};

/// What a client of a server with `-Y` may want.
pub(crate) fn text_phrase(random: &mut Random) -> Vec<Command> {
    let command = match random.below(12) {
        0..=3 => {
            let wrong = any(random, &CREDENTIALS);
            login(random, wrong)
        }
        4 => login(random, "alice secret"),
        5 if once_in(random, 3) => {
            Command::literal([any(random, &UNFINISHED)]).with(Company::HangsUp)
        }
        _ => Command::literal([any(random, &LINES), "\r\n"]),
    };
    vec![command]
}

/// What a client of a server with `-S` may want.
pub(crate) fn sasl_phrase(random: &mut Random) -> Vec<Command> {
    let key = any(random, &MECHANISMS);
    let packet = match random.below(10) {
        0..=4 => {
            let opcode = [AUTHENTICATE, AUTHENTICATE, STEP][random.below(3)];
            Packet::of_key(opcode, key).with_value(any(random, &MESSAGES))
        }
        5 => Packet::of_key(AUTHENTICATE, key),
        6..=7 => Packet::of_key([SASL_LIST, VERSION][random.below(2)], ""),
        _ => {
            let opcode = [NOOP, GET, GETKQ, DELETE, STAT, QUIT, UNKNOWN][random.below(7)];
            let key = if matches!(opcode, GET | GETKQ | DELETE) { "a" } else { "" };
            return vec![Packet::of_key(opcode, key).command(random).with(Company::Closes)];
        }
    };
    vec![packet.command(random)]
}

/// A `set`, which says who the client is unless it is known.
fn login(random: &mut Random, credentials: &str) -> Command {
    let line = format!("{}{}\r\n", any(random, &["set x 0 0 ", "set k 1 -1 "]), credentials.len());
    Command::literal([line, format!("{credentials}\r\n")])
}

/// None of them is right.
const CREDENTIALS: [&str; 10] = [
    "alice wrong",
    "alice secreT",
    "alice secret ",
    "alice  secret",
    "alice",
    "",
    " ",
    "nobody secret",
    "bob a",
    "Alice secret",
];
/// Each is answered by one line.
const LINES: [&str; 16] = [
    "get abc",
    "gets abc abd",
    "delete abc",
    "touch abc 0",
    "incr abc 1",
    "version",
    "mn  ",
    "mg abc v",
    "md abc",
    "verbosity",
    "shutdown",
    "flush_all",
    "nonsense",
    "settle",
    "cache_memlimit x",
    "stats no such topic",
];
const UNFINISHED: [&str; 4] = ["set x 0 0 12\r\nalice se", "set x 0 0 12", "get abc", "set"];

const MECHANISMS: [&str; 5] = ["PLAIN", "plain", "CRAM-MD5", "X", "PLAINER"];
/// None of them is right.
const MESSAGES: [&[u8]; 9] = [
    b"\0alice\0wrong",
    b"\0nobody\0secret",
    b"alice\0secret",
    b"alice",
    b"\0",
    b"\0\0",
    b"\0alice\0",
    b"a\0b\0c\0d",
    b"\xff\xfe",
];

const GET: u8 = 0x00;
const GETKQ: u8 = 0x0d;
const DELETE: u8 = 0x04;
const STAT: u8 = 0x10;
const QUIT: u8 = 0x07;
const UNKNOWN: u8 = 0x77;
const AUTHENTICATE: u8 = 0x21;
const STEP: u8 = 0x22;
