//! The null server as a program: it answers without looking anything up. See
//! [`loadgen::null_server`].

use std::io;
use std::net::{SocketAddr, TcpListener};

use clap::Parser;
use loadgen::null_server;
use loadgen::null_server::late::{Delay, Lateness, Stall};
use loadgen::process::PORT_FILE_VARIABLE;

/// Answers gets with the same 100 bytes and sets with STORED, looking nothing up: the floor under
/// every cache server's cost.
#[derive(Debug, Parser)]
#[command(version, name = "null-server")]
struct Args {
    /// Where to listen; port 0 takes any free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:11211")]
    listen: SocketAddr,
    /// Hold every reply: fixed:TIME, uniform:FROM,TO or exp:MEAN, as in exp:200us
    #[arg(long, value_name = "DELAY")]
    delay: Option<Delay>,
    /// Do nothing for a while, once or again and again, counted from the first request: AT:LENGTH
    /// or every:PERIOD:LENGTH, as in 2s:100ms
    #[arg(long, value_name = "STALL")]
    stall: Option<Stall>,
    /// Where the sequence of delays begins
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let listener = TcpListener::bind(args.listen)?;
    let address = listener.local_addr()?;
    println!("listening on {address}");
    if let Some(path) = std::env::var_os(PORT_FILE_VARIABLE) {
        std::fs::write(path, format!("TCP INET: {}\n", address.port()))?;
    }
    let late = args.delay.is_some() || args.stall.is_some();
    let lateness = late.then(|| Lateness::new(args.delay, args.stall, args.seed));
    null_server::serve(listener, lateness)
}
