//! Many threads on one store. Values describe themselves (key, version, length, checksum), so that
//! a reader knows a torn, a foreign or an old one when it sees it. Evicting, compacting and growing
//! go on all the time; the tests assert that they did.

#[path = "concurrency/flushes.rs"]
mod flushes;
#[path = "concurrency/leases.rs"]
mod leases;
#[path = "support/random.rs"]
mod random;

use larder::clock::Seconds;
use larder::store::{Batch, Chores, Expected, Expiry, Handle, Item, Options, State, Store, Traits};
use random::Random;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;

/// Each key has one writer at a time; a reader must see the version that was acknowledged last
/// before it began, or a newer one.
#[test]
fn readers_never_see_torn_foreign_or_old_values() {
    for keys in [3, 700] {
        let store = store(256 << 10, true);
        let keys: Vec<Key> = (0..keys).map(Key::new).collect();
        let hits = AtomicU64::new(0);
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (store, keys, hits) = (&store, &keys, &hits);
                scope.spawn(move || hits.fetch_add(mixed_work(store, keys, thread), SeqCst));
            }
            let store = &store;
            scope.spawn(move || {
                let mut housekeeper = store.housekeeper();
                for step in 0..OPERATIONS {
                    let now = START + u32::try_from(step / 100).expect("small");
                    if housekeeper.step(now) == Chores::None {
                        thread::yield_now();
                    }
                }
            });
        });
        store.check();
        let totals = store.totals();
        assert!(hits.load(SeqCst) > OPERATIONS / 2, "many were found: {hits:?}");
        assert!(totals.moved > 0, "something was compacted: {totals:?}");
        assert!(totals.evictions > 0, "something was evicted: {totals:?}");
        assert!(totals.index_power > 6, "the index grew: {totals:?}");
    }
}

/// Returns the number of hits.
fn mixed_work(store: &Arc<Store>, keys: &[Key], thread: u64) -> u64 {
    let mut random = Random(thread);
    let mut handle = store.register();
    let mut hits = 0;
    for operation in 0..OPERATIONS {
        if operation.is_multiple_of(500) {
            handle = store.register();
        }
        let now = START + u32::try_from(operation / 100).expect("small");
        let key = &keys[random.below(keys.len())];
        let mut batch = handle.batch(now);
        match random.below(5) {
            0 => key.write(&mut batch, &mut random),
            // Takes room, so that others must go or move.
            1 => put(&mut batch, &random.below(300_u64).to_le_bytes(), &[0; 1200]),
            _ => {
                let acknowledged = key.acknowledged.load(SeqCst);
                if let State::Hit(item) = batch.fetch(&key.name) {
                    let version = key.version(&item);
                    assert!(version >= acknowledged, "{version} after {acknowledged}");
                    hits += 1;
                }
            }
        }
    }
    hits
}

/// A counter and a list that all threads add to. What was acknowledged is there in the end; while
/// things are being moved.
#[test]
fn conditional_changes_lose_nothing() {
    let store = store(256 << 10, false);
    let mut handle = store.register();
    set(&mut handle, b"count", b"0");
    set(&mut handle, b"list", b"");
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let store = &store;
            scope.spawn(move || {
                let mut handle = store.register();
                let mut random = Random(thread);
                for round in 0..CHANGES {
                    change(&mut handle, b"count", |old| (number(old) + 1).to_string().into_bytes());
                    if round.is_multiple_of(10) {
                        let mark = [u8::try_from(thread).expect("small")];
                        change(&mut handle, b"list", |old| [old, &mark].concat());
                    }
                    // Makes dead bytes, so that counter and list are moved about.
                    let other = random.below(150_u64).to_le_bytes();
                    set(&mut handle, &other, &vec![0; random.below(1500)]);
                }
            });
        }
    });
    assert_eq!(number(&get(&mut handle, b"count").expect("never evicted")), THREADS * CHANGES);
    let list = get(&mut handle, b"list").expect("never evicted");
    for thread in 0..THREADS {
        let marks = list.iter().filter(|&&mark| u64::from(mark) == thread).count() as u64;
        assert_eq!(marks, CHANGES / 10, "of thread {thread}");
    }
    let totals = store.totals();
    assert!(totals.moved > 0, "something was compacted: {totals:?}");
    drop(handle);
    store.check();
}

