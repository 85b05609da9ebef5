//! What each command means, once, whatever the dialect it came in.
//!
//! Everything that depends on what a key holds is done in the same way: look, decide, prepare the
//! new item aside, and publish it on condition that the key still holds what was seen; where it
//! does not, look again.

use crate::clock::Seconds;
use crate::protocol::encode::Encoder;
use crate::protocol::number::lenient_u64;
use crate::protocol::{Direction, Fault, Mode, Outcome, Request, Retrieval, Storage};
use crate::shared::Shared;
use crate::stats::{Count, Counters};
use crate::store::{Batch, Draft, Expected, Expiry, Item, Lookup, OutOfMemory, Removal, State};
use std::ops::ControlFlow;

mod report;

/// What commands work with, for the time between two waits.
#[derive(Debug)]
pub struct Context<'w> {
    /// What all threads share.
    pub shared: &'w Shared,
    /// This worker's counts.
    pub counters: &'w Counters,
    /// The store, at one moment.
    pub batch: Batch<'w>,
}

/// What becomes of the connection after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The next request.
    Continue,
    /// It ends, when what was written so far is sent.
    Close,
}

/// Carries out a request that is complete in itself: neither keys nor a value follow it.
///
/// # Panics
/// If it is one of [`Request::Retrieve`] and [`Request::Store`], which have [`retrieve`] and
/// [`store`].
pub fn execute(context: &mut Context<'_>, request: Request<'_>, encoder: &mut Encoder<'_>) -> Then {
    let result = match request {
        Request::Delete { key } => Ok(delete(context, key)),
        Request::Touch { key, exptime } => Ok(touch(context, key, exptime)),
        Request::Flush { exptime } => flush(context, exptime),
        Request::LimitMemory { megabytes } => limit_memory(context, megabytes),
        Request::Verbosity { level } => {
            context.shared.set_verbosity(level);
            Ok(Outcome::Ok)
        }
        Request::Count { key, direction, delta } => match count(context, key, direction, delta) {
            Ok(Some(number)) => {
                encoder.number(number);
                return Then::Continue;
            }
            Ok(None) => Ok(Outcome::NotFound),
            Err(fault) => Err(fault),
        },
        Request::Version => {
            encoder.version();
            return Then::Continue;
        }
        Request::Stats { topic, arguments } => {
            report::report(context, topic, arguments, encoder);
            return Then::Continue;
        }
        Request::Shutdown { manner } => match shutdown(context, manner) {
            Ok(()) => return Then::Close,
            Err(fault) => Err(fault),
        },
        Request::Quit => return Then::Close,
        Request::Retrieve(_) | Request::Store(_) => unreachable!("served with what follows them"),
    };
    match result {
        Ok(outcome) => encoder.outcome(outcome),
        Err(fault) => encoder.fault(fault),
    }
    Then::Continue
}

/// Writes the items under keys ([`PREFETCH_KEYS`](crate::store::PREFETCH_KEYS) at most), until the
/// output has reached a length. `end_key` is called behind each, whether there was an item or not.
/// Returns how many keys are done with.
pub fn retrieve<'e>(
    context: &mut Context<'_>,
    retrieval: Retrieval,
    keys: &[&[u8]],
    output_bytes: usize,
    encoder: &mut Encoder<'e>,
    mut end_key: impl FnMut(&mut Encoder<'e>),
) -> usize {
    let now = context.batch.now();
    let Context { shared, counters, batch } = context;
    let counts = if retrieval.touch.is_none() { GET_COUNTS } else { TOUCH_COUNTS };
    let mut answer = |key: &[u8], lookup: &Lookup<'_>| {
        write_item(shared, counters, retrieval.cas, key, lookup, counts, encoder);
        end_key(encoder);
        if encoder.written() < output_bytes {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    };
    match (retrieval.touch, keys) {
        (None, &[key]) => {
            let _done = answer(key, &batch.fetch(key));
            1
        }
        (None, keys) => batch.fetch_each(keys, |key, lookup| answer(key, &lookup)),
        (Some(exptime), keys) => {
            let expiry = expiry(exptime, now);
            let last = keys.iter().position(|key| {
                let lookup = batch.touch(key, expiry);
                answer(key, &lookup).is_break()
            });
            last.map_or(keys.len(), |last| last + 1)
        }
    }
}

