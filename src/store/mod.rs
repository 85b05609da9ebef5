//! The store: items in a log of segments, an index of slots that is read without a lock. It knows
//! no protocol.
//!
//! ```text
//! Store     shared by all          index.rs    key -> location
//!                                  tables.rs   where the index lies
//! Handle    one per thread         segment.rs  which segments there are; arena.rs  where they lie
//! Batch     one per turn, pinned   item.rs     what an item is; append.rs  where the next one goes
//! Draft     an item being made     change.rs   every change of what a key names
//! Incoming  .. as it arrives       receive.rs  values received where they will lie
//! Loan      a piece of a value     loan.rs     values sent from where they lie
//!                                  policy.rs   which items may stay
//!                                  reclaim.rs  how the others go
//! Housekeeper  at most one         housekeeper.rs  what is done ahead of need
//!                                  walk.rs     everything there is, piece by piece
//! Store::open                      file.rs     what outlives the process; recover/  how it is found
//! ```
//!
//! A reader pins the epoch once for a batch of requests and takes no lock. A writer makes a
//! [`Draft`] in its own open segment, without a lock, and [publishes](Batch::publish) it with one
//! store under the lock of the key's shard. A change that depends on the present value looks first
//! and publishes on the condition that nothing has happened since ([`Expected::Unchanged`]); if
//! something has, it looks again. So no lock is ever held while anything is decided or copied.
//!
//! Time is an argument: a [`Batch`] has one moment.

#[expect(unsafe_code, reason = "one of the files that argue their unsafe code")]
mod append;
#[expect(unsafe_code, reason = "one of the files that argue their unsafe code")]
mod arena;
#[expect(unsafe_code, reason = "one of the files that argue their unsafe code")]
mod change;
mod counters;
mod file;
mod housekeeper;
#[expect(unsafe_code, reason = "one of the files that argue their unsafe code")]
mod index;
#[expect(unsafe_code, reason = "one of the files that argue their unsafe code")]
mod item;
#[expect(unsafe_code, reason = "one of the files that argue their unsafe code")]
mod loan;
mod policy;
#[expect(unsafe_code, reason = "one of the files that argue their unsafe code")]
mod receive;
mod reclaim;
#[expect(unsafe_code, reason = "one of the files that argue their unsafe code")]
mod recover;
#[expect(unsafe_code, reason = "one of the files that argue their unsafe code")]
mod segment;
#[expect(unsafe_code, reason = "one of the files that argue their unsafe code")]
mod tables;
mod traits;
mod versions;
mod walk;

pub use self::counters::Totals;
pub use self::housekeeper::{Chores, Housekeeper};
pub use self::item::{Chunks, Item};
pub use self::loan::Loan;
pub use self::receive::Incoming;
pub use self::recover::{MemoryFileOptions, Recovery};
pub use self::traits::{Amended, Amendment, Marks, Traits};
pub use self::walk::{Cursor, Swept};

use self::append::{Allocation, Appender};
use self::arena::Arena;
use self::change::{Change, Unexpected};
use self::counters::{Counters, Held};
use self::file::MemoryFile;
use self::index::{Found, Hash, Index, Stamp};
use self::item::Shape;
use self::reclaim::{Foreground, Mover};
use self::segment::{ARENA_BYTES_MAX, GROWTH_MAX, SEGMENTS_MIN, Space};
use self::versions::Versions;
use crate::clock::Seconds;
use crate::sync::{AtomicU32, AtomicU64, Mutex, Ordering, lock};
use crossbeam_epoch::{Guard, LocalHandle};
use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};
use std::thread::Thread;

/// Dimensions of a store. [`Options::new`] derives them from the memory; tests make them tiny.
#[derive(Clone, Debug)]
pub struct Options {
    /// Everything that items and index may take.
    pub memory_bytes: usize,
    /// The size of a segment: a power of two, of at least a page.
    pub segment_bytes: usize,
    /// Binary logarithm of the number of shards, at least 1.
    pub shards_log2: u32,
    /// `false`: refuse a store rather than evict.
    pub evict: bool,
}

