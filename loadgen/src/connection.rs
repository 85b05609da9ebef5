//! One socket in a closed loop: a batch goes out with one write, its replies come in, and only then
//! does the next go out.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Instant;

use mio::net::TcpStream;

use crate::batch::Batch;
use crate::traffic::Traffic;
use crate::workload::Workload;

/// A connection and its batch under way.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) socket: TcpStream,
    pub(crate) batch: Batch,
    /// When the batch under way was begun.
    pub(crate) begun: Instant,
    input: Vec<u8>,
    filled: usize,
    output: Vec<u8>,
    sent: usize,
}

impl Connection {
    /// Connects, and waits until that is done: a refusal is told at once.
    pub(crate) fn open(server: SocketAddr, workload: &Workload, now: Instant) -> io::Result<Self> {
        let socket = std::net::TcpStream::connect(server)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: TcpStream::from_std(socket),
            batch: Batch::new(workload),
            begun: now,
            input: vec![0; workload.reply_piece_bytes_max() + INPUT_BYTES],
            filled: 0,
            output: Vec::new(),
            sent: 0,
        })
    }

    /// Draws a batch and sends it.
    pub(crate) fn begin(&mut self, traffic: &mut Traffic, now: Instant) -> io::Result<()> {
        self.begun = now;
        self.output.clear();
        self.sent = 0;
        self.batch.fill(traffic, &mut self.output);
        self.send()
    }

    /// Sends what is left of the batch, as far as the socket takes it.
    pub(crate) fn send(&mut self) -> io::Result<()> {
        while self.sent < self.output.len() {
            match self.socket.write(&self.output[self.sent..]) {
                Ok(bytes) => self.sent += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads and checks what has come; returns whether the batch is answered.
    ///
    /// A read that does not fill the buffer has emptied the socket, so no second one asks only to
    /// hear that nothing is left; but behind the last bytes of a socket that is `closing` comes its
    /// end, of which no other event will tell.
    pub(crate) fn receive(&mut self, closing: bool) -> io::Result<bool> {
        while !self.batch.is_answered() {
            let room = &mut self.input[self.filled..];
            let room_bytes = room.len();
            match self.socket.read(room) {
                Ok(0) => return Err(closed()),
                Ok(bytes) => {
                    self.filled += bytes;
                    self.check()?;
                    if bytes < room_bytes && !closing {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.batch.is_answered())
    }

    fn check(&mut self) -> io::Result<()> {
        let checked = self
            .batch
            .check(&self.input[..self.filled])
            .map_err(|wrong| io::Error::new(ErrorKind::InvalidData, wrong))?;
        self.input.copy_within(checked..self.filled, 0);
        self.filled -= checked;
        Ok(())
    }
}

fn closed() -> io::Error {
    io::Error::new(ErrorKind::UnexpectedEof, "the server closed a connection with replies owed")
}

/// Read at once, beyond one value.
const INPUT_BYTES: usize = 16 * 1024;
