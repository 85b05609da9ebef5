//! One client: a socket, the phase its requests are in, and what could not be served or sent yet.
//!
//! A connection is a future written by hand. Whatever it needs while it runs, above all the buffer
//! that the socket is read into and the one that replies are collected in, is the worker's and is
//! shared with the worker's other connections; between two runs a connection keeps only the bytes
//! that are not done with, mostly none. Ten thousand idle connections therefore cost ten thousand
//! small structs, and the buffers that do exist stay in the processor's cache.
//!
//! Short input is left to the worker's [`Gather`](crate::gather::Gather), which serves it together
//! with that of other connections.
//!
//! A connection that has output to send does nothing else: neither reads nor serves. That is all
//! the backpressure there is.

use crate::command;
use crate::output::Output;
use crate::serve::{Limits, Session, Stop, serve};
use crate::shared::{ConnectionRecord, ConnectionState};
use crate::stats::Count;
use crate::stream::Stream;
use crate::watch::{CloseReason, Event};
use crate::worker::{Desk, Occasion, Worker};
use std::cell::RefCell;
use std::future::Future;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::{io, mem};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Serves one client until it leaves or must. Errors of the socket end here.
#[derive(Debug)]
pub(crate) struct Client(Rc<RefCell<Connection>>);

/// See [`Client`].
#[derive(Debug)]
pub(crate) struct Connection {
    itself: Weak<RefCell<Self>>,
    stream: Stream,
    worker: Rc<Worker>,
    record: Arc<ConnectionRecord>,
    session: Session,
    next: Next,
    /// Why it ends, unless it is for a reason that comes from elsewhere.
    reason: CloseReason,
    /// Input that is not done with: `input[consumed..]`, of which `scanned` bytes hold no line end.
    input: Vec<u8>,
    consumed: usize,
    scanned: usize,
    /// What is not sent.
    output: Output,
    /// Bytes of the buffers above, as the worker's figures count them.
    buffered_bytes: usize,
}

/// What a connection does once its output is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Reads.
    Read,
    /// Goes on with the input it has.
    Serve,
    /// Is served by the worker, and goes on at once if it was `woken` meanwhile.
    Wait { woken: bool },
    /// Tells the client that nothing more will come.
    Close,
    /// Ends, once the client has nothing more to say.
    Part,
    /// Ends at once: there is no room for what it would have to keep.
    Fail,
}

impl Client {
    pub(crate) fn new(
        stream: Stream,
        session: Session,
        worker: Rc<Worker>,
        record: ConnectionRecord,
    ) -> Self {
        let record = Arc::new(record);
        worker.figures().remember(stream.as_raw_fd(), Arc::clone(&record));
        worker.tell(&Event::Opened { peer: &record.peer, fd: stream.as_raw_fd() });
        Self(Rc::new_cyclic(|itself| {
            RefCell::new(Connection {
                itself: Weak::clone(itself),
                stream,
                worker,
                record,
                session,
                next: Next::Read,
                reason: CloseReason::Normal,
                input: Vec::new(),
                consumed: 0,
                scanned: 0,
                output: Output::default(),
                buffered_bytes: 0,
            })
        }))
    }
}

impl Connection {
    /// Serves input that was gathered. [`Self::take_replies`] must follow.
    pub(crate) fn serve_gathered(
        &mut self,
        worker: &Worker,
        context: &mut command::Context<'_>,
        input: &[u8],
        output: &mut Output,
    ) -> Stop {
        self.record.last_request.store(context.batch.now(), Ordering::Relaxed);
        context.observer = context.observer.of(self.stream.as_raw_fd());
        let mut limits = worker.limits();
        limits.output_bytes = limits.output_bytes.saturating_add(output.unsent_bytes());
        let served = serve(context, &mut self.session, input, 0, output, &mut limits);
        self.keep(&input[served.consumed..], served.scanned);
        served.stop
    }

