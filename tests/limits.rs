//! What the system grants runs out: files, then memory. The server says so, and goes on.

mod support;

use std::fs;
use std::process::Command;
use std::time::Duration;

use larder::clock::Clock;
use support::Server;
use support::client::Client;

#[test]
fn accepting_pauses_while_files_run_out_and_goes_on() {
    let server = Server::start(&support::larder(), &[]);
    let mut observer = Client::connect(&server);
    assert_eq!(observer.stat("listen_disabled_num"), 0);
    leave_room_for(5, &server);
    let mut served: Vec<_> = (0..5).map(|_| Client::connect(&server)).collect();
    let mut waiting: Vec<_> = (0..5).map(|_| Client::connect(&server)).collect();
    for client in served.iter_mut().chain(&mut waiting) {
        client.send("version\r\n");
    }
    for client in &mut served {
        assert_eq!(client.line(), "VERSION 1.6.45");
    }
    let clock = Clock::start();
    let begin = observer.wait_for_pauses(1);
    observer.wait_for_pauses(begin + 5);
    assert!(clock.uptime() >= 4 * PAUSE, "it accepts again at once: {:?}", clock.uptime());
    assert_eq!(observer.stat("curr_connections"), 6);
    drop(served);
    for client in &mut waiting {
        assert_eq!(client.line(), "VERSION 1.6.45");
    }
    assert_eq!(observer.stat("rejected_connections"), 0);
}

#[test]
fn connections_over_the_limit_wait_for_others_to_leave_where_that_is_asked_for() {
    let server = Server::start(&support::larder(), &["-c", "3", "-o", "no_maxconns_fast"]);
    let mut observer = Client::connect(&server);
    let mut served: Vec<_> = (0..2).map(|_| Client::connect(&server)).collect();
    let mut waiting: Vec<_> = (0..2).map(|_| Client::connect(&server)).collect();
    for client in served.iter_mut().chain(&mut waiting) {
        client.send("version\r\n");
    }
    for client in &mut served {
        assert_eq!(client.line(), "VERSION 1.6.45");
    }
    observer.wait_for_pauses(1);
    assert_eq!((observer.stat("curr_connections"), observer.stat("accepting_conns")), (3, 0));
    served.clear();
    for client in &mut waiting {
        assert_eq!(client.line(), "VERSION 1.6.45");
    }
    assert_eq!(observer.stat("curr_connections"), 3);
}

#[test]
fn a_value_that_memory_does_not_suffice_for_is_refused_as_it_comes() {
    let server = Server::start(&support::larder(), &["-t", "1", "-m", "2048", "-I", "1g"]);
    let mut client = Client::connect(&server);
    assert_eq!(client.ask("set a 0 0 3\r\nold"), "STORED");
    let process = format!("/proc/{}/statm", server.id());
    let pages = fs::read_to_string(process).expect("the server lives");
    let pages: usize =
        pages.split(' ').next().expect("the first is the size").parse().expect("digits");
    limit(&format!("--as={}:", pages * PAGE_BYTES + (100 << 20)), &server);
    // To announce a value takes no memory, however many do.
    let mut announcing: Vec<_> = (0..50).map(|_| Client::connect(&server)).collect();
    for other in &mut announcing {
        assert_eq!(other.ask("version\r\nset b 0 0 1000000000"), "VERSION 1.6.45");
    }
    // What is joined to another value is whole first, in a buffer; what replaces it is received
    // where it will lie, and that was kept for it from the start.
    for (command, answer) in
        [("append", "SERVER_ERROR out of memory storing object"), ("set", "STORED")]
    {
        client.send(format!("{command} a 0 0 300000000\r\n"));
        let piece = vec![b'v'; 1_000_000];
        (0..300).for_each(|_| client.send(&piece));
        assert_eq!(client.ask(""), answer);
    }
    assert_eq!(client.stat("store_no_memory"), 1);
}

/// Lowers the process' limit such that so many further files can be opened. The system gives them
/// the lowest numbers that are free.
fn leave_room_for(files: usize, server: &Server) {
    let pid = server.id();
    let open = |number: &u64| fs::symlink_metadata(format!("/proc/{pid}/fd/{number}")).is_ok();
    let last = (0..).filter(|number| !open(number)).nth(files - 1).expect("numbers do not end");
    limit(&format!("--nofile={}:", last + 1), server);
}

/// Sets a limit of the process, as `prlimit` has it.
fn limit(limit: &str, server: &Server) {
    let pid = server.id().to_string();
    let status = Command::new("prlimit").args(["--pid", &pid, limit]).status();
    assert!(status.expect("util-linux is there").success());
}

impl Client {
    fn connect(server: &Server) -> Self {
        Self::new(server.connect())
    }

    /// A figure of `stats`.
    fn stat(&mut self, name: &str) -> u64 {
        self.figure("stats", name)
    }

    /// Waits until accepting has paused so often; returns how often it had by then.
    fn wait_for_pauses(&mut self, least: u64) -> u64 {
        let mut pauses = 0;
        support::await_true(
            || {
                pauses = self.stat("listen_disabled_num");
                pauses >= least
            },
            "accepting does not pause",
        );
        pauses
    }
}

const PAGE_BYTES: usize = 4096;

/// How long a pause lasts.
const PAUSE: Duration = Duration::from_millis(50);
