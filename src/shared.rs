//! What all threads share: the configuration, the store, the clock, and everybody's figures.

use crate::clock::{Clock, Seconds};
use crate::config::Config;
use crate::counter::Counter;
use crate::crawler::{self, Crawler};
use crate::log;
use crate::prefixes::Prefixes;
use crate::stats::{Counters, Sums};
use crate::store::{Options, Store, Totals};
use crate::stream::Endpoint;
use crate::sync::{Mutex, lock};
use crate::tuning::Tuning;
use crate::watch::{self, Event, Kind, Watchers};
use std::collections::HashMap;
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::Duration;
use tokio::sync::Notify;

/// What all threads share.
#[derive(Debug)]
pub struct Shared {
    /// What the server runs with.
    pub config: Config,
    /// The source of time.
    pub clock: Clock,
    /// The items.
    pub store: Arc<Store>,
    /// How long it took to have them: to find them again, where they live in a file.
    pub opening: Duration,
    /// The listening sockets and where they listen.
    pub listening: Vec<(RawFd, Endpoint)>,
    /// The figures of the workers.
    pub workers: Vec<WorkerFigures>,
    /// The figures of the acceptor.
    pub acceptor: AcceptorFigures,
    /// Clients that watch what goes on.
    pub watchers: Arc<Watchers>,
    /// Who walks over everything that is stored.
    pub crawler: Arc<Crawler>,
    /// Figures by the prefix of keys.
    pub prefixes: Prefixes,
    /// Settings of an engine that is not this one.
    pub tuning: Tuning,
    verbosity: AtomicU32,
    baseline: Mutex<Baseline>,
    shutdown: Notify,
    scarce: AtomicBool,
}

/// What was counted when counting last started over.
#[derive(Clone, Copy, Debug, Default)]
pub struct Baseline {
    /// By the workers.
    pub sums: Sums,
    /// By the store.
    pub totals: Totals,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections refused.
    pub rejected: u64,
    /// Times that accepting had to pause.
    pub pauses: u64,
    /// Microseconds that it paused.
    pub pause_micros: u64,
    /// Lines for clients that watch.
    pub lines: watch::Figures,
    /// Walks over everything that is stored.
    pub crawls: crawler::Figures,
}

/// Figures that the acceptor keeps.
#[derive(Debug, Default)]
pub struct AcceptorFigures {
    /// Connections accepted.
    pub accepted: Counter,
    /// Connections refused because there were too many.
    pub rejected: Counter,
    /// Times that accepting had to pause for want of file descriptors or memory.
    pub pauses: Counter,
    /// Microseconds that it paused.
    pub pause_micros: Counter,
    /// Accepting pauses now.
    pub paused: AtomicBool,
}

/// Figures that a worker keeps.
#[derive(Debug, Default)]
pub struct WorkerFigures {
    /// What its connections did.
    pub counters: Counters,
    /// Bytes of buffers that its connections hold while they wait.
    pub buffered_bytes: Counter,
    /// Its connections: the acceptor adds, the worker takes away.
    pub connections: AtomicUsize,
    records: Mutex<HashMap<RawFd, Arc<ConnectionRecord>>>,
}

/// What others may know of a connection.
#[derive(Debug)]
pub struct ConnectionRecord {
    /// The client's end.
    pub peer: Endpoint,
    /// The server's end.
    pub local: Endpoint,
    /// What it waits for.
    pub state: AtomicU8,
    /// The second of the last request.
    pub last_request: AtomicU32,
    /// It is closed because it asked for nothing for too long.
    pub kicked: AtomicBool,
    /// Wakes its task. All wakers of a task are equal, so the first serves for good.
    pub waker: OnceLock<Waker>,
}

/// What a connection is at, for `stats conns`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ConnectionState {
    /// Waits for a request.
    Reading,
    /// Is being served.
    Serving,
    /// Waits for the rest of a value.
    ReadingValue,
    /// Waits for the rest of something to be ignored.
    Swallowing,
    /// Waits for the client to read.
    Writing,
    /// Waits for something to tell.
    Watching,
}

impl Shared {
    /// Starts the clock and creates the store.
    ///
    /// # Errors
    /// The store's memory, or its file, cannot be had.
    pub fn new(config: Config, listening: Vec<(RawFd, Endpoint)>) -> io::Result<Self> {
        let clock = Clock::start();
        let options = Options::new(config.memory_bytes, config.evict);
        let store = match &config.memory_file {
            Some(file) => Store::open(&options, file, clock.now_seconds())?,
            None => Store::new(&options)?,
        };
        let opening = clock.uptime();
        let watchers = Arc::new(Watchers::new(config.watcher_buffer_bytes));
        tell_of_evictions(&store, clock, &watchers);
        Ok(Self {
            clock,
            opening,
            watchers,
            crawler: Arc::new(Crawler::new(config.crawl)),
            prefixes: Prefixes::new(config.prefix_delimiter, config.prefix_figures),
            tuning: Tuning::new(&config.tuning),
            store,
            listening,
            workers: (0..config.threads).map(|_| WorkerFigures::default()).collect(),
            acceptor: AcceptorFigures::default(),
            verbosity: AtomicU32::new(config.verbosity),
            baseline: Mutex::default(),
            shutdown: Notify::new(),
            scarce: AtomicBool::new(false),
            config,
        })
    }

    /// The number of `-v`, as it is now.
    #[must_use]
    pub fn verbosity(&self) -> u32 {
        self.verbosity.load(Ordering::Relaxed)
    }

