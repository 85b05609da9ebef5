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
