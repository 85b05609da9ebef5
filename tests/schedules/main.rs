//! The store under a model checker (`make model`): shuttle runs the real code through thousands of
//! interleavings, switching threads at each lock and each atomic of the store. Without `--cfg
//! shuttle` this file is empty.
//!
//! What it does not see: the inside of crossbeam-epoch (which runs for real, pins, epochs and
//! deferred calls, but is never interrupted half way; it has its own loom tests), the atomics of an
//! item's header, and weak memory: shuttle executes every program as if all atomics were
//! sequentially consistent, so that a missing `Release` would pass. The pairs of release and
//! acquire are argued in `store/index.rs` and run under load by `concurrency.rs`; Miri, which would
//! check them too, does not know the store's memory mapping.
//!
//! `LARDER_SCHEDULES` is the number of schedules of each test. A failure prints its schedule, for
//! `shuttle::replay`.
#![cfg(shuttle)]

mod scene;

use larder::store::{Batch, Expected, State, Store};
use scene::{
    NOW, add, ask_for_lease, explore, explore_counting, get, get_large, lend_large, litter, moved,
    publish_large, put, put_1, put_until, scatter_large, set, spawn, store, swept, version,
};
use shuttle::thread;
use std::sync::Arc;

/// A key that is overwritten, while its shard's table grows, is there for every reader: old or new,
/// in order.
#[test]
fn a_key_stays_visible_while_it_is_overwritten_and_its_table_grows() {
    explore(|| {
        let store = store(256 << 10, false);
        set(&store, b"key", 1);
        let overwriting = spawn(&store, |store| (2..5).for_each(|n| set(store, b"key", n)));
        let growing = spawn(&store, |store| {
            for n in 0_u8..40 {
                set(store, &[n], 1);
            }
        });
        let mut seen = 0;
        for _ in 0..4 {
            let version = get(&store, b"key", NOW).expect("it is never removed");
            assert!(version >= seen, "{version} after {seen}");
            seen = version;
        }
        overwriting.join().expect("no panic");
        growing.join().expect("no panic");
        assert_eq!(get(&store, b"key", NOW), Some(4));
        assert!(store.totals().index_power > 5, "the tables grew");
        store.check();
    });
}

/// What makes way for others within its window stays visible meanwhile. (The hash is the same in each
/// run of the checker: item 114 finds its window full, and item 62 moves.)
#[test]
fn an_item_that_makes_way_stays_visible() {
    explore(|| {
        let store = store(384 << 10, false);
        let mut handle = store.register();
        (0..114).for_each(|n| put_1(&mut handle, n));
        let index_bytes = store.totals().index_bytes;
        let storing = spawn(&store, |store| put_1(&mut store.register(), 114));
        for _ in 0..8 {
            let batch = handle.batch(NOW);
            assert!(matches!(batch.peek(&[62]), State::Hit(_)), "it is never removed");
        }
        drop(handle);
        storing.join().expect("no panic");
        assert_eq!((store.totals().items, store.totals().index_bytes), (115, index_bytes));
        store.check();
    });
}

/// While a table that has become too large is copied into a smaller one, what is in it stays visible
/// and what is stored is not lost.
#[test]
fn a_key_stays_visible_while_its_table_shrinks() {
    explore(|| {
        let store = store(384 << 10, true);
        let mut handle = store.register();
        (0..100).for_each(|n| put_1(&mut handle, n));
        (3..100).for_each(|n| {
            handle.batch(NOW).remove(&[n], Expected::Any);
        });
        let index_bytes = store.totals().index_bytes;
        let shrinking = spawn(&store, |store| {
            let limit = store.register().batch(NOW).set_memory_bytes(256 << 10);
            limit.expect("it is less than what was mapped");
        });
        let storing = spawn(&store, |store| {
            let mut handle = store.register();
            (100..103).for_each(|n| put_1(&mut handle, n));
        });
        for _ in 0..6 {
            let batch = handle.batch(NOW);
            assert!(matches!(batch.peek(&[1]), State::Hit(_)), "it is never removed");
        }
        shrinking.join().expect("no panic");
        storing.join().expect("no panic");
        let batch = handle.batch(NOW);
        let is_there = |n: &u8| matches!(batch.peek(&[*n]), State::Hit(_));
        assert!([0, 1, 2, 100, 101, 102].iter().all(is_there), "nothing is lost");
        drop(batch);
        assert!(store.totals().index_bytes < index_bytes / 2);
        store.check();
    });
}

/// What a pinned reader holds stays as it is, while two writers evict and reuse every segment that
/// there is.
#[test]
fn a_segment_is_not_used_again_under_a_reader() {
    explore(|| {
        let store = store(32 << 10, true);
        set(&store, b"key", 1);
        let writers = [b"a", b"b"].map(|name| {
            spawn(&store, move |store| {
                for n in 0_u8..20 {
                    set(store, &[name[0], n], u64::from(n));
                }
            })
        });
        let mut handle = store.register();
        for _ in 0..3 {
            let batch = handle.batch(NOW);
            if let State::Hit(item) = batch.fetch(b"key") {
                let before = version(&item);
                thread::yield_now();
                thread::yield_now();
                assert_eq!(version(&item), before, "it does not change under the reader");
            }
        }
        drop(handle);
        writers.into_iter().for_each(|writer| writer.join().expect("no panic"));
        assert!(store.totals().evictions > 0, "something was evicted");
        store.check();
    });
}

