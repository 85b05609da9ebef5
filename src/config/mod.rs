//! What the server runs with: validated once, limits derived once.
//!
//! [`Args`] is what was typed; [`Config`] is what it means. Complaints and exit codes are
//! memcached's, because scripts and unit files were written against them.

mod args;
mod authentication;
mod dialects;
mod environment;
mod file;
mod generate;
mod listen;
mod shown;
mod sources;
mod suboptions;
mod udp;
mod words;

use std::net::SocketAddr;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use self::shown::Shown;
use crate::auth::Authentication;
use crate::failure::Failure;
use crate::store::MemoryFileOptions;

pub use args::Args;
pub use dialects::Dialects;
pub use generate::Artifact;
pub use listen::Listener;
pub use sources::Sources;

/// The validated configuration. Sizes are bytes, times seconds.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen for TCP (port 0: the system chooses). Empty where that is off.
    pub listen: Vec<Listener>,
    /// What `-B` says, or what authentication makes of it.
    pub dialects: Dialects,
    /// Who may use the server; everybody if `None`.
    pub authentication: Option<Arc<Authentication>>,
    /// TCP port as the user gave it, for `stats settings`; -1 where the system chooses, 0 where TCP
    /// is off.
    pub tcp_port: i32,
    /// `-l` as typed, or `None`, for `stats settings` (`inter`).
    pub listen_typed: Option<String>,
    /// Worker threads.
    pub threads: usize,
    /// The memory limit for items and index.
    pub memory_bytes: usize,
    /// The largest item, measured as memcached measures it.
    pub item_bytes_max: usize,
    /// Connections served at a time.
    pub connections_max: usize,
    /// Those over it are told so and closed; otherwise they wait until others have left.
    pub refuse_over_limit: bool,
    /// Where to receive datagrams. Empty where they are off.
    pub udp: Vec<Listener>,
    /// Their port as the user gave it, for `stats settings`; -1 where the system chooses, 0 where
    /// they are off.
    pub udp_port: i32,
    /// What one address may be sent in reply to datagrams.
    pub udp_bytes_per_second: u32,
    /// The Unix socket to listen on, and nowhere else.
    pub unix_socket: Option<PathBuf>,
    /// Who may connect to it, as the mode of its file.
    pub unix_mode: u32,
    /// `listen(2)` backlog.
    pub backlog: i32,
    /// Requests served in a row before a connection yields to its neighbours.
    pub requests_per_turn: usize,
    /// `false` under `-M`: refuse a store rather than evict.
    pub evict: bool,
    /// The file that the items live in (`-e`), if they are to outlive the process.
    pub memory_file: Option<MemoryFileOptions>,
    /// `false` under `-C`: `gets` shows 0 and `cas` has nothing to compare.
    pub cas: bool,
    /// `false` under `-F`.
    pub flush_allowed: bool,
    /// `false` under `-X`.
    pub dump_allowed: bool,
    /// `false` under `-W`.
    pub watch_allowed: bool,
    /// Ends the prefix of a key (`-D`).
    pub prefix_delimiter: u8,
    /// Figures by prefix are kept from the start.
    pub prefix_figures: bool,
    /// `stats sizes` is answered (`-o track_sizes`).
    pub track_sizes: bool,
    /// `lru_crawler` is enabled from the start.
    pub crawl: bool,
    /// Lines that wait for a client that watches, beyond which it loses lines.
    pub watcher_buffer_bytes: usize,
    /// `shutdown` is understood (`-A`).
    pub shutdown_allowed: bool,
    /// Number of `-v`.
    pub verbosity: u32,
    /// Where to write the process id.
    pub pid_file: Option<PathBuf>,
    /// User to become after binding.
    pub user: Option<String>,
    /// Run in the background (`-d`).
    pub daemonize: bool,
    /// Raise the core file limit (`-r`).
    pub core_files: bool,
    /// Lock all pages into memory (`-k`).
    pub lock_memory: bool,
    /// Seconds after which a connection that asks for nothing is closed; 0 for never.
    pub idle_timeout_seconds: u32,
    /// Options as typed that mean nothing here, for one line in the log.
    pub without_effect: Vec<String>,
    /// What they set, by the names and in the form that `stats settings` has for it.
    pub tuning: Vec<(&'static str, String)>,
    /// Bytes read from a socket at a time; one buffer of this size per worker.
    pub input_buffer_bytes: usize,
    /// Unsent reply bytes at which a connection stops being parsed.
    pub output_limit_bytes: usize,
    /// What the buffers of all connections may take together.
    pub buffer_bytes_max: usize,
    /// Values of so many bytes are sent from where they lie.
    pub lent_bytes_min: usize,
}