/// One store, shared by all threads. Each thread [registers](Store::register) for a [`Handle`].
#[derive(Debug)]
pub struct Store {
    index: Index,
    space: Arc<Space>,
    evict: bool,
    versions: OwnLine<Versions>,
    /// Items up to this version were flushed.
    flushed: AtomicU64,
    /// When the pending flush is due (0: none is pending).
    flush_at: AtomicU32,
    flushing: Mutex<()>,
    /// What the last flush passed over: items, bytes.
    flushable: Mutex<(u64, u64)>,
    mover: Mutex<Mover>,
    /// Items that became ghosts. Written by whoever holds the mover.
    evicted_count: OwnLine<AtomicU64>,
    writers: AtomicU32,
    counters: Mutex<Vec<Arc<Counters>>>,
    /// Who is woken when there is something to do ahead of need.
    housekeeper: OnceLock<Thread>,
    eviction_listener: OnceLock<EvictionListener>,
    recovery: Option<Recovery>,
    /// Last, because who opens the file next must not find this store still at it.
    file: Option<MemoryFile>,
}

/// See [`Store::on_eviction`].
struct EvictionListener(Box<Listener>);

type Listener = dyn Fn(&Item<'_>, Seconds) + Send + Sync;

/// Every store writes it, while every look-up reads what lies beside it: they must not share a line
/// of memory, nor the pair of lines that a processor may fetch together.
#[derive(Debug)]
#[repr(align(128))]
struct OwnLine<T>(T);

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
    guard: Guard,
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
    /// The key was there, but its time is over.
    Expired,
    /// The key was there, but a flush has passed over it.
    Flushed,
}

/// Names the exact state of a key that a [`Lookup`] saw: "this very item", live, or "nothing" live.
/// Equal again means that nothing happened to the key in between, a change of expiry and the marks
/// of use aside. It names the item by its version, which is never used again, and not by its place,
/// which is: reserving room may let go of what the batch has seen.
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
    /// When the item that it replaces ends, read at the moment of replacement. Needs
    /// [`Expected::Unchanged`] of a hit.
    Inherit,
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
    /// Something else than expected was there, and still is.
    Changed,
}

impl Options {
    /// The dimensions that suit a memory limit.
    #[must_use]
    pub fn new(memory_bytes: usize, evict: bool) -> Self {
        let segment_log2 = if memory_bytes >= LARGE_MEMORY_BYTES {
            *SEGMENT_LOG2.end()
        } else {
            let usual = (memory_bytes / SEGMENTS_USUAL).clamp(USUAL_BYTES.0, USUAL_BYTES.1);
            usual.min(memory_bytes / SEGMENTS_WANTED).max(1).ilog2().max(*SEGMENT_LOG2.start())
        };
        let shards_log2 = (memory_bytes / SHARD_BYTES).max(2).ilog2();
        Self { memory_bytes, segment_bytes: 1 << segment_log2, shards_log2, evict }
    }

    fn check(&self) -> io::Result<()> {
        let in_range = self.segment_bytes.is_power_of_two()
            && self.segment_bytes >= SEGMENT_BYTES_MIN
            && self.memory_bytes >= SEGMENTS_MIN as usize * self.segment_bytes
            && self.memory_bytes < ARENA_BYTES_MAX;
        if !in_range {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "memory limit out of range"));
        }
        Ok(())
    }

    /// Whether a store of these dimensions would do with segments of another size.
    fn suits(&self, segment_log2: u32) -> bool {
        let segments = self.memory_bytes.checked_shr(segment_log2).unwrap_or(0);
        segment_log2 == self.segment_bytes.ilog2()
            || (SEGMENT_LOG2.contains(&segment_log2) && SEGMENTS_SUITABLE.contains(&segments))
    }
}

impl Store {
    /// Maps the memory; none of it is used yet.
    ///
    /// # Errors
    /// The system refuses the mapping, or the dimensions are out of range.
    pub fn new(options: &Options) -> io::Result<Arc<Self>> {
        options.check()?;
        let segment_shift = options.segment_bytes.ilog2();
        let segments = Space::segments_of(options.memory_bytes, segment_shift)?;
        let arena = Arena::new(segments, segment_shift)?;
        let fixed_bytes = Index::fixed_bytes(options.shards_log2);
        let space = Space::new(arena, options.memory_bytes, fixed_bytes);
        let index_bytes_max = options.memory_bytes.saturating_mul(GROWTH_MAX);
        let index = Index::new(options.shards_log2, index_bytes_max, 0)?;
        Ok(Arc::new(Self::assemble(options, index, space, None)))
    }

