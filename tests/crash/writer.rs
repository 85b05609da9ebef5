//! A writer: what it asks for, and what it knows of its keys.

use super::{Client, LARGE_BYTES, PIPELINE, Plan, World};
use crate::support::Random;
use larder::clock::Seconds;
use std::collections::{HashMap, VecDeque};
use std::io::{self, Write};
use std::sync::atomic::Ordering;

/// What a key holds: pieces, each of a version and a length; or a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Held {
    Nothing,
    Pieces(Vec<(u64, usize)>),
    Number(u64),
    /// One piece, up to a second.
    Ending((u64, usize), Seconds),
}

impl Held {
    pub(super) fn end(&self) -> Option<Seconds> {
        if let Self::Ending(_, end) = self { Some(*end) } else { None }
    }

    pub(super) fn lasts(&self) -> bool {
        matches!(self, Self::Pieces(_) | Self::Number(_))
    }

    /// Whether this may be what was found between two moments.
    fn agrees(
        &self,
        key: &str,
        found: Option<&[u8]>,
        (asked, answered): (Seconds, Seconds),
    ) -> bool {
        match (self, found) {
            (Self::Nothing, None) => true,
            (Self::Pieces(pieces), Some(found)) => value(key, pieces) == found,
            (Self::Number(number), Some(found)) => number.to_string().as_bytes() == found,
            (Self::Ending(piece, end), Some(found)) => {
                asked <= *end && value(key, &[*piece]) == found
            }
            (Self::Ending(_, end), None) => answered >= *end,
            _ => false,
        }
    }
}

/// A request without an answer.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) key: String,
    /// What the key holds when it is carried out.
    held: Held,
    answer: Answer,
}

/// What a request is answered with, if nothing was evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Line(&'static str),
    /// The number that the key holds.
    Number,
    /// `HD` and a cas.
    Cas,
}

/// One client and what it knows of its keys.
pub(super) struct Writer {
    number: usize,
    plan: Plan,
    random: Random,
    version: u64,
    pub(super) acknowledged: HashMap<String, Held>,
    pub(super) in_flight: VecDeque<Asked>,
    /// The cas of what keys hold, where it was told.
    cas: HashMap<String, u64>,
    /// How many flushes it knows of.
    flushes: u64,
    pub(super) compared: u64,
}

impl Writer {
    pub(super) fn new(number: usize, plan: Plan) -> Self {
        let random = Random(0xface + number as u64);
        Self {
            number,
            plan,
            random,
            version: 0,
            acknowledged: HashMap::new(),
            in_flight: VecDeque::new(),
            cas: HashMap::new(),
            flushes: 0,
            compared: 0,
        }
    }

    pub(super) fn keys(&self) -> Vec<String> {
        (0..self.plan.keys).map(|key| format!("{}:{key}", self.number)).collect()
    }