impl Config {
    /// Says what `args` mean, resolving the names of hosts. `users` are those that the environment
    /// gives.
    ///
    /// # Errors
    ///
    /// The first option that cannot be served, with the exit code memcached gives it.
    pub fn new(args: &Args, users: Option<&Arc<Authentication>>) -> Result<Self, Failure> {
        refuse_unsupported(args)?;
        let authentication = authentication::authentication(args, users)?;
        let method = authentication.as_deref().map(Authentication::method);
        let dialects = dialects::of_server(args.protocol.as_deref(), method)?;
        let udp_port = udp::port(args, method)?;
        // As memcached has it, TCP follows where the port of datagrams alone is named.
        let same_port = udp_port.and(args.udp_port.as_deref());
        let port = listen::port(args.port.as_deref().or(same_port))?;
        // A Unix socket is meant to be all there is.
        let has_network = args.unix_socket.is_none();
        let listen = match port {
            Some(port) if has_network => listen::listeners(&args.listen, port, dialects, method)?,
            _ => Vec::new(),
        };
        let udp = udp_port.filter(|_| has_network);
        let udp = udp.map_or(Ok(Vec::new()), |port| udp::listeners(args, port, dialects))?;
        let (memory_bytes, item_bytes_max) = memory_limits(args)?;
        let threads = positive(args.threads.as_deref(), threads_default(), THREADS_COMPLAINT)?;
        let suboptions = suboptions::read(&args.extended)?;
        let config = Self {
            listen,
            dialects,
            authentication,
            tcp_port: shown_port(port),
            listen_typed: (!args.listen.is_empty()).then(|| args.listen.join(",")),
            threads,
            memory_bytes,
            item_bytes_max,
            connections_max: positive(
                args.conn_limit.as_deref(),
                CONNECTIONS_DEFAULT,
                CONNECTIONS_COMPLAINT,
            )?,
            udp,
            udp_port: shown_port(udp_port),
            udp_bytes_per_second: udp::bytes_per_second(args.udp_rate.as_deref())?,
            unix_socket: args.unix_socket.clone(),
            unix_mode: unix_mode(args.unix_mask.as_deref())?,
            backlog: backlog(args.listen_backlog.as_deref())?,
            requests_per_turn: requests_per_turn(args.max_reqs_per_event.as_deref())?,
            evict: !args.disable_evictions,
            memory_file: memory_file(args)?,
            cas: !args.disable_cas,
            flush_allowed: !args.disable_flush_all,
            dump_allowed: !args.disable_dumping,
            watch_allowed: !args.disable_watch,
            prefix_delimiter: prefix_delimiter(args.prefix_delimiter.as_deref())?,
            prefix_figures: args.prefix_delimiter.is_some(),
            track_sizes: suboptions.track_sizes,
            crawl: suboptions.crawl,
            watcher_buffer_bytes: suboptions.watcher_buffer_bytes,
            shutdown_allowed: args.enable_shutdown,
            verbosity: args.verbosity(),
            pid_file: args.pidfile.clone(),
            user: args.user.clone(),
            daemonize: args.daemon,
            core_files: args.enable_coredumps,
            lock_memory: args.lock_memory,
            refuse_over_limit: suboptions.refuse_over_limit,
            idle_timeout_seconds: suboptions.idle_timeout_seconds,
            without_effect: without_effect(args, suboptions.without_effect)?,
            tuning: tuning(args, suboptions.shown),
            input_buffer_bytes: INPUT_BUFFER_BYTES,
            output_limit_bytes: OUTPUT_LIMIT_BYTES,
            buffer_bytes_max: suboptions
                .buffer_bytes_max
                .unwrap_or_else(|| (memory_bytes / 4).max(BUFFER_BYTES_MAX_LEAST))
                .max(2 * item_bytes_max),
            lent_bytes_min: LENT_BYTES_MIN,
        };
        config.check();
        Ok(config)
    }

