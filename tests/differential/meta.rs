//! Meta commands, with some classic ones among them.

use crate::sequence::{Command, Company, Piece};
use crate::support::Random;
use crate::text::{self, SHORT_BYTES, filler, said_length, spaced};
use crate::words::{
    CAS_NUMBERS, COUNTERS, KEYS, LENGTH_MAX, NUMBERS, TIMES, any, any_value, once_in,
};

/// Numbers that the client gives to items. A server would not come to them by counting.
pub(crate) const CHOSEN_CAS: [u64; 6] =
    [0, 123_456_789_012_345, 123_456_789_012_346, 1 << 62, u64::MAX - 1, u64::MAX];

/// What a client may want: one command, or a few that belong together.
pub(crate) fn phrase(random: &mut Random) -> Vec<Command> {
    let command = match random.below(40) {
        0..=11 => get(random),
        12..=20 => set(random),
        21..=25 => delete(random),
        26..=30 => arithmetic(random),
        31..=33 => return on_condition(random),
        34 => counter_read(random),
        35 => inspect(random),
        36 => nonsense(random),
        37 => noop(random),
        38 => parting(random),
        _ => return text::phrase(random),
    };
    vec![command]
}

fn get(random: &mut Random) -> Command {
    let (key, encoded) = plain_key(random);
    let mut flags = some_flags(random, &GET_FLAGS, 6);
    if encoded {
        // RAW KEYS
        flags.retain(|flag| !flag.starts_with('N'));
        insert(&mut flags, "b", random);
    }
    command(random, "mg", &key, None, &flags)
}

/// Numbers that are counted with are read while nothing else is under way (PADDING), and never
/// created by reading (STALE BLANKS).
fn counter_read(random: &mut Random) -> Command {
    let flags = some_flags(random, &COUNTER_GET_FLAGS, 5);
    let key = any(random, &COUNTERS);
    command(random, "mg", key, None, &flags).with(Company::Alone)
}

fn set(random: &mut Random) -> Command {
    let counts = once_in(random, 4);
    let (key, encoded) =
        if counts { (any(random, &COUNTERS).to_owned(), false) } else { plain_key(random) };
    let mut flags = some_flags(random, &SET_FLAGS, 5);
    if encoded {
        // RAW KEYS
        flags.retain(|flag| !flag.starts_with("MA") && !flag.starts_with("MP"));
        insert(&mut flags, "b", random);
    }
    let mut value = any_value(random, &key);
    if flags.iter().any(|flag| is_no_letter(flag) || is_long_opaque(flag)) {
        value.truncate(SHORT_BYTES);
    }
    let said = said_length(random, &mut value);
    let is_stored =
        said == value.len().to_string() && !flags.iter().any(|flag| is_long_opaque(flag));
    with_value(command(random, "ms", &key, Some(&said), &flags), value, is_stored)
}

fn delete(random: &mut Random) -> Command {
    let counts = once_in(random, 4);
    let (key, encoded) =
        if counts { (any(random, &COUNTERS).to_owned(), false) } else { plain_key(random) };
    let mut flags = some_flags(random, &DELETE_FLAGS, 4);
    if counts || encoded {
        // STALE BLANKS, RAW KEYS
        flags.retain(|flag| !flag.starts_with('x'));
    }
    if encoded {
        insert(&mut flags, "b", random);
    }
    command(random, "md", &key, None, &flags)
}

fn arithmetic(random: &mut Random) -> Command {
    let flags = counting_flags(random);
    let key = any(random, &COUNTERS);
    command(random, "ma", key, None, &flags)
}

/// Flags for `ma`. A number that may grow is given neither a time nor a unique number (GROWN
/// NUMBERS).
fn counting_flags(random: &mut Random) -> Vec<String> {
    let mut flags = some_flags(random, &ARITHMETIC_FLAGS, 5);
    if flags.iter().any(|flag| flag.starts_with(['T', 'E'])) {
        flags.retain(|flag| !flag.starts_with('M'));
        flags.push("MD".to_owned());
    }
    flags
}

