//! The store against a naive memcached: seeded random requests, every answer compared.
//!
//! Segments and shards are so small that growth, eviction, compaction, splitting and expiry happen
//! in every run; the tests assert that they did. The one answer in which the store may differ is a
//! miss, and each must have an eviction to explain it.
//!
//! A failure prints its seed; `LARDER_MODEL_SEED=<seed> cargo test --test model` runs that seed
//! alone.

#[path = "model/oracle.rs"]
mod oracle;
#[path = "model/requests.rs"]
mod requests;
#[path = "support/store.rs"]
mod store;
#[path = "support/random.rs"]
mod random;
#[path = "support/scratch.rs"]
mod scratch;

use larder::clock::Seconds;
use larder::store::{Handle, Housekeeper, MemoryFileOptions, Options, Store, Totals};
use oracle::Oracle;
use random::Random;
use requests::key_of;
use scratch::Scratch;
use std::fs;
use std::sync::Arc;
use store::{Hit, Op, Reply, When, apply};

#[test]
fn every_answer_is_memcacheds_while_items_are_evicted() {
    let mut longest_hit = 0;
    for seed in seeds(0..16) {
        let memory_bytes = (64 << 10) << (seed % 4);
        let plan = Plan { memory_bytes, value_bytes_max: memory_bytes / 2, ..Plan::SMALL };
        let report =
            run(seed, &plan, honest).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let totals = report.totals;
        assert!(totals.evictions > 0, "seed {seed}: something was evicted: {report:?}");
        assert!(totals.moved > 0, "seed {seed}: something was compacted: {report:?}");
        assert!(totals.swept > 0, "seed {seed}: something dead was swept: {report:?}");
        assert!(totals.index_power > 5, "seed {seed}: the index grew: {report:?}");
        longest_hit = longest_hit.max(report.longest_hit);
        assert!(report.expired > 0, "seed {seed}: something expired: {report:?}");
    }
    assert!(longest_hit > 3 * SEGMENT_BYTES, "values were split: {longest_hit}");
}

#[test]
fn nothing_is_missed_while_memory_is_large_enough() {
    for seed in seeds(100..108) {
        let plan = Plan { memory_bytes: 384 << 10, value_bytes_max: 9_000, ..Plan::SMALL };
        let report =
            run(seed, &plan, honest).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!((report.misses, report.totals.evictions), (0, 0), "seed {seed}: {report:?}");
        assert!(report.totals.moved > 0, "seed {seed}: something was compacted: {report:?}");
    }
}

#[test]
fn nothing_is_missed_while_evicting_is_forbidden() {
    for seed in seeds(200..208) {
        let plan =
            Plan { memory_bytes: 72 << 10, value_bytes_max: 2_000, evict: false, ..Plan::SMALL };
        let report =
            run(seed, &plan, honest).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!((report.misses, report.totals.evictions), (0, 0), "seed {seed}: {report:?}");
        assert!(report.refused > 0, "seed {seed}: the memory was full: {report:?}");
        // Four of seventeen segments are open, and a sixteenth of each other may be dead.
        assert!(report.emptiest_refusal > 0.6, "seed {seed}: refused only when full: {report:?}");
    }
}

/// Values of many segments cannot be moved out of each other's way, so that such a store refuses
/// earlier.
#[test]
fn nothing_is_missed_while_evicting_is_forbidden_and_values_are_large() {
    for seed in seeds(300..304) {
        let plan =
            Plan { memory_bytes: 192 << 10, value_bytes_max: 20_000, evict: false, ..Plan::SMALL };
        let report =
            run(seed, &plan, honest).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!((report.misses, report.totals.evictions), (0, 0), "seed {seed}: {report:?}");
        assert!(report.refused > 0, "seed {seed}: the memory was full: {report:?}");
    }
}

