//! Requests in datagrams.
//!
//! A datagram is a frame of eight bytes and whole requests. Each is served by itself, through the
//! same [`serve`](crate::serve::serve) as a connection's input, and leaves nothing behind: what is
//! not a whole request is dropped. The reply to each request goes out in as many frames as it
//! takes.
//!
//! Whoever sends a datagram can claim to be somebody else, so what is sent in reply is bounded, for
//! each request and for each address in each second ([`Allowances`]), and what would pass a bound
//! is not sent. (It counts all the same, because it was put together.) The rest of what keeps
//! datagrams harmless is the configuration's: they are off unless asked for, and asked for twice on
//! a public address.

mod allowance;

use crate::config::Dialects;
use crate::listener::Datagrams;
use crate::output::Output;
use crate::serve::{Limits, Session, Stop};
use crate::stats::Count;
use crate::worker::{Occasion, Worker};
use allowance::Allowances;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use tokio::net::UdpSocket;

/// One socket, on the event loop of the worker that serves it.
#[derive(Debug)]
pub(crate) struct Service {
    socket: UdpSocket,
    dialects: Dialects,
    port: u16,
    worker: Rc<Worker>,
    allowances: Allowances,
    /// The reply to one request.
    reply: Output,
}

impl Service {
    /// On the calling thread's event loop.
    pub(crate) fn new(datagrams: Datagrams, worker: Rc<Worker>) -> io::Result<Self> {
        let Datagrams { socket, dialects } = datagrams;
        let port = socket.local_addr()?.port();
        let socket = UdpSocket::from_std(socket)?;
        let allowances = Allowances::new(worker.config().udp_bytes_per_second);
        Ok(Self { socket, dialects, port, worker, allowances, reply: Output::default() })
    }

    /// Serves until the event loop ends.
    pub(crate) async fn run(mut self) {
        let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            match self.socket.recv_from(&mut datagram).await {
                Ok((bytes, source)) if !self.worker.stopping() => {
                    self.answer(&datagram[..bytes], source).await;
                }
                // What went wrong concerns one datagram, or will go wrong again after the others
                // have had their turn.
                _ => tokio::task::yield_now().await,
            }
        }
    }

    async fn answer(&mut self, datagram: &[u8], source: SocketAddr) {
        let counters = &self.worker.figures().counters;
        counters.add(Count::BytesRead, datagram.len() as u64);
        let Some((id, mut requests)) = requests_of(datagram) else { return };
        if source.port() == self.port {
            // Another server, which would take the answer for a request and answer that.
            return;
        }
        let mut session = Session::new(self.worker.config(), self.dialects);
        loop {
            if !self.allowances.is_left(source.ip(), self.worker.uptime()) {
                return self.worker.figures().counters.count(Count::UdpDropped);
            }
            let (consumed, stop) = self.serve_one(&mut session, requests);
            let cost_bytes = self.reply.end().min(REPLY_BYTES_MAX) + FRAME_BYTES;
            self.allowances.take(source.ip(), cost_bytes);
            requests = &requests[consumed..];
            if session.stream().is_some() {
                // It would go on for as long as it takes, to somebody who may not want it.
                return;
            }
            if self.reply.end() > REPLY_BYTES_MAX || stop == Stop::Output {
                self.worker.figures().counters.count(Count::UdpDropped);
                self.reply = Output::default();
            }
            if self.send(id, source).await.is_err() || stop != Stop::Turn {
                return;
            }
        }
    }

    /// Serves the first of the requests, its reply becoming `reply`. Returns how many bytes it had,
    /// and whether another one follows ([`Stop::Turn`]).
    fn serve_one(&mut self, session: &mut Session, requests: &[u8]) -> (usize, Stop) {
        let worker = &self.worker;
        let engine = &mut worker.desk().engine;
        let mut limits = Limits { requests: 1, output_bytes: REPLY_BYTES_MAX };
        self.reply.clear(REPLY_BYTES_MAX);
        std::mem::swap(&mut self.reply, &mut engine.output);
        let occasion = Occasion { fd: self.socket.as_raw_fd(), now: worker.now() };
        let served = engine.serve(worker, occasion, session, requests, 0, &mut limits);
        std::mem::swap(&mut self.reply, &mut engine.output);
        (served.consumed, served.stop)
    }

    /// Sends the reply, if there is one.
    async fn send(&self, id: [u8; 2], source: SocketAddr) -> io::Result<()> {
        let mut frame = [0; FRAME_BYTES + PAYLOAD_BYTES_MAX];
        let total = self.reply.copied().len().div_ceil(PAYLOAD_BYTES_MAX);
        for (number, payload) in self.reply.copied().chunks(PAYLOAD_BYTES_MAX).enumerate() {
            let frame_bytes = FRAME_BYTES + payload.len();
            frame[..FRAME_BYTES].copy_from_slice(&header(id, number, total));
            frame[FRAME_BYTES..frame_bytes].copy_from_slice(payload);
            self.socket.send_to(&frame[..frame_bytes], source).await?;
            let counters = &self.worker.figures().counters;
            counters.add(Count::BytesWritten, frame_bytes as u64);
        }
        Ok(())
    }
}