    /// Small constants, so that rare paths become common in tests: port 0, tiny buffers, one
    /// request per turn.
    #[must_use]
    pub fn tiny() -> Self {
        let config = Self {
            listen: vec![Listener::new(SocketAddr::from(([127, 0, 0, 1], 0)), Dialects::Any)],
            dialects: Dialects::Any,
            authentication: None,
            tcp_port: 0,
            listen_typed: None,
            threads: 2,
            memory_bytes: 64 << 20,
            item_bytes_max: 1 << 20,
            connections_max: 64,
            udp: Vec::new(),
            udp_port: 0,
            udp_bytes_per_second: 1 << 20,
            unix_socket: None,
            unix_mode: UNIX_MODE_DEFAULT,
            backlog: 16,
            requests_per_turn: 1,
            evict: true,
            memory_file: None,
            cas: true,
            flush_allowed: true,
            dump_allowed: true,
            watch_allowed: true,
            prefix_delimiter: PREFIX_DELIMITER_DEFAULT,
            prefix_figures: false,
            track_sizes: false,
            crawl: true,
            watcher_buffer_bytes: 4096,
            shutdown_allowed: true,
            verbosity: 0,
            pid_file: None,
            user: None,
            daemonize: false,
            core_files: false,
            lock_memory: false,
            refuse_over_limit: true,
            idle_timeout_seconds: 0,
            without_effect: Vec::new(),
            tuning: Vec::new(),
            input_buffer_bytes: 4096,
            output_limit_bytes: 4096,
            buffer_bytes_max: 64 << 20,
            lent_bytes_min: 1024,
        };
        config.check();
        config
    }

    /// The values of options that were left out, under their names.
    fn defaults(&self) -> Vec<(&'static str, String)> {
        let listen = self.listen.iter().map(|one| ("--listen", one.address.to_string()));
        let others = [
            ("--port", self.tcp_port.to_string()),
            ("--conn-limit", self.connections_max.to_string()),
            ("--listen-backlog", self.backlog.to_string()),
            ("--memory-limit", (self.memory_bytes / MIB).to_string()),
            ("--max-item-size", self.item_bytes_max.to_string()),
            ("--threads", self.threads.to_string()),
            ("--max-reqs-per-event", self.requests_per_turn.to_string()),
        ];
        listen.chain(others).collect()
    }

    /// The relations between limits that every layer below relies on.
    fn check(&self) {
        assert!(self.threads > 0 && self.connections_max > 0 && self.requests_per_turn > 0);
        assert!(self.item_bytes_max <= self.memory_bytes / 2);
        assert!((ITEM_BYTES_LOWEST..=ITEM_BYTES_HIGHEST).contains(&self.item_bytes_max));
        assert!(self.input_buffer_bytes > 0 && self.output_limit_bytes > 0);
        assert!(self.item_bytes_max <= self.buffer_bytes_max / 2);
    }
}

/// What memcached can do and this version cannot is refused rather than pretended.
fn refuse_unsupported(args: &Args) -> Result<(), Failure> {
    if args.enable_ssl {
        return Err(Failure::usage("This server is not built with TLS support."));
    }
    Ok(())
}

/// What only tunes memcached's own engine, as it is shown; `suboptions` among it.
fn tuning(args: &Args, suboptions: Shown) -> Shown {
    let factor = args.slab_growth_factor.as_deref().map(|typed| shown::decimal(typed, 2));
    let chunk = args.slab_min_size.clone();
    let options = [("growth_factor", factor), ("chunk_size", chunk)];
    let options = options.into_iter().filter_map(|(name, value)| Some((name, value?)));
    options.chain(suboptions).collect()
}

/// A port as `stats settings` shows it: none is 0, and any that is free -1.
fn shown_port(port: Option<u16>) -> i32 {
    port.map_or(0, |port| if port == 0 { -1 } else { port.into() })
}

