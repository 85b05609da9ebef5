//! Retrieving items: those of a text retrieval or of look-alikes in other dialects, and single ones
//! with all that can be told of them.

use super::storage::item_bytes;
use super::{Context, count_death, published, visible_cas};
use crate::clock::Seconds;
use crate::output::Loans;
use crate::protocol::{Attributes, Fetch, Lease, expiry};
use crate::shared::Shared;
use crate::stats::Count;
use crate::store::{
    Amended, Amendment, Batch, Expected, Expiry, Item, Marks, State, Traits, Witness,
};
use std::ops::ControlFlow;

/// An item that was retrieved.
#[derive(Clone, Copy, Debug)]
pub struct Hit<'b> {
    item: Item<'b>,
    shared: &'b Shared,
}

impl<'b> Hit<'b> {
    /// The client's flags.
    #[must_use]
    pub fn flags(&self) -> u32 {
        self.item.flags()
    }

    /// The cas, as clients see it.
    #[must_use]
    pub fn cas(&self) -> u64 {
        visible_cas(self.shared, self.item.cas())
    }

    /// The value's length.
    #[must_use]
    pub fn value_bytes(&self) -> usize {
        self.item.value_bytes()
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> Value<'b> {
        Value { item: Some(self.item), shared: self.shared }
    }
}

/// The value of an item, which is empty where the item was just created.
#[derive(Clone, Copy, Debug)]
pub struct Value<'b> {
    item: Option<Item<'b>>,
    shared: &'b Shared,
}

impl Value<'_> {
    /// Adds it to `output`, or lends it.
    pub fn write_to(&self, output: &mut Vec<u8>, loans: &mut Loans) {
        if let Some(item) = &self.item {
            loans.add_value(output, &self.shared.store, item);
        }
    }
}

/// Retrieves the items under keys, [`PREFETCH_KEYS`](crate::store::PREFETCH_KEYS) at most, and
/// gives them this time to live if there is one. `show` is shown each with its key's number, until
/// it breaks off. Returns how many it was shown.
pub fn retrieve(
    context: &mut Context<'_>,
    touch: Option<i64>,
    keys: &[&[u8]],
    mut show: impl FnMut(usize, Option<&Hit<'_>>) -> ControlFlow<()>,
) -> usize {
    let Context { shared, counters, batch, observer } = context;
    let (hit, miss) = if touch.is_none() { GET_COUNTS } else { TOUCH_COUNTS };
    let mut show = |number: usize, lookup: &State<'_>| {
        observer.retrieved(keys[number], lookup);
        if let State::Hit(item) = *lookup {
            counters.count(hit);
            return show(number, Some(&Hit { item, shared }));
        }
        counters.count(miss);
        count_death(counters, lookup);
        show(number, None)
    };
    let now = batch.now();
    match (touch, keys) {
        (None, &[key]) => {
            let _done = show(0, &batch.fetch(key));
            1
        }
        (None, keys) => batch.look_each(keys, |number, lookup| {
            if let State::Hit(item) = &lookup {
                item.mark_fetched(now);
            }
            show(number, &lookup)
        }),
        (Some(exptime), keys) => {
            let expiry = expiry(exptime, now);
            let last = keys
                .iter()
                .enumerate()
                .position(|(number, key)| show(number, &batch.touch(key, expiry)).is_break());
            last.map_or(keys.len(), |last| last + 1)
        }
    }
}

