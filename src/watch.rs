//! What goes on, told line by line to the clients that `watch`.
//!
//! Whoever causes an event writes its line into the buffer of every watcher that asked for such;
//! the watcher's connection takes them from there when its client reads. A buffer has a limit: a
//! watcher that is too slow loses lines and is told how many. Nobody waits for anybody but for the
//! copying of a line, and where nobody watches, all that is left is one relaxed load a batch
//! ([`Watchers::kinds`]).

use crate::protocol::uri::Encoded;
use crate::stream::Endpoint;
use crate::sync::{Mutex, lock};
use std::fmt::{self, Display, Write};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::task::Waker;
use std::time::Duration;

/// All who watch.
#[derive(Debug)]
pub struct Watchers {
    /// What anybody of them watches.
    kinds: AtomicU16,
    buffer_bytes_max: usize,
    roll: Mutex<Roll>,
}

#[derive(Debug, Default)]
struct Roll {
    watchers: Vec<Watcher>,
    /// Numbers the lines, so that readers can put them in order.
    lines: u64,
    watching_ids: u64,
    figures: Figures,
}

#[derive(Debug)]
struct Watcher {
    id: u64,
    kinds: Kinds,
    buffer: Vec<u8>,
    skipped: u64,
    /// Whom to wake for the first line in an empty buffer.
    waker: Option<Waker>,
}

/// A client's place among the watchers, given up when dropped.
#[derive(Debug)]
pub struct Watching {
    watchers: Arc<Watchers>,
    id: u64,
}

/// There are [`WATCHERS_MAX`] already.
#[derive(Clone, Copy, Debug)]
pub struct TooMany;

/// Counts for `stats`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Lines written, however many watched.
    pub written: u64,
    /// Lines that got into a watcher's buffer, for each watcher.
    pub sent: u64,
    /// Lines that a watcher's buffer had no room for.
    pub skipped: u64,
}

/// What can be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    /// Raw requests: memcached has the name, but never writes any.
    RawCommands = 1 << 0,
    /// Items dropped for room.
    Evictions = 1 << 1,
    /// Look-ups of keys.
    Fetchers = 1 << 2,
    /// Stores.
    Mutations = 1 << 3,
    /// memcached's maintenance threads, which larder has not.
    SystemEvents = 1 << 4,
    /// Connections that come and go.
    ConnectionEvents = 1 << 5,
    /// Of memcached's proxy, which larder has not.
    ProxyRequests = 1 << 6,
    /// Of memcached's proxy, which larder has not.
    ProxyEvents = 1 << 7,
    /// Of memcached's proxy, which larder has not.
    ProxyUser = 1 << 8,
    /// Deletions.
    Deletions = 1 << 9,
}

/// A set of [`Kind`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds(u16);

/// Something that happened.
#[derive(Clone, Copy, Debug)]
pub enum Event<'e> {
    /// A key was looked up.
    Fetched {
        /// The key.
        key: &'e [u8],
        /// `found`, `not_found`, `expired` or `flushed`.
        status: &'static str,
        /// The value's length, if it was found.
        value_bytes: Option<usize>,
        /// The client's connection.
        fd: RawFd,
    },
    /// A value was, or was not, stored.
    Stored {
        /// The key.
        key: &'e [u8],
        /// What became of it: `stored`, `not_stored`, `exists`, ...
        status: &'static str,
        /// How it was to be stored: `set`, `add`, ...
        command: &'static str,
        /// Seconds to live, 0 for ever.
        ttl_seconds: u32,
        /// The value's length; `None` if the value was refused before it came.
        value_bytes: Option<usize>,
        /// The client's connection.
        fd: RawFd,
    },
    /// An item was dropped for room.
    Evicted {
        /// The key.
        key: &'e [u8],
        /// It had been fetched.
        fetched: bool,
        /// Seconds it had to live; `None`: for ever.
        ttl_seconds: Option<i64>,
        /// Seconds since it was last used.
        idle_seconds: u32,
        /// The value's length.
        value_bytes: usize,
    },
    /// An item was deleted.
    Deleted {
        /// The key.
        key: &'e [u8],
        /// By which command.
        command: &'static str,
        /// The value's length.
        value_bytes: usize,
    },
    /// A connection was accepted.
    Opened {
        /// The client's address.
        peer: &'e Endpoint,
        /// The connection.
        fd: RawFd,
    },
    /// A connection is over.
    Closed {
        /// The client's address.
        peer: &'e Endpoint,
        /// Why.
        reason: CloseReason,
        /// The connection.
        fd: RawFd,
    },
}

