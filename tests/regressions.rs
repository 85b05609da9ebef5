//! What has broken memcached over the years, as one named test for each kind of fault.
//!
//! Each asks for what was fatal then and expects an answer, a close, and a server that goes on;
//! answers are pinned against memcached 1.6.45 where it survives the question. Tests whose names
//! begin with a CVE's number are found by it; this is where all of them are:
//!
//! | fault | where |
//! |---|---|
//! | CVE-2011-4971: a negative length | here, `regressions/binary.rs` |
//! | CVE-2013-0179, -7290, -7291: keys in the log | here |
//! | CVE-2013-7239: a failed login lets the next command in | `src/serve/tests/login.rs`, `binary.rs` |
//! | CVE-2016-8704, -8705, -8706: lengths that overflow a sum | here, `regressions/binary.rs`, `src/serve/tests/binary.rs` |
//! | CVE-2017-9951: more key announced than sent | here, `regressions/binary.rs` |
//! | CVE-2018-1000115: amplification over UDP | here, `udp.rs`, `src/udp/allowance.rs` |
//! | CVE-2018-1000127: a count of readers that overflows | here, `regressions/binary.rs` |
//! | CVE-2019-11596: management commands without arguments | here |
//! | CVE-2019-15026: the name of a Unix socket in `stats conns` | `unix_socket.rs` |
//! | CVE-2020-10931: more extras than any command has | `regressions/binary.rs` |
//! | CVE-2020-22570: meta commands without a key or with malformed flags | here |
//! | CVE-2021-37519: files with lines that are too long | here, `src/auth/tests.rs` |
//! | CVE-2022-48571: a request of several datagrams | `udp.rs` |
//! | CVE-2024-2169: two servers that take each other for clients | `udp.rs` |
//! | CVE-2023-46852, -46853: multigets of any form, line feeds alone | here |
//! | CVE-2026-47783: comparing passwords took as long as they were right | `src/auth/tests.rs` |
//! | ways round `-Y` by way of a protocol (fixed in 1.6.43) | `authentication.rs` |
//! | empty lines before a login (fixed by 1.6.45) | `conformance/auth.txt` |
//! | a dump to a client that does not read (fixed by 1.6.45) | `management/dump.rs` |
//! | figures by prefix without an end (fixed by 1.6.45) | here |
//! | lines without a word (fixed by 1.6.45) | here |
//! | no memory left to read into (fixed by 1.6.45) | `limits.rs` |
//! | a data block without its end (memcached issue 1306, open) | here |
//! | a corrupt file for a restart | `restart.rs` |

#[path = "regressions/binary.rs"]
mod binary;
mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, iter, thread};

use support::{Random, Server};

/// A length was read as signed, and a negative one passed for a short one.
#[test]
fn cve_2011_4971_lengths_at_every_boundary() {
    for server in servers(&[]) {
        for command in ["set", "append", "ms"] {
            for length in LENGTHS {
                let line = match command {
                    "ms" => format!("ms key {length}"),
                    _ => format!("{command} key 0 0 {length}"),
                };
                let answer = ask(&server, &format!("{line}\r\n"));
                assert!(answer.starts_with("CLIENT_ERROR "), "{line}: {answer}");
            }
        }
        assert_serves(&server);
    }
}

