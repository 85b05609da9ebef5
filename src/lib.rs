//! larder: a memcached-compatible cache server.
//!
//! ```text
//! socket -> buffer(in)  -> parse -> Request<'a> -> command -> store
//! socket <- buffer(out) <-------------- Encoder <-----'   (it lends the item while it is copied)
//! ```
//!
//! Imports point one way: `main -> server -> worker -> connection -> serve -> command -> {protocol,
//! store, stats}`. `protocol` and `store` know nothing of each other; `command` is the only place
//! that understands both.
//!
//! # Invariants
//!
//! 1. Bytes in, bytes out: everything below `connection` runs without a socket, and its tests do.
//! 2. The meaning of a command is written once, in `command`; a dialect is a parser and an encoder.
//! 3. "Need more bytes" is not an error. What a client sends is looked at once: what is left of a
//!    piece of input because it is not yet a request is at most a line of 2 KiB, and where it
//!    was searched for its end is remembered.
//! 4. A `get` allocates nothing. A request borrows its keys from the input.
//! 5. Nothing is unbounded. Every buffer has a limit in [`config::Config`]; a connection with
//!    output to send neither reads nor serves, and that is the only backpressure.
//! 6. Time is an argument. [`clock`] alone reads it, and a lint keeps it so.
//! 7. Neither a lock nor what the store lends is held across a wait.
//! 8. `unsafe` is denied here; only files of the store may allow it for themselves.

#![deny(unsafe_code)]

pub mod clock;
pub mod command;
pub mod config;
mod connection;
pub mod protocol;
pub mod serve;
pub mod server;
pub mod shared;
pub mod stats;
pub mod store;
mod worker;
