//! The first look at the segments of a file: which hold what they say, and what in them lives.
//!
//! Nothing that is read here is believed before it was checked, and nothing is changed in a segment
//! before its checksum was found right. Behind what the checksum covers there may be one entry
//! more, which was being stored when the process ended; of that only the lengths are checked.

use crate::clock::Seconds;
use crate::store::arena::{Arena, FIRST_ENTRY, Label, Location, SegmentId};
use crate::store::item::{self, Checked, Item, Kind, checked_entry};
use crc32fast::Hasher;

/// What counts as dead, besides what is marked so.
#[derive(Clone, Copy, Debug)]
pub(super) struct Horizon {
    /// No item can have a version above this.
    pub(super) ceiling: u64,
    /// Items up to this version were flushed.
    pub(super) flushed: u64,
    /// Items that end up to this second are over.
    pub(super) over_at: Seconds,
}

/// What a segment was found to be.
#[derive(Debug)]
pub(super) enum Scanned {
    /// It holds nothing.
    Free,
    /// It cannot be trusted.
    Damaged,
    /// It holds entries.
    Sound(Survivors),
}

/// The live entries of a segment.
#[derive(Debug)]
pub(super) struct Survivors {
    pub(super) segment: SegmentId,
    pub(super) label: Label,
    /// Where its last entry ends.
    pub(super) end: usize,
    pub(super) live_bytes: usize,
    /// Items whose heads are here.
    pub(super) items: u64,
    /// Items that were over, and are marked dead now.
    pub(super) over: u64,
    /// When the first item ends.
    pub(super) first_expiry: Seconds,
    /// Heads of split items.
    pub(super) heads: Vec<Location>,
    pub(super) fragments: Vec<Location>,
}

/// Looks through a segment, and marks what is over as dead.
///
/// # Safety
/// The segment lies in the file, and nobody else changes it meanwhile.
pub(super) unsafe fn scan(arena: &Arena, segment: SegmentId, horizon: &Horizon) -> Scanned {
    // SAFETY: the caller's promise covers the header and everything behind it, to the segment's
    // end; entries are looked at where others end, so at multiples of 8 bytes, and where they were
    // found.
    unsafe {
        if arena.is_hole(segment) {
            return Scanned::Free;
        }
        let Some(label) = arena.label(segment) else { return Scanned::Free };
        let (used_bytes, sum) = arena.progress(segment);
        let is_possible = used_bytes.is_multiple_of(8)
            && (FIRST_ENTRY..=arena.segment_bytes()).contains(&used_bytes);
        if !is_possible || label.opened > OPENED_MAX {
            return Scanned::Damaged;
        }
        let mut survivors = Survivors::none(segment, label);
        let mut over = Vec::new();
        let mut hasher = Hasher::new_with_initial(item::first_checksum(segment, label.opened));
        survivors.pass(arena, used_bytes, horizon, &mut hasher, &mut over);
        if survivors.end != used_bytes || hasher.clone().finalize() != sum {
            return Scanned::Damaged;
        }
        let written = arena.written_bytes(segment);
        if let Some(end) = written.filter(|end| (used_bytes..=arena.segment_bytes()).contains(end))
        {
            survivors.pass(arena, end, horizon, &mut hasher, &mut over);
        }
        arena.set_progress(segment, survivors.end, hasher.finalize());
        arena.set_written(segment, survivors.end);
        for at in over {
            item::mark_entry_dead(arena, at);
        }
        Scanned::Sound(survivors)
    }
}

impl Survivors {
    fn none(segment: SegmentId, label: Label) -> Self {
        Self {
            segment,
            label,
            end: FIRST_ENTRY,
            live_bytes: 0,
            items: 0,
            over: 0,
            first_expiry: Seconds::MAX,
            heads: Vec::new(),
            fragments: Vec::new(),
        }
    }

    /// Goes on from entry to entry as far as `to`, or to the first that is none.
    ///
    /// # Safety
    /// As for [`scan`]; `to` lies within the segment.
    unsafe fn pass(
        &mut self,
        arena: &Arena,
        to: usize,
        horizon: &Horizon,
        hasher: &mut Hasher,
        over: &mut Vec<Location>,
    ) {
        while self.end < to {
            let at = arena.location(self.segment, self.end);
            // SAFETY: the caller's promise, as far as `to`.
            let entry = unsafe { checked_entry(arena, at, to - self.end) };
            let Some(entry) = entry else { return };
            // SAFETY: it was found just now.
            unsafe { entry.add_to(hasher, arena) };
            self.end += entry.bytes;
            if !entry.is_dead {
                // SAFETY: as above.
                unsafe { self.note(arena, &entry, horizon, over) };
            }
        }
    }

    /// # Safety
    /// The entry was found by [`checked_entry`] and stays.
    unsafe fn note(
        &mut self,
        arena: &Arena,
        entry: &Checked,
        horizon: &Horizon,
        over: &mut Vec<Location>,
    ) {
        if entry.kind == Kind::Fragment {
            self.fragments.push(entry.at);
            self.live_bytes += entry.bytes;
            return;
        }
        // SAFETY: it is a head whose lengths are right; nothing else is asked of it.
        let item = unsafe { Item::new(arena, entry.at) };
        let (version, expiry) = (item.version(), item.expiry());
        let is_timely = expiry == 0 || expiry > horizon.over_at;
        if version <= horizon.flushed || version > horizon.ceiling || !is_timely {
            self.over += 1;
            over.push(entry.at);
            return;
        }
        self.items += 1;
        self.live_bytes += entry.bytes;
        if expiry != 0 {
            self.first_expiry = self.first_expiry.min(expiry);
        }
        if entry.kind == Kind::Head {
            self.heads.push(entry.at);
        }
    }
}

/// More often than that no segment was ever opened.
const OPENED_MAX: u64 = 1 << 60;
