//! One thread, one event loop, and the connections that were given to it. Workers share nothing but
//! the store and figures.

use crate::clock::Seconds;
use crate::command::{Context, Observer};
use crate::config::Config;
use crate::connection::Client;
use crate::gather::{Gather, Gathering};
use crate::idle;
use crate::listener::{Arrival, Datagrams};
use crate::output::Output;
use crate::serve::{Limits, Served, Session, serve};
use crate::shared::{ConnectionRecord, Shared, WorkerFigures};
use crate::store::Handle;
use crate::udp;
use crate::watch::{Event, Kind};
use std::cell::{Cell, RefCell, RefMut};
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::Notify;
use tokio::sync::mpsc::Receiver;
use tracing::debug;

/// What a worker's connections have in common.
#[derive(Debug)]
pub(crate) struct Worker {
    shared: Arc<Shared>,
    number: usize,
    stopping: Cell<bool>,
    /// Told of each connection that is over while the worker stops.
    parting: Notify,
    desk: RefCell<Desk>,
}

/// What a worker's connections use in turn, each for as long as it runs and never across a wait.
#[derive(Debug)]
pub(crate) struct Desk {
    /// What a socket is read into.
    pub(crate) scratch: Box<[u8]>,
    pub(crate) gather: Gather,
    pub(crate) engine: Engine,
}

/// Whose input is served, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Occasion {
    pub(crate) fd: RawFd,
    pub(crate) now: Seconds,
}

/// What turns input into output.
#[derive(Debug)]
pub(crate) struct Engine {
    handle: Handle,
    /// Replies of the connection that is running; empty in between.
    pub(crate) output: Output,
}

/// Runs a worker on the calling thread, until nobody can send it connections any more and those it
/// has are over.
pub(crate) fn run(
    shared: Arc<Shared>,
    number: usize,
    runtime: &LocalRuntime,
    arrivals: Receiver<Arrival>,
    datagrams: Vec<Datagrams>,
) {
    let worker = Rc::new(Worker::new(shared, number));
    let idle_timeout_seconds = worker.shared.config.idle_timeout_seconds;
    if idle_timeout_seconds > 0 {
        runtime.spawn_local(idle::watch(Rc::clone(&worker), idle_timeout_seconds));
    }
    runtime.block_on(welcome(&worker, arrivals, datagrams));
    worker.stop();
    // A client that does not read must not keep the server from stopping.
    let _ = runtime.block_on(async { tokio::time::timeout(STOP_GRACE, worker.deserted()).await });
}

/// The calling thread's event loop. (A `LocalRuntime` polls the connections itself; in a `LocalSet`
/// each would be woken by way of a queue more.)
///
/// # Errors
/// The system has no file descriptors left for it.
pub(crate) fn event_loop() -> io::Result<LocalRuntime> {
    Builder::new_current_thread().enable_io().enable_time().build_local(LocalOptions::default())
}

async fn welcome(worker: &Rc<Worker>, mut arrivals: Receiver<Arrival>, datagrams: Vec<Datagrams>) {
    drop(tokio::task::spawn_local(Gathering(Rc::clone(worker))));
    for socket in datagrams {
        let service = udp::Service::new(socket, Rc::clone(worker));
        drop(tokio::task::spawn_local(service.expect("a socket can be waited for").run()));
    }
    while let Some(arrival) = arrivals.recv().await {
        match worker.connection(arrival) {
            Ok(connection) => drop(tokio::task::spawn_local(connection)),
            Err(_) => worker.figures().leave(),
        }
    }
}

impl Worker {
    fn new(shared: Arc<Shared>, number: usize) -> Self {
        let config = &shared.config;
        let desk = Desk {
            scratch: vec![0; config.input_buffer_bytes].into_boxed_slice(),
            gather: Gather::default(),
            engine: Engine { handle: shared.store.register(), output: Output::new(config) },
        };
        Self {
            number,
            stopping: Cell::new(false),
            parting: Notify::new(),
            desk: RefCell::new(desk),
            shared,
        }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.shared.config
    }

    pub(crate) fn figures(&self) -> &WorkerFigures {
        &self.shared.workers[self.number]
    }

