//! What the process really takes. A program of its own with one test, for everything in a process
//! counts.

use larder::clock::Seconds;
use larder::store::{
    Chores, Expected, Expiry, Handle, Housekeeper, MemoryFileOptions, Options, Store,
};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Never more than the limit and a constant: while sizes shift, with a large value among small
/// ones, while the index grows, when everything expires and the store fills up again, and when the
/// limit itself changes. In memory that is the process's alone; then in a file's, whose pages count
/// as resident where the process has touched them, and on a tmpfs take memory in any case.
#[test]
fn the_limit_and_a_constant_are_never_passed() {
    let options = Options::new(LIMIT_BYTES, true);
    run(Load::new(Store::new(&options).expect("mapped"), None));
    let file = MemoryFile::new();
    let in_file = MemoryFileOptions { path: file.0.clone(), discard_older_than_seconds: None };
    let store = Store::open(&options, &in_file, NOW).expect("mapped");
    run(Load::new(store, Some(file)));
}

fn run(mut load: Load) {
    load.base_bytes = resident_bytes();
    load.store(50_000, |_| 1000, 0);
    assert!(load.above_base() > LIMIT_BYTES / 10 * 9, "the memory is used");
    load.handle.batch(load.now).flush(0);
    load.store(600_000, |_| 20, 0);
    assert!(load.store.totals().index_bytes > 4 << 20, "the index grew: {:?}", load.store.totals());
    load.store(20_000, |number| if number % 2000 == 0 { 4 << 20 } else { 100 }, 0);
    for round in 0..4 {
        let bytes = [3000, 100, 12_000, 400][round];
        load.store(20_000_000 / bytes as u64, |_| bytes, 1);
        load.now += 1;
        load.keep_house();
    }
    assert!(load.store.totals().expired_unfetched > 50_000, "{:?}", load.store.totals());
    load.set_limit(16 << 20);
    load.store(30_000, |_| 1000, 0);
    assert!(load.above_base() < (16 << 20) + CONSTANT_BYTES);
    load.set_limit(2 * LIMIT_BYTES);
    load.store(80_000, |_| 1000, 0);
    assert!(load.above_base() > LIMIT_BYTES, "the memory is used");
    load.set_limit(8 << 20);
    load.store.check();
}

/// On a tmpfs, if there is one.
struct MemoryFile(PathBuf);

impl MemoryFile {
    fn new() -> Self {
        let shared = Path::new("/dev/shm");
        let folder = if shared.is_dir() { shared } else { Path::new(env!("CARGO_TARGET_TMPDIR")) };
        Self(folder.join(format!("larder-resident-memory-{}", std::process::id())))
    }

    fn bytes(&self) -> usize {
        let blocks = fs::metadata(&self.0).expect("the store made it").blocks();
        usize::try_from(blocks).expect("64-bit") * 512
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        let _stays = fs::remove_file(&self.0);
    }
}

struct Load {
    store: Arc<Store>,
    handle: Handle,
    housekeeper: Housekeeper,
    file: Option<MemoryFile>,
    limit_bytes: usize,
    base_bytes: usize,
    /// As long as the longest, and there from the beginning.
    value: Vec<u8>,
    number: u64,
    now: Seconds,
}

impl Load {
    fn new(store: Arc<Store>, file: Option<MemoryFile>) -> Self {
        Self {
            handle: store.register(),
            housekeeper: store.housekeeper(),
            store,
            file,
            limit_bytes: LIMIT_BYTES,
            base_bytes: 0,
            value: vec![7; 4 << 20],
            number: 0,
            now: NOW,
        }
    }

    /// Stores so many values of new keys, and looks at the process all the time.
    fn store(&mut self, items: u64, value_bytes: impl Fn(u64) -> usize, ttl_seconds: Seconds) {
        let expiry = if ttl_seconds == 0 { 0 } else { self.now + ttl_seconds };
        for _ in 0..items {
            self.number += 1;
            let value = &self.value[..value_bytes(self.number)];
            let key = self.number.to_le_bytes();
            let mut batch = self.handle.batch(self.now);
            let mut draft =
                batch.reserve(&key, value.len(), 0, Expiry::At(expiry)).expect("there is room");
            batch.fill(&mut draft, value);
            batch.publish(draft, Expected::Any).expect("there is no condition");
            if self.number.is_multiple_of(100) {
                self.housekeeper.step(self.now);
                self.look();
            }
        }
    }

    fn set_limit(&mut self, bytes: usize) {
        self.handle.batch(self.now).set_memory_bytes(bytes).expect("within what was mapped");
        self.limit_bytes = bytes;
        self.look();
    }

    fn keep_house(&mut self) {
        while self.housekeeper.step(self.now) != Chores::None {}
    }

    fn look(&self) {
        let above = self.above_base();
        let totals = self.store.totals();
        let most = self.limit_bytes + CONSTANT_BYTES;
        assert!(above < most, "{above} bytes: {totals:?}");
        let in_file = self.file.as_ref().map_or(0, MemoryFile::bytes);
        assert!(in_file < most, "{in_file} bytes in the file: {totals:?}");
    }

    fn above_base(&self) -> usize {
        resident_bytes().saturating_sub(self.base_bytes)
    }
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("the system says");
    let pages: usize = statm.split(' ').nth(1).expect("the second").parse().expect("a number");
    pages * 4096
}

const NOW: Seconds = 1000;

const LIMIT_BYTES: usize = 32 << 20;

/// Segments for moving, tables that wait for their readers, and what the allocator keeps.
const CONSTANT_BYTES: usize = 4 << 20;
