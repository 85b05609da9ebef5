//! What those are told who look on: clients that watch, and the figures by prefix.
//!
//! Commands say what they do; whether anybody wants to know was found out once for the whole batch.
//! As memcached does, a store, a count and a deletion tell of the look-up that they begin with.

use crate::clock::Seconds;
use crate::protocol::{Fault, Mode, Outcome, Storage, expiry};
use crate::shared::Shared;
use crate::store::{Batch, State};
use crate::watch::{Event, Kind, Kinds};
use std::os::fd::RawFd;

/// Who looks on during a batch, at whose connection.
#[derive(Clone, Copy, Debug)]
pub struct Observer<'w> {
    shared: &'w Shared,
    fd: RawFd,
    /// The request is a meta command: it has names of its own, and no part in figures by prefix.
    meta: bool,
    kinds: Kinds,
    prefixes: bool,
}

impl<'w> Observer<'w> {
    /// For requests of no connection.
    #[must_use]
    pub fn new(shared: &'w Shared) -> Self {
        let (kinds, prefixes) = (shared.watchers.kinds(), shared.prefixes.enabled());
        Self { shared, fd: NO_FD, meta: false, kinds, prefixes }
    }

    /// For the requests of a connection.
    #[must_use]
    pub fn of(self, fd: RawFd) -> Self {
        Self { fd, ..self }
    }

    /// For a meta command, or any other.
    #[must_use]
    pub fn of_meta(self, meta: bool) -> Self {
        Self { meta, ..self }
    }

    /// With those who look on now.
    pub(super) fn renewed(&self) -> Self {
        Self::new(self.shared).of(self.fd)
    }

    /// A client asked for a key's value.
    pub(super) fn retrieved(&self, key: &[u8], state: &State<'_>) {
        if self.prefixes && !self.meta {
            self.count_retrieved(key, matches!(state, State::Hit(_)));
        }
        self.fetched(key, state);
    }

    /// A key was looked up.
    pub(super) fn fetched(&self, key: &[u8], state: &State<'_>) {
        if self.kinds.contains(Kind::Fetchers) {
            self.tell_fetched(key, state);
        }
    }

    /// A key is about to be changed.
    pub(super) fn looking_up(&self, batch: &Batch<'_>, key: &[u8]) {
        if self.kinds.contains(Kind::Fetchers) {
            self.fetched(key, &batch.peek(key));
        }
    }

    /// A client asked for something to be stored.
    pub(super) fn storing(&self, key: &[u8]) {
        if self.prefixes && !self.meta {
            self.shared.prefixes.count(key, |figures| figures.sets += 1);
        }
    }

    /// It was refused before its value came.
    pub(super) fn refused(&self, storage: &Storage<'_>, status: &'static str) {
        if self.kinds.contains(Kind::Mutations) {
            let (key, command, fd) = (storage.key, command(storage), self.fd);
            self.tell(&Event::Stored {
                key,
                status,
                command,
                ttl_seconds: 0,
                value_bytes: None,
                fd,
            });
        }
    }

    /// What became of it.
    pub(super) fn stored(
        &self,
        batch: &Batch<'_>,
        storage: &Storage<'_>,
        result: Result<Outcome, Fault>,
    ) {
        if !self.kinds.contains(Kind::Mutations) {
            return;
        }
        let (status, value_bytes) = match result {
            Ok(Outcome::Stored(stored)) => ("stored", stored.value_bytes),
            Ok(Outcome::Exists) => ("exists", storage.value_bytes),
            Ok(Outcome::NotFound) => ("not_found", storage.value_bytes),
            _ => ("not_stored", storage.value_bytes),
        };
        let expiry = match batch.peek(storage.key) {
            State::Hit(item) if status == "stored" => item.expiry(),
            _ => expiry(storage.exptime, batch.now()),
        };
        self.tell(&Event::Stored {
            key: storage.key,
            status,
            command: command(storage),
            ttl_seconds: time_to_live(expiry, batch.now()),
            value_bytes: Some(value_bytes),
            fd: self.fd,
        });
    }

    /// A counter was created.
    pub(super) fn created(&self, batch: &Batch<'_>, key: &[u8]) {
        self.changed(batch, key, "add");
    }

    /// A value was taken out of its item.
    pub(super) fn emptied(&self, batch: &Batch<'_>, key: &[u8]) {
        self.changed(batch, key, "set");
    }

    /// Something was stored without a client's having asked for just that.
    fn changed(&self, batch: &Batch<'_>, key: &[u8], command: &'static str) {
        if self.kinds.contains(Kind::Mutations)
            && let State::Hit(item) = batch.peek(key)
        {
            let ttl_seconds = time_to_live(item.expiry(), batch.now());
            let (value_bytes, fd) = (Some(item.value_bytes()), self.fd);
            let status = "stored";
            self.tell(&Event::Stored { key, status, command, ttl_seconds, value_bytes, fd });
        }
    }

    /// A client asked for a key to be deleted. The length of what is there, if anybody wants to
    /// know.
    pub(super) fn deleting(&self, batch: &Batch<'_>, key: &[u8]) -> Option<usize> {
        if self.prefixes && !self.meta {
            self.shared.prefixes.count(key, |figures| figures.deletes += 1);
        }
        self.looking_up(batch, key);
        if !self.kinds.contains(Kind::Deletions) {
            return None;
        }
        match batch.peek(key) {
            State::Hit(item) => Some(item.value_bytes()),
            _ => None,
        }
    }

    /// A key was deleted, whose value was so long.
    pub(super) fn deleted(&self, key: &[u8], value_bytes: Option<usize>) {
        if let Some(value_bytes) = value_bytes {
            let command = if self.meta { "md" } else { "delete" };
            self.tell(&Event::Deleted { key, command, value_bytes });
        }
    }

    #[cold]
    fn count_retrieved(&self, key: &[u8], hit: bool) {
        self.shared.prefixes.count(key, |figures| {
            figures.gets += 1;
            figures.hits += u64::from(hit);
        });
    }

    #[cold]
    fn tell_fetched(&self, key: &[u8], state: &State<'_>) {
        let (status, value_bytes) = match state {
            State::Hit(item) => ("found", Some(item.value_bytes())),
            State::Missing => ("not_found", None),
            State::Expired => ("expired", None),
            State::Flushed => ("flushed", None),
        };
        self.tell(&Event::Fetched { key, status, value_bytes, fd: self.fd });
    }

    fn tell(&self, event: &Event<'_>) {
        self.shared.watchers.tell(self.shared.clock.since_epoch(), event);
    }
}

/// The name of what was to be done with a value.
fn command(storage: &Storage<'_>) -> &'static str {
    match storage.mode {
        Mode::Set | Mode::Replace if storage.compare.is_some() => "cas",
        Mode::Set => "set",
        Mode::Add => "add",
        Mode::Replace => "replace",
        Mode::Append => "append",
        Mode::Prepend => "prepend",
    }
}

/// Seconds until an expiry; 0 for ever. One that is over gives a very large number, as in
/// memcached's lines.
fn time_to_live(expiry: Seconds, now: Seconds) -> Seconds {
    if expiry == 0 { 0 } else { expiry.wrapping_sub(now) }
}

const NO_FD: RawFd = -1;
