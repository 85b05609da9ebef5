//! Walking over everything that is stored, piece by piece, in as many batches as it takes.
//!
//! A piece is a shard of the index: some hundreds of items, noted under its lock and looked at
//! without. Shards neither come nor go, so a number is all that must be kept between two pieces,
//! and an item that is there from the beginning of a walk to its end is met exactly once.

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
                let counters = self.change().counters;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Expected, Expiry, Handle, Options, Store};
    use std::collections::BTreeMap;

    const NOW: u32 = 1_800_000_000;
    const ITEMS: u32 = 5_000;

    fn store_item(handle: &mut Handle, number: u32, expiry: u32) {
        let mut batch = handle.batch(NOW);
        let key = number.to_string();
        let draft = batch.reserve(key.as_bytes(), 0, 0, Expiry::At(expiry)).expect("room");
        batch.publish(draft, Expected::Any).expect("no condition");
    }

    fn filled() -> Handle {
        let store = Store::new(&Options::new(16 << 20, true)).expect("a little memory");
        let mut handle = store.register();
        for number in 0..ITEMS {
            store_item(&mut handle, number, if number % 5 == 0 { NOW + 10 } else { 0 });
        }
        handle
    }

    #[test]
    fn what_stays_is_met_once_though_tables_grow_and_others_go() {
        let mut handle = filled();
        let mut cursor = Cursor::default();
        let mut met = BTreeMap::new();
        let mut added = ITEMS;
        let mut removed = 1;
        while handle.batch(NOW).visit_next(&mut cursor, |item| {
            *met.entry(item.key().to_vec()).or_insert(0) += 1;
        }) {
            for _ in 0..50 {
                store_item(&mut handle, added, 0);
                added += 1;
            }
            handle.batch(NOW).remove(removed.to_string().as_bytes(), Expected::Any);
            removed += 2;
        }
        assert!(removed > 100, "several pieces");
        for number in (0..ITEMS).filter(|number| number % 2 == 0 || *number > removed) {
            assert_eq!(met.get(number.to_string().as_bytes()), Some(&1), "{number}");
        }
        assert!(met.values().all(|&times| times == 1));
    }

    #[test]
    fn a_sweep_drops_what_is_dead() {
        let mut handle = filled();
        let later = NOW + 10;
        let sweep = |handle: &mut Handle| {
            let mut cursor = Cursor::default();
            let (mut checked, mut reclaimed) = (0, 0);
            while let Some(swept) = handle.batch(later).sweep_next(&mut cursor) {
                checked += swept.checked;
                reclaimed += swept.reclaimed;
            }
            (checked, reclaimed)
        };
        let (all, dead) = (u64::from(ITEMS), u64::from(ITEMS / 5));
        assert_eq!(sweep(&mut handle), (all, dead));
        assert_eq!(sweep(&mut handle), (all - dead, 0));
        let totals = handle.store().totals();
        assert_eq!((totals.items, totals.reclaimed), (all - dead, dead));
        handle.store().check();
    }
}
