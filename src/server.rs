//! The whole server: it binds, starts the workers, hands them connections evenly, and stops them in
//! order.

use crate::config::Config;
use crate::protocol::text::LINE_BYTES_MAX;
use crate::shared::{Shared, WorkerFigures};
use crate::{housekeeper, worker};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::oneshot;

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
    stop_accepting: Option<oneshot::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
    housekeeper: Option<(JoinHandle<()>, Arc<AtomicBool>)>,
}

impl Server {
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
        let listeners = config
            .listen
            .iter()
            .map(|address| listen(*address, config.backlog))
            .collect::<io::Result<Vec<_>>>()?;
        let addresses =
            listeners.iter().map(TcpListener::local_addr).collect::<io::Result<Vec<_>>>()?;
        let listening = listeners.iter().map(AsRawFd::as_raw_fd).zip(addresses.iter().copied());
        let shared = Arc::new(Shared::new(config, listening.collect())?);
        let mut threads = Vec::new();
        let mut workers = Vec::new();
        for number in 0..shared.config.threads {
            let (sender, arrivals) = mpsc::channel(shared.config.connections_max.max(1));
            workers.push(sender);
            threads.push(start_worker(Arc::clone(&shared), number, arrivals)?);
        }
        let (stop_accepting, stopped) = oneshot::channel();
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        let acceptor = Arc::new(Acceptor { shared: Arc::clone(&shared), workers });
        threads.push(spawn("acceptor".to_owned(), move || {
            accept_until(&runtime, &acceptor, listeners, stopped);
        })?);
        let housekeeper = Some(start_housekeeper(&shared)?);
        let stop_accepting = Some(stop_accepting);
        Ok(Self { shared, addresses, stop_accepting, threads, housekeeper })
    }

    /// The addresses it listens on, in the order of the configuration.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
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
    workers: Vec<Sender<TcpStream>>,
}

impl Acceptor {
    async fn accept_all(self: Arc<Self>, listener: tokio::net::TcpListener) {
        loop {
            let accepted = listener.accept().await;
            match accepted.and_then(|(stream, _)| stream.into_std()) {
                Ok(stream) => self.hand_out(stream),
                Err(error) if concerns_one_connection(&error) => {}
                Err(_) => self.pause().await,
            }
        }
    }

    /// Gives a connection to the worker that has the fewest. A connection that is already broken is
    /// dropped.
    fn hand_out(&self, stream: TcpStream) {
        let figures = &self.shared.acceptor;
        if self.shared.connections() >= self.shared.config.connections_max {
            figures.rejected.add(1);
            let _ = (&stream).write_all(REJECTION);
            return;
        }
        figures.accepted.add(1);
        if prepare(&stream).is_err() {
            return;
        }
        let connections = |worker: &WorkerFigures| worker.connections.load(Ordering::Relaxed);
        let least = (0..self.workers.len())
            .min_by_key(|&number| connections(&self.shared.workers[number]))
            .expect("there is a worker");
        self.shared.workers[least].enter();
        if self.workers[least].try_send(stream).is_err() {
            self.shared.workers[least].leave();
        }
    }

    /// Out of file descriptors or memory: accepting again at once would fail again at once.
    async fn pause(&self) {
        let figures = &self.shared.acceptor;
        figures.pauses.add(1);
        figures.paused.store(true, Ordering::Relaxed);
        tokio::time::sleep(ACCEPT_PAUSE).await;
        figures.paused.store(false, Ordering::Relaxed);
        figures.pause_micros.add(u64::try_from(ACCEPT_PAUSE.as_micros()).unwrap_or(u64::MAX));
    }
}

/// Starts a worker and waits until it runs.
fn start_worker(
    shared: Arc<Shared>,
    number: usize,
    arrivals: Receiver<TcpStream>,
) -> io::Result<JoinHandle<()>> {
    let (started, starting) = std::sync::mpsc::channel();
    let thread = spawn(format!("worker {number}"), move || match worker::event_loop() {
        Ok(runtime) => {
            let _ = started.send(Ok(()));
            worker::run(shared, number, &runtime, arrivals);
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
    listeners: Vec<TcpListener>,
    stopped: oneshot::Receiver<()>,
) {
    runtime.block_on(async {
        for listener in listeners {
            let listener =
                tokio::net::TcpListener::from_std(listener).expect("a listener can be waited for");
            tokio::spawn(Arc::clone(acceptor).accept_all(listener));
        }
        let _ = stopped.await;
    });
}

fn listen(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // The same port on 0.0.0.0 is a listener of its own.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_keepalive(true)
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
