//! The larder server: the command line, then the process around [`Server`].
//!
//! The order below is not free. What needs root comes before root is given up, the fork of `-d`
//! before there are threads, and the log before anything that has something to say. SIGPIPE needs
//! no line: Rust's runtime ignores it.

use std::env;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use larder::clock::Clock;
use larder::config::{Args, Config, Sources};
use larder::failure::{Failure, describe};
use larder::log::{self, BANNER};
use larder::server::Server;
use larder::stream::Endpoint;
use larder::system::{self, PidFile};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{self, User};
use tokio::runtime::{self, Runtime};
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tracing::{info, warn};

fn main() -> ExitCode {
    let args = match Args::parse_words(env::args_os()) {
        Ok(args) => args,
        Err(answer) => {
            // Nothing is left to do where even this cannot be printed.
            let _ = answer.print();
            return ExitCode::from(u8::from(answer.use_stderr()));
        }
    };
    let outcome = if args.license {
        print(format!("{} at your option.\n\n{LICENSE}", env!("CARGO_PKG_LICENSE")))
    } else if let Some(artifact) = args.generate {
        print(artifact.text())
    } else if args.check_config {
        configuration().and_then(|(_, config)| check(&config))
    } else if args.print_config {
        configuration().and_then(|(sources, config)| print(sources.render(&config)?))
    } else {
        configuration().and_then(|(sources, config)| run(&sources, config))
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            failure.exit_code()
        }
    }
}

/// A reader that went away is no failure.
fn print(text: impl AsRef<[u8]>) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_ref()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::system(format!("cannot print: {}", describe(&error))))
        }
        _ => Ok(()),
    }
}

fn configuration() -> Result<(Sources, Config), Failure> {
    let sources = Sources::read(env::args_os(), |name| env::var_os(name))?;
    let config = sources.config()?;
    Ok((sources, config))
}

/// Says what would end a start, as far as that can be told without one.
fn check(config: &Config) -> Result<(), Failure> {
    user_to_become(config)?;
    Server::check(config).map_err(|error| start_failure(config, &error))
}

/// Serves until told to stop.
fn run(sources: &Sources, mut config: Config) -> Result<(), Failure> {
    log::start(config.verbosity);
    let user = user_to_become(&config)?;
    if config.core_files {
        system::allow_core_files()?;
    }
    limit_connections(&mut config)?;
    if config.daemonize {
        system::daemonize(config.core_files, config.verbosity > 0)?;
    }
    let signals = Signals::await_all()
        .map_err(|errno| Failure::system(format!("failed to await signals: {}", errno.desc())))?;
    let runtime = runtime::Builder::new_current_thread().build().map_err(|error| {
        Failure::system(format!("failed to wait for anything: {}", describe(&error)))
    })?;
    let server = Server::start(config.clone()).map_err(|error| start_failure(&config, &error))?;

    write_port_file(&config, &server);
    if config.lock_memory
        && let Err(errno) = system::lock_memory()
    {
        warn!("-k has no effect, mlockall() failed: {}", errno.desc());
    }
    if let Some(user) = user {
        if let Some(path) = &config.unix_socket {
            system::give_to(&user, path)?;
        }
        system::become_user(&user)?;
    }
    let _pid_file = config.pid_file.as_deref().and_then(write_pid_file);
    announce(sources, &config, &server);
    tell_manager("READY=1");
    let outcome = serve(&runtime, signals, server);
    // What stops in order may still be at it when that takes too long.
    runtime.shutdown_background();
    outcome
}

/// Waits for a reason to stop, then stops in order, unless a second signal says that this takes too
/// long.
fn serve(runtime: &Runtime, mut signals: Signals, server: Server) -> Result<(), Failure> {
    runtime.block_on(async {
        let first = loop {
            tokio::select! {
                signal = signals.next() => match signal {
                    Signal::SIGHUP => server.reload(),
                    signal => {
                        info!(target: BANNER, "{signal}: stopping");
                        break Some(signal);
                    }
                },
                () = server.shutdown_requested() => {
                    info!(target: BANNER, "a client asked for shutdown: stopping");
                    break None;
                }
            }
        };
        let stopping = Clock::start();
        // Some signal a process and then its group, and it twice by that.
        let is_echo = |signal| Some(signal) == first && stopping.uptime() < ECHO;
        tell_manager("STOPPING=1");
        let mut stopped = tokio::task::spawn_blocking(move || server.stop());
        loop {
            tokio::select! {
                done = &mut stopped => break done
                    .map_err(|error| Failure::value(format!("failed to stop in order: {error}"))),
                signal = signals.next() => match signal {
                    Signal::SIGHUP => {}
                    signal if is_echo(signal) => {}
                    signal => break Err(Failure::value(format!("{signal} again: stopped at once"))),
                },
            }
        }
    })
}

