//! Datagrams: what memcached answers, and what keeps the answers from harming others.

mod support;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use larder::clock::Clock;
use nix::unistd::Uid;
use support::Server;

#[test]
fn each_request_of_a_datagram_is_answered() {
    for program in programs() {
        let server = start(&program, &[]);
        let client = Client::of(&server);
        let table: &[(&[u8], &[&str])] = &[
            (b"set a 0 0 1\r\nx\r\n", &["STORED\r\n"]),
            (b"get a\r\n", &["VALUE a 0 1\r\nx\r\nEND\r\n"]),
            (b"get nothing\r\n", &["END\r\n"]),
            (b"mg a v\r\nmn\r\n", &["VA 1\r\nx\r\n", "MN\r\n"]),
            (b"mg nothing v q\r\nmn\r\n", &["MN\r\n"]),
            (b"set a 0 0 1 noreply\r\ny\r\n", &[]),
            (
                b"version\r\nget a\r\nset b 0 0 1\r\ny\r\nbogus\r\n",
                &["VERSION 1.6.45\r\n", "VALUE a 0 1\r\ny\r\nEND\r\n", "STORED\r\n", "ERROR\r\n"],
            ),
            (b"\r\n", &["CLIENT_ERROR bad command line format\r\n"]),
            (b"get a", &[]),
        ];
        for (requests, replies) in table {
            let expected: Vec<Frame> =
                replies.iter().map(|reply| Frame::only(reply.as_bytes())).collect();
            assert_eq!(client.ask(requests), expected, "{}", requests.escape_ascii());
            client.forget_what_is_left();
        }
    }
}

/// memcached answers no more than the first packet of a datagram.
#[test]
fn a_packet_in_a_datagram_is_answered_by_a_packet() {
    for program in programs() {
        let server = start(&program, &[]);
        let client = Client::of(&server);
        tell(&server, "set a 7 0 1\r\nx\r\n");
        for (request, reply) in [
            (packet(0x80, 0x0b, b"", b"", b""), packet(0x81, 0x0b, b"", b"", b"1.6.45")),
            (packet(0x80, 0x00, b"", b"a", b""), packet(0x81, 0x00, &[0, 0, 0, 7], b"", b"x")),
        ] {
            let frames = client.ask(&request);
            let [Frame { number: 0, total: 1, payload }] = &frames[..] else {
                panic!("{frames:?}");
            };
            let (cas, without_cas) = (16..24, |bytes: &[u8]| [&bytes[..16], &bytes[24..]].concat());
            assert_eq!(without_cas(payload), without_cas(&reply));
            assert_eq!(payload[cas].iter().all(|&byte| byte == 0), request[1] == 0x0b);
        }
        // Whether there is an item is not asked of a client that sends half a packet.
        assert_eq!(client.ask(&packet(0x80, 0x00, b"", b"a", b"")[..20]), []);
        assert_eq!(client.ask(b"version\r\n"), [Frame::only(b"VERSION 1.6.45\r\n")]);
    }
}

#[test]
fn a_long_reply_goes_out_in_as_many_frames_as_it_takes() {
    for program in programs() {
        let server = start(&program, &[]);
        let client = Client::of(&server);
        for value_bytes in [1369, 1370, 1371, 1373, 1376, 3000, 60_000] {
            let value = "z".repeat(value_bytes);
            tell(&server, &format!("set v 0 0 {value_bytes}\r\n{value}\r\n"));
            let reply = format!("VALUE v 0 {value_bytes}\r\n{value}\r\nEND\r\n").into_bytes();
            let total = u16::try_from(reply.len().div_ceil(1392)).expect("few");
            let expected: Vec<Frame> = (0..total)
                .zip(reply.chunks(1392))
                .map(|(number, payload)| Frame { number, total, payload: payload.to_vec() })
                .collect();
            assert_eq!(client.ask(b"get v\r\n"), expected, "{value_bytes} bytes");
        }
    }
}

