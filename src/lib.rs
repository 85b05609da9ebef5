//! larder: a memcached-compatible cache server.
//!
//! ```text
//! socket -> scratch buffer -> parse -> Request<'a> -> command -> store
//! socket <- output buffer  <--------- Encoder <---------'
//!                       (the store lends the item while it is copied)
//! ```
//!
//! Imports point one way: `main -> server -> worker -> connection -> serve -> command -> {protocol,
//! store, stats}`. `protocol` and `store` know nothing of each other; `command` is the only place
//! that understands both. ARCHITECTURE.md has the map and the decisions with their measurements.
//!
//! # Invariants
//!
//! 1. Bytes in, bytes out: everything below `connection` runs without a socket, and its tests do.
//! 2. The meaning of a command is written once, in `command`; a dialect is a parser and an encoder.
//! 3. "Need more bytes" is not an error. What a client sends is looked at once: what is left of a
//!    piece of input because it is not yet a request is at most a line of 2 KiB, and where it
//!    was searched for its end is remembered.
//! 4. A `get` allocates nothing. A request borrows its keys from the input.
//! 5. Nothing is unbounded. Every buffer has a limit in [`config::Config`], those of all connections
//!    together have one, and a connection with output to send neither reads nor serves, which is
//!    the only backpressure.
//! 6. Time is an argument. [`clock`] alone reads it, and a lint keeps it so.
//! 7. Neither a lock nor an epoch pin is held across a wait; what the store lends longer is counted.
//! 8. `unsafe` is denied here; only files of the store may allow it for themselves.
//!
//! The modules, in the order in which a request meets them; then what they stand on.

#![deny(unsafe_code)]

pub mod config;
pub mod server;
mod worker;
pub mod housekeeper;
mod connection;
mod listener;
pub mod stream;
mod udp;
mod idle;
mod gather;
pub mod serve;
pub mod output;
pub mod protocol;
pub mod command;
pub mod store;

pub mod auth;
pub mod clock;
pub mod counter;
pub mod crawler;
pub mod failure;
pub mod log;
pub mod prefixes;
pub mod shared;
pub mod stats;
mod sync;
pub mod system;
pub mod tuning;
pub mod watch;
