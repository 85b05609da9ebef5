//! A request allocates nothing. Every allocation of this test's thread is counted by the allocator
//! itself; the server runs on another thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use loadgen::engine::Plan;
use loadgen::engine::client::Client;
use loadgen::engine::limit::Limit;
use loadgen::engine::schedule::{Arrivals, Pace, Rate};
use loadgen::null_server;
use loadgen::truth::value::Values;
use loadgen::workload::Workload;
use loadgen::workload::traffic::{Part, Traffic};

#[test]
fn a_request_allocates_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || null_server::serve(listener, None));
    let open = Pace::Open(Rate::steady(1e6), Arrivals::Poisson);
    for (pace, pipeline, keys_per_get) in
        [(Pace::Closed, 1, 1), (Pace::Closed, 16, 10), (open, 4, 1)]
    {
        let workload = Workload {
            mix: "get:3,set:1".parse().unwrap(),
            values: Values::Constant,
            zipf: 1.0,
            one_hit: 0.1,
            drift: 1.0,
            keys_per_get,
            cache_aside: true,
            ..Workload::default()
        };
        let plan = Plan::new(workload, vec![address.into()]);
        let plan = Arc::new(Plan { pace, pipeline, connections: 5, ..plan });
        let traffic = Traffic::new(&plan.workload, Part::WHOLE);
        let mut client = Client::connect(&plan, Part::WHOLE, traffic).unwrap();
        let mut answered = 0;
        let mut run = |requests| {
            let mut observe = |_: u64, found: &loadgen::measure::Sample| {
                answered = found.counters.requests();
            };
            client.run(Limit::Requests(requests), Duration::MAX, &mut observe).unwrap();
        };
        // Buffers become as large as what happens to fall together needs, sooner or later.
        let none = (0..ATTEMPTS).any(|_| {
            let before = allocations();
            run(5000);
            allocations() == before
        });
        assert!(none && answered >= 5000, "{pace:?}");
    }
}

#[test]
fn an_allocation_is_counted() {
    let before = allocations();
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(allocations() - before, 1);
}

/// How often this thread has asked for memory.
fn allocations() -> u64 {
    ALLOCATIONS.get()
}

const ATTEMPTS: u32 = 10;

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
