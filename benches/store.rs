//! The store alone: `cargo bench --bench store`. Each bench asserts its answer; under `cargo test`
//! all of them run once, tiny.
//!
//! Some things are no mean but a maximum, which criterion does not measure, and are printed: the
//! longest pauses of a single store while the index grows from nothing, and of a single look-up
//! while millions of items that expired together are swept. A pause is the operation's own as far
//! as the thread was working or had itself waited (for a lock, for a page): not while the system,
//! or the host of a virtual machine, gave the processor to others. `LARDER_BENCH_GROWING_KEYS` grows
//! the index to another size.

use criterion::{Criterion, Throughput, criterion_group};
use larder::clock::{Clock, Seconds};
use larder::housekeeper::take_turn;
use larder::store::{Expiry, Handle, Options, State, Store, Totals, Traits};
use nix::sys::resource::{UsageWho, getrusage};
use nix::time::{ClockId, clock_gettime};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;
use std::{fmt, thread};

fn get(criterion: &mut Criterion) {
    let scale = Scale::chosen();
    let (store, mut handle) = filled(scale);
    let mut group = criterion.benchmark_group("get");
    group.throughput(Throughput::Elements(1));
    let mut numbers = Numbers::new(scale.keys);
    let mut value = Vec::with_capacity(VALUE_BYTES);
    group.bench_function("hit", |bencher| {
        bencher.iter(|| {
            let batch = handle.batch(NOW);
            let State::Hit(item) = batch.fetch(&key(numbers.next())) else { panic!("stored") };
            value.clear();
            item.value_chunks().for_each(|chunk| value.extend_from_slice(chunk));
            assert_eq!(value.len(), VALUE_BYTES);
            black_box(&value);
        });
    });
    // A filter may have left it out.
    assert!(value.is_empty() || value == [VALUE; VALUE_BYTES]);
    group.bench_function("miss", |bencher| {
        bencher.iter(|| {
            let batch = handle.batch(NOW);
            let lookup = batch.fetch(&key(scale.keys + numbers.next()));
            assert!(matches!(lookup, State::Missing));
        });
    });
    assert_eq!(store.totals().evictions, 0);
    group.finish();
}

fn set(criterion: &mut Criterion) {
    let scale = Scale::chosen();
    let mut group = criterion.benchmark_group("set");
    group.throughput(Throughput::Elements(1));
    let (store, mut handle) = filled(scale);
    let mut numbers = Numbers::new(scale.keys);
    group.bench_function("overwrite", |bencher| {
        bencher.iter(|| put(&mut handle, numbers.next()));
    });
    assert_eq!(store.totals().items, scale.keys);
    let store = new_store(scale.evicting_bytes);
    let mut handle = store.register();
    let mut number = 0;
    let mut put_next = |handle: &mut Handle| {
        number += 1;
        put(handle, number);
    };
    // Full before the first measurement.
    while store.totals().evictions == 0 {
        (0..100).for_each(|_| put_next(&mut handle));
    }
    group.bench_function("evict", |bencher| bencher.iter(|| put_next(&mut handle)));
    let totals = store.totals();
    assert_eq!(totals.stored, number);
    assert!(totals.items + totals.evictions == totals.stored, "{totals:?}");
    group.finish();
}

/// Gets of which six in ten ask for the same key, by one thread and by two: prints how much more
/// two do. With a line of memory that every hit writes it would be less.
fn hot_key() {
    let scale = Scale::chosen();
    let (store, _handle) = filled(scale);
    let [one, two] = [1, 2].map(|threads| {
        let began = Barrier::new(threads);
        let took = thread::scope(|scope| {
            let threads: Vec<_> = (0..threads)
                .map(|thread| {
                    let (store, began) = (&store, &began);
                    scope.spawn(move || gets_of_a_hot_key(store, began, scale, thread as u64))
                })
                .collect();
            let took = threads.into_iter().map(|thread| thread.join().expect("all are stored"));
            took.max().expect("there are threads")
        });
        threads as f64 * scale.hot_gets as f64 / took.as_secs_f64()
    });
    let (millions_one, millions_two) = (one / 1e6, two / 1e6);
    println!(
        "hot key: {millions_one:.1} M/s by one thread, {millions_two:.1} M/s by two, {:.2} times",
        two / one
    );
}