/// memcached answers each key by itself, all as the first of one: nobody can tell what is missing.
#[test]
fn the_items_of_one_request_are_one_reply() {
    let server = start(&support::larder(), &[]);
    let client = Client::of(&server);
    client.ask(b"set a 0 0 1\r\nx\r\nset b 0 0 1\r\ny\r\n");
    let items = "VALUE a 0 1\r\nx\r\nVALUE b 0 1\r\ny\r\nEND\r\n";
    assert_eq!(client.ask(b"get a b\r\n"), [Frame::only(items.as_bytes())]);
    let keys = [b"get".as_slice(), &b" a".repeat(1000), b"\r\n"].concat();
    let frames = client.ask(&keys);
    let reply: Vec<u8> = frames.iter().flat_map(|frame| frame.payload.clone()).collect();
    assert_eq!(reply, [b"VALUE a 0 1\r\nx\r\n".repeat(1000), b"END\r\n".to_vec()].concat());
    assert!(frames.iter().all(|frame| usize::from(frame.total) == frames.len()));
}

/// CVE-2022-48571: memcached crashed on requests of several datagrams.
#[test]
fn cve_2022_48571_what_is_no_whole_request_is_dropped() {
    for program in programs() {
        let server = start(&program, &[]);
        let client = Client::of(&server);
        let version = b"version\r\n".as_slice();
        for total in [[0, 0], [0, 2], [1, 0], [1, 1], [0xff, 0xff]] {
            client.send(&[b"\0\x07\0\0".as_slice(), &total, b"\0\0", version].concat());
        }
        for length in 0..=8 {
            client.send(&b"\0\x07\0\0\0\x01\0\0"[..length]);
        }
        assert_eq!(client.ask(version), [Frame::only(b"VERSION 1.6.45\r\n")]);
        let odd = [b"\0\x07\xff\xff\0\x01\xff\xff".as_slice(), version].concat();
        client.send(&odd);
        assert_eq!(client.receive().1, Frame::only(b"VERSION 1.6.45\r\n"));
    }
}

/// memcached takes the next datagram, of whoever it is, for what is missing of the last.
#[test]
fn a_datagram_leaves_nothing_behind() {
    let server = start(&support::larder(), &[]);
    let (client, other) = (Client::of(&server), Client::of(&server));
    for part in ["set a 0 0 5\r\nhel", "set a 0 0 5\r\n", "get a", "set a 0 0 1000\r\n"] {
        assert_eq!(client.ask(part.as_bytes()), []);
        assert_eq!(other.ask(b"get a\r\n"), [Frame::only(b"END\r\n")]);
    }
    assert_eq!(client.ask(b"quit\r\nversion\r\n"), []);
    assert_eq!(client.ask(&[b'x'; 3000]), []);
    for endless in ["watch fetchers\r\n", "watch\r\n", "lru_crawler metadump all\r\n"] {
        assert_eq!(client.ask(endless.as_bytes()), [], "{endless}");
    }
    assert_eq!(client.ask(b"version\r\n"), [Frame::only(b"VERSION 1.6.45\r\n")]);
}

#[test]
fn a_reply_beyond_the_limit_is_not_sent() {
    let server = start(&support::larder(), &[]);
    let client = Client::of(&server);
    let value = "z".repeat(100_000);
    tell(&server, &format!("set large 0 0 100000\r\n{value}\r\n"));
    tell(&server, &format!("set half 0 0 50000\r\n{}\r\n", &value[..50_000]));
    for requests in ["get large\r\n", "get half half\r\n", "mg large v\r\n", "gat 0 large\r\n"] {
        assert_eq!(client.ask(requests.as_bytes()), [], "{requests}");
    }
    assert_eq!(client.ask(b"get half\r\n").len(), 36);
    assert_eq!(dropped(&server), 4);
}

