//! The same random commands to larder and to memcached 1.6.45: the answers must be equal, byte by
//! byte.
//!
//! The table says what is known to matter; this looks for what nobody thought of. It leaves out
//! what the table lists as a known difference, numbers that are read while the answer to an earlier
//! read is pending (memcached pads a number that grew shorter only if nobody is reading it), and
//! what closes a connection; unique numbers, which each server counts for itself, are off.

mod support;

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::Shutdown;
use std::thread;

use support::{Random, Server};

#[test]
fn random_commands_have_equal_answers() {
    let Some(reference) = support::reference() else { return };
    let larder = Server::start(&support::larder(), &["-C"]);
    let memcached = Server::start(&reference, &["-C"]);
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut all = Vec::new();
    for round in 0..ROUNDS {
        let mut commands = vec![format!("{FLUSH}\r\n")];
        commands.extend((0..COMMANDS_PER_ROUND).map(|_| command(&mut random)));
        commands.extend(COUNTERS.map(|key| format!("get {key}\r\n")));
        let ours = answers(&larder, &commands);
        let theirs = answers(&memcached, &commands);
        if ours != theirs {
            let first = first_difference(&larder, &memcached, &commands);
            panic!("round {round}:\n{}\n{first}", compared(&ours, &theirs));
        }
        all.extend(ours);
    }
    let all = String::from_utf8_lossy(&all);
    for answer in ANSWERS {
        assert!(all.contains(answer), "no command was answered by {answer}");
    }
}

/// Sends the commands and what completes the last value, then reads everything.
fn answers(server: &Server, commands: &[String]) -> Vec<u8> {
    let requests = commands.concat() + &"\r\n".repeat(LONGEST_LENGTH);
    let mut stream = server.connect();
    let mut writer = stream.try_clone().expect("a socket can be cloned");
    let mut received = Vec::new();
    thread::scope(|scope| {
        scope.spawn(move || {
            writer.write_all(requests.as_bytes()).expect("requests are taken");
            writer.shutdown(Shutdown::Write).expect("a socket can be shut down");
        });
        stream.read_to_end(&mut received).expect("the server answers and closes");
    });
    received
}

/// Finds the shortest start of the commands that is answered differently.
fn first_difference(larder: &Server, memcached: &Server, commands: &[String]) -> String {
    for count in 1..=commands.len() {
        let ours = answers(larder, &commands[..count]);
        let theirs = answers(memcached, &commands[..count]);
        if ours != theirs {
            let last = &commands[count.saturating_sub(SHOWN_COMMANDS)..count];
            return format!("after {last:?}\n{}", compared(&ours, &theirs));
        }
    }
    "it does not happen again".to_owned()
}

fn compared(ours: &[u8], theirs: &[u8]) -> String {
    let common = ours.iter().zip(theirs).take_while(|(a, b)| a == b).count();
    let (ours, theirs) = (excerpt(ours, common), excerpt(theirs, common));
    format!("  larder    {ours}\n  memcached {theirs}")
}

fn excerpt(answers: &[u8], around: usize) -> String {
    let from = around.saturating_sub(SHOWN_LEN);
    let to = answers.len().min(around + SHOWN_LEN);
    answers[from..to].escape_ascii().to_string()
}

/// A command on one of a few keys, with some of its arguments wrong.
fn command(random: &mut Random) -> String {
    let mut line = String::new();
    let key = any(random, &KEYS);
    match random.below(16) {
        0..=2 => return storage(random, key),
        3..=4 => {
            let counter = any(random, &COUNTERS);
            return storage(random, counter);
        }
        5..=7 => {
            let _ = write!(line, "get {key} {} {}", any(random, &KEYS), any(random, &KEYS));
        }
        8 => {
            let _ = write!(line, "gat {} {key} {}", any(random, &TIMES), any(random, &KEYS));
        }
        9 => {
            let _ = write!(line, "touch {key} {}", any(random, &TIMES));
        }
        10 => {
            let _ = write!(line, "incr {} {}", any(random, &COUNTERS), any(random, &NUMBERS));
        }
        11 => {
            let _ = write!(line, "decr {} {}", any(random, &COUNTERS), any(random, &NUMBERS));
        }
        12 => {
            let _ = write!(line, "delete {key}");
        }
        13 => line.push_str(any(random, &RARE)),
        _ => {
            for _ in 0..=random.below(5) {
                let _ = write!(line, "{} ", any(random, &WORDS));
            }
        }
    }
    line.push_str(any(random, &TAILS));
    line
}

