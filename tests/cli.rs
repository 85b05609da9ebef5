//! The real program as scripts and unit files meet it: exit codes, messages, files, signals.
//!
//! Every server here listens on a port the system chose and is waited for by reading its log, so
//! that nothing sleeps and nothing collides.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as SocketAddrUnix, UnixDatagram};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};

/// The program as whoever runs this test, which root has to say and others may, with `line` as its
/// further arguments.
fn larder(line: &str) -> Command {
    let user = User::from_uid(geteuid()).unwrap().unwrap();
    bare(&format!("-u {} {line}", user.name))
}

/// The program with `line` as its arguments and nothing else.
fn bare(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
    command.args(line.split_whitespace());
    // What the caller's environment, or cargo's, says is not part of these command lines.
    command.env_clear();
    command
}

/// Runs to the end. For command lines that end by themselves.
fn run(line: &str) -> (i32, String, String) {
    outcome(&larder(line).output().unwrap())
}

fn outcome(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// A server that has said where it listens. Killed with the test.
struct Running {
    child: Child,
    stderr: BufReader<ChildStderr>,
    banner: String,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let mut server = Self { child, stderr, banner: String::new() };
        server.banner = server.read_log_until("listening ");
        server
    }

    fn read_log_until(&mut self, words: &str) -> String {
        let mut log = String::new();
        while !log.contains(words) {
            assert_ne!(self.stderr.read_line(&mut log).unwrap(), 0, "ended early: {log}");
        }
        log
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    /// The first address of the banner.
    fn address(&self) -> SocketAddr {
        let (_, list) = self.banner.split_once("listening on ").unwrap();
        list.split([',', ' ', '\n']).next().unwrap().parse().unwrap()
    }

    /// Sends `signal`, waits for the end, returns the exit code (`None` if a signal ended it) and
    /// the rest of the log.
    fn stop(mut self, signal: Signal) -> (Option<i32>, String) {
        kill(self.pid(), signal).unwrap();
        let code = self.child.wait().unwrap().code();
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).unwrap();
        (code, rest)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already ended is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory of this test's own, removed at its end.
struct Directory(PathBuf);

impl Directory {
    fn new(test: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(test);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn version_names_itself_and_memcacheds() {
    let version = env!("CARGO_PKG_VERSION");
    for line in ["-V", "--version", "-m 64 -V"] {
        let (code, stdout, stderr) = run(line);
        assert_eq!((code, stderr.as_str()), (0, ""), "{line}");
        assert_eq!(stdout, format!("larder {version}\ncompatible with memcached 1.6.45\n"));
    }
}

#[test]
fn help_is_grouped_and_ends_with_examples() {
    for line in ["-h", "--help"] {
        let (code, stdout, stderr) = run(line);
        assert_eq!((code, stderr.as_str()), (0, ""), "{line}");
        for heading in ["Network:", "Memory:", "Serving:", "Process:", "Examples:"] {
            assert!(stdout.contains(heading), "{heading} in\n{stdout}");
        }
        for option in ["-p, --port", "-m, --memory-limit", "-I, --max-item-size", "-o, --extended"]
        {
            assert!(stdout.contains(option), "{option} in\n{stdout}");
        }
    }
}

#[test]
fn every_option_in_memcacheds_help_is_known() {
    let Some(reference) = support::reference() else { return };
    let help = Command::new(reference).arg("-h").output().unwrap().stdout;
    let help = String::from_utf8(help).unwrap();
    let options: Vec<&str> = help
        .lines()
        .map(|line| line.split([' ', ',', '=']).filter(|word| !word.is_empty()))
        .flat_map(|words| words.take_while(|word| word.starts_with('-')))
        // How the help misspells --napi-ids; a dash that begins a line of another list.
        .filter(|&option| option != "--napi_ids" && option != "-")
        .collect();
    assert!(options.len() > 70, "{options:?}");
    for option in options.iter().filter(|option| !ENDING.contains(option)) {
        let (_, _, stderr) = outcome(&bare("--check-config").arg(option).output().unwrap());
        assert!(!stderr.contains("unexpected"), "{option}: {stderr}");
    }
    let named = help.lines().filter_map(|line| line.trim_start().strip_prefix("- "));
    let suboptions: Vec<&str> =
        named.filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect();
    assert!(suboptions.len() > 40, "{suboptions:?}");
    for name in suboptions.iter().filter(|name| !name.contains(' ')) {
        let (_, _, stderr) = run(&format!("--check-config -o {name}=1"));
        assert!(!stderr.contains("Illegal suboption"), "{name}: {stderr}");
    }
}

#[test]
fn license_is_printed() {
    let (code, stdout, _) = run("-i");
    assert_eq!(code, 0);
    assert!(stdout.starts_with("MIT OR Apache-2.0"), "{stdout}");
}

#[test]
fn bad_command_lines_end_with_memcacheds_codes() {
    let half = "Cannot set item size limit higher than 1/2 of memory max.\n";
    let table = [
        ("-q", 1, ""),
        ("--bogus", 1, "--bogus"),
        ("-m", 1, ""),
        ("-t 0", 1, "Number of threads must be greater than 0\n"),
        ("-t -1", 1, "Number of threads must be greater than 0\n"),
        ("-c 0", 1, "Maximum connections must be greater than 0\n"),
        ("-R 0", 1, "Number of requests per event must be greater than 0\n"),
        ("-o bogus", 1, "Illegal suboption \"bogus\"\n"),
        ("-o hashpower=33", 1, ""),
        ("-o idle_timeout", 1, "idle_timeout"),
        ("-f 1", 1, "Factor must be greater than 1\n"),
        ("-n 0", 1, "Chunk size must be greater than 0\n"),
        ("-N 0", 1, "Maximum number of NAPI IDs must be greater than 0\n"),
        ("-N 9 -t 2", 64, "Number of napi_ids(9) cannot be greater than number of threads(2)\n"),
        ("-m 1", 64, half),
        ("-I 33m", 64, half),
        ("-I 512", 64, "Item max size cannot be less than 1024 bytes.\n"),
        ("-m 4096 -I 1025m", 64, "Cannot set item size limit higher than a gigabyte.\n"),
        ("-p 65536", 64, "ERROR: Invalid port number 65536.\n"),
        ("-B foo", 64, "Invalid value for binding protocol: foo\n"),
        ("-Z", 64, ""),
        ("-l 127.0.0.1:abc", 71, "failed to listen on one of interface(s) 127.0.0.1:abc"),
        ("-l [::1", 71, "failed to listen on one of interface(s) [::1"),
    ];
    let reference = support::reference();
    for (line, code, complaint) in table {
        let (actual, stdout, stderr) = run(line);
        assert_eq!((actual, stdout.as_str()), (code, ""), "{line}: {stderr}");
        assert!(stderr.contains(complaint) && !stderr.is_empty(), "{line}: {stderr}");
        if let Some(reference) = &reference {
            let mut command = Command::new(reference);
            command.args(["-u", "root"]).args(line.split(' ')).stdin(Stdio::null());
            let (actual, _, stderr) = outcome(&command.output().unwrap());
            assert_eq!(actual, code, "memcached {line}: {stderr}");
            assert!(stderr.contains(complaint), "memcached {line}: {stderr}");
        }
    }
}

#[test]
fn what_cannot_be_done_is_refused() {
    let table = [
        ("-S", 64, "MEMCACHED_SASL_PWDB"),
        ("-Y /no/where", 1, "Could not open authfile [/no/where] for reading"),
        ("-s /no/where", 71, "failed to listen on UNIX socket: /no/where: No such file"),
        ("-U 11211 -l 0.0.0.0", 64, "or say --public-udp as well"),
        ("-o ext_path=/nowhere:1G", 64, "not supported"),
        ("-Z", 64, "This server is not built with TLS support.\n"),
        ("-p -1 -c 4000000000", 71, "failed to set rlimit for open files"),
    ];
    for (line, code, complaint) in table {
        let (actual, stdout, stderr) = run(line);
        assert_eq!((actual, stdout.as_str()), (code, ""), "{line}: {stderr}");
        assert!(stderr.contains(complaint), "{line}: {stderr}");
    }
}

#[test]
fn a_check_finds_what_no_start_can_succeed_with() {
    let directory = Directory::new("check");
    let path = directory.0.display();
    let long = format!("-s {path}/{}", "s".repeat(108));
    let no_file = format!("-p -1 -e {path}");
    let table = [
        ("-p -1 -m 5000000000", "memory limit out of range"),
        (&long, "failed to listen on UNIX socket: "),
        (&no_file, "failed to start: memory file "),
    ];
    for (line, complaint) in table {
        for purpose in ["", "--check-config"] {
            let (code, stdout, stderr) = run(&format!("{line} {purpose}"));
            assert_eq!((code, stdout.as_str()), (71, ""), "{line} {purpose}: {stderr}");
            assert!(stderr.contains(complaint), "{line} {purpose}: {stderr}");
        }
    }
    let sound = format!("-m 100 -s {path}/socket -e {path}/memory --check-config");
    assert_eq!(run(&sound), (0, String::new(), String::new()));
    assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 0);
}

#[test]
fn a_taken_port_ends_with_71() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let (code, _, stderr) = run(&format!("-p {port}"));
    assert_eq!(code, 71);
    let complaint = format!("failed to listen on TCP port {port}: Address already in use\n");
    assert!(stderr.ends_with(&complaint), "{stderr}");

    let (code, _, stderr) = run(&format!("-l 127.0.0.1:{port}"));
    assert_eq!(code, 71);
    let complaint = format!("one of interface(s) 127.0.0.1:{port}: Address already in use\n");
    assert!(stderr.ends_with(&complaint), "{stderr}");
}

#[test]
fn the_banner_gives_the_effective_limits() {
    let server = Running::start(larder("-p -1 -m 100 -I 2m -t 3 -c 77"));
    let limits = "memory 100 MiB (evicting), items up to 2048 KiB, 3 threads, 77 connections";
    assert!(server.banner.contains(limits), "{}", server.banner);
    assert!(server.banner.contains("loopback; -l opens more"), "{}", server.banner);
    assert!(server.address().ip().is_loopback());
    let server = Running::start(larder("-p -1 -t 1 -c 1"));
    assert!(server.banner.contains(" 1 thread, 1 connection\n"), "{}", server.banner);
}

#[test]
fn the_banner_says_where_else_options_come_from() {
    let directory = Directory::new("banner");
    let path = directory.file("conf");
    fs::write(&path, "-p -1\n-t 3\n").unwrap();
    let mut command = larder(&format!("--config {}", path.display()));
    command.env("MEMCACHED_CACHE_SIZE", "100");
    let server = Running::start(command);
    let named =
        format!("options from MEMCACHED_CACHE_SIZE, {} besides the command line", path.display());
    assert!(server.banner.contains(&named), "{}", server.banner);
    assert!(server.banner.contains("memory 100 MiB"), "{}", server.banner);
    assert!(server.banner.contains("3 threads"), "{}", server.banner);
}

#[test]
fn options_without_effect_are_named_in_one_line() {
    let server = Running::start(larder("-p -1 -l 127.0.0.1 -f 1.1 -o modern,slab_automove=1 -L"));
    let (code, rest) = server.stop(Signal::SIGTERM);
    assert_eq!(code, Some(0));
    let named: Vec<&str> = rest.lines().filter(|line| line.contains("without effect")).collect();
    assert_eq!(named.len(), 1, "{rest}");
    assert!(named[0].ends_with("without effect: -f, -L, -o modern, -o slab_automove"), "{rest}");
}

#[test]
fn the_port_file_holds_what_was_bound() {
    let directory = Directory::new("port_file");
    let path = directory.file("ports");
    let mut command = larder("-p -1 -l 127.0.0.1");
    command.env("MEMCACHED_PORT_FILENAME", &path);
    let server = Running::start(command);
    let port = server.address().port();
    assert_ne!(port, 0);
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("TCP INET: {port}\n"));
    assert!(!directory.file("ports.lck").exists());
}

#[test]
fn a_service_manager_is_told_when_the_server_listens_and_when_it_stops() {
    let directory = Directory::new("service_manager");
    let path = directory.file("notify");
    let abstract_name = format!("larder-test-{}", std::process::id());
    let by_name = SocketAddrUnix::from_abstract_name(&abstract_name).unwrap();
    for (manager, name) in [
        (UnixDatagram::bind(&path).unwrap(), path.to_str().unwrap().to_owned()),
        (UnixDatagram::bind_addr(&by_name).unwrap(), format!("@{abstract_name}")),
    ] {
        manager.set_read_timeout(Some(support::PATIENCE)).unwrap();
        let told = || {
            let mut state = [0; 64];
            let length = manager.recv(&mut state).expect("the manager is told");
            String::from_utf8(state[..length].to_vec()).unwrap()
        };
        let mut command = larder("-p -1");
        command.env("NOTIFY_SOCKET", &name);
        let server = Running::start(command);
        assert_eq!(told(), "READY=1", "{name}");
        assert_eq!(server.stop(Signal::SIGTERM).0, Some(0));
        assert_eq!(told(), "STOPPING=1", "{name}");
    }
}

#[test]
fn stopping_signals_end_in_order_and_take_the_pid_file_along() {
    let directory = Directory::new("pid_file");
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGUSR1] {
        let path = directory.file(signal.as_str());
        let server = Running::start(larder(&format!("-p -1 -v -P {}", path.display())));
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", server.pid()));
        let (code, rest) = server.stop(signal);
        assert_eq!(code, Some(0), "{signal}");
        assert!(rest.contains(&format!("{signal}: stopping")), "{rest}");
        assert!(!path.exists(), "{signal}");
    }
}

