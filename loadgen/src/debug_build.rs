//! Numbers from a debug build mislead; whoever prints some asks here first.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Says on stderr when this program or the server is a debug build. A server that does not tell
/// passes for a release build.
pub fn warn(server: SocketAddr) {
    if cfg!(debug_assertions) {
        eprintln!("warning: the load generator is a debug build; its numbers mean nothing");
    }
    if server_is_debug_build(server).unwrap_or(false) {
        eprintln!("warning: the server is a debug build; its numbers mean nothing");
    }
}

/// larder tells in `stats larder`; other servers answer that with an error or with nothing of the
/// kind.
fn server_is_debug_build(server: SocketAddr) -> std::io::Result<bool> {
    let mut socket = TcpStream::connect(server)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
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

const STATS_LINES_MAX: usize = 1000;
