//! Bad input: whatever a client sends, it gets the exact error or a close, memory stays flat, and
//! others are served.
//!
//! larder runs as a child process, so that its memory and its life are read from the outside.

mod support;

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs, thread};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::SockRef;
use support::{Random, Server};

#[test]
fn a_line_without_end_closes() {
    let server = start(&[]);
    let before = server.resident_bytes();
    let mut stream = server.connect();
    let error = write_forever(&mut stream, &[b'x'; 64 << 10], 64 << 20);
    assert!(is_closed(&error), "the server takes a line without end: {error:?}");
    assert_eq!(read_until_closed(&mut stream), b"", "the close says nothing");
    assert_flat(&server, before, 4 << 20);
    assert_served(&server);
}

#[test]
fn a_key_without_end_is_bounded() {
    let server = start(&[]);
    let before = server.resident_bytes();
    let mut stream = server.connect();
    stream.write_all(b"get ").expect("a fresh connection is writable");
    // Whether the server closes or swallows the key up to a line feed that may never come is its
    // own affair.
    let outcome = write_forever(&mut stream, &[b'k'; 64 << 10], 32 << 20);
    assert!(outcome.is_ok() || is_closed(&outcome), "neither swallowed nor closed: {outcome:?}");
    assert_flat(&server, before, 4 << 20);
    assert_served(&server);
}

#[test]
fn a_get_line_of_any_length_streams() {
    let server = start(&[]);
    store(&server, "a", b"1");
    let before = server.resident_bytes();
    let mut stream = server.connect();
    stream.write_all(b"get").expect("a fresh connection is writable");
    write_forever(&mut stream, &b" missing".repeat(8 << 10), 32 << 20).expect("keys are streamed");
    assert_flat(&server, before, 8 << 20);
    stream.write_all(b" a\r\nquit\r\n").expect("the connection stands");
    assert_eq!(read_until_closed(&mut stream), b"VALUE a 0 1\r\n1\r\nEND\r\n");
    assert_served(&server);
}

#[test]
fn a_get_of_200_000_keys_answers_them_all() {
    let server = start(&[]);
    store(&server, "hit", &[b'v'; 100]);
    let before = server.resident_bytes();
    let mut stream = server.connect();
    let mut writer = stream.try_clone().expect("a socket can be cloned");
    let request = format!("get{}\r\nquit\r\n", " hit".repeat(200_000));
    let sending = thread::spawn(move || writer.write_all(request.as_bytes()));
    let answer = read_until_closed(&mut stream);
    sending.join().expect("no panic").expect("the request is taken");
    let value = format!("VALUE hit 0 100\r\n{}\r\n", "v".repeat(100));
    assert!(answer == format!("{}END\r\n", value.repeat(200_000)).as_bytes(), "a wrong answer");
    assert_flat(&server, before, 8 << 20);
}

#[test]
fn lengths_beyond_the_readable_are_refused_and_swallow_nothing() {
    let server = start(&[]);
    for command in ["set", "add", "replace", "append", "prepend", "cas"] {
        for length in UNREADABLE_LENGTHS {
            let mut stream = server.connect();
            write!(stream, "{command} a 0 0 {length} 1\r\nversion\r\nquit\r\n").expect("writable");
            let answer = String::from_utf8(read_until_closed(&mut stream)).expect("text");
            let expected = "CLIENT_ERROR bad command line format\r\nVERSION 1.6.45\r\n";
            assert_eq!(answer, expected, "{command} with a length of {length}");
        }
    }
}

#[test]
fn the_largest_readable_length_is_swallowed_and_costs_nothing() {
    let server = start(&[]);
    let before = server.resident_bytes();
    let mut stream = server.connect();
    write!(stream, "set a 0 0 2147483645\r\n").expect("a fresh connection is writable");
    write_forever(&mut stream, &[b'v'; 64 << 10], 64 << 20).expect("the value is swallowed");
    assert_flat(&server, before, 4 << 20);
    assert_served(&server);
}