    /// The index is that of what is in the space, if anything is.
    fn assemble(
        options: &Options,
        index: Index,
        space: Space,
        kept: Option<(MemoryFile, Recovery)>,
    ) -> Self {
        let state = kept.as_ref().map(|(file, _)| file.state());
        let (file, recovery) = kept.unzip();
        let found = recovery.as_ref().map(|Recovery { items, items_bytes, .. }| {
            let found = Counters::default();
            found.items.add(*items);
            found.item_bytes.add(*items_bytes);
            Arc::new(found)
        });
        Self {
            index,
            space: Arc::new(space),
            evict: options.evict,
            versions: OwnLine(Versions::after(state.as_ref())),
            flushed: AtomicU64::new(state.map_or(0, |state| state.flushed)),
            flush_at: AtomicU32::new(state.map_or(0, |state| state.flush_at)),
            flushing: Mutex::new(()),
            evicted_count: OwnLine(AtomicU64::new(0)),
            flushable: Mutex::default(),
            mover: Mutex::new(Mover::default()),
            writers: AtomicU32::new(0),
            counters: Mutex::new(found.into_iter().collect()),
            housekeeper: OnceLock::new(),
            eviction_listener: OnceLock::new(),
            recovery,
            file,
        }
    }

    /// Has every eviction told, from now on, on the thread that evicts. Only the first call counts.
    pub fn on_eviction(&self, listener: impl Fn(&Item<'_>, Seconds) + Send + Sync + 'static) {
        // A second listener is a mistake that can only be made in this crate.
        let _first = self.eviction_listener.set(EvictionListener(Box::new(listener)));
    }

    /// A handle for the calling thread.
    #[must_use]
    pub fn register(self: &Arc<Self>) -> Handle {
        let counters = self.new_counters();
        self.reserve_for(self.writers.fetch_add(1, Ordering::Relaxed) + 1);
        Handle {
            store: Arc::clone(self),
            reader: self.index.register(),
            appender: Appender::default(),
            counters,
            has_draft: false,
            id: HANDLES.fetch_add(1, std::sync::atomic::Ordering::Relaxed),
        }
    }

    /// One who does what can be done ahead of need. The store works without.
    #[must_use]
    pub fn housekeeper(self: &Arc<Self>) -> Housekeeper {
        Housekeeper::new(Arc::clone(self), self.new_counters())
    }

    /// Has this thread unparked whenever there is something urgent for a housekeeper to do. The
    /// first to ask is the only one.
    pub fn wake_for_chores(&self, thread: Thread) {
        let _only_the_first = self.housekeeper.set(thread);
    }

    /// The memory limit.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.space.memory_bytes()
    }

