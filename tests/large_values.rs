//! Values much larger than what is read or written at a time: they arrive whole, stay whole while
//! they are read, and neither those who send them slowly nor those who read them slowly take more
//! memory than the limits say or keep others from being served.
//!
//! `LARDER_LARGE_VALUE_BYTES` is the size of the largest, `LARDER_LARGE_VALUE_CONNECTIONS` how many
//! clients there are; the long form has 1 GiB and 10,000.

mod support;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};
use std::io::{Read, Write};
use std::iter;
use support::Server;
use support::client::Client;

#[test]
fn a_value_of_any_size_goes_in_and_comes_out_while_it_is_replaced() {
    let value_bytes = value_bytes();
    let memory = ((3 * value_bytes) >> 20).max(64);
    let (item, memory_limit) = ((value_bytes + 1024).to_string(), memory.to_string());
    let server = Server::start(&support::larder(), &["-m", &memory_limit, "-I", &item]);
    let (mut writer, mut slow) = (Client::connect(&server), Client::connect(&server));
    writer.store("large", value_bytes, 1);
    writer.retrieve("large", value_bytes, 1);
    // One reader has seen the beginning of a value when another takes its place, and that goes.
    slow.send("get large\r\n");
    slow.read_header("large", value_bytes);
    writer.store("large", value_bytes, 2);
    writer.retrieve("large", value_bytes, 2);
    assert_eq!(writer.ask("delete large"), "DELETED");
    assert_eq!(writer.ask("flush_all"), "OK");
    writer.store("other", value_bytes, 3);
    slow.read_value(value_bytes, 1);
    assert_eq!(slow.line(), "END");
    writer.retrieve("other", value_bytes, 3);
    writer.await_zero("segments_aside");
    writer.await_zero("connection_buffer_bytes");
}

/// Memcached finds the number of an item of up to half of a slab's page, whatever follows it.
#[test]
fn a_counter_is_one_wherever_its_blanks_lie() {
    for program in iter::once(support::larder()).chain(support::reference()) {
        let server = Server::start(&program, &["-m", "8"]);
        let mut client = Client::connect(&server);
        // So many that some lie across the end of a segment.
        for number in 0..500 {
            let text = format!("{:6000}", "7");
            assert_eq!(client.ask(&format!("set {number} 0 0 6000\r\n{text}")), "STORED");
            assert_eq!(client.ask(&format!("incr {number} 2")), "9", "{number}");
            assert_eq!(client.ask(&format!("decr {number} 10")), "0", "{number}");
        }
        // The frame of an item with this key is 62 bytes.
        let longest_bytes = (512 << 10) - 62;
        for (bytes, answer) in [(longest_bytes, "8"), (longest_bytes + 1, NON_NUMERIC)] {
            let text = format!("7{}", " ".repeat(bytes - 1));
            assert_eq!(client.ask(&format!("set big 0 0 {bytes}\r\n{text}")), "STORED");
            assert_eq!(client.ask("incr big 1"), answer, "{bytes} bytes");
        }
    }
}

#[test]
fn half_a_value_on_each_of_many_connections_stays_within_the_limits() {
    let connections_max = (connections() + 100).to_string();
    let server = Server::start(&support::larder(), &["-m", "64", "-c", &connections_max]);
    let mut observer = Client::connect(&server);
    let mut senders: Vec<_> = (0..connections()).map(|_| Client::connect(&server)).collect();
    for (number, sender) in senders.iter_mut().enumerate() {
        sender.send(format!("set half{number} 0 0 {SMALL_BYTES}\r\n"));
        sender.send_value(SMALL_BYTES / 2, 1);
    }
    support::await_true(
        || observer.general("bytes_read") >= (connections() * SMALL_BYTES / 2) as u64,
        "what was sent is read",
    );
    assert_within_limits(&server, &mut observer);
    // What every connection has room for, whatever others take.
    for number in 0..100 {
        observer.store(&format!("other{number}"), 1000, number);
        observer.retrieve(&format!("other{number}"), 1000, number);
    }
    // Who was received so far may go on; who was not has been told.
    let (value, mut stored) = (value_of(SMALL_BYTES, 1), 0);
    for (number, sender) in senders.iter_mut().enumerate() {
        sender.send(&value[SMALL_BYTES / 2..]);
        sender.send("\r\n");
        match sender.line().as_str() {
            "STORED" => stored += 1,
            line => assert_eq!(line, "SERVER_ERROR out of memory storing object", "{number}"),
        }
    }
    assert!((50..connections()).contains(&stored), "{stored} are stored");
    drop(senders);
    observer.await_zero("connection_buffer_bytes");
    observer.await_zero("segments_aside");
}

