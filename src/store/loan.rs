//! Values that are lent, to be sent from where they lie, long after the batch that found them.
//!
//! A [`Loan`] is a piece of a value as it was. It stays as it was, whatever becomes of the item:
//! the bytes of a value never change once it is published, and a segment is not used again before
//! all that was lent of it is back (`segment/aside.rs`).

use super::Store;
use super::arena::SegmentId;
use super::item::Item;
use super::segment::Space;
use std::slice;
use std::sync::Arc;

/// A piece of a value, at least a byte. Dropping it gives it back.
#[derive(Debug)]
pub struct Loan {
    // Invariant: the bytes are of a published value, in this segment of this space, which was lent
    // when they could not go yet.
    space: Arc<Space>,
    segment: SegmentId,
    /// In the arena.
    offset: usize,
    length: usize,
}

impl Store {
    /// Lends the value of an item piece by piece; `false`, and nothing is lent, where too much is
    /// lent already. As long as a piece is lent, the room of its whole segment is not to be had.
    ///
    /// # Panics
    /// The item is another store's.
    pub fn lend(&self, item: &Item<'_>, mut take: impl FnMut(Loan)) -> bool {
        let arena = &self.space.arena;
        assert!(item.is_of(arena), "a store lends its own");
        let segments = item.value_bytes() / self.space.capacity() + 2;
        if !self.space.may_lend(segments) {
            return false;
        }
        for chunk in item.value_chunks().filter(|chunk| !chunk.is_empty()) {
            let offset = arena.offset_in_map(chunk);
            let segment = arena.segment_at(offset);
            // The item stays in place while it is borrowed: its batch has not ended.
            self.space.lend(segment);
            take(Loan { space: Arc::clone(&self.space), segment, offset, length: chunk.len() });
        }
        true
    }
}

impl Loan {
    /// What was lent, and not skipped yet.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: by the type's invariant these bytes were published and lie in a segment that is
        // neither used again nor given back to the system while the loan lasts; what is published
        // of a value is never written again.
        unsafe { slice::from_raw_parts(self.space.arena.start().add(self.offset), self.length) }
    }

    /// Does without the first so many bytes.
    ///
    /// # Panics
    /// There are fewer.
    pub fn skip(&mut self, bytes: usize) {
        assert!(bytes <= self.length, "no more is skipped than there is");
        self.offset += bytes;
        self.length -= bytes;
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.space.return_loan(self.segment);
    }
}
