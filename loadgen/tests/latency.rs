//! What is known comes back: the null server holds its replies by known distributions and stalls as
//! told, and the latencies that are found must be those, in percentiles and on average.
//!
//! Noise only ever adds to a latency. So nothing may come back shorter, in any run, and of a few
//! runs one must be as quiet as the bound asks; a mistake in the measuring would be in all of them.
//! How much longer is a question to a quiet machine: `make test-long` asks for 2 %, and `make
//! test`, which must tell a mistake from a busy machine, for as much as no such mistake would stay
//! under.

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use loadgen::null_server::late::Delay;
use loadgen::process::Server;
use loadgen::random::Random;
use serde_json::Value;

/// What `loadgen` finds of a null server that was started for this run alone.
fn found(server_args: &str, load: &str) -> Value {
    let program = Path::new(env!("CARGO_BIN_EXE_null-server"));
    let args: Vec<_> = "--listen 127.0.0.1:0 ".split(' ').chain(server_args.split(' ')).collect();
    let args: Vec<_> = args.into_iter().filter(|arg| !arg.is_empty()).collect();
    let server = Server::start(program, &args, None).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(["--server", &server.address.to_string(), "--values", "constant", "--json"]);
    let output = command.args(load.split(' ')).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["unsent"], 0, "{found}");
    found
}

fn millis(found: &Value, figure: &str) -> f64 {
    found["latency"][figure].as_f64().unwrap() / 1e3
}

/// The figures, in milliseconds, come back no shorter than by two in a hundred and no longer than
/// allowed, besides what the same load finds of a server without delays.
#[track_caller]
fn assert_comes_back(server_args: &str, load: &str, figures: &[(&str, f64)]) {
    let _alone = ONE_AT_A_TIME.lock();
    let longest = 1.0 + allowed_excess_percent() / 100.0;
    let mut last = String::new();
    for _ in 0..ATTEMPTS {
        let base = found("", load);
        let late = found(server_args, load);
        last = format!(
            "{server_args}: {figures:?} and {} became {}",
            base["latency"], late["latency"]
        );
        let ratios = figures.iter().map(|(name, expected)| {
            assert!(millis(&late, name) > expected * 0.98, "{name}: {last}");
            (millis(&late, name) - millis(&base, name)) / expected
        });
        if ratios.fold(0.0, f64::max) < longest {
            return;
        }
    }
    panic!("{last}");
}

/// Delays drawn as the server draws them come back in percentiles and on average.
#[track_caller]
fn assert_delays_come_back(delay: &str, rate: u32, requests: usize, connections: u32) {
    let distribution: Delay = delay.parse().unwrap();
    let mut random = Random::new(SEED, 0);
    let delays = std::iter::repeat_with(|| distribution.draw(&mut random) as f64 / 1e6);
    // The first are for what is asked about the server before the run.
    let mut drawn: Vec<_> = delays.skip(QUESTIONS).take(requests).collect();
    drawn.sort_by(f64::total_cmp);
    let figures = [
        ("p50_us", drawn[requests / 2 - 1]),
        ("p90_us", drawn[requests / 10 * 9 - 1]),
        ("p99_us", drawn[requests / 100 * 99 - 1]),
        ("mean_us", drawn.iter().sum::<f64>() / requests as f64),
    ];
    let server_args = format!("--delay {delay} --seed {SEED}");
    let load = format!("--rate {rate} --requests {requests} --connections {connections}");
    assert_comes_back(&server_args, &load, &figures);
}

#[test]
fn a_fixed_delay_comes_back() {
    assert_delays_come_back("fixed:200ms", 500, 1000, 200);
}

#[test]
fn evenly_spread_delays_come_back() {
    assert_delays_come_back("uniform:100ms,300ms", 500, 1000, 200);
}

#[test]
fn exponential_delays_come_back() {
    assert_delays_come_back("exp:200ms", 500, 1500, 400);
}

#[test]
fn a_stall_counts_for_every_request_that_falls_into_it_in_an_open_loop() {
    // Of 100 ms each, at 0.5 s, 1 s, .., 3.5 s. The latency of what falls into one is what is left
    // of it, so between 0 and all of it, evenly.
    let (rate, seconds, stalls, stall) = (1000.0, 3.75, 7.0, 0.1);
    let requests = rate * seconds;
    // Above a latency lie as many as came in the time by which the stall is longer.
    let above = |share: f64| (stall - share * requests / (stalls * rate)) * 1e3;
    let mean = stalls * rate * stall * stall / 2.0 / requests * 1e3;
    let figures = [("p90_us", above(0.1)), ("p99_us", above(0.01)), ("mean_us", mean)];
    let load = format!("--rate {rate} --arrivals uniform --requests {requests} --connections 120");
    assert_comes_back("--stall every:500ms:100ms", &load, &figures);
}

#[test]
fn a_stall_counts_once_for_each_connection_in_a_closed_loop() {
    let _alone = ONE_AT_A_TIME.lock();
    let mut last = Value::Null;
    for _ in 0..ATTEMPTS {
        // Four requests, of some ten thousand in a second.
        last = found("--stall 200ms:100ms", "--seconds 1 --connections 4");
        if millis(&last, "p99_us") < 50.0 && millis(&last, "max_us") > 99.0 {
            return;
        }
    }
    panic!("{last}");
}

/// An open loop that counted from the send would lose four fifths of what a stall costs, and the
/// delays of one distribution are far from those of another.
fn allowed_excess_percent() -> f64 {
    let told = std::env::var("LARDER_LATENCY_EXCESS_PERCENT").ok();
    told.map_or(25.0, |percent| percent.parse().expect("a percentage"))
}

const SEED: u64 = 7;
const QUESTIONS: usize = 2;
const ATTEMPTS: u32 = 16;
/// Runs at the same time would be each other's noise.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
