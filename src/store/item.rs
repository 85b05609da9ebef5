//! An item as it lies in the arena. This file and its folder are the only code that reads or writes
//! its bytes.
//!
//! ```text
//!  0       4        8      12         16            20
//!  | expiry | access | bits | sequence | value bytes |
//!  [inline 4, next 8] [cas 8] [flags 4] key value-part
//!
//!  bits: marks 8 | key length 8 | upper half of the sequence 16;  every entry is padded to 8
//! ```
//!
//! Client flags are stored only where they are not zero, a cas only where the client chose it: else
//! the sequence is the cas, too. An item that does not fit what is left of
//! its segment is *split*: its head holds the first `inline` bytes of the value and `next` names a
//! *fragment*, an entry elsewhere that holds more:
//!
//! ```text
//!  | header (fragment mark, value bytes = those in here) | number 4 | next 8 | owner 8 | value-part
//! ```
//!
//! A fragment's number says how many are before it. `next` of the last fragment is 0; `owner` is
//! the head, so that whoever clears a segment finds the key of every byte in it. Both are atomics,
//! and lie at the same place in head and fragment: compaction moves entries one by one, and a
//! reader that is on its way through them finds the same bytes before and after.
//!
//! # Why reading without a lock is sound
//!
//! While an entry is a draft, one thread owns it and nobody else knows where it lies. Publishing
//! stores its location in an index slot with `Release`; a reader gets it with `Acquire`, so it sees
//! every byte. From then on key, value, flags and lengths never change; expiry, access time, marks
//! and the links between a split item's entries do, and are atomics. The memory is used again only
//! after every reader that could have seen the location has gone (`segment.rs`). So what a reader
//! copies cannot change under it.

mod check;
mod entry;

pub(super) use self::check::{
    Checked, Kind, checked_entry, checksum, first_checksum, fragments_of, set_owner,
};
pub(super) use self::entry::{
    Entry, copy_entry, entry_at, following, link, mark_entry_dead, write_fragment, write_head,
    write_value,
};

use super::arena::{Arena, Location, VALUE_LINES};
use crate::clock::Seconds;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::{iter, ptr, slice};

/// An item, borrowed from the store for as long as a batch lasts. Its key, value, flags and cas
/// never change.
#[derive(Clone, Copy, Debug)]
pub struct Item<'b> {
    // Invariant: `header` is that of a written head (published, or a draft of this thread) in the
    // arena that stays in place during 'b. It is the address, for each look at the item begins with
    // it, and a pointer, for what lies behind the header is reached from it, too.
    arena: &'b Arena,
    header: *const Header,
}

/// What must be known of an entry before it gets its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) key_bytes: usize,
    pub(super) value_bytes: usize,
    pub(super) flags: u32,
    /// Where it is not the version.
    pub(super) cas: Option<u64>,
}

#[repr(C)]
struct Header {
    expiry: AtomicU32,
    access: AtomicU32,
    bits: AtomicU32,
    sequence: AtomicU32,
    value_bytes: u32,
}

impl Shape {
    /// Bytes of the head with nothing of the value in it.
    pub(super) fn head_bytes(&self, split: bool) -> usize {
        let flags = if self.flags == 0 { 0 } else { FLAGS_BYTES };
        let cas = if self.cas.is_none() { 0 } else { CAS_BYTES };
        let split = if split { SPLIT_BYTES } else { 0 };
        HEADER_BYTES + split + cas + flags + self.key_bytes
    }

    /// Bytes of the whole item in one piece, padding included.
    pub(super) fn entry_bytes(&self) -> usize {
        pad(self.head_bytes(false) + self.value_bytes)
    }
}

impl<'b> Item<'b> {
    /// # Safety
    /// `at` is a head that [`write_head`] wrote, in a segment that is not used again while `'b`
    /// lasts; if another thread wrote it, its location came by way of an acquiring load that saw
    /// the publishing store.
    pub(super) unsafe fn new(arena: &'b Arena, at: Location) -> Self {
        Self { arena, header: arena.pointer(at).cast::<Header>() }
    }

