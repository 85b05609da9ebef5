//! Of all who ask for a lease at the same time, one gets it, wherever its item is.

use super::random::Random;
use super::{START, THREADS, put, store};
use larder::store::{
    Amended, Amendment, Batch, Expected, Expiry, Handle, Marks, State, Store, Traits,
};
use std::sync::{Arc, Barrier};
use std::thread;

/// Ten thousand readers see that a stale item's lease is to be had before the first of them asks
/// for it: one gets it.
#[test]
fn a_lease_has_one_winner_among_ten_thousand_readers() {
    let store = store(8 << 20, true);
    put_stale(&mut store.register());
    let all_have_looked = Barrier::new(usize::try_from(THREADS).expect("few"));
    let winners: usize = thread::scope(|scope| {
        let ask = || look_then_ask(&store, &all_have_looked);
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    });
    assert_eq!(winners, 1);
}

/// Has a thread's share of the readers look, then, when all have, ask. Returns how many got it.
fn look_then_ask(store: &Arc<Store>, all_have_looked: &Barrier) -> usize {
    let mut handles: Vec<Handle> = (0..READERS / THREADS).map(|_| store.register()).collect();
    let batches: Vec<Batch<'_>> = handles.iter_mut().map(|handle| handle.batch(START)).collect();
    let seen: Vec<State<'_>> = batches.iter().map(|batch| batch.look(b"key")).collect();
    for lookup in &seen {
        let State::Hit(item) = lookup else { panic!("it is there") };
        assert!(item.is_stale() && !item.is_leased());
    }
    all_have_looked.wait();
    let readers = batches.iter().zip(&seen);
    let asked = readers.map(|(batch, seen)| batch.amend(b"key", seen.witness(), ASK_FOR_LEASE));
    asked.filter(|&amended| amended == Amended::Done { leased: true }).count()
}

/// The same while the item moves from place to place, again and again: a mark that was set in one
/// place must not be lost in the next.
#[test]
fn a_lease_has_one_winner_while_its_item_moves() {
    let store = store(256 << 10, true);
    let mut rounds_won = 0;
    for round in 0..LEASES {
        put_stale(&mut store.register());
        let winners: usize = thread::scope(|scope| {
            let stirring = scope.spawn(|| stir(&mut store.register(), &mut Random(round)));
            let threads: Vec<_> = (0..THREADS)
                .map(|_| scope.spawn(|| ask_repeatedly(&mut store.register())))
                .collect();
            stirring.join().expect("no panic");
            threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
        });
        assert!(winners <= 1, "{winners} winners");
        rounds_won += u64::try_from(winners).expect("few");
    }
    assert!(rounds_won > LEASES / 2, "mostly it was not evicted before: {rounds_won}");
    assert!(store.totals().moved > 0, "something was moved");
    store.check();
}

/// Returns how often the lease was got.
fn ask_repeatedly(handle: &mut Handle) -> usize {
    let mut won = 0;
    for _ in 0..20 {
        let batch = handle.batch(START);
        let lookup = batch.look(b"key");
        if let State::Hit(item) = lookup
            && !item.is_leased()
        {
            let amended = batch.amend(b"key", lookup.witness(), ASK_FOR_LEASE);
            won += usize::from(amended == Amended::Done { leased: true });
        }
    }
    won
}

/// Overwrites keys at random, so that parts of all segments are dead and what lives in them moves.
fn stir(handle: &mut Handle, random: &mut Random) {
    for _ in 0..300 {
        put(&mut handle.batch(START), &random.below(150_u64).to_le_bytes(), &[0; 900]);
    }
}

fn put_stale(handle: &mut Handle) {
    let traits = Traits { flags: 0, expiry: Expiry::At(0), cas: None, marks: Marks::NewStale };
    let mut batch = handle.batch(START);
    let draft = batch.reserve_with(b"key", 0, traits).expect("there is room");
    batch.publish(draft, Expected::Any).expect("there is no condition");
}

const READERS: u64 = 10_000;

const LEASES: u64 = 50;

const ASK_FOR_LEASE: Amendment = Amendment { expiry: None, lease: true };
