//! A `get` allocates nothing, in the store and in the whole server less its sockets. Every
//! allocation of this test's thread is counted by the allocator itself.

use larder::clock::Seconds;
use larder::command::{Context, Observer};
use larder::config::Config;
use larder::serve::{Limits, Phase, Stop, serve};
use larder::shared::Shared;
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
fn serving_a_get_allocates_nothing() {
    let shared = Shared::new(Config::tiny(), Vec::new()).expect("the system has this much memory");
    let mut server =
        Connection { handle: shared.store.register(), output: Vec::new(), shared: &shared };
    let keys: Vec<String> = (0..100).map(|number| format!("key-{number}")).collect();
    let mut items = String::new();
    for (number, key) in keys.iter().enumerate() {
        let value = "v".repeat(if number.is_multiple_of(50) { 100_000 } else { number });
        let storing = format!("set {key} 7 0 {}\r\n{value}\r\n", value.len());
        assert_eq!(server.serve(storing.as_bytes()), b"STORED\r\n");
        items += &format!("VALUE {key} 7 {}\r\n{value}\r\n", value.len());
    }
    let single = ("get key-3\r\n".to_owned(), "VALUE key-3 7 3\r\nvvv\r\nEND\r\n".to_owned());
    let pipelined = (single.0.repeat(16), single.1.repeat(16));
    let many = (format!("get {} missing\r\n", keys.join(" ")), format!("{items}END\r\n"));
    for (input, answer) in [many, single, pipelined] {
        // The first answer may make the output grow.
        assert_eq!(server.serve(input.as_bytes()), answer.as_bytes());
        let before = allocations();
        assert_eq!(server.serve(input.as_bytes()), answer.as_bytes());
        assert_eq!(allocations() - before, 0, "{input}");
    }
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

/// A connection without a socket.
struct Connection<'s> {
    shared: &'s Shared,
    handle: Handle,
    output: Vec<u8>,
}

impl Connection<'_> {
    /// The answer to input that ends with a request.
    fn serve(&mut self, input: &[u8]) -> &[u8] {
        self.output.clear();
        let mut context = Context {
            shared: self.shared,
            counters: &self.shared.workers[0].counters,
            batch: self.handle.batch(NOW),
            observer: Observer::new(self.shared),
        };
        let mut phase = Phase::default();
        let mut limits = Limits { requests: usize::MAX, output_bytes: usize::MAX };
        let served = serve(&mut context, &mut phase, input, 0, &mut self.output, &mut limits);
        assert_eq!((served.consumed, served.stop), (input.len(), Stop::Input));
        &self.output
    }
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
