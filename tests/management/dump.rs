//! `lru_crawler`: lists of everything that is stored.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use larder::clock::Clock;

use super::{Client, programs};
use crate::support::{Server, larder};

#[test]
fn metadump_describes_every_item() {
    let in_an_hour = Clock::start().now_seconds() + 3600;
    let listed = programs().into_iter().map(|program| {
        let server = Server::start(&program, &[]);
        let mut client = Client::new(&server);
        client.ask("set plain 0 0 1\r\n1\r\n", "STORED\r\n");
        client.ask(b"set odd%\x01\xff:/ 7 0 0\r\n\r\n", "STORED\r\n");
        client.ask(format!("set timed 0 {in_an_hour} 5\r\nhello\r\n"), "STORED\r\n");
        client.ask("set flags 4294967295 0 2\r\nab\r\n", "STORED\r\n");
        client.ask("set expired 0 -1 1\r\n1\r\n", "STORED\r\n");
        client.ask("get plain\r\n", "END\r\n");
        let lists = ["all", "hash", "1", "3,1"].map(|classes| {
            let mut lines = client.ask(format!("lru_crawler metadump {classes}\r\n"), "END\r\n");
            assert_eq!(lines.remove(0), "OK\r\n");
            lines.sort();
            lines.iter().map(|line| masked(line, &["la", "cas"])).collect::<Vec<_>>()
        });
        for list in &lists {
            assert_eq!(*list, lists[0]);
        }
        assert_eq!(client.ask("lru_crawler metadump 2\r\n", "END\r\n"), ["OK\r\n"]);
        let [list, ..] = lists;
        list
    });
    let listed: Vec<_> = listed.collect();
    let first = "key=flags exp=-1 la=# cas=# fetch=no cls=1 size=70 flags=4294967295 \n";
    assert_eq!(listed[0][0], first);
    assert_eq!(listed[0].len(), 4);
    for list in &listed {
        assert_eq!(*list, listed[0]);
    }
}

#[test]
fn mgdump_is_a_list_of_requests() {
    for program in programs() {
        let server = Server::start(&program, &[]);
        let mut client = Client::new(&server);
        client.ask("set b 0 0 1\r\n1\r\n", "STORED\r\n");
        client.ask("set a%20 0 0 1\r\n1\r\n", "STORED\r\n");
        client.ask("ms YSBiCg== 1 b\r\n1\r\n", "HD\r\n");
        let mut lines = client.ask("lru_crawler mgdump all\r\n", "EN\r\n");
        lines.sort();
        assert_eq!(lines, ["OK\r\n", "mg YSBiCg== b\r\n", "mg a%20\r\n", "mg b\r\n"]);
        // A list for people has no place for a key with a line end in it.
        let listed = client.ask("stats cachedump 1 0\r\n", "END\r\n");
        assert!(listed.iter().all(|line| line.starts_with("ITEM ")), "{listed:?}");
    }
}

#[test]
fn lists_do_not_mix_with_other_replies() {
    for program in programs() {
        let server = Server::start(&program, &[]);
        for (list, fault) in [("metadump", "metadump"), ("mgdump", "mgdump")] {
            let mut client = Client::new(&server);
            let request = format!("version\r\nlru_crawler {list} all\r\nversion\r\n");
            client.send(request);
            let lines = [client.line(), client.line(), client.line()];
            let fault = format!("ERROR cannot pipeline other commands before {fault}\r\n");
            assert_eq!(lines, ["VERSION 1.6.45\r\n", &fault, "VERSION 1.6.45\r\n"]);
        }
    }
}

#[test]
fn a_list_is_followed_by_the_next_reply() {
    let server = Server::start(&larder(), &[]);
    let mut client = Client::new(&server);
    client.send("lru_crawler metadump all\r\nlru_crawler mgdump all\r\nversion\r\n");
    let lines: Vec<_> = (0..5).map(|_| client.line()).collect();
    assert_eq!(lines, ["OK\r\n", "END\r\n", "OK\r\n", "EN\r\n", "VERSION 1.6.45\r\n"]);
}

/// What stays is listed exactly once; what comes and goes at most once a time; nothing else is.
#[test]
fn items_are_listed_while_others_change() {
    let server = Server::start(&larder(), &["-m", "256"]);
    let mut client = Client::new(&server);
    fill(&mut client, ITEMS);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let changing = scope.spawn(|| change_items(&server, &stop));
        let mut listed = vec![0_u32; ITEMS];
        let lines = client.ask("lru_crawler metadump all\r\n", "END\r\n");
        stop.store(true, Ordering::Relaxed);
        for line in &lines[1..] {
            let key = line.strip_prefix("key=item").and_then(|line| line.split(' ').next());
            let number = key.and_then(|number| number.parse::<usize>().ok());
            listed[number.unwrap_or_else(|| panic!("{line:?}"))] += 1;
        }
        assert!(listed.iter().step_by(2).all(|&times| times == 1), "what stays is listed once");
        let changes = changing.join().expect("the changes succeed");
        assert!(changes > 0, "something changed meanwhile");
    });
}