    /// Writes until the server is gone.
    pub(super) fn write(&mut self, mut client: Client, world: &World) -> io::Result<()> {
        loop {
            let _turn = world.turn.read().expect("who flushes does not panic");
            self.note_flushes(world);
            let mut requests = Vec::new();
            let end = world.clock.now_seconds() + 1;
            for _ in 0..=self.random.below(PIPELINE) {
                self.request(&mut requests, end);
            }
            client.stream.get_mut().write_all(&requests)?;
            while let Some(asked) = self.in_flight.front().cloned() {
                let reply = client.line()?;
                let cas = reply.strip_prefix("HD c").and_then(|cas| cas.parse().ok());
                let is_right = match asked.answer {
                    Answer::Line(line) => reply == line,
                    Answer::Number => reply.parse().is_ok_and(|n| asked.held == Held::Number(n)),
                    Answer::Cas => cas.is_some(),
                };
                assert!(is_right || !self.plan.is_strict, "{reply} to {asked:?}");
                match cas {
                    Some(cas) => {
                        world.note_cas(cas);
                        self.cas.insert(asked.key.clone(), cas);
                    }
                    // What was refused has changed nothing.
                    None if reply == "EX" => {}
                    None => drop(self.cas.remove(&asked.key)),
                }
                self.in_flight.pop_front();
                self.acknowledged.insert(asked.key, asked.held);
                world.answered.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Adds a request, and what it will make of its key. What is to end ends at `end` or a second
    /// later.
    fn request(&mut self, requests: &mut Vec<u8>, end: Seconds) {
        let number = self.random.below(self.plan.keys);
        let is_large = number < self.plan.large_keys;
        let key = format!("{}:{number}", self.number);
        let last = self.in_flight.iter().rev().find(|asked| asked.key == key);
        let cas = self.cas.get(&key).copied().filter(|_| last.is_none());
        let before = last.map(|asked| &asked.held).or_else(|| self.acknowledged.get(&key));
        let before = before.cloned().unwrap_or(Held::Nothing);
        let what = if self.plan.is_strict { self.random.below(13) } else { 12 };
        self.version += 1;
        let (after, answer) = match (what, before, cas) {
            (0 | 1, Held::Pieces(mut pieces), _) if pieces.len() < 5 => {
                pieces.push((self.version, self.random.below(200)));
                let value = value(&key, &pieces[pieces.len() - 1..]);
                put(requests, "append", &key, 0, &value);
                (Held::Pieces(pieces), Answer::Line("STORED"))
            }
            (0..=2, Held::Number(held), _) => {
                requests.extend(format!("incr {key} 7\r\n").bytes());
                (Held::Number(held + 7), Answer::Number)
            }
            (2, before @ Held::Pieces(_), _) => {
                requests.extend(format!("touch {key} 10000\r\n").bytes());
                (before, Answer::Line("TOUCHED"))
            }
            (3, Held::Pieces(_) | Held::Number(_), _) => {
                requests.extend(format!("delete {key}\r\n").bytes());
                (Held::Nothing, Answer::Line("DELETED"))
            }
            (4, ..) => {
                let number = self.version * 1000;
                put(requests, "set", &key, 0, number.to_string().as_bytes());
                (Held::Number(number), Answer::Line("STORED"))
            }
            (5, before @ (Held::Pieces(_) | Held::Number(_)), Some(cas)) => {
                self.compared += 1;
                meta_set(requests, &key, &format!("C{}", cas - 1), b"refused");
                (before, Answer::Line("EX"))
            }
            (6 | 7, Held::Pieces(_) | Held::Number(_), Some(cas)) => {
                self.compared += 1;
                let pieces = vec![(self.version, self.random.below(200))];
                meta_set(requests, &key, &format!("c C{cas}"), &value(&key, &pieces));
                (Held::Pieces(pieces), Answer::Cas)
            }
            (8, ..) => {
                let piece = (self.version, self.random.below(200));
                let end = end + u32::from(self.random.below(2) == 0);
                put(requests, "set", &key, end, &value(&key, &[piece]));
                (Held::Ending(piece, end), Answer::Line("STORED"))
            }
            _ => {
                let most = if is_large { LARGE_BYTES } else { self.plan.value_bytes_max };
                let pieces = vec![(self.version, self.random.below(most))];
                meta_set(requests, &key, "c", &value(&key, &pieces));
                (Held::Pieces(pieces), Answer::Cas)
            }
        };
        self.in_flight.push_back(Asked { key, held: after, answer });
    }

    /// Knows of flushes that were answered since it last looked.
    pub(super) fn note_flushes(&mut self, world: &World) {
        let flushes = world.flushes.load(Ordering::Relaxed);
        if std::mem::replace(&mut self.flushes, flushes) != flushes {
            self.forget_all();
        }
    }

    /// Everything was flushed, and nothing asked for since.
    pub(super) fn forget_all(&mut self) {
        self.acknowledged.clear();
        self.cas.clear();
    }

    /// Whether what the key held last, and nobody has asked to change, was over at that second.
    pub(super) fn has_ended(&self, key: &str, now: Seconds) -> bool {
        let end = self.acknowledged.get(key).and_then(Held::end);
        end.is_some_and(|end| end < now) && self.in_flight.iter().all(|asked| asked.key != key)
    }

    /// Holds what was found of a key against what is known of it, and knows it from now on. Returns
    /// whether it is missing.
    pub(super) fn settle(
        &mut self,
        key: &str,
        found: Option<&(Vec<u8>, u64)>,
        moment: (Seconds, Seconds),
        round: u64,
    ) -> bool {
        let known = self.acknowledged.get(key).cloned().unwrap_or(Held::Nothing);
        let asked = self.in_flight.iter().filter(|asked| asked.key == key);
        let mut possible = vec![known];
        possible.extend(asked.map(|asked| asked.held.clone()));
        self.in_flight.retain(|asked| asked.key != key);
        let value = found.map(|(value, _)| &**value);
        let cas = found.map(|(_, cas)| *cas);
        let told = self.cas.remove(key).filter(|_| possible.len() == 1 && cas.is_some());
        assert!(told.is_none() || told == cas, "round {round}: {key} has another cas");
        self.cas.extend(cas.map(|cas| (key.to_owned(), cas)));
        // The latest that fits: repeated requests may leave the same behind.
        let fits = possible.iter().rev().find(|held| held.agrees(key, value, moment)).cloned();
        let is_known = fits.is_some();
        let shown = value.map(|found| String::from_utf8_lossy(&found[..found.len().min(80)]));
        let may_miss = !self.plan.is_strict && found.is_none();
        assert!(is_known || may_miss, "round {round}: {key} is {shown:?}, not one of {possible:?}");
        let held = fits.filter(|_| found.is_some()).unwrap_or(Held::Nothing);
        self.acknowledged.insert(key.to_owned(), held);
        !is_known
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

/// A set with flags that say on what condition, and whether the answer is a cas.
fn meta_set(requests: &mut Vec<u8>, key: &str, flags: &str, value: &[u8]) {
    requests.extend(format!("ms {key} {} {flags}\r\n", value.len()).bytes());
    requests.extend(value);
    requests.extend(b"\r\n");
}

fn put(requests: &mut Vec<u8>, command: &str, key: &str, end: Seconds, value: &[u8]) {
    requests.extend(format!("{command} {key} 0 {end} {}\r\n", value.len()).bytes());
    requests.extend(value);
    requests.extend(b"\r\n");
}
