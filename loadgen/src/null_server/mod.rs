//! A server that answers without looking anything up: what the kernel and the protocol cost on
//! their own, and so the floor under every cache server on the same machine.
//!
//! One thread, one epoll, one buffer in and one out for all connections, one write for all that one
//! read brought. A `get` is answered with the same 100 bytes for every key, a `set` with `STORED`,
//! its value unseen. Answers may be made late on purpose; see [`late`].

pub mod late;

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpListener;

use memchr::memchr;
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::null_server::late::{Held, Lateness};
use crate::timer::Timer;
use crate::truth::value::CONSTANT_BYTE;

/// Length of the value that every key has.
pub const VALUE_BYTES: usize = 100;

/// Serves `listener` until polling or accepting fails; at once, where there is no `lateness`.
///
/// # Errors
///
/// Those of the operating system; a connection's own errors only close that connection.
pub fn serve(listener: TcpListener, lateness: Option<Lateness>) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut listener = mio::net::TcpListener::from_std(listener);
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(EVENTS_MAX);
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let held = match lateness {
        Some(lateness) => Some(Held::new(lateness, Timer::register(poll.registry(), TIMER)?)),
        None => None,
    };
    let mut shared = Shared { input: vec![0; INPUT_BYTES], output: Vec::new(), held };
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other?,
        }
        for event in &events {
            let slot = match event.token() {
                LISTENER => {
                    accept(&listener, &poll, &mut connections)?;
                    continue;
                }
                TIMER => continue,
                Token(index) => &mut connections[index],
            };
            if let Some(connection) = slot
                && connection.turn(event, &mut shared).is_err()
            {
                *slot = None;
            }
        }
        if let Some(held) = &mut shared.held {
            release(held, &mut connections)?;
        }
    }
}

/// Sends the replies whose time has come, and has the poll woken for the next.
fn release(held: &mut Held, connections: &mut [Option<Connection>]) -> io::Result<()> {
    while let Some((now_nanos, index)) = held.pop() {
        let slot = &mut connections[index];
        if let Some(connection) = slot
            && connection.release(now_nanos).is_err()
        {
            *slot = None;
        }
    }
    held.wake()
}

/// What all connections share: the buffers, so that they stay in the processor's cache.
struct Shared {
    input: Vec<u8>,
    output: Vec<u8>,
    /// Where answers are late.
    held: Option<Held>,
}

struct Connection {
    index: usize,
    socket: TcpStream,
    /// The beginning of a request whose end has not come.
    partial: Vec<u8>,
    /// What the socket did not take; nothing is read while there is any.
    unsent: Vec<u8>,
    /// Replies whose time has not come.
    late: Vec<u8>,
    /// When each of them is due, in nanoseconds, and its length.
    dues: VecDeque<(u64, usize)>,
}