    /// Figures, summed over all handles.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let held = self.held();
        let (items, items_bytes) = held.unflushed(*lock(&self.flushable));
        let counters = lock(&self.counters);
        let counted = counters.iter().fold(Totals::default(), |sum, one| sum.plus(one));
        let index_bytes = self.index.table_bytes() as u64;
        Totals {
            items,
            items_bytes,
            index_bytes,
            index_power: self.index.slots().checked_ilog2().unwrap_or(0),
            segment_bytes: self.space.arena.segment_bytes() as u64,
            segments: u64::from(self.space.segments_allowed()),
            segments_in_use: u64::from(self.space.in_use()),
            segments_aside: u64::from(self.space.aside()),
            dead_bytes: self.space.dead_bytes(held.bytes),
            ..counted
        }
    }

    /// Checks every invariant that can be recounted. Nobody else may use the store meanwhile.
    ///
    /// # Panics
    /// One does not hold.
    pub fn check(&self) {
        let reader = self.index.register();
        let guard = reader.pin();
        let mut live = vec![0; self.space.arena.segments() as usize];
        let mut items = 0;
        let mut items_bytes = 0;
        let _complete = self.index.for_each_item(&self.space.arena, &guard, |item| {
            let found =
                self.index.find(self.index.hash(item.key()), item.key(), &self.space.arena, &guard);
            assert_eq!(
                found.map(|found| found.item.location()),
                Some(item.location()),
                "one slot a key"
            );
            assert!(!item.is_dead(), "what the index names is not marked dead");
            assert!(item.owns_its_fragments(), "what compaction finds leads to the head");
            assert_eq!(item.value_chunks().map(<[u8]>::len).sum::<usize>(), item.value_bytes());
            for (at, bytes) in item.entries() {
                let segment = &mut live[self.space.arena.segment_of(at) as usize];
                *segment += u32::try_from(bytes).expect("within a segment");
                items_bytes += bytes as u64;
            }
            items += 1;
            ControlFlow::Continue(())
        });
        let held = self.held();
        assert_eq!((held.items, held.bytes), (items, items_bytes));
        self.space.check(&live);
    }

    fn new_counters(&self) -> Arc<Counters> {
        let counters = Arc::new(Counters::default());
        lock(&self.counters).push(Arc::clone(&counters));
        counters
    }

    /// Returns whether there is somebody to wake.
    fn wake_housekeeper(&self) -> bool {
        self.housekeeper.get().inspect(|thread| thread.unpark()).is_some()
    }

    fn held(&self) -> Held {
        let counters = lock(&self.counters);
        counters.iter().fold(Held::default(), |sum, one| sum.plus(one)).settled()
    }

    /// The state in which an item is at a moment.
    fn state<'b>(&self, item: Item<'b>, now: Seconds) -> State<'b> {
        let expiry = item.expiry();
        if expiry != 0 && expiry <= now {
            State::Expired
        } else if self.is_flushed(&item) {
            State::Flushed
        } else {
            State::Hit(item)
        }
    }

    fn is_flushed(&self, item: &Item<'_>) -> bool {
        item.version() <= self.flushed.load(Ordering::SeqCst)
    }

    fn is_live(&self, item: &Item<'_>, now: Seconds) -> bool {
        matches!(self.state(*item, now), State::Hit(_))
    }

    /// Whether what a ghost says of its key still counts.
    fn is_remembered(&self, ghost: Stamp) -> bool {
        let evicted_count = self.evicted_count.0.load(Ordering::Relaxed);
        policy::is_remembered(ghost.age(evicted_count), self.held().items)
    }

    /// Keeps a segment in reserve for every second writer, and two more.
    fn reserve_for(&self, writers: u32) {
        let most = self.space.segments_allowed() / RESERVE_PART;
        self.space.set_reserve((writers / 2 + 2).min(most).max(1));
    }

    /// Carries out the pending flush if its time has come.
    fn flush_if_due(&self, now: Seconds) {
        let is_due = || {
            let at = self.flush_at.load(Ordering::Acquire);
            at != 0 && at <= now
        };
        if is_due() {
            // Only the first to come flushes: what is stored after it did survives.
            let _flushing = lock(&self.flushing);
            if is_due() {
                self.flush_now();
            }
        }
    }

    fn flush_now(&self) {
        *lock(&self.flushable) = self.held().flushable();
        // Whoever publishes on a condition takes a version first and then looks whether what it saw
        // was flushed. When no version was taken since the flush could be seen, everybody is on one
        // side of it: published before it and dead, or bound to see it.
        let mut sequence = self.versions.0.last();
        loop {
            self.flushed.fetch_max(sequence, Ordering::SeqCst);
            let now = self.versions.0.last();
            if now == sequence {
                break;
            }
            sequence = now;
        }
        self.space.note_flush();
        self.flush_at.store(0, Ordering::Release);
        if let Some(file) = &self.file {
            file.note_flush(self.flushed.load(Ordering::SeqCst));
        }
    }
}

impl fmt::Debug for EvictionListener {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("EvictionListener")
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
        self.store.reserve_for(self.store.writers.fetch_sub(1, Ordering::Relaxed) - 1);
    }
}

