//! larder: a memcached-compatible cache server.
//!
//! ```text
//! socket -> scratch buffer -> parse -> Request<'a> -> command -> store
//! socket <- output buffer  <--------- Encoder <---------'    (the store lends the item while it is copied)
//! ```
//!
//! Imports point one way: `main -> server -> worker -> connection -> serve -> command -> {protocol, store, stats}`. `protocol`
//! and `store` know nothing of each other; `command` is the only place that understands both. ARCHITECTURE.md has the map, the
//! decisions with their measurements, and the invariants with what holds each of them.
//!
//! The modules, in the order in which a request meets them; then what they stand on.

#![deny(unsafe_code)]

pub mod config;
pub mod server;
mod worker;
mod connection;
pub mod serve;
pub mod protocol;
pub mod command;
pub mod store;

pub mod clock;
pub mod counter;
pub mod failure;
pub mod log;
pub mod shared;
pub mod stats;
mod sync;
pub mod system;
