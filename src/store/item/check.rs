//! What is known of entries that a file brings back: that their lengths keep within bounds, and
//! that they are as they were written.
//!
//! A segment's checksum covers all of its entries that does not change once they are written: key,
//! value, lengths, version, flags, kind. It goes on from entry to entry while the segment is being
//! filled, so it is complete at any moment but for the one entry that is being stored. Expiry,
//! access time, marks and links do change, and are not covered: a link is held to what the scan
//! found instead (`recover/chains.rs`).

use super::{
    FRAGMENT_BYTES, HEADER_BYTES, Item, MARK_CAS, MARK_DEAD, MARK_FETCHED, MARK_FLAGS,
    MARK_FRAGMENT, MARK_LEASED, MARK_SPLIT, MARK_STALE, NEXT, OWNER, SPLIT_BYTES, header_at,
    link_at, pad,
};
use crate::store::arena::{Arena, Location, SegmentId};
use crc32fast::Hasher;
use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::{ptr, slice};

/// An entry whose lengths are within bounds.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Checked {
    pub(in crate::store) at: Location,
    pub(in crate::store) kind: Kind,
    pub(in crate::store) is_dead: bool,
    /// What it takes, padding included.
    pub(in crate::store) bytes: usize,
    /// The same without the padding.
    content_bytes: usize,
    bits: u32,
    sequence: u32,
    value_bytes: u32,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Kind {
    /// An item in one piece.
    Whole,
    /// The head of a split item.
    Head,
    /// A fragment of one.
    Fragment,
}

/// The entry at `at`, if what lies there can be one and is over before `room` bytes are.
///
/// # Safety
/// At `at` lie `room` bytes of one segment, which can be touched, and which others change only as
/// the atomics of entries meanwhile.
pub(in crate::store) unsafe fn checked_entry(
    arena: &Arena,
    at: Location,
    room: usize,
) -> Option<Checked> {
    if room < HEADER_BYTES {
        return None;
    }
    // SAFETY: there is room for a header, at a multiple of 8 bytes, and any bits are one.
    let header = unsafe { header_at(arena, at) };
    let bits = header.bits.load(Ordering::Acquire);
    let sequence = header.sequence.load(Ordering::Relaxed);
    let value_bytes = header.value_bytes;
    let key_bytes = (bits >> super::KEY_SHIFT & 0xff) as usize;
    let kind = match (bits & MARK_FRAGMENT != 0, bits & MARK_SPLIT != 0) {
        (false, false) if key_bytes > 0 => Kind::Whole,
        (false, true) if key_bytes > 0 => Kind::Head,
        (true, false) if key_bytes == 0 && value_bytes > 0 => Kind::Fragment,
        _ => return None,
    };
    let options_bytes = (bits & (MARK_CAS | MARK_FLAGS)) as usize;
    let content_bytes = match kind {
        Kind::Whole => HEADER_BYTES + options_bytes + key_bytes + value_bytes as usize,
        Kind::Head => {
            if room < HEADER_BYTES + SPLIT_BYTES {
                return None;
            }
            // SAFETY: there is room for the word, which is aligned as the header is.
            let inline = unsafe { ptr::read(arena.pointer(at).add(HEADER_BYTES).cast::<u32>()) };
            if inline > value_bytes {
                return None;
            }
            HEADER_BYTES + SPLIT_BYTES + options_bytes + key_bytes + inline as usize
        }
        Kind::Fragment if options_bytes == 0 => FRAGMENT_BYTES + value_bytes as usize,
        Kind::Fragment => return None,
    };
    let bytes = pad(content_bytes);
    let is_dead = bits & MARK_DEAD != 0;
    let entry = Checked { at, kind, is_dead, bytes, content_bytes, bits, sequence, value_bytes };
    (bytes <= room).then_some(entry)
}

/// The checksum of a segment without entries. It depends on the segment and its use, so that what
/// is left of an earlier one does not fit.
pub(in crate::store) fn first_checksum(segment: SegmentId, opened: u64) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&segment.to_le_bytes());
    hasher.update(&opened.to_le_bytes());
    hasher.finalize()
}

