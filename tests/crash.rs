//! Kills under load. Writers store (some of it for a second or two), compare and store, append to,
//! count up, touch and delete keys of their own on a server with a memory file, in short pipelines,
//! and sometimes all is flushed between them; the server is killed at a random moment and started
//! again, and each key must be as its writer knows it: what was acknowledged last, or what was
//! asked for after that and not answered. Nothing else, no cas a second time, nothing that was
//! flushed or whose time is over, and no miss unless items were evicted. A flush that was not
//! answered has happened to everything or to nothing.
//!
//! `LARDER_CRASH_KILLS` says how often (`make test-long`: some hundreds of times).

mod support;
#[path = "crash/writer.rs"]
mod writer;

use larder::clock::Clock;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::{HashMap, HashSet};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::thread;
use support::{Random, Scratch, Server, await_true, larder};
use writer::{Held, Writer};

#[test]
fn a_kill_loses_nothing_that_was_acknowledged() {
    let scratch = Scratch::new();
    let file = scratch.file("memory");
    let flags = ["-m", "16", "-t", "2", "-e", file.to_str().expect("plain")];
    let plan = Plan { keys: 300, large_keys: 6, value_bytes_max: 1500, is_strict: true };
    let seen = run(&flags, plan, kills() * 3 / 4);
    assert!(seen.moved > 0, "what was dead was gathered");
    assert!(seen.flushes > 0 && seen.compared > 0 && seen.ended > 0, "{seen:?}");
}

#[test]
fn a_kill_brings_nothing_back_that_was_evicted_or_replaced() {
    let scratch = Scratch::new();
    let file = scratch.file("memory");
    let flags = ["-m", "4", "-t", "2", "-e", file.to_str().expect("plain")];
    let plan = Plan { keys: 3000, large_keys: 10, value_bytes_max: 3000, is_strict: false };
    run(&flags, plan, kills() / 4);
}

/// What the writers do.
#[derive(Clone, Copy)]
struct Plan {
    keys: usize,
    /// Of these, so many have values of several segments.
    large_keys: usize,
    value_bytes_max: usize,
    /// There is room for everything, so that nothing may be missing.
    is_strict: bool,
}

/// What happened meanwhile, lest a test prove nothing.
#[derive(Debug, Default)]
struct Seen {
    /// Items moved in memory.
    moved: u64,
    flushes: u64,
    /// Values stored on condition of a cas, or refused for it.
    compared: u64,
    /// Values that a killed server held whose time was over when the next one had started.
    ended: u64,
}

/// Kills a server so many times, then stops it in order.
fn run(flags: &[&str], plan: Plan, kills: u64) -> Seen {
    let mut random = Random(0x5eed + kills);
    let world = World::new();
    let mut writers: Vec<Writer> = (0..WRITERS).map(|number| Writer::new(number, plan)).collect();
    let mut newest_cas = 0;
    let mut seen = Seen::default();
    let (mut found, mut missing) = (0, 0);
    let mut slowest_us = 0;
    let mut server = Server::start(&larder(), flags);
    for round in 0..=kills {
        let is_last = round == kills;
        let answers = random.below(4000);
        let flush = if plan.is_strict { random.below(4) } else { 3 };
        let flush = [Flush::Answered, Flush::Cut].get(flush).copied();
        write_until(&world, &mut writers, &mut server, answers, flush, is_last);
        seen.flushes += u64::from(flush.is_some());
        if is_last {
            // What is to end has ended before the last start, while no server runs.
            let ends = writers.iter().flat_map(|writer| writer.acknowledged.values());
            let last = ends.filter_map(Held::end).max().unwrap_or(0);
            await_true(|| world.clock.now_seconds() > last, "time goes on");
        }
        if round % 3 == 0 {
            start_in_vain(flags, random.below(3000));
        }
        server = Server::start(&larder(), flags);
        let mut client = Client::new(server.connect());
        let stats = client.stats("stats larder");
        assert_eq!(stats["restart_state"], "resumed", "round {round}");
        assert_eq!(stats["restart_segments_damaged"], "0", "round {round}");
        slowest_us = slowest_us.max(number(&stats, "restart_us"));
        let is_flushed = flush == Some(Flush::Cut) && are_all_gone(&mut client, &writers);
        let mut newest_here = 0;
        for writer in &mut writers {
            if is_flushed {
                writer.forget_all();
            }
            for key in writer.keys() {
                let asked = world.clock.now_seconds();
                let answer = client.get(&key);
                let moment = (asked, world.clock.now_seconds());
                newest_here = newest_here.max(answer.as_ref().map_or(0, |(_, cas)| *cas));
                seen.ended += u64::from(writer.has_ended(&key, asked));
                let is_missing = writer.settle(&key, answer.as_ref(), moment, round);
                missing += u64::from(is_missing);
                found += u64::from(answer.is_some());
            }
        }
        let cas = client.store_probe();
        assert!(cas > newest_here.max(newest_cas), "round {round}: a cas is not given twice");
        newest_cas = cas;
        let evictions = number(&client.stats("stats"), "evictions");
        assert!(!plan.is_strict || (evictions, missing) == (0, 0), "round {round}: {missing}");
        seen.moved += number(&client.stats("stats larder"), "items_moved");
    }
    seen.compared = writers.iter().map(|writer| writer.compared).sum();
    let share = 100.0 * found as f64 / (found + missing) as f64;
    println!(
        "{kills} kills: {share:.2} % of what was stored found again, the rest evicted; in \
         {slowest_us} µs at most; {seen:?}"
    );
    seen
}

