//! `-Y` as operators meet it: the file, its reloading, what is said and left unsaid; and the user
//! that the environment gives. What clients are answered stands in the conformance table.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use support::Server;

#[test]
fn a_file_is_read_again_on_sighup_and_a_bad_one_is_not_taken() {
    for program in programs() {
        let users = File::with("alice:secret\n");
        let mut server = Server::start(&program, &["-Y", users.name()]);
        assert!(logs_in(&server, "alice secret"));
        users.write("bob:other\ncarol:third\n");
        hang_up(&mut server);
        support::await_true(|| logs_in(&server, "bob other"), "the file is not read again");
        assert!(logs_in(&server, "carol third") && !logs_in(&server, "alice secret"));
        for bad in ["nobody\n", "\n", "eve:mine\nnobody"] {
            users.write(bad);
            hang_up(&mut server);
            for _ in 0..10 {
                assert!(logs_in(&server, "bob other") && !logs_in(&server, "eve mine"), "{bad:?}");
            }
        }
        users.write("dave:last\n");
        hang_up(&mut server);
        support::await_true(|| logs_in(&server, "dave last"), "the file is not read again");
    }
}

#[test]
fn who_was_let_in_stays_when_the_file_changes() {
    let users = File::with("alice:secret\n");
    let mut server = Server::start(&support::larder(), &["-Y", users.name()]);
    let mut stream = server.connect();
    stream.write_all(b"set x 0 0 12\r\nalice secret\r\n").expect("the server reads");
    let mut stored = [0; 8];
    stream.read_exact(&mut stored).expect("an answer");
    users.write("bob:other\n");
    hang_up(&mut server);
    support::await_true(|| logs_in(&server, "bob other"), "the file is not read again");
    stream.write_all(b"version\r\nquit\r\n").expect("the server reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the server closes in order");
    assert_eq!(answer, "VERSION 1.6.45\r\n");
}

#[test]
fn an_unusable_file_ends_the_program() {
    let missing = File::with("");
    fs::remove_file(&missing.0).expect("it is there");
    let bad = File::with("nobody\n");
    let empty = File::with("");
    for program in programs() {
        let (code, message) = failure(&program, &["-Y", missing.name()]);
        let name = missing.name();
        let expected = format!(
            "Could not open authfile [{name}] for reading, error No such file or directory"
        );
        assert!(code == 1 && message.starts_with(&expected), "{code}: {message}");
        for file in [&bad, &empty] {
            let (code, message) = failure(&program, &["-Y", file.name()]);
            let name = file.name();
            let expected =
                format!("Authfile [{name}] has a malformed entry. Should be 'user:password'");
            assert!(code == 1 && message.trim_end() == expected, "{code}: {message}");
        }
    }
}

/// memcached 1.6.43 closed a way round `-Y`: a listener that was binary or negotiated let clients
/// in that had not authenticated.
#[test]
fn no_protocol_is_a_way_round() {
    let users = File::with("alice:secret\n");
    for program in programs() {
        for protocol in ["auto", "binary"] {
            let (code, message) = failure(&program, &["-Y", users.name(), "-B", protocol]);
            let expected = "ERROR: You cannot allow the BINARY protocol while using ascii \
                            authentication tokens.\n";
            assert_eq!((code, message.as_str()), (64, expected));
        }
        let binary = ["-Y", users.name(), "-p", "-1", "-l", "proto[binary]:127.0.0.1"];
        let (code, message) = failure(&program, &binary);
        assert_eq!(code, 71);
        assert!(message.contains("Cannot use binary protocol when ascii authentication enabled"));
        let negotiating = ["-Y", users.name(), "-l", "proto[negotiating]:127.0.0.1"];
        let server = Server::start(&program, &negotiating);
        let mut stream = server.connect();
        let version = [&[0x80, 0x0b][..], &[0; 22], b"\r\n"].concat();
        stream.write_all(&version).expect("the server reads");
        stream.shutdown(Shutdown::Write).expect("it is open");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the server closes in order");
        assert_eq!(answer, "CLIENT_ERROR unauthenticated\r\n");
    }
}