impl Batch<'_> {
    /// Looks a key up and marks the item as fetched and last used now. What is found expired or
    /// flushed is removed.
    #[must_use]
    pub fn fetch(&self, key: &[u8]) -> Lookup<'_> {
        let hash = self.store().index.hash(key);
        let lookup = self.looked_up(hash, self.find(hash, key));
        if let State::Hit(item) = &lookup.state {
            item.mark_fetched(self.now);
        }
        lookup
    }

    /// As [`Batch::fetch`], but leaves it to the caller to mark the item.
    #[must_use]
    pub fn look(&self, key: &[u8]) -> Lookup<'_> {
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
        mut visit: impl FnMut(usize, Lookup<'_>) -> ControlFlow<()>,
    ) -> usize {
        let Store { index, space, .. } = self.store();
        let mut hashes = [Hash::default(); PREFETCH_KEYS];
        for (hash, key) in hashes.iter_mut().zip(keys) {
            *hash = index.hash(key);
        }
        let hashes = &hashes[..keys.len()];
        let mut candidates = [None; PREFETCH_KEYS];
        index.candidates(hashes, &mut candidates, &space.arena, &self.guard);
        for (shown, (&key, &hash)) in keys.iter().zip(hashes).enumerate() {
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
    pub fn peek(&self, key: &[u8]) -> Lookup<'_> {
        let Some(Found { item, .. }) = self.find(self.store().index.hash(key), key) else {
            return Lookup::NOTHING;
        };
        let state = self.store().state(item, self.now);
        let live = matches!(state, State::Hit(_)).then_some(item);
        Lookup { state, witness: Witness::of(live) }
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
        let traits = Traits { flags, expiry, cas: None, marks: Marks::New };
        self.reserve_with(key, value_bytes, traits)
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
        assert!(!self.handle.has_draft, "one draft at a time");
        let Traits { flags, cas, .. } = traits;
        let shape = Shape { key_bytes: key.len(), value_bytes, flags, cas };
        // What would not fit an empty store is not worth emptying it for. A fourth of a segment does.
        let space = &self.store().space;
        let is_large = shape.entry_bytes() > space.capacity() / 4;
        if is_large && shape.entry_bytes() > space.item_bytes_max() {
            return Err(OutOfMemory);
        }
        let Handle { store, appender, counters, .. } = &mut *self.handle;
        let mut supply = Foreground { store, guard: &mut self.guard, now: self.now, counters };
        supply.contribute(shape.entry_bytes());
        let allocation = appender.allocate(&store.space, &shape, key, &mut supply)?;
        self.handle.has_draft = true;
        let hash = self.store().index.hash(key);
        Ok(Draft { handle_id: self.handle.id, allocation, hash, traits })
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
        let Handle { store, appender, counters, .. } = &mut *self.handle;
        let mut supply = Foreground { store, guard: &mut self.guard, now: self.now, counters };
        appender.finish(&store.space, &draft.allocation, &mut supply);
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
        let Handle { store, appender, counters, .. } = &mut *self.handle;
        let mut supply = Foreground { store, guard: &mut self.guard, now: self.now, counters };
        appender.discard(&store.space, &draft.allocation, &mut supply);
    }

    /// Removes a key.
    pub fn remove(&mut self, key: &[u8], expected: Expected) -> Removal {
        self.change().remove(key, expected)
    }

    /// Sets a live item's expiry and marks it as fetched. It is a hit even if the item's time is
    /// over with that.
    pub fn touch(&mut self, key: &[u8], expiry: Seconds) -> Lookup<'_> {
        let hash = self.store().index.hash(key);
        let Some(item) = self.change().touch(hash, key, expiry) else { return self.fetch(key) };
        item.mark_fetched(self.now);
        Lookup { state: State::Hit(item), witness: Witness::of(Some(item)) }
    }

    /// Changes in place what may be changed of a live item. Of all who ask for an item's lease, one
    /// gets it.
    pub fn amend(&self, key: &[u8], witness: Witness, amendment: Amendment) -> Amended {
        match self.change().amend(key, witness, amendment) {
            Ok(leased) => Amended::Done { leased },
            Err(Unexpected) => Amended::Changed,
        }
    }

    /// Kills everything that was published before this call: at once if `at` is 0 or not later than
    /// now, else when the second `at` begins. The newest call replaces a pending one.
    pub fn flush(&mut self, at: Seconds) {
        let _flushing = lock(&self.store().flushing);
        if at <= self.now {
            self.store().flush_now();
        } else {
            self.store().flush_at.store(at, Ordering::Release);
            if let Some(file) = &self.store().file {
                file.note_pending_flush(at);
            }
        }
    }

    /// Changes the memory limit. The store is made to fit it step by step, by the housekeeper if
    /// there is one, else before this returns, as soon as those who still read what goes have gone.
    /// Without eviction it may stay larger, and then refuses to store.
    ///
    /// # Errors
    /// [`OutOfMemory`] if the limit is more than sixteen times the one at the start; nothing has
    /// changed then.
    pub fn set_memory_bytes(&mut self, memory_bytes: usize) -> Result<(), OutOfMemory> {
        let Handle { store, counters, .. } = &*self.handle;
        if !store.space.set_memory_bytes(memory_bytes) {
            return Err(OutOfMemory);
        }
        if store.wake_housekeeper() {
            return Ok(());
        }
        let mut supply = Foreground { store, guard: &mut self.guard, now: self.now, counters };
        while store.space.approach_limit() {
            let _as_far_as_it_goes = supply.shrink_to_limit();
        }
        Ok(())
    }

    /// The batch's moment.
    #[must_use]
    pub fn now(&self) -> Seconds {
        self.now
    }

    fn store(&self) -> &Store {
        &self.handle.store
    }

    /// A draft names places in one store's arena that one handle owns; elsewhere they are somebody
    /// else's.
    fn assert_own(&self, draft: &Draft) {
        assert_eq!(draft.handle_id, self.handle.id, "a draft of this handle");
    }

    /// What a look-up finds where the index has what was `found`. A hit counts as a use.
    #[inline]
    fn looked_up<'b>(&'b self, hash: Hash, found: Option<Found<'b>>) -> Lookup<'b> {
        let Some(found) = found else { return Lookup::NOTHING };
        let item = found.item;
        let state = self.store().state(item, self.now);
        if matches!(state, State::Hit(_)) {
            found.count_use();
            return Lookup { state, witness: Witness::of(Some(item)) };
        }
        self.change().drop_dead(hash, item);
        Lookup { state, witness: Witness::of(None) }
    }

    fn find(&self, hash: Hash, key: &[u8]) -> Option<Found<'_>> {
        self.store().index.find(hash, key, &self.store().space.arena, &self.guard)
    }

    fn change(&self) -> Change<'_> {
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