#[test]
fn a_client_that_does_not_read_its_list_costs_nothing() {
    let server = Server::start(&larder(), &["-m", "256"]);
    let mut client = Client::new(&server);
    fill(&mut client, ITEMS);
    let before = server.resident_bytes();
    let mut idle = Client::new(&server);
    idle.send("lru_crawler metadump all\r\n");
    assert_eq!(idle.line(), "OK\r\n");
    let busy = "BUSY currently processing crawler request\r\n";
    client.ask("lru_crawler metadump all\r\n", busy);
    client.ask("lru_crawler crawl all\r\n", busy);
    let running = client.ask("stats\r\n", "END\r\n");
    assert!(running.contains(&"STAT lru_crawler_running 1\r\n".to_owned()));
    // The memory of what is overwritten is used again, though somebody is in the middle of a list.
    fill(&mut client, ITEMS);
    fill(&mut client, ITEMS);
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 40 << 20, "{grown} bytes more");
    drop(idle);
    crate::support::await_true(
        || client.ask("stats\r\n", "END\r\n").contains(&"STAT lru_crawler_running 0\r\n".into()),
        "the turn is not given back",
    );
    client.ask("lru_crawler crawl all\r\n", "OK\r\n");
}

/// A list of prefixes is as long as memory for prefixes allows, and is sent as it is read.
#[test]
fn prefixes_are_listed_to_the_last() {
    let server = Server::start(&larder(), &[]);
    let mut client = Client::new(&server);
    client.ask("stats detail on\r\n", "OK\r\n");
    for thousand in 0..70 {
        let keys = (0..1000).map(|number| format!(" {}:", thousand * 1000 + number));
        client.ask(format!("get{}\r\n", keys.collect::<String>()), "END\r\n");
    }
    let lines = client.ask("stats detail dump\r\n", "END\r\n");
    assert_eq!(lines.len(), 1 << 16);
    let prefixes: BTreeMap<_, _> = lines.iter().map(|line| (line, ())).collect();
    assert_eq!(prefixes.len(), lines.len());
}

/// A key of the binary protocol can hold what would end the list, and begin a reply of its own.
#[test]
fn a_prefix_with_a_line_end_is_not_listed() {
    let server = Server::start(&larder(), &[]);
    let mut client = Client::new(&server);
    client.ask("stats detail on\r\n", "OK\r\n");
    let key = b"a\r\nEND\r\nVALUE:b";
    let mut packet = [0; 24];
    (packet[0], packet[3], packet[11]) = (0x80, 15, 15);
    let mut binary = server.connect();
    binary.write_all(&[&packet, key.as_slice()].concat()).expect("the server reads");
    binary.read_exact(&mut packet).expect("a miss");
    client.ask("get plain:b\r\n", "END\r\n");
    let lines = client.ask("stats detail dump\r\n", "END\r\n");
    assert_eq!(lines, ["PREFIX plain get 1 hit 0 set 0 del 0\r\n"]);
}

/// Stores items by the thousand, as `item0`, `item1`, ...
fn fill(client: &mut Client, items: usize) {
    let value = "v".repeat(100);
    for thousand in 0..items / 1000 {
        let line =
            |number| format!("set item{} 0 0 100 noreply\r\n{value}\r\n", thousand * 1000 + number);
        client.send((0..1000).map(line).collect::<String>());
        client.ask("version\r\n", "VERSION 1.6.45\r\n");
    }
}

/// Deletes and stores again every other item, in turn, until told to stop. Returns how many.
fn change_items(server: &Server, stop: &AtomicBool) -> usize {
    let mut client = Client::new(server);
    let mut changes = 0;
    for number in (0..ITEMS / 2).map(|half| half * 2 + 1).cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        client.ask(format!("delete item{number}\r\n"), "DELETED\r\n");
        client.ask(format!("set item{number} 0 0 1\r\n1\r\n"), "STORED\r\n");
        changes += 1;
    }
    changes
}

/// A line of fields, some values struck out.
fn masked(line: &str, fields: &[&str]) -> String {
    let mask = |field: &str| match field.split_once('=') {
        Some((name, _)) if fields.contains(&name) => format!("{name}=#"),
        _ => field.to_owned(),
    };
    line.split(' ').map(mask).collect::<Vec<_>>().join(" ")
}

const ITEMS: usize = 200_000;
