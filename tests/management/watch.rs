//! `watch`: what clients are told of what goes on.

use super::{Client, programs};
use crate::support::{self, Server, larder};

#[test]
fn lines_are_memcacheds() {
    let watched: Vec<_> = programs().iter().map(|program| watched_lines(program)).collect();
    assert!(watched[0].len() > 40, "{:?}", watched[0]);
    for lines in &watched {
        assert_eq!(*lines, watched[0]);
    }
}

#[test]
fn lines_come_with_time_and_number() {
    let server = Server::start(&larder(), &[]);
    let (mut watcher, mut client) = (Client::new(&server), Client::new(&server));
    watcher.ask("watch\r\n", "OK\r\n");
    client.ask("get a\r\n", "END\r\n");
    client.ask("get b\r\n", "END\r\n");
    for number in ["gid=1", "gid=2"] {
        let line = watcher.line();
        let (time, rest) = line.split_once(' ').expect("several fields");
        let (seconds, micros) = time.strip_prefix("ts=").unwrap().split_once('.').unwrap();
        assert_eq!((seconds.len(), micros.len()), (10, 6), "{line}");
        assert!(rest.starts_with(number), "{line}");
    }
}

#[test]
fn a_miss_says_why() {
    let server = Server::start(&larder(), &[]);
    let (mut watcher, mut client) = (Client::new(&server), Client::new(&server));
    watcher.ask("watch fetchers\r\n", "OK\r\n");
    client.ask("set e 0 -1 1 noreply\r\n1\r\nget e\r\nmn\r\n", "MN\r\n");
    client.ask("set f 0 0 1 noreply\r\n1\r\nflush_all\r\nget f\r\nmn\r\n", "MN\r\n");
    let status = |line: String| {
        let fields: Vec<_> = line.split(' ').skip(3).take(2).collect();
        fields.join(" ")
    };
    let told: Vec<_> = (0..4).map(|_| status(watcher.line())).collect();
    assert_eq!(told[..2], ["key=e status=not_found", "key=e status=expired"]);
    assert_eq!(told[2..], ["key=f status=not_found", "key=f status=flushed"]);
}

#[test]
fn evictions_are_told() {
    for program in programs() {
        let server = Server::start(&program, &["-m", "8", "-I", "512k"]);
        let (mut watcher, mut client) = (Client::new(&server), Client::new(&server));
        watcher.ask("watch evictions\r\n", "OK\r\n");
        let value = "v".repeat(100_000);
        for number in 0..200 {
            client.send(format!("set item{number} 0 1000 100000 noreply\r\n{value}\r\n"));
        }
        client.ask("version\r\n", "VERSION 1.6.45\r\n");
        let line = without_time(&watcher.line());
        let (key, rest) = line.split_once(" fetch=").expect("a known form");
        assert!(key.starts_with("type=eviction key=item"), "{line}");
        let rest: Vec<_> = rest.split(' ').collect();
        assert_eq!(rest[0], "no", "{line}");
        assert!(matches!(rest[1], "ttl=1000" | "ttl=999" | "ttl=998"), "{line}");
        assert!(matches!(rest[2], "la=0" | "la=1" | "la=2"), "{line}");
        assert!(rest[3].starts_with("clsid=") && rest[4] == "size=100000\n", "{line}");
    }
}

#[test]
fn a_watcher_is_not_heard_and_can_leave() {
    for program in programs() {
        let server = Server::start(&program, &[]);
        let mut watcher = Client::new(&server);
        watcher.ask("watch connevents\r\nversion\r\n", "OK\r\n");
        watcher.send("version\r\nset a 0 0 1\r\n1\r\n");
        let mut client = Client::new(&server);
        assert_eq!(client.ask("get a\r\n", "END\r\n"), [""; 0]);
        assert!(watcher.line().contains(" type=conn_new rip=127.0.0.1 rport="));
        let watchers = |count: u8, client: &mut Client| {
            let line = format!("STAT log_watchers {count}\r\n");
            client.ask("stats\r\n", "END\r\n").contains(&line)
        };
        support::await_true(|| watchers(1, &mut client), "nobody watches");
        drop(watcher);
        support::await_true(|| watchers(0, &mut client), "the watcher is kept");
    }
}

