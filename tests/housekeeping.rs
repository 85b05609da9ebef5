//! What is done ahead of need, step by step and without a thread.

use larder::clock::Seconds;
use larder::store::{
    Chores, Expected, Expiry, Handle, Housekeeper, Options, Removal, State, Store,
};
use std::sync::Arc;

#[test]
fn what_nobody_asks_for_is_swept_when_its_time_is_over() {
    let (store, mut handle, mut housekeeper) = store(4 << 20);
    for number in 0..5000 {
        set(&mut handle, number, [0, NOW + 10, NOW + 20][number as usize % 3]);
    }
    keep_house(&mut housekeeper, NOW + 9);
    assert_eq!((store.totals().items, store.totals().swept), (5000, 0));
    keep_house(&mut housekeeper, NOW + 10);
    assert_eq!((store.totals().items, store.totals().swept), (3333, 1667));
    store.check();
    assert!(matches!(handle.batch(NOW + 10).fetch(&key(3)), State::Hit(_)));
    keep_house(&mut housekeeper, NOW + 20);
    let totals = store.totals();
    assert_eq!((totals.items, totals.swept, totals.expired_unfetched), (1667, 3333, 3333));
    assert_eq!((totals.reclaimed, totals.evictions), (0, 0));
    store.check();
}

/// The segments that are still being filled too.
#[test]
fn nothing_is_left_of_what_expires_together() {
    let (store, mut handle, mut housekeeper) = store(4 << 20);
    (0..5000).for_each(|number| set(&mut handle, number, NOW + 10));
    assert!(matches!(handle.batch(NOW).fetch(&key(7)), State::Hit(_)));
    keep_house(&mut housekeeper, NOW + 10);
    let totals = store.totals();
    assert_eq!((totals.items, totals.items_bytes, totals.expired_unfetched), (0, 0, 4999));
    assert_eq!(totals.segments_in_use, 1, "the one that is being filled: {totals:?}");
    set(&mut handle, 1, 0);
    store.check();
}

#[test]
fn a_touch_in_time_saves_an_item_from_the_sweep() {
    let (store, mut handle, mut housekeeper) = store(4 << 20);
    (0..100).for_each(|number| set(&mut handle, number, NOW + 10));
    assert!(matches!(handle.batch(NOW + 9).touch(&key(5), NOW + 50), State::Hit(_)));
    keep_house(&mut housekeeper, NOW + 10);
    assert_eq!(store.totals().items, 1);
    keep_house(&mut housekeeper, NOW + 50);
    assert_eq!(store.totals().items, 0);
}

#[test]
fn what_was_flushed_is_swept_at_once() {
    let (store, mut handle, mut housekeeper) = store(4 << 20);
    (0..5000).for_each(|number| set(&mut handle, number, 0));
    handle.batch(NOW).flush(NOW + 5);
    (0..10).for_each(|number| set(&mut handle, number, 0));
    keep_house(&mut housekeeper, NOW + 4);
    assert_eq!(store.totals().items, 5000);
    keep_house(&mut housekeeper, NOW + 5);
    let totals = store.totals();
    assert_eq!((totals.items, totals.swept), (0, 5000), "the flush is carried out unasked");
    store.check();
}

/// Whoever stores finds free segments, and evicts nothing itself.
#[test]
fn a_reserve_is_kept_for_those_who_store() {
    let (store, mut handle, mut housekeeper) = store(1 << 20);
    let free = || store.totals().segments.saturating_sub(store.totals().segments_in_use);
    for number in 0..20_000 {
        let before = store.totals().evictions;
        set(&mut handle, number, 0);
        assert_eq!(store.totals().evictions, before, "{number}: {:?}", store.totals());
        keep_house(&mut housekeeper, NOW);
        assert!(free() > 0, "{number}: {:?}", store.totals());
    }
    assert!(store.totals().evictions > 10_000);
    store.check();
}

