//! What the user typed: memcached's grammar and nothing more.
//!
//! Values stay text here. What they mean, and which complaint and exit code a bad one earns, is
//! decided in [`super::Config`], so that clap answers for the grammar alone: unknown options and
//! missing values.

use std::cell::RefCell;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ContextKind;
use clap::{ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches, Parser};

use super::generate::Artifact;

/// The command line. A repeated option overrides itself, save those that add up (`-v`, `-l`, `-o`).
#[derive(Clone, Debug, Parser)]
#[command(
    name = "larder",
    version = VERSION,
    about = "A cache server for memcached clients",
    after_help = after_help(),
    override_usage = "larder [OPTIONS]",
    infer_long_args = true,
    args_override_self = true,
    disable_help_flag = true,
    disable_version_flag = true
)]
pub struct Args {
    /// TCP port; -1 lets the system choose, 0 turns TCP off [default: 11211]
    #[arg(short, long, value_name = "NUM", help_heading = NETWORK)]
    pub port: Option<String>,
    /// Addresses to listen on: host, host:port or *, IPv6 in brackets, separated by commas; may be
    /// repeated [default: loopback]
    #[arg(short, long, value_name = "ADDR", help_heading = NETWORK)]
    pub listen: Vec<String>,
    /// Connections served at a time [default: 1024]
    #[arg(short, long, value_name = "NUM", help_heading = NETWORK)]
    pub conn_limit: Option<String>,
    /// Connections the kernel may keep waiting [default: 1024]
    #[arg(short = 'b', long, value_name = "NUM", help_heading = NETWORK)]
    pub listen_backlog: Option<String>,
    /// Protocol: ascii, binary, or auto, which tells them by the first byte [default: auto]
    #[arg(short = 'B', long, value_name = "NAME", help_heading = NETWORK)]
    pub protocol: Option<String>,
    /// Listen on this Unix socket, and on no network
    #[arg(short = 's', long, value_name = "FILE", help_heading = NETWORK)]
    pub unix_socket: Option<PathBuf>,
    /// Access mask of the Unix socket, in octal [default: 700]
    #[arg(short = 'a', long, value_name = "MASK", help_heading = NETWORK)]
    pub unix_mask: Option<String>,
    /// UDP port; -1 lets the system choose, 0 is off; without authentication only, and on private
    /// addresses [default: 0]
    #[arg(short = 'U', long, value_name = "NUM", help_heading = NETWORK)]
    pub udp_port: Option<String>,
    /// Bytes a second that one address is sent by UDP, or with a unit [default: 1m]
    #[arg(long, value_name = "SIZE", help_heading = NETWORK)]
    pub udp_rate: Option<String>,
    /// Let -U serve addresses that may be public: others can then be sent replies they did not ask
    /// for
    #[arg(long, help_heading = NETWORK)]
    pub public_udp: bool,

    /// Memory for items and their index, in megabytes, or with a unit such as 4g [default: 64]
    #[arg(short, long, value_name = "SIZE", help_heading = MEMORY)]
    pub memory_limit: Option<String>,
    /// Largest item, in bytes or with k, m or g; 1k to 1024m, at most half of -m [default: 1m]
    #[arg(short = 'I', long, value_name = "SIZE", help_heading = MEMORY)]
    pub max_item_size: Option<String>,
    /// Refuse to store rather than evict when the memory is full
    #[arg(short = 'M', long, help_heading = MEMORY)]
    pub disable_evictions: bool,
    /// Lock all pages into memory
    #[arg(short = 'k', long, help_heading = MEMORY)]
    pub lock_memory: bool,
    /// Keep the items in this file, and begin with what is in it, after an orderly stop as after a
    /// kill; best on a tmpfs such as /dev/shm
    #[arg(short = 'e', long, value_name = "FILE", help_heading = MEMORY)]
    pub memory_file: Option<PathBuf>,
    /// Begin empty if the file of -e has not been used for longer
    #[arg(long, value_name = "SECONDS", help_heading = MEMORY)]
    pub discard_older_than: Option<String>,