/// Keys were printed to the log as if they ended in a zero byte.
#[test]
fn cve_2013_0179_keys_of_any_bytes_are_not_logged() {
    let mut child = Command::new(support::larder())
        .args(["-vvv", "-p", "-1", "-l", "127.0.0.1"])
        .env("LARDER_USER", "root")
        .stderr(Stdio::piped())
        .spawn()
        .expect("larder starts");
    let mut log = BufReader::new(child.stderr.take().expect("it is piped"));
    let mut line = String::new();
    while !line.contains("listening on ") {
        line.clear();
        assert_ne!(log.read_line(&mut line).expect("the log is text"), 0, "larder ended");
    }
    let address = line.rsplit(' ').next().expect("the last is the address").trim().to_owned();
    let logged = thread::spawn(move || {
        let mut rest = Vec::new();
        log.read_to_end(&mut rest).map(|_| rest)
    });
    let mut random = Random(2013);
    for length in 1..=260 {
        let mut key = [b"secret".as_slice(), &random.bytes(length)].concat();
        key.retain(|byte| !b" \r\n".contains(byte));
        let requests = [
            [b"get ", key.as_slice(), b"\r\n"].concat(),
            [b"delete ", key.as_slice(), b"\r\n"].concat(),
            [b"set ", key.as_slice(), b" 0 0 6\r\nsecret\r\n"].concat(),
            [b"mg ", key.as_slice(), b" v\r\n"].concat(),
        ];
        let mut client = TcpStream::connect(&address).expect("the server accepts");
        client.write_all(&requests.concat()).expect("the server reads");
        client.shutdown(Shutdown::Write).expect("a socket can be shut down");
        client.read_to_end(&mut Vec::new()).expect("the server answers");
    }
    child.kill().expect("it still runs");
    child.wait().expect("a child can be waited for");
    let logged = logged.join().expect("no panic").expect("the log can be read");
    assert!(!logged.windows(6).any(|window| window == b"secret"), "a key or a value is logged");
}

/// What was to be appended was added to what is there without a look at the sum.
#[test]
fn cve_2016_8704_nothing_outgrows_the_limit() {
    for server in servers(&["-I", "1m"]) {
        let half = "v".repeat(600_000);
        assert_eq!(
            ask(&server, &format!("set key 0 0 {}\r\n{half}\r\n", half.len())),
            "STORED\r\n"
        );
        for command in ["append", "prepend"] {
            let request = format!("{command} key 0 0 {}\r\n{half}\r\n", half.len());
            let answer = ask(&server, &request);
            assert_eq!(answer, "NOT_STORED\r\n", "{command}");
            for length in ["2147483647", "2147483646", "4294967295"] {
                let answer = ask(&server, &format!("{command} key 0 0 {length}\r\n"));
                assert!(answer.contains("_ERROR "), "{command} {length}: {answer}");
            }
        }
        let value = ask(&server, "get key\r\n");
        assert_eq!(value, format!("VALUE key 0 600000\r\n{half}\r\nEND\r\n"));
    }
}

/// A key was read to the end that was announced, beyond what had come.
#[test]
fn cve_2017_9951_what_is_announced_and_never_sent() {
    for server in servers(&[]) {
        for request in ["get k", "set k 0 0 100\r\nv", "ms k 100 T0\r\nv", "mg ", "gets k\r"] {
            assert_eq!(ask(&server, request), "", "{request:?}");
        }
        assert_serves(&server);
    }
}

/// A datagram of a few bytes could be answered with a megabyte, to whoever it seemed to be from.
#[test]
fn cve_2018_1000115_udp_is_off_unless_asked_for() {
    for server in servers(&[]) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a free port");
        socket.connect((Ipv4Addr::LOCALHOST, server.port())).expect("loopback is there");
        socket.set_read_timeout(Some(support::PATIENCE)).expect("a socket takes its options");
        socket.send(b"\0\0\0\0\0\x01\0\0stats\r\n").expect("nobody has refused it yet");
        let refused = socket.recv(&mut [0; 16]).expect_err("nobody listens");
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    }
}

/// Readers of an item were counted in 16 bits. (memcached now has more than 60,000 of them miss.)
#[test]
fn cve_2018_1000127_a_key_asked_for_70_000_times_at_once() {
    let server = Server::start(&support::larder(), &[]);
    assert_eq!(ask(&server, "set k 0 0 1\r\nv\r\n"), "STORED\r\n");
    let many = ask(&server, &format!("get{}\r\n", " k".repeat(70_000)));
    assert!(many == format!("{}END\r\n", "VALUE k 0 1\r\nv\r\n".repeat(70_000)), "a wrong answer");
    assert_eq!(ask(&server, "delete k\r\nget k\r\n"), "DELETED\r\nEND\r\n");
}

