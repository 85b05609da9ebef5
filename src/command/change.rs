//! Changing what is stored: removing, touching, counting.

use super::storage::{copy, item_bytes};
use super::{Context, count_death, published, visible_cas};
use crate::protocol::number::lenient_u64_of;
use crate::protocol::{
    Counted, Counting, Creation, Deletion, Direction, Fault, Keep, Outcome, expiry,
};
use crate::stats::Count;
use crate::store::{Batch, Draft, Expected, Expiry, Item, Marks, Removal, State, Traits, Witness};

/// Removes an item, or what is to be removed of it.
///
/// # Errors
/// [`Fault::OutOfMemory`]: there is no room for what was to stay, and nothing has changed.
pub fn delete(context: &mut Context<'_>, deletion: &Deletion<'_>) -> Result<Outcome, Fault> {
    let key = deletion.key;
    let observer = context.observer;
    let seen_bytes = observer.deleting(&context.batch, key);
    let result = delete_or_keep(context, deletion);
    if result == Ok(Outcome::Deleted) {
        if deletion.keep.is_some_and(|keep| keep.emptied.is_some()) {
            observer.emptied(&context.batch, key);
        }
        if !deletion.keep.is_some_and(|keep| keep.stale) {
            observer.deleted(key, seen_bytes);
        }
    }
    result
}

fn delete_or_keep(context: &mut Context<'_>, deletion: &Deletion<'_>) -> Result<Outcome, Fault> {
    let key = deletion.key;
    if deletion.compare.is_none() && deletion.keep.is_none() {
        return Ok(remove(context, key));
    }
    loop {
        let lookup = context.batch.peek(key);
        let seen = lookup.witness();
        let State::Hit(item) = lookup else {
            context.counters.count(Count::DeleteMisses);
            return Ok(Outcome::NotFound);
        };
        let cas = visible_cas(context.shared, item.cas());
        if deletion.compare.is_some_and(|compare| compare != cas) {
            context.counters.count(Count::DeleteMisses);
            return Ok(Outcome::Exists);
        }
        let done = match deletion.keep {
            None => context.batch.remove(key, Expected::Unchanged(seen)) == Removal::Removed,
            Some(keep) => {
                let traits = kept_traits(context, &keep, &item);
                let value_bytes = item.value_bytes();
                keep_part(context, key, seen, value_bytes, &keep, traits)?
            }
        };
        if done {
            if !deletion.keep.is_some_and(|keep| keep.stale) {
                context.counters.count(Count::DeleteHits);
            }
            return Ok(Outcome::Deleted);
        }
    }
}

/// Gives an item a new time to live.
pub fn touch(context: &mut Context<'_>, key: &[u8], exptime: i64) -> Outcome {
    let expiry = expiry(exptime, context.batch.now());
    let lookup = context.batch.touch(key, expiry);
    context.observer.fetched(key, &lookup);
    match lookup {
        State::Hit(item) => {
            context.counters.count(Count::TouchHits);
            Outcome::Touched { flags: item.flags() }
        }
        state => {
            context.counters.count(Count::TouchMisses);
            count_death(context.counters, &state);
            Outcome::NotFound
        }
    }
}

/// Counts an item up or down.
///
/// # Errors
/// [`Fault::NonNumeric`], [`Fault::OutOfMemory`], [`Fault::OutOfMemoryCreating`].
pub fn count(context: &mut Context<'_>, counting: &Counting<'_>) -> Result<Outcome, Fault> {
    let key = counting.key;
    let (hit, miss) = match counting.direction {
        Direction::Up => (Count::IncrHits, Count::IncrMisses),
        Direction::Down => (Count::DecrHits, Count::DecrMisses),
    };
    context.observer.looking_up(&context.batch, key);
    loop {
        let lookup = context.batch.peek(key);
        let seen = lookup.witness();
        let State::Hit(item) = lookup else {
            let Some(creation) = counting.create else {
                context.counters.count(miss);
                return Ok(Outcome::NotFound);
            };
            match create(context, counting, creation, seen)? {
                Some(counted) => {
                    context.observer.created(&context.batch, key);
                    return Ok(Outcome::Counted(counted));
                }
                None => continue,
            }
        };
        if item.value_bytes() == 0 || is_in_chunks(context, &item) {
            return Err(Fault::NonNumeric);
        }
        let cas = visible_cas(context.shared, item.cas());
        if counting.compare.is_some_and(|compare| compare != cas) {
            return Ok(Outcome::Exists);
        }
        let text = item.value_chunks().flatten().copied();
        let number = lenient_u64_of(text).ok_or(Fault::NonNumeric)?;
        let number = match counting.direction {
            Direction::Up => number.wrapping_add(counting.delta),
            Direction::Down => number.saturating_sub(counting.delta),
        };
        let expiry = item.expiry();
        let old = Old { seen, flags: item.flags(), value_bytes: item.value_bytes() };
        if let Some(cas) = renumber(context, counting, &old, number)? {
            context.counters.count(hit);
            return Ok(Outcome::Counted(Counted { number, cas, expiry, created: false }));
        }
    }
}

