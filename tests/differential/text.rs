//! Commands of the classic text protocol.

use crate::sequence::{Command, Company, Piece};
use crate::support::Random;
use crate::words::{
    CAS_NUMBERS, COUNTERS, KEYS, LENGTH_MAX, NUMBERS, TIMES, any, any_key, any_value, once_in,
};

/// What a client may want: one command, or a few that belong together.
pub(crate) fn phrase(random: &mut Random) -> Vec<Command> {
    let command = match random.below(40) {
        0..=9 => storage(random),
        10..=15 => retrieval(random),
        16..=17 => return compare_and_store(random),
        18..=19 => line(&["touch", any_key(random), any(random, &TIMES)], random),
        20..=24 => {
            let verb = any(random, &["incr", "decr"]);
            let delta = any(random, &NUMBERS);
            let key = any(random, &COUNTERS);
            line(&[verb, key, delta], random)
        }
        25..=27 => line(&["delete", any_key(random)], random),
        28..=29 => {
            let rare = any(random, &RARE);
            line(&[rare], random)
        }
        30 => overlong(random),
        31..=36 => nonsense(random),
        37..=38 => counter_read(random),
        _ => parting(random),
    };
    vec![command]
}

/// A storage command with its data, whose length may not be what was said.
fn storage(random: &mut Random) -> Command {
    let verb = any(random, &["set", "set", "add", "replace", "append", "prepend", "cas"]);
    let key = any_key(random);
    let mut value = any_value(random, key);
    let said = said_length(random, &mut value);
    let mut tokens = vec![verb, key, any(random, &NUMBERS), any(random, &TIMES), &said];
    if verb == "cas" {
        tokens.push(any(random, &CAS_NUMBERS));
    }
    let is_as_said = said == value.len().to_string();
    let mut command = line(&tokens, random);
    command.pieces.push(Piece::Bytes(value));
    command.pieces.push(Piece::Bytes(b"\r\n".to_vec()));
    if !is_as_said {
        command.pieces.push(filler());
    }
    command
}

/// The length that is announced for a value. A value that is not as long becomes short, for what
/// is left of it is taken for a line.
pub(crate) fn said_length(random: &mut Random, value: &mut Vec<u8>) -> String {
    let choice = random.below(40);
    if choice < 4 {
        value.truncate(SHORT_BYTES);
    }
    match choice {
        0 => (value.len() + 1).to_string(),
        1 => value.len().saturating_sub(1).to_string(),
        2..=3 => any(random, &NUMBERS).to_owned(),
        _ => value.len().to_string(),
    }
}

/// Reads a unique number and stores on condition of it, or of the one before.
fn compare_and_store(random: &mut Random) -> Vec<Command> {
    let key = any(random, &KEYS);
    let value = any_value(random, key);
    let read = line(&[any(random, &["gets", "gats 0"]), key], random);
    let length = value.len().to_string();
    let mut pieces = spaced(&["cas", key, "7", any(random, &TIMES), &length]);
    pieces.push(Piece::Bytes(b" ".to_vec()));
    pieces.push(Piece::Cas { back: random.below(2) });
    pieces.push(Piece::Bytes(any(random, &TAILS).into()));
    pieces.push(Piece::Bytes(value));
    pieces.push(Piece::Bytes(b"\r\n".to_vec()));
    let store = Command { pieces, company: Company::Any };
    vec![read, store]
}

fn retrieval(random: &mut Random) -> Command {
    let mut tokens = vec![any(random, &["get", "get", "gets", "gat", "gats"])];
    if tokens[0].starts_with("gat") {
        tokens.push(any(random, &TIMES));
    }
    for _ in 0..=random.below(4) {
        tokens.push(any(random, &KEYS));
    }
    line(&tokens, random)
}

/// Numbers that are counted with are read while nothing else is under way (PADDING).
fn counter_read(random: &mut Random) -> Command {
    let verb = any(random, &["get", "gets", "gat 0"]);
    let tokens = [verb, any(random, &COUNTERS), any(random, &COUNTERS)];
    line(&tokens, random).with(Company::Alone)
}