impl Connection {
    /// Does what the event allows; an error means that the connection is over.
    fn turn(&mut self, event: &Event, shared: &mut Shared) -> io::Result<()> {
        if event.is_writable() && !self.unsent.is_empty() {
            let unsent = std::mem::take(&mut self.unsent);
            self.send(&unsent)?;
        }
        while self.unsent.is_empty() {
            let bytes = match self.socket.read(&mut shared.input) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            shared.output.clear();
            let input = &shared.input[..bytes];
            match &mut shared.held {
                None => {
                    self.answer(input, &mut shared.output, |_| {})?;
                    self.send(&shared.output)?;
                }
                Some(held) => self.hold(input, &mut shared.output, held)?,
            }
            if bytes < shared.input.len() && !event.is_read_closed() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Answers what is complete; `replied` is told where each reply ends in `output`.
    fn answer(
        &mut self,
        input: &[u8],
        output: &mut Vec<u8>,
        replied: impl FnMut(usize),
    ) -> io::Result<()> {
        if self.partial.is_empty() {
            let served = answer_all(input, output, replied)?;
            self.partial.extend_from_slice(&input[served..]);
        } else {
            self.partial.extend_from_slice(input);
            let served = answer_all(&self.partial, output, replied)?;
            self.partial.drain(..served);
        }
        match self.partial.len() {
            ..=PARTIAL_BYTES_MAX => Ok(()),
            _ => Err(ErrorKind::InvalidData.into()),
        }
    }

    /// Answers, but keeps the replies until they are due.
    fn hold(&mut self, input: &[u8], output: &mut Vec<u8>, held: &mut Held) -> io::Result<()> {
        let mut dues = std::mem::take(&mut self.dues);
        let (index, mut begin) = (self.index, 0);
        let answered = self.answer(input, output, |end| {
            let after_nanos = dues.back().map_or(0, |(due_nanos, _)| *due_nanos);
            dues.push_back((held.hold(index, after_nanos), end - begin));
            begin = end;
        });
        self.dues = dues;
        self.late.extend_from_slice(output);
        match self.late.len() {
            ..=LATE_BYTES_MAX => answered,
            _ => Err(ErrorKind::OutOfMemory.into()),
        }
    }

    /// Sends what is due by now.
    fn release(&mut self, now_nanos: u64) -> io::Result<()> {
        let mut bytes = 0;
        while let Some(&(due_nanos, reply_bytes)) = self.dues.front()
            && due_nanos <= now_nanos
        {
            self.dues.pop_front();
            bytes += reply_bytes;
        }
        let mut late = std::mem::take(&mut self.late);
        let due = late.drain(..bytes);
        if self.unsent.is_empty() {
            self.send(due.as_slice())?;
        } else {
            self.unsent.extend_from_slice(due.as_slice());
        }
        drop(due);
        self.late = late;
        Ok(())
    }

    fn send(&mut self, output: &[u8]) -> io::Result<()> {
        let mut sent = 0;
        while sent < output.len() {
            match self.socket.write(&output[sent..]) {
                Ok(bytes) => sent += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.unsent.extend_from_slice(&output[sent..]);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn accept(
    listener: &mio::net::TcpListener,
    poll: &Poll,
    connections: &mut Vec<Option<Connection>>,
) -> io::Result<()> {
    loop {
        let mut socket = match listener.accept() {
            Ok((socket, _)) => socket,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        socket.set_nodelay(true)?;
        let index = connections.iter().position(Option::is_none).unwrap_or_else(|| {
            connections.push(None);
            connections.len() - 1
        });
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut socket, Token(index), interest)?;
        connections[index] = Some(Connection {
            index,
            socket,
            partial: Vec::new(),
            unsent: Vec::new(),
            late: Vec::new(),
            dues: VecDeque::new(),
        });
    }
}

/// Answers every complete request in `input` and returns how many bytes they take.
fn answer_all(
    input: &[u8],
    output: &mut Vec<u8>,
    mut replied: impl FnMut(usize),
) -> io::Result<usize> {
    let mut served = 0;
    while let Some(line_bytes) = memchr(b'\n', &input[served..]) {
        let line = &input[served..served + line_bytes];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let mut request_bytes = line_bytes + 1;
        if let Some(keys) = line.strip_prefix(b"get ") {
            answer_get(keys, output);
        } else if line.starts_with(b"set ") {
            request_bytes += value_bytes(line).ok_or(ErrorKind::InvalidData)? + b"\r\n".len();
            if input.len() - served < request_bytes {
                break;
            }
            output.extend_from_slice(b"STORED\r\n");
        } else {
            output.extend_from_slice(b"ERROR\r\n");
        }
        replied(output.len());
        served += request_bytes;
    }
    Ok(served)
}

fn answer_get(keys: &[u8], output: &mut Vec<u8>) {
    let mut rest = keys;
    while !rest.is_empty() {
        let key_bytes = memchr(b' ', rest).unwrap_or(rest.len());
        output.extend_from_slice(b"VALUE ");
        output.extend_from_slice(&rest[..key_bytes]);
        output.extend_from_slice(&VALUE_TAIL);
        rest = rest.get(key_bytes + 1..).unwrap_or_default();
    }
    output.extend_from_slice(b"END\r\n");
}

/// The length in the last field of a `set` line, within reason.
fn value_bytes(line: &[u8]) -> Option<usize> {
    let field = line.rsplit(|&byte| byte == b' ').next()?;
    let bytes: usize = str::from_utf8(field).ok()?.parse().ok()?;
    (bytes <= SET_BYTES_MAX).then_some(bytes)
}

/// All of a value but its key: flags, length, the value, the line end.
const VALUE_TAIL: [u8; 8 + VALUE_BYTES + 2] = {
    let mut tail = [CONSTANT_BYTE; 8 + VALUE_BYTES + 2];
    tail.split_at_mut(8).0.copy_from_slice(b" 0 100\r\n");
    tail.split_at_mut(8 + VALUE_BYTES).1.copy_from_slice(b"\r\n");
    tail
};
const LISTENER: Token = Token(usize::MAX - 1);
const TIMER: Token = Token(usize::MAX - 2);
const EVENTS_MAX: usize = 1024;
const INPUT_BYTES: usize = 64 * 1024;
const SET_BYTES_MAX: usize = 1 << 20;
/// Held back on one connection.
const LATE_BYTES_MAX: usize = 64 << 20;
/// A set of the largest value, or a get of some 100,000 keys.
const PARTIAL_BYTES_MAX: usize = 2 * SET_BYTES_MAX;

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(input: &[u8]) -> (usize, String) {
        let mut output = Vec::new();
        let served = answer_all(input, &mut output, |_| {}).unwrap();
        (served, String::from_utf8(output).unwrap())
    }

    #[test]
    fn every_key_has_the_same_value() {
        let value = "x".repeat(VALUE_BYTES);
        let (served, output) = answered(b"get one two\r\n");
        assert_eq!(served, 13);
        assert_eq!(
            output,
            format!("VALUE one 0 100\r\n{value}\r\nVALUE two 0 100\r\n{value}\r\nEND\r\n")
        );
    }

    #[test]
    fn a_set_waits_for_its_value() {
        let set = b"set key 0 0 5\r\na\r\nb \r\n";
        for end in 0..set.len() {
            assert_eq!(answered(&set[..end]), (0, String::new()));
        }
        assert_eq!(answered(set), (set.len(), "STORED\r\n".to_owned()));
    }

    #[test]
    fn pipelined_requests_are_answered_in_order() {
        let (served, output) = answered(b"set key 0 0 1\r\na\r\nwhat\r\nget");
        assert_eq!(served, 24);
        assert_eq!(output, "STORED\r\nERROR\r\n");
    }

    #[test]
    fn a_length_beyond_reason_ends_the_connection() {
        for length in ["1048577", "-1", "18446744073709551615", "18446744073709551616", "x"] {
            let line = format!("set key 0 0 {length}\r\n");
            assert!(answer_all(line.as_bytes(), &mut Vec::new(), |_| {}).is_err(), "{length}");
        }
    }
}
