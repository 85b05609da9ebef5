//! Managing a running server: what is listed, watched and shown of it, against memcached 1.6.45
//! where the two can be compared.

#[path = "management/dump.rs"]
mod dump;
#[path = "management/figures.rs"]
mod figures;
mod support;
#[path = "management/watch.rs"]
mod watch;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use support::Server;

/// larder, and memcached where it can be had.
fn programs() -> Vec<PathBuf> {
    std::iter::once(support::larder()).chain(support::reference()).collect()
}

/// A connection that is read line by line.
struct Client(BufReader<TcpStream>);

impl Client {
    fn new(server: &Server) -> Self {
        Self(BufReader::new(server.connect()))
    }

    fn send(&mut self, request: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(request.as_ref()).expect("the server reads");
    }

    /// The next line, with its end.
    fn line(&mut self) -> String {
        let mut line = Vec::new();
        self.0.read_until(b'\n', &mut line).expect("the server answers");
        String::from_utf8(line).expect("what is listed is text")
    }

    /// Sends a request and reads all lines up to the one that is `last`.
    fn ask(&mut self, request: impl AsRef<[u8]>, last: &str) -> Vec<String> {
        self.send(request);
        let mut lines = Vec::new();
        loop {
            let line = self.line();
            assert!(!line.is_empty(), "the connection ended after {lines:?}");
            if line == last {
                return lines;
            }
            lines.push(line);
        }
    }

    /// Says that nothing more will be sent, and waits for the server to close.
    fn leave(mut self) {
        // Where the server was faster, there is nothing left to shut down.
        let _ = self.0.get_mut().shutdown(Shutdown::Write);
        let _ = self.0.read_to_end(&mut Vec::new());
    }

    /// Breaks the connection off.
    fn reset(self) {
        let socket = socket2::SockRef::from(self.0.get_ref());
        socket.set_linger(Some(Duration::ZERO)).expect("a socket takes its options");
    }

    /// Reads what there is left, to the end.
    fn rest(mut self) -> String {
        let mut rest = String::new();
        self.0.read_to_string(&mut rest).expect("text");
        rest
    }
}
