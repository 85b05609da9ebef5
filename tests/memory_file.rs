//! `-e` as operators meet it: which ends keep the cache, what a start refuses, what is shown.

mod support;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use support::{Scratch, Server, larder};

#[test]
fn every_orderly_end_keeps_the_cache() {
    let scratch = Scratch::new();
    let file = scratch.file("memory");
    let flags = ["-A", "-e", file.to_str().expect("plain")];
    let mut server = Server::start(&larder(), &flags);
    let ends = ["SIGTERM", "SIGUSR1", "SIGINT", "shutdown", "shutdown graceful"];
    for (number, end) in ends.into_iter().enumerate() {
        assert_eq!(ask(&server, &format!("set {number} 7 0 3\r\nyes"), 1), "STORED\r\n");
        match end.parse::<Signal>() {
            Ok(signal) => send(&mut server, signal),
            Err(_) => drop(ask(&server, end, 0)),
        }
        assert!(server.process().wait().expect("it ends").success(), "{end}");
        server = Server::start(&larder(), &flags);
        for number in 0..=number {
            let found = format!("VALUE {number} 7 3\r\nyes\r\nEND\r\n");
            assert_eq!(ask(&server, &format!("get {number}"), 3), found);
        }
        let own = ask(&server, "stats larder", 30);
        assert!(own.contains(&format!("STAT restart_items {}\r\n", number + 1)), "{own}");
        assert!(own.contains("STAT restart_state resumed\r\n"), "{own}");
    }
    let settings = ask(&server, "stats settings", 100);
    assert!(settings.contains(&format!("STAT memory_file {}\r\n", file.display())), "{settings}");
}

#[test]
fn what_is_not_its_own_is_refused_and_left_alone() {
    let scratch = Scratch::new();
    let file = scratch.file("memory");
    fs::write(&file, "a letter").expect("room");
    let complaint = refusal(&file);
    assert!(complaint.contains("it is not larder's, and is left as it is"), "{complaint}");
    assert_eq!(fs::read_to_string(&file).expect("there"), "a letter");
    fs::remove_file(&file).expect("there");
    let _server = Server::start(&larder(), &["-e", file.to_str().expect("plain")]);
    let complaint = refusal(&file);
    assert!(complaint.contains("it is in use by another process"), "{complaint}");
    let complaint = refusal(&file.join("below"));
    assert!(complaint.contains("Not a directory"), "{complaint}");
}

#[test]
fn the_log_says_what_was_found() {
    let scratch = Scratch::new();
    let file = scratch.file("memory");
    let path = file.to_str().expect("plain");
    for expected in ["memory\": new", "1 item of 1 KiB found again"] {
        let mut server = Server::start_logging(&larder(), &["-e", path], Stdio::piped());
        assert_eq!(ask(&server, "set key 0 0 1\r\n1", 1), "STORED\r\n");
        send(&mut server, Signal::SIGTERM);
        let mut log = String::new();
        let stderr = server.process().stderr.take().expect("it is piped");
        BufReader::new(stderr).read_to_string(&mut log).expect("text");
        let line = log.lines().find(|line| line.contains("memory file"));
        assert!(line.is_some_and(|line| line.contains(expected)), "{log}");
    }
}

/// A limit on the size of files stands for a disk that has no more room: the server makes do.
#[test]
fn a_full_disk_is_a_smaller_cache() {
    let scratch = Scratch::new();
    let file = scratch.file("memory");
    let flags = ["-m", "64", "-e", file.to_str().expect("plain")];
    let start = || Server::start_limited("trap '' XFSZ && ulimit -f 20480", &larder(), &flags);
    let mut server = start();
    let value = "v".repeat(500_000);
    for number in 0..100 {
        let request = format!("set {number} 0 0 {}\r\n{value}", value.len());
        assert_eq!(ask(&server, &request, 1), "STORED\r\n", "{number}");
    }
    let figure = |server: &Server, name: &str| -> u64 {
        let stats = ask(server, "stats", 200);
        let line = stats.lines().find_map(|line| line.strip_prefix("STAT ")?.strip_prefix(name));
        line.and_then(|value| value.trim().parse().ok()).expect("a number")
    };
    assert!(figure(&server, "evictions ") > 30);
    let items = figure(&server, "curr_items ");
    assert!((8..70).contains(&items), "{items}");
    server.process().kill().expect("it runs");
    server.process().wait().expect("it ends");
    let server = start();
    // The housekeeper may have made room for more after it was asked.
    let found = figure(&server, "curr_items ");
    assert!((items - 3..=items).contains(&found), "{found} of {items}");
}

/// What a server says that does not start.
fn refusal(file: &Path) -> String {
    let mut command = Command::new(larder());
    let output = command.args(["-p", "-1", "-u", "root", "-e"]).arg(file).output();
    let output = output.expect("it can be started");
    assert_eq!(output.status.code(), Some(71));
    String::from_utf8(output.stderr).expect("text")
}

fn send(server: &mut Server, signal: Signal) {
    let id = i32::try_from(server.id()).expect("a process id");
    kill(Pid::from_raw(id), signal).expect("it runs");
}

/// The reply to a request: so many lines, or to where it ends with END.
fn ask(server: &Server, request: &str, lines: usize) -> String {
    let mut stream = server.connect();
    stream.write_all(format!("{request}\r\n").as_bytes()).expect("it listens");
    let mut stream = BufReader::new(stream);
    let mut reply = String::new();
    for _ in 0..lines {
        stream.read_line(&mut reply).expect("it answers");
        if reply.ends_with("END\r\n") {
            break;
        }
    }
    reply
}