fn write_item(
    shared: &Shared,
    counters: &Counters,
    with_cas: bool,
    key: &[u8],
    lookup: &Lookup<'_>,
    (hit, miss): (Count, Count),
    encoder: &mut Encoder<'_>,
) {
    match &lookup.state {
        State::Hit(item) => {
            counters.count(hit);
            let cas = with_cas.then(|| visible_cas(shared, item));
            encoder.value(key, item.flags(), cas, item.value_bytes(), item.value_chunks());
        }
        state => {
            counters.count(miss);
            count_death(counters, state);
        }
    }
}

/// Decides whether a value is to be had at all, before it arrives.
///
/// # Errors
/// [`Fault::TooLarge`]. The old value of a `set` is then gone: the client believes it replaced.
pub fn admit(context: &mut Context<'_>, storage: &Storage<'_>) -> Result<(), Fault> {
    if item_fits(context.shared, storage.key, storage.flags, storage.value_bytes) {
        return Ok(());
    }
    context.counters.count(Count::StoreTooLarge);
    forget_replaced(context, storage);
    Err(Fault::TooLarge)
}

/// Stores a value.
///
/// # Errors
/// Whatever [`no_memory`] says.
pub fn store(
    context: &mut Context<'_>,
    storage: &Storage<'_>,
    value: &[u8],
) -> Result<Outcome, Fault> {
    let result = match storage.mode {
        Mode::Set => place(context, storage, value, Expected::Any).map(|_| Outcome::Stored),
        Mode::Add => store_unless(context, storage, value, |_, state| {
            matches!(state, State::Hit(_)).then_some(Outcome::NotStored)
        }),
        Mode::Replace => store_unless(context, storage, value, |_, state| {
            (!matches!(state, State::Hit(_))).then_some(Outcome::NotStored)
        }),
        Mode::Cas(cas) => {
            store_unless(context, storage, value, |context, state| mismatch(context, state, cas))
        }
        Mode::Append | Mode::Prepend => join(context, storage, value),
    };
    if let Err(Fault::OutOfMemoryStoring) = result {
        return Err(no_memory(context, storage));
    }
    context.counters.count(Count::CmdSet);
    result
}

/// Gives up storing a value for want of memory. The old value of a `set` is then gone: the client
/// believes it replaced.
pub fn no_memory(context: &mut Context<'_>, storage: &Storage<'_>) -> Fault {
    context.counters.count(Count::StoreNoMemory);
    forget_replaced(context, storage);
    Fault::OutOfMemoryStoring
}

/// Stores, unless what the key holds is a reason not to.
fn store_unless(
    context: &mut Context<'_>,
    storage: &Storage<'_>,
    value: &[u8],
    objection: impl Fn(&Context<'_>, &State<'_>) -> Option<Outcome>,
) -> Result<Outcome, Fault> {
    loop {
        let lookup = context.batch.peek(storage.key);
        if let Some(outcome) = objection(context, &lookup.state) {
            return Ok(outcome);
        }
        let expected = Expected::Unchanged(lookup.witness());
        if place(context, storage, value, expected)? {
            if let Mode::Cas(_) = storage.mode {
                context.counters.count(Count::CasHits);
            }
            return Ok(Outcome::Stored);
        }
    }
}

/// Makes the value the key's, if the key is as expected.
fn place(
    context: &mut Context<'_>,
    storage: &Storage<'_>,
    value: &[u8],
    expected: Expected,
) -> Result<bool, Fault> {
    let expiry = Expiry::At(expiry(storage.exptime, context.batch.now()));
    let mut draft = context
        .batch
        .reserve(storage.key, value.len(), storage.flags, expiry)
        .map_err(|_| Fault::OutOfMemoryStoring)?;
    context.batch.fill(&mut draft, value);
    Ok(published(&mut context.batch, draft, expected))
}