/// A compare-and-set that succeeds proves that the cas was the current one: so each cas is given
/// out and replaced once.
#[test]
fn a_cas_succeeds_once() {
    let store = store(128 << 10, true);
    set(&mut store.register(), b"key", b"first");
    let successes: Vec<Vec<(u64, u64)>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let store = &store;
                scope.spawn(move || compare_and_set(&mut store.register(), &mut Random(thread)))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let mut replaced: Vec<u64> = successes.iter().flatten().map(|&(before, _)| before).collect();
    assert!(replaced.len() > 100, "many succeeded: {}", replaced.len());
    let all = replaced.len();
    replaced.sort_unstable();
    replaced.dedup();
    assert_eq!(replaced.len(), all, "no cas was replaced twice");
    store.check();
}

fn compare_and_set(handle: &mut Handle, random: &mut Random) -> Vec<(u64, u64)> {
    let mut successes = Vec::new();
    for _ in 0..CHANGES {
        let mut batch = handle.batch(START);
        let lookup = batch.peek(b"key");
        let (State::Hit(item), witness) = (&lookup, lookup.witness()) else {
            drop(batch);
            set(handle, b"key", b"again");
            continue;
        };
        let before = item.cas();
        let value = vec![0; random.below(6000)];
        let mut draft =
            batch.reserve(b"key", value.len(), 0, Expiry::At(0)).expect("there is much to evict");
        batch.fill(&mut draft, &value);
        match batch.publish(draft, Expected::Unchanged(witness)) {
            Ok(cas) => successes.push((before, cas)),
            Err(draft) => batch.discard(draft),
        }
    }
    successes
}

/// Touches only ever move the expiry ahead; appends inherit it. Neither takes back what the other
/// did.
#[test]
fn an_append_keeps_the_newest_expiry() {
    let store = store(256 << 10, false);
    set(&mut store.register(), b"key", b"");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..THREADS / 2 {
            scope.spawn(|| {
                let mut handle = store.register();
                while !is_over.load(SeqCst) {
                    change(&mut handle, b"key", |old| {
                        if old.len() > 3000 { Vec::new() } else { [old, b"more"].concat() }
                    });
                }
            });
        }
        let mut handle = store.register();
        for expiry in START + 1..START + 3000 {
            let mut batch = handle.batch(START);
            assert!(matches!(batch.touch(b"key", expiry), State::Hit(_)));
            let State::Hit(item) = batch.peek(b"key") else { panic!("it is there") };
            assert_eq!(item.expiry(), expiry, "nobody else touches it");
        }
        is_over.store(true, SeqCst);
    });
    store.check();
}

/// Figures may be asked for and reset while everybody is at work.
#[test]
fn figures_are_sane_while_they_change() {
    let store = store(256 << 10, true);
    let running = AtomicU64::new(THREADS);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (store, running) = (&store, &running);
            scope.spawn(move || {
                let mut random = Random(thread);
                let mut handle = store.register();
                for _ in 0..OPERATIONS {
                    let key = random.below(50_u64).to_le_bytes();
                    if random.below(2) == 0 {
                        set(&mut handle, &key, &[0; 700]);
                    } else {
                        handle.batch(START).remove(&key, Expected::Any);
                    }
                }
                running.fetch_sub(1, SeqCst);
            });
        }
        while running.load(SeqCst) > 0 {
            let totals = store.totals();
            assert!(totals.items < 1000 && totals.items_bytes < 1 << 20, "{totals:?}");
            assert!(totals.stored <= THREADS * OPERATIONS, "{totals:?}");
        }
    });
    store.check();
}

