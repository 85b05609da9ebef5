//! The memory limit while the store runs: what is beyond it goes at once, and comes back when it
//! may.

#[path = "support/mod.rs"]
mod support;

use larder::store::{Batch, Expected, Expiry, Options, OutOfMemory, Removal, State, Store};
use support::client::Client;
use support::{Scratch, Server, await_true, larder};

#[test]
fn a_smaller_limit_evicts_the_oldest_at_once_and_a_larger_one_gives_room_again() {
    let store = Store::new(&Options::new(64 << 20, true)).unwrap();
    let mut handle = store.register();
    for number in 0..60_000 {
        set(&mut handle.batch(NOW), number).unwrap();
    }
    let in_use = || store.totals().segments_in_use * store.totals().segment_bytes;
    assert!(in_use() > 50 << 20, "{:?}", store.totals());

    handle.batch(NOW).set_memory_bytes(16 << 20).unwrap();
    assert!(in_use() <= 16 << 20, "{:?}", store.totals());
    assert!(store.totals().evictions > 0);
    let newest = key(59_999);
    assert!(matches!(handle.batch(NOW).peek(newest.as_bytes()), State::Hit(_)));
    store.check();

    handle.batch(NOW).set_memory_bytes(64 << 20).unwrap();
    for number in 0..60_000 {
        set(&mut handle.batch(NOW), number).unwrap();
    }
    assert!(in_use() > 50 << 20, "{:?}", store.totals());
    store.check();
}

#[test]
fn without_eviction_a_smaller_limit_takes_nothing_and_refuses_more() {
    let store = Store::new(&Options::new(16 << 20, false)).unwrap();
    let mut handle = store.register();
    for number in 0..10_000 {
        set(&mut handle.batch(NOW), number).unwrap();
    }
    handle.batch(NOW).set_memory_bytes(8 << 20).unwrap();
    assert_eq!(store.totals().items, 10_000);
    assert!((0..1000).any(|number| set(&mut handle.batch(NOW), 10_000 + number).is_err()));
    store.check();
}

/// What was evicted takes room until its readers have gone: that is no reason to evict more.
#[test]
fn a_slightly_smaller_limit_evicts_little_even_under_a_reader() {
    let store = Store::new(&Options::new(16 << 20, true)).unwrap();
    let (mut handle, mut other) = (store.register(), store.register());
    for number in 0..16_000 {
        set(&mut handle.batch(NOW), number).unwrap();
    }
    let items = store.totals().items;
    let reader = other.batch(NOW);
    handle.batch(NOW).set_memory_bytes(15 << 20).unwrap();
    drop(reader);
    let left = store.totals().items;
    assert!(left < items && left > items / 8 * 7, "{left} of {items}");
    store.check();
}

/// A store beyond a limit that shrank is not stuck with what is dead in it.
#[test]
fn without_eviction_what_is_dead_makes_room_below_a_smaller_limit() {
    let store = Store::new(&Options::new(16 << 20, false)).unwrap();
    let mut handle = store.register();
    for number in 0..14_000 {
        set(&mut handle.batch(NOW), number).unwrap();
    }
    // Every segment keeps an eighth of its items: not one becomes free.
    for number in (0..14_000).filter(|number| number % 8 != 0) {
        let removal = handle.batch(NOW).remove(key(number).as_bytes(), Expected::Any);
        assert_eq!(removal, Removal::Removed);
    }
    handle.batch(NOW).set_memory_bytes(8 << 20).unwrap();
    let totals = store.totals();
    assert!(totals.segments_in_use <= totals.segments, "{totals:?}");
    for number in 14_000..18_000 {
        set(&mut handle.batch(NOW), number).unwrap();
    }
    assert_eq!(store.totals().items, 1750 + 4000);
    store.check();
}

#[test]
fn a_store_outgrows_the_limit_that_it_started_with() {
    let store = Store::new(&Options::new(1 << 20, true)).unwrap();
    let mut handle = store.register();
    handle.batch(NOW).set_memory_bytes(16 << 20).unwrap();
    assert!(handle.batch(NOW).set_memory_bytes(17 << 20).is_err(), "sixteen times is the most");
    assert_eq!(store.memory_bytes(), 16 << 20);
    for number in 0..10_000 {
        set(&mut handle.batch(NOW), number).unwrap();
    }
    let totals = store.totals();
    assert_eq!((totals.items, totals.evictions), (10_000, 0), "{totals:?}");
    store.check();
    // The smallest items: shards are as crowded as they can get.
    handle.batch(NOW).flush(0);
    (0..500_000).for_each(|number| set_small(&mut handle.batch(NOW), number));
    let totals = store.totals();
    assert!(totals.items > 350_000 && totals.evictions > 0, "{totals:?}");
    store.check();
}

