//! Where new entries go: a writer's open segment. Each writer has its own, so that writing an
//! item's bytes needs no lock.
//!
//! An item of more than a sixteenth of a segment may be split over segments, so that storing leaves
//! no segment with more than a sixteenth unused: its head takes what is left of one, its fragments
//! take the next ones whole. (Compaction copies entries as they are, so the segment it fills may
//! end with more.)

use super::OutOfMemory;
use super::arena::{FIRST_ENTRY, Location, SegmentId};
use super::item::{self, Entry, FRAGMENT_BYTES, Item, Shape, pad};
use super::segment::Space;
use crate::clock::Seconds;

/// Where an appender gets its segments and brings those that it sealed empty.
pub(super) trait Supply {
    /// An open segment of the caller's own.
    ///
    /// # Errors
    /// There is none and none can be made free.
    fn take(&mut self) -> Result<SegmentId, OutOfMemory>;

    /// Takes care of a segment that was retired: it is free when its readers have gone.
    fn retire(&mut self, segment: SegmentId);
}

/// A writer's open segment, if it has one.
#[derive(Debug, Default)]
pub(super) struct Appender {
    open: Option<Open>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    segment: SegmentId,
    offset: usize,
}

/// Space for an item that nobody else can see yet, and how far its value is written. It must be
/// published or discarded.
#[derive(Debug)]
#[must_use]
pub(super) struct Allocation {
    pub(super) head: Location,
    /// What the item takes in the arena.
    pub(super) bytes: usize,
    is_split: bool,
    fragments: u32,
    // The piece of the value that is being written: its entry, the offset in it, the bytes it still
    // takes.
    entry: Location,
    offset: usize,
    room: usize,
    // Bytes of the value not written yet.
    left: usize,
}

impl Appender {
    /// The segment that is being filled.
    pub(super) fn segment(&self) -> Option<SegmentId> {
        self.open.map(|open| open.segment)
    }

    /// Finds a place for an item and writes all of it but the value.
    ///
    /// # Errors
    /// The supply has no segment; nothing is left behind.
    pub(super) fn allocate(
        &mut self,
        space: &Space,
        shape: &Shape,
        key: &[u8],
        supply: &mut impl Supply,
    ) -> Result<Allocation, OutOfMemory> {
        let whole = shape.entry_bytes();
        let mut room = self.room(space);
        if room < whole && (room < SPLIT_ROOM_MIN || whole <= space.capacity() / SPLIT_FROM) {
            self.seal(space, supply);
            self.open = Some(Open { segment: supply.take()?, offset: FIRST_ENTRY });
            room = space.capacity();
        }
        let inline = (whole > room).then(|| room - shape.head_bytes(true));
        let head_bytes = inline.map_or(whole, |_| room);
        let head = self.advance(space, head_bytes);
        // SAFETY: `advance` gave us these bytes of our open segment alone, enough for the head and
        // its part of the value.
        let offset = unsafe { item::write_head(&space.arena, head, shape, key, inline) };
        self.note_written(space);
        let allocation = Allocation {
            head,
            bytes: head_bytes,
            is_split: inline.is_some(),
            fragments: 0,
            entry: head,
            offset,
            room: inline.unwrap_or(shape.value_bytes),
            left: shape.value_bytes,
        };
        match inline {
            // Most items. Nothing has its address, so it is made where it is wanted.
            None => Ok(allocation),
            Some(inline) => {
                self.append_fragments(space, allocation, head, shape.value_bytes - inline, supply)
            }
        }
    }

    /// Finds places for the `left` bytes of a draft's value that have none yet. Its last entry lies
    /// in a segment of its own.
    ///
    /// # Errors
    /// The supply has no segment; nothing is left behind.
    pub(super) fn extend(
        &mut self,
        space: &Space,
        received: Allocation,
        last: Location,
        left: usize,
        supply: &mut impl Supply,
    ) -> Result<Allocation, OutOfMemory> {
        let whole = pad(FRAGMENT_BYTES + left);
        let room = self.room(space);
        let is_small = whole <= space.capacity() / SPLIT_FROM;
        if left > 0 && room < whole && (room < SPLIT_ROOM_MIN || is_small) {
            self.seal(space, supply);
        }
        self.append_fragments(space, received, last, left, supply)
    }

