//! What a memory file says of its store as a whole, versions, flushes and time: it is believed as far
//! as it can be true, and holds over restarts, whatever became of the items.

#[path = "support/scratch.rs"]
mod scratch;

use larder::clock::Seconds;
use larder::store::{Expiry, MemoryFileOptions, Options, State, Store, Traits};
use scratch::Scratch;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A start with a clock that is wrong must not be the end of what is stored after it was put right.
#[test]
fn a_clock_that_was_ahead_is_forgotten() {
    let scratch = Scratch::new();
    let file = scratch.file("memory");
    let ahead = NOW + 1_000_000_000;
    for (now, survives) in [(ahead, false), (NOW, true), (NOW + 1, true)] {
        let store = open(&file, now);
        assert_eq!(is_there(&store, now), survives, "at {now}");
        store_until(&store, now, now + 100);
        store.close().expect("the disk takes it");
    }
}

#[test]
fn no_cas_is_given_twice_though_all_was_discarded() {
    let scratch = Scratch::new();
    let file = scratch.file("memory");
    let store = open(&file, NOW);
    let first = store_until(&store, NOW, 0);
    store.close().expect("the disk takes it");
    drop(store);
    let store = open(&file, NOW + AGE_SECONDS + 1);
    assert!(discarded(&store).is_some_and(|reason| reason.starts_with("it was not used for")));
    assert!(store_until(&store, NOW, 0) > first);
    drop(store);
    // As after a halt of the machine.
    change_state(&file, |state| {
        state[24] = 0;
        state[25] ^= 1;
    });
    let store = open(&file, NOW);
    assert!(discarded(&store).is_some_and(|reason| reason.starts_with("the machine went down")));
    assert!(store_until(&store, NOW, 0) > first + (1 << 31));
}

/// A kill may find a flush noted, and not yet that there are versions up to it.
#[test]
fn what_is_stored_after_a_restart_was_not_flushed_before() {
    let (_scratch, file) = stopped_file();
    change_state(&file, |state| {
        let ceiling = u64::from_le_bytes(state[..8].try_into().expect("8 bytes"));
        state[8..16].copy_from_slice(&(ceiling + 2).to_le_bytes());
    });
    let store = open(&file, NOW);
    assert_eq!(discarded(&store), None);
    for _ in 0..3 {
        store_until(&store, NOW, 0);
        assert!(is_there(&store, NOW));
    }
}

#[test]
fn versions_that_cannot_be_are_damage() {
    for version in [u64::MAX, (1 << 48) - 2] {
        for field in [0..8, 8..16] {
            let (_scratch, file) = stopped_file();
            change_state(&file, |state| state[field].copy_from_slice(&version.to_le_bytes()));
            let store = open(&file, NOW);
            assert_eq!(discarded(&store).as_deref(), Some("its state is damaged"));
            store_until(&store, NOW, 0);
        }
    }
}

#[test]
fn a_file_is_not_larger_than_can_be() {
    let (_scratch, file) = stopped_file();
    let writable = fs::OpenOptions::new().write(true).open(&file).expect("there");
    writable.set_len(2 << 40).expect("a hole");
    assert_eq!(discarded(&open(&file, NOW)).as_deref(), Some("its size is beyond measure"));
}

/// A file with an item in it that was stopped in order.
fn stopped_file() -> (Scratch, PathBuf) {
    let scratch = Scratch::new();
    let file = scratch.file("memory");
    let store = open(&file, NOW);
    store_until(&store, NOW, 0);
    store.close().expect("the disk takes it");
    (scratch, file)
}

/// Changes what a file says, and its checksum with it.
fn change_state(file: &Path, change: impl FnOnce(&mut [u8])) {
    let mut bytes = fs::read(file).expect("there");
    let (state, sum) = bytes[STATE].split_at_mut(STATE.len() - 4);
    change(state);
    sum.copy_from_slice(&crc32fast::hash(state).to_le_bytes());
    fs::write(file, bytes).expect("room");
}

fn open(file: &Path, now: Seconds) -> Arc<Store> {
    let file =
        MemoryFileOptions { path: file.to_owned(), discard_older_than_seconds: Some(AGE_SECONDS) };
    let options =
        Options { memory_bytes: 1 << 20, segment_bytes: 4096, shards_log2: 1, evict: true };
    Store::open(&options, &file, now).expect("opened")
}

fn discarded(store: &Store) -> Option<String> {
    store.recovery().and_then(|found| found.discarded.clone())
}

/// Returns the cas.
fn store_until(store: &Arc<Store>, now: Seconds, expiry: Seconds) -> u64 {
    let mut handle = store.register();
    let traits = Traits::plain(0, Expiry::At(expiry));
    handle.batch(now).put(KEY, b"value", traits).expect("room")
}

fn is_there(store: &Arc<Store>, now: Seconds) -> bool {
    matches!(store.register().batch(now).peek(KEY), State::Hit(_))
}

const NOW: Seconds = 1_800_000_000;
const AGE_SECONDS: Seconds = 1_000_000;
const KEY: &[u8] = b"key";

/// As `store/file.rs` has it.
const STATE: Range<usize> = 512..577;
