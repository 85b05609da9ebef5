//! Numbers from a debug build mislead; whoever prints some asks here first.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::engine::address::{Address, Endpoint};

/// Says on stderr when this program or the server is a debug build. A server that does not tell
/// passes for a release build.
pub fn warn(server: &Address) {
    if cfg!(debug_assertions) {
        eprintln!("warning: the load generator is a debug build; its numbers mean nothing");
    }
    if server_is_debug_build(server).unwrap_or(false) {
        eprintln!("warning: the server is a debug build; its numbers mean nothing");
    }
}

/// larder tells in `stats larder`; other servers answer that with an error or with nothing of the
/// kind.
fn server_is_debug_build(server: &Address) -> io::Result<bool> {
    match server.endpoint() {
        Endpoint::Tcp(address) => {
            let socket = TcpStream::connect(address)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            tells_debug_build(socket)
        }
        Endpoint::Unix(path) => {
            let socket = UnixStream::connect(path)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            tells_debug_build(socket)
        }
    }
}

fn tells_debug_build(mut socket: impl Read + Write) -> io::Result<bool> {
    socket.write_all(b"stats larder\r\n")?;
    for line in BufReader::new(socket).lines().take(STATS_LINES_MAX) {
        match line?.as_str() {
            "STAT build debug" => return Ok(true),
            line if line.starts_with("STAT ") => {}
            _ => break,
        }
    }
    Ok(false)
}

const PATIENCE: Duration = Duration::from_secs(1);
const STATS_LINES_MAX: usize = 1000;