    pub(super) fn location(&self) -> Location {
        self.arena.location_at(self.pointer())
    }

    /// Has the processor fetch the value's first lines.
    pub(super) fn prefetch_value(&self) {
        self.arena.prefetch(self.location(), VALUE_LINES);
    }

    pub(super) fn is_of(&self, arena: &Arena) -> bool {
        ptr::eq(self.arena, arena)
    }

    /// The key, 1 to 250 bytes.
    #[must_use]
    pub fn key(&self) -> &'b [u8] {
        let marks = self.marks();
        let start = HEADER_BYTES + split_bytes(marks) + options_bytes(marks);
        // SAFETY: a head holds `key_bytes` bytes of key from there on, written before it was
        // published, never after.
        unsafe { slice::from_raw_parts(self.pointer().add(start), key_bytes(marks)) }
    }

    /// The client's flags.
    #[must_use]
    pub fn flags(&self) -> u32 {
        if self.marks() & MARK_FLAGS == 0 {
            return 0;
        }
        let at = HEADER_BYTES + self.split_bytes() + self.options_bytes() - FLAGS_BYTES;
        // SAFETY: the mark says that four bytes of flags stand there, last before the key; they
        // never change after publication.
        unsafe { ptr::read(self.pointer().add(at).cast::<u32>()) }
    }

    /// The value's length in bytes.
    #[must_use]
    pub fn value_bytes(&self) -> usize {
        self.header().value_bytes as usize
    }

    /// The value, if it lies in one piece, as it does unless it is large.
    #[must_use]
    pub fn whole_value(&self) -> Option<&'b [u8]> {
        let marks = self.marks();
        if marks & MARK_SPLIT != 0 {
            return None;
        }
        let start = HEADER_BYTES + options_bytes(marks) + key_bytes(marks);
        // SAFETY: a head that is not split holds its whole value behind its key, written before it
        // was published, never after.
        Some(unsafe { slice::from_raw_parts(self.pointer().add(start), self.value_bytes()) })
    }

    /// The value, in the pieces in which it lies.
    #[must_use]
    pub fn value_chunks(&self) -> Chunks<'b> {
        let start = HEADER_BYTES + self.split_bytes() + self.options_bytes() + self.key_bytes();
        let (inline, next) = self.inline_and_next();
        // SAFETY: a head holds `inline` bytes of value behind its key, written before it was
        // published, never after.
        let first = unsafe { slice::from_raw_parts(self.pointer().add(start), inline) };
        Chunks { arena: self.arena, first: Some(first), next }
    }

    /// What a client can compare: the version, unless the item was stored with another.
    #[must_use]
    pub fn cas(&self) -> u64 {
        if self.marks() & MARK_CAS == 0 {
            return self.version();
        }
        let at = HEADER_BYTES + self.split_bytes();
        // SAFETY: the mark says that eight bytes of cas stand there, at any alignment; they never
        // change after publication.
        unsafe { ptr::read_unaligned(self.pointer().add(at).cast::<u64>()) }
    }

    /// Unique in the store, growing from store to store, never 0.
    pub(super) fn version(&self) -> u64 {
        let header = self.header();
        let high = header.bits.load(Ordering::Relaxed) >> SEQUENCE_HIGH_SHIFT;
        (u64::from(high) << 32) | u64::from(header.sequence.load(Ordering::Relaxed))
    }

    /// When it ends (0: never).
    #[must_use]
    pub fn expiry(&self) -> Seconds {
        self.header().expiry.load(Ordering::Relaxed)
    }

    /// When it was last fetched or, if never, stored.
    #[must_use]
    pub fn last_access(&self) -> Seconds {
        self.header().access.load(Ordering::Relaxed)
    }

    /// Whether it was ever fetched.
    #[must_use]
    pub fn is_fetched(&self) -> bool {
        self.marks() & MARK_FETCHED != 0
    }

    /// Whether it is out of date: good enough until somebody brings what is to replace it.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.marks() & MARK_STALE != 0
    }

    /// Whether somebody was told to bring what is to replace it. That it is not may be out of date:
    /// [`Batch::amend`](super::Batch::amend) knows.
    #[must_use]
    pub fn is_leased(&self) -> bool {
        self.marks() & MARK_LEASED != 0
    }

    /// Gives the lease to the caller; `false` if it was given before. The caller holds the key's
    /// shard lock, as everyone does who copies the marks to another item.
    pub(super) fn take_lease(&self) -> bool {
        let before = self.header().bits.fetch_or(MARK_LEASED, Ordering::Relaxed);
        before & MARK_LEASED == 0
    }

    /// Whether it was marked dead, or is a draft.
    pub(super) fn is_dead(&self) -> bool {
        self.marks() & MARK_DEAD != 0
    }

    /// Records a use. Writes only what changes: a key that everybody reads stays in everybody's
    /// cache.
    pub fn mark_fetched(&self, now: Seconds) {
        let header = self.header();
        if header.bits.load(Ordering::Relaxed) & MARK_FETCHED == 0 {
            header.bits.fetch_or(MARK_FETCHED, Ordering::Relaxed);
        }
        if header.access.load(Ordering::Relaxed) != now {
            header.access.store(now, Ordering::Relaxed);
        }
    }

    /// Changes the expiry in place. The caller holds the key's shard lock, as everyone does who
    /// copies it to another item.
    pub(super) fn set_expiry(&self, expiry: Seconds) {
        self.header().expiry.store(expiry, Ordering::Relaxed);
    }

    /// Gives a draft what it gets last, under the shard lock, just before its location is
    /// published.
    pub(super) fn finish(&self, sequence: u64, expiry: Seconds, access: Seconds, marks: u32) {
        let header = self.header();
        let low = u32::try_from(sequence & u64::from(u32::MAX)).expect("masked");
        let high = u32::try_from(sequence >> 32).expect("shifted") << SEQUENCE_HIGH_SHIFT;
        let bits = header.bits.load(Ordering::Relaxed) & !MARK_DEAD;
        header.expiry.store(expiry, Ordering::Relaxed);
        header.access.store(access, Ordering::Relaxed);
        header.sequence.store(low, Ordering::Relaxed);
        self.for_each_fragment(|fragment| {
            // SAFETY: a draft's fragments are its owner's, and written.
            let header = unsafe { header_at(self.arena, fragment) };
            header.bits.fetch_and(!MARK_DEAD, Ordering::Relaxed);
        });
        // Last: from here on, whoever finds the file takes the item for its key's.
        header.bits.store(bits | high | marks, Ordering::Release);
    }

    /// Makes this copy of a head, which [`copy_entry`] made, as live as the original is now, and
    /// the head of its fragments. The caller holds the key's shard lock; the copy's location is
    /// published next.
    pub(super) fn become_head(&self, original: Item<'_>) {
        let (header, from) = (self.header(), original.header());
        header.expiry.store(from.expiry.load(Ordering::Relaxed), Ordering::Relaxed);
        header.access.store(from.access.load(Ordering::Relaxed), Ordering::Relaxed);
        header.bits.store(from.bits.load(Ordering::Relaxed), Ordering::Release);
        self.for_each_fragment(|fragment| {
            // SAFETY: the item's fragments stay in place while it is named, which the caller's lock
            // makes it.
            let owner = unsafe { link_at(self.arena, fragment, OWNER) };
            owner.store(self.location().0, Ordering::Release);
        });
    }

    /// Has the item go on at `copy`, which [`copy_entry`] made, where it went on at `original`. The
    /// caller holds the key's shard lock, and the item is what the key names.
    pub(super) fn relink(&self, original: Location, copy: Location) {
        let mut link_before = self.location();
        self.for_each_fragment(|fragment| {
            if fragment == original {
                // SAFETY: head and fragments of a named item are written and stay in place under
                // the caller's lock.
                unsafe {
                    header_at(self.arena, copy).bits.fetch_and(!MARK_DEAD, Ordering::Release);
                    link_at(self.arena, link_before, NEXT).store(copy.0, Ordering::Release);
                }
            }
            link_before = fragment;
        });
    }

    /// Marks head and fragments as no longer, or not yet, part of the cache, so that nothing that
    /// finds the arena again takes them for live. The head comes last: who clears a segment passes
    /// over a dead head in it, and the segment may be used again before a reader of that time has
    /// gone, who must not have found a way there from a fragment.
    pub(super) fn mark_dead(&self) {
        self.for_each_fragment(|fragment| {
            // SAFETY: head and fragments stay in place during 'b.
            unsafe { mark_entry_dead(self.arena, fragment) };
        });
        // SAFETY: as above.
        unsafe { mark_entry_dead(self.arena, self.location()) };
    }

    /// Place and size in bytes of the head and of every fragment.
    #[inline]
    pub(super) fn entries(&self) -> impl Iterator<Item = (Location, usize)> + use<'b> {
        let (inline, mut next) = self.inline_and_next();
        let head = HEADER_BYTES + self.split_bytes() + self.options_bytes() + self.key_bytes();
        let mut first = Some((self.location(), pad(head + inline)));
        let arena = self.arena;
        iter::from_fn(move || {
            if let Some(head) = first.take() {
                return Some(head);
            }
            if next == Location::NONE {
                return None;
            }
            let at = next;
            // SAFETY: `next` of a head or fragment is 0 or a fragment of the same item, which lives
            // as long as its head, during 'b.
            let (bytes, following) = unsafe { fragment_parts(arena, at) };
            next = following;
            Some((at, pad(FRAGMENT_BYTES + bytes.len())))
        })
    }

    /// Whether all fragments are as live as a published head's and name it as their owner.
    pub(super) fn owns_its_fragments(&self) -> bool {
        let mut are_its_own = true;
        self.for_each_fragment(|fragment| {
            // SAFETY: as in `entries`.
            let entry = unsafe { entry_at(self.arena, fragment) };
            are_its_own &= entry.head == self.location() && !entry.is_dead;
        });
        are_its_own
    }

    fn for_each_fragment(&self, mut visit: impl FnMut(Location)) {
        let (_, mut next) = self.inline_and_next();
        while next != Location::NONE {
            let at = next;
            // SAFETY: as in `entries`.
            next = unsafe { fragment_parts(self.arena, at).1 };
            visit(at);
        }
    }

    fn pointer(&self) -> *const u8 {
        self.header.cast::<u8>()
    }

    fn header(&self) -> &'b Header {
        // SAFETY: by the type's invariant a written head lies there during 'b; after publication
        // only its atomics change.
        unsafe { &*self.header }
    }

    pub(super) fn marks(&self) -> u32 {
        self.header().bits.load(Ordering::Relaxed)
    }

    fn key_bytes(&self) -> usize {
        key_bytes(self.marks())
    }

    fn options_bytes(&self) -> usize {
        options_bytes(self.marks())
    }

    fn split_bytes(&self) -> usize {
        split_bytes(self.marks())
    }

    fn inline_and_next(&self) -> (usize, Location) {
        if self.marks() & MARK_SPLIT == 0 {
            return (self.value_bytes(), Location::NONE);
        }
        // SAFETY: the mark says that four bytes stand there, how much of the value is inline, and
        // then a link.
        let (inline, next) = unsafe {
            (
                ptr::read(self.pointer().add(HEADER_BYTES).cast::<u32>()),
                link_at(self.arena, self.location(), NEXT),
            )
        };
        (inline as usize, Location(next.load(Ordering::Acquire)))
    }
}