    /// Sets it; there is nothing to say above 2.
    pub fn set_verbosity(&self, level: u32) {
        let level = level.min(VERBOSITY_MAX);
        self.verbosity.store(level, Ordering::Relaxed);
        log::set_verbosity(level);
    }

    /// Connections being served.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.workers.iter().map(|worker| worker.connections.load(Ordering::Relaxed)).sum()
    }

    /// Bytes of buffers that connections hold while they wait.
    #[must_use]
    pub fn buffered_bytes(&self) -> u64 {
        self.workers.iter().map(|worker| worker.buffered_bytes.get()).sum()
    }

    /// Whether a connection whose buffers take `own_bytes` may take so many more for a value that
    /// is arriving.
    ///
    /// A quarter of the limit is for whoever owes something to a client that does not read, then
    /// two quarters are for values, first come first served. The last quarter is divided evenly
    /// among as many connections as there can be, so that nobody can keep others from being served.
    #[must_use]
    pub fn may_receive(&self, own_bytes: usize, additional_bytes: usize) -> bool {
        self.may_buffer(own_bytes, additional_bytes, 3 * self.quarter_of_buffers())
    }

    /// The same for replies that wait to be sent, and requests that wait until they are.
    #[must_use]
    pub fn may_keep(&self, own_bytes: usize, additional_bytes: usize) -> bool {
        self.may_buffer(own_bytes, additional_bytes, self.quarter_of_buffers())
    }

    fn may_buffer(&self, own_bytes: usize, additional_bytes: usize, most_bytes: usize) -> bool {
        let share_bytes = self.quarter_of_buffers() / self.config.connections_max;
        let taken_bytes = self.buffered_bytes().saturating_add(additional_bytes as u64);
        own_bytes + additional_bytes <= share_bytes || taken_bytes <= most_bytes as u64
    }

    fn quarter_of_buffers(&self) -> usize {
        self.config.buffer_bytes_max / 4
    }

    /// Notes that the buffers of connections changed.
    pub fn note_buffers(&self) {
        let is_scarce = self.buffered_bytes() > self.quarter_of_buffers() as u64;
        if self.buffers_are_scarce() != is_scarce {
            self.scarce.store(is_scarce, Ordering::Relaxed);
        }
    }

    /// Whether so much is buffered that everybody should do with little.
    #[must_use]
    pub fn buffers_are_scarce(&self) -> bool {
        self.scarce.load(Ordering::Relaxed)
    }

    /// What was counted since start.
    #[must_use]
    pub fn counted(&self) -> Baseline {
        let mut sums = Sums::default();
        self.workers.iter().for_each(|worker| sums.add(&worker.counters));
        Baseline {
            sums,
            totals: self.store.totals(),
            accepted: self.acceptor.accepted.get(),
            rejected: self.acceptor.rejected.get(),
            pauses: self.acceptor.pauses.get(),
            pause_micros: self.acceptor.pause_micros.get(),
            lines: self.watchers.figures().0,
            crawls: self.crawler.figures(),
        }
    }

    /// What was counted when counting last started over.
    #[must_use]
    pub fn baseline(&self) -> Baseline {
        *lock(&self.baseline)
    }

    /// Starts counting over.
    pub fn reset(&self) {
        *lock(&self.baseline) = self.counted();
        self.prefixes.clear();
    }

    /// Asks for the server to be stopped.
    pub fn request_shutdown(&self) {
        self.shutdown.notify_one();
    }

    /// Waits until somebody asks for the server to be stopped.
    pub async fn shutdown_requested(&self) {
        self.shutdown.notified().await;
    }
}

impl WorkerFigures {
    /// Counts a connection that is given to the worker.
    pub fn enter(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection that is over.
    pub fn leave(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Makes a connection known, until it is [forgotten](Self::forget).
    pub fn remember(&self, fd: RawFd, record: Arc<ConnectionRecord>) {
        lock(&self.records).insert(fd, record);
    }

    /// The opposite of [`Self::remember`].
    pub fn forget(&self, fd: RawFd) {
        lock(&self.records).remove(&fd);
    }

    /// The connections that are known, by file descriptor.
    #[must_use]
    pub fn records(&self) -> Vec<(RawFd, Arc<ConnectionRecord>)> {
        lock(&self.records).iter().map(|(fd, record)| (*fd, Arc::clone(record))).collect()
    }
}

impl ConnectionRecord {
    /// Of a connection that was accepted at `now`.
    #[must_use]
    pub fn new(peer: Endpoint, local: Endpoint, now: Seconds) -> Self {
        Self {
            peer,
            local,
            state: AtomicU8::default(),
            last_request: AtomicU32::new(now),
            kicked: AtomicBool::default(),
            waker: OnceLock::new(),
        }
    }
}

/// The store knows no clients: it is told whom to tell.
fn tell_of_evictions(store: &Store, clock: Clock, watchers: &Arc<Watchers>) {
    let watchers = Arc::clone(watchers);
    store.on_eviction(move |item, now| {
        if watchers.kinds().contains(Kind::Evictions) {
            let expiry = item.expiry();
            let event = Event::Evicted {
                key: item.key(),
                fetched: item.is_fetched(),
                ttl_seconds: (expiry != 0).then(|| i64::from(expiry) - i64::from(now)),
                idle_seconds: now.saturating_sub(item.last_access()),
                value_bytes: item.value_bytes(),
            };
            watchers.tell(clock.since_epoch(), &event);
        }
    });
}

const VERBOSITY_MAX: u32 = 2;