fn user_to_become(config: &Config) -> Result<Option<User>, Failure> {
    system::user_to_become(config.user.as_deref(), unistd::geteuid().is_root())
}

/// What the server is told by signals.
struct Signals(UnboundedReceiver<Signal>);

impl Signals {
    /// Has a thread of its own wait for signals, which are kept from all threads that are started
    /// from now on. A handler would run on the small stack that threads have for it, which two at
    /// once overflow where registers are as large as those of AVX-512.
    fn await_all() -> nix::Result<Self> {
        let awaited: SigSet = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGUSR1]
            .into_iter()
            .collect();
        awaited.thread_block()?;
        let (sender, receiver) = mpsc::unbounded_channel();
        thread::spawn(move || {
            while let Ok(signal) = awaited.wait()
                && sender.send(signal).is_ok()
            {}
        });
        Ok(Self(receiver))
    }

    async fn next(&mut self) -> Signal {
        self.0.recv().await.expect("the thread that waits does so for good")
    }
}

/// Sees to it that every connection has a descriptor, and says so where the system grants fewer.
fn limit_connections(config: &mut Config) -> Result<(), Failure> {
    let others = DESCRIPTORS_PER_WORKER
        .saturating_mul(config.threads)
        .saturating_add(config.listen.len() + DESCRIPTORS_OF_PROCESS);
    let granted = system::reserve_descriptors(config.connections_max, others)?;
    if granted < config.connections_max {
        let asked = config.connections_max;
        warn!(
            "the limit on open files leaves room for {granted} connections of the {asked} asked for"
        );
        config.connections_max = granted;
    }
    Ok(())
}

/// memcached's words where an address cannot be had, since scripts look for them.
fn start_failure(config: &Config, error: &io::Error) -> Failure {
    use io::ErrorKind::{AddrInUse, AddrNotAvailable, PermissionDenied};
    let reason = describe(error);
    if let Some(path) = &config.unix_socket {
        let path = path.display();
        return Failure::system(format!("failed to listen on UNIX socket: {path}: {reason}"));
    }
    match (error.kind(), &config.listen_typed) {
        (AddrInUse | AddrNotAvailable | PermissionDenied, Some(typed)) => {
            Failure::system(format!("failed to listen on one of interface(s) {typed}: {reason}"))
        }
        (AddrInUse | AddrNotAvailable | PermissionDenied, None) => {
            Failure::system(format!("failed to listen on TCP port {}: {reason}", config.tcp_port))
        }
        _ => Failure::system(format!("failed to start: {reason}")),
    }
}

/// Says which ports the system chose, unless there are none by intent.
fn write_port_file(config: &Config, server: &Server) {
    if config.unix_socket.is_some() {
        return;
    }
    let Some(path) = env::var_os(PORT_FILE_VARIABLE) else { return };
    let path = Path::new(&path);
    if let Err(error) = system::write_port_file(path, server.endpoints()) {
        warn!("failed to write \"{}\": {}", path.display(), describe(&error));
    }
}

/// For a service manager that asked to be told.
fn tell_manager(state: &str) {
    let Some(socket) = env::var_os(MANAGER_VARIABLE) else { return };
    if let Err(error) = system::notify(&socket, state) {
        warn!("failed to notify \"{}\": {}", socket.display(), describe(&error));
    }
}

fn write_pid_file(path: &Path) -> Option<PidFile> {
    PidFile::write(path)
        .inspect_err(|error| {
            let reason = describe(error);
            warn!("could not write the pid file {}: {reason}", path.display());
        })
        .ok()
}