/// One item's writer never pays for a whole segment, though nobody helps it.
#[test]
fn a_store_without_a_housekeeper_pays_in_small_pieces() {
    let (store, mut handle, _) = store(16 << 20);
    let mut most = 0;
    for number in 0..300_000 {
        let before = store.totals();
        set(&mut handle, number, 0);
        let after = store.totals();
        most = most.max(after.evictions + after.moved - before.evictions - before.moved);
    }
    let items_in_a_segment = store.totals().segment_bytes / 150;
    assert!(store.totals().evictions > 100_000, "{:?}", store.totals());
    assert!(most > 0 && most < items_in_a_segment / 8, "{most} at once");
}

#[test]
fn an_overwrite_storm_leaves_little_dead() {
    let (store, mut handle, mut housekeeper) = store(4 << 20);
    let limit = store.totals().segments * store.totals().segment_bytes;
    let mut number = 0_u32;
    for round in 0..60_000_u32 {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let bytes = [20, 500, 90][round as usize / 20_000];
        put(&mut handle, number >> 8 & 0xfff, bytes, 0);
        if !round.is_multiple_of(16) {
            continue;
        }
        keep_house(&mut housekeeper, NOW);
        let dead = store.totals().dead_bytes;
        assert!(dead < limit / 8 + (512 << 10), "{round}: {dead} of {limit}: {:?}", store.totals());
    }
    let totals = store.totals();
    assert!(totals.moved > 0 && totals.evictions == 0, "{totals:?}");
    store.check();
}

/// What is moved waits for room until those have gone who may still read what was moved before.
#[test]
fn nobody_is_driven_out_because_others_read() {
    let (store, mut handle, mut housekeeper) = store(4 << 20);
    let free = || store.totals().segments.saturating_sub(store.totals().segments_in_use);
    let mut count = 0;
    while free() > 3 {
        set(&mut handle, count, 0);
        count += 1;
    }
    for number in (0..count).step_by(5) {
        assert_eq!(handle.batch(NOW).remove(&key(number), Expected::Any), Removal::Removed);
    }
    let mut reader = store.register();
    let reading = reader.batch(NOW);
    (0..STEPS_MAX).for_each(|_| _ = housekeeper.step(NOW));
    let moved = store.totals().moved;
    assert!(moved > 0 && store.totals().evictions == 0, "{:?}", store.totals());
    drop(reading);
    keep_house(&mut housekeeper, NOW);
    let totals = store.totals();
    assert!(totals.moved > moved && totals.evictions == 0, "{totals:?}");
    for number in 0..count {
        let is_there = matches!(handle.batch(NOW).fetch(&key(number)), State::Hit(_));
        assert_eq!(is_there, number % 5 != 0, "{number}");
    }
    store.check();
}

fn store(memory_bytes: usize) -> (Arc<Store>, Handle, Housekeeper) {
    let store = Store::new(&Options::new(memory_bytes, true)).expect("mapped");
    let (handle, housekeeper) = (store.register(), store.housekeeper());
    (store, handle, housekeeper)
}

/// Until there is nothing left to do; that must be soon.
fn keep_house(housekeeper: &mut Housekeeper, now: Seconds) {
    let steps = (0..STEPS_MAX).find(|_| housekeeper.step(now) == Chores::None);
    assert!(steps.is_some(), "there is an end to it");
}

fn set(handle: &mut Handle, number: u32, expiry: Seconds) {
    put(handle, number, 100, expiry);
}

fn put(handle: &mut Handle, number: u32, bytes: usize, expiry: Seconds) {
    let mut batch = handle.batch(NOW);
    let mut draft =
        batch.reserve(&key(number), bytes, 0, Expiry::At(expiry)).expect("there is room");
    batch.fill(&mut draft, &vec![7; bytes]);
    batch.publish(draft, Expected::Any).expect("there is no condition");
}

fn key(number: u32) -> Vec<u8> {
    format!("a key of {number}").into_bytes()
}

const NOW: Seconds = 1000;

const STEPS_MAX: u32 = 10_000;
