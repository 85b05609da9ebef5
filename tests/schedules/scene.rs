//! What scenarios are made of: the checker, stores small enough that everything happens in them, and
//! values that say what they are.

use larder::clock::Seconds;
use larder::store::{
    Amended, Amendment, Batch, Expected, Expiry, Handle, Item, Loan, Options, State, Store, Totals,
    Traits,
};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner, thread};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Half of the schedules at random, half with few but well chosen changes of thread.
pub(crate) fn explore(scenario: impl Fn() + Send + Sync + 'static) {
    let schedules = match std::env::var("LARDER_SCHEDULES") {
        Ok(schedules) => schedules.parse().expect("LARDER_SCHEDULES is a number"),
        Err(_) => SCHEDULES,
    };
    let scenario = Arc::new(scenario);
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    let random = Arc::clone(&scenario);
    Runner::new(RandomScheduler::new(schedules / 2), config.clone()).run(move || random());
    Runner::new(PctScheduler::new(PREEMPTIONS, schedules / 2), config).run(move || scenario());
}

/// Explores a scenario, checks its store, and sees to it that what `figure` counts happened in one
/// schedule at least.
pub(crate) fn explore_counting(
    figure: fn(&Totals) -> u64,
    scenario: impl Fn() -> Arc<Store> + Send + Sync + 'static,
) {
    let counted = Arc::new(AtomicU64::new(0));
    let counted_in_all = Arc::clone(&counted);
    explore(move || {
        let store = scenario();
        store.check();
        counted_in_all.fetch_add(figure(&store.totals()), Ordering::Relaxed);
    });
    assert!(counted.load(Ordering::Relaxed) > 0, "what is to be seen happened");
}

pub(crate) fn moved(totals: &Totals) -> u64 {
    totals.moved
}

pub(crate) fn swept(totals: &Totals) -> u64 {
    totals.swept
}

pub(crate) fn spawn<T: Send + 'static>(
    store: &Arc<Store>,
    work: impl FnOnce(&Arc<Store>) -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    let store = Arc::clone(store);
    thread::spawn(move || work(&store))
}

pub(crate) fn store(memory_bytes: usize, evict: bool) -> Arc<Store> {
    Store::new(&Options { memory_bytes, segment_bytes: 4096, shards_log2: 1, evict })
        .expect("the system has this much memory")
}

/// Stores a key among others, so that every segment holds something that lives and more that does
/// not.
pub(crate) fn litter(store: &Arc<Store>, key: &[u8]) {
    let mut handle = store.register();
    (0..24).for_each(|n| put_1(&mut handle, n));
    set(store, key, 0);
    for n in (0_u8..24).filter(|n| !n.is_multiple_of(3)) {
        handle.batch(NOW).remove(&[n], Expected::Any);
    }
}

pub(crate) fn set(store: &Arc<Store>, key: &[u8], version: u64) {
    put(&mut store.register().batch(NOW), key, version, Expected::Any);
}

pub(crate) fn get(store: &Arc<Store>, key: &[u8], now: Seconds) -> Option<u64> {
    match store.register().batch(now).fetch(key) {
        State::Hit(item) => Some(version(&item)),
        _ => None,
    }
}

/// Whether this was the one who got it.
pub(crate) fn ask_for_lease(store: &Arc<Store>) -> bool {
    let mut handle = store.register();
    let batch = handle.batch(NOW);
    let lookup = batch.look(b"leased");
    let State::Hit(item) = lookup else { panic!("it is never removed") };
    thread::yield_now();
    let amendment = Amendment { expiry: None, lease: true };
    !item.is_leased()
        && batch.amend(b"leased", lookup.witness(), amendment) == Amended::Done { leased: true }
}

/// Adds 1 to the version, if the key is there.
pub(crate) fn add(batch: &mut Batch<'_>, key: &[u8]) {
    loop {
        let lookup = batch.peek(key);
        let witness = lookup.witness();
        let State::Hit(item) = lookup else { return };
        let next = version(&item) + 1;
        if put(batch, key, next, Expected::Unchanged(witness)) {
            return;
        }
    }
}