#[test]
fn a_value_cut_off_by_a_disconnect_stores_nothing() {
    let server = start(&[]);
    for length in [10, 20_000, 900_000] {
        store(&server, "a", b"old");
        let mut stream = server.connect();
        write!(stream, "set a 0 0 {length}\r\n").expect("a fresh connection is writable");
        stream.write_all(&vec![b'v'; length / 2]).expect("half a value is taken");
        stream.shutdown(Shutdown::Write).expect("a socket can be shut down");
        assert_eq!(read_until_closed(&mut stream), b"", "half a value has no answer");
        assert_eq!(ask(&server, "get a\r\n"), b"VALUE a 0 3\r\nold\r\nEND\r\n");
    }
}

#[test]
fn values_that_never_come_stay_within_the_memory_limit() {
    let server = start(&["-m", "64"]);
    let mut streams: Vec<_> = (0..200).map(|_| server.connect()).collect();
    for (number, stream) in streams.iter_mut().enumerate() {
        write!(stream, "set pending{number} 0 0 1000000\r\n").expect("writable");
        stream.write_all(&[b'v'; 900_000]).expect("most of a value is taken");
    }
    support::await_true(|| bytes_read(&server) >= 200 * 900_000, "it is not all read");
    assert_flat(&server, 0, 160 << 20);
    assert_served(&server);
    drop(streams);
    store(&server, "a", b"1");
    assert_eq!(ask(&server, "get a\r\n"), b"VALUE a 0 1\r\n1\r\nEND\r\n");
}

#[test]
fn a_slow_reader_costs_others_nothing() {
    let server = start(&["-t", "1"]);
    let value = vec![b'v'; 1_000_000];
    store(&server, "large", &value);
    let before = server.resident_bytes();
    let mut piped = server.connect();
    let mut listed = server.connect();
    piped.write_all("get large\r\n".repeat(100).as_bytes()).expect("requests are small");
    listed.write_all(format!("get{}\r\n", " large".repeat(100)).as_bytes()).expect("as are lists");
    for _ in 0..1000 {
        assert_eq!(ask(&server, "get missing\r\n"), b"END\r\n");
    }
    assert_flat(&server, before, 16 << 20);
    let value = [b"VALUE large 0 1000000\r\n", &value[..], b"\r\n"].concat();
    let mut piped = BufReader::new(piped);
    let mut listed = BufReader::new(listed);
    for number in 0..100 {
        assert!(takes(&mut piped, &value) && takes(&mut piped, b"END\r\n"), "answer {number}");
        assert!(takes(&mut listed, &value), "value {number}");
    }
    assert!(takes(&mut listed, b"END\r\n"), "the end of the list");
}

#[test]
fn a_greedy_client_leaves_others_their_turn() {
    let server = start(&["-t", "1"]);
    store(&server, "a", b"1");
    let requests = b"get a\r\n".repeat(100_000);
    let answers = b"VALUE a 0 1\r\n1\r\nEND\r\n".repeat(100_000);
    let greedy = server.connect();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| (0..20).try_for_each(|_| (&greedy).write_all(&requests)));
        scope.spawn(|| {
            let right = (0..20).all(|_| takes(&mut &greedy, &answers));
            done.store(true, Ordering::SeqCst);
            assert!(right, "a wrong answer");
        });
        for _ in 0..50 {
            assert_served(&server);
        }
        assert!(!done.load(Ordering::SeqCst), "others had to wait for the end");
    });
}

#[test]
fn a_slow_reader_never_sees_a_mixed_value() {
    let server = start(&[]);
    store(&server, "a", &[b'0'; 1_000_000]);
    let mut slow = server.connect();
    slow.write_all("get a\r\n".repeat(50).as_bytes()).expect("requests are small");
    for version in b'1'..=b'9' {
        store(&server, "a", &[version; 1_000_000]);
    }
    assert_eq!(ask(&server, "delete a\r\n"), b"DELETED\r\n");
    let mut slow = BufReader::new(slow);
    let mut newest = b'0';
    for _ in 0..50 {
        let mut line = String::new();
        slow.read_line(&mut line).expect("an answer comes");
        if line == "END\r\n" {
            newest = b':';
            continue;
        }
        assert_eq!(line, "VALUE a 0 1000000\r\n");
        let mut value = vec![0; 1_000_007];
        slow.read_exact(&mut value).expect("a whole value comes");
        assert!(value.ends_with(b"\r\nEND\r\n"), "a value keeps its length");
        assert!(value[0] >= newest, "an older value after a newer one");
        newest = value[0];
        assert!(value[..1_000_000].iter().all(|&byte| byte == newest), "a mixed value");
    }
}

