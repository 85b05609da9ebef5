//! Entries, heads and fragments alike, one by one: how they are written while they are a draft's,
//! walked over, copied and marked dead.

use super::super::arena::{Arena, Location};
use super::{
    CAS_BYTES, FLAGS_BYTES, FRAGMENT_BYTES, HEADER_BYTES, Header, Item, KEY_SHIFT, MARK_CAS,
    MARK_DEAD, MARK_FLAGS, MARK_FRAGMENT, MARK_SPLIT, NEXT, OWNER, SPLIT_BYTES, Shape,
    fragment_parts, header_at, link_at, pad,
};
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What the walk over a segment meets.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Entry {
    pub(in crate::store) at: Location,
    pub(in crate::store) bytes: usize,
    /// The item's head: this entry, or the owner of this fragment.
    pub(in crate::store) head: Location,
    pub(in crate::store) is_dead: bool,
}

/// Writes the head of a draft at `at` and returns where its part of the value begins, as an offset
/// from `at`. `inline` is what it holds of the value if the item is split.
///
/// # Safety
/// The caller owns the bytes of the entry (`shape.head_bytes` plus the inline value, padded), which
/// lie within one segment.
pub(in crate::store) unsafe fn write_head(
    arena: &Arena,
    at: Location,
    shape: &Shape,
    key: &[u8],
    inline: Option<usize>,
) -> usize {
    let mut marks = MARK_DEAD;
    let mut position = HEADER_BYTES;
    let base = arena.pointer(at);
    // SAFETY: all writes below stay within `head_bytes` of `base`, which the caller owns; `base` is
    // 8-byte aligned.
    unsafe {
        if let Some(inline) = inline {
            marks |= MARK_SPLIT;
            let inline = u32::try_from(inline).expect("a segment is smaller than 4 GiB");
            ptr::write(base.add(position).cast::<u32>(), inline);
            ptr::write(base.add(NEXT).cast::<AtomicU64>(), AtomicU64::new(0));
            position += SPLIT_BYTES;
        }
        if let Some(cas) = shape.cas {
            marks |= MARK_CAS;
            ptr::write_unaligned(base.add(position).cast::<u64>(), cas);
            position += CAS_BYTES;
        }
        if shape.flags != 0 {
            marks |= MARK_FLAGS;
            ptr::write(base.add(position).cast::<u32>(), shape.flags);
            position += FLAGS_BYTES;
        }
        write_header(base, marks, key.len(), shape.value_bytes);
        ptr::copy_nonoverlapping(key.as_ptr(), base.add(position), key.len());
    }
    position + key.len()
}

/// Writes a fragment of a draft.
///
/// # Safety
/// The caller owns [`FRAGMENT_BYTES`] plus `bytes`, padded, at `at`, within one segment.
pub(in crate::store) unsafe fn write_fragment(
    arena: &Arena,
    at: Location,
    bytes: usize,
    owner: Location,
    number: u32,
) {
    let base = arena.pointer(at);
    // SAFETY: within the bytes that the caller owns; `base` is 8-byte aligned and so are the two
    // words.
    unsafe {
        write_header(base, MARK_DEAD | MARK_FRAGMENT, 0, bytes);
        ptr::write(base.add(HEADER_BYTES).cast::<u32>(), number);
        ptr::write(base.add(NEXT).cast::<AtomicU64>(), AtomicU64::new(0));
        ptr::write(base.add(OWNER).cast::<AtomicU64>(), AtomicU64::new(owner.0));
    }
}

/// Makes `next` the fragment that follows the draft's entry `at`.
///
/// # Safety
/// `at` is a split head or a fragment of a draft that the caller owns.
pub(in crate::store) unsafe fn link(arena: &Arena, at: Location, next: Location) {
    // SAFETY: the caller owns the entry, and it is of a kind that has the word.
    unsafe { link_at(arena, at, NEXT).store(next.0, Ordering::Relaxed) };
}

