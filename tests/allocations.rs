//! A `get` allocates nothing. Every allocation of this test's thread is counted by the allocator
//! itself.

use larder::clock::Seconds;
use larder::store::{Expected, Expiry, Handle, Options, State, Store};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

#[test]
fn a_get_allocates_nothing() {
    let store = Store::new(&Options::new(16 << 20, true)).expect("the system has this much memory");
    let mut handle = store.register();
    let keys: Vec<Vec<u8>> = (0..KEYS).map(|number| format!("key {number}").into_bytes()).collect();
    for (number, key) in keys.iter().enumerate() {
        // Some of several pieces: those longer than a segment.
        set(&mut handle, key, if number.is_multiple_of(50) { 100_000 } else { number });
    }
    let mut value = Vec::with_capacity(100_000);
    let mut get_all = || {
        let (mut hits, mut misses) = (0, 0);
        for key in &keys {
            hits += u32::from(get(&mut handle, key, &mut value));
            misses += u32::from(!get(&mut handle, b"never stored", &mut value));
        }
        (hits, misses)
    };
    // The first round may still free what storing left behind.
    get_all();
    let before = allocations();
    assert_eq!(get_all(), (KEYS, KEYS));
    assert_eq!(allocations() - before, 0);
}

#[test]
fn an_allocation_is_counted() {
    let before = allocations();
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(allocations() - before, 1);
}

fn get(handle: &mut Handle, key: &[u8], value: &mut Vec<u8>) -> bool {
    let batch = handle.batch(NOW);
    let State::Hit(item) = batch.fetch(key).state else { return false };
    value.clear();
    item.value_chunks().for_each(|chunk| value.extend_from_slice(chunk));
    value.len() == item.value_bytes()
}

fn set(handle: &mut Handle, key: &[u8], value_bytes: usize) {
    let mut batch = handle.batch(NOW);
    let mut draft = batch.reserve(key, value_bytes, 0, Expiry::At(0)).expect("there is room");
    batch.fill(&mut draft, &vec![0; value_bytes]);
    batch.publish(draft, Expected::Any).expect("there is no condition");
}

/// How often this thread has asked for memory.
fn allocations() -> u64 {
    ALLOCATIONS.get()
}

struct Counting;

#[expect(unsafe_code, reason = "an allocator is unsafe by nature")]
// SAFETY: everything is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is the same, and `alloc` asked the system for it.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_bytes: usize) -> *mut u8 {
        count();
        // SAFETY: as for `dealloc`.
        unsafe { System.realloc(pointer, layout, new_bytes) }
    }
}

fn count() {
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    // A constant needs no allocation of its own to begin with, and a number none to end.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

const KEYS: u32 = 1000;

const NOW: Seconds = 1000;