/// The pieces of a value.
#[derive(Clone, Debug)]
pub struct Chunks<'b> {
    arena: &'b Arena,
    first: Option<&'b [u8]>,
    next: Location,
}

impl<'b> Iterator for Chunks<'b> {
    type Item = &'b [u8];

    fn next(&mut self) -> Option<&'b [u8]> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        if self.next == Location::NONE {
            return None;
        }
        // SAFETY: `next` names a fragment of an item that stays in place during 'b.
        let (bytes, next) = unsafe { fragment_parts(self.arena, self.next) };
        self.next = next;
        Some(bytes)
    }
}

fn key_bytes(marks: u32) -> usize {
    ((marks >> KEY_SHIFT) & 0xff) as usize
}

/// Bytes of cas and flags: each mark is as much as the bytes it stands for.
fn options_bytes(marks: u32) -> usize {
    (marks & (MARK_CAS | MARK_FLAGS)) as usize
}

fn split_bytes(marks: u32) -> usize {
    if marks & MARK_SPLIT == 0 { 0 } else { SPLIT_BYTES }
}

/// Rounds up to the unit of a [`Location`].
pub(super) const fn pad(bytes: usize) -> usize {
    bytes.next_multiple_of(8)
}

/// # Safety
/// A written entry lies at `at` and stays there while the reference lives.
unsafe fn header_at(arena: &Arena, at: Location) -> &Header {
    // SAFETY: the caller knows that a header was written there and stays; after publication only
    // its atomics change.
    unsafe { &*arena.pointer(at).cast::<Header>() }
}

