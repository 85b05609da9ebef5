//! Who stays in the cache: the store's misses on read-through replays against a plain simulation of
//! S3-FIFO, item by item, without segments, dead bytes or threads, in as much memory as the store's
//! live items had.
//!
//! The replays have the shape of published ones: popularity by Zipf's law, keys that are asked for
//! once, values that are overwritten. `LARDER_MISS_MEGABYTES=100 cargo test --release --test
//! miss_ratio -- --nocapture` replays them in as much memory.

#[path = "support/random.rs"]
mod random;

use larder::clock::Seconds;
use larder::store::{Expected, Expiry, Handle, Options, State, Store, Totals};
use random::Random;
use std::collections::{HashMap, HashSet, VecDeque};

/// Sizes in bytes; keys and requests for each megabyte of memory.
struct Workload {
    name: &'static str,
    alpha: f64,
    key_bytes: usize,
    value_bytes: u64,
    keys: u64,
    requests: u64,
    once_percent: u64,
    overwrite_percent: u64,
}

const WORKLOADS: [Workload; 5] = [
    Workload {
        name: "mostly read, steep",
        alpha: 1.21,
        key_bytes: 20,
        value_bytes: 273,
        keys: 40_000,
        requests: 60_000,
        once_percent: 3,
        overwrite_percent: 4,
    },
    Workload {
        name: "small, many asked for once",
        alpha: 1.1,
        key_bytes: 26,
        value_bytes: 55,
        keys: 60_000,
        requests: 80_000,
        once_percent: 25,
        overwrite_percent: 0,
    },
    Workload {
        name: "half overwritten",
        alpha: 0.8551,
        key_bytes: 44,
        value_bytes: 155,
        keys: 20_000,
        requests: 200_000,
        once_percent: 1,
        overwrite_percent: 50,
    },
    Workload {
        name: "flat, a quarter overwritten",
        alpha: 0.735,
        key_bytes: 42,
        value_bytes: 101,
        keys: 15_000,
        requests: 80_000,
        once_percent: 7,
        overwrite_percent: 25,
    },
    Workload {
        name: "larger values",
        alpha: 0.9,
        key_bytes: 36,
        value_bytes: 799,
        keys: 6_000,
        requests: 40_000,
        once_percent: 20,
        overwrite_percent: 13,
    },
];

#[derive(Clone, Copy)]
struct Request {
    key: u64,
    is_overwrite: bool,
}

#[test]
fn misses_are_those_of_s3_fifo_item_by_item() {
    let megabytes = match std::env::var("LARDER_MISS_MEGABYTES") {
        Ok(megabytes) => megabytes.parse().expect("LARDER_MISS_MEGABYTES is a number"),
        Err(_) => 3,
    };
    for workload in &WORKLOADS {
        let trace = workload.trace(megabytes);
        let name = workload.name;
        // Each store hashes in its own way, which moves the ratio by some thousandths.
        let ratios = [(); STORES].map(|()| {
            let replay = replay(workload, megabytes, &trace);
            let simulated = simulate(workload, replay.live_bytes, &trace);
            let ratio = replay.misses as f64 / simulated as f64;
            let of_all = replay.misses as f64 / trace.len() as f64;
            println!(
                "{name:>28}: {of_all:.4} missed, {ratio:.3} of S3-FIFO's, {:.2} moved",
                replay.moved
            );
            ratio
        });
        let ratio = ratios.iter().sum::<f64>() / STORES as f64;
        assert!(ratio < 1.0 + TOLERANCE, "{name}: {ratio} times the misses of the simulation");
        assert!(ratio > 0.95, "{name}: {ratio}: the simulation is no S3-FIFO");
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "there is no other way from a float to a number; it is in range"
)]
fn whole(number: f64) -> u64 {
    number as u64
}

/// What came of a trace.
struct Replay {
    misses: u64,
    /// What live items took on average in its second half.
    live_bytes: usize,
    /// Items moved for each one stored.
    moved: f64,
}

impl Workload {
    fn trace(&self, megabytes: usize) -> Vec<Request> {
        let mut random = Random(7);
        let (keys, requests) = (self.keys * megabytes as u64, self.requests * megabytes as u64);
        let power = 1.0 - self.alpha;
        let span = (keys as f64).powf(power) - 1.0;
        let mut once = u64::MAX / 2;
        (0..requests)
            .map(|_| {
                let is_overwrite = random.below(100) < self.overwrite_percent;
                if !is_overwrite && random.below(100) < self.once_percent {
                    once += 1;
                    return Request { key: once, is_overwrite };
                }
                let uniform = (random.next() >> 11) as f64 / (1_u64 << 53) as f64;
                let rank = (span * uniform + 1.0).powf(1.0 / power);
                Request { key: whole(rank), is_overwrite }
            })
            .collect()
    }

    /// Half to one and a half times the mean, always the same for a key.
    fn value_bytes(&self, key: u64) -> usize {
        let share = Random(key).below(1024);
        usize::try_from(self.value_bytes / 2 + self.value_bytes * share / 1024).expect("64-bit")
    }