#[test]
fn twenty_thousand_connects_leave_no_trace() {
    let server = start(&[]);
    assert_served(&server);
    let files_before = open_files(&server);
    let before = server.resident_bytes();
    for number in 0..20_000 {
        let mut stream = server.connect();
        if number % 4 != 0 {
            stream.write_all(b"version\r\n").expect("a fresh connection is writable");
        }
        if number % 2 == 0 {
            assert!(number % 4 == 0 || takes(&mut stream, b"VERSION 1.6.45\r\n"));
        }
        // A reset rather than a farewell, which also keeps the port from waiting.
        SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).expect("an option");
    }
    support::await_true(|| open_files(&server) <= files_before, "connections are left open");
    assert_flat(&server, before, 8 << 20);
    assert_served(&server);
}

#[test]
fn junk_is_answered_or_closed() {
    // Loudly, since what is logged of junk is a way in as well.
    let server = start(&["-vv"]);
    let before = server.resident_bytes();
    let mut random = Random(0);
    for round in 0..1500 {
        let junk = if round % 3 == 0 { random.bytes(4000) } else { words(&mut random, 200) };
        let mut stream = server.connect();
        // The server may close in the middle of it.
        let _ = stream.write_all(&junk);
        let _ = stream.shutdown(Shutdown::Write);
        read_until_closed(&mut stream);
    }
    assert_served(&server);
    assert_flat(&server, before, 48 << 20);
}

#[test]
fn an_http_request_smuggles_nothing_in() {
    let server = start(&[]);
    let mut stream = server.connect();
    let request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 19\r\n\r\nset evil 0 0 1\r\n1\r\n";
    stream.write_all(request.as_bytes()).expect("a fresh connection is writable");
    assert_eq!(read_until_closed(&mut stream), b"", "a browser is told nothing");
    assert_eq!(ask(&server, "get evil\r\n"), b"END\r\n");
}

#[test]
fn connections_over_the_limit_are_told_and_closed() {
    let server = start(&["-c", "50"]);
    let mut served = Vec::new();
    let mut rejected = 0;
    for _ in 0..60 {
        let mut stream = BufReader::new(server.connect());
        let _ = stream.get_mut().write_all(b"version\r\n");
        let mut line = String::new();
        stream.read_line(&mut line).expect("an answer comes");
        if line == "VERSION 1.6.45\r\n" {
            served.push(stream);
        } else {
            assert_eq!(line, "ERROR Too many open connections\r\n");
            assert_eq!(read_until_closed(&mut stream), b"", "then it closes");
            rejected += 1;
        }
    }
    assert_eq!((served.len(), rejected), (50, 10));
    for stream in &mut served {
        stream.get_mut().write_all(b"version\r\n").expect("those inside are unharmed");
        assert!(takes(stream, b"VERSION 1.6.45\r\n"));
    }
    served.truncate(10);
    support::await_true(|| open_files(&server) < 50, "closed connections are kept");
    assert_served(&server);
}

#[test]
fn idle_connections_cost_little() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit can be read");
    setrlimit(Resource::RLIMIT_NOFILE, most, most).expect("a limit can be raised");
    let server = start(&["-c", "20000"]);
    assert_served(&server);
    let before = server.resident_bytes();
    let mut idle: Vec<_> = (0..IDLE_CONNECTIONS).map(|_| server.connect()).collect();
    for stream in &mut idle {
        stream.write_all(b"set a 0 0 1000\r\n").expect("a fresh connection is writable");
        stream.write_all(&[b'v'; 1000]).expect("a fresh connection is writable");
        stream.write_all(b"\r\nversion\r\n").expect("a fresh connection is writable");
        assert!(takes(stream, b"STORED\r\nVERSION 1.6.45\r\n"));
    }
    assert_flat(&server, before, IDLE_CONNECTIONS * 2048);
}

