//! One connection to one server: requests go out, what is owed comes in. A connection that fails
//! gives up what is owed and is opened again.

use std::io::{self, ErrorKind};

use mio::{Registry, Token};

use crate::engine::address::{Endpoint, Socket};
use crate::engine::exchange::{Exchange, Wrong};
use crate::engine::owed::Owed;

/// A connection, open or not.
#[derive(Debug)]
pub(crate) struct Link {
    state: State,
    pub(crate) owed: Owed,
    /// Requests that are written down and not yet sent.
    pub(crate) output: Vec<u8>,
    sent: usize,
    /// The beginning of a reply whose end has not come.
    partial: Vec<u8>,
}

#[derive(Debug)]
enum State {
    Up(Socket),
    Opening(Socket),
    Down { retry_nanos: u64 },
}

/// Why a connection is given up.
#[derive(Debug)]
pub(crate) enum Failure {
    Io(io::Error),
    Wrong(Wrong),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Link {
    /// Connects, and waits until that is done.
    pub(crate) fn open(
        endpoint: &Endpoint,
        registry: &Registry,
        token: Token,
        owed: Owed,
    ) -> io::Result<Self> {
        let mut socket = Socket::open(endpoint)?;
        socket.register(registry, token)?;
        let state = State::Up(socket);
        Ok(Self { state, owed, output: Vec::new(), sent: 0, partial: Vec::new() })
    }

    pub(crate) fn is_up(&self) -> bool {
        matches!(self.state, State::Up(_))
    }

    /// Sends what there is to send, as far as the socket takes it; returns how much it took.
    pub(crate) fn send(&mut self) -> Result<usize, Failure> {
        let State::Up(socket) = &mut self.state else { return Ok(0) };
        let before = self.sent;
        while self.sent < self.output.len() {
            match socket.write(&self.output[self.sent..]) {
                Ok(bytes) => self.sent += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Ok(self.sent - before);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        let bytes = self.sent - before;
        self.output.clear();
        self.sent = 0;
        Ok(bytes)
    }

    /// Reads what has come, by way of `scratch`, and holds it to what is owed.
    ///
    /// A read that does not fill the buffer has emptied the socket, so no second one asks only to
    /// hear that nothing is left; but behind the last bytes of a socket that is `closing` comes its
    /// end, of which no other event will tell.
    pub(crate) fn receive(
        &mut self,
        scratch: &mut [u8],
        closing: bool,
        exchange: &mut Exchange<'_>,
    ) -> Result<(), Failure> {
        loop {
            let State::Up(socket) = &mut self.state else { return Ok(()) };
            let held = self.partial.len();
            scratch[..held].copy_from_slice(&self.partial);
            let room_bytes = scratch.len() - held;
            let bytes = match socket.read(&mut scratch[held..]) {
                Ok(0) => return Err(closed().into()),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            exchange.sample.counters.received_bytes += bytes as u64;
            let input = &scratch[..held + bytes];
            let taken = exchange.take(&mut self.owed, input).map_err(Failure::Wrong)?;
            self.partial.clear();
            self.partial.extend_from_slice(&input[taken..]);
            if self.partial.len() == scratch.len() {
                return Err(Failure::Wrong(exchange.too_long(&self.partial)));
            }
            if bytes < room_bytes && !closing {
                return Ok(());
            }
        }
    }

    /// Closes the connection; it is tried again after a while.
    pub(crate) fn close(&mut self, now_nanos: u64) {
        self.output.clear();
        self.sent = 0;
        self.partial.clear();
        self.state = State::Down { retry_nanos: now_nanos + RETRY_NANOS };
    }

    /// Begins to open a connection that is closed, when it is time.
    pub(crate) fn reopen(
        &mut self,
        endpoint: &Endpoint,
        registry: &Registry,
        token: Token,
        now_nanos: u64,
    ) -> io::Result<()> {
        let State::Down { retry_nanos } = self.state else { return Ok(()) };
        if now_nanos < retry_nanos {
            return Ok(());
        }
        match Socket::begin(endpoint) {
            Ok(mut socket) => {
                socket.register(registry, token)?;
                self.state = State::Opening(socket);
            }
            Err(_) => {
                self.state = State::Down { retry_nanos: now_nanos + RETRY_NANOS };
            }
        }
        Ok(())
    }

    /// The socket has something to say about its opening; returns whether it is up now.
    pub(crate) fn opened(&mut self, now_nanos: u64) -> bool {
        let State::Opening(socket) = &self.state else { return false };
        match socket.is_connected() {
            Ok(false) => false,
            Ok(true) => {
                let down = State::Down { retry_nanos: now_nanos };
                if let State::Opening(socket) = std::mem::replace(&mut self.state, down) {
                    self.state = State::Up(socket);
                }
                true
            }
            Err(_) => {
                self.close(now_nanos);
                false
            }
        }
    }
}

fn closed() -> io::Error {
    io::Error::new(ErrorKind::UnexpectedEof, "the server closed a connection")
}

const RETRY_NANOS: u64 = 100_000_000;
