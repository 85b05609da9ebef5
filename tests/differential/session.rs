//! One server's side of a sequence: its connections, what is sent over them and what comes back.
//!
//! An answer is known to be whole without waiting for a time to pass: a command with an answer of
//! its own goes behind, and that ends what is read.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use crate::datagrams::Datagrams;
use crate::sequence::Wire;
use crate::support::Server;

/// The connections of a sequence to one server. A connection that was closed is opened again when
/// something is to be sent over it.
pub(crate) struct Session<'s> {
    server: &'s Server,
    wires: [Wire; 2],
    links: [Option<Link>; 2],
    patience: Duration,
}

/// How bytes come to a server.
enum Link {
    Tcp(TcpStream),
    Udp(Datagrams),
}

impl Read for Link {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Udp(datagrams) => datagrams.read(buffer),
        }
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Udp(datagrams) => datagrams.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) bytes: Vec<u8>,
    pub(crate) end: End,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It is whole.
    Whole,
    /// The server closed the connection.
    Closed,
    /// Nothing came for too long.
    Stalled,
}

impl<'s> Session<'s> {
    pub(crate) fn new(server: &'s Server, wires: [Wire; 2], patience: Duration) -> Self {
        Self { server, wires, links: [None, None], patience }
    }

    /// Empties the server, whatever is pending.
    pub(crate) fn flush(&mut self) {
        self.send(0, flush(self.wires[0]));
        self.send_sentinel(0);
        let _ = self.receive(0);
    }

    /// Writes bytes. That a server closes meanwhile is seen when its answer is read.
    pub(crate) fn send(&mut self, connection: usize, bytes: &[u8]) {
        let _ = self.link(connection).write_all(bytes);
    }

    /// Asks for the end of the answer.
    pub(crate) fn send_sentinel(&mut self, connection: usize) {
        self.send(connection, sentinel(self.wires[connection]).0);
    }

    /// Tells the server that nothing more will be sent.
    pub(crate) fn hang_up(&mut self, connection: usize) {
        if let Link::Tcp(stream) = self.link(connection) {
            let _ = stream.shutdown(Shutdown::Write);
        }
    }

    /// Reads up to the sentinel's answer, which is left out, or to the end.
    pub(crate) fn receive(&mut self, connection: usize) -> Answer {
        let sentinel = sentinel(self.wires[connection]).1;
        let mut bytes = Vec::new();
        let mut buffer = [0; 16 * 1024];
        let end = loop {
            match self.link(connection).read(&mut buffer) {
                Ok(0) => break End::Closed,
                Ok(count) => bytes.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_timeout(error.kind()) => break End::Stalled,
                Err(_) => break End::Closed,
            }
            if bytes.ends_with(sentinel) {
                bytes.truncate(bytes.len() - sentinel.len());
                break End::Whole;
            }
        };
        if end != End::Whole {
            self.links[connection] = None;
        }
        Answer { bytes, end }
    }

    fn link(&mut self, connection: usize) -> &mut Link {
        self.links[connection].get_or_insert_with(|| {
            if self.wires[connection] == Wire::Datagrams {
                let datagrams = Datagrams::new(self.server.udp_address(), self.patience);
                return Link::Udp(datagrams);
            }
            let stream = self.server.connect();
            stream.set_read_timeout(Some(self.patience)).expect("a socket takes its options");
            Link::Tcp(stream)
        })
    }
}

fn is_timeout(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn flush(wire: Wire) -> &'static [u8] {
    match wire {
        Wire::Text | Wire::Datagrams => b"flush_all\r\n",
        Wire::Binary => BINARY_FLUSH,
        // Who is unknown cannot, and has stored nothing. Who is not stores nothing that is read.
        Wire::Login => b"get abc\r\n",
        Wire::Sasl => b"",
    }
}

/// A command that nothing else sends, and its answer.
fn sentinel(wire: Wire) -> (&'static [u8], &'static [u8]) {
    match wire {
        Wire::Text | Wire::Datagrams => (b"version\r\n", b"VERSION 1.6.45\r\n"),
        Wire::Binary => (BINARY_NOOP, BINARY_NOOP_ANSWER),
        Wire::Login => (b"", b"\n"),
        Wire::Sasl => (BINARY_VERSION, BINARY_VERSION_ANSWER),
    }
}

const BINARY_FLUSH: &[u8] = b"\x80\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
const BINARY_NOOP: &[u8] = b"\x80\x0a\0\0\0\0\0\0\0\0\0\0SENT\0\0\0\0\0\0\0\0";
const BINARY_VERSION: &[u8] = b"\x80\x0b\0\0\0\0\0\0\0\0\0\0SENT\0\0\0\0\0\0\0\0";
const BINARY_VERSION_ANSWER: &[u8] = b"\x81\x0b\0\0\0\0\0\0\0\0\0\x06SENT\0\0\0\0\0\0\0\x001.6.45";
const BINARY_NOOP_ANSWER: &[u8] = b"\x81\x0a\0\0\0\0\0\0\0\0\0\0SENT\0\0\0\0\0\0\0\0";
