//! The same random bytes to two servers: what they answer must be equal, byte by byte.
//!
//! The conformance table says what is known to matter; this looks for what nobody thought of, in
//! each dialect. Unique numbers need only correspond, times may be a second apart, and
//! [`known_differences`] lists the rest. A difference is shrunk to the few commands that it takes,
//! and told as a case for the table. Two memcacheds, compared in the same way, prove that it takes
//! larder to find one; memcacheds that were started differently prove that it would be found.

mod answer;
mod binary;
mod compare;
mod datagrams;
mod generate;
mod known_differences;
mod login;
mod meta;
mod report;
mod run;
mod sequence;
mod session;
mod shrink;
#[path = "../support/mod.rs"]
mod support;
mod text;
mod words;

use std::env;
use std::io::{self, Write as _};

use generate::Dialect;
use run::{Pair, Transcript, run};
use support::{PATIENCE, Server};

#[test]
fn larder_answers_text_as_memcached_does() {
    assert_larder_agrees(Dialect::Text, &TEXT_ANSWERS);
}

#[test]
fn larder_answers_meta_commands_as_memcached_does() {
    assert_larder_agrees(Dialect::Meta, &META_ANSWERS);
}

#[test]
fn larder_answers_the_binary_protocol_as_memcached_does() {
    assert_larder_agrees(Dialect::Binary, &BINARY_ANSWERS);
}

#[test]
fn larder_answers_both_protocols_at_once_as_memcached_does() {
    assert_larder_agrees(Dialect::Mixed, &META_ANSWERS);
}

#[test]
fn larder_lets_in_and_keeps_out_whom_memcached_does() {
    assert_larder_agrees(Dialect::Login, &LOGIN_ANSWERS);
}

#[test]
fn larder_answers_datagrams_as_memcached_does() {
    assert_larder_agrees(Dialect::Datagrams, &DATAGRAM_ANSWERS);
}

#[test]
fn two_memcacheds_agree_in_datagrams() {
    assert_memcacheds_agree(Dialect::Datagrams, &DATAGRAM_ANSWERS);
}

#[test]
fn larder_refuses_as_memcached_does_by_sasl() {
    assert_larder_agrees(Dialect::Sasl, &SASL_ANSWERS);
}

#[test]
fn two_memcacheds_let_in_and_keep_out_the_same() {
    assert_memcacheds_agree(Dialect::Login, &LOGIN_ANSWERS);
}

#[test]
fn two_memcacheds_refuse_alike_by_sasl() {
    assert_memcacheds_agree(Dialect::Sasl, &SASL_ANSWERS);
}

#[test]
fn two_memcacheds_agree_in_text() {
    assert_memcacheds_agree(Dialect::Text, &TEXT_ANSWERS);
}

#[test]
fn two_memcacheds_agree_in_meta_commands() {
    assert_memcacheds_agree(Dialect::Meta, &META_ANSWERS);
}

#[test]
fn two_memcacheds_agree_in_the_binary_protocol() {
    assert_memcacheds_agree(Dialect::Binary, &BINARY_ANSWERS);
}

#[test]
fn two_memcacheds_agree_in_both_protocols_at_once() {
    assert_memcacheds_agree(Dialect::Mixed, &META_ANSWERS);
}

/// With `-F`, a flush is refused: one command is enough to see it.
#[test]
fn a_difference_in_one_command_is_found_and_shrunk() {
    let Some(case) = planted_difference(Dialect::Text, "-F") else { return };
    assert_eq!(case.matches("> ").count(), 1, "{case}");
    assert!(case.contains("> flush_all"), "{case}");
}

/// With `-C`, items have no unique number: it takes two that are compared to see it.
#[test]
fn a_difference_in_unique_numbers_is_found_and_shrunk() {
    let Some(case) = planted_difference(Dialect::Meta, "-C") else { return };
    assert!(case.contains("unique numbers"), "{case}");
    assert!(case.matches("\n> ").count() <= 4, "{case}");
}

fn assert_larder_agrees(dialect: Dialect, answers: &[&[u8]]) {
    let Some(reference) = support::reference() else { return };
    let flags = dialect.flags();
    let larder = Server::start(&support::larder(), &[&flags, dialect.own_flags()].concat());
    let memcached = Server::start(&reference, &flags);
    let pair = Pair { ours: &larder, theirs: &memcached, knows_differences: true };
    assert_agreement(&pair, dialect, answers, commands(30_000));
}

/// No known difference is needed here: what is left out is left out of the sequences.
fn assert_memcacheds_agree(dialect: Dialect, answers: &[&[u8]]) {
    let Some(reference) = support::reference() else { return };
    let [ours, theirs] = [(); 2].map(|()| Server::start(&reference, &dialect.flags()));
    let pair = Pair { ours: &ours, theirs: &theirs, knows_differences: false };
    assert_agreement(&pair, dialect, answers, commands(10_000));
}

impl Dialect {
    fn flags(self) -> Vec<&'static str> {
        let more: &[&str] = match self {
            Self::Datagrams => &["-U", "-1"],
            Self::Login => &["-Y", "tests/conformance/users"],
            Self::Sasl => &["-S"],
            _ => &[],
        };
        [&FLAGS[..], more].concat()
    }

    /// Only larder knows these: the client would soon have been sent what one may be sent.
    fn own_flags(self) -> &'static [&'static str] {
        if self == Self::Datagrams { &["--udp-rate=1g"] } else { &[] }
    }
}

