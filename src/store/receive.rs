//! Values that are received in place: while a large value is still arriving, its bytes are written
//! to where the item will lie.
//!
//! A [`Draft`](super::Draft) belongs to a batch, and lies where its writer's other items lie. What
//! arrives over many batches cannot: a segment that it shares with published items could not be
//! evicted while a client takes its time. So an [`Incoming`] value has segments of its own, whole
//! ones, taken one by one as they are filled: to announce a value takes nothing. They are open,
//! and so out of reach of whoever clears segments; nobody else knows where they lie. What does not
//! fill a segment, the last part of the value, is kept by the caller until all is there, and then
//! stored beside other items: half-empty segments would waste more than the copy costs.
//!
//! How much may be on its way in is bounded (`segment/aside.rs`). Beyond that, and where the value
//! is smaller than a segment, the caller keeps all that arrives.

use super::append::{Allocation, Supply};
use super::arena::{FIRST_ENTRY, Location};
use super::item::{self, FRAGMENT_BYTES, Item, Shape};
use super::segment::Space;
use super::{Batch, Draft, OutOfMemory, Store, Traits};
use std::sync::Arc;
use std::{mem, slice};

/// A value that is arriving, and its item's key. Dropping it gives its room back.
#[derive(Debug)]
pub struct Incoming {
    // Invariant: each entry of the draft fills an open segment that is of this value alone; the
    // last of them has `room` bytes of its part of the value, not written yet, at `offset`.
    space: Arc<Space>,
    head: Location,
    last: Location,
    offset: usize,
    room: usize,
    /// Bytes of the value that have no place yet.
    left: usize,
    /// None once the draft is somebody else's.
    segments: u32,
}

impl Store {
    /// Whether a value of this length is worth receiving in its place when so much of it has
    /// arrived: it fills a segment, and who takes one has a sixteenth to put into it.
    #[must_use]
    pub fn receives(&self, value_bytes: usize, arrived_bytes: usize) -> bool {
        let segment_bytes = self.space.capacity();
        value_bytes >= segment_bytes && arrived_bytes >= segment_bytes / ARRIVED_PART
    }
}

impl Batch<'_> {
    /// Begins an item whose value will arrive piece by piece. `None` where it is not worth it, or
    /// cannot be for now.
    #[must_use]
    pub fn receive(
        &mut self,
        key: &[u8],
        value_bytes: usize,
        flags: u32,
        cas: Option<u64>,
    ) -> Option<Incoming> {
        let shape = Shape { key_bytes: key.len(), value_bytes, flags, cas };
        let space = &self.store().space;
        let is_worth_it = shape.head_bytes(true) + value_bytes >= space.capacity();
        if !is_worth_it || shape.entry_bytes() > space.item_bytes_max() {
            return None;
        }
        let room = space.capacity() - shape.head_bytes(true);
        let head = self.take_aside()?;
        let space = Arc::clone(&self.store().space);
        // SAFETY: the segment is the caller's alone, and the head with its part of the value fills
        // it.
        let offset = unsafe { item::write_head(&space.arena, head, &shape, key, Some(room)) };
        space.note_filled(head);
        let left = value_bytes - room;
        Some(Incoming { space, head, last: head, offset, room, left, segments: 1 })
    }

    /// Makes room for the next part of a value whose [room](Incoming::room) is used up; `false`
    /// where the caller had better keep what is still to come.
    ///
    /// # Panics
    /// The value is another store's, or has room.
    pub fn make_room(&mut self, incoming: &mut Incoming) -> bool {
        self.assert_received_here(incoming);
        let bytes = incoming.space.capacity() - FRAGMENT_BYTES;
        if incoming.left < bytes {
            return false;
        }
        let Some(fragment) = self.take_aside() else { return false };
        let arena = &incoming.space.arena;
        // SAFETY: the segment is the caller's alone, and the fragment fills it; the last entry is
        // one of this same draft.
        unsafe {
            let number = incoming.segments - 1;
            item::write_fragment(arena, fragment, bytes, incoming.head, number);
            item::link(arena, incoming.last, fragment);
        }
        incoming.space.note_filled(fragment);
        incoming.last = fragment;
        incoming.offset = FRAGMENT_BYTES;
        incoming.room = bytes;
        incoming.left -= bytes;
        incoming.segments += 1;
        true
    }

    /// Makes what was received a draft, to be filled with the rest of the value.
    ///
    /// # Errors
    /// There is no memory for the rest; everything is given back.
    ///
    /// # Panics
    /// The value is another store's, or still has room; or another draft of this handle was
    /// neither published nor discarded.
    pub fn complete(
        &mut self,
        mut incoming: Incoming,
        traits: Traits,
    ) -> Result<Draft, OutOfMemory> {
        self.assert_received_here(&incoming);
        self.assert_no_draft();
        let (appender, mut supply) = self.writer();
        let space = &supply.store.space;
        let received = incoming.hand_over();
        let allocation =
            appender.extend(space, received, incoming.last, incoming.left, &mut supply)?;
        let key = allocation.item(&self.store().space).key();
        let hash = self.store().index.hash(key);
        Ok(self.drafted(allocation, hash, traits))
    }

    /// Opens a segment for what arrives, if there may be one more. Returns its first place.
    fn take_aside(&mut self) -> Option<Location> {
        if !self.store().space.may_receive() {
            return None;
        }
        let (_, mut supply) = self.writer();
        let space = &supply.store.space;
        supply.contribute(space.capacity());
        let segment = supply.take().ok()?;
        space.put_aside();
        Some(space.arena.location(segment, FIRST_ENTRY))
    }

    fn assert_received_here(&self, incoming: &Incoming) {
        let is_of_this_store = Arc::ptr_eq(&incoming.space, &self.store().space);
        assert!(is_of_this_store && incoming.room == 0, "a value of this store, without room");
    }
}

impl Incoming {
    /// Where the next bytes of the value are to be written. What stands there means nothing.
    pub fn room(&mut self) -> &mut [u8] {
        let start = self.space.arena.pointer(self.last).wrapping_add(self.offset);
        // SAFETY: by the type's invariant these bytes lie in a segment of this value alone, which
        // the exclusive borrow is of; a mapping's bytes are initialised, with whatever.
        unsafe { slice::from_raw_parts_mut(start, self.room) }
    }

    /// Notes that so many bytes were written to the beginning of the [room](Self::room).
    ///
    /// # Panics
    /// There is not so much.
    pub fn advance(&mut self, bytes: usize) {
        assert!(bytes <= self.room, "no more is written than there is room for");
        self.offset += bytes;
        self.room -= bytes;
    }

    /// Lets go of what there is of the draft: it is the caller's.
    fn hand_over(&mut self) -> Allocation {
        let segments = mem::take(&mut self.segments);
        self.space.end_aside(segments);
        let bytes = segments as usize * self.space.capacity();
        Allocation::received(self.head, segments - 1, self.last, bytes, self.left)
    }

    fn entries(&self) -> impl Iterator<Item = (Location, usize)> {
        // SAFETY: the head is written, and stays as long as the value is not handed over.
        unsafe { Item::new(&self.space.arena, self.head) }.entries()
    }
}

/// See [`Store::receives`].
const ARRIVED_PART: usize = 16;

impl Drop for Incoming {
    fn drop(&mut self) {
        if self.segments > 0 {
            // All of them are looked at before the first can be somebody else's.
            let entries: Vec<_> = self.entries().collect();
            for (at, _) in entries {
                self.space.abandon(self.space.arena.segment_of(at));
            }
            self.space.end_aside(self.segments);
        }
    }
}
