//! The whole server: it binds, starts the workers, hands them connections evenly, and stops them in
//! order.

use crate::config::Config;
use crate::failure::describe;
use crate::listener::{self, Accepting, Arrival, Datagrams, Listening};
use crate::protocol::text::LINE_BYTES_MAX;
use crate::shared::{Shared, WorkerFigures};
use crate::store::{Options, Recovery, Store};
use crate::stream::Endpoint;
use crate::{housekeeper, worker};
use socket2::SockAddr;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::oneshot;
use tracing::warn;

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    stop_accepting: Option<oneshot::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
    housekeeper: Option<(JoinHandle<()>, Arc<AtomicBool>)>,
}

impl Server {
    /// Finds what no start can succeed with, whatever else the machine does: nothing is bound,
    /// written or waited for.
    ///
    /// # Errors
    /// A path that can be no Unix socket's or no memory file's; a memory limit out of range.
    pub fn check(config: &Config) -> io::Result<()> {
        if let Some(path) = &config.unix_socket {
            SockAddr::unix(path)?;
        }
        if let Some(file) = &config.memory_file
            && fs::metadata(&file.path).is_ok_and(|found| !found.is_file())
        {
            let path = file.path.display();
            let complaint = format!("memory file \"{path}\": it is no regular file");
            return Err(io::Error::other(complaint));
        }
        Store::new(&Options::new(config.memory_bytes, config.evict)).map(drop)
    }

    /// Binds all addresses, then starts serving.
    ///
    /// # Errors
    /// An address cannot be bound, or the system lacks memory, threads or file descriptors.
    ///
    /// # Panics
    /// If the configuration's limits do not fit together.
    pub fn start(config: Config) -> io::Result<Self> {
        assert!(config.threads > 0, "somebody must do the work");
        assert!(config.requests_per_turn > 0, "a turn must get on");
        assert!(config.output_limit_bytes > 0, "so must a retrieval");
        assert!(config.input_buffer_bytes > LINE_BYTES_MAX, "an unfinished line must leave room");
        let listeners = listener::bind_streams(&config)?;
        let datagrams = listener::bind_udp(&config)?;
        let of_stream = |socket: &Listening| Ok((socket.as_raw_fd(), socket.endpoint()?));
        let of_udp = |socket: &Datagrams| Ok((socket.as_raw_fd(), socket.endpoint()?));
        let listening = listeners.iter().map(of_stream).chain(datagrams.iter().map(of_udp));
        let listening = listening.collect::<io::Result<Vec<_>>>()?;
        let shared = Arc::new(Shared::new(config, listening)?);
        let mut threads = Vec::new();
        let mut workers = Vec::new();
        let mut datagrams = spread(datagrams, shared.config.threads).into_iter();
        for number in 0..shared.config.threads {
            let (sender, arrivals) = mpsc::channel(shared.config.connections_max.max(1));
            workers.push(sender);
            let datagrams = datagrams.next().unwrap_or_default();
            threads.push(start_worker(Arc::clone(&shared), number, arrivals, datagrams)?);
        }
        let (stop_accepting, stopped) = oneshot::channel();
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        let acceptor = Arc::new(Acceptor { shared: Arc::clone(&shared), workers });
        threads.push(spawn("acceptor".to_owned(), move || {
            accept_until(&runtime, &acceptor, listeners, stopped);
        })?);
        let housekeeper = Some(start_housekeeper(&shared)?);
        let stop_accepting = Some(stop_accepting);
        Ok(Self { shared, stop_accepting, threads, housekeeper })
    }

    /// The addresses it listens on for TCP, in the order of the configuration.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let endpoints = self.endpoints();
        let address = |endpoint: &Endpoint| match endpoint {
            Endpoint::Tcp(address) => Some(*address),
            _ => None,
        };
        endpoints.filter_map(address).collect()
    }

    /// Where it can be reached, in the order of the configuration.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.shared.listening.iter().map(|(_, endpoint)| endpoint)
    }

    /// What was found in the file that the items live in, if they do, and how long that took.
    #[must_use]
    pub fn recovery(&self) -> Option<(&Recovery, Duration)> {
        self.shared.store.recovery().map(|recovery| (recovery, self.shared.opening))
    }

    /// Reads again what may change while the server runs: who may use it.
    pub fn reload(&self) {
        if let Some(authentication) = &self.shared.config.authentication {
            authentication.reload();
        }
    }

    /// Waits until a client asks for the server to be stopped.
    pub async fn shutdown_requested(&self) {
        self.shared.shutdown_requested().await;
    }

    /// Stops in order: accepts nothing, finishes what is being executed, sends what is written,
    /// closes. Clients that do not read are given a few seconds.
    pub fn stop(mut self) {
        self.wind_up();
    }

    fn wind_up(&mut self) {
        // The acceptor holds the workers' senders; without it they know that it is over.
        drop(self.stop_accepting.take());
        for thread in self.threads.drain(..) {
            join(thread);
        }
        if let Some((thread, stop)) = self.housekeeper.take() {
            stop.store(true, Ordering::Release);
            thread.thread().unpark();
            join(thread);
        }
        if let Err(error) = self.shared.store.close() {
            warn!("what is in memory may not all be in its file: {}", describe(&error));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.wind_up();
    }
}