/// `append` and `prepend`: flags and time to live stay those of the item.
fn join(context: &mut Context<'_>, storage: &Storage<'_>, value: &[u8]) -> Result<Outcome, Fault> {
    let key = storage.key;
    loop {
        let State::Hit(item) = context.batch.peek(key).state else {
            return Ok(Outcome::NotStored);
        };
        let (flags, old_bytes) = (item.flags(), item.value_bytes());
        let value_bytes = old_bytes.saturating_add(value.len());
        if !item_fits(context.shared, key, flags, value_bytes) {
            return Ok(Outcome::NotStored);
        }
        let mut draft = context
            .batch
            .reserve(key, value_bytes, flags, Expiry::Inherit)
            .map_err(|_| Fault::OutOfMemoryStoring)?;
        // Making room may have moved or dropped the item, so it is looked up again for its bytes.
        let lookup = context.batch.peek(key);
        let expected = Expected::Unchanged(lookup.witness());
        match lookup.state {
            State::Hit(item) if item.value_bytes() == old_bytes && item.flags() == flags => {
                if storage.mode == Mode::Prepend {
                    context.batch.fill(&mut draft, value);
                }
                for piece in item.value_chunks() {
                    context.batch.fill(&mut draft, piece);
                }
                if storage.mode == Mode::Append {
                    context.batch.fill(&mut draft, value);
                }
            }
            _ => {
                context.batch.discard(draft);
                continue;
            }
        }
        if published(&mut context.batch, draft, expected) {
            return Ok(Outcome::Stored);
        }
    }
}

/// The number that the item reached, or `None` where there is no item.
fn count(
    context: &mut Context<'_>,
    key: &[u8],
    direction: Direction,
    delta: u64,
) -> Result<Option<u64>, Fault> {
    let (hit, miss) = match direction {
        Direction::Up => (Count::IncrHits, Count::IncrMisses),
        Direction::Down => (Count::DecrHits, Count::DecrMisses),
    };
    loop {
        let lookup = context.batch.peek(key);
        let State::Hit(item) = &lookup.state else {
            context.counters.count(miss);
            return Ok(None);
        };
        let number = counter_value(item).ok_or(Fault::NonNumeric)?;
        let number = match direction {
            Direction::Up => number.wrapping_add(delta),
            Direction::Down => number.saturating_sub(delta),
        };
        let expected = Expected::Unchanged(lookup.witness());
        let (flags, old_bytes) = (item.flags(), item.value_bytes());
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(number).as_bytes();
        // A number that became shorter is padded, because clients count on the length to stay.
        let padding_bytes = old_bytes.saturating_sub(digits.len());
        let mut draft = context
            .batch
            .reserve(key, digits.len() + padding_bytes, flags, Expiry::Inherit)
            .map_err(|_| Fault::OutOfMemory)?;
        context.batch.fill(&mut draft, digits);
        fill_blanks(&context.batch, &mut draft, padding_bytes);
        if published(&mut context.batch, draft, expected) {
            context.counters.count(hit);
            return Ok(Some(number));
        }
    }
}

