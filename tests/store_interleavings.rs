//! Single interleavings of two writers that chance seldom brings about, each laid out in one thread
//! with two handles.

use larder::clock::Seconds;
use larder::store::{
    Batch, Draft, Expected, Expiry, Item, Loan, Marks, Options, Removal, State, Store, Traits,
};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

/// A change that looked before a flush and publishes after it would bring back what was flushed.
#[test]
fn what_was_seen_before_a_flush_is_not_a_ground_to_publish_after_it() {
    let store = store(1 << 20, true);
    let (mut first, mut second) = (store.register(), store.register());
    set(&mut first.batch(NOW), b"key", b"old");
    let mut batch = first.batch(NOW);
    let witness = batch.peek(b"key").witness();
    let draft = draft(&mut batch, b"key", b"old and more");
    second.batch(NOW).flush(0);
    let refused = batch.publish(draft, Expected::Unchanged(witness));
    batch.discard(refused.expect_err("the key was flushed in between"));
    assert!(matches!(batch.peek(b"key"), State::Flushed));
}

/// A witness may outlive the item that it saw, because `reserve` lets go of old readers where it
/// must wait for room; another item of the key may then lie in the same place.
#[test]
fn a_witness_does_not_take_another_item_in_the_same_place_for_its_own() {
    let store = store(64 << 10, true);
    let (mut first, mut second) = (store.register(), store.register());
    let is_full = || store.totals().segments_in_use >= store.totals().segments;
    // As large as a segment, so that each lies where its segment begins.
    let value = [0; 3900];
    let mut same_place = 0;
    for round in 0..20 {
        set(&mut second.batch(NOW), b"key", &value);
        let mut batch = first.batch(NOW);
        let lookup = batch.peek(b"key");
        let (place, witness) = (address(&lookup), lookup.witness());
        while !is_full() {
            set(&mut second.batch(NOW), b"key", &value);
        }
        let draft = draft(&mut batch, b"other", &value);
        while !is_full() && address(&batch.peek(b"key")) != place {
            set(&mut second.batch(NOW), b"key", &value);
        }
        same_place += u32::from(address(&batch.peek(b"key")) == place);
        batch.discard(draft);
        let removal = batch.remove(b"key", Expected::Unchanged(witness));
        assert_eq!(removal, Removal::Changed, "round {round}: it was changed in between");
    }
    assert!(same_place > 0, "another item came to lie where the first had lain");
}

/// What an idle thread retired must come back to those that are at work.
#[test]
fn a_segment_that_an_idle_thread_emptied_is_used_again() {
    let (done, finished) = mpsc::channel();
    thread::spawn(move || {
        let store = store(64 << 10, false);
        let (mut idle, mut busy) = (store.register(), store.register());
        let keys: Vec<Vec<u8>> = (0_u32..40).map(|n| n.to_string().into_bytes()).collect();
        for key in &keys {
            set(&mut busy.batch(NOW), key, &[0; 900]);
        }
        for key in &keys {
            assert_ne!(idle.batch(NOW).remove(key, Expected::Any), Removal::Missing);
        }
        for key in &keys {
            set(&mut busy.batch(NOW), key, &[0; 900]);
        }
        done.send(store.totals().evictions).expect("somebody waits");
    });
    assert_eq!(finished.recv_timeout(Duration::from_secs(20)), Ok(0));
}

/// Head, fragment and head again: what is moved leads from one to the other as before.
#[test]
fn a_large_item_moves_piece_by_piece() {
    let store = store(52 << 10, false);
    let mut handle = store.register();
    // Head and last fragment each lie beside something small.
    set(&mut handle.batch(NOW), b"before", &[0; 2000]);
    set(&mut handle.batch(NOW), b"large", &LARGE);
    let mut places = Vec::new();
    for round in 0..400_u32 {
        // Half of what is stored stays a while, so that no segment becomes free by itself.
        set(&mut handle.batch(NOW), &(round % 40).to_le_bytes(), &[0; 700]);
        set(&mut handle.batch(NOW), &(40 + round % 2).to_le_bytes(), &[0; 700]);
        handle.batch(NOW).remove(b"before", Expected::Any);
        let batch = handle.batch(NOW);
        let State::Hit(item) = batch.peek(b"large") else { panic!("it is never evicted") };
        assert_eq!(item.value_chunks().flatten().copied().collect::<Vec<u8>>(), LARGE);
        places.push(item.value_chunks().map(<[u8]>::as_ptr).collect::<Vec<_>>());
        drop(batch);
        store.check();
    }
    let moves =
        |piece: usize| places.windows(2).filter(|two| two[0][piece] != two[1][piece]).count();
    assert!(moves(0) > 0 && moves(2) > 1, "head {} times, last fragment {}", moves(0), moves(2));
}