fn gets_of_a_hot_key(store: &Arc<Store>, began: &Barrier, scale: Scale, thread: u64) -> Duration {
    let mut handle = store.register();
    let mut numbers = Numbers { state: thread, limit: scale.keys };
    began.wait();
    let clock = Clock::start();
    for _ in 0..scale.hot_gets / PIPELINE {
        let batch = handle.batch(NOW);
        for _ in 0..PIPELINE {
            let number = numbers.next();
            let number = if number % 10 < 6 { 0 } else { number };
            assert!(matches!(batch.fetch(&key(number)), State::Hit(_)));
        }
    }
    clock.uptime()
}

/// Inserts distinct keys into an empty store and prints the mean and the longest pause of a single
/// one.
fn growth() {
    let scale = Scale::chosen();
    let store = new_store(scale.growing_bytes);
    let mut handle = store.register();
    let clock = Clock::start();
    with_housekeeper(&store, &AtomicU32::new(NOW), || {
        let mut pauses = Pauses::new(&clock);
        for number in 0..scale.growing_keys {
            put(&mut handle, number);
            pauses.note(&clock);
        }
        let Totals { items, index_bytes, evictions, .. } = store.totals();
        assert_eq!((items, evictions), (scale.growing_keys, 0));
        let index_bytes = index_bytes as f64 / items as f64;
        println!("growth: {items} items, {pauses}, index {index_bytes:.1} bytes/item");
    });
}

/// Has as many items expire in the same second, and looks keys up until they are gone.
fn expiry() {
    let scale = Scale::chosen();
    let store = new_store(scale.growing_bytes);
    let mut handle = store.register();
    (0..scale.growing_keys).for_each(|number| put_until(&mut handle, number, NOW + 1));
    (0..scale.keys).for_each(|number| put(&mut handle, scale.growing_keys + number));
    let mut numbers = Numbers::new(scale.keys);
    let now = AtomicU32::new(NOW);
    with_housekeeper(&store, &now, || {
        now.store(NOW + 1, Ordering::Relaxed);
        let clock = Clock::start();
        let mut pauses = Pauses::new(&clock);
        while pauses.count.is_multiple_of(1024) && store.totals().items > scale.keys
            || !pauses.count.is_multiple_of(1024)
        {
            let key = key(scale.growing_keys + numbers.next());
            assert!(matches!(handle.batch(NOW + 1).fetch(&key), State::Hit(_)));
            pauses.note(&clock);
        }
        assert_eq!((store.totals().items, store.totals().swept), (scale.keys, scale.growing_keys));
        println!("expiry: {} items gone, gets meanwhile: {pauses}", scale.growing_keys);
    });
}

/// How long one operation after the other took, with and without what is not its own.
struct Pauses {
    count: u64,
    over_1_ms: u64,
    over_1_ms_in_all: u64,
    /// The longest first.
    longest: [Duration; 10],
    began: Duration,
    last: Duration,
    spent: Spent,
}

/// What a thread has done with its time.
#[derive(Clone, Copy)]
struct Spent {
    working: Duration,
    waits: i64,
}

impl Pauses {
    fn new(clock: &Clock) -> Self {
        let began = clock.uptime();
        Self {
            count: 0,
            over_1_ms: 0,
            over_1_ms_in_all: 0,
            longest: [Duration::ZERO; 10],
            began,
            last: began,
            spent: Spent::now(),
        }
    }

    fn note(&mut self, clock: &Clock) {
        let mut pause = clock.uptime().saturating_sub(self.last);
        self.count += 1;
        let is_long = pause > Duration::from_millis(1);
        if is_long || self.count.is_multiple_of(SPENT_EVERY) {
            let before = std::mem::replace(&mut self.spent, Spent::now());
            pause = self.spent.own_since(&before, pause);
        }
        self.over_1_ms += u64::from(pause > Duration::from_millis(1));
        self.over_1_ms_in_all += u64::from(is_long);
        if pause > self.longest[9] {
            let place = self.longest.partition_point(|longer| *longer > pause);
            self.longest[place..].rotate_right(1);
            self.longest[place] = pause;
        }
        self.last = clock.uptime();
    }
}

impl Spent {
    fn now() -> Self {
        // What the usage says of it is as of the system's last tick.
        let working = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock");
        let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("the system counts");
        Self { working: working.into(), waits: usage.voluntary_context_switches() }
    }