    /// Sends the replies to input that was gathered, which end at `end` in an output that others'
    /// replies follow in, and goes on.
    pub(crate) fn take_replies(
        &mut self,
        worker: &Worker,
        output: &mut Output,
        end: usize,
        stop: Stop,
    ) {
        if !output.is_sent(end) {
            // An error will be met again by the task, which is the one to end for it.
            let sent = self.stream.try_send(output, end).unwrap_or(0);
            worker.figures().counters.add(Count::BytesWritten, sent as u64);
            output.advance(sent);
            if !output.is_sent(end) {
                self.output = output.take_rest(end);
            }
        }
        let woken = self.next == Next::Wait { woken: true };
        self.stop(stop, worker);
        self.account(worker);
        let goes_on = self.next != Next::Read || self.session.stream().is_some();
        if woken || goes_on || !self.output.is_empty() || worker.stopping() {
            self.record.waker.get().expect("it was polled").wake_by_ref();
        }
    }

    /// Runs until there is nothing to do or others must have their turn. Ready when the connection
    /// is over.
    fn run(
        &mut self,
        worker: &Worker,
        desk: &mut Desk,
        task: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if let Next::Wait { woken } = &mut self.next {
            *woken = true;
            return Poll::Pending;
        }
        let mut limits = worker.limits();
        for _ in 0..READS_PER_TURN {
            ready!(self.send(worker, task))?;
            if worker.stopping() {
                self.wind_up(&mut limits);
            }
            let stop = match self.next {
                Next::Read => match self.read_and_serve(worker, desk, task, &mut limits)? {
                    Poll::Ready(Some(stop)) => stop,
                    Poll::Ready(None) => return Poll::Ready(Ok(())),
                    Poll::Pending => match self.serve_news(worker, desk, task, &mut limits) {
                        Some(stop) => stop,
                        None => return Poll::Pending,
                    },
                },
                Next::Serve => self.serve_again(worker, desk, &mut limits),
                Next::Close | Next::Part => return self.close(worker, desk, task),
                Next::Fail => return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into())),
                Next::Wait { .. } => unreachable!("who waits does not run"),
            };
            self.stop(stop, worker);
            ready!(self.send_new(worker, desk, task))?;
            if self.next == Next::Serve {
                break;
            }
        }
        task.waker().wake_by_ref();
        Poll::Pending
    }

    /// The server stops: a reply that was begun is finished if its request is there, and nothing
    /// else is begun.
    fn wind_up(&mut self, limits: &mut Limits) {
        limits.requests = 0;
        let mid_reply = self.next == Next::Serve && self.session.is_mid_reply();
        if !mid_reply && self.next != Next::Part {
            self.next = Next::Close;
        }
    }

    /// Reads once, behind what is left of earlier input, and serves what is there. `None` at the
    /// end of all input.
    fn read_and_serve(
        &mut self,
        worker: &Worker,
        desk: &mut Desk,
        task: &mut Context<'_>,
        limits: &mut Limits,
    ) -> Poll<io::Result<Option<Stop>>> {
        if let Some(room) = self.session.room().filter(|_| self.input.is_empty()) {
            let mut buffer = ReadBuf::new(room);
            ready!(Pin::new(&mut self.stream).poll_read(task, &mut buffer))?;
            let read_bytes = buffer.filled().len();
            worker.figures().counters.add(Count::BytesRead, read_bytes as u64);
            self.session.advance(read_bytes);
            return Poll::Ready(Ok((read_bytes > 0).then_some(Stop::Input)));
        }
        let scratch_bytes = match self.session.awaits_value() {
            true => desk.scratch.len(),
            false => worker.read_bytes(self.input.len()),
        };
        let mut buffer = ReadBuf::new(&mut desk.scratch[..scratch_bytes]);
        buffer.put_slice(&self.input);
        ready!(Pin::new(&mut self.stream).poll_read(task, &mut buffer))?;
        let input = buffer.filled();
        let read_bytes = input.len() - self.input.len();
        if read_bytes == 0 {
            return Poll::Ready(Ok(None));
        }
        worker.figures().counters.add(Count::BytesRead, read_bytes as u64);
        let may_be_gathered = self.input.is_empty() && self.session.awaits_command();
        if read_bytes <= GATHERED_BYTES_MAX
            && may_be_gathered
            && let Some(itself) = self.itself.upgrade()
        {
            let Desk { gather, engine, .. } = desk;
            gather.add(worker, engine, input, itself);
            let woken = self.stream.poll_read_ready(task).is_ready();
            self.next = Next::Wait { woken };
            return Poll::Pending;
        }
        let now = worker.now();
        self.record.last_request.store(now, Ordering::Relaxed);
        let occasion = Occasion { fd: self.stream.as_raw_fd(), now };
        let engine = &mut desk.engine;
        let served = engine.serve(worker, occasion, &mut self.session, input, self.scanned, limits);
        self.keep(&input[served.consumed..], served.scanned);
        Poll::Ready(Ok(Some(served.stop)))
    }

    /// Serves what is left of earlier input.
    fn serve_again(&mut self, worker: &Worker, desk: &mut Desk, limits: &mut Limits) -> Stop {
        let input = mem::take(&mut self.input);
        let rest = &input[self.consumed..];
        let occasion = Occasion { fd: self.stream.as_raw_fd(), now: worker.now() };
        let engine = &mut desk.engine;
        let served = engine.serve(worker, occasion, &mut self.session, rest, self.scanned, limits);
        if served.stop == Stop::Input {
            self.keep(&rest[served.consumed..], served.scanned);
        } else {
            self.consumed += served.consumed;
            self.scanned = served.scanned;
            self.input = input;
        }
        served.stop
    }

    /// Serves a client that says nothing, but is to be told what goes on. `None` if nothing does.
    fn serve_news(
        &mut self,
        worker: &Worker,
        desk: &mut Desk,
        task: &mut Context<'_>,
        limits: &mut Limits,
    ) -> Option<Stop> {
        self.session.stream()?.wake_with(task.waker());
        let stop = self.serve_again(worker, desk, limits);
        (!desk.engine.output.is_empty()).then_some(stop)
    }

    /// Decides what comes next after serving came no further.
    fn stop(&mut self, stop: Stop, worker: &Worker) {
        self.next = match stop {
            Stop::Input => Next::Read,
            Stop::Turn => {
                worker.figures().counters.count(Count::ConnYields);
                Next::Serve
            }
            Stop::Output => Next::Serve,
            Stop::Close(reason) => {
                self.reason = reason;
                Next::Close
            }
            Stop::Fail => {
                worker.figures().counters.count(Count::BuffersOverdrawn);
                Next::Fail
            }
        };
    }

    fn keep(&mut self, rest: &[u8], scanned: usize) {
        self.input = rest.to_vec();
        self.consumed = 0;
        self.scanned = scanned;
    }

    /// Sends what was just written. What the socket does not take at once becomes the connection's
    /// own.
    fn send_new(
        &mut self,
        worker: &Worker,
        desk: &mut Desk,
        task: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let output = &mut desk.engine.output;
        if output.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let result = self.stream.poll_send(task, output);
        let sent = match result {
            Poll::Ready(Ok(sent)) => sent,
            Poll::Ready(Err(error)) => {
                desk.engine.clear_output(worker);
                return Poll::Ready(Err(error));
            }
            Poll::Pending => 0,
        };
        worker.figures().counters.add(Count::BytesWritten, sent as u64);
        output.advance(sent);
        if output.is_empty() {
            desk.engine.clear_output(worker);
            return Poll::Ready(Ok(()));
        }
        self.output = output.take_unsent();
        if result.is_pending() { Poll::Pending } else { self.send(worker, task) }
    }

    /// Sends what is left of earlier output.
    fn send(&mut self, worker: &Worker, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.output.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while !self.output.is_empty() {
            let sent = ready!(self.stream.poll_send(task, &self.output))?;
            worker.figures().counters.add(Count::BytesWritten, sent as u64);
            self.output.advance(sent);
        }
        self.output = Output::default();
        Poll::Ready(Ok(()))
    }

    /// Closes such that all that was sent arrives: the kernel throws it away if there is input left
    /// that nobody read.
    fn close(
        &mut self,
        worker: &Worker,
        desk: &mut Desk,
        task: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let mut had_more_to_say = self.next == Next::Part;
        if self.next == Next::Close {
            ready!(Pin::new(&mut self.stream).poll_shutdown(task))?;
            self.next = Next::Part;
        }
        for _ in 0..READS_PER_TURN {
            let mut buffer = ReadBuf::new(&mut desk.scratch);
            match Pin::new(&mut self.stream).poll_read(task, &mut buffer)? {
                Poll::Ready(()) if buffer.filled().is_empty() => return Poll::Ready(Ok(())),
                Poll::Ready(()) => had_more_to_say = true,
                // A client in the middle of a stream of requests is waited for; the worker says how
                // long.
                Poll::Pending if had_more_to_say && worker.stopping() => return Poll::Pending,
                Poll::Pending => return Poll::Ready(Ok(())),
            }
        }
        if worker.stopping() {
            task.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    /// Makes known what the connection waits for, and with how much memory. Who would need more
    /// than there is has to go.
    fn account(&mut self, worker: &Worker) {
        let state = match (self.next, self.output.is_empty()) {
            (Next::Wait { .. }, _) => ConnectionState::Serving,
            (_, false) => ConnectionState::Writing,
            _ if self.session.awaits_value() => ConnectionState::ReadingValue,
            _ if self.session.swallows() => ConnectionState::Swallowing,
            _ if self.session.stream().is_some() => ConnectionState::Watching,
            _ => ConnectionState::Reading,
        };
        self.record.state.store(state as u8, Ordering::Relaxed);
        // What the session has of a value it was granted piece by piece.
        let kept_bytes = self.input.capacity() + self.output.buffered_bytes();
        let bytes = kept_bytes + self.session.buffered_bytes();
        let before = self.buffered_bytes;
        if bytes != before {
            if kept_bytes > 0 && bytes > before && !worker.may_keep(before, bytes - before) {
                worker.figures().counters.count(Count::BuffersOverdrawn);
                self.next = Next::Fail;
            }
            worker.account(before as u64, bytes as u64);
            self.buffered_bytes = bytes;
        }
    }
}

impl Future for Client {
    type Output = ();

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<()> {
        let connection = &mut *self.0.borrow_mut();
        let worker = Rc::clone(&connection.worker);
        connection.record.state.store(ConnectionState::Serving as u8, Ordering::Relaxed);
        connection.record.waker.get_or_init(|| task.waker().clone());
        let desk = &mut worker.desk();
        debug_assert!(desk.engine.output.is_empty(), "these replies are somebody else's");
        let mut polled = connection.run(&worker, desk, task);
        connection.account(&worker);
        if connection.next == Next::Fail {
            polled = Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
        }
        if let Poll::Ready(result) = &polled {
            let reason = match result {
                Err(_) => CloseReason::Error,
                Ok(()) if worker.stopping() => CloseReason::Shutdown,
                Ok(()) if connection.record.kicked.load(Ordering::Relaxed) => {
                    CloseReason::IdleTimeout
                }
                Ok(()) => connection.reason,
            };
            let (peer, fd) = (&connection.record.peer, connection.stream.as_raw_fd());
            worker.tell(&Event::Closed { peer, reason, fd });
        }
        polled.map(drop)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.worker.figures().forget(self.stream.as_raw_fd());
        self.worker.account(self.buffered_bytes as u64, 0);
        self.worker.part();
    }
}

/// Reads in a row before others have their turn. A request may be larger than a read, so requests
/// are not enough to count.
const READS_PER_TURN: usize = 16;
/// What is longer is worth a turn of its own.
const GATHERED_BYTES_MAX: usize = 4096;