/// A key longer than keys can be.
fn overlong(random: &mut Random) -> Command {
    let key = "l".repeat(251 + random.below(3));
    if once_in(random, 2) {
        // LOST ANSWERS
        let verb = any(random, &["get", "gets a", "gat 0", "gats 0 a b"]);
        // QUIET RETRIEVALS
        return Command::literal([verb, " ", &key, "\r\n"]).with(Company::Alone);
    }
    let tokens = match random.below(4) {
        0 => vec!["delete", &key],
        1 => vec!["touch", &key, any(random, &TIMES)],
        2 => vec!["incr", &key, any(random, &NUMBERS)],
        _ => {
            let mut command = line(&["set", &key, "0 0 3"], random);
            command.pieces.push(Piece::Bytes(b"abc\r\n".to_vec()));
            return command;
        }
    };
    line(&tokens, random)
}

/// Words in any order.
fn nonsense(random: &mut Random) -> Command {
    let words: Vec<&str> = (0..=random.below(6)).map(|_| any(random, &WORDS)).collect();
    let mut command = Command::literal([any(random, &["", "", "", " "])]);
    command.pieces.extend(spaced(&words));
    command.pieces.push(Piece::Bytes(any(random, &TAILS).into()));
    command.pieces.push(filler());
    command
}

/// What ends a connection.
fn parting(random: &mut Random) -> Command {
    if once_in(random, 2) {
        let unfinished = any(random, &UNFINISHED);
        return Command::literal([unfinished]).with(Company::HangsUp);
    }
    let closing = match random.below(4) {
        0 => "quit\r\n".to_owned(),
        1 => "quit now\r\n".to_owned(),
        2 => "GET /index.html HTTP/1.1\r\n".to_owned(),
        _ => "x".repeat(2049 + random.below(1000)),
    };
    Command::literal([closing]).with(Company::Closes)
}

/// A command line, with one of the ends that lines have.
fn line(tokens: &[&str], random: &mut Random) -> Command {
    let mut pieces = spaced(tokens);
    pieces.push(Piece::Bytes(any(random, &TAILS).into()));
    Command { pieces, company: Company::Any }
}

/// The tokens, each with the blank before it.
pub(crate) fn spaced(tokens: &[&str]) -> Vec<Piece> {
    let blank = |index| if index == 0 { "" } else { " " };
    let spaced = |(index, token)| Piece::Bytes(format!("{}{token}", blank(index)).into_bytes());
    tokens.iter().enumerate().map(spaced).collect()
}

/// Line ends enough for the largest value that was announced and did not come.
pub(crate) fn filler() -> Piece {
    Piece::Bytes(b"\r\n".repeat(LENGTH_MAX.div_ceil(2) + 2))
}

/// Much longer lines are refused or not, as the server happens to read them.
pub(crate) const SHORT_BYTES: usize = 200;
/// No flush is for later (REVIVED).
const RARE: [&str; 12] = [
    "flush_all",
    "flush_all 0",
    "flush_all -1",
    "flush_all x",
    "verbosity 0",
    "verbosity x",
    "verbosity",
    "shutdown",
    "cache_memlimit x",
    "incr",
    "incr n",
    "decr  m ",
];
/// Without `incr` and `decr`, for such keys may hold blanks (STALE BLANKS).
const WORDS: [&str; 17] = [
    "get", "gets", "gat", "gats", "set", "add", "touch", "delete", "cas", "append", "0", "100",
    "zz", "a", "noreply", "ge", "\0",
];
const TAILS: [&str; 8] =
    ["\r\n", "\r\n", "\r\n", "\r\n", "\n", " noreply\r\n", "  \r\n", " noreply x\r\n"];
const UNFINISHED: [&str; 8] = [
    "set a 0 0 5\r\nab",
    "set a 0 0 2\r\nab\r",
    "set a 0 0 2",
    "set a 0 0 2\r\n",
    "get a",
    "get a b\r",
    "delete a",
    "flush_all",
];