/// The names of what only tunes memcached's own engine, `suboptions` among it. It must be right all
/// the same, as memcached has it.
fn without_effect(args: &Args, suboptions: Vec<String>) -> Result<Vec<String>, Failure> {
    check_tuning(args)?;
    let options = [
        (args.slab_growth_factor.is_some(), "-f"),
        (args.slab_min_size.is_some(), "-n"),
        (args.enable_largepages, "-L"),
        (args.napi_ids.is_some(), "-N"),
    ];
    let given = options.iter().filter(|(given, _)| *given).map(|(_, name)| (*name).to_owned());
    let mut names: Vec<String> = given.collect();
    names.extend(suboptions);
    names.extend(args.stray.iter().map(|word| format!("{word:?}")));
    names.dedup();
    Ok(names)
}

fn check_tuning(args: &Args) -> Result<(), Failure> {
    let factor = args.slab_growth_factor.as_deref().map(|typed| typed.trim().parse::<f64>());
    if factor.is_some_and(|factor| !factor.is_ok_and(|factor| factor > 1.0)) {
        return Err(Failure::value("Factor must be greater than 1"));
    }
    positive(args.slab_min_size.as_deref(), 1, "Chunk size must be greater than 0")?;
    let ids =
        positive(args.napi_ids.as_deref(), 1, "Maximum number of NAPI IDs must be greater than 0")?;
    // What is good for memcached must not depend on how many cores there are.
    let threads =
        positive(args.threads.as_deref(), THREADS_DEFAULT_OF_MEMCACHED, THREADS_COMPLAINT)?;
    if ids > threads {
        return Err(Failure::usage(format!(
            "Number of napi_ids({ids}) cannot be greater than number of threads({threads})"
        )));
    }
    Ok(())
}

/// `-m` and `-I` in bytes. They are read together because each limits the other.
fn memory_limits(args: &Args) -> Result<(usize, usize), Failure> {
    let memory_bytes = match args.memory_limit.as_deref() {
        None => MEMORY_BYTES_DEFAULT,
        Some(typed) => parse_size(typed, MIB).ok_or_else(|| {
            Failure::usage(format!("-m takes megabytes, or a size such as 4g, not \"{typed}\""))
        })?,
    };
    let item_bytes_max = match args.max_item_size.as_deref() {
        None => ITEM_BYTES_DEFAULT,
        Some(typed) => parse_item_size(typed).ok_or_else(|| {
            Failure::usage(format!("-I takes bytes, or a size such as 2m, not \"{typed}\""))
        })?,
    };
    if item_bytes_max < ITEM_BYTES_LOWEST {
        return Err(Failure::usage("Item max size cannot be less than 1024 bytes."));
    }
    if item_bytes_max > memory_bytes / 2 {
        let complaint = "Cannot set item size limit higher than 1/2 of memory max.";
        return Err(Failure::usage(complaint));
    }
    if item_bytes_max > ITEM_BYTES_HIGHEST {
        return Err(Failure::usage("Cannot set item size limit higher than a gigabyte."));
    }
    Ok((memory_bytes, item_bytes_max))
}

/// `-e`, and how old what is in the file may be.
fn memory_file(args: &Args) -> Result<Option<MemoryFileOptions>, Failure> {
    let complaint = |typed| {
        Failure::value(format!("--discard-older-than takes a number of seconds, not \"{typed}\""))
    };
    let age_seconds = args
        .discard_older_than
        .as_deref()
        .map(|typed| typed.trim().parse().map_err(|_| complaint(typed)));
    match (&args.memory_file, age_seconds.transpose()?) {
        (Some(path), discard_older_than_seconds) => {
            Ok(Some(MemoryFileOptions { path: path.clone(), discard_older_than_seconds }))
        }
        (None, None) => Ok(None),
        (None, Some(_)) => Err(Failure::usage("--discard-older-than goes with -e (--memory-file)")),
    }
}

/// A number with a unit of k, m or g, in which a b changes nothing, or of `bare_unit_bytes` where
/// none is written. `None` if unreadable or beyond the machine.
fn parse_size(typed: &str, bare_unit_bytes: usize) -> Option<usize> {
    let (number, unit) = split_digits(typed.trim());
    let unit_bytes = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => bare_unit_bytes,
        "k" | "kb" => KIB,
        "m" | "mb" => MIB,
        "g" | "gb" => GIB,
        _ => return None,
    };
    number.parse::<usize>().ok()?.checked_mul(unit_bytes)
}

