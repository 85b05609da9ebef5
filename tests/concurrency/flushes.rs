//! Flushes, while others store, and change what is there.

use super::{START, THREADS, change, get, set, store};
use larder::store::Handle;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;

/// What was acknowledged before a flush began is not seen after it returned, in whatever way it may
/// come back; what is stored after it returned stays.
#[test]
fn a_flush_takes_all_that_was_and_nothing_that_comes() {
    let store = store(1 << 20, false);
    let flushes = Flushes::default();
    let is_over = AtomicBool::new(false);
    let (lost, kept) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (store, flushes, is_over, lost, kept) = (&store, &flushes, &is_over, &lost, &kept);
            scope.spawn(move || {
                let mut handle = store.register();
                let own = [b'k', u8::try_from(thread).expect("small")];
                while !is_over.load(SeqCst) {
                    match flushes.set_and_get(&mut handle, &own) {
                        Some(true) => kept.fetch_add(1, SeqCst),
                        Some(false) => lost.fetch_add(1, SeqCst),
                        None => 0,
                    };
                    // Goes on what was there: nothing of that is to outlive a flush either.
                    for _ in 0..20 {
                        flushes.prolong(&mut handle, b"shared");
                    }
                }
            });
        }
        let mut handle = store.register();
        while lost.load(SeqCst) < 100 || kept.load(SeqCst) < 100 {
            flushes.begun.fetch_add(1, SeqCst);
            handle.batch(START).flush(0);
            flushes.ended.fetch_add(1, SeqCst);
            for _ in 0..50 {
                thread::yield_now();
            }
        }
        is_over.store(true, SeqCst);
    });
    store.check();
}

/// How many flushes have begun, and how many have returned: one thread flushes.
#[derive(Default)]
struct Flushes {
    begun: AtomicU64,
    ended: AtomicU64,
    names: AtomicU64,
    /// By name: how many flushes had begun when the value had certainly been stored.
    known: Mutex<HashMap<u64, u64>>,
}

impl Flushes {
    /// Stores a key of this thread and gets it a while later. Returns whether it had to be there;
    /// `None` if a flush ran meanwhile.
    fn set_and_get(&self, handle: &mut Handle, key: &[u8]) -> Option<bool> {
        let ended_before = self.ended.load(SeqCst);
        set(handle, key, b"value");
        let begun = self.begun.load(SeqCst);
        thread::yield_now();
        let ended = self.ended.load(SeqCst);
        let is_there = get(handle, key).is_some();
        let begun_after = self.begun.load(SeqCst);
        if ended > begun {
            assert!(!is_there, "a flush ran between set and get");
            return Some(false);
        }
        if begun_after == ended_before {
            assert!(is_there, "no flush ran at all");
            return Some(true);
        }
        None
    }

    /// Adds to a value that begins with the name of the first that it goes back to.
    fn prolong(&self, handle: &mut Handle, key: &[u8]) {
        let ended = self.ended.load(SeqCst);
        let name = self.names.fetch_add(1, SeqCst);
        let mut is_first = false;
        change(handle, key, |old| {
            is_first = old.is_empty();
            if is_first {
                return name.to_le_bytes().to_vec();
            }
            let first = u64::from_le_bytes(*old.first_chunk().expect("a name"));
            if let Some(&begun) = self.known.lock().expect("no panic").get(&first) {
                assert!(begun >= ended, "there before flush {begun} ended, seen after {ended}");
            }
            [&old[..old.len().min(300)], b"+"].concat()
        });
        if is_first {
            self.known.lock().expect("no panic").insert(name, self.begun.load(SeqCst));
        }
    }
}