/// Stores a large item whose entries lie between others, most of which are dead then.
pub(crate) fn scatter_large(store: &Arc<Store>) {
    let mut handle = store.register();
    (0..2).for_each(|n| put_1(&mut handle, n));
    publish_large(&mut handle.batch(NOW), 1);
    (2..16).for_each(|n| put_1(&mut handle, n));
    for n in (0..16).filter(|n| ![5, 6, 9, 10, 13].contains(n)) {
        handle.batch(NOW).remove(&[n], Expected::Any);
    }
}

pub(crate) fn publish_large(batch: &mut Batch<'_>, version: u8) {
    let value = vec![version; LARGE_BYTES];
    batch.put(b"large", &value, Traits::plain(0, Expiry::At(0))).expect("there is room");
}

/// Whether the large item is there. Its pieces must be of one version, also those that are found
/// after they have moved.
pub(crate) fn get_large(store: &Arc<Store>) -> bool {
    let mut handle = store.register();
    let batch = handle.batch(NOW);
    let State::Hit(item) = batch.fetch(b"large") else { return false };
    let mut value = Vec::new();
    for piece in item.value_chunks() {
        value.extend_from_slice(piece);
        thread::yield_now();
    }
    assert!(value == vec![value[0]; LARGE_BYTES], "a whole value of one version");
    true
}

/// The pieces of the large item, if it is there and may be lent.
pub(crate) fn lend_large(store: &Arc<Store>) -> Vec<Loan> {
    let mut handle = store.register();
    let batch = handle.batch(NOW);
    let mut loans = Vec::new();
    if let State::Hit(item) = batch.fetch(b"large") {
        store.lend(&item, |loan| loans.push(loan));
    }
    loans
}

pub(crate) fn put_1(handle: &mut Handle, key: u8) {
    put(&mut handle.batch(NOW), &[key], 1, Expected::Any);
}

pub(crate) fn put(batch: &mut Batch<'_>, key: &[u8], version: u64, expected: Expected) -> bool {
    let Expected::Unchanged(_) = expected else {
        return put_until(batch, key, version, expected, 0);
    };
    publish(batch, key, version, expected, Expiry::Inherit)
}

pub(crate) fn put_until(
    batch: &mut Batch<'_>,
    key: &[u8],
    version: u64,
    expected: Expected,
    expiry: Seconds,
) -> bool {
    publish(batch, key, version, expected, Expiry::At(expiry))
}

/// The value says key and version, a hundred times over.
fn publish(
    batch: &mut Batch<'_>,
    key: &[u8],
    version: u64,
    expected: Expected,
    expiry: Expiry,
) -> bool {
    let value = [key, &version.to_le_bytes()].concat().repeat(REPEATS);
    let mut draft = batch.reserve(key, value.len(), 0, expiry).expect("there is room");
    batch.fill(&mut draft, &value);
    match batch.publish(draft, expected) {
        Ok(_) => true,
        Err(draft) => {
            batch.discard(draft);
            false
        }
    }
}

/// The version of an item, after proof that it is whole and of its key.
pub(crate) fn version(item: &Item<'_>) -> u64 {
    let value: Vec<u8> = item.value_chunks().flatten().copied().collect();
    let key = item.key();
    let version = &value[key.len()..key.len() + 8];
    assert_eq!(value, [key, version].concat().repeat(REPEATS), "a whole value of this key");
    u64::from_le_bytes(version.try_into().expect("8 bytes"))
}

pub(crate) const NOW: Seconds = 1000;

/// Makes a value of about a third of a segment.
const REPEATS: usize = 120;

/// Makes a head, a fragment as large as a segment, and one that is smaller.
const LARGE_BYTES: usize = 7000;

const SCHEDULES: usize = 400;

const PREEMPTIONS: usize = 3;

/// Of each thread: unoptimised code is generous with its stack.
const STACK_BYTES: usize = 1 << 18;
