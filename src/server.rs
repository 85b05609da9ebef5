//! A stand-in with the interface `main` needs: it binds and accepts nothing.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Socket, Type};

use crate::config::Config;

/// The running server.
#[derive(Debug)]
pub struct Server {
    _listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
}

impl Server {
    /// Binds.
    ///
    /// # Errors
    ///
    /// Where an address cannot be bound.
    #[expect(clippy::needless_pass_by_value, reason = "the real one keeps it")]
    pub fn start(config: Config) -> io::Result<Self> {
        let listeners: Vec<TcpListener> = config
            .listen
            .iter()
            .map(|at| listen(*at, config.backlog))
            .collect::<io::Result<_>>()?;
        let addresses = listeners.iter().map(TcpListener::local_addr).collect::<io::Result<_>>()?;
        Ok(Self { _listeners: listeners, addresses })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Resolves when a client asked to stop.
    pub async fn shutdown_requested(&self) {
        std::future::pending::<()>().await;
    }

    /// Stops in order.
    pub fn stop(self) {}
}

fn listen(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}