#[test]
fn slow_readers_of_many_values_stay_within_the_limits() {
    let overdrawn = read_slowly(900_000, 50, 5);
    assert_eq!(overdrawn, 0, "what is sent from where it lies is no buffer");
}

#[test]
fn slow_readers_of_what_is_copied_stay_within_the_limits() {
    let overdrawn = read_slowly(60_000, 200, 60);
    assert!(overdrawn > 0, "there was no room for all that was owed");
}

/// Has many clients ask for values and not read them, while others are served. Returns how many
/// clients were let go.
fn read_slowly(value_bytes: usize, keys: u8, requests: usize) -> u64 {
    let connections_max = (connections() + 100).to_string();
    let server = Server::start(&support::larder(), &["-m", "64", "-c", &connections_max]);
    let mut observer = Client::connect(&server);
    for number in 0..keys {
        observer.store(&format!("large{number}"), value_bytes, number);
    }
    let mut readers: Vec<_> =
        (0..connections()).map(|_| Client::connect_far_away(&server)).collect();
    for (number, reader) in readers.iter_mut().enumerate() {
        let key = number % usize::from(keys);
        let asked = format!("get large{key} large{key} missing\r\n").repeat(requests);
        // Who is let go because there is no room for him need not wait until he is told.
        let _ = reader.0.get_mut().write_all(asked.as_bytes());
    }
    // Others write over it, and store much more than there is room for.
    for number in 0..100 {
        observer.store(&format!("other{number}"), 225_000, number);
        observer.retrieve(&format!("other{number}"), 225_000, number);
        assert_within_limits(&server, &mut observer);
    }
    assert_eq!(observer.ask("flush_all"), "OK");
    observer.store("large0", value_bytes, 99);
    observer.retrieve("large0", value_bytes, 99);
    assert_within_limits(&server, &mut observer);
    // What they read in the end is what was there, whole.
    let mut read_bytes = 0;
    for (number, reader) in readers.iter_mut().enumerate().step_by(20) {
        let version = u8::try_from(number % usize::from(keys)).expect("few");
        read_bytes += reader.read_what_was_begun(&[version, 99], value_bytes);
    }
    assert!(read_bytes > 100_000, "{read_bytes} bytes");
    drop(readers);
    observer.await_zero("connection_buffer_bytes");
    observer.await_zero("segments_aside");
    observer.stat("connections_overdrawn")
}

fn assert_within_limits(server: &Server, observer: &mut Client) {
    let buffers = observer.stat("connection_buffer_bytes");
    let limit = observer.stat("connection_buffer_bytes_max");
    assert!(buffers <= limit, "{buffers} bytes of buffers, over {limit}");
    let (aside, segments) = (observer.stat("segments_aside"), observer.stat("segments"));
    assert!(aside <= segments / 4 * 3 + 8, "{aside} of {segments} segments are aside");
    let resident = server.resident_bytes();
    let most = (64 << 20) + limit + CONSTANT_BYTES;
    assert!(resident <= most, "{resident} bytes, over {most}; {buffers} of buffers");
}

impl Client {
    fn connect(server: &Server) -> Self {
        Self::new(server.connect())
    }

    /// As over a network, whose segments are small: of those of a loopback, the kernel keeps so much
    /// for each client that some thousands take all the memory that TCP may have.
    fn connect_far_away(server: &Server) -> Self {
        let socket = Socket::new(Domain::for_address(server.address), Type::STREAM, None);
        let socket = socket.expect("there are sockets");
        socket.set_tcp_mss(1448).expect("a socket takes its options");
        socket.set_recv_buffer_size(16 << 10).expect("as above");
        socket.set_read_timeout(Some(support::PATIENCE)).expect("as above");
        socket.set_write_timeout(Some(support::PATIENCE)).expect("as above");
        socket.connect(&server.address.into()).expect("the server accepts");
        Self::new(socket.into())
    }

    fn store(&mut self, key: &str, bytes: usize, version: u8) {
        self.send(format!("set {key} 0 0 {bytes}\r\n"));
        self.send_value(bytes, version);
        assert_eq!(self.ask(""), "STORED", "{key}");
    }

