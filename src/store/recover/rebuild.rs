//! The index of what was found. Of two items of a key, which there are if the process ended between
//! publishing one and marking the other dead, the newer one stays.

use crate::store::arena::FIRST_ENTRY;
use crate::store::change::vacant_slot;
use crate::store::index::{Hash, Index};
use crate::store::item::{Item, Kind, checked_entry};
use crate::store::policy;
use crate::store::segment::{Restored, Space};
use crossbeam_epoch::Guard;

/// Puts the items of a segment into the index. Returns how many there are more, which may be less
/// than none.
///
/// # Safety
/// The segment was scanned, and what is alive in it is whole; nobody changes the arena meanwhile
/// but by this function.
pub(super) unsafe fn index_segment(index: &Index, space: &Space, found: &Restored) -> i64 {
    let reader = index.register();
    let arena = &space.arena;
    let mut items: Vec<(Hash, Item<'_>)> = Vec::with_capacity(ITEMS_AT_A_TIME);
    let mut added = 0;
    let mut offset = FIRST_ENTRY;
    while offset < found.end {
        let guard = reader.pin();
        while offset < found.end && items.len() < ITEMS_AT_A_TIME {
            let at = arena.location(found.segment, offset);
            // SAFETY: entries follow one another up to the end, as the scan has found; a head that
            // was found is an item.
            let (entry, item) = unsafe {
                let entry = checked_entry(arena, at, found.end - offset);
                (entry.expect("it was there before"), Item::new(arena, at))
            };
            offset += entry.bytes;
            if !entry.is_dead && entry.kind != Kind::Fragment {
                let hash = index.hash(item.key());
                index.prefetch_places(hash, &guard);
                items.push((hash, item));
            }
        }
        for (hash, item) in items.drain(..) {
            // SAFETY: the item is whole, and found in this arena.
            added += unsafe { insert(index, space, hash, item, &guard) };
        }
    }
    added
}

/// # Safety
/// As for [`index_segment`]; the item is one that it found.
unsafe fn insert(index: &Index, space: &Space, hash: Hash, item: Item<'_>, guard: &Guard) -> i64 {
    let locked = index.lock(hash, guard);
    let frequency = if item.is_fetched() { policy::ADMITTED } else { 0 };
    let found = locked.find(hash, item.key(), &space.arena);
    // Copies of one version are the same, and either will do.
    if let Some(other) = found.map(|found| found.item)
        && other.version() >= item.version()
    {
        bury(space, item);
        return 0;
    }
    let slot = found.map_or_else(|| vacant_slot(&locked, space, hash), |found| found.slot);
    // SAFETY: the slot is of this lock and hash; the item is whole and of the arena of this index.
    unsafe { locked.set(slot, hash, item.location(), frequency) };
    match found {
        Some(other) => {
            bury(space, other.item);
            0
        }
        None => 1,
    }
}

/// Marks an item dead, so that it is not found again, and counts it so.
fn bury(space: &Space, item: Item<'_>) {
    item.mark_dead();
    for (at, bytes) in item.entries() {
        let is_retired = space.remove_live(at, bytes);
        debug_assert!(!is_retired, "no segment is in use yet");
    }
}

/// Looked for side by side in memory: the first has arrived when the last was asked for.
const ITEMS_AT_A_TIME: usize = 32;