/// The link of a split head or a fragment at [`NEXT`], or of a fragment at [`OWNER`].
unsafe fn link_at(arena: &Arena, at: Location, offset: usize) -> &AtomicU64 {
    // SAFETY: the caller knows that such an entry was written there and stays; entries are 8-byte
    // aligned and so is the offset.
    unsafe { &*arena.pointer(at).add(offset).cast::<AtomicU64>() }
}

/// The value bytes in a fragment, and the fragment behind it.
unsafe fn fragment_parts(arena: &Arena, at: Location) -> (&[u8], Location) {
    // SAFETY: the caller knows that a fragment was written there and stays; these words and bytes
    // do not change once published.
    unsafe {
        let bytes = header_at(arena, at).value_bytes as usize;
        let next = link_at(arena, at, NEXT).load(Ordering::Acquire);
        (slice::from_raw_parts(arena.pointer(at).add(FRAGMENT_BYTES), bytes), Location(next))
    }
}

/// Bytes of a fragment before its part of the value.
pub(super) const FRAGMENT_BYTES: usize = 40;

const HEADER_BYTES: usize = 20;
const FLAGS_BYTES: usize = 4;
const CAS_BYTES: usize = 8;
const SPLIT_BYTES: usize = 12;
/// Where a split head and a fragment say where the item goes on.
const NEXT: usize = 24;
/// Where a fragment says whose it is.
const OWNER: usize = 32;

const MARK_DEAD: u32 = 1;
pub(super) const MARK_FETCHED: u32 = 1 << 1;
const MARK_FLAGS: u32 = 1 << 2;
const MARK_CAS: u32 = 1 << 3;
const MARK_SPLIT: u32 = 1 << 4;
const MARK_FRAGMENT: u32 = 1 << 5;
pub(super) const MARK_STALE: u32 = 1 << 6;
pub(super) const MARK_LEASED: u32 = 1 << 7;
const KEY_SHIFT: u32 = 8;
const SEQUENCE_HIGH_SHIFT: u32 = 16;

const _: () = assert!(size_of::<Header>() == HEADER_BYTES);
const _: () = assert!(MARK_FLAGS as usize == FLAGS_BYTES && MARK_CAS as usize == CAS_BYTES);
