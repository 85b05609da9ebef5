//! What is counted when several threads want the same: each request once, however often it had to
//! look.

use std::sync::Barrier;
use std::thread;

use larder::command::{self, Context, Observer};
use larder::config::Config;
use larder::protocol::Fetch;
use larder::shared::Shared;
use larder::stats::Count;

/// One of those who find an item flushed creates the next one; the others look again, and then
/// there is one.
#[test]
fn who_comes_too_late_to_create_an_item_has_found_one() {
    let config = Config { threads: THREADS, ..Config::tiny() };
    let shared = Shared::new(config, Vec::new()).expect("the store needs little");
    let fetch = Fetch { create: Some(0), ..Fetch::plain(b"key") };
    let fetch_with = |thread: usize| {
        let mut handle = shared.store.register();
        let mut context = Context {
            shared: &shared,
            counters: &shared.workers[thread].counters,
            batch: handle.batch(NOW),
            observer: Observer::new(&shared),
        };
        command::fetch(&mut context, &fetch, |item, _| item.created).expect("there is room")
    };
    assert!(fetch_with(0), "it is new");
    let earlier = shared.counted().sums;
    let barrier = Barrier::new(THREADS);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (shared, barrier, fetch_with) = (&shared, &barrier, &fetch_with);
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    if barrier.wait().is_leader() {
                        shared.store.register().batch(NOW).flush(0);
                    }
                    barrier.wait();
                    fetch_with(thread);
                }
            });
        }
    });
    let sums = shared.counted().sums.since(&earlier);
    assert_eq!(sums.get(Count::GetHits), ROUNDS * THREADS as u64);
    assert_eq!(sums.get(Count::GetMisses), 0);
    // One in a round at most: who finds it flushed may clear it away for somebody faster.
    let flushed = sums.get(Count::GetFlushed);
    assert!((ROUNDS / 2..=ROUNDS).contains(&flushed), "{flushed}");
}

const NOW: u32 = 1_800_000_000;
const THREADS: usize = 4;
const ROUNDS: u64 = 3000;