    /// Has a draft go on behind its last entry, in what is left of the open segment and in further
    /// ones.
    fn append_fragments(
        &mut self,
        space: &Space,
        mut draft: Allocation,
        mut last: Location,
        mut left: usize,
        supply: &mut impl Supply,
    ) -> Result<Allocation, OutOfMemory> {
        while left > 0 {
            if self.room(space) <= FRAGMENT_BYTES {
                // The segment just filled stays unsealed, and so out of reach of eviction, until
                // the item is published.
                self.open = None;
                match supply.take() {
                    Ok(segment) => self.open = Some(Open { segment, offset: FIRST_ENTRY }),
                    Err(error) => {
                        self.discard(space, &draft, supply);
                        return Err(error);
                    }
                }
            }
            let bytes = left.min(self.room(space) - FRAGMENT_BYTES);
            let fragment_bytes = pad(FRAGMENT_BYTES + bytes);
            let fragment = self.advance(space, fragment_bytes);
            draft.bytes += fragment_bytes;
            // SAFETY: `advance` gave us the fragment's bytes, and `last` is an entry of this same
            // draft.
            unsafe {
                let number = draft.fragments;
                item::write_fragment(&space.arena, fragment, bytes, draft.head, number);
                item::link(&space.arena, last, fragment);
            }
            self.note_written(space);
            last = fragment;
            left -= bytes;
            draft.fragments += 1;
        }
        Ok(draft)
    }

    /// Seals the segments that an item filled which has been published, all but the one that is
    /// still open, and shows it to those who sweep.
    pub(super) fn finish(
        &mut self,
        space: &Space,
        allocation: &Allocation,
        supply: &mut impl Supply,
    ) {
        let item = allocation.item(space);
        if allocation.is_split {
            self.seal_filled(space, item, supply);
        }
        if let Some(open) = self.open {
            space.note_used(open.segment, open.offset);
        }
        space.note_expiry(item.location(), item.expiry());
    }

    fn seal_filled(&self, space: &Space, item: Item<'_>, supply: &mut impl Supply) {
        let open = self.open.map(|open| open.segment);
        for (at, bytes) in item.entries() {
            let segment = space.arena.segment_of(at);
            if Some(segment) != open && space.seal(segment, space.arena.offset_of(at) + bytes) {
                supply.retire(segment);
            }
        }
    }

    /// Shows who sweeps the head that was copied last and published.
    pub(super) fn finish_copy(&self, space: &Space, copy: Location, expiry: Seconds) {
        if let Some(open) = self.open {
            space.note_used(open.segment, open.offset);
        }
        space.note_expiry(copy, expiry);
    }

    /// Gives up a draft. Its bytes stay behind as dead ones, unless it was the last thing written.
    pub(super) fn discard(
        &mut self,
        space: &Space,
        allocation: &Allocation,
        supply: &mut impl Supply,
    ) {
        let item = allocation.item(space);
        if !allocation.is_split
            && let Some(open) = self.open
            && open.segment == space.arena.segment_of(allocation.head)
        {
            self.take_back(space, allocation.head);
            return;
        }
        for (at, bytes) in item.entries() {
            let is_empty = space.remove_live(at, bytes);
            debug_assert!(!is_empty, "a draft's segments are not sealed");
        }
        self.finish(space, allocation, supply);
    }