    pub(crate) fn desk(&self) -> RefMut<'_, Desk> {
        self.desk.borrow_mut()
    }

    /// The limits of a connection's turn.
    pub(crate) fn limits(&self) -> Limits {
        let config = &self.shared.config;
        let output_bytes = match self.shared.buffers_are_scarce() {
            true => config.output_limit_bytes.min(SCARCE_BYTES),
            false => config.output_limit_bytes,
        };
        Limits { requests: config.requests_per_turn, output_bytes }
    }

    /// How much is read at a time of a connection that has `kept_bytes` of earlier input, unless it
    /// is a value.
    pub(crate) fn read_bytes(&self, kept_bytes: usize) -> usize {
        let most = self.shared.config.input_buffer_bytes;
        if self.shared.buffers_are_scarce() { most.min(kept_bytes + SCARCE_BYTES) } else { most }
    }

    /// See [`Shared::may_keep`].
    pub(crate) fn may_keep(&self, own_bytes: usize, additional_bytes: usize) -> bool {
        self.shared.may_keep(own_bytes, additional_bytes)
    }

    /// Counts what a connection's buffers take now, and took before.
    pub(crate) fn account(&self, before_bytes: u64, bytes: u64) {
        let figure = &self.figures().buffered_bytes;
        figure.set(figure.get() + bytes - before_bytes);
        self.shared.note_buffers();
    }

    pub(crate) fn now(&self) -> Seconds {
        self.shared.clock.now_seconds()
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.shared.clock.uptime()
    }

    pub(crate) fn stopping(&self) -> bool {
        self.stopping.get()
    }

    fn connection(self: &Rc<Self>, arrival: Arrival) -> io::Result<Client> {
        let (peer, local) = arrival.endpoints()?;
        let record = ConnectionRecord::new(peer, local, self.now());
        let session = Session::new(&self.shared.config, arrival.dialects);
        Ok(Client::new(arrival.into_stream()?, session, Rc::clone(self), record))
    }

    /// Tells those who watch of a connection, and the log.
    pub(crate) fn tell(&self, event: &Event<'_>) {
        debug!("{event}");
        let watchers = &self.shared.watchers;
        if watchers.kinds().contains(Kind::ConnectionEvents) {
            watchers.tell(self.shared.clock.since_epoch(), event);
        }
    }

    /// Takes leave of a connection.
    pub(crate) fn part(&self) {
        self.figures().leave();
        if self.stopping() {
            self.parting.notify_one();
        }
    }

    /// Waits until no connection is left.
    async fn deserted(&self) {
        while self.figures().connections.load(Ordering::Relaxed) > 0 {
            self.parting.notified().await;
        }
    }

    /// Has all connections see that it is over.
    fn stop(&self) {
        self.stopping.set(true);
        for (_, record) in self.figures().records() {
            if let Some(waker) = record.waker.get() {
                waker.wake_by_ref();
            }
        }
    }
}

impl Engine {
    /// Serves input; the replies are added to the output.
    pub(crate) fn serve(
        &mut self,
        worker: &Worker,
        Occasion { fd, now }: Occasion,
        session: &mut Session,
        input: &[u8],
        scanned: usize,
        limits: &mut Limits,
    ) -> Served {
        let (mut context, output) = self.begin(worker, now);
        context.observer = context.observer.of(fd);
        serve(&mut context, session, input, scanned, output, limits)
    }

    /// Makes room for the next replies: these are sent, or somebody else's now.
    pub(crate) fn clear_output(&mut self, worker: &Worker) {
        self.output.clear(worker.shared.config.output_limit_bytes.saturating_mul(2));
    }

    /// What commands need at a moment, and where replies go.
    pub(crate) fn begin<'e>(
        &'e mut self,
        worker: &'e Worker,
        now: Seconds,
    ) -> (Context<'e>, &'e mut Output) {
        let context = Context {
            shared: &worker.shared,
            counters: &worker.figures().counters,
            batch: self.handle.batch(now),
            observer: Observer::new(&worker.shared),
        };
        (context, &mut self.output)
    }
}

/// What a connection reads, or has to send, at a time when buffers are scarce.
const SCARCE_BYTES: usize = 4096;

/// How long clients may take to read what was written when the server stops.
const STOP_GRACE: Duration = Duration::from_secs(3);