/// A counter is short, so it lies in one piece; what lies in several is none.
fn counter_value(item: &Item<'_>) -> Option<u64> {
    let mut pieces = item.value_chunks();
    let text = pieces.next()?;
    if pieces.next().is_some() {
        return None;
    }
    lenient_u64(text)
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

/// Publishes a draft, or discards it if the key is not as expected.
fn published(batch: &mut Batch<'_>, draft: Draft, expected: Expected) -> bool {
    match batch.publish(draft, expected) {
        Ok(_) => true,
        Err(draft) => {
            batch.discard(draft);
            false
        }
    }
}

fn delete(context: &mut Context<'_>, key: &[u8]) -> Outcome {
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

fn touch(context: &mut Context<'_>, key: &[u8], exptime: i32) -> Outcome {
    let expiry = expiry(exptime, context.batch.now());
    match context.batch.touch(key, expiry).state {
        State::Hit(_) => {
            context.counters.count(Count::TouchHits);
            Outcome::Touched
        }
        state => {
            context.counters.count(Count::TouchMisses);
            count_death(context.counters, &state);
            Outcome::NotFound
        }
    }
}

fn flush(context: &mut Context<'_>, exptime: Option<i32>) -> Result<Outcome, Fault> {
    context.counters.count(Count::CmdFlush);
    if !context.shared.config.flush_allowed {
        return Err(Fault::FlushNotAllowed);
    }
    let exptime = exptime.ok_or(Fault::InvalidExptime)?;
    let at = if exptime > 0 { expiry(exptime, context.batch.now()) } else { 0 };
    context.batch.flush(at);
    Ok(Outcome::Ok)
}

fn limit_memory(context: &mut Context<'_>, megabytes: u32) -> Result<Outcome, Fault> {
    if megabytes < MEMORY_MEGABYTES_MIN {
        return Err(Fault::LimitTooSmall);
    }
    if megabytes > MEMORY_MEGABYTES_MAX {
        return Err(Fault::LimitInBytes);
    }
    let bytes = usize::try_from(u64::from(megabytes) << 20).map_err(|_| Fault::LimitOutOfBounds)?;
    match context.batch.set_memory_bytes(bytes) {
        Ok(()) => Ok(Outcome::Ok),
        Err(OutOfMemory) => Err(Fault::LimitOutOfBounds),
    }
}

fn shutdown(context: &Context<'_>, manner: &[u8]) -> Result<(), Fault> {
    if !context.shared.config.shutdown_allowed {
        return Err(Fault::ShutdownNotEnabled);
    }
    if !matches!(manner, b"" | b"graceful") {
        return Err(Fault::InvalidShutdownMode);
    }
    context.shared.request_shutdown();
    Ok(())
}

/// Why a `cas` is not carried out.
fn mismatch(context: &Context<'_>, state: &State<'_>, cas: u64) -> Option<Outcome> {
    match state {
        State::Hit(item) if context.shared.config.cas && item.cas() == cas => None,
        State::Hit(_) => {
            context.counters.count(Count::CasBadval);
            Some(Outcome::Exists)
        }
        _ => {
            context.counters.count(Count::CasMisses);
            Some(Outcome::NotFound)
        }
    }
}

fn count_death(counters: &Counters, state: &State<'_>) {
    match state {
        State::Expired => counters.count(Count::GetExpired),
        State::Flushed => counters.count(Count::GetFlushed),
        State::Hit(_) | State::Missing => {}
    }
}

fn forget_replaced(context: &mut Context<'_>, storage: &Storage<'_>) {
    if storage.mode == Mode::Set {
        context.batch.remove(storage.key, Expected::Any);
    }
}

fn visible_cas(shared: &Shared, item: &Item<'_>) -> u64 {
    if shared.config.cas { item.cas() } else { 0 }
}

/// Whether an item would be within the limit if memcached kept it: its header and tail are what
/// `-I` is measured with.
fn item_fits(shared: &Shared, key: &[u8], flags: u32, value_bytes: usize) -> bool {
    let cas_bytes = if shared.config.cas { 8 } else { 0 };
    let flags_bytes = if flags == 0 { 0 } else { 4 };
    let key_bytes = key.len() + 1;
    let frame_bytes = ITEM_HEADER_BYTES + cas_bytes + key_bytes + flags_bytes + VALUE_END_BYTES;
    value_bytes.saturating_add(frame_bytes) <= shared.config.item_bytes_max
}

/// When an item with this expiry of a client's ends (0: never).
fn expiry(exptime: i32, now: Seconds) -> Seconds {
    match u32::try_from(exptime) {
        Err(_) => LONG_AGO,
        Ok(0) => 0,
        Ok(delay @ 1..=RELATIVE_SECONDS_MAX) => now.saturating_add(delay),
        Ok(second) => second,
    }
}

const GET_COUNTS: (Count, Count) = (Count::GetHits, Count::GetMisses);
const TOUCH_COUNTS: (Count, Count) = (Count::TouchHits, Count::TouchMisses);

/// A second that is over, and not "never".
const LONG_AGO: Seconds = 1;
/// Longer expiries, 30 days, are points in time.
const RELATIVE_SECONDS_MAX: u32 = 60 * 60 * 24 * 30;
/// Less than this is no memory limit.
const MEMORY_MEGABYTES_MIN: u32 = 8;
/// More than this was meant in bytes.
const MEMORY_MEGABYTES_MAX: u32 = 1_000_000_000;
const ITEM_HEADER_BYTES: usize = 48;
const VALUE_END_BYTES: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiries_are_relative_for_thirty_days() {
        let now = 1_800_000_000;
        assert_eq!(expiry(0, now), 0);
        assert_eq!(expiry(1, now), now + 1);
        assert_eq!(expiry(2_592_000, now), now + 2_592_000);
        assert_eq!(expiry(2_592_001, now), 2_592_001);
        assert_eq!(expiry(-1, now), LONG_AGO);
        assert_eq!(expiry(i32::MIN, now), LONG_AGO);
    }
}