/// Why a connection is over, in memcached's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The client left, or asked for it.
    Normal,
    /// What the client sent made no sense, or the socket failed.
    Error,
    /// The client asked for nothing for too long.
    IdleTimeout,
    /// The server stops.
    Shutdown,
}

impl Watchers {
    /// With buffers of so many bytes.
    #[must_use]
    pub fn new(buffer_bytes_max: usize) -> Self {
        Self { kinds: AtomicU16::new(0), buffer_bytes_max, roll: Mutex::default() }
    }

    /// What anybody watches at the moment.
    #[must_use]
    pub fn kinds(&self) -> Kinds {
        Kinds(self.kinds.load(Ordering::Relaxed))
    }

    /// Writes the line of an event to those who watch its kind. `time` is since the Unix epoch.
    pub fn tell(&self, time: Duration, event: &Event<'_>) {
        let mut text = String::new();
        writeln!(text, "{event}").expect("a String takes all that is written");
        let kind = event.kind();
        let mut wakers = Vec::new();
        let mut guard = lock(&self.roll);
        let Roll { watchers, lines, figures, .. } = &mut *guard;
        *lines += 1;
        figures.written += 1;
        let stamp = format!("ts={}.{:06} gid={lines} ", time.as_secs(), time.subsec_micros());
        for watcher in watchers.iter_mut().filter(|watcher| watcher.kinds.contains(kind)) {
            if watcher.take(&stamp, &text, self.buffer_bytes_max) {
                figures.sent += 1;
                wakers.extend(watcher.waker.take());
            } else {
                figures.skipped += 1;
            }
        }
        drop(guard);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Begins to watch.
    ///
    /// # Errors
    /// [`TooMany`] watch already.
    pub fn watch(self: &Arc<Self>, kinds: Kinds) -> Result<Watching, TooMany> {
        let mut roll = lock(&self.roll);
        if roll.watchers.len() >= WATCHERS_MAX {
            return Err(TooMany);
        }
        roll.watching_ids += 1;
        let id = roll.watching_ids;
        roll.watchers.push(Watcher { id, kinds, buffer: Vec::new(), skipped: 0, waker: None });
        self.update_kinds(&roll);
        Ok(Watching { watchers: Arc::clone(self), id })
    }

    /// What was counted since start, and how many watch.
    #[must_use]
    pub fn figures(&self) -> (Figures, usize) {
        let roll = lock(&self.roll);
        (roll.figures, roll.watchers.len())
    }

    fn update_kinds(&self, roll: &Roll) {
        let kinds = roll.watchers.iter().fold(0, |kinds, watcher| kinds | watcher.kinds.0);
        self.kinds.store(kinds, Ordering::Relaxed);
    }
}

impl Watching {
    /// Moves the lines that wait to `output`. `waker` is woken when there are new ones.
    pub fn drain(&self, waker: Option<&Waker>, output: &mut Vec<u8>) {
        let mut roll = lock(&self.watchers.roll);
        if let Some(watcher) = roll.watchers.iter_mut().find(|watcher| watcher.id == self.id) {
            watcher.waker = waker.cloned();
            output.append(&mut watcher.buffer);
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut roll = lock(&self.watchers.roll);
        roll.watchers.retain(|watcher| watcher.id != self.id);
        self.watchers.update_kinds(&roll);
    }
}

impl Watcher {
    /// Takes a line, given in two pieces, if there is room.
    fn take(&mut self, stamp: &str, text: &str, buffer_bytes_max: usize) -> bool {
        let line_bytes = stamp.len() + text.len();
        if self.buffer.len() + line_bytes + SKIPPED_BYTES_MAX > buffer_bytes_max {
            self.skipped += 1;
            return false;
        }
        if self.skipped > 0 {
            self.buffer.extend_from_slice(format!("skipped={}\n", self.skipped).as_bytes());
            self.skipped = 0;
        }
        self.buffer.extend_from_slice(stamp.as_bytes());
        self.buffer.extend_from_slice(text.as_bytes());
        true
    }
}

impl Kind {
    /// The kind that a client names. Like memcached it may leave off the end of the name.
    #[must_use]
    pub fn named(name: &[u8]) -> Option<Self> {
        let found = NAMES.iter().find(|(full, _)| full.as_bytes().starts_with(name));
        found.map(|(_, kind)| *kind)
    }
}

impl Kinds {
    /// With one more.
    #[must_use]
    pub fn and(self, kind: Kind) -> Self {
        Self(self.0 | kind as u16)
    }

