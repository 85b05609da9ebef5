//! The index: from a key to the place of its item, read without a lock.
//!
//! ```text
//!  hash of the key:  | shard number ...                    | tag 24 |
//!
//!  shard -> table of n buckets;  home = tag * n >> 24;  a key lies there or up to three behind
//!  bucket: 8 slots of 8 bytes, one cache line
//!  slot:   | tag 24 | 1 | frequency 2 | location 37 |      an item
//!          | tag 24 | 0 | stamp 39               |      a ghost: a key that was evicted
//!          | 0                                   |      empty
//! ```
//!
//! What no item takes is left to ghosts: a table is a third empty on average, so they cost nothing,
//! and whoever stores a key finds its ghost in the bucket that it must look at anyway. An item
//! takes the place of a ghost, the oldest one in sight first.
//!
//! # Reader
//!
//! Loads the table's pointer, then the slots of four buckets at most: nine of ten items lie in the
//! first. Where the tag agrees it compares the whole key. It writes nothing, but that a hit counts
//! the slot's frequency up, three times at most: a key that everybody asks for is soon written by
//! nobody.
//!
//! # Writer
//!
//! Holds the shard's lock. It changes one slot by one store: an item replaces another in the same
//! slot, so a reader sees the old one or the new one and never neither. A new key takes the first
//! free slot of its window; where there is none, others make way (`index/way.rs`), in a manner that
//! no reader can miss them for.
//!
//! # Why a reader cannot see a torn item
//!
//! The slot is stored with `Release` after the item was written, and loaded with `Acquire` before
//! it is read (`item.rs`). The item's memory, and a table's, are used again only after all guards
//! that were pinned at the time are gone.

mod resize;
mod slot;
mod way;

pub(super) use self::resize::Resized;
pub(super) use self::slot::{FREQUENCY_MAX, Found, LOCATION_BITS, Slot, Stamp};

use self::resize::class_for;
use self::slot::{
    EMPTY, LIVE, LIVE_SHIFT, STAMP_MASK, TAG_SHIFT, frequency_of, ghost_slot, item_slot,
    location_of,
};
use self::way::make_way;
use super::arena::{Arena, HEADER_LINES, KEY_LINES, Location, VALUE_LINES, prefetch};
use super::item::Item;
use super::tables::{Bucket, PAGE_CLASS, TABLE_BUCKETS, TableMemory};
use crate::sync::{AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering, lock, random_state};
use ahash::RandomState;
use crossbeam_epoch::{Atomic, Collector, Guard, LocalHandle};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::{io, slice};

/// See the module's text.
#[derive(Debug)]
pub(super) struct Index {
    shards: Box<[Shard]>,
    shard_shift: u32,
    /// Apart from the shards, and not one for each: what readers walk stays small and unwritten.
    locks: Box<[Mutex<()>]>,
    hasher: RandomState,
    collector: Collector,
    memory: Arc<TableMemory>,
    /// The class of a shard's first table.
    first_class: usize,
    table_bytes: AtomicUsize,
}

/// A shard's table. The buckets' number is `TABLE_BUCKETS[tag of the pointer]`; null before the
/// first item.
#[derive(Debug, Default)]
struct Shard(Atomic<Bucket>);

/// A key's hash: which shard, and the tag within it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hash(u64);

/// The writers' access to a shard.
#[derive(Debug)]
pub(super) struct Locked<'i> {
    index: &'i Index,
    shard: &'i Shard,
    guard: &'i Guard,
    _lock: MutexGuard<'i, ()>,
}

impl Index {
    /// An index of `2^shards_log2` shards (at least 2) for a store of at most so many bytes.
    ///
    /// # Errors
    /// The system refuses the addresses.
    pub(super) fn new(shards_log2: u32, memory_bytes: usize) -> io::Result<Self> {
        assert!((1..=HASH_BITS - TAG_BITS).contains(&shards_log2));
        let has_tiny_shards = memory_bytes >> shards_log2 < SHARD_BYTES_FOR_PAGES;
        Ok(Self {
            shards: (0..1_usize << shards_log2).map(|_| Shard::default()).collect(),
            shard_shift: HASH_BITS - shards_log2,
            locks: (0..LOCKS.min(1 << shards_log2)).map(|_| Mutex::default()).collect(),
            hasher: random_state(),
            collector: Collector::new(),
            memory: Arc::new(TableMemory::new(memory_bytes)?),
            first_class: if has_tiny_shards { 0 } else { PAGE_CLASS },
            table_bytes: AtomicUsize::new(0),
        })
    }