/// Continues a segment's checksum over the entries from byte `from` to byte `to`.
///
/// # Safety
/// Written entries lie there, without gaps, and stay meanwhile.
pub(in crate::store) unsafe fn checksum(
    arena: &Arena,
    segment: SegmentId,
    from: usize,
    to: usize,
    sum: u32,
) -> u32 {
    let mut hasher = Hasher::new_with_initial(sum);
    let mut offset = from;
    while offset < to {
        let at = arena.location(segment, offset);
        // SAFETY: the entry was written, so its lengths are right, and it ends before `to`.
        unsafe {
            let entry = checked_entry(arena, at, to - offset).expect("a written entry");
            entry.add_to(&mut hasher, arena);
            offset += entry.bytes;
        }
    }
    hasher.finalize()
}

impl Checked {
    /// Continues a checksum over the entry.
    ///
    /// # Safety
    /// The entry is one that [`checked_entry`] found, and stays meanwhile.
    pub(in crate::store) unsafe fn add_to(&self, hasher: &mut Hasher, arena: &Arena) {
        let mut header = [0; 12];
        header[..4].copy_from_slice(&(self.bits & !MARKS_CHANGING).to_le_bytes());
        header[4..8].copy_from_slice(&self.sequence.to_le_bytes());
        header[8..].copy_from_slice(&self.value_bytes.to_le_bytes());
        hasher.update(&header);
        let start = match self.kind {
            Kind::Whole => HEADER_BYTES,
            Kind::Head => HEADER_BYTES + SPLIT_BYTES,
            Kind::Fragment => FRAGMENT_BYTES,
        };
        let base = arena.pointer(self.at);
        // SAFETY: within the entry; of a published entry these bytes do not change, and a draft's
        // are its owner's, who is here.
        unsafe {
            if self.kind != Kind::Whole {
                let word = slice::from_raw_parts(base.add(HEADER_BYTES), NEXT - HEADER_BYTES);
                hasher.update(word);
            }
            hasher.update(slice::from_raw_parts(base.add(start), self.content_bytes - start));
        }
    }
}

/// The fragments of a split item in their order, if they are all there: among the `known`, alive,
/// of the right numbers, lengths and owners. (A head that was being moved when the process ended is
/// there twice, and each may own some of the fragments.)
///
/// # Safety
/// `head` is a head, and all that are `known` are fragments, that [`checked_entry`] found and that
/// stay.
pub(in crate::store) unsafe fn fragments_of(
    arena: &Arena,
    head: Location,
    owners: &[Location],
    known: &HashSet<Location>,
) -> Option<Vec<Location>> {
    // SAFETY: only entries that were found are looked at; a head and a fragment have the links.
    unsafe {
        let item = Item::new(arena, head);
        let (inline, mut next) = item.inline_and_next();
        let mut left = item.value_bytes() - inline;
        let mut fragments = Vec::new();
        while left > 0 {
            let fragment = known.get(&next).copied()?;
            let header = header_at(arena, fragment);
            let bytes = header.value_bytes as usize;
            let number = ptr::read(arena.pointer(fragment).add(HEADER_BYTES).cast::<u32>());
            let owner = Location(link_at(arena, fragment, OWNER).load(Ordering::Relaxed));
            let is_dead = header.bits.load(Ordering::Relaxed) & MARK_DEAD != 0;
            let is_next = number as usize == fragments.len() && owners.contains(&owner);
            if is_dead || !is_next || bytes > left {
                return None;
            }
            left -= bytes;
            fragments.push(fragment);
            next = Location(link_at(arena, fragment, NEXT).load(Ordering::Relaxed));
        }
        (next == Location::NONE).then_some(fragments)
    }
}

/// Makes a head the owner of a fragment.
///
/// # Safety
/// `fragment` is a fragment that [`checked_entry`] found and that stays.
pub(in crate::store) unsafe fn set_owner(arena: &Arena, fragment: Location, owner: Location) {
    // SAFETY: the caller's promise.
    unsafe { link_at(arena, fragment, OWNER) }.store(owner.0, Ordering::Release);
}

/// Marks that an item is given and loses after it was published.
const MARKS_CHANGING: u32 = MARK_DEAD | MARK_FETCHED | MARK_STALE | MARK_LEASED;
