//! Listening sockets and the connections that come from them, TCP or Unix, before a worker has
//! them.

use crate::config::{Config, Dialects, Listener};
use crate::stream::{Endpoint, Stream};
use nix::sys::stat::{Mode, fchmod};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// A socket that listens, and what those may speak who connect to it.
#[derive(Debug)]
pub(crate) struct Listening {
    socket: Bound,
    dialects: Dialects,
}

#[derive(Debug)]
enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// A socket that listens, on the event loop of the thread that waits for its connections.
#[derive(Debug)]
pub(crate) struct Accepting {
    socket: Acceptor,
    dialects: Dialects,
}

#[derive(Debug)]
enum Acceptor {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener, PathBuf),
}

/// A connection that nobody serves yet.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) dialects: Dialects,
    socket: Accepted,
    /// Where it was accepted.
    local: Endpoint,
}

#[derive(Debug)]
enum Accepted {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A socket that datagrams come to, and what those may speak who send them.
#[derive(Debug)]
pub(crate) struct Datagrams {
    pub(crate) socket: UdpSocket,
    pub(crate) dialects: Dialects,
}

/// Binds the sockets that datagrams are to come to.
pub(crate) fn bind_udp(config: &Config) -> io::Result<Vec<Datagrams>> {
    let bind = |listener: &Listener| {
        let socket = new_socket(listener.address, Type::DGRAM, Protocol::UDP)?;
        socket.bind(&listener.address.into())?;
        socket.set_nonblocking(true)?;
        Ok(Datagrams { socket: socket.into(), dialects: listener.dialects })
    };
    config.udp.iter().map(bind).collect()
}

/// Binds all that the configuration names for connections.
pub(crate) fn bind_streams(config: &Config) -> io::Result<Vec<Listening>> {
    if let Some(path) = &config.unix_socket {
        let socket = bind_unix(path, config.unix_mode, config.backlog)?;
        let socket = Bound::Unix(socket, path.clone());
        return Ok(vec![Listening { socket, dialects: config.dialects }]);
    }
    let bind = |listener: &Listener| {
        let socket = Bound::Tcp(bind_tcp(listener.address, config.backlog)?);
        Ok(Listening { socket, dialects: listener.dialects })
    };
    config.listen.iter().map(bind).collect()
}

impl Listening {
    pub(crate) fn endpoint(&self) -> io::Result<Endpoint> {
        match &self.socket {
            Bound::Tcp(listener) => listener.local_addr().map(Endpoint::Tcp),
            Bound::Unix(_, path) => Ok(Endpoint::Unix(path.clone())),
        }
    }

    /// Moves it to the calling thread's event loop.
    pub(crate) fn into_acceptor(self) -> io::Result<Accepting> {
        let socket = match self.socket {
            Bound::Tcp(socket) => Acceptor::Tcp(tokio::net::TcpListener::from_std(socket)?),
            Bound::Unix(socket, path) => {
                Acceptor::Unix(tokio::net::UnixListener::from_std(socket)?, path)
            }
        };
        Ok(Accepting { socket, dialects: self.dialects })
    }
}

impl Accepting {
    /// Waits for a connection.
    pub(crate) async fn accept(&self) -> io::Result<Arrival> {
        let (socket, local) = match &self.socket {
            Acceptor::Tcp(listener) => {
                let stream = listener.accept().await?.0.into_std()?;
                let local = Endpoint::Tcp(stream.local_addr()?);
                (Accepted::Tcp(stream), local)
            }
            Acceptor::Unix(listener, path) => {
                let stream = listener.accept().await?.0.into_std()?;
                (Accepted::Unix(stream), Endpoint::Unix(path.clone()))
            }
        };
        Ok(Arrival { dialects: self.dialects, socket, local })
    }
}

impl AsRawFd for Listening {
    fn as_raw_fd(&self) -> RawFd {
        match &self.socket {
            Bound::Tcp(listener) => listener.as_raw_fd(),
            Bound::Unix(listener, _) => listener.as_raw_fd(),
        }
    }
}

impl Arrival {
    /// Says goodbye, if that can be done at once.
    pub(crate) fn refuse(mut self, words: &[u8]) {
        let _ = match &mut self.socket {
            Accepted::Tcp(stream) => stream.write_all(words),
            Accepted::Unix(stream) => stream.write_all(words),
        };
    }

    /// Sets what a server wants of its connections.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        match &self.socket {
            Accepted::Tcp(stream) => {
                stream.set_nodelay(true)?;
                SockRef::from(stream).set_keepalive(true)
            }
            Accepted::Unix(_) => Ok(()),
        }
    }

    /// The client's end and the server's.
    pub(crate) fn endpoints(&self) -> io::Result<(Endpoint, Endpoint)> {
        let peer = match &self.socket {
            Accepted::Tcp(stream) => Endpoint::Tcp(stream.peer_addr()?),
            Accepted::Unix(_) => Endpoint::Unnamed,
        };
        Ok((peer, self.local.clone()))
    }

    /// Moves it to the calling thread's event loop.
    pub(crate) fn into_stream(self) -> io::Result<Stream> {
        match self.socket {
            Accepted::Tcp(stream) => tokio::net::TcpStream::from_std(stream).map(Stream::Tcp),
            Accepted::Unix(stream) => tokio::net::UnixStream::from_std(stream).map(Stream::Unix),
        }
    }
}

impl Datagrams {
    pub(crate) fn endpoint(&self) -> io::Result<Endpoint> {
        self.socket.local_addr().map(Endpoint::Udp)
    }
}

impl AsRawFd for Datagrams {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

fn new_socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        // The same port on 0.0.0.0 is a listener of its own.
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn bind_tcp(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = new_socket(address, Type::STREAM, Protocol::TCP)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Binds to a path, in place of a socket that an earlier server may have left there.
fn bind_unix(path: &Path, mode: u32, backlog: i32) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        fs::remove_file(path)?;
    }
    // The file appears with this mode less what the umask takes away, and then has all of it: never
    // more, as it would if the mode were set afterwards alone.
    fchmod(&socket, Mode::from_bits_truncate(mode))?;
    socket.bind(&SockAddr::unix(path)?)?;
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}
