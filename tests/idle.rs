//! `-o idle_timeout`: who asks for nothing is let go, who does is not, as memcached has it.

mod support;

use std::io::{BufRead, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use larder::clock::Clock;
use support::client::Client;
use support::{PATIENCE, Server};

#[test]
fn connections_that_ask_for_nothing_are_closed_and_counted() {
    for program in std::iter::once(support::larder()).chain(support::reference()) {
        let server = Server::start(&program, &["-o", "idle_timeout=1"]);
        let mut watcher = Client::new(server.connect());
        assert_eq!(watcher.ask("watch connevents"), "OK");
        let mut busy = Client::new(server.connect());
        let mut silent = server.connect();
        let mut stuck_in_a_line = server.connect();
        stuck_in_a_line.write_all(b"get a").expect("the server reads");
        let mut storing = Client::new(server.connect());
        storing.send("set a 0 0 1\r\n");

        let clock = Clock::start();
        while !(is_closed(&mut silent) && is_closed(&mut stuck_in_a_line)) {
            assert!(clock.uptime() < PATIENCE, "{} keeps them", program.display());
            assert_eq!(busy.ask("version"), "VERSION 1.6.45");
        }
        assert!(clock.uptime() > Duration::from_secs(1), "{} has no patience", program.display());
        // In the middle of a value a client is not idle, however long it takes.
        assert_eq!(storing.ask("1"), "STORED");
        let stats = busy.list("stats");
        assert!(stats.contains(&"STAT idle_kicks 2".to_owned()), "{stats:?}");
        // Nor is one who watches.
        let told = watcher.0.lines().map(|line| line.expect("the server tells"));
        assert_eq!(told.filter(|line| line.contains("reason=idle_timeout")).take(2).count(), 2);
    }
}

#[test]
fn without_a_timeout_nothing_is_counted() {
    for program in std::iter::once(support::larder()).chain(support::reference()) {
        let server = Server::start(&program, &[]);
        let mut client = Client::new(server.connect());
        assert!(client.list("stats").iter().all(|line| !line.contains("idle_kicks")));
    }
}

/// Whether the server has closed, or does within a tenth of a second.
fn is_closed(client: &mut TcpStream) -> bool {
    client.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket takes its options");
    match client.read(&mut [0]) {
        Ok(bytes) => bytes == 0,
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}