    /// Worker threads [default: one per core]
    #[arg(short, long, value_name = "NUM", help_heading = SERVING)]
    pub threads: Option<String>,
    /// Requests served in a row before a connection yields to its neighbours [default: 20]
    #[arg(short = 'R', long, value_name = "NUM", help_heading = SERVING)]
    pub max_reqs_per_event: Option<String>,
    /// Keep no unique value per item: gets shows 0
    #[arg(short = 'C', long, help_heading = SERVING)]
    pub disable_cas: bool,
    /// Refuse flush_all
    #[arg(short = 'F', long, help_heading = SERVING)]
    pub disable_flush_all: bool,
    /// Let clients stop the server with "shutdown"
    #[arg(short = 'A', long, help_heading = SERVING)]
    pub enable_shutdown: bool,
    /// Refuse commands that list keys
    #[arg(short = 'X', long, help_heading = SERVING)]
    pub disable_dumping: bool,
    /// Refuse watch
    #[arg(short = 'W', long, help_heading = SERVING)]
    pub disable_watch: bool,

    /// Options of memcached's, separated by commas: idle_timeout=SECONDS lets idle connections go,
    /// no_maxconns_fast has those over -c wait instead of refusing them; the others (modern,
    /// slab_*, lru_*, hash_algorithm=.. and the like) are accepted without effect
    #[arg(short = 'o', long, value_name = "LIST", help_heading = SERVING)]
    pub extended: Vec<String>,

    /// Let in only users in this file of "user:password" lines, who say so by a "set" whose value
    /// is "user password"; text protocol only; read again on SIGHUP
    #[arg(short = 'Y', long, value_name = "FILE", help_heading = SECURITY)]
    pub auth_file: Option<PathBuf>,
    /// Let in only users who authenticate by SASL PLAIN; binary protocol only
    #[arg(short = 'S', long, help_heading = SECURITY)]
    pub enable_sasl: bool,
    /// Their file, of "user:password" lines, if MEMCACHED_SASL_PWDB does not name it; read again on
    /// SIGHUP
    #[arg(long, value_name = "FILE", help_heading = SECURITY)]
    pub sasl_pwdb: Option<PathBuf>,

    /// User to become; required when started as root
    #[arg(short, long, value_name = "USER", help_heading = PROCESS)]
    pub user: Option<String>,
    /// Write the process id to this file, and remove it on an orderly exit
    #[arg(short = 'P', long, value_name = "FILE", help_heading = PROCESS)]
    pub pidfile: Option<PathBuf>,
    /// Run in the background
    #[arg(short, long, help_heading = PROCESS)]
    pub daemon: bool,
    /// Raise the core file limit as far as it goes
    #[arg(short = 'r', long, help_heading = PROCESS)]
    pub enable_coredumps: bool,
    /// Log more: -v events, -vv connections too; never keys or values
    #[arg(short = 'v', action = ArgAction::Count, help_heading = PROCESS)]
    pub verbose: u8,
    /// Like -v, whatever its value
    #[arg(
        long = "verbose", value_name = "ANY", help_heading = PROCESS,
        num_args = 0..=1, require_equals = true, default_missing_value = ""
    )]
    pub verbose_long: Vec<String>,
    /// Print this help and exit
    #[arg(short, long, action = ArgAction::Help, help_heading = PROCESS)]
    pub help: Option<bool>,
    /// Print the licence and exit
    #[arg(short = 'i', long, help_heading = PROCESS)]
    pub license: bool,
    /// Print the version and exit
    #[arg(short = 'V', long, action = ArgAction::Version, help_heading = PROCESS)]
    pub version: Option<bool>,

    /// Take options from this file too, one a line, as /etc/memcached.conf has them
    #[arg(long, value_name = "FILE", help_heading = CONFIGURATION)]
    pub config: Option<PathBuf>,
    /// Check the configuration and exit: 0 if it is sound, what a start would exit with if not
    #[arg(long, help_heading = CONFIGURATION)]
    pub check_config: bool,
    /// Print the effective configuration, as a file that --config reads, and exit
    #[arg(long, help_heading = CONFIGURATION)]
    pub print_config: bool,
    /// Print the man page (man), or completions for a shell (bash, zsh, fish), and exit
    #[arg(long, value_name = "KIND", hide_possible_values = true, help_heading = CONFIGURATION)]
    pub generate: Option<Artifact>,

    /// Growth factor of slab classes
    #[arg(short = 'f', long, value_name = "NUM", help_heading = TUNING)]
    pub slab_growth_factor: Option<String>,
    /// Smallest slab chunk
    #[arg(short = 'n', long, value_name = "BYTES", help_heading = TUNING)]
    pub slab_min_size: Option<String>,
    /// Large pages
    #[arg(short = 'L', long, help_heading = TUNING)]
    pub enable_largepages: bool,
    /// NAPI ids
    #[arg(short = 'N', long, value_name = "NUM", help_heading = TUNING)]
    pub napi_ids: Option<String>,
    /// Keep figures by prefix of keys, which ends before CHAR; shown by stats detail dump
    #[arg(short = 'D', value_name = "CHAR", help_heading = SERVING)]
    pub prefix_delimiter: Option<String>,

    /// TLS
    #[arg(short = 'Z', long, hide = true)]
    pub enable_ssl: bool,

    /// Words that belong to no option, which memcached passes over
    #[arg(hide = true)]
    pub stray: Vec<String>,
}