/// To put together what is thrown away costs as much as what is sent: a few bytes could have a
/// large item copied, as often as they are sent.
#[test]
fn a_reply_that_is_not_sent_counts_as_the_longest_that_is() {
    let server = start(&support::larder(), &["--udp-rate", "1000"]);
    tell(&server, &format!("set large 0 0 100000\r\n{}\r\n", "z".repeat(100_000)));
    let client = Client::of(&server);
    client.send(b"\0\x07\0\0\0\x01\0\0get large\r\n");
    client.send(b"\0\x07\0\0\0\x01\0\0version\r\n");
    support::await_true(|| dropped(&server) == 2, "it counts for less");
    assert_eq!(client.drain(), 0);
}

/// CVE-2018-1000115: memcached sent as much as was asked for to whoever it was told to.
#[test]
fn cve_2018_1000115_an_address_is_sent_no_more_than_its_rate() {
    let server = start(&support::larder(), &["--udp-rate", "100k"]);
    let clock = Clock::start();
    let value = "z".repeat(60_000);
    tell(&server, &format!("set v 0 0 60000\r\n{value}\r\n"));
    let client = Client::of(&server);
    // One datagram can ask as often as it has room for.
    client.send(&[b"\0\x07\0\0\0\x01\0\0".as_slice(), &b"get v\r\n".repeat(1000)].concat());
    for _ in 0..1000 {
        client.send(b"\0\x07\0\0\0\x01\0\0get v\r\n");
    }
    // The system drops some of so many by itself.
    support::await_true(|| dropped(&server) > 10, "what is too much is not dropped");
    let sent_bytes = client.drain();
    let seconds = clock.uptime().as_secs() + 1;
    let limit_bytes = 102_400 * (usize::try_from(seconds).expect("few") + 1) + 65_536;
    assert!((60_000..=limit_bytes).contains(&sent_bytes), "{sent_bytes} bytes in {seconds} s");
    assert!(tell(&server, "get v\r\n").starts_with("VALUE v"), "others are served");
}

/// CVE-2024-2169: servers that are led to take each other for clients answer each other without
/// end.
#[test]
fn cve_2024_2169_a_server_is_not_answered() {
    let server = start(&support::larder(), &[]);
    let port = server.udp_address().port();
    let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 2), port)).expect("a free address");
    let other = Client::with(socket, &server);
    other.send(b"\0\x07\0\0\0\x01\0\0set a 0 0 1\r\nx\r\n");
    assert_eq!(Client::of(&server).ask(b"get a\r\n"), [Frame::only(b"END\r\n")]);
    assert_eq!(other.drain(), 0);
}

#[test]
fn figures_show_the_socket() {
    for program in programs() {
        let server = start(&program, &[]);
        let port = server.udp_address().port();
        let connections = tell(&server, "stats conns\r\n");
        assert!(connections.contains(":UDP UDP\r\n"), "{connections}");
        let expected = format!(":addr udp:127.0.0.1:{port}\r\n");
        assert!(connections.contains(&expected), "{connections}");
        assert!(connections.contains(":state conn_read\r\n"), "{connections}");
    }
}

#[test]
fn nobody_can_authenticate_so_nobody_is_asked_to() {
    let users = std::env::temp_dir().join(format!("larder-udp-{}", std::process::id()));
    std::fs::write(&users, "alice:secret\n").expect("a writable folder");
    for program in programs() {
        let user = if Uid::effective().is_root() { &["-u", "root"][..] } else { &[] };
        let mut command = Command::new(&program);
        command.args(user).args(["-l", "127.0.0.1", "-p", "0", "-U", "-1", "-Y"]).arg(&users);
        let output = command.stdout(Stdio::null()).output().expect("it runs");
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        let expected = "Cannot use UDP with ascii authentication enabled (-U 0 to disable)\n";
        assert_eq!((output.status.code(), message.as_str()), (Some(64), expected));
    }
    let _ = std::fs::remove_file(&users);
}

/// larder, and memcached where there is one.
fn programs() -> impl Iterator<Item = PathBuf> {
    std::iter::once(support::larder()).chain(support::reference())
}