    /// Copies an entry of another segment to the open one.
    ///
    /// # Errors
    /// The supply has no segment.
    pub(super) fn copy(
        &mut self,
        space: &Space,
        entry: &Entry,
        supply: &mut impl Supply,
    ) -> Result<Location, OutOfMemory> {
        if self.room(space) < entry.bytes {
            self.seal(space, supply);
            self.open = Some(Open { segment: supply.take()?, offset: FIRST_ENTRY });
        }
        let copy = self.advance(space, entry.bytes);
        // SAFETY: entries are moved by one thread at a time, which sees to it that the original
        // stays; `advance` gave us the copy's bytes alone.
        unsafe { item::copy_entry(&space.arena, entry.at, copy, entry.bytes) };
        self.note_written(space);
        Ok(copy)
    }

    /// Takes back what was written last, and published to nobody.
    pub(super) fn take_back(&mut self, space: &Space, at: Location) {
        let open = self.open.as_mut().expect("what was written last lies in the open segment");
        open.offset = space.arena.offset_of(at);
        self.note_written(space);
    }

    /// Closes the open segment: nothing more is written to it.
    pub(super) fn seal(&mut self, space: &Space, supply: &mut impl Supply) {
        if let Some(open) = self.open.take()
            && space.seal(open.segment, open.offset)
        {
            supply.retire(open.segment);
        }
    }

    fn room(&self, space: &Space) -> usize {
        self.open.map_or(0, |open| space.arena.segment_bytes() - open.offset)
    }

    /// Has who finds the file find the entries so far, or no more than these.
    fn note_written(&self, space: &Space) {
        if let Some(open) = self.open {
            space.arena.set_written(open.segment, open.offset);
        }
    }

    /// The next `bytes` of the open segment.
    fn advance(&mut self, space: &Space, bytes: usize) -> Location {
        let open = self.open.as_mut().expect("the caller opened one with this much room");
        assert!(open.offset + bytes <= space.arena.segment_bytes());
        let at = space.arena.location(open.segment, open.offset);
        open.offset += bytes;
        at
    }
}

impl Allocation {
    /// A draft of so many bytes whose value is written as far as it has places, to the end of its
    /// `last` entry.
    pub(super) fn received(
        head: Location,
        fragments: u32,
        last: Location,
        bytes: usize,
        left: usize,
    ) -> Self {
        Self { head, bytes, is_split: true, fragments, entry: last, offset: 0, room: 0, left }
    }

    /// The draft as an item, for the one who owns it.
    pub(super) fn item<'s>(&self, space: &'s Space) -> Item<'s> {
        // SAFETY: an allocation exists only from the writing of its head to its publication or end,
        // and its segments are open.
        unsafe { Item::new(&space.arena, self.head) }
    }

    /// Appends to the value.
    ///
    /// # Panics
    /// The value gets longer than was said when its place was allocated.
    pub(super) fn fill(&mut self, space: &Space, mut bytes: &[u8]) {
        assert!(bytes.len() <= self.left, "a draft takes as many bytes as it was made for");
        while !bytes.is_empty() {
            if self.room == 0 {
                self.next_piece(space);
            }
            let (now, later) = bytes.split_at(bytes.len().min(self.room));
            // SAFETY: the draft is ours, and `room` counts the bytes that its current entry has
            // behind `offset`.
            unsafe { item::write_value(&space.arena, self.entry, self.offset, now) };
            self.offset += now.len();
            self.room -= now.len();
            self.left -= now.len();
            bytes = later;
        }
    }

    /// Whether the whole value has been written.
    pub(super) fn is_filled(&self) -> bool {
        self.left == 0
    }

    fn next_piece(&mut self, space: &Space) {
        // SAFETY: the entry is ours, and split: more of the value follows than it has room for.
        let (next, bytes) = unsafe { item::following(&space.arena, self.entry) };
        self.entry = next;
        self.offset = FRAGMENT_BYTES;
        self.room = bytes;
    }
}

/// Items of at most this part of a segment are not split.
const SPLIT_FROM: usize = 16;

/// What must be left of a segment for the head of a split item to go there: the longest key with
/// all that may stand before it, and something of the value.
const SPLIT_ROOM_MIN: usize = 1024;
