//! What a client is connected by: TCP or a Unix socket.
//!
//! An enum and not a type parameter, so that a worker has one kind of connection: to ask which it
//! is costs a branch beside a call to the system.

use crate::output::Output;
use std::fmt::{self, Display};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A connected socket, on the event loop of the calling thread.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// One end of a connection, or where one is awaited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Of TCP.
    Tcp(SocketAddr),
    /// Of UDP.
    Udp(SocketAddr),
    /// A Unix socket with a name.
    Unix(PathBuf),
    /// A Unix socket without a name, which is what clients have.
    Unnamed,
}

impl Stream {
    /// Sends what can be sent at once of an output up to where a reply ends. Returns how many
    /// bytes.
    ///
    /// # Errors
    /// Those of the socket; [`io::ErrorKind::WouldBlock`] where that is nothing.
    pub(crate) fn try_send(&self, output: &Output, end: usize) -> io::Result<usize> {
        if let Some(piece) = output.piece(end) {
            return match self {
                Self::Tcp(stream) => stream.try_write(piece),
                Self::Unix(stream) => stream.try_write(piece),
            };
        }
        let mut pieces = [IoSlice::new(&[]); PIECES_MAX];
        let count = output.pieces(end, &mut pieces);
        match self {
            Self::Tcp(stream) => stream.try_write_vectored(&pieces[..count]),
            Self::Unix(stream) => stream.try_write_vectored(&pieces[..count]),
        }
    }

    /// Sends what can be sent of an output. Returns how many bytes.
    pub(crate) fn poll_send(
        &mut self,
        task: &mut Context<'_>,
        output: &Output,
    ) -> Poll<io::Result<usize>> {
        if let Some(piece) = output.piece(output.end()) {
            return Pin::new(self).poll_write(task, piece);
        }
        let mut pieces = [IoSlice::new(&[]); PIECES_MAX];
        let count = output.pieces(output.end(), &mut pieces);
        Pin::new(self).poll_write_vectored(task, &pieces[..count])
    }

    /// Ready when there is something to read.
    pub(crate) fn poll_read_ready(&self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(task),
            Self::Unix(stream) => stream.poll_read_ready(task),
        }
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Tcp(stream) => stream.as_raw_fd(),
            Self::Unix(stream) => stream.as_raw_fd(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(task, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(task, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(task, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(task, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(task, pieces),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(task, pieces),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(task),
            Self::Unix(stream) => Pin::new(stream).poll_flush(task),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(task),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(task),
        }
    }
}

/// As memcached writes it, with its family.
impl Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address @ SocketAddr::V4(_)) => write!(formatter, "tcp:{address}"),
            Self::Tcp(address @ SocketAddr::V6(_)) => write!(formatter, "tcp6:{address}"),
            Self::Udp(address @ SocketAddr::V4(_)) => write!(formatter, "udp:{address}"),
            Self::Udp(address @ SocketAddr::V6(_)) => write!(formatter, "udp6:{address}"),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
            Self::Unnamed => formatter.write_str("?:<AF 0>"),
        }
    }
}

/// As many pieces are sent in one call to the system: a value of 1 MiB has some five.
const PIECES_MAX: usize = 64;