#[test]
fn a_second_signal_stops_at_once() {
    let directory = Directory::new("second_signal");
    let path = directory.file("pid");
    let line = format!("-p -1 -v -m 256 -I 64m -P {}", path.display());
    let mut server = Running::start(larder(&line));
    let mut client = TcpStream::connect(server.address()).unwrap();
    // More than the sockets hold, and nobody reads it: stopping in order would take its time.
    let value = "v".repeat(40_000_000);
    write!(client, "set a 0 0 {}\r\n{value}\r\nget a\r\n", value.len()).unwrap();
    client.read_exact(&mut [0; 100]).unwrap();
    kill(server.pid(), Signal::SIGTERM).unwrap();
    server.read_log_until("SIGTERM: stopping");
    // Who signals a process and then its group, as timeout(1) does, says it once.
    kill(server.pid(), Signal::SIGTERM).unwrap();
    let (code, rest) = server.stop(Signal::SIGINT);
    assert_eq!(code, Some(1));
    assert!(rest.contains("SIGINT again: stopped at once"), "{rest}");
    assert!(!path.exists());
}

#[test]
fn a_client_that_may_stops_the_process() {
    for request in ["shutdown", "shutdown graceful"] {
        let mut server = Running::start(larder("-p -1 -A"));
        let mut client = TcpStream::connect(server.address()).unwrap();
        write!(client, "version\r\n{request}\r\n").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "VERSION 1.6.45\r\n");
        assert_eq!(server.child.wait().unwrap().code(), Some(0), "{request}");
    }
}

