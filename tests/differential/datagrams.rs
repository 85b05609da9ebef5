//! Requests in datagrams: what is sent that way, and how it looks to a client like a stream.
//!
//! A datagram is a whole request, and each is awaited: what is left of one, or comes between two,
//! is for chance to decide.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::sequence::Command;
use crate::support::Random;
use crate::words::{COUNTERS, KEYS, any, any_value, once_in};

/// A socket that sends each write as a datagram, and reads what the frames of answers hold. A frame
/// that is not the next one shows among what is read.
pub(crate) struct Datagrams {
    socket: UdpSocket,
    sent: u16,
    /// The number of the request, the next frame's, and how many there are.
    expected: (u16, u16, u16),
}

impl Datagrams {
    pub(crate) fn new(server: SocketAddr, patience: Duration) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        socket.connect(server).expect("a local address");
        socket.set_read_timeout(Some(patience)).expect("a socket takes its options");
        Self { socket, sent: 0, expected: (0, 0, 0) }
    }
}

impl Write for Datagrams {
    fn write(&mut self, request: &[u8]) -> io::Result<usize> {
        self.sent = self.sent.wrapping_add(1);
        let [high, low] = self.sent.to_be_bytes();
        self.socket.send(&[&[high, low, 0, 0, 0, 1, 0, 0], request].concat())?;
        Ok(request.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Datagrams {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut datagram = [0; DATAGRAM_BYTES_MAX];
        let length = self.socket.recv(&mut datagram)?;
        let (frame, payload) = datagram[..length].split_at(FRAME_BYTES.min(length));
        let fields: Vec<u16> =
            frame.chunks(2).map(|field| u16::from_be_bytes([field[0], field[1]])).collect();
        let &[id, number, total, reserved] = &fields[..] else { panic!("{frame:?} is no frame") };
        let (last_id, next, last_total) = self.expected;
        let is_next = if number == 0 { id > last_id } else { (id, total) == (last_id, last_total) };
        let is_right = is_next && (number == 0 || number == next) && number < total;
        self.expected = (id, number + 1, total);
        let shown = if is_right && reserved == 0 { payload } else { b"another frame" };
        buffer[..shown.len()].copy_from_slice(shown);
        Ok(shown.len())
    }
}

/// What a client may want.
pub(crate) fn phrase(random: &mut Random) -> Vec<Command> {
    let counts = once_in(random, 4);
    let key = if counts { any(random, &COUNTERS) } else { any(random, &KEYS) };
    let command = match random.below(20) {
        0..=4 => {
            let verb = any(random, &["set", "set", "set", "add", "replace"]);
            stored(random, verb, key, counts)
        }
        5 if !counts => {
            let verb = any(random, &["append", "prepend"]);
            stored(random, verb, key, counts)
        }
        6..=10 => {
            // FRAMES APART
            let verb = any(random, &["get", "get", "gets", "gat 100", "gats 0"]);
            Command::literal([format!("{verb} {key}\r\n")])
        }
        11 => Command::literal([any(random, &["delete ", "touch "]), key, " 0\r\n"]),
        12..=13 => {
            let verb = any(random, &["incr", "decr"]);
            let counter = any(random, &COUNTERS);
            Command::literal([format!("{verb} {counter} {}\r\n", random.below(1000))])
        }
        14..=16 => {
            let verb = any(random, &["mg", "mg", "md"]);
            let flags = any(random, &["", " k", " q", " k q O1", " c k"]);
            let value = if verb == "mg" { any(random, &["", " v", " v s f t"]) } else { "" };
            Command::literal([format!("{verb} {key}{flags}{value}\r\n")])
        }
        17 => Command::literal([format!("ma {} v c\r\n", any(random, &COUNTERS))]),
        _ => Command::literal([any(random, &OTHERS)]),
    };
    vec![command]
}

/// A value, whose length is right. At times it takes several frames to bring it back.
fn stored(random: &mut Random, verb: &str, key: &str, counts: bool) -> Command {
    let value = if !counts && once_in(random, 5) {
        vec![b'v'; 1000 + random.below(6000)]
    } else {
        any_value(random, key)
    };
    let noreply = any(random, &["", "", "", " noreply"]);
    let line = format!("{verb} {key} {} 0 {}{noreply}\r\n", random.below(9), value.len());
    Command::literal([line.into_bytes(), value, b"\r\n".to_vec()])
}

const FRAME_BYTES: usize = 8;
const DATAGRAM_BYTES_MAX: usize = 1 << 16;
const OTHERS: [&str; 8] = [
    "mn\r\n",
    "nonsense\r\n",
    "get\r\n",
    "incr a\r\n",
    "verbosity 0\r\n",
    "flush_all\r\n",
    "set a 0 x\r\n",
    "mg a !\r\n",
];
