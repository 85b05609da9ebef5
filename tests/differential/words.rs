//! What the generators choose from, and how they choose.
//!
//! There are two kinds of keys. Those that are counted with never hold blanks alone and are never
//! read in a pipeline: see `STALE BLANKS` and `PADDING` in `known_differences.rs`.

use crate::support::Random;

pub(crate) fn any<'a, T: ?Sized>(random: &mut Random, choices: &[&'a T]) -> &'a T {
    choices[random.below(choices.len())]
}

/// Once in so many times.
pub(crate) fn once_in(random: &mut Random, times: usize) -> bool {
    random.below(times) == 0
}

/// A key, mostly one that is not counted with.
pub(crate) fn any_key(random: &mut Random) -> &'static str {
    if once_in(random, 4) { any(random, &COUNTERS) } else { any(random, &KEYS) }
}

/// A value that may be stored under the key.
pub(crate) fn any_value(random: &mut Random, key: &str) -> Vec<u8> {
    if COUNTERS.contains(&key) {
        return any(random, &NUMBER_VALUES).into();
    }
    match random.below(40) {
        0 => vec![b'x'; random.below(LARGE_BYTES)],
        1 => vec![b'y'; LARGE_BYTES - 40 + random.below(80)],
        2..=4 => {
            let length = random.below(200);
            random.bytes(length)
        }
        _ => any(random, &VALUES).into(),
    }
}

pub(crate) const KEYS: [&str; 7] = ["a", "b", "c", "\u{e9}", "norepl", "k\tk", LONGEST_KEY];
pub(crate) const COUNTERS: [&str; 2] = ["n", "m"];
/// None of them ends while the test runs, unless it ends at once.
pub(crate) const TIMES: [&str; 13] = [
    "0",
    "0",
    "0",
    "0",
    "10000",
    "-1",
    "2592000",
    "2592001",
    "2147483647",
    "2147483648",
    "x",
    "4294977296",
    "-2147483648",
];
pub(crate) const NUMBERS: [&str; 15] = [
    "0",
    "1",
    "5",
    "77",
    "007",
    "+3",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "-1",
    "-0",
    "x",
    "1x",
];
/// The largest number in a text command that can be the length of a value.
pub(crate) const LENGTH_MAX: usize = 100;
/// Numbers that can be sent as unique ones: no server has counted so far, or ever will.
pub(crate) const CAS_NUMBERS: [&str; 8] = [
    "0",
    "123456789012345",
    "123456789012346",
    "18446744073709551615",
    "18446744073709551616",
    "-1",
    "x",
    "1x",
];
pub(crate) const VALUES: [&str; 9] =
    ["", " ", "abc", "12", "\r\nget a", "5\r", "\0", "END\r\n", "VALUE a 0 1\r\n"];
pub(crate) const NUMBER_VALUES: [&str; 14] = [
    "1",
    "9",
    "10",
    "099",
    "+5",
    " 7",
    "7  ",
    "-3",
    "abc",
    "12ab",
    "1 2",
    "0x10",
    "18446744073709551615",
    "18446744073709551616",
];
/// As long as a key can be.
pub(crate) const LONGEST_KEY: &str = "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk\
    kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk\
    kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk\
    kkkkkkkkkk";
/// About as large as an item can be, with the `-I` that the servers are started with.
pub(crate) const LARGE_BYTES: usize = 8192 - 60;