/// The number that the client gave the datagram, and the requests in it. `None` if there are none,
/// or if they are only a part of what the client has to say: that is not put together again.
fn requests_of(datagram: &[u8]) -> Option<([u8; 2], &[u8])> {
    let (&[id_high, id_low, _, _, total_high, total_low, _, _], requests) =
        datagram.split_first_chunk::<FRAME_BYTES>()?;
    let is_whole = (total_high, total_low) == (0, 1);
    (is_whole && !requests.is_empty()).then_some(([id_high, id_low], requests))
}

fn header(id: [u8; 2], number: usize, total: usize) -> [u8; FRAME_BYTES] {
    let field = |value: usize| u16::try_from(value).unwrap_or(u16::MAX).to_be_bytes();
    let ([number_high, number_low], [total_high, total_low]) = (field(number), field(total));
    [id[0], id[1], number_high, number_low, total_high, total_low, 0, 0]
}

const FRAME_BYTES: usize = 8;
/// With its frame and the headers around it, it fits an Ethernet frame.
const PAYLOAD_BYTES_MAX: usize = 1392;
/// No datagram is longer.
const DATAGRAM_BYTES_MAX: usize = 1 << 16;
/// The longest reply to one request: 48 datagrams.
const REPLY_BYTES_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_is_a_frame_and_requests() {
        let whole = b"\x12\x34\0\0\0\x01\0\0get a\r\n";
        assert_eq!(requests_of(whole), Some(([0x12, 0x34], b"get a\r\n".as_slice())));
        for length in 0..=FRAME_BYTES {
            assert_eq!(requests_of(&whole[..length]), None, "{length} bytes");
        }
        let odd = b"\x12\x34\xff\xff\0\x01\xff\xffx";
        assert!(requests_of(odd).is_some(), "the other fields mean nothing");
    }

    /// CVE-2022-48571: memcached crashed on requests of several datagrams.
    #[test]
    fn cve_2022_48571_parts_of_requests_are_dropped() {
        for total in [[0, 0], [0, 2], [1, 0], [1, 1], [0xff, 0xff]] {
            let datagram = [b"\0\0\0\0".as_slice(), &total, b"\0\0get a\r\n"].concat();
            assert_eq!(requests_of(&datagram), None, "{total:?}");
        }
    }

    #[test]
    fn the_frames_of_a_reply_are_numbered() {
        assert_eq!(header([0x12, 0x34], 0, 1), *b"\x12\x34\0\0\0\x01\0\0");
        assert_eq!(header([0, 1], 47, 48), [0, 1, 0, 47, 0, 48, 0, 0]);
    }
}