/// In a file, stopped or killed now and then and found again under another limit.
#[test]
fn every_answer_is_memcacheds_over_restarts() {
    for seed in seeds(400..408) {
        let memory_bytes = (96 << 10) << (seed % 3);
        let value_bytes_max = memory_bytes / 3;
        let plan = Plan { memory_bytes, value_bytes_max, restarts: true, ..Plan::SMALL };
        let report =
            run(seed, &plan, honest).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(report.restarts > 20, "seed {seed}: {report:?}");
        assert!(report.found > 1000, "seed {seed}: something was found again: {report:?}");
    }
}

#[test]
fn nothing_is_missed_over_restarts_while_memory_is_large_enough() {
    for seed in seeds(500..504) {
        let memory_bytes = 768 << 10;
        let plan = Plan { memory_bytes, value_bytes_max: 9_000, restarts: true, ..Plan::SMALL };
        let report =
            run(seed, &plan, honest).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!((report.misses, report.totals.evictions), (0, 0), "seed {seed}: {report:?}");
        assert!(report.restarts > 20, "seed {seed}: {report:?}");
    }
}

#[test]
fn the_oracle_catches_a_store_that_lies() {
    let plan = Plan { memory_bytes: 384 << 10, value_bytes_max: 9_000, ..Plan::SMALL };
    let lies: [(&str, Lie); 8] = [
        ("a bit of a value", |hit| hit.value.first_mut().map(|byte| *byte ^= 1).is_some()),
        ("a value that is too short", |hit| hit.value.pop().is_some()),
        ("flags", |hit| std::mem::replace(&mut hit.flags, 7) != 7),
        ("an expiry", |hit| std::mem::replace(&mut hit.expiry, 0) != 0),
        ("a cas", |hit| std::mem::replace(&mut hit.cas, 0) != 0),
        ("staleness", |hit| std::mem::replace(&mut hit.is_stale, false)),
        ("a lease", |hit| std::mem::replace(&mut hit.is_leased, false)),
        ("an access time", |hit| std::mem::replace(&mut hit.last_access, 1) != 1),
    ];
    for (what, lie) in lies {
        let mut told = 0;
        let outcome = run(1, &plan, |handle, now, op| match apply(handle, now, op) {
            Reply::Hit(mut hit) if told == 0 => {
                told += u32::from(lie(&mut hit));
                Reply::Hit(hit)
            }
            other => other,
        });
        assert!(told == 1 && outcome.is_err(), "{what}: {outcome:?}");
    }
    let forgetful = run(1, &plan, |handle, now, op| match apply(handle, now, op) {
        Reply::Hit(hit) if hit.is_fetched => Reply::NotFound,
        other => other,
    });
    assert!(forgetful.is_err(), "a miss that no eviction explains: {forgetful:?}");
    let deaf = run(1, &plan, |handle, now, op| match op {
        Op::Delete { .. } => Reply::Done,
        _ => apply(handle, now, op),
    });
    assert!(deaf.is_err(), "a deletion that is not carried out: {deaf:?}");
}

/// Room comes back, by each way there is, to a store that may not evict.
#[test]
fn a_full_store_that_may_not_evict_takes_more_after_items_have_gone() {
    let expiry = |n: u32| if n.is_multiple_of(2) { START + 10 } else { 0 };
    let ways: [(&str, MakeRoom); 3] = [
        ("flush", |handle, _| drop(apply(handle, START, &Op::Flush { at: 0 }))),
        ("delete", |handle, stored| {
            for n in (0..stored).filter(|n| n.is_multiple_of(2)) {
                assert_eq!(apply(handle, START, &Op::Delete { key: key_of(n) }), Reply::Done);
            }
        }),
        ("expiry", |_, _| ()),
    ];
    for (way, make_room) in ways {
        let store = Store::new(&Options { evict: false, ..options(128 << 10) }).expect("mapped");
        let mut handle = store.register();
        let fill = |handle: &mut Handle, from: u32, now| {
            (from..from + 10_000)
                .find(|&n| {
                    apply(handle, now, &set(n, vec![1; 200], expiry(n))) == Reply::OutOfMemory
                })
                .expect("it fills up")
                - from
        };
        let first = fill(&mut handle, 0, START);
        assert!(first > 300, "{way}: {first} items of 256 bytes in 128 KiB");
        make_room(&mut handle, first);
        store.check();
        let second = fill(&mut handle, first, START + 10);
        let expected = if way == "flush" { first * 9 / 10 } else { first * 4 / 10 };
        assert!(second > expected, "{way}: {second} after {first}");
        assert_eq!(store.totals().evictions, 0);
        store.check();
    }
}

