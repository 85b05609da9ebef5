//! A load generator for servers that speak memcached's text protocol.
//!
//! ```text
//! Workload -> Traffic (which operation, which key) -> Batch (request bytes out, replies owed)
//!                                                        |
//! Report <- Client (one thread, one poll) <- Connection <- reply bytes, checked one by one
//! ```
//!
//! It judges servers, larder among them, so it shares no code with larder: a mistake in the one
//! must not hide the same mistake in the other. Values follow from their keys, every byte of every
//! reply is checked, and a wrong byte ends the run. Nothing is allocated per request.

#![deny(unsafe_code)]

pub mod args;
mod batch;
pub mod client;
mod clock;
mod connection;
pub mod debug_build;
pub mod item;
pub mod null_server;
pub mod process;
pub mod report;
pub mod traffic;
pub mod workload;