/// `lru mode` and `lru temp_ttl` were taken to have an argument.
#[test]
fn cve_2019_11596_management_commands_of_any_length() {
    for server in servers(&[]) {
        for command in MANAGEMENT {
            for words in 0..8 {
                for word in [" 0", " -1", " x", " all", " 4294967296"] {
                    let line = format!("{command}{}\r\n", word.repeat(words));
                    let answer = ask(&server, &line);
                    assert!(answer.ends_with('\n'), "{line}: {answer}");
                }
            }
        }
        assert_serves(&server);
    }
}

/// A meta command whose key or flags were missing was fatal.
#[test]
fn cve_2020_22570_malformed_meta_commands() {
    let flags = "bcfhklqstuvxCDEFIJLMNOPRTSWXZ\x01\x7f\u{e9}";
    for server in servers(&[]) {
        for command in ["mg", "ms", "md", "ma", "me", "mn", "mx"] {
            let mut lines = vec![
                command.to_owned(),
                format!("{command} "),
                format!("{command}  v"),
                format!("{command} {}", "k".repeat(251)),
                format!("{command} k {}", "v ".repeat(30)),
                format!("{command} k O{}", "o".repeat(40)),
                format!("{command} not-base-64! b"),
                format!("{command} {} b", "A".repeat(400)),
                format!("{command} k -1 T-1"),
            ];
            for flag in flags.chars() {
                for value in ["", "-1", "18446744073709551616", "x"] {
                    lines.push(format!("{command} k {flag}{value}"));
                }
            }
            for line in lines {
                let mut client = server.connect();
                // A data block, in case the line announces one.
                let request = format!("{line}\r\nx\r\n");
                client.write_all(request.as_bytes()).expect("the server reads");
                client.shutdown(Shutdown::Write).expect("a socket can be shut down");
                client
                    .read_to_end(&mut Vec::new())
                    .unwrap_or_else(|error| panic!("{line}: {error}"));
            }
        }
        assert_serves(&server);
    }
}

/// The file of users was read into too small a buffer.
#[test]
fn cve_2021_37519_files_of_any_bytes() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cve_2021_37519");
    let mut random = Random(2021);
    let long = [b"-l ".as_slice(), &[b'1'; 60_000]].concat();
    let quoted = [b"-P '".as_slice(), &[b'\\'; 60_000]].concat();
    let noise = iter::repeat_with(|| random.bytes(3000)).take(40);
    for text in [long, quoted, vec![b'\n'; 60_000], vec![0; 1 << 20]].into_iter().chain(noise) {
        fs::write(&path, &text).expect("the target folder is writable");
        let output = Command::new(support::larder())
            .args(["--check-config", "--config"])
            .arg(&path)
            .output()
            .expect("larder starts");
        let code = output.status.code();
        assert!(matches!(code, Some(0 | 1 | 64 | 71)), "{code:?}: {:?}", &text[..20]);
    }
    fs::remove_file(&path).expect("it was just written");
}

/// `get` with many keys, many blanks, and a line feed where a carriage return was expected before
/// it overran by one.
#[test]
fn cve_2023_46853_line_feeds_alone_split_anywhere() {
    for server in servers(&[]) {
        assert_eq!(ask(&server, "set k 0 0 1\nv\r\n"), "STORED\r\n");
        let value = "VALUE k 0 1\r\nv\r\n";
        let longest = "k".repeat(250);
        let blanks = " ".repeat(300);
        for (request, answer) in [
            ("get k\n".to_owned(), format!("{value}END\r\n")),
            ("mg k v\n".to_owned(), "VA 1\r\nv\r\n".to_owned()),
            (format!("get{blanks}k{blanks}k{blanks}\n"), format!("{value}{value}END\r\n")),
            (format!("get {longest} k\n"), format!("{value}END\r\n")),
        ] {
            for split in 1..request.len() {
                let mut client = server.connect();
                client.write_all(&request.as_bytes()[..split]).expect("the server reads");
                client.write_all(&request.as_bytes()[split..]).expect("the server reads");
                client.shutdown(Shutdown::Write).expect("a socket can be shut down");
                let mut actual = String::new();
                client.read_to_string(&mut actual).expect("the server answers in text");
                assert_eq!(actual, answer, "{request:?} split at {split}");
            }
        }
    }
}

