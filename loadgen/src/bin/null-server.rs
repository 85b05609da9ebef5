//! The null server as a program: it answers without looking anything up. See
//! [`loadgen::null_server`].

use std::io;
use std::net::{SocketAddr, TcpListener};

use clap::Parser;
use loadgen::null_server;
use loadgen::process::PORT_FILE_VARIABLE;

/// Answers gets with the same 100 bytes and sets with STORED, looking nothing up: the floor under
/// every cache server's cost.
#[derive(Debug, Parser)]
#[command(version, name = "null-server")]
struct Args {
    /// Where to listen; port 0 takes any free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:11211")]
    listen: SocketAddr,
}

fn main() -> io::Result<()> {
    let listener = TcpListener::bind(Args::parse().listen)?;
    let address = listener.local_addr()?;
    println!("listening on {address}");
    if let Some(path) = std::env::var_os(PORT_FILE_VARIABLE) {
        std::fs::write(path, format!("TCP INET: {}\n", address.port()))?;
    }
    null_server::serve(listener)
}