/// A size in which, as for memcached, a fraction counts for nothing: it has always been read so.
fn parse_item_size(typed: &str) -> Option<usize> {
    match typed.split_once('.') {
        Some((whole, fraction)) => parse_size(&format!("{whole}{}", split_digits(fraction).1), 1),
        None => parse_size(typed, 1),
    }
}

/// The digits that a text begins with, and what follows them.
fn split_digits(text: &str) -> (&str, &str) {
    let rest = text.trim_start_matches(|next: char| next.is_ascii_digit());
    text.split_at(text.len() - rest.len())
}

/// A number above 0. What is no number earns the same complaint as 0, since memcached reads it as
/// 0.
fn positive(typed: Option<&str>, default: usize, complaint: &str) -> Result<usize, Failure> {
    match typed.map(|typed| typed.trim().parse()) {
        None => Ok(default),
        Some(Ok(number)) if number > 0 => Ok(number),
        Some(_) => Err(Failure::value(complaint)),
    }
}

/// Octal digits, as chmod takes them. memcached reads anything else as 0, which lets nobody in.
fn unix_mode(typed: Option<&str>) -> Result<u32, Failure> {
    typed.map_or(Ok(UNIX_MODE_DEFAULT), |typed| {
        let mode = u32::from_str_radix(typed.trim(), 8).ok();
        let complaint = || Failure::usage(format!("-a takes an octal mask, not \"{typed}\""));
        mode.map(|mode| mode & UNIX_MODE_MAX).ok_or_else(complaint)
    })
}

/// Any number will do, however large, as `listen(2)` has it: the kernel caps it, and takes a
/// negative one for "as many as it may be".
fn backlog(typed: Option<&str>) -> Result<i32, Failure> {
    typed.map_or(Ok(BACKLOG_DEFAULT), |typed| {
        let complaint = || Failure::value(format!("-b takes a number, not \"{typed}\""));
        let number: i64 = typed.trim().parse().map_err(|_| complaint())?;
        let clamped = number.clamp(i32::MIN.into(), i32::MAX.into());
        i32::try_from(clamped).map_err(|_| complaint())
    })
}

/// The first byte of what was typed.
fn prefix_delimiter(typed: Option<&str>) -> Result<u8, Failure> {
    typed.map_or(Ok(PREFIX_DELIMITER_DEFAULT), |typed| {
        typed.bytes().next().ok_or_else(|| Failure::value("No delimiter specified"))
    })
}

fn requests_per_turn(typed: Option<&str>) -> Result<usize, Failure> {
    positive(typed, REQUESTS_PER_TURN_DEFAULT, REQUESTS_COMPLAINT)
}

fn threads_default() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

const MEMORY_BYTES_DEFAULT: usize = 64 * MIB;
const ITEM_BYTES_DEFAULT: usize = MIB;
const ITEM_BYTES_LOWEST: usize = KIB;
const ITEM_BYTES_HIGHEST: usize = GIB;
const THREADS_DEFAULT_OF_MEMCACHED: usize = 4;
const CONNECTIONS_DEFAULT: usize = 1024;
const BACKLOG_DEFAULT: i32 = 1024;
const UNIX_MODE_DEFAULT: u32 = 0o700;
const UNIX_MODE_MAX: u32 = 0o777;
const REQUESTS_PER_TURN_DEFAULT: usize = 20;
const INPUT_BUFFER_BYTES: usize = 64 * KIB;
const OUTPUT_LIMIT_BYTES: usize = 256 * KIB;
/// Where a quarter of what items may take is less, and nothing else was said.
const BUFFER_BYTES_MAX_LEAST: usize = 64 * MIB;
const LENT_BYTES_MIN: usize = 64 * KIB;
const PREFIX_DELIMITER_DEFAULT: u8 = b':';

const THREADS_COMPLAINT: &str = "Number of threads must be greater than 0";
const CONNECTIONS_COMPLAINT: &str = "Maximum connections must be greater than 0";
const REQUESTS_COMPLAINT: &str = "Number of requests per event must be greater than 0";

#[cfg(test)]
mod tests;
