//! larder: a memcached-compatible cache server.
//!
//! ```text
//! socket -> buffer(in)  -> parse -> Request<'a> -> command -> store
//! socket <- buffer(out) <-------------- Encoder <-----'     (the store lends the item while it is copied)
//! ```
//!
//! Imports point one way: `main -> server -> worker -> connection -> command -> {protocol, store, stats}`. `protocol` and
//! `store` know nothing of each other; `command` is the only place that understands both.

#![deny(unsafe_code)]

pub mod clock;
pub mod config;
pub mod server;
mod worker;
mod connection;
pub mod serve;
pub mod protocol;
pub mod command;
pub mod store;
pub mod shared;
pub mod stats;