fn remove(context: &mut Context<'_>, key: &[u8]) -> Outcome {
    match context.batch.remove(key, Expected::Any) {
        Removal::Removed => {
            context.counters.count(Count::DeleteHits);
            Outcome::Deleted
        }
        Removal::Missing | Removal::Changed => {
            context.counters.count(Count::DeleteMisses);
            Outcome::NotFound
        }
    }
}

/// What an item is to be of which a part is kept.
fn kept_traits(context: &Context<'_>, keep: &Keep, item: &Item<'_>) -> Traits {
    let now = context.batch.now();
    Traits {
        flags: keep.emptied.unwrap_or_else(|| item.flags()),
        expiry: match (keep.exptime, keep.emptied) {
            (Some(exptime), _) => Expiry::At(expiry(exptime, now)),
            (None, Some(_)) => Expiry::At(0),
            (None, None) => Expiry::Inherit,
        },
        cas: keep.cas.or_else(|| (!keep.stale).then(|| item.cas())),
        marks: match (keep.stale, keep.emptied) {
            (false, _) => Marks::New,
            (true, Some(_)) => Marks::NewStale,
            (true, None) => Marks::Invalidated,
        },
    }
}

/// Puts what is kept of an item in its place. `false` if the key was changed meanwhile.
fn keep_part(
    context: &mut Context<'_>,
    key: &[u8],
    seen: Witness,
    value_bytes: usize,
    keep: &Keep,
    traits: Traits,
) -> Result<bool, Fault> {
    if keep.emptied.is_none() {
        let copied = copy(context, key, seen, value_bytes, (&[], &[]), traits);
        let is_marked = copied.map_err(|_| Fault::OutOfMemory)?.is_some();
        context.counters.add(Count::ChangedInPlace, u64::from(is_marked));
        return Ok(is_marked);
    }
    let batch = &mut context.batch;
    let draft = batch.reserve_with(key, 0, traits).map_err(|_| Fault::OutOfMemory)?;
    Ok(published(batch, draft, Expected::Unchanged(seen)).is_some())
}

/// What a counter was.
struct Old {
    seen: Witness,
    flags: u32,
    value_bytes: usize,
}

/// Gives a counter a number, and its cas. `None` if the key was changed meanwhile.
fn renumber(
    context: &mut Context<'_>,
    counting: &Counting<'_>,
    old: &Old,
    number: u64,
) -> Result<Option<u64>, Fault> {
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(number).as_bytes();
    let fits = digits.len() <= old.value_bytes;
    let now = context.batch.now();
    let traits = Traits {
        flags: old.flags,
        expiry: counting.touch.map_or(Expiry::Inherit, |exptime| Expiry::At(expiry(exptime, now))),
        cas: counting.cas,
        // A number that does not fit in the place of the old one is a new item to memcached.
        marks: if fits { Marks::Same } else { Marks::New },
    };
    // A number that became shorter is padded, because clients count on the length to stay.
    let padding_bytes = old.value_bytes.saturating_sub(digits.len());
    let batch = &mut context.batch;
    let mut draft = batch
        .reserve_with(counting.key, digits.len() + padding_bytes, traits)
        .map_err(|_| Fault::OutOfMemory)?;
    batch.fill(&mut draft, digits);
    fill_blanks(batch, &mut draft, padding_bytes);
    let cas = published(batch, draft, Expected::Unchanged(old.seen));
    context.counters.add(Count::ChangedInPlace, u64::from(fits && cas.is_some()));
    Ok(cas.map(|cas| visible_cas(context.shared, cas)))
}

/// Whether memcached would keep the item in chunks, in which it finds no number.
fn is_in_chunks(context: &Context<'_>, item: &Item<'_>) -> bool {
    let bytes = item_bytes(context.shared, item.key(), item.flags(), item.value_bytes());
    bytes > CHUNK_BYTES_MAX
}

fn fill_blanks(batch: &Batch<'_>, draft: &mut Draft, count: usize) {
    const BLANKS: [u8; 64] = [b' '; 64];
    let mut left = count;
    while left > 0 {
        let step = left.min(BLANKS.len());
        batch.fill(draft, &BLANKS[..step]);
        left -= step;
    }
}

/// Puts a counter where there is none. `None` if the key was changed meanwhile.
fn create(
    context: &mut Context<'_>,
    counting: &Counting<'_>,
    creation: Creation,
    nothing: Witness,
) -> Result<Option<Counted>, Fault> {
    let number = creation.initial;
    let expiry = Expiry::At(expiry(creation.exptime, context.batch.now()));
    let traits = Traits { flags: 0, expiry, cas: counting.cas, marks: Marks::New };
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(number).as_bytes();
    let batch = &mut context.batch;
    let mut draft = batch
        .reserve_with(counting.key, digits.len(), traits)
        .map_err(|_| Fault::OutOfMemoryCreating)?;
    batch.fill(&mut draft, digits);
    let cas = published(batch, draft, Expected::Unchanged(nothing));
    Ok(cas.map(|cas| {
        let cas = visible_cas(context.shared, cas);
        Counted { number, cas, expiry: 0, created: true }
    }))
}

/// Half a page of memcached's slabs.
const CHUNK_BYTES_MAX: usize = 512 << 10;
