//! One thread's way into the store: its handle, the batches that it works in, and the drafts of
//! what it stores.

use super::append::{Allocation, Appender};
use super::change::{Change, Unexpected};
use super::counters::Counters;
use super::index::{Found, Hash};
use super::item::Shape;
use super::reclaim::Foreground;
use super::{Amended, Amendment, Expected, Expiry, OutOfMemory, State, Store, Traits, Witness};
use crate::clock::Seconds;
use crossbeam_epoch::{Guard, LocalHandle};
use std::ops::ControlFlow;
use std::sync::Arc;

/// One thread's access to the store.
#[derive(Debug)]
pub struct Handle {
    store: Arc<Store>,
    reader: LocalHandle,
    appender: Appender,
    counters: Arc<Counters>,
    has_draft: bool,
    id: u64,
}

/// A run of operations at one moment, between two waits for I/O. Nothing that was there when it
/// began is freed before it ends, so it must be short.
#[derive(Debug)]
pub struct Batch<'h> {
    handle: &'h mut Handle,
    pub(super) guard: Guard,
    pub(super) now: Seconds,
}

/// Space for an item that nobody else can see yet. It must be published or discarded in the batch
/// that reserved it.
#[derive(Debug)]
#[must_use]
pub struct Draft {
    /// The handle that reserved it.
    handle_id: u64,
    allocation: Allocation,
    hash: Hash,
    traits: Traits,
}

/// What [`Batch::remove`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// A live item was there and is gone.
    Removed,
    /// Nothing live was there.
    Missing,
    /// Something else than expected was there, and still is.
    Changed,
}

impl Store {
    /// A handle for the calling thread.
    #[must_use]
    pub fn register(self: &Arc<Self>) -> Handle {
        let counters = self.new_counters();
        self.space.add_writer();
        Handle {
            store: Arc::clone(self),
            reader: self.index.register(),
            appender: Appender::default(),
            counters,
            has_draft: false,
            id: HANDLES.fetch_add(1, std::sync::atomic::Ordering::Relaxed),
        }
    }
}

impl Handle {
    /// Starts a batch at `now`.
    pub fn batch(&mut self, now: Seconds) -> Batch<'_> {
        let guard = self.reader.pin();
        self.store.flush_if_due(now);
        Batch { handle: self, guard, now }
    }

    /// The store behind the handle.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut guard = self.reader.pin();
        let mut supply =
            Foreground { store: &self.store, guard: &mut guard, now: 0, counters: &self.counters };
        self.appender.seal(&self.store.space, &mut supply);
        self.store.space.remove_writer();
    }
}