#[test]
fn a_hang_up_changes_nothing() {
    let server = Running::start(larder("-p -1"));
    kill(server.pid(), Signal::SIGHUP).unwrap();
    kill(server.pid(), Signal::SIGPIPE).unwrap();
    assert_eq!(server.stop(Signal::SIGTERM).0, Some(0));
}

#[test]
fn the_background_process_writes_its_own_pid() {
    let directory = Directory::new("background");
    let path = directory.file("pid");
    // Only with -v does the background keep stderr, which is how this test knows when it is there
    // and when it is gone.
    let line = format!("-d -v -p -1 -P {}", path.display());
    let mut server = Running::start(larder(&line));
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    let pid: i32 = fs::read_to_string(&path).unwrap().trim().parse().unwrap();
    assert_ne!(u32::try_from(pid).unwrap(), server.child.id());
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    let mut rest = String::new();
    server.stderr.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("SIGTERM: stopping"), "{rest}");
    assert!(!path.exists());
}

#[test]
fn root_must_become_somebody() {
    if !geteuid().is_root() {
        // Nothing is asked of others: they start as they are.
        drop(Running::start(bare("-p -1")));
        return;
    }
    for purpose in ["", "--check-config"] {
        let refusal =
            |line| outcome(&bare(line).args(purpose.split_whitespace()).output().unwrap());
        let (code, _, stderr) = refusal("-p -1");
        assert_eq!((code, stderr.as_str()), (64, "must add '-u root' to start as root\n"));
        let (code, _, stderr) = refusal("-p -1 -u no-such-user");
        let complaint = "can't find the user no-such-user to switch to\n";
        assert_eq!((code, stderr.as_str()), (67, complaint));
    }

    let nobody = User::from_name("nobody").unwrap().unwrap();
    let mut by_environment = bare("-p -1");
    by_environment.env("LARDER_USER", "nobody");
    for server in [bare("-p -1 -u nobody"), by_environment] {
        has_become(&nobody, &Running::start(server));
    }
}

/// Every thread counts: the system knows users of threads, not of processes.
fn has_become(nobody: &User, server: &Running) {
    for thread in fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap() {
        let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        let ids = |name: &str, id: u32| format!("{name}:\t{id}\t{id}\t{id}\t{id}\n");
        assert!(status.contains(&ids("Uid", nobody.uid.as_raw())), "{status}");
        assert!(status.contains(&ids("Gid", nobody.gid.as_raw())), "{status}");
    }
}

/// Options after which the program ends, so that nothing is checked.
const ENDING: [&str; 6] = ["-h", "--help", "-i", "--license", "-V", "--version"];