/// Fetches an item, as it was before. Returns what `show` makes of it, or `None` if there is none.
pub fn fetch<T>(
    context: &mut Context<'_>,
    fetch: &Fetch<'_>,
    show: impl FnOnce(&Attributes, Value<'_>) -> T,
) -> Option<T> {
    // Where there is no item, a miss is a miss of a `get`, even if it was to be touched.
    let hit = if fetch.touch.is_none() { Count::GetHits } else { Count::TouchHits };
    loop {
        let Context { shared, counters, batch, observer } = context;
        let lookup = match take(shared, batch, fetch, batch.look(fetch.key)) {
            Ok((item, attributes)) => {
                observer.fetched(fetch.key, &State::Hit(item));
                counters.count(hit);
                return Some(show(&attributes, Value { item: Some(item), shared }));
            }
            Err(lookup) => lookup,
        };
        let nothing = lookup.witness();
        let absence = absence(&lookup);
        let created = match fetch.create.map(|exptime| create(context, fetch, exptime, nothing)) {
            // Somebody else was faster: it is as if nobody had looked yet.
            Some(Creation::Changed) => continue,
            Some(Creation::Created(attributes)) => Some(attributes),
            Some(Creation::NoMemory) | None => None,
        };
        context.observer.fetched(fetch.key, &absence);
        count_death(context.counters, &absence);
        context.counters.count(if created.is_some() { hit } else { Count::GetMisses });
        let value = Value { item: None, shared: context.shared };
        return created.map(|attributes| show(&attributes, value));
    }
}

/// As [`fetch`], for several keys, [`PREFETCH_KEYS`](crate::store::PREFETCH_KEYS) at most, of which
/// nothing else is wanted. `show` is shown each with its key's number, until it breaks off. Returns
/// how many it was shown.
pub fn fetch_each(
    context: &mut Context<'_>,
    keys: &[&[u8]],
    mut show: impl FnMut(usize, Option<(&Attributes, Value<'_>)>) -> ControlFlow<()>,
) -> usize {
    let Context { shared, counters, batch, observer } = context;
    let batch = &*batch;
    batch.look_each(keys, |number, lookup| {
        let taken = match lookup {
            // Nobody has to bring another one, so it is as it is.
            State::Hit(item) if !item.is_stale() => {
                let attributes = attributes(shared, &item);
                item.mark_fetched(batch.now());
                Ok((item, attributes))
            }
            _ => take(shared, batch, &Fetch::plain(keys[number]), lookup),
        };
        // Borrowed, and shown in one place: item and attributes stay where they were made.
        let fetched = match &taken {
            Ok((item, attributes)) => {
                observer.fetched(keys[number], &State::Hit(*item));
                counters.count(Count::GetHits);
                Some((attributes, Value { item: Some(*item), shared }))
            }
            Err(state) => {
                observer.fetched(keys[number], state);
                count_death(counters, state);
                counters.count(Count::GetMisses);
                None
            }
        };
        show(number, fetched)
    })
}

/// What can be told of an item and, in bytes, what it would take in memcached. Leaves no trace.
pub fn inspect(context: &Context<'_>, key: &[u8]) -> Option<(Attributes, usize)> {
    context.counters.count(Count::CmdMeta);
    context.observer.looking_up(&context.batch, key);
    let State::Hit(item) = context.batch.peek(key) else { return None };
    let attributes = attributes(context.shared, &item);
    let bytes = item_bytes(context.shared, key, attributes.flags, attributes.value_bytes);
    Some((attributes, bytes))
}

enum Creation {
    Created(Attributes),
    Changed,
    NoMemory,
}

/// Does with an item what is to be done when it is fetched. `Err` if there is none.
fn take<'b>(
    shared: &Shared,
    batch: &'b Batch<'_>,
    fetch: &Fetch<'_>,
    mut lookup: State<'b>,
) -> Result<(Item<'b>, Attributes), State<'b>> {
    loop {
        let State::Hit(item) = lookup else { return Err(lookup) };
        let mut attributes = attributes(shared, &item);
        let lease = attributes.lease == Lease::Free
            && (attributes.stale || ends_soon(fetch, &attributes, batch.now()));
        let expiry = fetch.touch.map(|exptime| expiry(exptime, batch.now()));
        if lease || expiry.is_some() {
            match batch.amend(fetch.key, lookup.witness(), Amendment { expiry, lease }) {
                Amended::Done { leased: true } => attributes.lease = Lease::Won,
                Amended::Done { leased: false } if lease => attributes.lease = Lease::Taken,
                Amended::Done { leased: false } => {}
                Amended::Changed => {
                    lookup = batch.look(fetch.key);
                    continue;
                }
            }
        }
        if fetch.mark {
            item.mark_fetched(batch.now());
        }
        return Ok((item, attributes));
    }
}

/// Why there is no item, for longer than the look that found none.
fn absence(state: &State<'_>) -> State<'static> {
    match state {
        State::Expired => State::Expired,
        State::Flushed => State::Flushed,
        State::Hit(_) | State::Missing => State::Missing,
    }
}

fn ends_soon(fetch: &Fetch<'_>, attributes: &Attributes, now: Seconds) -> bool {
    let Some(recache) = fetch.recache else { return false };
    let end = match fetch.touch {
        Some(exptime) if recache.touched => expiry(exptime, now),
        _ => attributes.expiry,
    };
    end != 0 && end < expiry(recache.exptime, now)
}

/// Puts an empty item where there is none.
fn create(
    context: &mut Context<'_>,
    fetch: &Fetch<'_>,
    exptime: i64,
    nothing: Witness,
) -> Creation {
    let Context { shared, batch, .. } = context;
    let expiry = Expiry::At(expiry(exptime, batch.now()));
    let traits = Traits { flags: 0, expiry, cas: fetch.cas, marks: Marks::Placeholder };
    let Ok(draft) = batch.reserve_with(fetch.key, 0, traits) else { return Creation::NoMemory };
    let Some(cas) = published(batch, draft, Expected::Unchanged(nothing)) else {
        return Creation::Changed;
    };
    if fetch.mark
        && let State::Hit(item) = batch.peek(fetch.key)
    {
        item.mark_fetched(batch.now());
    }
    Creation::Created(Attributes {
        flags: 0,
        cas: visible_cas(shared, cas),
        value_bytes: 0,
        expiry: 0,
        last_access: batch.now(),
        fetched: false,
        created: true,
        stale: false,
        lease: Lease::Won,
    })
}

fn attributes(shared: &Shared, item: &Item<'_>) -> Attributes {
    Attributes {
        flags: item.flags(),
        cas: visible_cas(shared, item.cas()),
        value_bytes: item.value_bytes(),
        expiry: item.expiry(),
        last_access: item.last_access(),
        fetched: item.is_fetched(),
        created: false,
        stale: item.is_stale(),
        lease: if item.is_leased() { Lease::Taken } else { Lease::Free },
    }
}

const GET_COUNTS: (Count, Count) = (Count::GetHits, Count::GetMisses);
const TOUCH_COUNTS: (Count, Count) = (Count::TouchHits, Count::TouchMisses);