/// The case to which the difference shrinks that a flag makes between two memcacheds.
fn planted_difference(dialect: Dialect, flag: &str) -> Option<String> {
    let reference = support::reference()?;
    let ours = Server::start(&reference, &[&FLAGS[..], &[flag]].concat());
    let theirs = Server::start(&reference, &FLAGS);
    let pair = Pair { ours: &ours, theirs: &theirs, knows_differences: false };
    // Who refuses to flush keeps what earlier sequences stored, which would be a difference, too:
    // the first sequence is one that comes across the flush at once.
    let (sequence, _) = (3..100)
        .map(|seed| generate::sequence(dialect, seed))
        .map(|sequence| {
            let differs = run(&pair, &sequence, PATIENCE).fault().is_some();
            (sequence, differs)
        })
        .find(|(_, differs)| *differs)
        .expect("the difference is found");
    let (_, transcript) = shrink::shrink(&pair, &sequence).expect("it is found again");
    Some(report::as_case("planted", &transcript))
}

/// Compares as many sequences as it takes, and sees to it that they are any good.
fn assert_agreement(pair: &Pair<'_>, dialect: Dialect, answers: &[&[u8]], commands: usize) {
    let mut unseen = answers.to_vec();
    let mut exchanges = 0;
    for seed in 0..commands.div_ceil(dialect.commands()) as u64 {
        let sequence = generate::sequence(dialect, seed);
        let transcript = run(pair, &sequence, PATIENCE);
        assert!(transcript.fault().is_none(), "{}", told(pair, seed, &sequence, &transcript));
        exchanges += transcript.exchanges.len();
        unseen.retain(|answer| !contains(&transcript, answer));
    }
    let unseen: Vec<_> = unseen.iter().map(|answer| answer.escape_ascii().to_string()).collect();
    assert!(unseen.is_empty(), "no command was answered by {unseen:?}");
    // Past the harness, which keeps what a passing test prints to itself.
    let _ = writeln!(io::stderr(), "{dialect:?}: {commands} commands in {exchanges} exchanges");
}

fn told(pair: &Pair<'_>, seed: u64, sequence: &sequence::Sequence, seen: &Transcript) -> String {
    let name = format!("of seed {seed}");
    match shrink::shrink(pair, sequence) {
        Some((_, transcript)) => report::as_case(&name, &transcript),
        None => format!("{}# it does not come up again", report::as_case(&name, seen)),
    }
}

fn contains(transcript: &Transcript, answer: &[u8]) -> bool {
    let answers = transcript.exchanges.iter().flat_map(|exchange| &exchange.answers);
    answers.into_iter().any(|found| found.bytes.windows(answer.len()).any(|at| at == answer))
}

/// How many commands to send: `LARDER_DIFFERENTIAL_COMMANDS`, or as many as there is time for in
/// a run of all tests.
fn commands(otherwise: usize) -> usize {
    env::var("LARDER_DIFFERENTIAL_COMMANDS")
        .map_or(otherwise, |count| count.parse().expect("LARDER_DIFFERENTIAL_COMMANDS is a number"))
}

/// One thread, and none that looks at items in the background: what memcached does is then decided
/// by what it is sent. A small item limit, so that values can be too large.
const FLAGS: [&str; 8] =
    ["-t", "1", "-m", "128", "-I", "8k", "-o", "no_lru_crawler,no_lru_maintainer,slab_chunk_max=8"];
/// What must have come up if the commands are any good.
const TEXT_ANSWERS: [&[u8]; 16] = [
    b"\nSTORED",
    b"NOT_STORED",
    b"EXISTS",
    b"NOT_FOUND",
    b"DELETED",
    b"TOUCHED",
    b"VALUE",
    b"OK",
    b"\nERROR",
    b"bad command line format",
    b"bad data chunk",
    b"invalid exptime argument",
    b"invalid numeric delta argument",
    b"non-numeric value",
    b"object too large for cache",
    b"shutdown not enabled",
];
const META_ANSWERS: [&[u8]; 22] = [
    b"HD",
    b"VA ",
    b"EN",
    b"NF",
    b"NS",
    b"EX",
    b"MN",
    b"ME ",
    b" W\r\n",
    b" Z",
    b" X",
    b" b",
    b" c0",
    b" t-1",
    b" h1",
    b"duplicate flag",
    b"invalid flag",
    b"options flags are too long",
    b"opaque token too long",
    b"error decoding key",
    b"bad token in command line format",
    b"invalid mode",
];
const LOGIN_ANSWERS: [&[u8]; 8] = [
    b"STORED",
    b"unauthenticated",
    b"authentication failure",
    b"bad authentication token format",
    b"NOT_FOUND",
    b"END",
    b"EN\r",
    b"VERSION",
];
const DATAGRAM_ANSWERS: [&[u8]; 6] =
    [b"VALUE", b"STORED", b"NOT_STORED", b"VA ", b"ERROR", b"bad command line format"];
const SASL_ANSWERS: [&[u8]; 3] = [b"Auth failure.", b"\x81\x21\0\0\0\0\0\x21", b"PLAIN"];
const BINARY_ANSWERS: [&[u8]; 9] = [
    b"Not found",
    b"Data exists for key.",
    b"Too large.",
    b"Invalid arguments",
    b"Not stored.",
    b"Non-numeric",
    b"Unknown command",
    b"1.6.45",
    b"\0\0\0\0\x04",
];