    /// How much of a pause, most of what has passed since, was the thread's own: all of it if the
    /// thread waited.
    fn own_since(&self, before: &Self, pause: Duration) -> Duration {
        if self.waits == before.waits { pause.min(self.working - before.working) } else { pause }
    }
}

impl fmt::Display for Pauses {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, over_1_ms, over_1_ms_in_all, longest, .. } = self;
        let took = self.last.saturating_sub(self.began);
        let each = took.as_nanos() as f64 / *count as f64;
        write!(
            formatter,
            "{count} in {took:.2?}, {each:.0} ns each, {over_1_ms} longer than 1 ms \
             ({over_1_ms_in_all} with what is not their own), the longest {longest:.1?}"
        )
    }
}

/// Has a thread keep house as the server's does while `work` goes on.
fn with_housekeeper(store: &Arc<Store>, now: &AtomicU32, work: impl FnOnce()) {
    let working = AtomicBool::new(true);
    thread::scope(|scope| {
        let keeper = scope.spawn(|| {
            let mut housekeeper = store.housekeeper();
            store.wake_for_chores(thread::current());
            let clock = Clock::start();
            while working.load(Ordering::Relaxed) {
                take_turn(&mut housekeeper, &clock, now.load(Ordering::Relaxed));
            }
        });
        work();
        working.store(false, Ordering::Relaxed);
        keeper.thread().unpark();
    });
}

/// How much is made of each bench: all, or next to nothing where it is only to be seen that it
/// runs.
#[derive(Clone, Copy)]
struct Scale {
    keys: u64,
    evicting_bytes: usize,
    growing_bytes: usize,
    growing_keys: u64,
    hot_gets: u64,
}

impl Scale {
    fn chosen() -> Self {
        if std::env::args().any(|argument| argument == "--bench")
            && std::env::args().all(|argument| argument != "--test")
        {
            let told = std::env::var("LARDER_BENCH_GROWING_KEYS").ok();
            let growing_keys = told.map_or(10_000_000, |keys| keys.parse().expect("a number"));
            Self {
                keys: 100_000,
                evicting_bytes: 64 << 20,
                growing_bytes: usize::try_from(growing_keys).expect("64 bits") * 215,
                growing_keys,
                hot_gets: 8_000_000,
            }
        } else {
            Self {
                keys: 500,
                evicting_bytes: 1 << 20,
                growing_bytes: 4 << 20,
                growing_keys: 5_000,
                hot_gets: 2_000,
            }
        }
    }
}

/// Numbers below a limit in an order that no cache foresees.
struct Numbers {
    state: u64,
    limit: u64,
}

impl Numbers {
    fn new(limit: u64) -> Self {
        Self { state: 1, limit }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.state >> 33) % self.limit
    }
}

fn filled(scale: Scale) -> (Arc<Store>, Handle) {
    let store = new_store(64 << 20);
    let mut handle = store.register();
    (0..scale.keys).for_each(|number| put(&mut handle, number));
    assert_eq!(store.totals().items, scale.keys);
    (store, handle)
}

fn new_store(memory_bytes: usize) -> Arc<Store> {
    Store::new(&Options::new(memory_bytes, true)).expect("the system has this much memory")
}

fn put(handle: &mut Handle, number: u64) {
    put_until(handle, number, 0);
}

fn put_until(handle: &mut Handle, number: u64, expiry: Seconds) {
    let mut batch = handle.batch(NOW);
    let traits = Traits::plain(0, Expiry::At(expiry));
    batch.put(&key(number), &[VALUE; VALUE_BYTES], traits).expect("there is room");
}

/// 20 bytes, as keys are.
fn key(number: u64) -> [u8; 20] {
    let mut key = *b"benchmark:0000000000";
    let mut rest = number;
    for digit in key[10..].iter_mut().rev() {
        *digit = b'0' + u8::try_from(rest % 10).expect("a digit");
        rest /= 10;
    }
    key
}

criterion_group!(benches, get, set);

fn main() {
    benches();
    hot_key();
    growth();
    expiry();
    Criterion::default().configure_from_args().final_summary();
}

const NOW: Seconds = 1000;

/// Gets in a batch.
const PIPELINE: u64 = 16;

/// Operations between two looks at what the thread has done with its time.
const SPENT_EVERY: u64 = 64;

const VALUE: u8 = b'v';

const VALUE_BYTES: usize = 100;
