//! A `get` allocates nothing, in the store and in the whole server less its sockets. Every
//! allocation of this test's thread is counted by the allocator itself.

use larder::clock::Seconds;
use larder::command::{Context, Observer};
use larder::config::{Config, Dialects};
use larder::output::Output;
use larder::serve::{Limits, Session, Stop, serve};
use larder::shared::Shared;
use larder::store::{Expiry, Handle, Options, State, Store, Traits};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::IoSlice;

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
    let mut server = Connection::new(&shared);
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
    let meta = ("mg key-3 v k O1\r\n".to_owned(), "VA 3 kkey-3 O1\r\nvvv\r\n".to_owned());
    let metas = (meta.0.repeat(16), meta.1.repeat(16));
    let touching =
        ("mg a2V5LTM= b v t T0 R5 N9 C1\r\n".to_owned(), "VA 3 t-1\r\nvvv\r\n".to_owned());
    let large = ("mg key-50 s v q\r\n".to_owned(), {
        format!("VA 100000 s100000\r\n{}\r\n", "v".repeat(100_000))
    });
    let missing = ("mg missing v\r\nmg missing q\r\n".to_owned(), "EN\r\n".to_owned());
    for (input, answer) in [many, single, pipelined, meta, metas, touching, large, missing] {
        server.assert_allocates_nothing(input.as_bytes(), answer.as_bytes());
    }
}

#[test]
fn serving_a_binary_get_allocates_nothing() {
    let shared = Shared::new(Config::tiny(), Vec::new()).expect("the system has this much memory");
    let mut server = Connection::new(&shared);
    let setting = packet(0x80, 0x11, (0, 0), &[0, 0, 0, 7, 0, 0, 0, 0], b"key", b"value");
    assert_eq!(server.serve(&setting), b"");
    let get = packet(0x80, 0x0d, (0, 0), b"", b"key", b"");
    let hit = packet(0x81, 0x0d, (0, 1), &[0, 0, 0, 7], b"key", b"value");
    let miss = packet(0x80, 0x0c, (0, 0), b"", b"missing", b"");
    let missed = packet(0x81, 0x0c, (1, 0), b"", b"missing", b"");
    for times in [1, 16, 100] {
        server.assert_allocates_nothing(&get.repeat(times), &hit.repeat(times));
        server.assert_allocates_nothing(&miss.repeat(times), &missed.repeat(times));
    }
}

/// A packet of the binary protocol, with this status and cas.
fn packet(
    magic: u8,
    opcode: u8,
    (status, cas): (u8, u8),
    extras: &[u8],
    key: &[u8],
    value: &[u8],
) -> Vec<u8> {
    let length = |bytes: usize| u8::try_from(bytes).expect("a short packet");
    let (key_bytes, extras_bytes) = (length(key.len()), length(extras.len()));
    let body_bytes = length(extras.len() + key.len() + value.len());
    let mut packet = vec![magic, opcode, 0, key_bytes, extras_bytes, 0, 0, status];
    packet.extend([0, 0, 0, body_bytes, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, cas]);
    [&packet, extras, key, value].concat()
}

#[test]
fn an_allocation_is_counted() {
    let before = allocations();
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(allocations() - before, 1);
}

fn get(handle: &mut Handle, key: &[u8], value: &mut Vec<u8>) -> bool {
    let batch = handle.batch(NOW);
    let State::Hit(item) = batch.fetch(key) else { return false };
    value.clear();
    item.value_chunks().for_each(|chunk| value.extend_from_slice(chunk));
    value.len() == item.value_bytes()
}

fn set(handle: &mut Handle, key: &[u8], value_bytes: usize) {
    let mut batch = handle.batch(NOW);
    let traits = Traits::plain(0, Expiry::At(0));
    batch.put(key, &vec![0; value_bytes], traits).expect("there is room");
}

/// A connection without a socket.
struct Connection<'s> {
    shared: &'s Shared,
    handle: Handle,
    output: Output,
    answer: Vec<u8>,
}

impl<'s> Connection<'s> {
    fn new(shared: &'s Shared) -> Self {
        let output = Output::new(&shared.config);
        Self { shared, handle: shared.store.register(), output, answer: Vec::new() }
    }

    /// The answer to input that ends with a request.
    fn serve(&mut self, input: &[u8]) -> &[u8] {
        self.output.clear(usize::MAX);
        self.answer.clear();
        let mut context = Context {
            shared: self.shared,
            counters: &self.shared.workers[0].counters,
            batch: self.handle.batch(NOW),
            observer: Observer::new(self.shared),
        };
        let mut session = Session::new(&self.shared.config, Dialects::Any);
        let mut limits = Limits { requests: usize::MAX, output_bytes: usize::MAX };
        let served = serve(&mut context, &mut session, input, 0, &mut self.output, &mut limits);
        assert_eq!((served.consumed, served.stop), (input.len(), Stop::Input));
        let (mut pieces, end) = ([IoSlice::new(&[]); 1000], self.output.end());
        let count = self.output.pieces(end, &mut pieces);
        pieces[..count].iter().for_each(|piece| self.answer.extend_from_slice(piece));
        &self.answer
    }

    fn assert_allocates_nothing(&mut self, input: &[u8], answer: &[u8]) {
        // The first answer may make the output grow.
        assert_eq!(self.serve(input), answer);
        let before = allocations();
        assert_eq!(self.serve(input), answer);
        assert_eq!(allocations() - before, 0, "{}", input.escape_ascii());
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
