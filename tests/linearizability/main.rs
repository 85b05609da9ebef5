//! Linearizability: what many clients at a time are told of a key must be explained by their
//! requests one after the other, each at a moment between its sending and its answer.
//!
//! Clients change a few keys through the real server, with all its workers, while others fill its
//! memory so that items are moved and evicted all the time. The history of each key is then judged
//! by a [`checker`] that allows a spontaneous miss and nothing else. memcached is judged as well:
//! what it passes is not too strict. Doctored histories are refused: what larder passes means
//! something.

mod checker;
mod client;
mod history;
#[path = "../support/mod.rs"]
mod support;

use std::env;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use checker::check;
use client::{Client, Role};
use history::{Event, History};
use support::{Random, Server};

#[test]
fn every_key_of_larder_is_linearizable() {
    assert_linearizable(&support::larder(), Role::Counter);
}

/// But for the cas of its counters: an increment writes its new cas into the item that it replaces,
/// too (`do_add_delta`), so who reads that one at the time is told the old value with the cas of the
/// new.
#[test]
fn every_key_of_memcached_is_linearizable() {
    if let Some(program) = support::reference() {
        assert_linearizable(&program, Role::PlainCounter);
    }
}

/// Takes a true history and has one answer tell what had been replaced, long acknowledged, before
/// it was asked for.
#[test]
fn a_stale_answer_is_found_in_a_true_history() {
    let server = Server::start(&support::larder(), &FLAGS);
    let histories = record(&server, 0, ROUND_OPERATIONS / 4, Role::Counter);
    let mut found = 0;
    for history in histories.into_iter().skip(COUNTERS) {
        check(&history).unwrap();
        for doctored in history.with_stale_answers() {
            let refused = check(&doctored).unwrap_err();
            assert!(refused.contains("no order explains"), "{refused}");
            found += 1;
        }
    }
    assert!(found > 20, "{found} answers could be made stale");
}

/// Rounds of requests to new keys, each judged before the next.
fn assert_linearizable(program: &Path, counter: Role) {
    let server = Server::start(program, &FLAGS);
    let operations = operations();
    let (mut done, mut round, mut applied) = (0, 0, [0; history::KINDS]);
    while done < operations {
        let asked = ROUND_OPERATIONS.min(operations - done);
        let histories = record(&server, round, asked, counter);
        for history in &histories {
            done += history.events.len() as u64 / 2;
            check(history).unwrap_or_else(|violation| panic!("{}: {violation}", history.key));
            history.count_applied(&mut applied);
        }
        round += 1;
    }
    let evictions = Client::connect(&server).stat("evictions");
    assert!(evictions > operations / 100, "memory was full: {evictions} evictions");
    let least = operations / 500;
    assert!(applied.iter().all(|&count| count > least), "each kind took effect: {applied:?}");
}

/// Has clients send about so many requests to keys of their own round, and tells what came of each
/// key.
fn record(server: &Server, round: u64, operations: u64, counter: Role) -> Vec<History> {
    let keys: Vec<String> = (0..KEYS).map(|number| format!("key-{round}-{number}")).collect();
    let (moment, working) = (AtomicU64::new(0), AtomicBool::new(true));
    let mut events: Vec<(usize, Event)> = thread::scope(|scope| {
        for filler in 0..FILLERS {
            let (mut client, working) = (Client::connect(server), &working);
            let mut random = Random(1 + round * FILLERS + filler);
            scope.spawn(move || {
                while working.load(Ordering::Relaxed) {
                    client.fill(&mut random);
                }
            });
        }
        let threads: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (keys, moment) = (&keys, &moment);
                let mut client = Client::connect(server);
                let mut random = Random(1_000_003 + round * CLIENTS as u64 + number as u64);
                scope.spawn(move || {
                    let count = operations / CLIENTS as u64;
                    (0..count)
                        .flat_map(|_| {
                            let key = random.below(KEYS);
                            let role = if key < COUNTERS { counter } else { Role::Text };
                            let pair = client.ask(number, &keys[key], role, moment, &mut random);
                            pair.map(|event| (key, event))
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        let events = threads.into_iter().flat_map(|thread| thread.join().expect("no panic"));
        let events = events.collect();
        working.store(false, Ordering::Relaxed);
        events
    });
    events.sort_by_key(|(_, event)| event.moment);
    let mut histories: Vec<_> =
        keys.into_iter().map(|key| History { key, events: Vec::new() }).collect();
    for (key, event) in events {
        histories[key].events.push(event);
    }
    histories
}

/// How many requests to judge: `LARDER_LINEARIZABILITY_OPERATIONS`, or as many as there is time for
/// in every run.
fn operations() -> u64 {
    env::var("LARDER_LINEARIZABILITY_OPERATIONS").map_or(ROUND_OPERATIONS, |count| {
        count.parse().expect("LARDER_LINEARIZABILITY_OPERATIONS is a number")
    })
}

/// Little memory, so that it is always full.
const FLAGS: [&str; 4] = ["-m", "8", "-t", "4"];

const CLIENTS: usize = 8;
const FILLERS: u64 = 2;

/// Few, so that clients meet at them.
const KEYS: usize = 6;
/// The first of them hold numbers.
const COUNTERS: usize = 2;

const ROUND_OPERATIONS: u64 = 30_000;