#[test]
fn neither_log_nor_figures_tell_a_secret() {
    let users = File::with("alice:secret\n");
    let log = File::with("");
    let stderr = fs::File::create(&log.0).expect("a writable folder");
    let mut server =
        Server::start_logging(&support::larder(), &["-Y", users.name(), "-vvv"], stderr.into());
    assert!(logs_in(&server, "alice secret") && !logs_in(&server, "alice mistaken"));
    let mut stream = server.connect();
    stream
        .write_all(b"set x 0 0 12\r\nalice secret\r\nstats\r\nstats settings\r\nquit\r\n")
        .expect("the server reads");
    let mut figures = String::new();
    stream.read_to_string(&mut figures).expect("the server closes in order");
    assert!(figures.contains(&format!("STAT auth_enabled_ascii {}\r\n", users.name())));
    assert!(figures.contains("STAT binding_protocol ascii\r\n"));
    assert!(figures.contains("STAT auth_cmds 3\r\nSTAT auth_errors 1\r\n"), "{figures}");
    users.write("nobody\n");
    hang_up(&mut server);
    let said = || fs::read_to_string(&log.0).expect("it is there");
    support::await_true(|| said().contains("malformed"), "nothing is said of a bad file");
    for secret in ["secret", "mistaken", "alice", "nobody"] {
        assert!(!said().contains(secret) && !figures.contains(secret), "{secret}");
    }
}

#[test]
fn a_user_of_the_environment_is_let_in_by_sasl_and_told_of_nowhere() {
    let log = File::with("");
    let stderr = fs::File::create(&log.0).expect("a writable folder");
    let variables = [
        ("MEMCACHED_SASL_PWDB", ""),
        ("MEMCACHED_USERNAME", "alice"),
        ("MEMCACHED_PASSWORD", " hidden:way "),
    ];
    let mut server = Server::start_in(&variables, &support::larder(), &["-vvv"], stderr.into());
    let hidden = plain("alice", " hidden:way ");
    hang_up(&mut server);
    for (login, status) in [
        (&hidden, SUCCESS),
        (&plain("alice", "mistaken"), AUTHENTICATION_ERROR),
        (&plain("alice", " hidden"), AUTHENTICATION_ERROR),
        (&plain("alice", "hidden:way"), AUTHENTICATION_ERROR),
        (&plain("root", " hidden:way "), AUTHENTICATION_ERROR),
    ] {
        assert_eq!(statuses(&server, &[login, NOOP]), [status, status]);
    }
    assert_eq!(statuses(&server, &[NOOP]), [AUTHENTICATION_ERROR]);
    assert_eq!(statuses(&server, &[b"get x\r\n"]), []);
    let settings = packet(STAT, b"settings", b"");
    let figures = answers(&server, &[&hidden, &settings]).escape_ascii().to_string();
    assert!(figures.contains("auth_enabled_saslyes"), "{figures}");
    assert!(figures.contains("auth_enabled_asciino"), "{figures}");
    assert!(figures.contains("binding_protocolbinary"), "{figures}");
    let pid = server.process().id();
    let command_line = fs::read_to_string(format!("/proc/{pid}/cmdline")).expect("it runs");
    let said = || fs::read_to_string(&log.0).expect("it is there");
    support::await_true(
        || said().contains("users of MEMCACHED_PASSWORD"),
        "it says not from where",
    );
    assert!(command_line.contains("-vvv"), "{command_line}");
    for secret in ["hidden", "alice", "mistaken"] {
        assert!(![&said(), &figures, &command_line].iter().any(|text| text.contains(secret)));
    }
}

#[test]
fn a_password_alone_is_roots_as_in_bitnamis_image() {
    let file = File::with("hidden\n");
    let variables = [("MEMCACHED_SASL_PWDB", ""), ("MEMCACHED_PASSWORD_FILE", file.name())];
    let server = Server::start_in(&variables, &support::larder(), &["-S"], Stdio::null());
    assert_eq!(statuses(&server, &[&plain("root", "hidden")]), [SUCCESS]);
    assert_eq!(statuses(&server, &[&plain("root", "hidden\n")]), [AUTHENTICATION_ERROR]);
}