    /// Before the first item: has tables begin as large as so many items will soon need them.
    pub(super) fn expect_items(&mut self, items: u64) {
        let class = class_for(items / self.shards.len() as u64);
        self.first_class = self.first_class.max(class);
    }

    /// Bytes that the shards take before the first item.
    pub(super) fn fixed_bytes(shards_log2: u32) -> usize {
        let shards = 1 << shards_log2;
        shards * size_of::<Shard>() + LOCKS.min(shards) * size_of::<Mutex<()>>()
    }

    /// Bytes of all tables now.
    pub(super) fn table_bytes(&self) -> usize {
        self.table_bytes.load(Ordering::Relaxed)
    }

    /// A thread's membership among the readers.
    pub(super) fn register(&self) -> LocalHandle {
        self.collector.register()
    }

    pub(super) fn hash(&self, key: &[u8]) -> Hash {
        Hash(self.hasher.hash_one(key))
    }

    /// The item of a key, for as long as the guard lasts. The arena is the one whose locations this
    /// index holds, the guard one of this index's readers.
    pub(super) fn find<'g>(
        &self,
        hash: Hash,
        key: &[u8],
        arena: &'g Arena,
        guard: &'g Guard,
    ) -> Option<Found<'g>> {
        let table = self.shard(hash).load(guard);
        find_slot(table, hash, |slot, seen| {
            // The value's lines arrive while the key is compared.
            arena.prefetch(location_of(seen), VALUE_LINES);
            let item = self.item(location_of(seen), arena, guard);
            (item.key() == key).then_some(Found { item, slot: Slot(slot), seen })
        })
    }

    /// How often the item at a place was used, if it is what its key names.
    pub(super) fn frequency(&self, hash: Hash, at: Location, guard: &Guard) -> Option<u8> {
        find_slot(self.shard(hash).load(guard), hash, |_, seen| {
            (location_of(seen) == at).then_some(frequency_of(seen))
        })
    }

    /// Has the processor fetch what [`Index::find`] will look at for each of these hashes. A
    /// look-up waits for memory twice, for the bucket and then for the item; of many look-ups at
    /// once, all wait together.
    pub(super) fn prefetch(&self, hashes: &[Hash], arena: &Arena, guard: &Guard) {
        self.prefetch_each(hashes, guard, |_, _, seen| {
            arena.prefetch(location_of(seen), KEY_LINES);
        });
    }

    /// Has the processor fetch all that a writer may look at to find a place for this hash.
    pub(super) fn prefetch_places(&self, hash: Hash, guard: &Guard) {
        for bucket in buckets(self.shard(hash).load(guard), hash.tag()) {
            prefetch(bucket);
        }
    }

    /// For each of these hashes an item that probably is the one, if there is any: its tag agrees,
    /// its key was not compared. As with [`Index::prefetch`], all of them wait for memory together.
    pub(super) fn candidates<'g>(
        &self,
        hashes: &[Hash],
        candidates: &mut [Option<Found<'g>>],
        arena: &'g Arena,
        guard: &'g Guard,
    ) {
        self.prefetch_each(hashes, guard, |number, slot, seen| {
            arena.prefetch(location_of(seen), HEADER_LINES);
            let item = self.item(location_of(seen), arena, guard);
            candidates[number] = Some(Found { item, slot: Slot(slot), seen });
        });
    }

    /// Prefetches the buckets of all hashes, then shows `found` the slot of each that probably is
    /// the one, with the hash's number and what the slot held.
    fn prefetch_each<'g>(
        &self,
        hashes: &[Hash],
        guard: &'g Guard,
        mut found: impl FnMut(usize, &'g AtomicU64, u64),
    ) {
        for &hash in hashes {
            // Nine of ten items lie in the first. To ask for more only keeps others waiting.
            if let Some(bucket) = buckets(self.shard(hash).load(guard), hash.tag()).next() {
                prefetch(bucket);
            }
        }
        for (number, &hash) in hashes.iter().enumerate() {
            let table = self.shard(hash).load(guard);
            if let Some((slot, seen)) = find_slot(table, hash, |slot, seen| Some((slot, seen))) {
                found(number, slot, seen);
            }
        }
    }

    /// Locks the shard of a hash for writing.
    pub(super) fn lock<'i>(&'i self, hash: Hash, guard: &'i Guard) -> Locked<'i> {
        let number = self.shard_number(hash);
        let shard = &self.shards[number];
        Locked { index: self, shard, guard, _lock: lock(self.lock_of(number)) }
    }

    /// Calls `visit` with every item in the index, until it breaks off. Writers wait, shard by
    /// shard.
    pub(super) fn for_each_item(
        &self,
        arena: &Arena,
        guard: &Guard,
        mut visit: impl FnMut(Item<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        for (number, shard) in self.shards.iter().enumerate() {
            let _lock = lock(self.lock_of(number));
            for slot in shard.load(guard).iter().flat_map(|bucket| &bucket.0) {
                let slot = slot.load(Ordering::Acquire);
                if slot & LIVE != 0 {
                    visit(self.item(location_of(slot), arena, guard))?;
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Calls `visit` with every item of one shard; `false` if there is no such shard. The items are
    /// those of one moment, under the lock; they are visited without it.
    pub(super) fn visit_shard(
        &self,
        number: usize,
        arena: &Arena,
        guard: &Guard,
        mut visit: impl FnMut(Item<'_>),
    ) -> bool {
        let Some(shard) = self.shards.get(number) else { return false };
        let lock = lock(self.lock_of(number));
        let slots = shard.load(guard).iter().flat_map(|bucket| &bucket.0);
        let slots = slots.map(|slot| slot.load(Ordering::Acquire));
        let items: Vec<_> = slots.filter(|slot| slot & LIVE != 0).map(location_of).collect();
        drop(lock);
        items.into_iter().for_each(|at| visit(self.item(at, arena, guard)));
        true
    }

    /// The number of shards.
    pub(super) fn shards(&self) -> usize {
        self.shards.len()
    }

    /// The number of slots in all tables.
    pub(super) fn slots(&self) -> usize {
        self.table_bytes() / size_of::<u64>()
    }

    fn shard(&self, hash: Hash) -> &Shard {
        &self.shards[self.shard_number(hash)]
    }

    fn shard_number(&self, hash: Hash) -> usize {
        usize::try_from(hash.0 >> self.shard_shift).expect("64-bit")
    }

    /// The lock of a shard, which it shares with others.
    fn lock_of(&self, shard_number: usize) -> &Mutex<()> {
        &self.locks[shard_number % self.locks.len()]
    }

    fn item<'g>(&self, at: Location, arena: &'g Arena, guard: &'g Guard) -> Item<'g> {
        debug_assert!(guard.collector() == Some(&self.collector));
        // SAFETY: a slot only ever names a published head of this arena: what `Locked::set` says,
        // or a copy of that. We loaded it with `Acquire` from a table that we reached under this
        // guard, so the head's segment is not used again before the guard is gone.
        unsafe { Item::new(arena, at) }
    }
}

impl Shard {
    /// The table as it is now.
    fn load<'g>(&self, guard: &'g Guard) -> &'g [Bucket] {
        let table = self.0.load(Ordering::Acquire, guard);
        if table.is_null() {
            return &[];
        }
        // SAFETY: a table is published whole, with its length in the pointer's tag, and is freed
        // only after the guard is gone.
        unsafe { slice::from_raw_parts(table.as_raw(), TABLE_BUCKETS[table.tag()]) }
    }
}

impl<'i> Locked<'i> {
    /// The slot that holds the key, and its item.
    pub(super) fn find(&self, hash: Hash, key: &[u8], arena: &'i Arena) -> Option<Found<'i>> {
        let table = self.shard.load(self.guard);
        find_slot(table, hash, |slot, seen| {
            let item = self.index.item(location_of(seen), arena, self.guard);
            (item.key() == key).then_some(Found { item, slot: Slot(slot), seen })
        })
    }

    /// The slot that holds this location.
    pub(super) fn find_location(&self, hash: Hash, at: Location) -> Option<Slot<'i>> {
        let table = self.shard.load(self.guard);
        find_slot(table, hash, |slot, seen| (location_of(seen) == at).then_some(Slot(slot)))
    }

    /// The ghost of a key that probably is the one: its tag agrees.
    pub(super) fn ghost(&self, hash: Hash) -> Option<(Slot<'i>, Stamp)> {
        let table = self.shard.load(self.guard);
        let slots = buckets(table, hash.tag()).flat_map(|bucket| &bucket.0);
        let seen = slots.map(|slot| (Slot(slot), slot.load(Ordering::Relaxed)));
        seen.filter(|(_, seen)| *seen != EMPTY)
            .find(|(_, seen)| seen >> LIVE_SHIFT == hash.tag() << 1)
            .map(|(slot, seen)| (slot, Stamp(seen & STAMP_MASK)))
    }

    /// A slot without an item for the hash, and how the table grew if it had to. As long as all
    /// tables take next to nothing of the memory, they grow before items have to make way: slots to
    /// spare hold ghosts.
    pub(super) fn vacancy(&self, hash: Hash, memory_bytes: usize) -> (Slot<'i>, Option<Resized>) {
        let table = self.shard.load(self.guard);
        let is_dense = self.index.table_bytes() > memory_bytes / DENSE_PART;
        let made = || is_dense.then(|| make_way(table, hash.tag())).flatten();
        if let Some(slot) = vacancy_in(table, hash.tag()).or_else(made) {
            return (Slot(slot), None);
        }
        let resized = self.grow(hash);
        let slot = vacancy_in(self.shard.load(self.guard), hash.tag());
        (Slot(slot.expect("the table grew until it had one")), Some(resized))
    }

    /// Publishes: readers see the item from here on.
    ///
    /// # Safety
    /// The slot came from this lock for this hash; `at` is a finished head, whose key has this
    /// hash, in the arena that belongs to this index, and its segment is handed to this index's
    /// epoch after the slot has changed again, not before.
    pub(super) unsafe fn set(&self, slot: Slot<'_>, hash: Hash, at: Location, frequency: u8) {
        slot.0.store(item_slot(hash.tag(), frequency, at), Ordering::Release);
    }

    /// Empties a slot: readers no longer see the item.
    pub(super) fn clear(&self, slot: Slot<'_>) {
        slot.0.store(EMPTY, Ordering::Release);
    }

    /// Empties a slot but for the ghost of what was there.
    pub(super) fn remember(&self, slot: Slot<'_>, hash: Hash, stamp: Stamp) {
        slot.0.store(ghost_slot(hash.tag(), stamp), Ordering::Release);
    }
}

impl Hash {
    fn tag(self) -> u64 {
        self.0 & ((1 << TAG_BITS) - 1)
    }
}

/// The first slot, home bucket first, that holds an item, carries the hash's tag, and that `accept`
/// takes with what it held. Gives what it made of it.
fn find_slot<'g, T>(
    table: &'g [Bucket],
    hash: Hash,
    mut accept: impl FnMut(&'g AtomicU64, u64) -> Option<T>,
) -> Option<T> {
    let wanted = hash.tag() << 1 | 1;
    for bucket in buckets(table, hash.tag()) {
        for slot in &bucket.0 {
            let seen = slot.load(Ordering::Acquire);
            if seen >> LIVE_SHIFT == wanted
                && let Some(accepted) = accept(slot, seen)
            {
                return Some(accepted);
            }
        }
    }
    None
}

/// A slot without an item in the first bucket of the window that has one.
fn vacancy_in(table: &[Bucket], tag: u64) -> Option<&AtomicU64> {
    buckets(table, tag).find_map(vacant)
}

/// A slot of the bucket without an item, empty or the oldest ghost.
fn vacant(bucket: &Bucket) -> Option<&AtomicU64> {
    let slots = bucket.0.iter().map(|slot| (slot, slot.load(Ordering::Relaxed)));
    let vacant = slots.filter(|(_, seen)| seen & LIVE == 0);
    vacant.min_by_key(|(_, seen)| seen & STAMP_MASK).map(|(slot, _)| slot)
}

/// The buckets in which a tag may lie: its home and those behind it, as many as there are.
fn buckets(table: &[Bucket], tag: u64) -> impl Iterator<Item = &Bucket> {
    window(table.len(), home(table.len(), tag), 0).map(|bucket| &table[bucket])
}

/// The numbers of the buckets in a window, all but the first `skipped` ones.
fn window(buckets: usize, home: usize, skipped: usize) -> impl Iterator<Item = usize> {
    (skipped..WINDOW_BUCKETS.min(buckets)).map(move |distance| {
        let bucket = home + distance;
        if bucket < buckets { bucket } else { bucket - buckets }
    })
}

fn home(buckets: usize, tag: u64) -> usize {
    usize::try_from((tag * buckets as u64) >> TAG_BITS).expect("64-bit")
}

/// With fewer, a table must grow while it is emptier; with more, who finds nothing has looked at
/// more.
const WINDOW_BUCKETS: usize = 4;

/// Tables of less than this part of the memory have slots to spare.
const DENSE_PART: usize = 48;

/// Where shards can have so much memory, their tables are of whole pages from the first on.
const SHARD_BYTES_FOR_PAGES: usize = 4 << 20;

/// Enough that two writers seldom want the same.
const LOCKS: usize = 1024;

const HASH_BITS: u32 = 64;
const TAG_BITS: u32 = 24;

// Shard bits and tag bits are different bits of the hash as long as there are at most 2^40 shards.
const _: () = assert!(TAG_SHIFT + TAG_BITS == HASH_BITS);
