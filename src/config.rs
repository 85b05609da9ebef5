//! What the server runs with: validated once, limits derived once.

use std::net::SocketAddr;
use std::path::PathBuf;

/// The validated configuration. Sizes are bytes, times seconds.
#[derive(Clone, Debug)]
pub struct Config {
    /// Addresses to listen on (port 0: the system chooses).
    pub listen: Vec<SocketAddr>,
    /// TCP port as the user gave it, for `stats settings`.
    pub tcp_port: u16,
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
    /// `listen(2)` backlog.
    pub backlog: i32,
    /// Requests served in a row before a connection yields to its neighbours.
    pub requests_per_turn: usize,
    /// `false` under `-M`: refuse a store rather than evict.
    pub evict: bool,
    /// `false` under `-C`: `gets` shows 0 and `cas` has nothing to compare.
    pub cas: bool,
    /// `false` under `-F`.
    pub flush_allowed: bool,
    /// `shutdown` is understood (`-A`).
    pub shutdown_allowed: bool,
    /// Number of `-v`.
    pub verbosity: u32,
    /// Where to write the process id.
    pub pid_file: Option<PathBuf>,
    /// User to become after binding.
    pub user: Option<String>,
    /// Bytes read from a socket at a time; one buffer of this size per worker.
    pub input_buffer_bytes: usize,
    /// Unsent reply bytes at which a connection stops being parsed.
    pub output_limit_bytes: usize,
}

impl Config {
    /// Small constants, so that rare paths become common in tests: port 0, tiny buffers, one request per turn.
    #[must_use]
    pub fn tiny() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
            tcp_port: 0,
            listen_typed: None,
            threads: 2,
            memory_bytes: 64 << 20,
            item_bytes_max: 1 << 20,
            connections_max: 64,
            backlog: 16,
            requests_per_turn: 1,
            evict: true,
            cas: true,
            flush_allowed: true,
            shutdown_allowed: true,
            verbosity: 0,
            pid_file: None,
            user: None,
            input_buffer_bytes: 4096,
            output_limit_bytes: 4096,
        }
    }
}