/// Says what the server is, what it may use and where it can be reached.
fn announce(sources: &Sources, config: &Config, server: &Server) {
    info!(target: BANNER, "larder {} serving memcached clients", env!("CARGO_PKG_VERSION"));
    info!(
        target: BANNER,
        "memory {} MiB ({}), items up to {} KiB, {}, {}",
        config.memory_bytes >> 20,
        if config.evict { "evicting" } else { "never evicting" },
        config.item_bytes_max >> 10,
        counted(config.threads, "thread"),
        counted(config.connections_max, "connection"),
    );
    let others = sources.names();
    if !others.is_empty() {
        info!(target: BANNER, "options from {} besides the command line", others.join(", "));
    }
    announce_reach(config, server);
    announce_memory_file(config, server);
    if config.threads > THREADS_SENSIBLE {
        warn!("{} threads are more than any machine is known to gain from", config.threads);
    }
    if !config.without_effect.is_empty() {
        info!(target: BANNER, "accepted without effect: {}", config.without_effect.join(", "));
    }
}

/// Says what was found in the file that the items live in.
fn announce_memory_file(config: &Config, server: &Server) {
    let (Some(file), Some((found, time))) = (&config.memory_file, server.recovery()) else {
        return;
    };
    let path = file.path.display();
    if let Some(reason) = &found.discarded {
        return warn!("memory file \"{path}\": beginning empty, {reason}");
    }
    if found.is_new {
        return info!(target: BANNER, "memory file \"{path}\": new");
    }
    info!(
        target: BANNER,
        "memory file \"{path}\": {} of {} found again in {:.3} s; {} were over, {} too many",
        counted(found.items, "item"),
        size(found.items_bytes),
        time.as_secs_f64(),
        found.over,
        found.evicted,
    );
    if found.segments_damaged > 0 || found.incomplete > 0 {
        warn!(
            "memory file \"{path}\": dropped {} and {}",
            counted(found.segments_damaged, "damaged segment"),
            counted(found.incomplete, "incomplete item"),
        );
    }
}

fn counted<N: Copy + Display + PartialEq + From<u8>>(number: N, thing: &str) -> String {
    let plural = if number == N::from(1) { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

fn size(bytes: u64) -> String {
    match bytes >> 20 {
        0 => format!("{} KiB", bytes.div_ceil(1 << 10)),
        mib => format!("{mib} MiB"),
    }
}

/// Says from where the server can be reached, and by whom.
fn announce_reach(config: &Config, server: &Server) {
    let listing =
        |addresses: &mut dyn Iterator<Item = String>| addresses.collect::<Vec<_>>().join(", ");
    let addresses = listing(&mut server.addresses().iter().map(ToString::to_string));
    match (&config.unix_socket, &config.listen_typed) {
        (Some(path), _) => info!(target: BANNER, "listening on {} (Unix socket)", path.display()),
        _ if addresses.is_empty() => info!(target: BANNER, "listening nowhere: TCP is off"),
        (None, Some(_)) => info!(target: BANNER, "listening on {addresses}"),
        (None, None) => info!(target: BANNER, "listening on {addresses} (loopback; -l opens more)"),
    }
    let datagrams = server.endpoints().filter(|endpoint| matches!(endpoint, Endpoint::Udp(_)));
    let datagrams = listing(&mut datagrams.map(ToString::to_string));
    if !datagrams.is_empty() {
        let rate_bytes = config.udp_bytes_per_second;
        info!(target: BANNER, "datagrams on {datagrams}, {rate_bytes} bytes/s to an address");
    }
    if let Some(authentication) = &config.authentication {
        let place = authentication.path().map(Path::to_string_lossy);
        let place = place.unwrap_or("MEMCACHED_PASSWORD".into());
        info!(target: BANNER, "clients must authenticate, as users of {place}");
    }
}

const PORT_FILE_VARIABLE: &str = "MEMCACHED_PORT_FILENAME";
const MANAGER_VARIABLE: &str = "NOTIFY_SOCKET";
const LICENSE: &str = include_str!("../LICENSE-MIT");

// The event loop, its waker and the clock's or a listener's copy; generous, since running out stops
// accepting.
const DESCRIPTORS_PER_WORKER: usize = 4;
// Standard streams, the signal loop, files written at start and room for what libraries open.
const DESCRIPTORS_OF_PROCESS: usize = 32;
// memcached warns above as many.
const THREADS_SENSIBLE: usize = 64;
/// A signal that comes again within this time was meant once.
const ECHO: Duration = Duration::from_secs(1);