impl Args {
    /// Parses `words`, the program's name first.
    ///
    /// # Errors
    ///
    /// What clap makes of an unknown option or a missing value; also the texts of `-h` and `-V`,
    /// which end the program too.
    pub fn parse_words<W>(words: impl IntoIterator<Item = W>) -> Result<Self, clap::Error>
    where
        W: Into<OsString> + Clone,
    {
        Self::from_arg_matches(&matches(words)?)
    }

    /// How often verbosity was asked for, in either spelling.
    #[must_use]
    pub fn verbosity(&self) -> u32 {
        let long = u32::try_from(self.verbose_long.len()).unwrap_or(u32::MAX);
        u32::from(self.verbose).saturating_add(long)
    }
}

/// What is in `words`, the program's name first, by the options' ids.
pub(super) fn matches<W>(words: impl IntoIterator<Item = W>) -> Result<ArgMatches, clap::Error>
where
    W: Into<OsString> + Clone,
{
    with_grammar(|grammar| grammar.try_get_matches_from_mut(words)).map_err(|mut error| {
        // That an unknown option could be a stray word helps nobody.
        error.remove(ContextKind::Suggested);
        error
    })
}

/// Lends the grammar, which is made once: each line of a file is read by it.
pub(super) fn with_grammar<T>(use_it: impl FnOnce(&mut Command) -> T) -> T {
    thread_local! {
        static GRAMMAR: RefCell<Command> = RefCell::new(command());
    }
    GRAMMAR.with_borrow_mut(use_it)
}

/// The grammar. As getopt has it, the word after an option that takes a value is its value,
/// whatever it looks like: `-p -1`.
pub(super) fn command() -> Command {
    Args::command().mut_args(|arg| {
        let takes_next_word = arg.get_action().takes_values() && !arg.is_positional();
        if takes_next_word && !arg.is_require_equals_set() {
            arg.allow_hyphen_values(true)
        } else {
            arg
        }
    })
}

/// What stands below the options in the help.
fn after_help() -> String {
    let examples = EXAMPLES.replace('\n', "\n  ");
    format!("Examples:\n  {examples}\n\n{SIGNALS}\nExit codes: {EXIT_CODES}")
}

// Scripts look for memcached's version in what `-V` prints.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\n", "compatible with memcached 1.6.45");

const NETWORK: &str = "Network";
const MEMORY: &str = "Memory";
const SERVING: &str = "Serving";
const SECURITY: &str = "Security";
const PROCESS: &str = "Process";
const CONFIGURATION: &str = "Configuration";
const TUNING: &str = "Accepted for memcached's sake, without effect";

pub(super) const EXAMPLES: &str = "\
larder                              loopback, port 11211, 64 MB, one thread per core
larder -m 4g -c 10000 -l 10.0.0.5   4 GB, on one address of the network
larder -l 127.0.0.1,[::1]:11212     two listeners, the second on a port of its own
larder -d -u memcache -P /run/larder/larder.pid
                                    in the background, as another user
larder --config /etc/memcached.conf --check-config
                                    would it start like this?";

pub(super) const SIGNALS: &str =
    "SIGTERM, SIGINT and SIGUSR1 stop in order; a second one stops at once.";

pub(super) const EXIT_CODES: &str = "0 stopped in order, 1 bad value, 64 usage, 67 no such user, \
     71 refused by the system.";