/// Values of several segments keep their bytes for a reader who walks their pieces while the
/// entries are moved one by one: what lies between them is small, and dies at once.
#[test]
fn large_values_are_whole_while_their_pieces_move() {
    for evict in [false, true] {
        let store = store(256 << 10, evict);
        let keys: Vec<Key> = (0..LARGE_KEYS).map(Key::new).collect();
        // Readers may be done before a writer has begun.
        let mut handle = store.register();
        keys.iter().for_each(|key| key.write_of(&mut handle.batch(START), 9000, &mut Random(1)));
        drop(handle);
        let pieces = AtomicU64::new(0);
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (store, keys, pieces) = (&store, &keys, &pieces);
                scope.spawn(move || match thread % 2 {
                    0 => write_large_and_small(&mut store.register(), keys, thread),
                    _ => {
                        pieces.fetch_add(read_large(&mut store.register(), keys, thread), SeqCst);
                    }
                });
            }
        });
        store.check();
        let totals = store.totals();
        assert!(pieces.load(SeqCst) > OPERATIONS / 4, "values lie in pieces: {pieces:?}");
        assert!(totals.moved > 0, "their pieces were moved: {totals:?}");
        let present = keys.iter().filter(|key| get(&mut store.register(), &key.name).is_some());
        assert!(evict || present.count() > 0, "{totals:?}");
    }
}

fn write_large_and_small(handle: &mut Handle, keys: &[Key], thread: u64) {
    let mut random = Random(thread);
    for operation in 0..OPERATIONS {
        let mut batch = handle.batch(START);
        let small = random.below(100_u64).to_le_bytes();
        match operation % 40 {
            0 => keys[random.below(keys.len())].write_of(&mut batch, 9000, &mut random),
            1..35 => put(&mut batch, &small, &vec![0; 100 + random.below(500)]),
            _ => {
                batch.remove(&small, Expected::Any);
            }
        }
    }
}

/// Returns the number of pieces read. Gives way between two of them, so that the later ones move
/// meanwhile.
fn read_large(handle: &mut Handle, keys: &[Key], thread: u64) -> u64 {
    let mut random = Random(thread);
    let mut pieces = 0;
    for _ in 0..OPERATIONS / 4 {
        let key = &keys[random.below(keys.len())];
        let batch = handle.batch(START);
        let acknowledged = key.acknowledged.load(SeqCst);
        let State::Hit(item) = batch.fetch(&key.name) else { continue };
        let mut value = Vec::new();
        for piece in item.value_chunks() {
            value.extend_from_slice(piece);
            pieces += 1;
            thread::yield_now();
        }
        assert!(key.version_in(&value) >= acknowledged);
        assert_eq!(value, value_of(&item), "a second walk, over what has moved");
    }
    pieces
}

/// A key, and the versions of its value.
struct Key {
    name: Vec<u8>,
    /// Taken by whoever writes it.
    writing: AtomicBool,
    next: AtomicU64,
    acknowledged: AtomicU64,
}

impl Key {
    fn new(number: u64) -> Self {
        let mut name = format!("key {number}").into_bytes();
        name.resize(if number.is_multiple_of(2) { 30 } else { 60 }, b'.');
        let (next, acknowledged) = (AtomicU64::new(1), AtomicU64::new(0));
        Self { name, writing: AtomicBool::new(false), next, acknowledged }
    }

    /// Writes the next version, or deletes the key, unless another thread is at it.
    fn write(&self, batch: &mut Batch<'_>, random: &mut Random) {
        // From a few bytes to a few segments.
        let bytes = match random.below(50) {
            0 => random.below(12_000),
            1..=10 => random.below(2000),
            _ => random.below(100),
        };
        self.write_of(batch, bytes, random);
    }

    fn write_of(&self, batch: &mut Batch<'_>, bytes: u64, random: &mut Random) {
        if self.writing.swap(true, SeqCst) {
            return;
        }
        let version = self.next.fetch_add(1, SeqCst);
        if random.below(20) == 0 {
            batch.remove(&self.name, Expected::Any);
        } else {
            let value = self.value(version, bytes);
            let flags = u32::try_from(version % 3).expect("small");
            let expiry = if version.is_multiple_of(2) { 0 } else { batch.now() + 1000 };
            let traits = Traits::plain(flags, Expiry::At(expiry));
            if version.is_multiple_of(3) {
                let mut draft = batch
                    .reserve_with(&self.name, value.len(), traits)
                    .expect("there is much to evict");
                value.chunks(1000).for_each(|piece| batch.fill(&mut draft, piece));
                batch.publish(draft, Expected::Any).expect("there is no condition");
            } else {
                batch.put(&self.name, &value, traits).expect("there is much to evict");
            }
        }
        self.acknowledged.store(version, SeqCst);
        self.writing.store(false, SeqCst);
    }

