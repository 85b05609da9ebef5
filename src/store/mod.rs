//! STAND-IN: the interface of the store, over a locked map. The real store replaces this file; the interface stays.

use crate::clock::Seconds;
use std::collections::HashMap;
use std::io;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Dimensions of a store, in bytes.
#[derive(Clone, Debug)]
pub struct Options {
    /// Everything the store may hold: items, index, its own tables.
    pub memory_bytes: usize,
    /// Largest key plus value that `reserve` must be able to hold.
    pub item_bytes_max: usize,
    /// `false`: refuse rather than evict.
    pub evict: bool,
}

#[derive(Debug)]
struct Stored {
    key: Vec<u8>,
    value: Vec<u8>,
    flags: u32,
    expiry: AtomicU32,
    cas: u64,
    fetched: AtomicU32,
}

/// One store, shared by all threads. Each thread [registers](Store::register) for a [`Handle`].
#[derive(Debug)]
pub struct Store {
    map: Mutex<HashMap<Vec<u8>, Arc<Stored>>>,
    sequence: AtomicU64,
    flushed: AtomicU64,
    flush_at: AtomicU32,
}

/// One thread's access to the store.
#[derive(Debug)]
pub struct Handle {
    store: Arc<Store>,
}

/// A run of operations at one moment, between two waits for I/O. It keeps what it lends alive, so it must be short and must
/// not be held across I/O.
#[derive(Debug)]
pub struct Batch<'h> {
    handle: &'h mut Handle,
    now: Seconds,
}

/// What a key names at a moment: an item, or why there is none.
#[derive(Debug)]
pub struct Lookup<'b> {
    /// The answer.
    pub state: State<'b>,
    witness: Witness,
}

/// See [`Lookup`].
#[derive(Debug)]
pub enum State<'b> {
    /// A live item.
    Hit(Item<'b>),
    /// No such key.
    Missing,
    /// The key is there, but its time is over.
    Expired,
    /// The key is there, but a flush has passed over it.
    Flushed,
}

/// Names the exact state of a key that a [`Lookup`] saw: "this very item", or "nothing". Equal again means nothing happened
/// to the key in between (a change of expiry or of the fetched mark aside).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Witness(u64);

/// A condition on the key's present state, checked under the shard's lock.
#[derive(Clone, Copy, Debug)]
pub enum Expected {
    /// No condition.
    Any,
    /// The key is as the lookup saw it.
    Unchanged(Witness),
}

/// When an item ends.
#[derive(Clone, Copy, Debug)]
pub enum Expiry {
    /// At this second (0: never). An item is dead as soon as `expiry <= now`.
    At(Seconds),
    /// When the item it replaces ends, read at the moment of replacement. Needs [`Expected::Unchanged`] of a hit.
    Inherit,
}

/// An item, borrowed from the store for as long as the batch lasts. Its key, value, flags and cas never change.
#[derive(Debug)]
pub struct Item<'b> {
    stored: Arc<Stored>,
    batch: PhantomData<&'b ()>,
}

/// Space for an item that nobody else can see yet. It must be published or discarded.
#[derive(Debug)]
#[must_use]
pub struct Draft {
    key: Vec<u8>,
    value: Vec<u8>,
    value_bytes: usize,
    flags: u32,
    expiry: Expiry,
}

/// No memory, and nothing that may be evicted for it.
#[derive(Clone, Copy, Debug)]
pub struct OutOfMemory;

/// What [`Batch::remove`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// A live item was there and is gone.
    Removed,
    /// Nothing live was there.
    Missing,
    /// Something was there, but not what was expected.
    Changed,
}

impl Store {
    /// # Errors
    /// The memory cannot be mapped.
    pub fn new(_options: &Options) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            map: Mutex::default(),
            sequence: AtomicU64::new(0),
            flushed: AtomicU64::new(0),
            flush_at: AtomicU32::new(0),
        }))
    }

    /// A handle for the calling thread.
    pub fn register(self: &Arc<Self>) -> Handle {
        Handle { store: Arc::clone(self) }
    }

    /// Figures, summed over all handles.
    pub fn totals(&self) -> Totals {
        Totals::default()
    }
}

/// Figures of a store. Counts are since start (or since [`Store::reset_totals`]), sizes are bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Items in the index now.
    pub items: u64,
    /// Their bytes: header, key and value.
    pub items_bytes: u64,
    /// Items ever published.
    pub stored: u64,
    /// Live items dropped for room.
    pub evictions: u64,
    /// Of these, never fetched.
    pub evicted_unfetched: u64,
    /// Expired items dropped that were never fetched.
    pub expired_unfetched: u64,
    /// Items whose room was reclaimed after they had expired or been flushed.
    pub reclaimed: u64,
    /// Bytes of index tables.
    pub index_bytes: u64,
    /// Binary logarithm of the number of index slots, rounded down.
    pub index_power: u32,
}

impl Handle {
    /// Starts a batch at `now`.
    pub fn batch(&mut self, now: Seconds) -> Batch<'_> {
        Batch { handle: self, now }
    }
}