/// How a run is made.
#[derive(Clone, Copy, Debug)]
struct Plan {
    memory_bytes: usize,
    value_bytes_max: usize,
    evict: bool,
    keys: u32,
    steps: u32,
    /// In a file that is found again some dozens of times, under limits from this one to half as
    /// much more.
    restarts: bool,
}

impl Plan {
    const SMALL: Self = Self {
        memory_bytes: 0,
        value_bytes_max: 0,
        evict: true,
        keys: 400,
        steps: 8_000,
        restarts: false,
    };
}

/// What happened in a run.
#[derive(Debug)]
struct Report {
    totals: Totals,
    /// Hits where there should have been one, and was none.
    misses: u64,
    refused: u64,
    /// How full, at least, the store was when it refused: what lived and what was asked for, over
    /// the memory.
    emptiest_refusal: f64,
    expired: u64,
    longest_hit: usize,
    restarts: u64,
    /// Items that were found again.
    found: u64,
}

/// Makes room in a store that holds so many items.
type MakeRoom = fn(&mut Handle, u32);

/// Changes a hit, if it can.
type Lie = fn(&mut Hit) -> bool;

/// Runs a plan; an error is a difference between store and oracle.
fn run(
    seed: u64,
    plan: &Plan,
    mut answer: impl FnMut(&mut Handle, Seconds, &Op) -> Reply,
) -> Result<Report, String> {
    let mut subject = Subject::new(plan);
    let mut random = Random(seed);
    let mut oracle = Oracle::new(START);
    let mut report = Report {
        totals: subject.store.totals(),
        misses: 0,
        refused: 0,
        emptiest_refusal: f64::INFINITY,
        expired: 0,
        longest_hit: 0,
        restarts: 0,
        found: 0,
    };
    let mut stored = 0;
    for step in 0..plan.steps {
        if random.below(20) == 0 {
            oracle.now += random.below(4);
        }
        if random.below(4) == 0 {
            subject.housekeeper.step(oracle.now);
        }
        if random.below(500) == 0 {
            subject.handles[random.below(3)] = subject.store.register();
        }
        if plan.restarts && random.below(200) == 0 {
            let memory_bytes = plan.memory_bytes + plan.memory_bytes / 8 * random.below(5);
            subject = subject.restart(memory_bytes, random.below(2) == 0, oracle.now);
            report.restarts += 1;
            report.found += subject.store.totals().items;
        }
        report.expired += oracle.forget_dead();
        let op = random.op(plan, &oracle);
        let handle = &mut subject.handles[random.below(3)];
        let reply = answer(handle, oracle.now, &op);
        report.longest_hit = report.longest_hit.max(reply.value_bytes());
        if reply == Reply::OutOfMemory {
            report.refused += 1;
            report.emptiest_refusal = report.emptiest_refusal.min(oracle.fullness(plan, &op));
            if plan.evict {
                return Err(format!("step {step}: refused {op:?} where there is much to evict"));
            }
            continue;
        }
        stored += u64::from(matches!(reply, Reply::Stored { .. }));
        report.misses += oracle
            .compare(&op, &reply)
            .map_err(|error| format!("step {step}: {error}\n{}", brief(&op)))?;
        if step.is_multiple_of(500) {
            subject.store.check();
        }
        let evictions = subject.totals().evictions;
        if report.misses > evictions {
            return Err(format!("step {step}: {} misses, {evictions} evictions", report.misses));
        }
    }
    subject.store.check();
    report.totals = subject.totals();
    if report.totals.stored != stored {
        return Err(format!("{stored} stored, {} counted", report.totals.stored));
    }
    Ok(report)
}

