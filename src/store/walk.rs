//! Walking over everything that is stored, piece by piece, in as many batches as it takes.
//!
//! A piece is a shard of the index: some hundreds of items, looked at as a reader does, without its
//! lock. Shards neither come nor go, so a number is all that must be kept between two pieces, and an
//! item that is there from the beginning of a walk to its end is met exactly once.

use super::item::Item;
use super::{Batch, State};

/// How far a walk has come. It begins at the default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cursor(usize);

/// What a sweep over a piece found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Swept {
    /// Items.
    pub checked: u64,
    /// Of these, dead and now gone.
    pub reclaimed: u64,
}

impl Batch<'_> {
    /// Shows the live items of the next piece, in no particular order; `false` when there is none
    /// left.
    pub fn visit_next(&self, cursor: &mut Cursor, mut visit: impl FnMut(&Item<'_>)) -> bool {
        self.walk(cursor, |item| {
            if let State::Hit(item) = self.store().state(item, self.now) {
                visit(&item);
            }
        })
    }

    /// Drops what has expired or was flushed in the next piece; `None` when there is none left.
    pub fn sweep_next(&self, cursor: &mut Cursor) -> Option<Swept> {
        let mut swept = Swept::default();
        let walked = self.walk(cursor, |item| {
            swept.checked += 1;
            let is_gone = !self.store().is_live(&item, self.now)
                && self.change().drop_dead(self.store().index.hash(item.key()), item);
            if is_gone {
                let counters = &self.handle.counters;
                counters.reclaimed.add(1);
                counters.expired_unfetched.add(u64::from(!item.is_fetched()));
                swept.reclaimed += 1;
            }
        });
        walked.then_some(swept)
    }

    fn walk(&self, cursor: &mut Cursor, visit: impl FnMut(Item<'_>)) -> bool {
        let store = self.store();
        let walked = store.index.visit_shard(cursor.0, &store.space.arena, &self.guard, visit);
        cursor.0 += usize::from(walked);
        walked
    }
}
