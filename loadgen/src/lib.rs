//! A load generator for servers that speak memcached.
//!
//! ```text
//! workload (what is asked) ----.
//!                              +-> engine (when, over which connections) -> dialect -> socket
//! truth (what may be answered) '        |
//!                                  measure (what was found) -> output
//! ```
//!
//! It judges servers, larder among them, so it shares no code with larder: a mistake in the one
//! must not hide the same mistake in the other. Values describe themselves and every byte of every
//! reply is checked. Nothing is allocated per request.

#![deny(unsafe_code)]

pub mod args;
mod clock;
pub mod compare;
pub mod cost;
pub mod debug_build;
pub mod dialect;
pub mod engine;
pub mod load;
pub mod measure;
pub mod null_server;
pub mod output;
pub mod process;
pub mod random;
pub mod slo;
pub mod synthesise;
mod timer;
pub mod truth;
pub mod workload;