/// The first word of a line was looked at before there was known to be one.
#[test]
fn lines_without_a_word_are_errors() {
    for server in servers(&[]) {
        for line in ["", " ", "   ", "\t", "\r", "\0", &" ".repeat(2000)] {
            for end in ["\n", "\r\n"] {
                let answer = ask(&server, &format!("{line}{end}version\r\n"));
                let errors = answer.strip_suffix("VERSION 1.6.45\r\n");
                let errors = errors.unwrap_or_else(|| panic!("{line:?}{end:?}: {answer}"));
                assert!(errors.contains("ERROR"), "{line:?}{end:?}: {answer}");
            }
        }
    }
}

/// Every prefix that a client made up was remembered.
#[test]
fn figures_by_prefix_are_bounded() {
    for server in servers(&["-D", ":"]) {
        for some in 0..70 {
            let names = (0..1000).map(|number| format!(" {some}-{number}:key"));
            assert_eq!(ask(&server, &format!("get{}\r\n", names.collect::<String>())), "END\r\n");
        }
        let listed = ask(&server, "stats detail dump\r\n").lines().count() - 1;
        assert!((1000..=1 << 16).contains(&listed), "{listed}");
    }
}

/// A large item whose block does not end where it was said to made memcached abort, and still does.
#[test]
fn a_block_without_its_end_of_any_size() {
    let server = Server::start(&support::larder(), &["-I", "2m"]);
    for size in [0, 1, 2, 100, 4095, 65_535, 524_288, 524_289, 1_000_000, 2_000_000] {
        for command in ["set k 0 0", "append k 0 0", "ms k"] {
            let block = "v".repeat(size);
            let request = format!("{command} {size}\r\n{block}xx\r\nversion\r\n");
            let answer = ask(&server, &request);
            let expected = "CLIENT_ERROR bad data chunk\r\n";
            assert!(answer.starts_with(expected), "{command} {size}: {answer}");
            assert!(answer.ends_with("VERSION 1.6.45\r\n"), "{command} {size}: {answer}");
        }
    }
    assert_eq!(ask(&server, "get k\r\n"), "END\r\n");
}

/// larder, and memcached where it can be had.
fn servers(flags: &[&str]) -> impl Iterator<Item = Server> {
    let programs: Vec<PathBuf> =
        iter::once(support::larder()).chain(support::reference()).collect();
    programs.into_iter().map(|program| Server::start(&program, flags))
}

/// All that a server has to say to a client that sends this and nothing more.
fn ask(server: &Server, request: &str) -> String {
    let mut client = server.connect();
    let mut writer = client.try_clone().expect("a socket can be cloned");
    let request = request.as_bytes().to_vec();
    let sending = thread::spawn(move || {
        // The server may have closed before it is all there.
        let _ = writer.write_all(&request);
        let _ = writer.shutdown(Shutdown::Write);
    });
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).expect("the server answers or closes");
    sending.join().expect("no panic");
    String::from_utf8(answer).expect("the answer is text")
}

fn assert_serves(server: &Server) {
    assert_eq!(ask(server, "version\r\n"), "VERSION 1.6.45\r\n");
}

const LENGTHS: [&str; 8] = [
    "-1",
    "-2147483648",
    "2147483646",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "18446744073709551615",
];

const MANAGEMENT: [&str; 16] = [
    "lru",
    "lru mode",
    "lru temp_ttl",
    "lru tune",
    "slabs",
    "slabs reassign",
    "slabs automove",
    "lru_crawler",
    "lru_crawler sleep",
    "lru_crawler tocrawl",
    "extstore",
    "cache_memlimit",
    "verbosity",
    "refresh_certs",
    "stats cachedump",
    "stats detail",
];
