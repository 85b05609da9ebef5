//! Servers for the tests: larder, or the memcached it is measured against, as a child process on a
//! port of its own.
//!
//! Both are started by the same flags and report their port through `MEMCACHED_PORT_FILENAME`, so a
//! test that runs against one runs against the other. The child dies with its handle.

#![expect(dead_code, reason = "each of the test programs uses its part of this")]

pub(crate) mod client;
mod random;
mod scratch;

pub(crate) use self::random::Random;
pub(crate) use self::scratch::Scratch;

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, fs, thread};

use larder::clock::Clock;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// The longest a test waits for a reply before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The program under test: larder, unless `LARDER_TEST_PROGRAM` names another one.
pub(crate) fn larder() -> PathBuf {
    env::var_os("LARDER_TEST_PROGRAM")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_larder")), PathBuf::from)
}

/// memcached 1.6.45: `LARDER_REFERENCE`, or what `scripts/setup-tests` put into `target/reference`.
///
/// `None`, loudly, if it is neither: the caller then proves larder only, not the table.
pub(crate) fn reference() -> Option<PathBuf> {
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/reference/memcached");
    let program = env::var_os("LARDER_REFERENCE").map_or(fetched, PathBuf::from);
    let version = Command::new(&program).arg("-V").output();
    let found = version.is_ok_and(|output| output.stdout.starts_with(b"memcached 1.6.45"));
    if !found {
        // Past the harness, which keeps what a passing test prints to itself.
        let _ = writeln!(
            io::stderr(),
            "WARNING: {} is not memcached 1.6.45: the expectations stay unproven in this run; \
             scripts/setup-tests fetches it",
            program.display()
        );
    }
    found.then_some(program)
}

/// A running server; dropping it kills the process.
pub(crate) struct Server {
    program: PathBuf,
    child: Child,
    pub(crate) address: SocketAddr,
    udp_port: Option<u16>,
}

impl Server {
    /// Starts `program` on an ephemeral loopback port and returns once it listens.
    pub(crate) fn start(program: &Path, flags: &[&str]) -> Self {
        Self::start_logging(program, flags, Stdio::null())
    }

    /// The same, its log kept.
    pub(crate) fn start_logging(program: &Path, flags: &[&str], stderr: Stdio) -> Self {
        Self::start_in(&[], program, flags, stderr)
    }

    /// The same, in an environment with these variables.
    pub(crate) fn start_in(
        variables: &[(&str, &str)],
        program: &Path,
        flags: &[&str],
        stderr: Stdio,
    ) -> Self {
        Self::start_by(Command::new(program).stderr(stderr), variables, program, flags)
    }

    /// The same, in a process for which a shell has set limits. (A script of the test's own would
    /// be busy now and then: another test's child has it open until it is what it is to be.)
    pub(crate) fn start_limited(limits: &str, program: &Path, flags: &[&str]) -> Self {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(format!("{limits} && exec \"$0\" \"$@\"")).arg(program);
        Self::start_by(command.stderr(Stdio::null()), &[], program, flags)
    }

    fn start_by(
        command: &mut Command,
        variables: &[(&str, &str)],
        program: &Path,
        flags: &[&str],
    ) -> Self {
        let scratch = Scratch::new();
        let port_file = scratch.file("port");
        let mut child = command
            .args(["-l", "127.0.0.1", "-p", "-1"])
            .args(if nix::unistd::Uid::effective().is_root() { &["-u", "root"][..] } else { &[] })
            .args(flags)
            .env("MEMCACHED_PORT_FILENAME", &port_file)
            // For those that are started with -S.
            .env(
                "MEMCACHED_SASL_PWDB",
                concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance/users"),
            )
            .env("SASL_CONF_PATH", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance/sasl"))
            .envs(variables.iter().copied())
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
        let Some(ports) = await_ports(&port_file) else {
            let _ = child.kill();
            let status = child.wait();
            panic!("{} {flags:?} wrote no port: {status:?}", program.display());
        };
        let port = |transport| port_in(&ports, transport);
        Self {
            program: program.to_owned(),
            child,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port("TCP").expect("awaited"))),
            udp_port: port("UDP"),
        }
    }

    /// Where it receives datagrams, if it was started to.
    pub(crate) fn udp_address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.udp_port.expect("started with -U")))
    }

    /// What runs.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// The port on loopback where the server listens.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// The process, for a look at its end or its log.
    pub(crate) fn process(&mut self) -> &mut Child {
        &mut self.child
    }

    /// The process' number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The memory of the process that is in RAM, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()));
        let status = status.expect("the server lives");
        let field = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = field.expect("a known field").trim().trim_end_matches(" kB");
        kibibytes.parse::<u64>().expect("a number") << 10
    }

    /// A connection that gives up reading and writing after [`PATIENCE`].
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the server accepts");
        stream.set_nodelay(true).expect("a socket takes its options");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes its options");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket takes its options");
        stream
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks until the answer is yes; fails after the usual patience.
pub(crate) fn await_true(mut condition: impl FnMut() -> bool, otherwise: &str) {
    let clock = Clock::start();
    while !condition() {
        assert!(clock.uptime() < PATIENCE, "{otherwise}");
        thread::yield_now();
    }
}

impl Random {
    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).take(length).collect()
    }
}

/// What appears in `file` and names a TCP port, or `None` after [`PATIENCE`].
fn await_ports(file: &Path) -> Option<String> {
    let watcher = Inotify::init(InitFlags::IN_CLOEXEC).expect("inotify");
    let events = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CLOSE_WRITE;
    let folder = file.parent().expect("a file lies in a folder");
    watcher.add_watch(folder, events).expect("the folder exists");
    let timeout = PollTimeout::try_from(PATIENCE).expect("a few seconds");
    loop {
        let ports = fs::read_to_string(file).ok().filter(|text| port_in(text, "TCP").is_some());
        if ports.is_some() {
            return ports;
        }
        let ready = poll(&mut [PollFd::new(watcher.as_fd(), PollFlags::POLLIN)], timeout);
        if ready.is_ok_and(|count| count == 0) {
            return None;
        }
        watcher.read_events().ok()?;
    }
}

/// Finds the port of a transport in lines such as `TCP INET: 11211`.
fn port_in(text: &str, transport: &str) -> Option<u16> {
    text.lines()
        .find_map(|line| line.strip_prefix(transport)?.strip_prefix(" INET: ")?.trim().parse().ok())
}