    fn send_value(&mut self, bytes: usize, version: u8) {
        let piece = value_of(PIECE_BYTES, version);
        for start in (0..bytes).step_by(PIECE_BYTES) {
            let piece = &piece[..PIECE_BYTES.min(bytes - start)];
            self.send(piece);
        }
    }

    fn retrieve(&mut self, key: &str, bytes: usize, version: u8) {
        self.send(format!("get {key}\r\n"));
        self.read_header(key, bytes);
        self.read_value(bytes, version);
        assert_eq!(self.line(), "END");
    }

    fn read_header(&mut self, key: &str, bytes: usize) {
        assert_eq!(self.line(), format!("VALUE {key} 0 {bytes}"));
    }

    fn read_value(&mut self, bytes: usize, version: u8) {
        let expect = value_of(PIECE_BYTES, version);
        let mut piece = vec![0; PIECE_BYTES];
        for start in (0..bytes).step_by(PIECE_BYTES) {
            let length = PIECE_BYTES.min(bytes - start);
            self.0.read_exact(&mut piece[..length]).expect("the value goes on");
            assert!(piece[..length] == expect[..length], "version {version}, at {start}");
        }
        assert_eq!(self.line(), "");
    }

    /// Reads to the end of what the server has for a client that sends nothing more, which it may
    /// have let go in the middle of it. Values are whole and of one of these versions.
    fn read_what_was_begun(&mut self, versions: &[u8], bytes: usize) -> usize {
        let _ = self.0.get_mut().shutdown(std::net::Shutdown::Write);
        let mut received = Vec::new();
        // Who was let go may be told so by a reset.
        let _ = self.0.read_to_end(&mut received);
        let expected: Vec<_> = versions.iter().map(|&version| value_of(bytes, version)).collect();
        let mut rest = received.as_slice();
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            let line = &rest[..=end];
            rest = &rest[end + 1..];
            if line.starts_with(b"VALUE ") {
                let value = &rest[..bytes.min(rest.len())];
                let is_right = |expected: &Vec<u8>| expected.starts_with(value);
                assert!(expected.iter().any(is_right), "a value of another version, or a mixture");
                rest = rest.get(bytes + 2..).unwrap_or_default();
            }
        }
        received.len()
    }

    /// What the server knows of a reply's end may come a little later than the reply.
    fn await_zero(&mut self, name: &str) {
        support::await_true(|| self.stat(name) == 0, name);
    }

    /// A figure of `stats larder`.
    fn stat(&mut self, name: &str) -> u64 {
        self.figure("stats larder", name)
    }

    /// A figure of `stats`.
    fn general(&mut self, name: &str) -> u64 {
        self.figure("stats", name)
    }
}

/// The bytes of a value: no two versions have the same, and no two places nearby.
fn value_of(bytes: usize, version: u8) -> Vec<u8> {
    let block = (0..BLOCK_BYTES).map(|place| (place / 251 * 7 + place).to_le_bytes()[0] ^ version);
    let mut value = block.collect::<Vec<u8>>().repeat(bytes.div_ceil(BLOCK_BYTES));
    value.truncate(bytes);
    value
}

/// Of the largest value.
fn value_bytes() -> usize {
    let typed = std::env::var("LARDER_LARGE_VALUE_BYTES");
    typed.map_or(48 << 20, |typed| typed.parse().expect("a number of bytes"))
}

/// How many clients there are, in as many files as that takes.
fn connections() -> usize {
    let typed = std::env::var("LARDER_LARGE_VALUE_CONNECTIONS");
    let connections = typed.map_or(1000, |typed| typed.parse().expect("a number"));
    // The tests run side by side.
    let files = 4 * connections as u64 + 400;
    let (now, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("the system says");
    if now < files {
        // Who may open no more than there are has to run the tests one after the other.
        setrlimit(Resource::RLIMIT_NOFILE, files, most.max(files))
            .or_else(|_| setrlimit(Resource::RLIMIT_NOFILE, most, most))
            .expect("all that one may is allowed");
    }
    connections
}

const BLOCK_BYTES: usize = 4093;
const PIECE_BYTES: usize = 256 * BLOCK_BYTES;
const SMALL_BYTES: usize = 900_000;

/// What the program takes besides items and buffers, with some KiB for each connection.
const CONSTANT_BYTES: u64 = 40 << 20;

const NON_NUMERIC: &str = "CLIENT_ERROR cannot increment or decrement non-numeric value";