#[test]
fn a_full_server_evicts_rather_than_refuses() {
    let server = start(&["-m", "16", "-I", "1m"]);
    let mut random = Random(16);
    for number in 0..2000 {
        let length = 1 << random.below(18);
        store(&server, &format!("key{number}"), &random.bytes(length));
    }
    assert_flat(&server, 0, (16 + 24) << 20);
    assert_served(&server);
}

#[test]
fn a_full_server_that_must_not_evict_keeps_what_it_took() {
    let server = start(&["-M", "-m", "8", "-I", "512k"]);
    let mut taken = Vec::new();
    for number in 0..20_000 {
        let request = format!("set key{number} 0 0 1000\r\n{number:01000}\r\n");
        match ask(&server, &request).as_slice() {
            b"STORED\r\n" => taken.push(number),
            answer => {
                assert_eq!(answer, b"SERVER_ERROR out of memory storing object\r\n");
                break;
            }
        }
    }
    assert!((4000..20_000).contains(&taken.len()), "{} of 1000 bytes in 8 MiB", taken.len());
    for number in taken {
        let answer = ask(&server, &format!("get key{number}\r\n"));
        let expected = format!("VALUE key{number} 0 1000\r\n{number:01000}\r\nEND\r\n");
        assert!(answer == expected.as_bytes(), "key{number} is gone");
    }
}

#[test]
fn a_split_anywhere_changes_nothing() {
    let server = start(&[]);
    let request = b"set s 5 0 4\r\n\r\n\r\n\r\nget s\nincr s 1\r\n\r\nset s 0 0 1\r\n12\r\nget s s\r\nquit\r\n";
    let expected: &[u8] = b"STORED\r\nVALUE s 5 4\r\n\r\n\r\n\r\nEND\r\n\
        CLIENT_ERROR cannot increment or decrement non-numeric value\r\n\
        CLIENT_ERROR bad command line format\r\n\
        CLIENT_ERROR bad data chunk\r\nCLIENT_ERROR bad command line format\r\n\
        VALUE s 5 4\r\n\r\n\r\n\r\nVALUE s 5 4\r\n\r\n\r\n\r\nEND\r\n";
    for split in 1..request.len() {
        ask(&server, "delete s\r\n");
        let mut stream = server.connect();
        stream.write_all(&request[..split]).expect("the first part is taken");
        assert_served(&server);
        stream.write_all(&request[split..]).expect("the second part is taken");
        let answer = read_until_closed(&mut stream);
        assert_eq!(answer.escape_ascii().to_string(), expected.escape_ascii().to_string());
    }
}

#[test]
fn a_value_of_64_mebibytes_makes_the_round_trip() {
    let server = start(&["-I", "64m", "-m", "512"]);
    let mut random = Random(64);
    for _ in 0..3 {
        let value = random.bytes((64 << 20) - 1024);
        store(&server, "large", &value);
        let answer = ask(&server, "get large\r\n");
        let head = format!("VALUE large 0 {}\r\n", value.len());
        let expected = [head.as_bytes(), &value, b"\r\nEND\r\n"].concat();
        assert!(answer == expected, "another value comes back");
    }
    assert_flat(&server, 0, (512 + 64) << 20);
}

/// larder with these flags.
fn start(flags: &[&str]) -> Server {
    Server::start(&support::larder(), flags)
}

/// Sends one request on a connection of its own and returns its whole answer.
fn ask(server: &Server, request: &str) -> Vec<u8> {
    let mut stream = server.connect();
    write!(stream, "{request}quit\r\n").expect("a fresh connection is writable");
    read_until_closed(&mut stream)
}