/// larder, and memcached where there is one.
fn programs() -> impl Iterator<Item = PathBuf> {
    std::iter::once(support::larder()).chain(support::reference())
}

fn logs_in(server: &Server, token: &str) -> bool {
    let mut stream = server.connect();
    let login = format!("set x 0 0 {}\r\n{token}\r\n", token.len());
    stream.write_all(login.as_bytes()).expect("the server reads");
    stream.shutdown(Shutdown::Write).expect("it is open");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the server closes in order");
    match answer.as_str() {
        "STORED\r\n" => true,
        "CLIENT_ERROR authentication failure\r\n" => false,
        other => panic!("{other}"),
    }
}

/// The statuses of the answers to these packets.
fn statuses(server: &Server, packets: &[&[u8]]) -> Vec<u16> {
    let answers = answers(server, packets);
    let mut rest = answers.as_slice();
    let mut statuses = Vec::new();
    while let Some((header, body)) = rest.split_first_chunk::<24>() {
        statuses.push(u16::from_be_bytes([header[6], header[7]]));
        let [.., a, b, c, d] = *header.first_chunk::<12>().expect("a header is longer");
        let body_bytes = u32::from_be_bytes([a, b, c, d]);
        rest = &body[usize::try_from(body_bytes).expect("a length")..];
    }
    statuses
}

/// All that is answered to these packets until the server closes.
fn answers(server: &Server, packets: &[&[u8]]) -> Vec<u8> {
    let mut stream = server.connect();
    stream.write_all(&packets.concat()).expect("the server reads");
    stream.shutdown(Shutdown::Write).expect("it is open");
    let mut answers = Vec::new();
    stream.read_to_end(&mut answers).expect("the server closes in order");
    answers
}

/// A login by SASL PLAIN.
fn plain(user: &str, password: &str) -> Vec<u8> {
    packet(SASL_AUTH, b"PLAIN", format!("\0{user}\0{password}").as_bytes())
}

fn packet(opcode: u8, key: &[u8], value: &[u8]) -> Vec<u8> {
    let key_bytes = u8::try_from(key.len()).expect("a short key");
    let body_bytes = u8::try_from(key.len() + value.len()).expect("a short body");
    let mut header = [0; 24];
    (header[0], header[1], header[3], header[11]) = (0x80, opcode, key_bytes, body_bytes);
    [&header, key, value].concat()
}

fn hang_up(server: &mut Server) {
    let pid = i32::try_from(server.process().id()).expect("a process id");
    kill(Pid::from_raw(pid), Signal::SIGHUP).expect("it runs");
}

/// Runs a server that cannot start, and returns its exit code and what it says.
fn failure(program: &Path, flags: &[&str]) -> (i32, String) {
    let user = if Uid::effective().is_root() { &["-u", "root"][..] } else { &[] };
    let mut command = Command::new(program);
    command.args(user).args(["-l", "127.0.0.1", "-p", "0"]).args(flags).stdout(Stdio::null());
    let output = command.output().expect("it runs");
    let message = String::from_utf8(output.stderr).expect("a message");
    (output.status.code().expect("it ends by itself"), message)
}

/// A file of this test's own, removed at its end.
struct File(PathBuf);

impl File {
    fn with(contents: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("authentication-{}-{number}", std::process::id());
        let file = Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name));
        file.write(contents);
        file
    }

    /// All at once, so that nobody reads half of it.
    fn write(&self, contents: &str) {
        let beside = self.0.with_extension("new");
        fs::write(&beside, contents).expect("the target folder is writable");
        fs::rename(&beside, &self.0).expect("the target folder is writable");
    }

    fn name(&self) -> &str {
        self.0.to_str().expect("a plain name")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

const STAT: u8 = 0x10;
const SASL_AUTH: u8 = 0x21;
const NOOP: &[u8] = b"\x80\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
const SUCCESS: u16 = 0;
const AUTHENTICATION_ERROR: u16 = 0x20;