    /// Version, length, bytes that follow from both, checksum over all and the key.
    fn value(&self, version: u64, bytes: u64) -> Vec<u8> {
        let mut value = [version.to_le_bytes(), bytes.to_le_bytes()].concat();
        let mut filling = Random(version);
        value.extend((0..bytes).map(|_| filling.next().to_le_bytes()[0]));
        let sum = checksum(&self.name, &value);
        value.extend(sum.to_le_bytes());
        value
    }

    /// The version that an item holds, after proof that it is a whole value of this key.
    fn version(&self, item: &Item<'_>) -> u64 {
        assert_eq!(item.key(), self.name);
        let version = self.version_in(&value_of(item));
        assert_eq!(u64::from(item.flags()), version % 3);
        version
    }

    fn version_in(&self, value: &[u8]) -> u64 {
        let (value, sum) = value.split_at(value.len() - 8);
        assert_eq!(sum, checksum(&self.name, value).to_le_bytes(), "a whole value of this key");
        assert_eq!(
            value.len() as u64,
            16 + u64::from_le_bytes(value[8..16].try_into().expect("8"))
        );
        u64::from_le_bytes(value[..8].try_into().expect("8"))
    }
}

fn checksum(key: &[u8], value: &[u8]) -> u64 {
    let step = |sum: u64, &byte: &u8| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    key.iter().chain(value).fold(0xcbf2_9ce4_8422_2325, step)
}

fn value_of(item: &Item<'_>) -> Vec<u8> {
    item.value_chunks().flatten().copied().collect()
}

fn number(value: &[u8]) -> u64 {
    std::str::from_utf8(value).expect("digits").parse().expect("a number")
}

fn get(handle: &mut Handle, key: &[u8]) -> Option<Vec<u8>> {
    match handle.batch(START).fetch(key) {
        State::Hit(item) => Some(value_of(&item)),
        _ => None,
    }
}

fn set(handle: &mut Handle, key: &[u8], value: &[u8]) {
    put(&mut handle.batch(START), key, value);
}

fn put(batch: &mut Batch<'_>, key: &[u8], value: &[u8]) {
    let mut draft = batch.reserve(key, value.len(), 0, Expiry::At(0)).expect("there is room");
    batch.fill(&mut draft, value);
    batch.publish(draft, Expected::Any).expect("there is no condition");
}

/// Replaces a value by what is made of it (of nothing, if there is none), until nobody came
/// between.
fn change(handle: &mut Handle, key: &[u8], mut make: impl FnMut(&[u8]) -> Vec<u8>) {
    let mut batch = handle.batch(START);
    loop {
        let lookup = batch.peek(key);
        let witness = lookup.witness();
        let (value, expiry) = match lookup {
            State::Hit(item) => (make(&value_of(&item)), Expiry::Inherit),
            _ => (make(&[]), Expiry::At(0)),
        };
        let mut draft = batch.reserve(key, value.len(), 0, expiry).expect("there is room");
        batch.fill(&mut draft, &value);
        match batch.publish(draft, Expected::Unchanged(witness)) {
            Ok(_) => return,
            Err(draft) => batch.discard(draft),
        }
    }
}

fn store(memory_bytes: usize, evict: bool) -> Arc<Store> {
    Store::new(&Options { memory_bytes, segment_bytes: 4096, shards_log2: 2, evict })
        .expect("the system has this much memory")
}

const THREADS: u64 = 8;

const OPERATIONS: u64 = 4000;

const LARGE_KEYS: u64 = 12;

const CHANGES: u64 = 1000;

const START: Seconds = 1000;