impl Lookup<'_> {
    const NOTHING: Self = Self { state: State::Missing, witness: Witness(0) };

    /// For [`Expected::Unchanged`].
    #[must_use]
    pub fn witness(&self) -> Witness {
        self.witness
    }
}

impl Witness {
    fn of(item: Option<Item<'_>>) -> Self {
        Self(item.map_or(0, |item| item.version()))
    }
}

/// Look-ups whose waits for memory [`Batch::prefetch`] lets run side by side: about as many as a
/// core can have outstanding.
pub const PREFETCH_KEYS: usize = 16;

/// Tells handles apart, whichever store they are of.
static HANDLES: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

/// Sizes that segments have, by their logarithms.
const SEGMENT_LOG2: std::ops::RangeInclusive<u32> = 12..=20;

/// So many segments will do, where a file brings a size of its own: enough for every writer, and
/// not so many that what is kept of each would tell.
const SEGMENTS_SUITABLE: std::ops::RangeInclusive<usize> = 32..=1 << 18;

/// The memory is cut into about so many segments, of 64 to 256 KiB, for some are always open or in
/// reserve and count in full ...
const SEGMENTS_USUAL: usize = 2048;
const USUAL_BYTES: (usize, usize) = (64 << 10, 256 << 10);
/// ... but into so many at least where it is small: each writer has one open ...
const SEGMENTS_WANTED: usize = 256;
/// ... but of 1 MiB from here on.
const LARGE_MEMORY_BYTES: usize = 16 << 30;
/// At most a segment in so many is kept in reserve.
const RESERVE_PART: u32 = 16;
/// At least a page, so that a segment's memory can be given back.
const SEGMENT_BYTES_MIN: usize = 4096;
/// A shard for so much memory: some thousands of items, few enough that copying its table takes
/// tens of microseconds, enough that a table of whole pages wastes little of the last one.
const SHARD_BYTES: usize = 256 << 10;