/// A value that is lent stays as it was, whatever becomes of its item, and its room comes back.
#[test]
fn what_is_lent_outlasts_its_item() {
    type End = fn(&mut Batch<'_>);
    let ends: [(&str, End); 4] = [
        ("overwritten", |batch| set(batch, b"large", &[1; 7000])),
        ("removed", |batch| assert_eq!(batch.remove(b"large", Expected::Any), Removal::Removed)),
        ("flushed", |batch| batch.flush(0)),
        ("evicted", |_| {}),
    ];
    for (end, make_end) in ends {
        let store = store(128 << 10, true);
        let mut handle = store.register();
        set(&mut handle.batch(NOW), b"large", &LARGE);
        let loans = lend(&store, b"large");
        assert_eq!(store.totals().segments_aside, 2, "{end}");
        make_end(&mut handle.batch(NOW));
        // Everything there is is used again, several times, by what is worth more.
        for n in 0..1000_u32 {
            let key = (n % 90).to_le_bytes();
            set(&mut handle.batch(NOW), &key, &[2; 3000]);
            for _ in 0..3 {
                assert!(matches!(handle.batch(NOW).fetch(&key), State::Hit(_)));
            }
        }
        assert!(
            !matches!(handle.batch(NOW).peek(b"large"), State::Hit(item) if
            item.value_chunks().flatten().eq(&LARGE)),
            "{end}"
        );
        let lent: Vec<u8> = loans.iter().flat_map(Loan::bytes).copied().collect();
        assert!(lent == LARGE, "{end}: it is as it was");
        let in_use = store.totals().segments_in_use;
        drop(loans);
        assert_eq!(store.totals().segments_aside, 0, "{end}");
        assert_eq!(store.totals().segments_in_use, in_use - 2, "{end}: its room is back");
        store.check();
    }
}

#[test]
fn three_quarters_of_the_memory_are_lent_and_no_more() {
    let store = store(256 << 10, true);
    let mut handle = store.register();
    for n in 0..10_u8 {
        set(&mut handle.batch(NOW), &[n], &[n; 20_000]);
    }
    let loans: Vec<Vec<Loan>> = (0..10).map(|n| lend(&store, &[n])).collect();
    let lent = loans.iter().filter(|loans| !loans.is_empty()).count();
    let totals = store.totals();
    assert!(
        (5..10).contains(&lent) && totals.segments_aside <= totals.segments / 4 * 3,
        "{totals:?}"
    );
    // Others find room in the last quarter, though much of what is lent is evicted meanwhile.
    (0..500_u32).for_each(|n| set(&mut handle.batch(NOW), &n.to_le_bytes(), &[9; 3000]));
    for (n, loans) in (0..).zip(&loans) {
        assert!(loans.iter().flat_map(Loan::bytes).all(|&byte| byte == n));
    }
    drop(loans);
    assert!(!lend(&store, &499_u32.to_le_bytes()).is_empty(), "it may be lent again");
    store.check();
}

/// A value that is received has segments of its own, which nobody clears.
#[test]
fn what_is_being_received_is_out_of_reach() {
    let store = store(128 << 10, true);
    let mut handle = store.register();
    let mut incoming = handle.batch(NOW).receive(b"key", 20_000, 0, None).expect("it is large");
    let mut received = 0;
    loop {
        let room = incoming.room();
        received += room.len();
        room.fill(5);
        let bytes = room.len();
        incoming.advance(bytes);
        (0..200_u32).for_each(|n| set(&mut handle.batch(NOW), &n.to_le_bytes(), &[2; 3000]));
        handle.batch(NOW).flush(0);
        if !handle.batch(NOW).make_room(&mut incoming) {
            break;
        }
    }
    assert!(received > 15_000);
    let mut batch = handle.batch(NOW);
    let traits = Traits { flags: 0, expiry: Expiry::At(0), cas: None, marks: Marks::New };
    let mut draft = batch.complete(incoming, traits).expect("there is room");
    batch.fill(&mut draft, &vec![5; 20_000 - received]);
    batch.publish(draft, Expected::Any).expect("there is no condition");
    let State::Hit(item) = batch.peek(b"key") else { panic!("it was stored") };
    assert!(item.value_bytes() == 20_000 && item.value_chunks().flatten().all(|&byte| byte == 5));
    drop(batch);
    store.check();
}

#[test]
#[should_panic(expected = "a value of this store")]
fn what_is_received_belongs_to_its_store() {
    let (mut first, mut second) =
        (store(1 << 20, true).register(), store(1 << 20, true).register());
    let incoming = first.batch(NOW).receive(b"key", 20_000, 0, None).expect("it is large");
    let traits = Traits { flags: 0, expiry: Expiry::At(0), cas: None, marks: Marks::New };
    drop(second.batch(NOW).complete(incoming, traits));
}

/// Else safe code could write where the bytes of another store lie.
#[test]
#[should_panic(expected = "a draft of this handle")]
fn a_draft_belongs_to_its_handle() {
    let (mut first, mut second) =
        (store(1 << 20, true).register(), store(1 << 20, true).register());
    let draft = draft(&mut first.batch(NOW), b"key", b"value");
    drop(second.batch(NOW).publish(draft, Expected::Any));
}

fn store(memory_bytes: usize, evict: bool) -> Arc<Store> {
    Store::new(&Options { memory_bytes, segment_bytes: 4096, shards_log2: 1, evict })
        .expect("the system has this much memory")
}

fn draft(batch: &mut Batch<'_>, key: &[u8], value: &[u8]) -> Draft {
    let mut draft = batch.reserve(key, value.len(), 0, Expiry::At(0)).expect("there is room");
    batch.fill(&mut draft, value);
    draft
}

fn set(batch: &mut Batch<'_>, key: &[u8], value: &[u8]) {
    let draft = draft(batch, key, value);
    batch.publish(draft, Expected::Any).expect("there is no condition");
}

fn lend(store: &Arc<Store>, key: &[u8]) -> Vec<Loan> {
    let mut handle = store.register();
    let batch = handle.batch(NOW);
    let mut loans = Vec::new();
    if let State::Hit(item) = batch.peek(key) {
        store.lend(&item, |loan| loans.push(loan));
    }
    loans
}

fn address(state: &State<'_>) -> *const u8 {
    match state {
        State::Hit(item) => Item::key(item).as_ptr(),
        _ => std::ptr::null(),
    }
}

/// Of a head, a fragment as large as a segment, and one that is smaller.
const LARGE: [u8; 7000] = [7; 7000];

const NOW: Seconds = 1000;