/// Reads a unique number, then does something on condition of it, or of the one before.
fn on_condition(random: &mut Random) -> Vec<Command> {
    let counts = once_in(random, 3);
    let key = any(random, if counts { &COUNTERS[..] } else { &KEYS });
    let read = command(random, "mg", key, None, &["c".into(), "k".into()]);
    let (verb, choices) = match random.below(4) {
        0 => ("mg", &GET_FLAGS[..]),
        1 => ("md", &DELETE_FLAGS[..]),
        2 if counts => ("ma", &[][..]),
        _ => ("ms", &SET_FLAGS[..]),
    };
    let mut flags = match verb {
        "ma" => counting_flags(random),
        _ => some_flags(random, choices, 4),
    };
    flags.retain(|flag| !flag.starts_with('C') && !is_no_letter(flag) && !is_long_opaque(flag));
    if counts {
        flags.retain(|flag| verb == "ma" || !flag.starts_with(['x', 'N']));
    }
    let value = (verb == "ms").then(|| any_value(random, key));
    let said = value.as_ref().map(|value| value.len().to_string());
    let mut then = command(random, verb, key, said.as_deref(), &flags);
    let end = then.pieces.len() - 1;
    then.pieces.insert(end, Piece::Cas { back: random.below(3) / 2 });
    then.pieces.insert(end, Piece::Bytes(b" C".to_vec()));
    if let Some(value) = value {
        then.pieces.extend([Piece::Bytes(value), Piece::Bytes(b"\r\n".to_vec())]);
    }
    let company = if counts { Company::Alone } else { Company::Any };
    vec![read.with(company), then.with(company)]
}

fn inspect(random: &mut Random) -> Command {
    let (key, encoded) = plain_key(random);
    // UNHEARD B
    let flags: &[&str] =
        if encoded { &["b", "k"] } else { any(random, &[&[][..], &["k"], &["q"]]) };
    let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
    command(random, "me", &key, None, &flags)
}

fn noop(random: &mut Random) -> Command {
    Command::literal([any(
        random,
        &["mn\r\n", "mn\r\n", "mn\n", "mn k v\r\n", "mn \r\n", "mnx\r\n"],
    )])
}

/// Words and flags in any order.
fn nonsense(random: &mut Random) -> Command {
    let words: Vec<&str> = (0..=random.below(5)).map(|_| any(random, &WORDS)).collect();
    let mut command = Command::literal([any(random, &["", "", "", " "])]);
    command.pieces.extend(spaced(&words));
    command.pieces.extend([Piece::Bytes(any(random, &TAILS).into()), filler()]);
    command
}

/// What ends a connection.
fn parting(random: &mut Random) -> Command {
    // LEFTOVER NUMBER
    let unfinished = ["ms a 2", "ms a 2 c\r", "mg a v", "mn", "md a q", "m"];
    match random.below(3) {
        0 => Command::literal([format!("mg {}", "k ".repeat(1100))]).with(Company::Closes),
        _ => Command::literal([any(random, &unfinished)]).with(Company::HangsUp),
    }
}

fn command(
    random: &mut Random,
    verb: &str,
    key: &str,
    length: Option<&str>,
    flags: &[String],
) -> Command {
    let flags = flags.iter().map(String::as_str);
    let tokens: Vec<&str> = [verb, key].into_iter().chain(length).chain(flags).collect();
    let mut pieces = spaced(&tokens);
    pieces.push(Piece::Bytes(any(random, &TAILS).into()));
    Command { pieces, company: Company::Any }
}

/// The data. Where it is not what was said, or will not be stored, what brings server and client
/// together again: line ends, and a value that is stored (LEFTOVER NUMBER).
fn with_value(mut command: Command, value: Vec<u8>, is_stored: bool) -> Command {
    command.pieces.extend([Piece::Bytes(value), Piece::Bytes(b"\r\n".to_vec())]);
    if !is_stored {
        command.pieces.extend([filler(), Piece::Bytes(b"ms zz 0 q\r\n\r\n".to_vec())]);
    }
    command
}

/// A key that is not counted with, and whether it must be decoded.
fn plain_key(random: &mut Random) -> (String, bool) {
    match random.below(12) {
        0..=2 => (any(random, &ENCODED_KEYS).to_owned(), true),
        3 => ("l".repeat(251 + random.below(3)), once_in(random, 3)),
        _ => (any(random, &KEYS).to_owned(), once_in(random, 20)),
    }
}

/// Up to so many flags, in any order, at times one twice or one that does not belong there.
fn some_flags(random: &mut Random, choices: &[&str], count_max: usize) -> Vec<String> {
    let mut flags: Vec<String> = Vec::new();
    for _ in 0..random.below(count_max + 1) {
        let flag = complete(any(random, choices), random);
        let is_new = !flags.iter().any(|other| other.as_bytes()[0] == flag.as_bytes()[0]);
        if is_new || once_in(random, 30) {
            flags.push(flag);
        }
    }
    match random.below(60) {
        0 => flags.extend((0..random.below(25)).map(|_| "k".to_owned())),
        1 => insert(&mut flags, any(random, &STRANGE_FLAGS), random),
        _ => {}
    }
    flags
}