/// Copies a whole entry, head or fragment. The copy is marked dead until it takes the original's
/// place.
///
/// # Safety
/// A written entry of `bytes` bytes lies at `from` and stays there meanwhile; nobody moves entries
/// but the caller, who owns as many bytes at `to`.
pub(in crate::store) unsafe fn copy_entry(
    arena: &Arena,
    from: Location,
    to: Location,
    bytes: usize,
) {
    // SAFETY: the header's fields that others may write are read as the atomics they are; what
    // follows the header does not change but for the links, which only the one who moves entries
    // changes.
    unsafe {
        let original = header_at(arena, from);
        let copied = Header {
            expiry: AtomicU32::new(original.expiry.load(Ordering::Relaxed)),
            access: AtomicU32::new(original.access.load(Ordering::Relaxed)),
            bits: AtomicU32::new(original.bits.load(Ordering::Relaxed) | MARK_DEAD),
            sequence: AtomicU32::new(original.sequence.load(Ordering::Relaxed)),
            value_bytes: original.value_bytes,
        };
        ptr::write(arena.pointer(to).cast::<Header>(), copied);
        ptr::copy_nonoverlapping(
            arena.pointer(from).add(HEADER_BYTES).cast_const(),
            arena.pointer(to).add(HEADER_BYTES),
            bytes - HEADER_BYTES,
        );
    }
}

/// Marks one entry dead that was moved, or whose item is gone.
///
/// # Safety
/// A written entry lies at `at` and stays there meanwhile.
pub(in crate::store) unsafe fn mark_entry_dead(arena: &Arena, at: Location) {
    // SAFETY: the caller's promise; an entry begins with a header.
    let header = unsafe { header_at(arena, at) };
    // A mark of use that comes in between is lost with the item. With `entry_at`: who sees a head
    // dead comes after the marking of its fragments.
    header.bits.store(header.bits.load(Ordering::Relaxed) | MARK_DEAD, Ordering::Release);
}

/// Copies `bytes` into a draft's entry.
///
/// # Safety
/// The caller owns the entry, and `offset + bytes.len()` lies within it.
pub(in crate::store) unsafe fn write_value(
    arena: &Arena,
    at: Location,
    offset: usize,
    bytes: &[u8],
) {
    // SAFETY: the target is the caller's alone, so it cannot overlap a borrowed source.
    unsafe {
        ptr::copy_nonoverlapping(bytes.as_ptr(), arena.pointer(at).add(offset), bytes.len());
    }
}

/// The fragment that follows the entry `at` of a draft, and how much of the value it holds.
///
/// # Safety
/// `at` is a split head or a fragment of a draft that the caller owns, and a fragment follows it.
pub(in crate::store) unsafe fn following(arena: &Arena, at: Location) -> (Location, usize) {
    // SAFETY: the caller's promise; the marks tell a head from a fragment.
    unsafe {
        let marks = header_at(arena, at).bits.load(Ordering::Relaxed);
        let next = if marks & MARK_FRAGMENT != 0 {
            fragment_parts(arena, at).1
        } else {
            Item::new(arena, at).inline_and_next().1
        };
        debug_assert_ne!(next, Location::NONE);
        (next, fragment_parts(arena, next).0.len())
    }
}

/// The entry at `at`, for a walk from entry to entry.
///
/// # Safety
/// A written entry begins at `at`, in a segment that is not used again meanwhile.
pub(in crate::store) unsafe fn entry_at(arena: &Arena, at: Location) -> Entry {
    // SAFETY: the caller's promise is that of both branches; the marks tell a head from a fragment.
    unsafe {
        let bits = header_at(arena, at).bits.load(Ordering::Acquire);
        let is_dead = bits & MARK_DEAD != 0;
        if bits & MARK_FRAGMENT != 0 {
            let head = Location(link_at(arena, at, OWNER).load(Ordering::Acquire));
            let bytes = pad(FRAGMENT_BYTES + fragment_parts(arena, at).0.len());
            return Entry { at, bytes, head, is_dead };
        }
        let item = Item::new(arena, at);
        let head = HEADER_BYTES + item.split_bytes() + item.options_bytes() + item.key_bytes();
        Entry { at, bytes: pad(head + item.inline_and_next().0), head: at, is_dead }
    }
}

/// # Safety
/// The caller owns the bytes of an entry at `base`, which is 8-byte aligned.
unsafe fn write_header(base: *mut u8, marks: u32, key_bytes: usize, value_bytes: usize) {
    let key_bytes = u32::from(u8::try_from(key_bytes).expect("keys are at most 250 bytes"));
    let header = Header {
        expiry: AtomicU32::new(0),
        access: AtomicU32::new(0),
        bits: AtomicU32::new(marks | key_bytes << KEY_SHIFT),
        sequence: AtomicU32::new(0),
        value_bytes: u32::try_from(value_bytes).expect("items are at most 1 GiB"),
    };
    // SAFETY: the caller's promise.
    unsafe { ptr::write(base.cast::<Header>(), header) };
}