/// Each has a segment of his own open, and so have those who move what stays.
#[test]
fn however_small_the_limit_everybody_can_store() {
    let store = Store::new(&Options::new(64 << 20, true)).unwrap();
    let mut handles: Vec<_> = (0..8).map(|_| store.register()).collect();
    let mut number = 0;
    for limit_bytes in [64 << 20, 1 << 20, 64 << 20, 256 << 10] {
        handles[0].batch(NOW).set_memory_bytes(limit_bytes).unwrap();
        for round in 0..60_000 {
            let handle = &mut handles[round % 8];
            set(&mut handle.batch(NOW), number).expect("there is something to evict");
            number += 1;
            if round == 30_000 {
                handle.batch(NOW).flush(0);
            }
        }
        store.check();
    }
}

/// Else the index of what was would leave no room for what is.
#[test]
fn the_index_follows_a_smaller_limit() {
    let store = Store::new(&Options::new(64 << 20, true)).unwrap();
    let mut handle = store.register();
    (0..900_000).for_each(|number| set_small(&mut handle.batch(NOW), number));
    let before = store.totals();
    handle.batch(NOW).set_memory_bytes(16 << 20).unwrap();
    let totals = store.totals();
    assert!(totals.index_bytes < before.index_bytes / 5 * 3, "{totals:?}, before {before:?}");
    assert!(totals.items > before.items / 5 * 2, "{totals:?}, before {before:?}");
    store.check();
    handle.batch(NOW).set_memory_bytes(64 << 20).unwrap();
    (0..900_000).for_each(|number| set_small(&mut handle.batch(NOW), number));
    assert_eq!(store.totals().items, before.items);
    store.check();
}

/// Of a running server, the memory itself.
#[test]
fn a_server_gives_back_what_is_beyond_a_smaller_limit() {
    let server = Server::start(&larder(), &["-m", "64"]);
    let mut client = Client::new(server.connect());
    let value = "v".repeat(10_000);
    let store_all = |client: &mut Client| {
        for number in 0..10_000 {
            let request = format!("set {number} 0 0 {}\r\n{value}", value.len());
            assert_eq!(client.ask(&request), "STORED");
        }
    };
    store_all(&mut client);
    assert!(server.resident_bytes() > 60 << 20, "the memory is used");
    assert_eq!(client.ask("cache_memlimit 16"), "OK");
    let is_within = || server.resident_bytes() < (16 << 20) + PROCESS_BYTES;
    await_true(is_within, "it gives back what it had beyond the limit");
    store_all(&mut client);
    assert!(is_within(), "and takes no more");
}

/// A process that may not have addresses for sixteen times its limit starts all the same.
#[test]
fn a_server_with_few_addresses_does_not_outgrow_its_limit() {
    let scratch = Scratch::new();
    let memory_file = scratch.file("memory");
    let kept = ["-m", "64", "-t", "2", "-e", memory_file.to_str().unwrap()];
    for flags in [&kept[..4], &kept] {
        let server = Server::start_limited("ulimit -v 1500000", &larder(), flags);
        let mut client = Client::new(server.connect());
        assert_eq!(client.ask("set k 0 0 1\r\nv"), "STORED");
        assert_eq!(client.ask("cache_memlimit 32"), "OK");
        let refusal = "MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust";
        assert_eq!(client.ask("cache_memlimit 80"), refusal);
        assert_eq!(client.ask("cache_memlimit 64"), "OK");
    }
}

fn set(batch: &mut Batch<'_>, number: u32) -> Result<(), OutOfMemory> {
    let mut draft = batch.reserve(key(number).as_bytes(), VALUE.len(), 0, Expiry::At(0))?;
    batch.fill(&mut draft, &VALUE);
    batch.publish(draft, Expected::Any).expect("nothing is expected");
    Ok(())
}

fn set_small(batch: &mut Batch<'_>, number: u32) {
    let draft = batch.reserve(&number.to_le_bytes(), 0, 0, Expiry::At(0)).expect("there is room");
    batch.publish(draft, Expected::Any).expect("nothing is expected");
}

fn key(number: u32) -> String {
    format!("key {number}")
}

const VALUE: [u8; 1000] = [7; 1000];
const NOW: u32 = 1_800_000_000;

/// What a server takes beside its limit: itself, and segments for moving.
const PROCESS_BYTES: u64 = 14 << 20;