#[derive(Debug)]
struct Acceptor {
    shared: Arc<Shared>,
    workers: Vec<Sender<Arrival>>,
}

impl Acceptor {
    async fn accept_all(self: Arc<Self>, listener: Accepting) {
        loop {
            if !self.shared.config.refuse_over_limit && self.is_full() {
                self.pause_while(|| self.is_full()).await;
            }
            match listener.accept().await {
                Ok(arrival) => self.hand_out(arrival),
                Err(error) if concerns_one_connection(&error) => {}
                // Out of file descriptors or memory: accepting again at once would fail again.
                Err(_) => self.pause_while(|| false).await,
            }
        }
    }

    /// Gives a connection to the worker that has the fewest. A connection that is already broken is
    /// dropped.
    fn hand_out(&self, arrival: Arrival) {
        let figures = &self.shared.acceptor;
        if self.is_full() {
            figures.rejected.add(1);
            arrival.refuse(REJECTION);
            return;
        }
        figures.accepted.add(1);
        if arrival.prepare().is_err() {
            return;
        }
        let connections = |worker: &WorkerFigures| worker.connections.load(Ordering::Relaxed);
        let least = (0..self.workers.len())
            .min_by_key(|&number| connections(&self.shared.workers[number]))
            .expect("there is a worker");
        self.shared.workers[least].enter();
        if self.workers[least].try_send(arrival).is_err() {
            self.shared.workers[least].leave();
        }
    }

    fn is_full(&self) -> bool {
        self.shared.connections() >= self.shared.config.connections_max
    }

    /// Accepts nothing for a while, and for as long as `reason` holds.
    async fn pause_while(&self, reason: impl Fn() -> bool) {
        let figures = &self.shared.acceptor;
        figures.pauses.add(1);
        figures.paused.store(true, Ordering::Relaxed);
        loop {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            figures.pause_micros.add(u64::try_from(ACCEPT_PAUSE.as_micros()).unwrap_or(u64::MAX));
            if !reason() {
                break;
            }
        }
        figures.paused.store(false, Ordering::Relaxed);
    }
}

/// Deals sockets out to workers. A socket stays with one, which alone knows what its senders have
/// been sent.
fn spread(datagrams: Vec<Datagrams>, workers: usize) -> Vec<Vec<Datagrams>> {
    let mut hands: Vec<Vec<Datagrams>> = (0..workers).map(|_| Vec::new()).collect();
    for (number, socket) in datagrams.into_iter().enumerate() {
        hands[number % workers].push(socket);
    }
    hands
}

/// Starts a worker and waits until it runs.
fn start_worker(
    shared: Arc<Shared>,
    number: usize,
    arrivals: Receiver<Arrival>,
    datagrams: Vec<Datagrams>,
) -> io::Result<JoinHandle<()>> {
    let (started, starting) = std::sync::mpsc::channel();
    let thread = spawn(format!("worker {number}"), move || match worker::event_loop() {
        Ok(runtime) => {
            let _ = started.send(Ok(()));
            worker::run(shared, number, &runtime, arrivals, datagrams);
        }
        Err(error) => {
            let _ = started.send(Err(error));
        }
    })?;
    starting.recv().expect("a worker says how it started")?;
    Ok(thread)
}

fn start_housekeeper(shared: &Arc<Shared>) -> io::Result<(JoinHandle<()>, Arc<AtomicBool>)> {
    let stop = Arc::new(AtomicBool::new(false));
    let (shared, stopping) = (Arc::clone(shared), Arc::clone(&stop));
    let thread = spawn("housekeeper".to_owned(), move || housekeeper::run(&shared, &stopping))?;
    Ok((thread, stop))
}

/// Waits for a thread to end, and panics as it did.
fn join(thread: JoinHandle<()>) {
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn accept_until(
    runtime: &Runtime,
    acceptor: &Arc<Acceptor>,
    listeners: Vec<Listening>,
    stopped: oneshot::Receiver<()>,
) {
    runtime.block_on(async {
        for listening in listeners {
            let listener = listening.into_acceptor().expect("a listener can be waited for");
            tokio::spawn(Arc::clone(acceptor).accept_all(listener));
        }
        let _ = stopped.await;
    });
}

/// The next connection may well be fine.
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted)
}

fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name).spawn(work)
}

const REJECTION: &[u8] = b"ERROR Too many open connections\r\n";
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