/// Overwriting, removing and evicting meet on the same items; each is counted out once
/// (`Store::check` recounts).
#[test]
fn an_item_ends_once() {
    explore(|| {
        let store = store(40 << 10, true);
        let threads = [0_u64, 1, 2].map(|thread| {
            spawn(&store, move |store| {
                let mut handle = store.register();
                for n in 0..8 {
                    let key = [u8::try_from((thread + n) % 3).expect("small")];
                    if n % 3 == 2 {
                        handle.batch(NOW).remove(&key, Expected::Any);
                    } else {
                        put(&mut handle.batch(NOW), &key, n, Expected::Any);
                    }
                }
            })
        });
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        store.check();
    });
}

/// What is lent stays as it was, long after the batch that found it, while two writers evict and
/// reuse every segment that there is; and when it is back, wherever it was returned, nothing of it
/// is missing.
#[test]
fn a_segment_is_not_used_again_before_what_was_lent_of_it_is_back() {
    explore(|| {
        let store = store(64 << 10, true);
        publish_large(&mut store.register().batch(NOW), 7);
        let writers = [b"a", b"b"].map(|name| {
            spawn(&store, move |store| {
                for n in 0_u8..30 {
                    set(store, &[name[0], n], u64::from(n));
                }
            })
        });
        let readers = [(); 2].map(|()| {
            spawn(&store, |store| {
                for _ in 0..2 {
                    let loans = lend_large(store);
                    thread::yield_now();
                    thread::yield_now();
                    for loan in loans {
                        assert!(loan.bytes().iter().all(|&byte| byte == 7), "it is as it was");
                    }
                }
            })
        });
        readers.into_iter().for_each(|reader| reader.join().expect("no panic"));
        writers.into_iter().for_each(|writer| writer.join().expect("no panic"));
        assert!(store.totals().evictions > 0, "something was evicted");
        assert_eq!(store.totals().segments_aside, 0);
        // What nobody reads any more is free, or becomes so.
        (0..60).for_each(|n| set(&store, b"more", n));
        store.check();
    });
}

/// Additions on condition, while a third thread makes the store move its items about.
#[test]
fn no_conditional_change_is_lost_while_items_move() {
    explore_counting(moved, move || {
        let store = store(48 << 10, false);
        litter(&store, b"count");
        let adding = [(); 2].map(|()| {
            spawn(&store, |store| {
                let mut handle = store.register();
                (0..3).for_each(|_| add(&mut handle.batch(NOW), b"count"));
            })
        });
        let disturbing = spawn(&store, |store| {
            let mut handle = store.register();
            (100..106).for_each(|n| put_1(&mut handle, n));
        });
        adding.into_iter().for_each(|thread| thread.join().expect("no panic"));
        disturbing.join().expect("no panic");
        assert_eq!(get(&store, b"count", NOW), Some(6));
        store
    });
}

/// The lease of an item that moves meanwhile: of those who ask, one gets it.
#[test]
fn a_lease_is_given_once_while_its_item_moves() {
    explore_counting(moved, move || {
        let store = store(48 << 10, false);
        litter(&store, b"leased");
        let asking = [(); 3].map(|()| spawn(&store, ask_for_lease));
        let disturbing = spawn(&store, |store| {
            let mut handle = store.register();
            (100..124).for_each(|n| put_1(&mut handle, n % 5 + 100));
        });
        let winners = asking.map(|thread| usize::from(thread.join().expect("no panic")));
        disturbing.join().expect("no panic");
        assert_eq!(winners.iter().sum::<usize>(), 1);
        assert!(!ask_for_lease(&store), "it is given");
        store
    });
}