/// The store that is asked, and what was counted in those before it.
struct Subject {
    store: Arc<Store>,
    handles: [Handle; 3],
    housekeeper: Housekeeper,
    evict: bool,
    scratch: Option<Scratch>,
    evicted_before: u64,
    stored_before: u64,
}

impl Subject {
    fn new(plan: &Plan) -> Self {
        let options = Options { evict: plan.evict, ..options(plan.memory_bytes) };
        let scratch = plan.restarts.then(Scratch::new);
        let store = match &scratch {
            Some(scratch) => Store::open(&options, &memory_file(scratch), START),
            None => Store::new(&options),
        };
        Self::of(store.expect("the system has this much memory"), plan.evict, scratch)
    }

    fn of(store: Arc<Store>, evict: bool, scratch: Option<Scratch>) -> Self {
        Self {
            handles: [store.register(), store.register(), store.register()],
            housekeeper: store.housekeeper(),
            store,
            evict,
            scratch,
            evicted_before: 0,
            stored_before: 0,
        }
    }

    /// Ends the store, in order or by a kill, and finds it again.
    fn restart(self, memory_bytes: usize, is_killed: bool, now: Seconds) -> Self {
        let Totals { evictions, stored, .. } = self.totals();
        let scratch = self.scratch.expect("only what lives in a file is found again");
        let (file, copy) = (scratch.file("memory"), scratch.file("copy"));
        if is_killed {
            // What a process leaves that ends now.
            fs::copy(&file, &copy).expect("room");
            fs::rename(&copy, &file).expect("the same folder");
        }
        drop((self.handles, self.housekeeper));
        self.store.close().expect("the disk takes it");
        drop(self.store);
        let options = Options { evict: self.evict, ..options(memory_bytes) };
        let store = Store::open(&options, &memory_file(&scratch), now).expect("found again");
        store.check();
        let found = store.recovery().expect("there is a file").clone();
        let is_whole = found.discarded.is_none() && found.segments_damaged == 0;
        assert!(is_whole && found.incomplete == 0, "{found:?}");
        let evicted_before = evictions + found.evicted;
        Self { evicted_before, stored_before: stored, ..Self::of(store, self.evict, Some(scratch)) }
    }

    fn totals(&self) -> Totals {
        let totals = self.store.totals();
        let evictions = self.evicted_before + totals.evictions;
        Totals { evictions, stored: self.stored_before + totals.stored, ..totals }
    }
}

fn memory_file(scratch: &Scratch) -> MemoryFileOptions {
    MemoryFileOptions { path: scratch.file("memory"), discard_older_than_seconds: None }
}

fn honest(handle: &mut Handle, now: Seconds, op: &Op) -> Reply {
    apply(handle, now, op)
}

impl Reply {
    fn value_bytes(&self) -> usize {
        if let Self::Hit(hit) = self { hit.value.len() } else { 0 }
    }
}

fn set(number: u32, value: Vec<u8>, expiry: Seconds) -> Op {
    Op::Store { when: When::Always, key: key_of(number), value, flags: 0, expiry }
}

fn options(memory_bytes: usize) -> Options {
    Options { memory_bytes, segment_bytes: SEGMENT_BYTES, shards_log2: 1, evict: true }
}

fn seeds(range: std::ops::Range<u64>) -> Vec<u64> {
    match std::env::var("LARDER_MODEL_SEED") {
        Ok(seed) => vec![seed.parse().expect("LARDER_MODEL_SEED is a number")],
        Err(_) => range.collect(),
    }
}

fn brief(value: &impl std::fmt::Debug) -> String {
    let mut text = format!("{value:?}");
    text.truncate(300);
    text
}

const SEGMENT_BYTES: usize = 4096;

const START: Seconds = 1000;
