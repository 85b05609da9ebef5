//! Everything that changes what a key names: publishing, removing, touching, evicting, moving. Each
//! is one transition of one slot under its shard's lock, and whoever makes it buries what was there
//! before.

use super::append::Allocation;
use super::arena::{Location, SegmentId};
use super::index::{Found, Hash, Locked, Slot, Stamp};
use super::item::{self, Entry, Item};
use super::policy;
use super::segment::Space;
use super::{Amendment, Expected, Expiry, Marks, Removal, Store, Traits, Witness};
use crate::clock::Seconds;
use crossbeam_epoch::Guard;

/// What one writer brings to a change: its guard, its moment, its counters.
pub(super) struct Change<'a> {
    pub(super) store: &'a Store,
    pub(super) guard: &'a Guard,
    pub(super) now: Seconds,
    pub(super) counters: &'a super::Counters,
}

/// The key is not as expected.
pub(super) struct Unexpected;

impl<'a> Change<'a> {
    /// Makes a filled draft its key's item and returns its cas.
    pub(super) fn publish(
        &self,
        hash: Hash,
        draft: &Allocation,
        traits: &Traits,
        expected: Expected,
    ) -> Result<u64, Unexpected> {
        let space = &self.store.space;
        let item = draft.item(space);
        let locked = self.store.index.lock(hash, self.guard);
        let found = locked.find(hash, item.key(), &space.arena);
        let old = found.map(|found| found.item);
        // Taken under the lock, so that a key's versions grow in the order in which they are seen;
        // and before the check, so that a flush either is seen by it or kills what is published
        // here (`Store::flush_now`).
        let sequence = self.store.versions.0.next(self.store.file.as_ref());
        if !self.is_as_expected(old, expected) {
            return Err(Unexpected);
        }
        let (slot, frequency) = match found {
            Some(Found { slot, item, .. }) => {
                (slot, policy::overwritten(space.queue_of(item.location()), slot.frequency()))
            }
            None => {
                let (slot, remembered) = self.vacancy(&locked, hash);
                let bytes = item.value_bytes() as u64;
                (slot, policy::stored(bytes, space.bytes_allowed()).max(remembered))
            }
        };
        // What is inherited is read under the lock, like whatever changes it: nothing is lost.
        let expiry = match traits.expiry {
            Expiry::At(expiry) => expiry,
            Expiry::Inherit => old.map_or(0, |old| old.expiry()),
        };
        let inherited = old.map_or(0, |old| old.marks() & traits.marks.inherited());
        let access = match old {
            // To mark an item is not to use it.
            Some(old) if traits.marks == Marks::Invalidated => old.last_access(),
            _ => self.now,
        };
        item.finish(sequence, expiry, access, traits.marks.given() | inherited);
        // SAFETY: the slot is of this lock and hash; the item is finished and of this store's
        // arena; segments are retired only when nothing in the index names them (`bury`,
        // `Clearing::clear`).
        unsafe { locked.set(slot, hash, item.location(), frequency) };
        // Under the lock: whoever finds the new one there, and ends it, must not leave this alive.
        if let Some(old) = old {
            old.mark_dead();
        }
        drop(locked);
        self.counters.stored.add(1);
        self.counters.items.add(1);
        self.counters.item_bytes.add(draft.bytes as u64);
        if let Some(old) = old {
            self.bury(old);
        }
        Ok(item.cas())
    }

    /// Has an item live on with `copy` in the place of one of its entries, and with this frequency
    /// if that is its head; `false` if it is not its key's item any more.
    pub(super) fn move_entry(
        &self,
        hash: Hash,
        item: Item<'_>,
        entry: &Entry,
        copy: Location,
        frequency: u8,
    ) -> bool {
        let space = &self.store.space;
        let locked = self.store.index.lock(hash, self.guard);
        let Some(slot) = locked.find_location(hash, item.location()) else { return false };
        if entry.at == item.location() {
            // SAFETY: `copy` is a copy of the head, in memory that nobody but this thread knows.
            let head = unsafe { Item::new(&space.arena, copy) };
            head.become_head(item);
            // SAFETY: as in `publish`.
            unsafe { locked.set(slot, hash, copy, frequency) };
        } else {
            item.relink(entry.at, copy);
        }
        // SAFETY: the entry lies in the segment that this thread is clearing, pinned.
        unsafe { item::mark_entry_dead(&space.arena, entry.at) };
        drop(locked);
        if space.remove_live(entry.at, entry.bytes) {
            self.retire(space.arena.segment_of(entry.at));
        }
        true
    }

    /// Removes a key.
    pub(super) fn remove(&self, key: &[u8], expected: Expected) -> Removal {
        let hash = self.store.index.hash(key);
        let locked = self.store.index.lock(hash, self.guard);
        let found = locked.find(hash, key, &self.store.space.arena);
        if !self.is_as_expected(found.map(|found| found.item), expected) {
            return Removal::Changed;
        }
        let Some(Found { slot, item, .. }) = found else { return Removal::Missing };
        locked.clear(slot);
        item.mark_dead();
        drop(locked);
        let was_live = self.store.is_live(&item, self.now);
        self.bury(item);
        if was_live { Removal::Removed } else { Removal::Missing }
    }

