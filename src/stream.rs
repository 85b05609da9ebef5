//! What a client is connected by: TCP or a Unix socket.
//!
//! An enum and not a type parameter, so that a worker has one kind of connection: to ask which it
//! is costs a branch beside a call to the system.

use std::fmt::{self, Display};
use std::io;
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
    /// Writes what can be written at once.
    ///
    /// # Errors
    /// Those of the socket; [`io::ErrorKind::WouldBlock`] where that is nothing.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Unix(stream) => stream.try_write(bytes),
        }
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
