//! Kills under load. Writers store, append to, count up, touch and delete keys of their own on a
//! server with a memory file, in short pipelines; the server is killed at a random moment and
//! started again, and each key must be as its writer knows it: what was acknowledged last, or what
//! was asked for after that and not answered. Nothing else, and no miss unless items were evicted.
//!
//! `LARDER_CRASH_KILLS` says how often (`make test-long`: some hundreds of times).

mod support;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::{HashMap, VecDeque};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use support::{Random, Scratch, Server, larder};

#[test]
fn a_kill_loses_nothing_that_was_acknowledged() {
    let scratch = Scratch::new();
    let file = scratch.file("memory");
    let flags = ["-m", "16", "-t", "2", "-e", file.to_str().expect("plain")];
    let plan = Plan { keys: 300, large_keys: 6, value_bytes_max: 1500, is_strict: true };
    let moved = run(&flags, plan, kills() * 3 / 4);
    assert!(moved > 0, "what was dead was gathered");
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

/// Kills a server so many times, then stops it in order. Returns how many items it moved in memory
/// meanwhile.
fn run(flags: &[&str], plan: Plan, kills: u64) -> u64 {
    let mut random = Random(0x5eed + kills);
    let mut writers: Vec<Writer> = (0..WRITERS).map(|number| Writer::new(number, plan)).collect();
    let mut newest_cas = 0;
    let (mut moved, mut found, mut missing) = (0, 0, 0);
    let mut slowest_us = 0;
    let mut server = Server::start(&larder(), flags);
    for round in 0..=kills {
        let is_last = round == kills;
        write_until(&mut writers, &mut server, random.below(4000), is_last);
        if round % 3 == 0 {
            start_in_vain(flags, random.below(3000));
        }
        server = Server::start(&larder(), flags);
        let mut client = Client::new(server.connect());
        let stats = client.stats("stats larder");
        assert_eq!(stats["restart_state"], "resumed", "round {round}");
        assert_eq!(stats["restart_segments_damaged"], "0", "round {round}");
        slowest_us = slowest_us.max(number(&stats, "restart_us"));
        let mut newest_here = 0;
        for writer in &mut writers {
            for key in writer.keys() {
                let answer = client.get(&key);
                newest_here = newest_here.max(answer.as_ref().map_or(0, |(_, cas)| *cas));
                let answer = answer.map(|(value, _)| value);
                let is_missing = writer.settle(&key, answer.as_deref(), round);
                missing += u64::from(is_missing);
                found += u64::from(answer.is_some());
            }
        }
        let cas = client.store_probe();
        assert!(cas > newest_here.max(newest_cas), "round {round}: a cas is not given twice");
        newest_cas = cas;
        let evictions = number(&client.stats("stats"), "evictions");
        assert!(!plan.is_strict || (evictions, missing) == (0, 0), "round {round}: {missing}");
        moved += number(&client.stats("stats larder"), "items_moved");
    }
    let share = 100.0 * found as f64 / (found + missing) as f64;
    println!(
        "{kills} kills: {share:.2} % of what was stored found again, the rest evicted; in \
         {slowest_us} µs at most"
    );
    moved
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

/// Has the writers write until so many requests were answered, and then ends the server.
fn write_until(writers: &mut [Writer], server: &mut Server, answers: u64, in_order: bool) {
    let answered = AtomicU64::new(0);
    let streams: Vec<TcpStream> = writers.iter().map(|_| server.connect()).collect();
    thread::scope(|scope| {
        let mut running = Vec::new();
        for (writer, stream) in writers.iter_mut().zip(streams) {
            let answered = &answered;
            running.push(scope.spawn(move || {
                let _killed = writer.write(Client::new(stream), answered);
            }));
        }
        while answered.load(Ordering::Relaxed) < answers {
            assert!(running.iter().any(|writer| !writer.is_finished()), "a writer goes on");
            thread::yield_now();
        }
        let process = server.process();
        let id = Pid::from_raw(i32::try_from(process.id()).expect("a process id"));
        kill(id, if in_order { Signal::SIGTERM } else { Signal::SIGKILL }).expect("it runs");
        process.wait().expect("it ends");
    });
}

/// What a key holds: pieces, each of a version and a length; or a number.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Held {
    Nothing,
    Pieces(Vec<(u64, usize)>),
    Number(u64),
}

/// One client and what it knows of its keys.
struct Writer {
    number: usize,
    plan: Plan,
    random: Random,
    version: u64,
    acknowledged: HashMap<String, Held>,
    /// Requests without an answer: what their keys hold when they are carried out.
    in_flight: VecDeque<(String, Held)>,
}

impl Writer {
    fn new(number: usize, plan: Plan) -> Self {
        let random = Random(0xface + number as u64);
        let (acknowledged, in_flight) = (HashMap::new(), VecDeque::new());
        Self { number, plan, random, version: 0, acknowledged, in_flight }
    }

    fn keys(&self) -> Vec<String> {
        (0..self.plan.keys).map(|key| format!("{}:{key}", self.number)).collect()
    }

    /// Writes until the server is gone.
    fn write(&mut self, mut client: Client, answered: &AtomicU64) -> io::Result<()> {
        loop {
            let mut requests = Vec::new();
            for _ in 0..=self.random.below(PIPELINE) {
                self.request(&mut requests);
            }
            client.stream.get_mut().write_all(&requests)?;
            while let Some((key, held)) = self.in_flight.front().cloned() {
                let reply = client.line()?;
                if self.plan.is_strict {
                    let is_right = matches!(&*reply, "STORED" | "DELETED" | "TOUCHED")
                        || held == reply.parse().map_or(Held::Nothing, Held::Number);
                    assert!(is_right, "{reply} for {key}, which is to hold {held:?}");
                }
                self.in_flight.pop_front();
                self.acknowledged.insert(key, held);
                answered.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Adds a request, and what it will make of its key.
    fn request(&mut self, requests: &mut Vec<u8>) {
        let number = self.random.below(self.plan.keys);
        let is_large = number < self.plan.large_keys;
        let key = format!("{}:{number}", self.number);
        let last = self.in_flight.iter().rev().find(|(other, _)| *other == key);
        let before = last.map(|(_, held)| held).or_else(|| self.acknowledged.get(&key));
        let before = before.cloned().unwrap_or(Held::Nothing);
        let what = if self.plan.is_strict { self.random.below(10) } else { 9 };
        self.version += 1;
        let after = match (what, before) {
            (0 | 1, Held::Pieces(mut pieces)) if pieces.len() < 5 => {
                pieces.push((self.version, self.random.below(200)));
                let value = value(&key, &pieces[pieces.len() - 1..]);
                put(requests, "append", &key, &value);
                Held::Pieces(pieces)
            }
            (0..=2, Held::Number(held)) => {
                requests.extend(format!("incr {key} 7\r\n").bytes());
                Held::Number(held + 7)
            }
            (2, before @ Held::Pieces(_)) => {
                requests.extend(format!("touch {key} 10000\r\n").bytes());
                before
            }
            (3, Held::Pieces(_) | Held::Number(_)) => {
                requests.extend(format!("delete {key}\r\n").bytes());
                Held::Nothing
            }
            (4, _) => {
                let number = self.version * 1000;
                put(requests, "set", &key, number.to_string().as_bytes());
                Held::Number(number)
            }
            _ => {
                let most = if is_large { LARGE_BYTES } else { self.plan.value_bytes_max };
                let pieces = vec![(self.version, self.random.below(most))];
                put(requests, "set", &key, &value(&key, &pieces));
                Held::Pieces(pieces)
            }
        };
        self.in_flight.push_back((key, after));
    }

    /// Holds what was found of a key against what is known of it, and knows it from now on. Returns
    /// whether it is missing.
    fn settle(&mut self, key: &str, found: Option<&[u8]>, round: u64) -> bool {
        let known = self.acknowledged.get(key).cloned().unwrap_or(Held::Nothing);
        let asked = self.in_flight.iter().filter(|(other, _)| other == key);
        let mut possible = vec![known];
        possible.extend(asked.map(|(_, held)| held.clone()));
        self.in_flight.retain(|(other, _)| other != key);
        let agrees = |held: &&Held| match (held, found) {
            (Held::Nothing, None) => true,
            (Held::Pieces(pieces), Some(found)) => value(key, pieces) == found,
            (Held::Number(number), Some(found)) => number.to_string().as_bytes() == found,
            _ => false,
        };
        // The latest that fits: repeated requests may leave the same behind.
        if let Some(held) = possible.iter().rev().find(agrees).cloned() {
            self.acknowledged.insert(key.to_owned(), held);
            return false;
        }
        let shown = found.map(|found| String::from_utf8_lossy(&found[..found.len().min(80)]));
        let may_miss = !self.plan.is_strict && found.is_none();
        assert!(may_miss, "round {round}: {key} is {shown:?} and not one of {possible:?}");
        self.acknowledged.insert(key.to_owned(), Held::Nothing);
        true
    }
}

/// Bytes that tell key and versions.
fn value(key: &str, pieces: &[(u64, usize)]) -> Vec<u8> {
    let mut value = Vec::new();
    for &(version, bytes) in pieces {
        value.extend(format!("<{key} {version} {bytes}>").bytes());
        let mut random = Random(version + 1);
        value.extend(random.bytes(bytes));
    }
    value
}

fn put(requests: &mut Vec<u8>, command: &str, key: &str, value: &[u8]) {
    requests.extend(format!("{command} {key} 0 0 {}\r\n", value.len()).bytes());
    requests.extend(value);
    requests.extend(b"\r\n");
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
