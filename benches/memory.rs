//! How much of the memory is payload: `cargo bench --bench memory` fills a store of 256 MiB with
//! distinct items of four shapes, each in a process of its own, and prints key and value bytes over
//! the resident memory of that process. Under `cargo test` it does so once, in 4 MiB.
//!
//! What memcached 1.6.45 reaches at `-m 256`, measured in the same way, stands beside it.

use larder::clock::Seconds;
use larder::store::{Expected, Expiry, Handle, Options, Store, Totals};
use std::env;
use std::process::Command;

/// Sizes in bytes, and what memcached reaches.
struct Shape {
    key_bytes: usize,
    value_bytes: usize,
    memcached: f64,
}

const SHAPES: [Shape; 4] = [
    Shape { key_bytes: 20, value_bytes: 30, memcached: 0.386 },
    Shape { key_bytes: 24, value_bytes: 100, memcached: 0.587 },
    Shape { key_bytes: 44, value_bytes: 270, memcached: 0.720 },
    Shape { key_bytes: 40, value_bytes: 1000, memcached: 0.819 },
];

fn main() {
    let arguments: Vec<String> = env::args().collect();
    let is_measured = arguments.iter().any(|argument| argument == "--bench");
    if let Some(at) = arguments.iter().position(|argument| argument == "--shape") {
        let shape = arguments[at + 1].parse::<usize>().expect("a number");
        return measure(&SHAPES[shape], if is_measured { 256 << 20 } else { 4 << 20 });
    }
    for shape in 0..SHAPES.len() {
        let mut command = Command::new(env::current_exe().expect("it runs"));
        command.args(["--shape", &shape.to_string()]);
        if is_measured {
            command.arg("--bench");
        }
        assert!(command.status().expect("it starts").success());
    }
}

fn measure(shape: &Shape, memory_bytes: usize) {
    let store = Store::new(&Options::new(memory_bytes, true)).expect("mapped");
    // As many as a server has by default, each with a segment of its own.
    let mut handles = [(); 4].map(|()| store.register());
    let mut housekeeper = store.housekeeper();
    let mut number = 0_u64;
    while store.totals().evictions < memory_bytes as u64 / 4096 {
        for _ in 0..100 {
            number += 1;
            let handle = &mut handles[usize::try_from(number % 4).expect("small")];
            put(handle, number, shape);
        }
        housekeeper.step(NOW);
    }
    let Totals { items, index_bytes, items_bytes, .. } = store.totals();
    let payload_bytes = items * (shape.key_bytes + shape.value_bytes) as u64;
    let resident_bytes = resident_bytes();
    println!(
        "key {} value {}: payload / RSS {:.3} (memcached {:.3}); {items} items, index {:.1} \
         and item {:.1} bytes each",
        shape.key_bytes,
        shape.value_bytes,
        payload_bytes as f64 / resident_bytes as f64,
        shape.memcached,
        index_bytes as f64 / items as f64,
        items_bytes as f64 / items as f64,
    );
}

fn put(handle: &mut Handle, number: u64, shape: &Shape) {
    let mut key = format!("{number:x}:").into_bytes();
    key.resize(shape.key_bytes, b'k');
    let value = vec![7; shape.value_bytes];
    let mut batch = handle.batch(NOW);
    let mut draft = batch.reserve(&key, value.len(), 0, Expiry::At(0)).expect("there is room");
    batch.fill(&mut draft, &value);
    batch.publish(draft, Expected::Any).expect("there is no condition");
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("the system says");
    let pages: u64 = statm.split(' ').nth(1).expect("the second").parse().expect("a number");
    pages * 4096
}

const NOW: Seconds = 1000;
