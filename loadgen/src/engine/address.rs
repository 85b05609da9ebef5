//! Where servers are, and the sockets to them.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::str::FromStr;

use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};

use crate::engine::ketama::Continuum;

/// One server, as it was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The name as it counts on the continuum.
    host: String,
    port: u16,
    weight: u32,
    endpoint: Endpoint,
}

/// What to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Over TCP.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// What to connect to.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Where keys live among `servers`.
    #[must_use]
    pub fn continuum(servers: &[Self]) -> Continuum {
        let names = servers.iter();
        Continuum::new(names.map(|server| (server.host.as_str(), server.port, server.weight)))
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        let (host, port) = (address.ip().to_string(), address.port());
        Self { host, port, weight: 1, endpoint: Endpoint::Tcp(address) }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, weight) = text.split_once('*').unwrap_or((text, "1"));
        let weight = weight.parse().ok().filter(|weight| *weight > 0);
        let weight = weight.ok_or_else(|| format!("`{text}`: a weight is a number above 0"))?;
        if name.starts_with(['/', '.']) {
            let endpoint = Endpoint::Unix(PathBuf::from(name));
            return Ok(Self { host: name.to_owned(), port: 0, weight, endpoint });
        }
        let with_port = if name.contains(':') { name.to_owned() } else { format!("{name}:11211") };
        let mut addresses =
            with_port.to_socket_addrs().map_err(|error| format!("`{name}`: {error}"))?;
        let address = addresses.next().ok_or_else(|| format!("`{name}` has no address"))?;
        let host = with_port.rsplit_once(':').map_or(name, |(host, _)| host).to_owned();
        Ok(Self { host, port: address.port(), weight, endpoint: Endpoint::Tcp(address) })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.endpoint {
            Endpoint::Tcp(_) => write!(formatter, "{}:{}", self.host, self.port),
            Endpoint::Unix(path) => write!(formatter, "{}", path.display()),
        }
    }
}

/// A connected socket that never blocks.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Connects and waits until that is done: a refusal is told at once.
    pub(crate) fn open(endpoint: &Endpoint) -> io::Result<Self> {
        match endpoint {
            Endpoint::Tcp(address) => {
                let socket = std::net::TcpStream::connect(address)?;
                socket.set_nodelay(true)?;
                socket.set_nonblocking(true)?;
                Ok(Self::Tcp(TcpStream::from_std(socket)))
            }
            Endpoint::Unix(path) => {
                let socket = std::os::unix::net::UnixStream::connect(path)?;
                socket.set_nonblocking(true)?;
                Ok(Self::Unix(UnixStream::from_std(socket)))
            }
        }
    }

    /// Begins to connect; that it is done is seen when the socket takes bytes.
    pub(crate) fn begin(endpoint: &Endpoint) -> io::Result<Self> {
        match endpoint {
            Endpoint::Tcp(address) => TcpStream::connect(*address).map(Self::Tcp),
            Endpoint::Unix(path) => UnixStream::connect(path).map(Self::Unix),
        }
    }

    /// Whether a connection that was begun is there; an error tells that it never will be.
    pub(crate) fn is_connected(&self) -> io::Result<bool> {
        let (error, peer) = match self {
            Self::Tcp(socket) => (socket.take_error()?, socket.peer_addr().map(drop)),
            Self::Unix(socket) => (socket.take_error()?, socket.peer_addr().map(drop)),
        };
        match error {
            Some(error) => Err(error),
            None if peer.is_err() => Ok(false),
            None => {
                if let Self::Tcp(socket) = self {
                    socket.set_nodelay(true)?;
                }
                Ok(true)
            }
        }
    }

    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        match self {
            Self::Tcp(socket) => registry.register(socket, token, interest),
            Self::Unix(socket) => registry.register(socket, token, interest),
        }
    }

    pub(crate) fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.read(room),
            Self::Unix(socket) => socket.read(room),
        }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.write(bytes),
            Self::Unix(socket) => socket.write(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_named_by_host_port_path_and_weight() {
        let address: Address = "127.0.0.1".parse().unwrap();
        assert_eq!((address.to_string().as_str(), address.weight), ("127.0.0.1:11211", 1));
        let address: Address = "127.0.0.1:7*3".parse().unwrap();
        assert_eq!((address.to_string().as_str(), address.weight), ("127.0.0.1:7", 3));
        let address: Address = "[::1]:7".parse().unwrap();
        assert_eq!(address.to_string(), "[::1]:7");
        let address: Address = "/tmp/socket".parse().unwrap();
        assert_eq!(address.endpoint(), &Endpoint::Unix("/tmp/socket".into()));
        for bad in ["127.0.0.1:x", "127.0.0.1*0", ""] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }
}
