//! From bytes to bytes: `cargo bench --bench serve`. What a server does for a request, less its
//! sockets; and of that the parser alone. Each bench asserts its answer; under `cargo test` all of
//! them run once, tiny.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use larder::clock::Seconds;
use larder::command::{Context, Observer};
use larder::config::{Config, Dialects};
use larder::output::Output;
use larder::protocol::text::{self, Parsed};
use larder::protocol::{Mode, Request, Retrieval, Storage};
use larder::serve::{Limits, Session, Stop, serve};
use larder::shared::Shared;
use larder::store::Handle;
use std::hint::black_box;

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    group.throughput(Throughput::Elements(1));
    let get = Request::Retrieve(Retrieval { cas: false, touch: None });
    let long_keys = " benchmark:0000000000".repeat(100);
    let storage = Storage { flags: 5, ..Storage::plain(Mode::Set, b"key", 100) };
    let lines: [(&str, String, Request<'_>, &str); 3] = [
        ("get", "get key\r\n".to_owned(), get, " key"),
        ("long get", format!("get{long_keys}\r\n"), get, &long_keys),
        ("set", "set key 5 0 100\r\n".to_owned(), Request::Store(storage), ""),
    ];
    for (name, line, request, keys) in lines {
        let expected = Parsed::Request(request, keys.as_bytes());
        group.bench_function(name, |bencher| {
            bencher.iter(|| assert_eq!(text::parse(black_box(line.as_bytes())).parsed, expected));
        });
    }
    group.finish();
}

fn serving(criterion: &mut Criterion) {
    let mut server = Server::new();
    let mut group = criterion.benchmark_group("serve");
    let get = |number: usize| format!("get {}\r\n", key(number));
    let value = |number: usize| format!("VALUE {} 0 100\r\n{VALUE}\r\nEND\r\n", key(number));
    let gets = |begin: usize| (begin..begin + PIPELINE).map(|number| get(number % KEYS)).collect();
    let values =
        |begin: usize| (begin..begin + PIPELINE).map(|number| value(number % KEYS)).collect();
    let miss = |number: usize| get(KEYS + number);
    let set = |number: usize| format!("set {} 0 0 100\r\n{VALUE}\r\n", key(number));
    bench(&mut group, &mut server, "set", 1, set, |_| "STORED\r\n".to_owned());
    bench(&mut group, &mut server, "hit", 1, get, value);
    bench(&mut group, &mut server, "miss", 1, miss, |_| "END\r\n".to_owned());
    bench(&mut group, &mut server, "16 pipelined gets", PIPELINE as u64, gets, values);
    let fetch = |number: usize| format!("mg {} v\r\n", key(number));
    let fetched = |_| format!("VA 100\r\n{VALUE}\r\n");
    let fetches =
        |begin: usize| (begin..begin + PIPELINE).map(|number| fetch(number % KEYS)).collect();
    let many_fetched = |begin: usize| (begin..begin + PIPELINE).map(fetched).collect();
    bench(&mut group, &mut server, "meta hit", 1, fetch, fetched);
    bench(&mut group, &mut server, "16 pipelined mg", PIPELINE as u64, fetches, many_fetched);
    group.finish();
}

/// Serves a request for each key in turn, all of them at least once, in an order that jumps about.
fn bench(
    group: &mut BenchmarkGroup<'_, WallTime>,
    server: &mut Server,
    name: &str,
    requests: u64,
    input: impl Fn(usize) -> String,
    answer: impl Fn(usize) -> String,
) {
    let inputs: Vec<_> = (0..KEYS).map(|number| (input(number), answer(number))).collect();
    for (input, answer) in &inputs {
        assert_eq!(server.serve(input.as_bytes()), answer.as_bytes());
    }
    let mut turn = 0;
    group.throughput(Throughput::Elements(requests));
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            turn = (turn + STRIDE) % KEYS;
            let (input, answer) = &inputs[turn];
            assert_eq!(server.serve(input.as_bytes()), answer.as_bytes());
        });
    });
}

/// A server without sockets, and one connection to it.
struct Server {
    shared: Shared,
    handle: Handle,
    session: Session,
    output: Output,
}

impl Server {
    fn new() -> Self {
        let shared = Shared::new(Config::tiny(), Vec::new()).expect("the system has the memory");
        let handle = shared.store.register();
        let session = Session::new(&shared.config, Dialects::Any);
        Self { shared, handle, session, output: Output::default() }
    }

    /// The answer to input that ends with a request.
    fn serve(&mut self, input: &[u8]) -> &[u8] {
        self.output.clear(usize::MAX);
        let mut context = Context {
            shared: &self.shared,
            counters: &self.shared.workers[0].counters,
            batch: self.handle.batch(NOW),
            observer: Observer::new(&self.shared),
        };
        let mut limits = Limits { requests: usize::MAX, output_bytes: usize::MAX };
        let served =
            serve(&mut context, &mut self.session, input, 0, &mut self.output, &mut limits);
        assert_eq!((served.consumed, served.stop), (input.len(), Stop::Input));
        self.output.copied()
    }
}

/// 20 bytes, as keys are.
fn key(number: usize) -> String {
    format!("benchmark:{number:010}")
}

criterion_group!(benches, parse, serving);
criterion_main!(benches);

const NOW: Seconds = 1000;
const KEYS: usize = 10_000;
/// Without a common divisor with the number of keys.
const STRIDE: usize = 6_007;
const PIPELINE: usize = 16;
/// 100 bytes.
const VALUE: &str = "vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv\
    vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv";
