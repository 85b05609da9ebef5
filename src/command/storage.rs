//! Storing values.

use super::{Context, published, visible_cas};
use crate::protocol::{Fault, Mode, Outcome, Storage, Stored, expiry};
use crate::shared::Shared;
use crate::stats::Count;
use crate::store::{Draft, Expected, Expiry, Incoming, Marks, OutOfMemory, State, Traits, Witness};

/// Decides whether a value is to be had at all, before it arrives.
///
/// # Errors
/// [`Fault::TooLarge`]. The old value may then be gone, see [`Storage::replaces_or_removes`].
pub fn admit(context: &mut Context<'_>, storage: &Storage<'_>) -> Result<(), Fault> {
    context.observer.storing(storage.key);
    if item_fits(context.shared, storage.key, storage.flags, storage.value_bytes) {
        return Ok(());
    }
    context.counters.count(Count::StoreTooLarge);
    context.observer.refused(storage, "too_large");
    remove_unreplaced(context, storage);
    Err(Fault::TooLarge)
}

/// Begins to receive a value in the place where it will lie. `None` where there is none: what is
/// joined to another value must be whole first.
pub fn receive(context: &mut Context<'_>, storage: &Storage<'_>) -> Option<Incoming> {
    let Storage { mode, key, value_bytes, flags, cas, .. } = *storage;
    let is_joined = matches!(mode, Mode::Append | Mode::Prepend);
    if is_joined { None } else { context.batch.receive(key, value_bytes, flags, cas) }
}

/// Stores a value: what was [received](receive) of it, and the rest.
///
/// # Errors
/// Whatever [`no_memory`] says.
pub fn store(
    context: &mut Context<'_>,
    storage: &Storage<'_>,
    received: Option<Incoming>,
    value: &[u8],
) -> Result<Outcome, Fault> {
    context.observer.looking_up(&context.batch, storage.key);
    let result = match storage.mode {
        Mode::Set | Mode::Add | Mode::Replace => replace(context, storage, received, value),
        Mode::Append | Mode::Prepend => join(context, storage, value),
    };
    if let Err(Fault::OutOfMemoryStoring) = result {
        return Err(no_memory(context, storage));
    }
    context.counters.count(Count::CmdSet);
    context.observer.stored(&context.batch, storage, result);
    result
}

/// Gives up storing a value for want of memory. The old value may then be gone, see
/// [`Storage::replaces_or_removes`].
pub fn no_memory(context: &mut Context<'_>, storage: &Storage<'_>) -> Fault {
    context.counters.count(Count::StoreNoMemory);
    context.observer.refused(storage, "no_memory");
    remove_unreplaced(context, storage);
    Fault::OutOfMemoryStoring
}

/// Bytes that an item would take if memcached kept it, its header and tail included: what `-I` is
/// measured with.
#[must_use]
pub fn item_bytes(shared: &Shared, key: &[u8], flags: u32, value_bytes: usize) -> usize {
    let cas_bytes = if shared.config.cas { 8 } else { 0 };
    let flags_bytes = if flags == 0 { 0 } else { 4 };
    let key_bytes = key.len() + 1;
    let frame_bytes = ITEM_HEADER_BYTES + cas_bytes + key_bytes + flags_bytes + VALUE_END_BYTES;
    value_bytes.saturating_add(frame_bytes)
}

/// `set`, `add`, `replace` and their comparing forms.
fn replace(
    context: &mut Context<'_>,
    storage: &Storage<'_>,
    received: Option<Incoming>,
    value: &[u8],
) -> Result<Outcome, Fault> {
    let traits = Traits {
        flags: storage.flags,
        expiry: Expiry::At(expiry(storage.exptime, context.batch.now())),
        cas: storage.cas,
        marks: Marks::New,
    };
    if storage.mode != Mode::Set || storage.compare.is_some() {
        return replace_if_admitted(context, storage, received, value, traits);
    }
    let cas = match received {
        None => context.batch.put(storage.key, value, traits),
        Some(_) => prepared(context, storage.key, received, value, traits).map(|draft| {
            let cas = published(&mut context.batch, draft, Expected::Any);
            cas.expect("there is no condition")
        }),
    };
    cas.map(|cas| stored(context, storage, cas)).map_err(|OutOfMemory| Fault::OutOfMemoryStoring)
}

/// Stores a value where the state of its key admits it.
fn replace_if_admitted(
    context: &mut Context<'_>,
    storage: &Storage<'_>,
    mut received: Option<Incoming>,
    value: &[u8],
    as_asked: Traits,
) -> Result<Outcome, Fault> {
    let mut refused: Option<Draft> = None;
    loop {
        let lookup = context.batch.peek(storage.key);
        let expected = Expected::Unchanged(lookup.witness());
        let traits = match admitted_marks(context, storage, &lookup) {
            Ok(marks) => as_marked(as_asked, marks),
            Err(outcome) => {
                if let Some(draft) = refused {
                    context.batch.discard(draft);
                }
                return Ok(outcome);
            }
        };
        let draft = match refused {
            Some(draft) => draft.with_traits(traits),
            None => prepared(context, storage.key, received.take(), value, traits)
                .map_err(|OutOfMemory| Fault::OutOfMemoryStoring)?,
        };
        match context.batch.publish(draft, expected) {
            Ok(cas) => {
                if storage.compare.is_some() && storage.mode != Mode::Add {
                    context.counters.count(Count::CasHits);
                }
                return Ok(stored(context, storage, cas));
            }
            Err(draft) => refused = Some(draft),
        }
    }
}