#[test]
fn a_connection_ends_for_a_reason() {
    let long_line = "x".repeat(3000);
    let table: [(&[u8], &str); 9] = [
        (b"", "normal"),
        (b"version\r\n", "normal"),
        (b"quit\r\n", "normal"),
        (b"set a 0 0 5\r\nab", "normal"),
        (b"GET / HTTP/1.1\r\n", "error"),
        (long_line.as_bytes(), "error"),
        (b"\x80\x07\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "normal"),
        (b"\x80\x17\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "normal"),
        (b"\x80\0\0\x05\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0hello", "error"),
    ];
    for program in programs() {
        let server = Server::start(&program, &[]);
        let mut watcher = Client::new(&server);
        watcher.ask("watch connevents\r\n", "OK\r\n");
        for (request, reason) in &table {
            let mut client = Client::new(&server);
            assert!(watcher.line().contains(" type=conn_new "));
            client.send(request);
            client.leave();
            let line = watcher.line();
            assert!(line.contains(" type=conn_close "), "{line}");
            assert!(
                line.contains(&format!(" reason={reason} ")),
                "{}: {line}",
                request.escape_ascii()
            );
        }
        let reset = Client::new(&server);
        assert!(watcher.line().contains(" type=conn_new "));
        reset.reset();
        assert!(watcher.line().contains(" reason=error "));
    }
}

#[test]
fn watching_takes_the_whole_connection() {
    for program in programs() {
        let server = Server::start(&program, &[]);
        let mut client = Client::new(&server);
        client.send("version\r\nwatch\r\nversion\r\n");
        let lines = [client.line(), client.line(), client.line()];
        let fault = "ERROR cannot pipeline other commands before watch\r\n";
        assert_eq!(lines, ["VERSION 1.6.45\r\n", fault, "VERSION 1.6.45\r\n"]);
        for request in ["watch x\r\n", "watch fetchers bogus\r\n", "watch noreply\r\n"] {
            client.ask(request, "ERROR\r\n");
        }
        let mut watchers: Vec<_> = (0..20).map(|_| Client::new(&server)).collect();
        for watcher in &mut watchers {
            watcher.ask("watch m e f\r\n", "OK\r\n");
        }
        client.ask("watch\r\n", "WATCHER_TOO_MANY log watcher limit reached\r\n");
    }
}

/// A watcher that does not read loses lines and is told how many, once it reads; nobody waits for
/// it, and it costs no more than its buffer.
#[test]
fn a_slow_watcher_loses_lines() {
    let server = Server::start(&larder(), &[]);
    let (mut watcher, mut client) = (Client::new(&server), Client::new(&server));
    watcher.ask("watch fetchers\r\n", "OK\r\n");
    let keys: String = (0..1000).map(|number| format!(" key{number}")).collect();
    let before = server.resident_bytes();
    let skipped = |client: &mut Client| {
        let stats = client.ask("stats\r\n", "END\r\n");
        let line = stats.iter().find_map(|line| line.strip_prefix("STAT log_watcher_skipped "));
        line.expect("a known field").trim().parse::<usize>().expect("a number")
    };
    let mut requests = 0;
    while skipped(&mut client) == 0 {
        client.ask(format!("get{keys}\r\n"), "END\r\n");
        requests += 1;
        assert!(requests < 1000, "the kernel takes megabytes, not more");
    }
    for _ in 0..100 {
        client.ask(format!("get{keys}\r\n"), "END\r\n");
        requests += 1;
    }
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} bytes more");
    let skipped = skipped(&mut client);
    assert!(skipped >= 50_000, "{skipped}");
    let (told, missed, events) = told_of(&mut watcher, &mut client);
    assert!(missed >= skipped && told > requests, "{told} {missed}");
    assert_eq!(told + missed, events);
}

/// Reads what a watcher is told until it is told of another look-up: how many lines those are, how
/// many it missed by its own account, and how many there were by the last one's number.
fn told_of(watcher: &mut Client, client: &mut Client) -> (usize, usize, usize) {
    let number = |text: &str| text.trim().parse::<usize>().expect("a number");
    let (mut told, mut missed) = (0, 0);
    loop {
        if told % 1000 == 0 {
            // The last one may have been one too many for the buffer.
            client.ask("get last\r\n", "END\r\n");
        }
        let line = watcher.line();
        if let Some(count) = line.strip_prefix("skipped=") {
            missed += number(count);
            continue;
        }
        told += 1;
        let mut fields = line.split(' ');
        let events = fields.nth(1).and_then(|field| field.strip_prefix("gid=")).expect("a gid");
        if line.contains(" key=last ") {
            return (told, missed, number(events));
        }
        assert!(line.contains(" type=item_get key=key"), "{line}");
    }
}

/// What a watcher of everything is told while another client does everything, less what differs
/// from one run to the next.
fn watched_lines(program: &std::path::Path) -> Vec<String> {
    let server = Server::start(program, &["-t", "1"]);
    let mut watcher = Client::new(&server);
    let all = "watch fetchers mutations evictions connevents deletions sysevents rawcmds \
               proxyreqs proxyevents proxyuser\r\n";
    watcher.ask(all, "OK\r\n");
    let mut client = Client::new(&server);
    for (request, last) in CONVERSATION {
        client.ask(request.as_bytes(), last);
    }
    client.send("quit\r\n");
    assert_eq!(client.rest(), "");
    let mut lines = Vec::new();
    while lines.last().is_none_or(|line: &String| !line.starts_with("type=conn_close")) {
        lines.push(masked(&without_time(&watcher.line())));
    }
    lines
}

fn without_time(line: &str) -> String {
    let mut fields = line.splitn(3, ' ');
    assert!(fields.next().is_some_and(|time| time.starts_with("ts=")), "{line}");
    assert!(fields.next().is_some_and(|number| number.starts_with("gid=")), "{line}");
    fields.next().expect("an event").to_owned()
}

/// A line without the numbers that the system gave to a connection.
fn masked(line: &str) -> String {
    let mask = |field: &str| match field.split_once('=') {
        Some((name @ ("cfd" | "rport"), _)) => format!("{name}=#"),
        _ => field.trim_end().to_owned(),
    };
    line.split(' ').map(mask).collect::<Vec<_>>().join(" ")
}

/// Requests, and the line that ends their reply. Not among them: values that are too large, whose
/// lines memcached fills with what it finds; what has expired, whose time to live it counts from
/// its own start; expired and flushed items, which it may have dropped already; and what of meta
/// commands it tells twice.
const CONVERSATION: [(&str, &str); 46] = [
    ("set a 0 0 1\r\n1\r\n", "STORED\r\n"),
    ("set a 0 100 1\r\n1\r\n", "STORED\r\n"),
    ("get a b\r\n", "END\r\n"),
    ("gets a\r\n", "END\r\n"),
    ("gat 0 a zz\r\n", "END\r\n"),
    ("add a 0 0 1\r\n1\r\n", "NOT_STORED\r\n"),
    ("add n 0 0 2\r\nnn\r\n", "STORED\r\n"),
    ("replace zz 0 0 1\r\n1\r\n", "NOT_STORED\r\n"),
    ("replace a 5 0 3\r\n123\r\n", "STORED\r\n"),
    ("append a 0 0 1\r\nx\r\n", "STORED\r\n"),
    ("prepend a 0 0 1\r\nx\r\n", "STORED\r\n"),
    ("append zz 0 0 1\r\nx\r\n", "NOT_STORED\r\n"),
    ("cas a 0 0 1 99999\r\n1\r\n", "EXISTS\r\n"),
    ("cas zz 0 0 1 1\r\n1\r\n", "NOT_FOUND\r\n"),
    ("set n 0 0 2\r\n10\r\n", "STORED\r\n"),
    ("incr n 5\r\n", "15\r\n"),
    ("incr n 5000\r\n", "5015\r\n"),
    ("decr zz 5\r\n", "NOT_FOUND\r\n"),
    ("incr a 1\r\n", "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"),
    ("touch a 10\r\n", "TOUCHED\r\n"),
    ("touch zz 10\r\n", "NOT_FOUND\r\n"),
    ("delete a\r\n", "DELETED\r\n"),
    ("delete zz\r\n", "NOT_FOUND\r\n"),
    ("set n 0 0 1 noreply\r\n1\r\nversion\r\n", "VERSION 1.6.45\r\n"),
    ("set k%20:\u{e9} 0 0 0\r\n\r\n", "STORED\r\n"),
    ("get k%20:\u{e9}\r\n", "END\r\n"),
    ("set bad 0 0 1\r\n123\r\n", "CLIENT_ERROR bad data chunk\r\n"),
    ("version\r\n", "VERSION 1.6.45\r\n"),
    ("set e 0 1000 1\r\n1\r\n", "STORED\r\n"),
    ("bogus\r\n", "ERROR\r\n"),
    ("ms m 1\r\n1\r\n", "HD\r\n"),
    ("mg m\r\nmg mm\r\nmn\r\n", "MN\r\n"),
    ("mg m T30\r\n", "HD\r\n"),
    ("mg q N30\r\n", "HD W\r\n"),
    ("ma m\r\n", "HD\r\n"),
    ("ma zz\r\n", "NF\r\n"),
    ("md m I\r\n", "HD\r\n"),
    ("md m C99\r\n", "EX\r\n"),
    ("md m\r\nmd m\r\n", "NF\r\n"),
    ("ms j 1 MA\r\n1\r\n", "NS\r\n"),
    ("ms j 1 MA N0\r\n1\r\n", "HD\r\n"),
    ("ms j 1 ME\r\n1\r\n", "NS\r\n"),
    ("ms j 1 MR T700\r\n1\r\n", "HD\r\n"),
    ("ms j 1 MR C77\r\n1\r\n", "EX\r\n"),
    ("me zz\r\n", "EN\r\n"),
    ("ms YSBiCg== 1 b\r\n1\r\n", "HD\r\n"),
];