/// A value of several segments is whole for whoever walks its pieces while they are moved, one by
/// one; and while it is overwritten, removed, touched or flushed at the same time, each of its
/// entries is counted out once.
#[test]
fn pieces_of_a_large_item_move_under_readers_and_writers() {
    let changes: [fn(&mut Batch<'_>); 4] = [
        |batch| publish_large(batch, 2),
        |batch| {
            batch.remove(b"large", Expected::Any);
        },
        |batch| {
            batch.touch(b"large", NOW + 1);
        },
        |batch| batch.flush(0),
    ];
    for change in changes {
        explore_counting(moved, move || {
            let store = store(40 << 10, false);
            scatter_large(&store);
            let moving = spawn(&store, |store| {
                let mut handle = store.register();
                (100..116).for_each(|n| put_1(&mut handle, n % 5 + 100));
            });
            let changing = spawn(&store, move |store| change(&mut store.register().batch(NOW)));
            for _ in 0..2 {
                get_large(&store);
            }
            moving.join().expect("no panic");
            changing.join().expect("no panic");
            store
        });
    }
}

/// The limit shrinks, and the store with it, while a large item is read and others are stored.
#[test]
fn the_limit_shrinks_under_readers_and_writers() {
    for evict in [false, true] {
        explore(move || {
            let store = store(80 << 10, evict);
            scatter_large(&store);
            let shrinking = spawn(&store, |store| {
                let limit = store.register().batch(NOW).set_memory_bytes(48 << 10);
                limit.expect("it is less than what was mapped");
            });
            let storing = spawn(&store, |store| {
                let mut handle = store.register();
                (100..104).for_each(|n| put_1(&mut handle, n));
            });
            for _ in 0..2 {
                get_large(&store);
            }
            shrinking.join().expect("no panic");
            storing.join().expect("no panic");
            assert!(evict || get_large(&store), "nothing may be evicted");
            store.check();
        });
    }
}

/// What the housekeeper sweeps, compacts and evicts, others touch, overwrite and remove.
#[test]
fn the_housekeeper_works_beside_readers_and_writers() {
    explore_counting(swept, move || {
        let store = store(40 << 10, true);
        let mut handle = store.register();
        for n in 0..6 {
            put_until(&mut handle.batch(NOW), &[n], 1, Expected::Any, NOW + 1);
        }
        let keeping = spawn(&store, |store| {
            let mut housekeeper = store.housekeeper();
            for _ in 0..6 {
                housekeeper.step(NOW + 1);
            }
        });
        let changing = spawn(&store, |store| {
            let mut handle = store.register();
            handle.batch(NOW).touch(&[0], NOW + 100);
            put(&mut handle.batch(NOW), &[1], 2, Expected::Any);
            handle.batch(NOW).remove(&[2], Expected::Any);
            (10..16).for_each(|n| put_1(&mut handle, n));
        });
        for n in 0..6 {
            get(&store, &[n], NOW);
        }
        keeping.join().expect("no panic");
        changing.join().expect("no panic");
        store
    });
}

/// A change on condition either comes before the flush and dies with it, or after it and finds
/// nothing to change.
#[test]
fn nothing_gets_past_a_flush() {
    explore(|| {
        let store = store(256 << 10, false);
        set(&store, b"count", 7);
        let adding = spawn(&store, |store| add(&mut store.register().batch(NOW), b"count"));
        let other = spawn(&store, |store| set(store, b"other", 1));
        store.register().batch(NOW).flush(0);
        set(&store, b"after", 1);
        adding.join().expect("no panic");
        other.join().expect("no panic");
        assert_eq!(get(&store, b"count", NOW), None);
        assert_eq!(get(&store, b"after", NOW), Some(1));
        store.check();
    });
}

/// A touch that was acknowledged holds, even if a thread whose second is the next one finds the
/// item expired just then.
#[test]
fn an_acknowledged_touch_is_not_lost_to_expiry() {
    explore(|| {
        let store = store(256 << 10, true);
        put_until(&mut store.register().batch(NOW), b"key", 1, Expected::Any, NOW + 1);
        let late = spawn(&store, |store| {
            get(store, b"key", NOW + 1);
        });
        let mut handle = store.register();
        let is_touched = matches!(handle.batch(NOW).touch(b"key", NOW + 100), State::Hit(_));
        late.join().expect("no panic");
        assert_eq!(get(&store, b"key", NOW + 1).is_some(), is_touched);
        store.check();
    });
}

/// A touch that says that it found the item has touched it, even if it was stored only a moment ago.
#[test]
fn an_acknowledged_touch_was_carried_out() {
    explore(|| {
        let store = store(256 << 10, true);
        set(&store, b"key", 1);
        store.register().batch(NOW).remove(b"key", Expected::Any);
        let setting = spawn(&store, |store| set(store, b"key", 2));
        let mut handle = store.register();
        let touched = matches!(handle.batch(NOW).touch(b"key", NOW + 1), State::Hit(_));
        setting.join().expect("no panic");
        assert_eq!(get(&store, b"key", NOW + 1).is_none(), touched);
    });
}

/// Whichever comes first, an append and a touch both take effect.
#[test]
fn an_inherited_expiry_is_the_newest() {
    explore(|| {
        let store = store(256 << 10, true);
        put_until(&mut store.register().batch(NOW), b"key", 1, Expected::Any, NOW + 1);
        let adding = spawn(&store, |store| add(&mut store.register().batch(NOW), b"key"));
        let mut handle = store.register();
        assert!(matches!(handle.batch(NOW).touch(b"key", NOW + 100), State::Hit(_)));
        adding.join().expect("no panic");
        assert_eq!(get(&store, b"key", NOW + 50), Some(2));
    });
}

/// The checker can fail: a counter that is not changed on condition loses additions.
#[test]
#[should_panic(expected = "an addition was lost")]
fn the_checker_finds_a_lost_addition() {
    explore(|| {
        let store = store(256 << 10, false);
        set(&store, b"count", 0);
        let add = |store: &Arc<Store>| {
            let count = get(store, b"count", NOW).expect("it is there");
            set(store, b"count", count + 1);
        };
        let other = spawn(&store, add);
        add(&store);
        other.join().expect("no panic");
        assert_eq!(get(&store, b"count", NOW), Some(2), "an addition was lost");
    });
}
