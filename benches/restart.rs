//! How fast a store is found again in its file: `cargo bench --bench restart` fills a file of 2 GiB
//! with small items, leaves it as a kill and as a stop do, and prints items per second; also what
//! storing them took, in a file and in anonymous memory. Under `cargo test` it does so once, with
//! 16 MiB. Where the machine is not quiet, the figure for a second of CPU is the one to look at:
//! recovery uses all processors.
//!
//! The file lies on `/dev/shm` where there is one, else in the target folder; or where
//! `LARDER_MEMORY_FILE` says.

use larder::clock::{Clock, Seconds};
use larder::store::{Expected, Expiry, Handle, MemoryFileOptions, Options, Store};
use nix::sys::resource::{UsageWho, getrusage};
use std::env;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn main() {
    let is_measured = env::args().any(|argument| argument == "--bench");
    let memory_bytes = if is_measured { 2 << 30 } else { 16 << 20 };
    let path = env::var_os("LARDER_MEMORY_FILE").map_or_else(default_path, PathBuf::from);
    let file = MemoryFileOptions { path, discard_older_than_seconds: None };
    for (key_bytes, value_bytes) in [(20, 30), (24, 100), (44, 270)] {
        for how in ["a kill", "a stop"] {
            let options = Options::new(memory_bytes, true);
            if how == "a kill" {
                let _first = std::fs::remove_file(&file.path);
                let in_memory = Store::new(&options).expect("there is memory");
                let anonymous_ns = fill(&in_memory, key_bytes, value_bytes);
                drop(in_memory);
                let in_file = Store::open(&options, &file, NOW).expect("a new file");
                let file_ns = fill(&in_file, key_bytes, value_bytes);
                println!("a store: {anonymous_ns:.0} ns of CPU, in a file {file_ns:.0} ns");
            }
            measure(&options, &file, how);
        }
    }
    std::fs::remove_file(&file.path).expect("it is there");
}

/// Fills eight tenths of the memory, so that nothing is evicted, and returns what it took to store
/// one item.
fn fill(store: &Arc<Store>, key_bytes: usize, value_bytes: usize) -> f64 {
    let mut handle = store.register();
    let item_bytes = (20 + key_bytes + value_bytes).next_multiple_of(8) + 12;
    let items = store.memory_bytes() / item_bytes * 8 / 10;
    let before = cpu_seconds();
    for number in 0..items {
        put(&mut handle, number, key_bytes, value_bytes);
    }
    let nanoseconds = (cpu_seconds() - before) * 1e9;
    assert_eq!(store.totals().evictions, 0);
    nanoseconds / items as f64
}

/// Finds the store again, and leaves it stopped in order.
fn measure(options: &Options, file: &MemoryFileOptions, how: &str) {
    let (clock, cpu_before) = (Clock::start(), cpu_seconds());
    let store = Store::open(options, file, NOW).expect("it was filled");
    let (seconds, cpu_seconds) = (clock.uptime().as_secs_f64(), cpu_seconds() - cpu_before);
    let found = store.recovery().expect("there is a file");
    assert!(found.items > 0 && found.evicted == 0 && found.segments_damaged == 0, "{found:?}");
    println!(
        "after {how}: {} items of {} bytes in {seconds:.3} s: {:.2} million a second, {:.2} a \
         second of CPU; index {:.1} bytes each",
        found.items,
        found.items_bytes / found.items,
        found.items as f64 / seconds / 1e6,
        found.items as f64 / cpu_seconds / 1e6,
        store.totals().index_bytes as f64 / found.items as f64,
    );
    store.close().expect("there is room");
}

/// What this process has taken, in user space and the kernel.
fn cpu_seconds() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("a process may ask");
    [usage.user_time(), usage.system_time()]
        .map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6)
        .iter()
        .sum()
}

fn put(handle: &mut Handle, number: usize, key_bytes: usize, value_bytes: usize) {
    let mut key = format!("{number:x}:").into_bytes();
    key.resize(key_bytes, b'k');
    let mut batch = handle.batch(NOW);
    let mut draft = batch.reserve(&key, value_bytes, 0, Expiry::At(0)).expect("there is room");
    batch.fill(&mut draft, &vec![7; value_bytes]);
    batch.publish(draft, Expected::Any).expect("there is no condition");
}

fn default_path() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { memory } else { Path::new(env!("CARGO_TARGET_TMPDIR")) };
    folder.join(format!("larder-restart-{}", std::process::id()))
}

const NOW: Seconds = 1_800_000_000;