fn start(program: &std::path::Path, flags: &[&str]) -> Server {
    // memcached's threads would take turns with the datagrams of one client.
    Server::start(program, &[&["-U", "-1", "-t", "1"], flags].concat())
}

/// What a server answers over TCP.
fn tell(server: &Server, requests: &str) -> String {
    let mut stream = server.connect();
    stream.write_all(requests.as_bytes()).expect("the server reads");
    stream.write_all(b"quit\r\n").expect("the server reads");
    let mut answers = String::new();
    stream.read_to_string(&mut answers).expect("the server closes in order");
    answers
}

/// A packet of the binary protocol without cas.
fn packet(magic: u8, opcode: u8, extras: &[u8], key: &[u8], value: &[u8]) -> Vec<u8> {
    let byte = |length: usize| u8::try_from(length).expect("short");
    let body_bytes = byte(extras.len() + key.len() + value.len());
    let mut header = [0; 24];
    (header[0], header[1]) = (magic, opcode);
    (header[3], header[4], header[11]) = (byte(key.len()), byte(extras.len()), body_bytes);
    [&header, extras, key, value].concat()
}

/// How many requests were not answered because of a limit.
fn dropped(server: &Server) -> u64 {
    let stats = tell(server, "stats larder\r\n");
    let count = stats.lines().find_map(|line| line.strip_prefix("STAT udp_dropped "));
    count.and_then(|count| count.parse().ok()).expect("a figure")
}

#[derive(Debug, PartialEq, Eq)]
struct Frame {
    number: u16,
    total: u16,
    payload: Vec<u8>,
}

impl Frame {
    fn only(payload: &[u8]) -> Self {
        Self { number: 0, total: 1, payload: payload.to_vec() }
    }
}

struct Client {
    socket: UdpSocket,
}

impl Client {
    fn of(server: &Server) -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self::with(UdpSocket::bind(any).expect("a free port"), server)
    }

    fn with(socket: UdpSocket, server: &Server) -> Self {
        socket.connect(server.udp_address()).expect("an address");
        socket.set_read_timeout(Some(support::PATIENCE)).expect("a socket takes its options");
        // What comes before it is read must not be lost.
        socket2::SockRef::from(&socket).set_recv_buffer_size(1 << 20).expect("as above");
        Self { socket }
    }

    fn send(&self, datagram: &[u8]) {
        self.socket.send(datagram).expect("the server is there");
    }

    fn receive(&self) -> (u16, Frame) {
        let mut datagram = [0; 2000];
        let bytes = self.socket.recv(&mut datagram).expect("an answer in time");
        let field = |at: usize| u16::from_be_bytes([datagram[at], datagram[at + 1]]);
        assert!((9..=1400).contains(&bytes) && field(6) == 0);
        let payload = datagram[8..bytes].to_vec();
        (field(0), Frame { number: field(2), total: field(4), payload })
    }

    /// The frames that answer these requests: all that come before the answer to another one.
    fn ask(&self, requests: &[u8]) -> Vec<Frame> {
        self.send(&[b"\x12\x34\0\0\0\x01\0\0".as_slice(), requests].concat());
        self.send(b"\x56\x78\0\0\0\x01\0\0\r\nget sentinel\r\n");
        let answers = std::iter::from_fn(|| Some(self.receive()).filter(|(id, _)| *id == 0x1234));
        let frames = answers.map(|(_, frame)| frame).collect();
        let (id, end) = self.receive();
        assert_eq!((id, end), (0x5678, Frame::only(b"END\r\n")));
        frames
    }

    /// memcached goes on where the last datagram ended.
    fn forget_what_is_left(&self) {
        self.ask(b"version\r\n");
    }

    /// How many bytes have come that nobody has read.
    fn drain(&self) -> usize {
        self.socket.set_nonblocking(true).expect("a socket takes its options");
        let mut datagram = [0; 2000];
        std::iter::from_fn(|| self.socket.recv(&mut datagram).ok()).sum()
    }
}