fn stored(context: &Context<'_>, storage: &Storage<'_>, cas: u64) -> Outcome {
    let cas = visible_cas(context.shared, cas);
    Outcome::Stored(Stored { cas, value_bytes: storage.value_bytes })
}

/// A draft of what was received of a value, and the rest.
fn prepared(
    context: &mut Context<'_>,
    key: &[u8],
    received: Option<Incoming>,
    value: &[u8],
    traits: Traits,
) -> Result<Draft, OutOfMemory> {
    let batch = &mut context.batch;
    let mut draft = match received {
        Some(received) => batch.complete(received, traits),
        None => batch.reserve_with(key, value.len(), traits),
    };
    // Where it is: to move a draft costs more than to fill it.
    if let Ok(draft) = &mut draft {
        batch.fill(draft, value);
    }
    draft
}

/// A value that is out of date does not prolong the life of the item.
fn as_marked(as_asked: Traits, marks: Marks) -> Traits {
    match marks {
        Marks::StillStale => Traits { expiry: Expiry::Inherit, marks, ..as_asked },
        marks => Traits { marks, ..as_asked },
    }
}

/// With what marks a value is stored where a key is in this state, or why it is not.
fn admitted_marks(
    context: &Context<'_>,
    storage: &Storage<'_>,
    state: &State<'_>,
) -> Result<Marks, Outcome> {
    match (storage.mode, storage.compare, state) {
        (Mode::Add, _, State::Hit(_)) => Err(Outcome::NotStored),
        (Mode::Add, ..) => Ok(Marks::New),
        (_, Some(compare), State::Hit(item)) => {
            let cas = visible_cas(context.shared, item.cas());
            if compare != 0 && compare == cas {
                Ok(Marks::New)
            } else if storage.accept_stale && compare != 0 && compare < cas {
                Ok(Marks::StillStale)
            } else {
                context.counters.count(Count::CasBadval);
                Err(Outcome::Exists)
            }
        }
        (_, Some(_), _) => {
            context.counters.count(Count::CasMisses);
            Err(Outcome::NotFound)
        }
        (Mode::Replace, None, state) if !matches!(state, State::Hit(_)) => Err(Outcome::NotStored),
        _ => Ok(Marks::New),
    }
}

/// `append` and `prepend`: flags and time to live stay those of the item.
fn join(context: &mut Context<'_>, storage: &Storage<'_>, value: &[u8]) -> Result<Outcome, Fault> {
    let key = storage.key;
    let ends = if storage.mode == Mode::Append { (&[][..], value) } else { (value, &[][..]) };
    loop {
        let lookup = context.batch.peek(key);
        let State::Hit(item) = &lookup else {
            if !storage.create {
                return Ok(Outcome::NotStored);
            }
            match replace(context, &Storage { mode: Mode::Add, ..*storage }, None, value)? {
                Outcome::NotStored => continue,
                outcome => return Ok(outcome),
            }
        };
        if storage.compare.is_some_and(|cas| cas != visible_cas(context.shared, item.cas())) {
            return Ok(Outcome::Exists);
        }
        let flags = item.flags();
        let value_bytes = item.value_bytes().saturating_add(value.len());
        if !item_fits(context.shared, key, flags, value_bytes) {
            return Ok(Outcome::NotStored);
        }
        let traits = Traits { flags, expiry: Expiry::Inherit, cas: storage.cas, marks: Marks::New };
        let seen = lookup.witness();
        if let Some(cas) = copy(context, key, seen, value_bytes, ends, traits)? {
            return Ok(Outcome::Stored(Stored { cas, value_bytes }));
        }
    }
}

/// Makes a copy of the item that was seen its key's: its value between two others, of `value_bytes`
/// bytes altogether. Gives the cas, or `None` if the key was changed meanwhile.
pub(super) fn copy(
    context: &mut Context<'_>,
    key: &[u8],
    seen: Witness,
    value_bytes: usize,
    (before, behind): (&[u8], &[u8]),
    traits: Traits,
) -> Result<Option<u64>, Fault> {
    let batch = &mut context.batch;
    let mut draft = batch
        .reserve_with(key, value_bytes, traits)
        .map_err(|OutOfMemory| Fault::OutOfMemoryStoring)?;
    // Making room may have moved or dropped the item, so it is looked up again for its bytes.
    let lookup = batch.peek(key);
    match lookup {
        State::Hit(item) if lookup.witness() == seen => {
            batch.fill(&mut draft, before);
            for piece in item.value_chunks() {
                batch.fill(&mut draft, piece);
            }
            batch.fill(&mut draft, behind);
        }
        _ => {
            batch.discard(draft);
            return Ok(None);
        }
    }
    let cas = published(batch, draft, Expected::Unchanged(seen));
    Ok(cas.map(|cas| visible_cas(context.shared, cas)))
}

fn remove_unreplaced(context: &mut Context<'_>, storage: &Storage<'_>) {
    if storage.replaces_or_removes {
        context.observer.looking_up(&context.batch, storage.key);
        context.batch.remove(storage.key, Expected::Any);
    }
}

fn item_fits(shared: &Shared, key: &[u8], flags: u32, value_bytes: usize) -> bool {
    item_bytes(shared, key, flags, value_bytes) <= shared.config.item_bytes_max
}

const ITEM_HEADER_BYTES: usize = 48;
const VALUE_END_BYTES: usize = 2;