    fn entry_bytes(&self, key: u64) -> usize {
        (20 + self.key_bytes + self.value_bytes(key)).next_multiple_of(8)
    }

    fn key(&self, key: u64) -> Vec<u8> {
        let mut name = format!("{key}:").into_bytes();
        name.resize(self.key_bytes, b'k');
        name
    }
}

fn replay(workload: &Workload, megabytes: usize, trace: &[Request]) -> Replay {
    let store = Store::new(&Options::new(megabytes << 20, true)).expect("mapped");
    let mut handle = store.register();
    let mut misses = 0;
    let mut samples = Vec::new();
    for (number, request) in trace.iter().enumerate() {
        let key = workload.key(request.key);
        let is_hit = matches!(handle.batch(NOW).peek(&key), State::Hit(_));
        if !request.is_overwrite {
            misses += u64::from(!is_hit);
            assert_eq!(matches!(handle.batch(NOW).fetch(&key), State::Hit(_)), is_hit);
        }
        if request.is_overwrite || !is_hit {
            put(&mut handle, &key, workload.value_bytes(request.key));
        }
        if number > trace.len() / 2 && number.is_multiple_of(1000) {
            samples.push(usize::try_from(store.totals().items_bytes).expect("64-bit"));
        }
    }
    store.check();
    let Totals { moved, stored, .. } = store.totals();
    let live_bytes = samples.iter().sum::<usize>() / samples.len();
    Replay { misses, live_bytes, moved: moved as f64 / stored as f64 }
}

/// S3-FIFO, item by item, of so many bytes of entries. Returns the number of misses.
fn simulate(workload: &Workload, bytes: usize, trace: &[Request]) -> u64 {
    let mut cache = S3Fifo { limit_bytes: bytes, ..S3Fifo::default() };
    let mut missed = 0;
    for request in trace {
        let bytes = workload.entry_bytes(request.key);
        let is_hit = cache.request(*request, bytes);
        missed += u64::from(!is_hit && !request.is_overwrite);
    }
    missed
}

#[derive(Default)]
struct S3Fifo {
    limit_bytes: usize,
    /// Frequency and size of each item.
    items: HashMap<u64, (u8, usize)>,
    probation: VecDeque<u64>,
    main: VecDeque<u64>,
    probation_bytes: usize,
    main_bytes: usize,
    ghosts: VecDeque<u64>,
    remembered: HashSet<u64>,
}

impl S3Fifo {
    /// Whether it was a hit. What is missing is stored.
    fn request(&mut self, request: Request, bytes: usize) -> bool {
        let Request { key, is_overwrite } = request;
        if let Some((frequency, _)) = self.items.get_mut(&key) {
            if !is_overwrite {
                *frequency = (*frequency + 1).min(3);
            }
            return true;
        }
        while self.probation_bytes + self.main_bytes + bytes > self.limit_bytes {
            if self.probation_bytes > self.limit_bytes / 10 {
                self.evict_from_probation();
            } else {
                self.evict_from_main();
            }
        }
        self.items.insert(key, (0, bytes));
        if self.remembered.remove(&key) {
            self.main.push_back(key);
            self.main_bytes += bytes;
        } else {
            self.probation.push_back(key);
            self.probation_bytes += bytes;
        }
        false
    }

    fn evict_from_probation(&mut self) {
        let key = self.probation.pop_front().expect("it is not empty");
        let (frequency, bytes) = self.items[&key];
        self.probation_bytes -= bytes;
        if frequency > 0 {
            self.items.insert(key, (0, bytes));
            self.main.push_back(key);
            self.main_bytes += bytes;
            return;
        }
        self.items.remove(&key);
        if self.remembered.insert(key) {
            self.ghosts.push_back(key);
        }
        // As published: as many as the main queue has items.
        while self.ghosts.len() > self.main.len() {
            let forgotten = self.ghosts.pop_front().expect("it is not empty");
            self.remembered.remove(&forgotten);
        }
    }

    fn evict_from_main(&mut self) {
        let Some(key) = self.main.pop_front() else { return self.evict_from_probation() };
        let (frequency, bytes) = self.items[&key];
        if frequency > 0 {
            self.items.insert(key, (frequency - 1, bytes));
            self.main.push_back(key);
            return;
        }
        self.items.remove(&key);
        self.main_bytes -= bytes;
    }
}

fn put(handle: &mut Handle, key: &[u8], value_bytes: usize) {
    let mut batch = handle.batch(NOW);
    let mut draft = batch.reserve(key, value_bytes, 0, Expiry::At(0)).expect("there is room");
    batch.fill(&mut draft, &vec![7; value_bytes]);
    batch.publish(draft, Expected::Any).expect("there is no condition");
}

const STORES: usize = 3;

/// Segments, and ghosts that stay only where slots are free, cost no more than so many of the misses.
const TOLERANCE: f64 = 0.01;

const NOW: Seconds = 1000;
