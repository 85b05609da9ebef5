//! Tables that grow with what is in them, and shrink when the memory limit does.
//!
//! A shard is small (some thousands of items), so it grows by copying its whole table, an eighth
//! larger, and swapping the pointer; the tag is all that this needs, no item is touched. Readers
//! that still hold the old table see the shard as it was when they began. The old table is freed
//! when they have gone (`tables.rs`). A step of an eighth, and no power of two, keeps tables full,
//! and so does making way: 11 to 12 bytes an item, with 88 of 100 in their home bucket, and hardly
//! more when keys have come and gone for long (simulated with random tags, and 700 to 3000 items a
//! shard that are replaced one and a half times over).
//!
//! When the limit shrinks, what is evicted leaves tables that are too large. They are copied into
//! smaller ones in the same way (`shrink.rs`): else a small limit would be all index.

use super::super::tables::{Bucket, PAGE_CLASS, TABLE_BUCKETS};
use super::slot::{EMPTY, LIVE, TAG_SHIFT};
use super::{Hash, Index, Locked, vacancy_in};
use crate::sync::{Ordering, lock};
use crossbeam_epoch::{Guard, Shared};
use std::ops::Range;
use std::slice;
use std::sync::Arc;

/// How a table's size changed.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Resized {
    pub(in crate::store) bytes_added: usize,
    pub(in crate::store) bytes_removed: usize,
}

impl Index {
    /// Gives a shard's table the size that its items need now, if that is much less. Returns how it
    /// shrank.
    pub(in crate::store) fn shrink_shard(&self, number: usize, guard: &Guard) -> Option<Resized> {
        let (shard, lock) = (&self.shards[number], lock(self.lock_of(number)));
        Locked { index: self, shard, guard, _lock: lock }.shrink()
    }
}

impl Locked<'_> {
    /// Copies the table into the next larger one in which every item and one more of this hash
    /// finds a place.
    pub(super) fn grow(&self, hash: Hash) -> Resized {
        let old = self.shard.0.load(Ordering::Relaxed, self.guard);
        let first_class = if old.is_null() { self.index.first_class } else { old.tag() + 1 };
        let has_vacancy = |table: &[Bucket]| vacancy_in(table, hash.tag()).is_some();
        // The number of shards follows from the memory, so that a shard's share of the smallest
        // items is a twentieth of the largest table's.
        self.resize(first_class..TABLE_BUCKETS.len(), has_vacancy)
            .expect("a shard holds no more items than its memory can")
    }

    /// Copies the table into a smaller one, if it is much too large for its items.
    fn shrink(&self) -> Option<Resized> {
        let old = self.shard.0.load(Ordering::Relaxed, self.guard);
        let slots = self.shard.load(self.guard).iter().flat_map(|bucket| &bucket.0);
        let items = slots.filter(|slot| slot.load(Ordering::Relaxed) & LIVE != 0).count();
        let first_class = class_for(items as u64).max(self.index.first_class.min(PAGE_CLASS));
        // What is hardly smaller would soon have to grow again.
        self.resize(first_class..old.tag().checked_sub(1)?, |_| true)
    }

    /// Copies the table into the first of these classes in which every item finds a place, and that
    /// will `do`.
    fn resize(
        &self,
        classes: Range<usize>,
        will_do: impl Fn(&[Bucket]) -> bool,
    ) -> Option<Resized> {
        let old = self.shard.0.load(Ordering::Relaxed, self.guard);
        let old_buckets = self.shard.load(self.guard);
        let memory = &self.index.memory;
        for class in classes {
            let place = memory.allocate(class);
            // SAFETY: the table is ours and of this class.
            let new = unsafe { slice::from_raw_parts(place, TABLE_BUCKETS[class]) };
            if !copy_slots(old_buckets, new) || !will_do(new) {
                // SAFETY: nobody else has seen it.
                unsafe { memory.release(place, class) };
                continue;
            }
            let resized =
                Resized { bytes_added: size_of_val(new), bytes_removed: size_of_val(old_buckets) };
            let new = Shared::from(place.cast_const());
            self.shard.0.store(new.with_tag(class), Ordering::Release);
            self.index.table_bytes.fetch_add(resized.bytes_added, Ordering::Relaxed);
            self.index.table_bytes.fetch_sub(resized.bytes_removed, Ordering::Relaxed);
            if !old.is_null() {
                let (memory, place, class) = (Arc::clone(memory), old.as_raw(), old.tag());
                // SAFETY: the old table was replaced just now, under the shard's lock, so no later
                // load returns it; readers that hold it are pinned. It came from this memory.
                unsafe {
                    let release = move || memory.release(place.cast_mut(), class);
                    self.guard.defer_unchecked(release);
                }
                // Else dozens of them would wait in this thread's own list until that is full.
                self.guard.flush();
            }
            return Some(resized);
        }
        None
    }
}

/// The class of tables that are about as full with so many items as those that grew.
pub(super) fn class_for(items: u64) -> usize {
    let slots = usize::try_from(items / 7 * SLOTS_PER_7_ITEMS).unwrap_or(usize::MAX);
    let fits = TABLE_BUCKETS.partition_point(|&buckets| buckets < slots / SLOTS_PER_BUCKET);
    fits.min(TABLE_BUCKETS.len() - 1)
}

/// Whether all of the old table's items found a place in the new one. Ghosts get what is left.
fn copy_slots(old: &[Bucket], new: &[Bucket]) -> bool {
    let slots = || old.iter().flat_map(|bucket| &bucket.0).map(|slot| slot.load(Ordering::Relaxed));
    for value in slots().filter(|value| value & LIVE != 0) {
        let Some(vacancy) = vacancy_in(new, value >> TAG_SHIFT) else { return false };
        vacancy.store(value, Ordering::Relaxed);
    }
    for value in slots().filter(|value| value & LIVE == 0 && *value != EMPTY) {
        if let Some(vacancy) = vacancy_in(new, value >> TAG_SHIFT)
            && vacancy.load(Ordering::Relaxed) == EMPTY
        {
            vacancy.store(value, Ordering::Relaxed);
        }
    }
    true
}

/// As tables have on average, or a little less: there will be more items.
const SLOTS_PER_7_ITEMS: u64 = 10;
const SLOTS_PER_BUCKET: usize = 8;
