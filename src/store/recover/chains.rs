//! Items of several entries: which of them are whole.
//!
//! A link is the one thing of an entry that no checksum covers, since moving entries changes it. So
//! it is not followed where it leads, but looked up among the fragments that the scan found.

use crate::store::arena::{Arena, Location};
use crate::store::item::{self, Item};
use std::collections::HashSet;

/// Marks everything dead that is not part of a whole item, and returns what that was. A head that
/// is there twice, because it was being moved, is left once.
///
/// # Safety
/// `heads` are heads of split items and `fragments` are fragments, all found by
/// [`item::checked_entry`] and alive; nobody else changes them meanwhile.
pub(super) unsafe fn settle(
    arena: &Arena,
    heads: &mut [Location],
    fragments: impl IntoIterator<Item = Location>,
) -> Vec<Location> {
    let mut unclaimed: HashSet<Location> = fragments.into_iter().collect();
    let mut dropped = Vec::new();
    // SAFETY: all of these are heads that were found.
    let version = |head: &Location| unsafe { Item::new(arena, *head) }.version();
    heads.sort_by_key(version);
    for same in heads.chunk_by(|one, other| version(one) == version(other)) {
        for &head in same {
            // SAFETY: as above, and `unclaimed` are fragments that were found.
            let whole = unsafe { item::fragments_of(arena, head, same, &unclaimed) };
            if whole.is_none() {
                dropped.push(head);
            }
            for fragment in whole.into_iter().flatten() {
                unclaimed.remove(&fragment);
                // SAFETY: it is one of those that were found.
                unsafe { item::set_owner(arena, fragment, head) };
            }
        }
    }
    dropped.extend(unclaimed);
    for &at in &dropped {
        // SAFETY: all of these were found.
        unsafe { item::mark_entry_dead(arena, at) };
    }
    dropped
}