/// A storage command with its data, whose length may not be what was said.
fn storage(random: &mut Random, key: &str) -> String {
    let verb = any(random, &["set", "set", "add", "replace", "append", "prepend", "cas"]);
    let value = any(random, &VALUES);
    let mut said = value.len();
    match random.below(20) {
        0 => said += 1,
        1 => said -= 1,
        _ => {}
    }
    let length =
        if random.below(30) == 0 { any(random, &NUMBERS).to_owned() } else { said.to_string() };
    let cas = if verb == "cas" { " 0" } else { "" };
    let flags = any(random, &NUMBERS);
    let time = any(random, &TIMES);
    let tail = any(random, &TAILS);
    format!("{verb} {key} {flags} {time} {length}{cas}{tail}{value}\r\n")
}

fn any<'a>(random: &mut Random, choices: &[&'a str]) -> &'a str {
    choices[random.below(choices.len())]
}

const ROUNDS: usize = 1000;
const COMMANDS_PER_ROUND: usize = 200;
/// The largest readable one of [`NUMBERS`] that can be a length.
const LONGEST_LENGTH: usize = 77;
/// Twice, because memcached lets an item go that one of its threads is looking at.
const FLUSH: &str = "flush_all\r\nflush_all";
const SHOWN_LEN: usize = 60;
const SHOWN_COMMANDS: usize = 5;
const KEYS: [&str; 6] = ["a", "b", "c", "\u{e9}", "norepl", "k\tk"];
/// What must have come up if the commands are any good.
const ANSWERS: [&str; 14] = [
    "\nSTORED",
    "NOT_STORED",
    "EXISTS",
    "NOT_FOUND",
    "DELETED",
    "TOUCHED",
    "VALUE",
    "OK",
    "\nERROR",
    "bad command line format",
    "bad data chunk",
    "invalid exptime argument",
    "invalid numeric delta argument",
    "non-numeric value",
];
/// Keys that are counted with, and read only in the end.
const COUNTERS: [&str; 2] = ["n", "m"];
const TIMES: [&str; 12] = [
    "0",
    "0",
    "0",
    "0",
    "100",
    "-1",
    "2592000",
    "2592001",
    "2147483647",
    "2147483648",
    "x",
    "4294967396",
];
const NUMBERS: [&str; 14] = [
    "0",
    "1",
    "5",
    "77",
    "007",
    "+3",
    "4294967295",
    "4294967296",
    "18446744073709551615",
    "18446744073709551616",
    "-1",
    "-0",
    "x",
    "1x",
];
const VALUES: [&str; 12] = [
    "1",
    "9",
    "10",
    "099",
    "+5",
    " 7",
    "-3",
    "abc",
    "12ab",
    "18446744073709551615",
    "\r\nget a",
    "5\r",
];
const RARE: [&str; 8] = [
    FLUSH,
    "flush_all 0\r\nflush_all 0",
    "flush_all -1\r\nflush_all -1",
    "flush_all 1000",
    "flush_all x",
    "verbosity 0",
    "version x",
    "verbosity x",
];
const WORDS: [&str; 15] = [
    "get", "gets", "gat", "set", "add", "incr", "decr", "touch", "delete", "cas", "append", "0",
    "100", "zz", "noreply",
];
const TAILS: [&str; 8] =
    ["\r\n", "\r\n", "\r\n", "\r\n", "\n", " noreply\r\n", "  \r\n", " noreply x\r\n"];