impl Batch<'_> {
    /// Looks a key up and marks the item as fetched and last used now. What is found expired or
    /// flushed is removed.
    #[must_use]
    pub fn fetch(&self, key: &[u8]) -> State<'_> {
        let hash = self.store().index.hash(key);
        let lookup = self.looked_up(hash, self.find(hash, key));
        if let State::Hit(item) = &lookup {
            item.mark_fetched(self.now);
        }
        lookup
    }

    /// As [`Batch::fetch`], but leaves it to the caller to mark the item.
    #[must_use]
    pub fn look(&self, key: &[u8]) -> State<'_> {
        let hash = self.store().index.hash(key);
        self.looked_up(hash, self.find(hash, key))
    }

    /// Looks up several keys, [`PREFETCH_KEYS`] at most, waiting for memory once for all of them.
    /// What is there is seen at one time for all, some time during the call; `visit` is shown key
    /// by key, with the key's number, until it breaks off. Returns how many it was shown. It is
    /// left to the caller to mark the items as fetched; what is found expired or flushed is
    /// removed.
    pub fn look_each(
        &self,
        keys: &[&[u8]],
        mut visit: impl FnMut(usize, State<'_>) -> ControlFlow<()>,
    ) -> usize {
        let Store { index, space, .. } = self.store();
        let mut hashes = [Hash::default(); PREFETCH_KEYS];
        for (hash, key) in hashes.iter_mut().zip(keys) {
            *hash = index.hash(key);
        }
        let hashes = &hashes[..keys.len()];
        let mut candidates = [None; PREFETCH_KEYS];
        index.candidates(hashes, &mut candidates, &space.arena, &self.guard);
        candidates.iter().take(SHOWN_AHEAD).flatten().for_each(|next| next.item.prefetch_value());
        for (shown, (&key, &hash)) in keys.iter().zip(hashes).enumerate() {
            if let Some(Some(next)) = candidates.get(shown + SHOWN_AHEAD) {
                next.item.prefetch_value();
            }
            let found = match candidates[shown] {
                Some(found) if found.item.key() != key => self.find(hash, key),
                candidate => candidate,
            };
            if visit(shown, self.looked_up(hash, found)).is_break() {
                return shown + 1;
            }
        }
        keys.len()
    }

    /// Tells the store that these keys will be looked up next, so that it can wait for memory once
    /// for many of them. Takes as many keys as are worth it, [`PREFETCH_KEYS`] at most, and returns
    /// how many.
    pub fn prefetch<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) -> usize {
        let mut taken: [&[u8]; PREFETCH_KEYS] = [&[]; PREFETCH_KEYS];
        let mut count = 0;
        for (place, key) in taken.iter_mut().zip(keys) {
            *place = key;
            count += 1;
        }
        if count > 1 {
            let index = &self.store().index;
            let mut hashes = [Hash::default(); PREFETCH_KEYS];
            for (hash, key) in hashes.iter_mut().zip(&taken[..count]) {
                *hash = index.hash(key);
            }
            index.prefetch(&hashes[..count], &self.store().space.arena, &self.guard);
        }
        count
    }

    /// Looks a key up and leaves no trace.
    #[must_use]
    pub fn peek(&self, key: &[u8]) -> State<'_> {
        let Some(Found { item, .. }) = self.find(self.store().index.hash(key), key) else {
            return State::Missing;
        };
        self.store().state(item, self.now)
    }

    /// Stores an item whose value is at hand, whatever the key names, evicting where there is no
    /// room. Returns its cas. Nothing is taken over from the item before: that needs a draft, and
    /// [`Expected::Unchanged`].
    ///
    /// # Errors
    /// [`OutOfMemory`] where nothing may be evicted.
    ///
    /// # Panics
    /// The key is longer than 255 bytes, expiry or marks are to be taken over, or a draft of this
    /// handle was neither published nor discarded.
    pub fn put(&mut self, key: &[u8], value: &[u8], traits: Traits) -> Result<u64, OutOfMemory> {
        let is_all_its_own =
            matches!(traits.expiry, Expiry::At(_)) && traits.marks.inherited() == 0;
        assert!(is_all_its_own, "what is taken over is somebody's, who was seen");
        let mut allocation = self.allocate(key, value.len(), &traits)?;
        allocation.fill(&self.store().space, value);
        let hash = self.store().index.hash(key);
        let published = self.change().publish(hash, &allocation, &traits, Expected::Any);
        let (appender, mut supply) = self.writer();
        appender.finish(&supply.store.space, &allocation, &mut supply);
        Ok(published.unwrap_or_else(|Unexpected| unreachable!("nothing is expected")))
    }

    /// Space for an item, evicting where there is none. [Fill](Batch::fill) it, then publish or
    /// discard it.
    ///
    /// # Errors
    /// [`OutOfMemory`] where nothing may be evicted.
    ///
    /// # Panics
    /// The key is longer than 255 bytes, or another draft of this handle was neither published nor
    /// discarded.
    pub fn reserve(
        &mut self,
        key: &[u8],
        value_bytes: usize,
        flags: u32,
        expiry: Expiry,
    ) -> Result<Draft, OutOfMemory> {
        self.reserve_with(key, value_bytes, Traits::plain(flags, expiry))
    }

    /// As [`Batch::reserve`], for an item that is more than its flags and its end.
    ///
    /// # Errors
    /// See [`Batch::reserve`].
    ///
    /// # Panics
    /// See [`Batch::reserve`].
    pub fn reserve_with(
        &mut self,
        key: &[u8],
        value_bytes: usize,
        traits: Traits,
    ) -> Result<Draft, OutOfMemory> {
        let allocation = self.allocate(key, value_bytes, &traits)?;
        let hash = self.store().index.hash(key);
        Ok(self.drafted(allocation, hash, traits))
    }

    /// Appends to the draft's value.
    ///
    /// # Panics
    /// The value gets longer than was reserved, or the draft is another handle's.
    pub fn fill(&self, draft: &mut Draft, bytes: &[u8]) {
        self.assert_own(draft);
        draft.allocation.fill(&self.store().space, bytes);
    }

    /// Makes a filled draft the key's item. Returns its cas.
    ///
    /// # Errors
    /// Gives the draft back if the key is not as expected.
    ///
    /// # Panics
    /// The draft is not filled, or another handle's.
    pub fn publish(&mut self, draft: Draft, expected: Expected) -> Result<u64, Draft> {
        self.assert_own(&draft);
        assert!(draft.allocation.is_filled(), "a draft is filled before it is published");
        let published =
            self.change().publish(draft.hash, &draft.allocation, &draft.traits, expected);
        let Ok(cas) = published else { return Err(draft) };
        self.handle.has_draft = false;
        let (appender, mut supply) = self.writer();
        appender.finish(&supply.store.space, &draft.allocation, &mut supply);
        Ok(cas)
    }

    /// Gives a draft's space back.
    ///
    /// # Panics
    /// The draft is another handle's.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a draft that was discarded must not be used"
    )]
    pub fn discard(&mut self, draft: Draft) {
        self.assert_own(&draft);
        self.handle.has_draft = false;
        let (appender, mut supply) = self.writer();
        appender.discard(&supply.store.space, &draft.allocation, &mut supply);
    }

    /// Removes a key.
    pub fn remove(&mut self, key: &[u8], expected: Expected) -> Removal {
        self.change().remove(key, expected)
    }

    /// Sets a live item's expiry and marks it as fetched. It is a hit even if the item's time is
    /// over with that.
    pub fn touch(&mut self, key: &[u8], expiry: Seconds) -> State<'_> {
        let batch = &*self;
        let hash = batch.store().index.hash(key);
        loop {
            if let Some(item) = batch.change().touch(hash, key, expiry) {
                item.mark_fetched(batch.now);
                return State::Hit(item);
            }
            // A hit was stored in between, and is still to be touched.
            match batch.look(key) {
                State::Hit(_) => {}
                miss => return miss,
            }
        }
    }

    /// Changes in place what may be changed of a live item. Of all who ask for an item's lease, one
    /// gets it.
    pub fn amend(&self, key: &[u8], witness: Witness, amendment: Amendment) -> Amended {
        match self.change().amend(key, witness, amendment) {
            Ok(leased) => Amended::Done { leased },
            Err(Unexpected) => Amended::Changed,
        }
    }

    /// Changes the memory limit. The store is made to fit it step by step, by the housekeeper if
    /// there is one, else before this returns, as soon as those who still read what goes have gone.
    /// Without eviction it may stay larger, and then refuses to store.
    ///
    /// # Errors
    /// [`OutOfMemory`] if the limit is more than sixteen times the one at the start, or more than
    /// that one where the system had no more addresses; nothing has changed then.
    pub fn set_memory_bytes(&mut self, memory_bytes: usize) -> Result<(), OutOfMemory> {
        let (_, mut supply) = self.writer();
        let store = supply.store;
        if !store.space.set_memory_bytes(memory_bytes) {
            return Err(OutOfMemory);
        }
        if store.wake_housekeeper() {
            return Ok(());
        }
        while supply.approach_limit() {}
        Ok(())
    }

    /// For how many seconds the item that is first in line for eviction has not been used: about as
    /// long as one stays that nobody asks for. 0 where there is none.
    #[must_use]
    pub fn oldest_age_seconds(&self) -> Seconds {
        let oldest = self.store().space.first_in_line(&self.guard);
        oldest.map_or(0, |item| self.now.saturating_sub(item.last_access()))
    }

    /// The batch's moment.
    #[must_use]
    pub fn now(&self) -> Seconds {
        self.now
    }

    pub(super) fn store(&self) -> &Store {
        &self.handle.store
    }

    /// Where this thread writes, and whoever makes room there.
    pub(super) fn writer(&mut self) -> (&mut Appender, Foreground<'_>) {
        let Handle { store, appender, counters, .. } = &mut *self.handle;
        (appender, Foreground { store, guard: &mut self.guard, now: self.now, counters })
    }

    #[inline]
    fn allocate(
        &mut self,
        key: &[u8],
        value_bytes: usize,
        traits: &Traits,
    ) -> Result<Allocation, OutOfMemory> {
        self.assert_no_draft();
        let Traits { flags, cas, .. } = *traits;
        let shape = Shape { key_bytes: key.len(), value_bytes, flags, cas };
        // What would not fit an empty store is not worth emptying it for. A fourth of a segment
        // does.
        let space = &self.store().space;
        let is_large = shape.entry_bytes() > space.capacity() / 4;
        if is_large && shape.entry_bytes() > space.item_bytes_max() {
            return Err(OutOfMemory);
        }
        let (appender, mut supply) = self.writer();
        supply.contribute(shape.entry_bytes());
        appender.allocate(&supply.store.space, &shape, key, &mut supply)
    }

    /// Makes what was allocated this handle's draft.
    pub(super) fn drafted(&mut self, allocation: Allocation, hash: Hash, traits: Traits) -> Draft {
        self.handle.has_draft = true;
        Draft { handle_id: self.handle.id, allocation, hash, traits }
    }

    pub(super) fn assert_no_draft(&self) {
        assert!(!self.handle.has_draft, "one draft at a time");
    }

    /// A draft names places in one store's arena that one handle owns; elsewhere they are somebody
    /// else's.
    fn assert_own(&self, draft: &Draft) {
        assert_eq!(draft.handle_id, self.handle.id, "a draft of this handle");
    }

    /// What a look-up finds where the index has what was `found`. A hit counts as a use.
    #[inline]
    fn looked_up<'b>(&'b self, hash: Hash, found: Option<Found<'b>>) -> State<'b> {
        let Some(found) = found else { return State::Missing };
        let item = found.item;
        let state = self.store().state(item, self.now);
        if matches!(state, State::Hit(_)) {
            found.count_use();
        } else {
            self.change().drop_dead(hash, item);
        }
        state
    }

    fn find(&self, hash: Hash, key: &[u8]) -> Option<Found<'_>> {
        self.store().index.find(hash, key, &self.store().space.arena, &self.guard)
    }

    pub(super) fn change(&self) -> Change<'_> {
        Change {
            store: self.store(),
            guard: &self.guard,
            now: self.now,
            counters: &self.handle.counters,
        }
    }
}

impl Draft {
    /// The same value, to be published with other traits.
    ///
    /// # Panics
    /// They differ in what is written beside the value: the client's flags, or its cas.
    pub fn with_traits(self, traits: Traits) -> Self {
        let written = (self.traits.flags, self.traits.cas);
        assert_eq!(written, (traits.flags, traits.cas), "flags and cas are written already");
        Self { traits, ..self }
    }
}

/// Look-ups whose waits for memory [`Batch::prefetch`] lets run side by side: about as many as a
/// core can have outstanding.
pub const PREFETCH_KEYS: usize = 16;

/// So many keys before its turn, an item's value is fetched. Those of all keys at once would be more
/// lines than a core can have outstanding, and hold up the headers that are waited for first.
const SHOWN_AHEAD: usize = 4;

/// Tells handles apart, whichever store they are of.
static HANDLES: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
