//! The store: items in a log of segments, an index of slots that is read without a lock. It knows
//! no protocol.
//!
//! ```text
//! Store     shared by all          index.rs    key -> location; tables.rs  where the index lies
//! Handle    one per thread         segment.rs  which segments there are; arena.rs  where they lie
//! Batch     one per turn, pinned   batch.rs    a thread's way in; lookup.rs  what it sees there
//! Draft     an item being made     item.rs     what an item is; append.rs  where the next one goes
//!                                  change.rs   every change of what a key names
//!                                  flush.rs    the end of all that is older
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
mod batch;
#[expect(unsafe_code, reason = "one of the files that argue their unsafe code")]
mod change;
mod counters;
mod file;
mod flush;
mod housekeeper;
#[expect(unsafe_code, reason = "one of the files that argue their unsafe code")]
mod index;
#[expect(unsafe_code, reason = "one of the files that argue their unsafe code")]
mod item;
#[expect(unsafe_code, reason = "one of the files that argue their unsafe code")]
mod loan;
mod lookup;
mod policy;
#[expect(unsafe_code, reason = "one of the files that argue their unsafe code")]
mod receive;
mod reclaim;
#[expect(unsafe_code, reason = "one of the files that argue their unsafe code")]
mod recover;
#[expect(unsafe_code, reason = "one of the files that argue their unsafe code")]
mod segment;
mod shrink;
#[expect(unsafe_code, reason = "one of the files that argue their unsafe code")]
mod tables;
mod traits;
mod versions;
mod walk;

pub use self::batch::{Batch, Draft, Handle, PREFETCH_KEYS, Removal};
pub use self::counters::Totals;
pub use self::housekeeper::{Chores, Housekeeper};
pub use self::item::{Chunks, Item};
pub use self::loan::Loan;
pub use self::lookup::{Expected, State, Witness};
pub use self::receive::Incoming;
pub use self::recover::{MemoryFileOptions, Recovery};
pub use self::traits::{Amended, Amendment, Expiry, Marks, Traits};
pub use self::walk::{Cursor, Swept};

use self::arena::Arena;
use self::counters::{Counters, Held};
use self::file::MemoryFile;
use self::index::{Index, Stamp};
use self::reclaim::Mover;
use self::segment::{ARENA_BYTES_MAX, SEGMENTS_MIN, Space, map_with_growth};
use self::shrink::Shrinking;
use self::versions::Versions;
use crate::clock::Seconds;
use crate::sync::{AtomicU32, AtomicU64, Mutex, Ordering, lock};
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
    shrinking: Mutex<Shrinking>,
    /// Items that became ghosts. Written by whoever holds the mover.
    evicted_count: OwnLine<AtomicU64>,
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

/// No memory, and nothing that may be evicted for it.
#[derive(Clone, Copy, Debug)]
pub struct OutOfMemory;

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
        let (arena, index) = map_with_growth(|growth| {
            let segments = Space::segments_of(options.memory_bytes, segment_shift, growth)?;
            let index_bytes_max = options.memory_bytes.saturating_mul(growth);
            let arena = Arena::new(segments, segment_shift)?;
            Ok((arena, Index::new(options.shards_log2, index_bytes_max)?))
        })?;
        let fixed_bytes = Index::fixed_bytes(options.shards_log2);
        let space = Space::new(arena, options.memory_bytes, fixed_bytes);
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
            shrinking: Mutex::default(),
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
            let is_whole = item.entries().count() == 1;
            let agrees = |whole| is_whole && item.value_chunks().eq([whole]);
            assert!(item.whole_value().map_or(!is_whole, agrees), "a whole value is in one piece");
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
}

impl fmt::Debug for EvictionListener {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("EvictionListener")
    }
}

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
/// At least a page, so that a segment's memory can be given back.
const SEGMENT_BYTES_MIN: usize = 4096;
/// A shard for so much memory: some thousands of items, few enough that copying its table takes
/// tens of microseconds, enough that a table of whole pages wastes little of the last one.
const SHARD_BYTES: usize = 256 << 10;