    /// Whether this kind is among them.
    #[must_use]
    pub fn contains(self, kind: Kind) -> bool {
        self.0 & kind as u16 != 0
    }
}

impl Event<'_> {
    fn kind(&self) -> Kind {
        match self {
            Self::Fetched { .. } => Kind::Fetchers,
            Self::Stored { .. } => Kind::Mutations,
            Self::Evicted { .. } => Kind::Evictions,
            Self::Deleted { .. } => Kind::Deletions,
            Self::Opened { .. } | Self::Closed { .. } => Kind::ConnectionEvents,
        }
    }
}

impl Display for CloseReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Normal => "normal",
            Self::Error => "error",
            Self::IdleTimeout => "idle_timeout",
            Self::Shutdown => "shutdown",
        })
    }
}

/// The line, less its time and its end.
impl Display for Event<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Fetched { key, status, value_bytes, fd } => {
                let class = class(value_bytes);
                let (key, size) = (Encoded(key), value_bytes.unwrap_or(0));
                write!(formatter, "type=item_get key={key} status={status} ")?;
                write!(formatter, "clsid={class} cfd={fd} size={size}")
            }
            Self::Stored { key, status, command, ttl_seconds, value_bytes, fd } => {
                let class = class(value_bytes);
                let (key, size) = (Encoded(key), value_bytes.unwrap_or(0));
                write!(formatter, "type=item_store key={key} status={status} cmd={command} ")?;
                write!(formatter, "ttl={ttl_seconds} clsid={class} cfd={fd} size={size}")
            }
            Self::Evicted { key, fetched, ttl_seconds, idle_seconds, value_bytes } => {
                let (key, fetched) = (Encoded(key), if fetched { "yes" } else { "no" });
                let (ttl, class) = (ttl_seconds.unwrap_or(-1), class(Some(value_bytes)));
                write!(formatter, "type=eviction key={key} fetch={fetched} ttl={ttl} ")?;
                write!(formatter, "la={idle_seconds} clsid={class} size={value_bytes}")
            }
            Self::Deleted { key, command, value_bytes } => {
                let (key, class) = (Encoded(key), class(Some(value_bytes)));
                write!(formatter, "type=deleted key={key} cmd={command} ")?;
                write!(formatter, "clsid={class} size={value_bytes}")
            }
            Self::Opened { peer, fd } => {
                write!(formatter, "type=conn_new {} cfd={fd}", Remote(peer))
            }
            Self::Closed { peer, reason, fd } => {
                write!(formatter, "type=conn_close {} reason={reason} cfd={fd}", Remote(peer))
            }
        }
    }
}

/// The client's end of a connection.
struct Remote<'e>(&'e Endpoint);

impl Display for Remote<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (address, transport) = match self.0 {
            Endpoint::Tcp(address) => (address, "tcp"),
            Endpoint::Udp(address) => (address, "udp"),
            Endpoint::Unix(_) | Endpoint::Unnamed => {
                return formatter.write_str("rip=unix rport=0 transport=local");
            }
        };
        let (ip, port) = (address.ip(), address.port());
        write!(formatter, "rip={ip} rport={port} transport={transport}")
    }
}