impl Batch<'_> {
    /// Looks a key up and marks the item as fetched and last used now.
    pub fn fetch(&self, key: &[u8]) -> Lookup<'_> {
        let lookup = self.peek(key);
        if let State::Hit(item) = &lookup.state {
            item.stored.fetched.store(1, Ordering::Relaxed);
        }
        lookup
    }

    /// Looks a key up and leaves no trace.
    pub fn peek(&self, key: &[u8]) -> Lookup<'_> {
        let store = &self.handle.store;
        let flush_at = store.flush_at.load(Ordering::SeqCst);
        if flush_at != 0 && flush_at <= self.now {
            store.flush_at.store(0, Ordering::SeqCst);
            store.flushed.store(store.sequence.load(Ordering::SeqCst), Ordering::SeqCst);
        }
        let Some(stored) = store.map.lock().unwrap().get(key).cloned() else {
            return Lookup { state: State::Missing, witness: Witness(0) };
        };
        let witness = Witness(stored.cas);
        let expiry = stored.expiry.load(Ordering::SeqCst);
        let state = if expiry != 0 && expiry <= self.now {
            State::Expired
        } else if stored.cas <= store.flushed.load(Ordering::SeqCst) {
            State::Flushed
        } else {
            State::Hit(Item { stored, batch: PhantomData })
        };
        Lookup { state, witness }
    }

    /// Space for an item, evicting where there is none. Fill it, then publish or discard it.
    ///
    /// # Errors
    /// [`OutOfMemory`] where nothing may be evicted.
    pub fn reserve(
        &mut self,
        key: &[u8],
        value_bytes: usize,
        flags: u32,
        expiry: Expiry,
    ) -> Result<Draft, OutOfMemory> {
        Ok(Draft { key: key.to_vec(), value: Vec::new(), value_bytes, flags, expiry })
    }

    /// Appends to the draft's value.
    pub fn fill(&self, draft: &mut Draft, bytes: &[u8]) {
        draft.value.extend_from_slice(bytes);
    }

    /// Makes a filled draft the key's item. Returns its cas.
    ///
    /// # Errors
    /// Gives the draft back if the key is not as expected.
    pub fn publish(&mut self, draft: Draft, expected: Expected) -> Result<u64, Draft> {
        assert_eq!(draft.value.len(), draft.value_bytes);
        let store = &self.handle.store;
        let mut map = store.map.lock().unwrap();
        let old = map.get(&draft.key);
        if let Expected::Unchanged(witness) = expected
            && witness.0 != old.map_or(0, |old| old.cas)
        {
            return Err(draft);
        }
        let expiry = match draft.expiry {
            Expiry::At(expiry) => expiry,
            Expiry::Inherit => old.unwrap().expiry.load(Ordering::SeqCst),
        };
        let cas = store.sequence.fetch_add(1, Ordering::SeqCst) + 1;
        map.insert(
            draft.key.clone(),
            Arc::new(Stored {
                key: draft.key,
                value: draft.value,
                flags: draft.flags,
                expiry: AtomicU32::new(expiry),
                cas,
                fetched: AtomicU32::new(0),
            }),
        );
        Ok(cas)
    }

    /// Gives a draft's space back.
    pub fn discard(&mut self, draft: Draft) {
        drop(draft);
    }

    /// Removes a key.
    pub fn remove(&mut self, key: &[u8], expected: Expected) -> Removal {
        let lookup = self.peek(key);
        if let Expected::Unchanged(witness) = expected
            && witness != lookup.witness
        {
            return Removal::Changed;
        }
        let live = matches!(lookup.state, State::Hit(_));
        self.handle.store.map.lock().unwrap().remove(key);
        if live { Removal::Removed } else { Removal::Missing }
    }

    /// Sets a live item's expiry and marks it as fetched; the lookup is that of the item as it is now.
    pub fn touch(&mut self, key: &[u8], expiry: Seconds) -> Lookup<'_> {
        let lookup = self.fetch(key);
        if let State::Hit(item) = &lookup.state {
            item.stored.expiry.store(expiry, Ordering::SeqCst);
        }
        lookup
    }

    /// Kills everything that was published before this call, at once (`at` 0 or already past) or when the second `at` begins.
    /// The newest call replaces a pending one.
    pub fn flush(&mut self, at: Seconds) {
        let store = &self.handle.store;
        if at <= self.now {
            store.flush_at.store(0, Ordering::SeqCst);
            store.flushed.store(store.sequence.load(Ordering::SeqCst), Ordering::SeqCst);
        } else {
            store.flush_at.store(at, Ordering::SeqCst);
        }
    }

    /// The batch's moment.
    #[must_use]
    pub fn now(&self) -> Seconds {
        self.now
    }
}

impl Lookup<'_> {
    /// For [`Expected::Unchanged`].
    #[must_use]
    pub fn witness(&self) -> Witness {
        self.witness
    }
}

impl Item<'_> {
    /// The key.
    pub fn key(&self) -> &[u8] {
        &self.stored.key
    }
    /// The client's flags.
    pub fn flags(&self) -> u32 {
        self.stored.flags
    }
    /// The value's length.
    pub fn value_bytes(&self) -> usize {
        self.stored.value.len()
    }
    /// The value, in the pieces in which it lies (one, unless it is large).
    pub fn value_chunks(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(self.stored.value.as_slice())
    }
    /// The version: unique per store, never 0.
    pub fn cas(&self) -> u64 {
        self.stored.cas
    }
    /// When it ends (0: never).
    pub fn expiry(&self) -> Seconds {
        self.stored.expiry.load(Ordering::SeqCst)
    }
}