/// The flag with a token, where it takes one.
fn complete(flag: &str, random: &mut Random) -> String {
    let token = match flag {
        "T" | "N" => any(random, &TIMES),
        "R" => any(random, &WINDOWS),
        // LATE FAULT
        "O" => any(random, &OPAQUES[..OPAQUES.len() - 1]),
        "Olong" => return format!("O{}", any(random, &OPAQUES)),
        "C" => any(random, &CAS_NUMBERS),
        "E" => {
            any(random, &["123456789012345", "4611686018427387904", "18446744073709551614", "x"])
        }
        "F" | "D" | "J" => any(random, &NUMBERS),
        "Mset" => return any(random, &SET_MODES).to_owned(),
        "Mcount" => return any(random, &COUNT_MODES).to_owned(),
        "P" | "L" => any(random, &["", "path", "1/2"]),
        _ => "",
    };
    format!("{flag}{token}")
}

/// Such a flag spoils the whole line: the value behind it is taken for a line too.
fn is_no_letter(flag: &str) -> bool {
    !flag.starts_with(|first: char| ('A'..='z').contains(&first))
}

/// LATE FAULT
fn is_long_opaque(flag: &str) -> bool {
    flag.starts_with('O') && flag.len() > OPAQUE_BYTES_MAX
}

fn insert(flags: &mut Vec<String>, flag: &str, random: &mut Random) {
    flags.insert(random.below(flags.len() + 1), flag.to_owned());
}

const GET_FLAGS: [&str; 20] = [
    "c", "f", "h", "k", "l", "O", "q", "s", "t", "u", "v", "v", "v", "E", "N", "R", "T", "C", "P",
    "L",
];
const COUNTER_GET_FLAGS: [&str; 14] =
    ["c", "f", "h", "k", "l", "O", "q", "s", "t", "u", "v", "v", "R", "T"];
const SET_FLAGS: [&str; 14] =
    ["c", "k", "Olong", "q", "s", "C", "E", "F", "I", "Mset", "Mset", "T", "N", "P"];
const DELETE_FLAGS: [&str; 9] = ["k", "Olong", "q", "C", "E", "I", "T", "x", "I"];
const ARITHMETIC_FLAGS: [&str; 16] =
    ["c", "k", "O", "q", "t", "v", "v", "C", "E", "N", "N", "J", "D", "Mcount", "Mcount", "T"];
const STRANGE_FLAGS: [&str; 12] =
    ["S", "S5", "a", "\u{e9}", "-", "!", "Z", "W", "X", "b", "noreply", "\u{7f}"];
const SET_MODES: [&str; 14] = [
    "ME", "MA", "MP", "MR", "MS", "MA", "MP", "Mset", "Mappend", "Madd", "M", "Me", "MAppend", "MI",
];
const COUNT_MODES: [&str; 11] =
    ["MI", "MD", "M+", "M-", "Mi", "Md", "Mincr", "MDECR", "M", "M0", "MS"];
/// Far from what is left of any of [`TIMES`].
const WINDOWS: [&str; 6] = ["0", "30", "100000", "-1", "x", ""];
/// With the letter of the flag.
const OPAQUE_BYTES_MAX: usize = 32;
/// The last one is too long.
const OPAQUES: [&str; 6] = [
    "",
    "1",
    "c5",
    "opaque",
    "1234567890123456789012345678901",
    "12345678901234567890123456789012",
];
/// None of them is one of [`KEYS`], decoded (EITHER FORM).
const ENCODED_KEYS: [&str; 9] =
    ["Zm9v", "AAEC/w==", "IA==", "Cg==", "Zm9", "!!!!", "====", "Zm9vYg=", "Zg=="];
const WORDS: [&str; 16] = [
    "mg", "ms", "md", "me", "mn", "m", "mx", "a", "zz", "0", "100", "v", "k", "q", "noreply", "S1",
];
const TAILS: [&str; 6] = ["\r\n", "\r\n", "\r\n", "\r\n", "\n", "  \r\n"];

const _: () = assert!(LENGTH_MAX >= 100, "the longest of the words that can be a length");