/// All items are in memcached's class 1, what is no item in none.
fn class(value_bytes: Option<usize>) -> u8 {
    u8::from(value_bytes.is_some())
}

/// How many may watch at a time.
pub const WATCHERS_MAX: usize = 20;

/// `skipped=`, a number, a line end.
const SKIPPED_BYTES_MAX: usize = 8 + 20 + 1;

/// In memcached's order, which says what an abbreviation means.
const NAMES: [(&str, Kind); 10] = [
    ("rawcmds", Kind::RawCommands),
    ("evictions", Kind::Evictions),
    ("fetchers", Kind::Fetchers),
    ("mutations", Kind::Mutations),
    ("sysevents", Kind::SystemEvents),
    ("connevents", Kind::ConnectionEvents),
    ("proxyreqs", Kind::ProxyRequests),
    ("proxyevents", Kind::ProxyEvents),
    ("proxyuser", Kind::ProxyUser),
    ("deletions", Kind::Deletions),
];

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::new(1_800_000_000, 5_000);

    fn fetched(key: &[u8]) -> Event<'_> {
        Event::Fetched { key, status: "found", value_bytes: Some(3), fd: 7 }
    }

    fn drained(watching: &Watching) -> String {
        let mut output = Vec::new();
        watching.drain(None, &mut output);
        String::from_utf8(output).expect("lines are text")
    }

    #[test]
    fn a_line_goes_to_those_who_watch_its_kind() {
        let watchers = Arc::new(Watchers::new(1000));
        let fetchers = watchers.watch(Kinds::default().and(Kind::Fetchers)).unwrap();
        let others = watchers.watch(Kinds::default().and(Kind::Mutations)).unwrap();
        watchers.tell(TIME, &fetched(b"a b"));
        let line = "ts=1800000000.000005 gid=1 \
                    type=item_get key=a%20b status=found clsid=1 cfd=7 size=3\n";
        assert_eq!(drained(&fetchers), line);
        assert_eq!(drained(&others), "");
        drop(fetchers);
        assert_eq!(watchers.kinds(), Kinds::default().and(Kind::Mutations));
        drop(others);
        assert_eq!(watchers.kinds(), Kinds::default());
    }

    #[test]
    fn a_full_buffer_skips_lines_and_says_how_many() {
        let watchers = Arc::new(Watchers::new(300));
        let watching = watchers.watch(Kinds::default().and(Kind::Fetchers)).unwrap();
        for _ in 0..10 {
            watchers.tell(TIME, &fetched(b"key"));
        }
        let kept = drained(&watching).lines().count() as u64;
        assert!((1..10).contains(&kept), "{kept}");
        watchers.tell(TIME, &fetched(b"key"));
        let told = drained(&watching);
        assert!(told.starts_with(&format!("skipped={}\nts=", 10 - kept)), "{told}");
        let (figures, watching) = watchers.figures();
        assert_eq!((figures.written, figures.sent, watching), (11, kept + 1, 1));
        assert_eq!(figures.skipped, 10 - kept);
    }

    #[test]
    fn there_is_an_end_to_watching() {
        let watchers = Arc::new(Watchers::new(300));
        let all: Vec<_> = (0..WATCHERS_MAX).map(|_| watchers.watch(Kinds::default())).collect();
        assert!(all.iter().all(Result::is_ok));
        assert!(watchers.watch(Kinds::default()).is_err());
        drop(all);
        assert!(watchers.watch(Kinds::default()).is_ok());
    }

    #[test]
    fn names_can_be_abbreviated() {
        assert_eq!(Kind::named(b"mut"), Some(Kind::Mutations));
        assert_eq!(Kind::named(b"proxy"), Some(Kind::ProxyRequests));
        assert_eq!(Kind::named(b"fetchersx"), None);
    }
}