/// Whether a flush has happened: nothing that was acknowledged to be there is.
fn are_all_gone(client: &mut Client, writers: &[Writer]) -> bool {
    let mut held = writers.iter().flat_map(|writer| {
        let asked: HashSet<_> = writer.in_flight.iter().map(|asked| &asked.key).collect();
        let lasting = writer.acknowledged.iter().filter(|(_, held)| held.lasts());
        lasting.map(|(key, _)| key).filter(move |key| !asked.contains(key))
    });
    held.all(|key| client.get(key).is_none())
}

/// Starts a server and kills it, most likely while it is still finding what is there.
fn start_in_vain(flags: &[&str], patience: usize) {
    let started = Command::new(larder())
        .args(["-l", "127.0.0.1", "-p", "-1", "-u", "root"])
        .args(flags)
        .stderr(Stdio::null())
        .spawn();
    let mut server = started.expect("it can be started");
    (0..patience).for_each(|_| thread::yield_now());
    server.kill().expect("it runs");
    server.wait().expect("it ends");
}

/// A flush of everything in the middle of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flush {
    Answered,
    /// The server is killed before it answers.
    Cut,
}

/// What all writers share.
struct World {
    clock: Clock,
    /// Held by each writer from a pipeline to its answers, and by who flushes.
    turn: RwLock<()>,
    answered: AtomicU64,
    flushes: AtomicU64,
    cas_given: Mutex<HashSet<u64>>,
}

impl World {
    fn new() -> Self {
        Self {
            clock: Clock::start(),
            turn: RwLock::new(()),
            answered: AtomicU64::new(0),
            flushes: AtomicU64::new(0),
            cas_given: Mutex::default(),
        }
    }

    fn note_cas(&self, cas: u64) {
        let mut given = self.cas_given.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(given.insert(cas), "{cas} is given a second time");
    }
}

/// Has the writers write until so many requests were answered, and then ends the server.
fn write_until(
    world: &World,
    writers: &mut [Writer],
    server: &mut Server,
    answers: u64,
    flush: Option<Flush>,
    in_order: bool,
) {
    world.answered.store(0, Ordering::Relaxed);
    let streams: Vec<TcpStream> = writers.iter().map(|_| server.connect()).collect();
    thread::scope(|scope| {
        let mut running = Vec::new();
        for (writer, stream) in writers.iter_mut().zip(streams) {
            running.push(scope.spawn(move || {
                let _killed = writer.write(Client::new(stream), world);
            }));
        }
        let await_answers = |answers| {
            while world.answered.load(Ordering::Relaxed) < answers {
                assert!(running.iter().any(|writer| !writer.is_finished()), "a writer goes on");
                thread::yield_now();
            }
        };
        if flush == Some(Flush::Answered) {
            await_answers(answers / 2);
            let _turn = world.turn.write().expect("no writer panics with it");
            assert_eq!(Client::new(server.connect()).ask("flush_all"), "OK");
            world.flushes.fetch_add(1, Ordering::Relaxed);
        }
        await_answers(answers);
        let cut = (flush == Some(Flush::Cut)).then(|| {
            let turn = world.turn.write().expect("no writer panics with it");
            let mut stream = server.connect();
            stream.write_all(b"flush_all\r\n").expect("it listens");
            (turn, stream)
        });
        let process = server.process();
        let id = Pid::from_raw(i32::try_from(process.id()).expect("a process id"));
        kill(id, if in_order { Signal::SIGTERM } else { Signal::SIGKILL }).expect("it runs");
        drop(cut);
        process.wait().expect("it ends");
    });
    writers.iter_mut().for_each(|writer| writer.note_flushes(world));
}

struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    fn new(stream: TcpStream) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let Some(line) = line.strip_suffix("\r\n") else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        Ok(line.to_owned())
    }

    fn ask(&mut self, request: &str) -> String {
        let stream = self.stream.get_mut();
        stream.write_all(format!("{request}\r\n").as_bytes()).expect("it listens");
        self.line().expect("it answers")
    }

    /// Value and cas.
    fn get(&mut self, key: &str) -> Option<(Vec<u8>, u64)> {
        let head = self.ask(&format!("gets {key}"));
        let mut words = head.strip_prefix("VALUE ")?.split(' ').skip(2);
        let bytes: usize = words.next()?.parse().ok()?;
        let cas = words.next()?.parse().ok()?;
        let mut value = vec![0; bytes + "\r\nEND\r\n".len()];
        self.stream.read_exact(&mut value).expect("the whole value");
        value.truncate(bytes);
        Some((value, cas))
    }

    fn stats(&mut self, request: &str) -> HashMap<String, String> {
        let mut line = self.ask(request);
        let mut stats = HashMap::new();
        while let Some(stat) = line.strip_prefix("STAT ") {
            let (name, value) = stat.split_once(' ').expect("a name and a value");
            stats.insert(name.to_owned(), value.to_owned());
            line = self.line().expect("an end");
        }
        stats
    }

    /// Stores something else and returns its cas.
    fn store_probe(&mut self) -> u64 {
        assert_eq!(self.ask("set probe 0 0 1\r\n."), "STORED");
        self.get("probe").expect("it was stored").1
    }
}

fn number(stats: &HashMap<String, String>, name: &str) -> u64 {
    stats[name].parse().expect("a number")
}

fn kills() -> u64 {
    std::env::var("LARDER_CRASH_KILLS").map_or(20, |kills| kills.parse().expect("a number"))
}

const WRITERS: usize = 3;

/// So many requests and one more may be without an answer.
const PIPELINE: usize = 6;

/// Some segments.
const LARGE_BYTES: usize = 200_000;