/// Stores a value without flags and without an end.
fn store(server: &Server, key: &str, value: &[u8]) {
    let mut stream = server.connect();
    let head = format!("set {key} 0 0 {}\r\n", value.len());
    stream.write_all(&[head.as_bytes(), value, b"\r\n"].concat()).expect("a value is taken");
    assert!(takes(&mut stream, b"STORED\r\n"), "{key} is not stored");
}

fn assert_served(server: &Server) {
    assert_eq!(ask(server, "version\r\n"), b"VERSION 1.6.45\r\n", "another client is served");
}

/// Reads as many bytes as are expected; false if they are others.
fn takes(stream: &mut impl Read, expected: &[u8]) -> bool {
    let mut received = vec![0; expected.len()];
    stream.read_exact(&mut received).expect("an answer comes");
    received == expected
}

/// Reads to the server's close, however it closes.
fn read_until_closed(stream: &mut impl Read) -> Vec<u8> {
    let mut received = Vec::new();
    match stream.read_to_end(&mut received) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => {
            panic!("the connection does not end: {error}, {}", received.escape_ascii())
        }
        _ => received,
    }
}

/// Writes `chunk` again and again until `total_len` bytes are written or the server closes.
fn write_forever(stream: &mut TcpStream, chunk: &[u8], total_len: usize) -> io::Result<()> {
    (0..total_len / chunk.len()).try_for_each(|_| stream.write_all(chunk))
}

fn is_closed(outcome: &io::Result<()>) -> bool {
    let closed = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
    outcome.as_ref().is_err_and(|error| closed.contains(&error.kind()))
}

fn assert_flat(server: &Server, before: u64, allowed_growth_bytes: u64) {
    let now = server.resident_bytes();
    let limit = before + allowed_growth_bytes + POPULATED_BYTES;
    assert!(now <= limit, "memory went from {before} to {now} bytes, over {limit}");
}

/// What the server says it has read from all clients.
fn bytes_read(server: &Server) -> u64 {
    let figures = String::from_utf8(ask(server, "stats\r\n")).expect("text");
    let figure = figures.lines().find_map(|line| line.strip_prefix("STAT bytes_read "));
    figure.and_then(|figure| figure.parse().ok()).expect("a number")
}

/// How many file descriptors the process has open.
fn open_files(server: &Server) -> usize {
    let path = format!("/proc/{}/fd", server.id());
    fs::read_dir(path).expect("the server lives").count()
}

/// A sequence of words that mean something to the protocol, in an order that does not.
fn words(random: &mut Random, most: usize) -> Vec<u8> {
    let mut text = String::new();
    for _ in 0..random.below(most) {
        match random.below(8) {
            0 => text.push_str("\r\n"),
            1 => write!(text, "{}", random.next()).expect("a string takes all"),
            2 => write!(text, "{}", random.below(100)).expect("a string takes all"),
            _ => text.push_str(WORDS[random.below(WORDS.len())]),
        }
        if random.below(4) > 0 {
            text.push(' ');
        }
    }
    text.into_bytes()
}

const IDLE_CONNECTIONS: u64 = 5000;
/// What the store has from the system ahead of its first item, beside whatever a client does.
const POPULATED_BYTES: u64 = 8 << 20;
const UNREADABLE_LENGTHS: [&str; 11] = [
    "-1",
    "-2147483648",
    "-9223372036854775808",
    "2147483646",
    "2147483647",
    "2147483648",
    "4294967295",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
];
const WORDS: [&str; 32] = [
    "get",
    "gets",
    "gat",
    "gats",
    "set",
    "add",
    "replace",
    "append",
    "prepend",
    "cas",
    "incr",
    "decr",
    "touch",
    "delete",
    "flush_all",
    "version",
    "verbosity",
    "stats",
    "settings",
    "items",
    "noreply",
    "0",
    "1",
    "-1",
    "a",
    "b",
    "\n",
    "\r",
    "\0",
    "\r\n1\r\n",
    "\u{ff}\u{fe}",
    "HTTP/",
];
