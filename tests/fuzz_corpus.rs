//! The fuzz targets without a fuzzer: each takes its corpus, the conformance table, and a fixed
//! number of inputs that are made of these.
//!
//! This keeps the targets and the corpus in order on any machine. What it takes to find something
//! new is `make fuzz`, which begins with the same inputs.

#[path = "conformance/packet.rs"]
mod packet;
#[expect(dead_code, reason = "what is answered is not looked at")]
#[path = "conformance/table.rs"]
mod table;
#[expect(unreachable_pub, reason = "the fuzzer's crate exports them")]
#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::{fs, iter};

use table::{Piece, Table};
use targets::Random;

#[test]
fn text() {
    stand(&TARGETS[0], 20_000);
}

#[test]
fn meta() {
    stand(&TARGETS[1], 20_000);
}

#[test]
fn binary() {
    stand(&TARGETS[2], 20_000);
}

#[test]
fn config() {
    stand(&TARGETS[3], 200);
}

#[test]
fn server() {
    stand(&TARGETS[4], 2_000);
}

#[test]
#[ignore = "writes what a fuzzer begins with: make fuzz"]
fn write_seeds() {
    for target in &TARGETS {
        let folder = root().join("target/fuzz-seeds").join(target.name);
        fs::create_dir_all(&folder).expect("the target folder is writable");
        for (number, seed) in seeds(target).iter().enumerate() {
            fs::write(folder.join(format!("{number:04}")), seed).expect("the folder is writable");
        }
    }
}

/// Something to be fuzzed.
struct Target {
    name: &'static str,
    run: fn(&[u8]),
    /// The files of the table that are of use begin with one of these.
    tables: &'static [&'static str],
    /// Bytes before what is sent.
    prefix_bytes: usize,
}

/// Replays what there is, then so many inputs made of it.
fn stand(target: &Target, mutants: usize) {
    let mut inputs = corpus(target);
    assert!(!inputs.is_empty(), "{} has no corpus", target.name);
    inputs.extend(seeds(target));
    let mut random = Random(0);
    let mutants = iter::repeat_with(|| mutant(&inputs, &mut random)).take(mutants);
    for input in inputs.iter().cloned().chain(mutants) {
        let result = catch_unwind(|| (target.run)(&input));
        assert!(result.is_ok(), "{}: {}", target.name, input.escape_ascii());
    }
}

/// What fuzzing has found worth keeping.
fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let files = files(&root().join("fuzz/corpus").join(target.name));
    files.iter().map(|path| fs::read(path).expect("a readable file")).collect()
}

/// What the clients of the conformance table send.
fn seeds(target: &Target) -> Vec<Vec<u8>> {
    let paths = files(&root().join("tests/conformance"));
    let is_of_use = |path: &&PathBuf| {
        let name = path.file_name().expect("a file has a name").to_string_lossy();
        name.ends_with(".txt") && target.tables.iter().any(|start| name.starts_with(start))
    };
    let tables = paths.iter().filter(is_of_use).map(|path| Table::read(path));
    let cases = tables.flat_map(|table| table.cases);
    let sent = cases.map(|case| {
        let pieces = case.exchanges.into_iter().flat_map(|exchange| exchange.send);
        let bytes = pieces.flat_map(bytes);
        iter::repeat_n(0, target.prefix_bytes).chain(bytes).collect()
    });
    sent.filter(|input: &Vec<u8>| input.len() <= SEED_BYTES_MAX).collect()
}

fn bytes(piece: Piece) -> Vec<u8> {
    match piece {
        Piece::Bytes(bytes) => bytes,
        Piece::Bound(_) => b"1".to_vec(),
        Piece::Cas(_) => 1_u64.to_be_bytes().to_vec(),
        Piece::Now(offset) => (1_800_000_000 + offset).to_string().into_bytes(),
        Piece::Digits | Piece::Any | Piece::Skip => Vec::new(),
    }
}

/// One of the inputs, changed here and there.
fn mutant(inputs: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = inputs[random.below(inputs.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(input.len() + 1);
        let end = (at + random.below(20)).min(input.len());
        match random.below(6) {
            0 => drop(input.drain(at..end)),
            1 => input.truncate(at),
            2 => input.insert(at, ODD_BYTES[random.below(ODD_BYTES.len())]),
            3 => {
                let again = input[at..end].to_vec();
                input.splice(at..at, again);
            }
            4 => {
                let other = &inputs[random.below(inputs.len())];
                let from = random.below(other.len() + 1);
                input.splice(at.., other[from..].iter().copied());
            }
            _ => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
        }
    }
    input
}

/// The files of a folder, in the same order everywhere.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.expect("a readable folder").path()).collect();
    paths.sort();
    paths
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

const TARGETS: [Target; 5] = [
    Target { name: "text", run: targets::text, tables: &TEXT_TABLES, prefix_bytes: 0 },
    Target { name: "meta", run: targets::meta, tables: &["meta_"], prefix_bytes: 0 },
    Target { name: "binary", run: targets::binary, tables: &["binary_"], prefix_bytes: 0 },
    Target { name: "config", run: targets::config, tables: &[], prefix_bytes: 0 },
    Target { name: "server", run: targets::server, tables: &[""], prefix_bytes: 8 },
];
const TEXT_TABLES: [&str; 9] =
    ["arith", "cas", "exp", "flags", "flush", "keys", "lines", "noreply", "storage"];
const SEED_BYTES_MAX: usize = 4096;
const ODD_BYTES: [u8; 12] = [b' ', b'\r', b'\n', 0, b'0', b'9', b'-', b'+', 0x7f, 0x80, 0x81, 0xff];