    /// Sets the expiry of a key's item if it is live, and gives the item that was touched.
    pub(super) fn touch(&self, hash: Hash, key: &[u8], expiry: Seconds) -> Option<Item<'a>> {
        let locked = self.store.index.lock(hash, self.guard);
        let found = locked.find(hash, key, &self.store.space.arena)?;
        let item = found.item;
        if !self.store.is_live(&item, self.now) {
            return None;
        }
        found.count_use();
        item.set_expiry(expiry);
        self.store.space.note_expiry(item.location(), expiry);
        Some(item)
    }

    /// Changes in place what may be changed of a live item. Says whether it gave the lease.
    pub(super) fn amend(
        &self,
        key: &[u8],
        witness: Witness,
        amendment: Amendment,
    ) -> Result<bool, Unexpected> {
        let hash = self.store.index.hash(key);
        let locked = self.store.index.lock(hash, self.guard);
        let found = locked.find(hash, key, &self.store.space.arena).ok_or(Unexpected)?;
        let item = found.item;
        if Witness::of(Some(item)) != witness || !self.store.is_live(&item, self.now) {
            return Err(Unexpected);
        }
        if let Some(expiry) = amendment.expiry {
            item.set_expiry(expiry);
            self.store.space.note_expiry(item.location(), expiry);
        }
        Ok(amendment.lease && item.take_lease())
    }

    /// Takes an item out of the index, if it is still there, and leaves a ghost if there is a stamp
    /// for it. Returns whether it was.
    pub(super) fn drop_item(&self, hash: Hash, item: Item<'_>, ghost: Option<Stamp>) -> bool {
        self.drop_item_if(hash, item, ghost, || true)
    }

    /// Takes an item out of the index, if it is still there and not live. That is asked again under
    /// the lock: a touch from a batch of a moment ago may have prolonged it.
    pub(super) fn drop_dead(&self, hash: Hash, item: Item<'_>) -> bool {
        self.drop_item_if(hash, item, None, || !self.store.is_live(&item, self.now))
    }

    fn drop_item_if(
        &self,
        hash: Hash,
        item: Item<'_>,
        ghost: Option<Stamp>,
        condition: impl Fn() -> bool,
    ) -> bool {
        let locked = self.store.index.lock(hash, self.guard);
        let Some(slot) = locked.find_location(hash, item.location()) else { return false };
        if !condition() {
            return false;
        }
        match ghost {
            Some(stamp) => locked.remember(slot, hash, stamp),
            None => locked.clear(slot),
        }
        item.mark_dead();
        drop(locked);
        self.bury(item);
        true
    }

    /// Hands a retired segment to the epoch.
    pub(super) fn retire(&self, segment: SegmentId) {
        self.store.space.free_after_readers(segment, self.guard);
    }

    /// Ends an item that this thread took out of the index: counts its bytes as dead. It marked it
    /// dead in place before it let go of the key's lock, so that the arena never brings it back.
    fn bury(&self, item: Item<'_>) {
        let mut bytes = 0;
        for (at, entry_bytes) in item.entries() {
            bytes += entry_bytes as u64;
            if self.store.space.remove_live(at, entry_bytes) {
                self.retire(self.store.space.arena.segment_of(at));
            }
        }
        self.counters.items.sub(1);
        self.counters.item_bytes.sub(bytes);
        if self.store.is_flushed(&item) {
            self.counters.flushed_items.add(1);
            self.counters.flushed_bytes.add(bytes);
        }
    }

    /// The shard is locked.
    fn is_as_expected(&self, found: Option<Item<'_>>, expected: Expected) -> bool {
        match expected {
            Expected::Any => true,
            Expected::Unchanged(witness) => {
                witness == Witness::of(found.filter(|item| self.store.is_live(item, self.now)))
            }
        }
    }

    /// A slot for a key that has none, and the frequency that its ghost gives it.
    fn vacancy<'l>(&self, locked: &Locked<'l>, hash: Hash) -> (Slot<'l>, u8) {
        if let Some((slot, stamp)) = locked.ghost(hash)
            && self.store.is_remembered(stamp)
        {
            return (slot, policy::ADMITTED);
        }
        (vacant_slot(locked, &self.store.space, hash), 0)
    }
}

/// A slot for a key that has none. What the index grows by is taken from the budget.
pub(super) fn vacant_slot<'l>(locked: &Locked<'l>, space: &Space, hash: Hash) -> Slot<'l> {
    let (slot, resized) = locked.vacancy(hash, space.memory_bytes());
    if let Some(resized) = resized {
        space.index_resized(resized);
    }
    slot
}
