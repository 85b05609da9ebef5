//! A command layer in small: what tests ask of a store, each request answered by the same steps
//! that the server takes.

use larder::clock::Seconds;
use larder::store::{
    Amended, Amendment, Batch, Draft, Expected, Expiry, Handle, Incoming, Item, Marks, OutOfMemory,
    Removal, State, Traits,
};

/// A request.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Store {
        when: When,
        key: Vec<u8>,
        value: Vec<u8>,
        flags: u32,
        expiry: Seconds,
    },
    /// Puts the value behind what is there.
    Append {
        key: Vec<u8>,
        value: Vec<u8>,
    },
    Prepend {
        key: Vec<u8>,
        value: Vec<u8>,
    },
    Increment {
        key: Vec<u8>,
        by: u64,
    },
    Touch {
        key: Vec<u8>,
        expiry: Seconds,
    },
    Get {
        key: Vec<u8>,
    },
    GetAndTouch {
        key: Vec<u8>,
        expiry: Seconds,
    },
    Delete {
        key: Vec<u8>,
    },
    /// Marks an item as out of date and gives it another cas: this one, or a new one.
    Invalidate {
        key: Vec<u8>,
        cas: Option<u64>,
    },
    /// Asks for an item's lease.
    Lease {
        key: Vec<u8>,
    },
    /// Begins to store a value and gives it up half way.
    Abandon {
        key: Vec<u8>,
        value: Vec<u8>,
    },
    /// Now if 0.
    Flush {
        at: Seconds,
    },
}

/// On which condition a value is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Always,
    Absent,
    Present,
    Cas(u64),
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Stored { cas: u64 },
    NotStored,
    Exists,
    NotFound,
    NotANumber,
    Hit(Hit),
    Leased(bool),
    Done,
    OutOfMemory,
}

/// All that a client may learn of an item, `last_access` and `is_fetched` as they were before it
/// was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hit {
    pub(crate) value: Vec<u8>,
    pub(crate) flags: u32,
    pub(crate) expiry: Seconds,
    pub(crate) cas: u64,
    pub(crate) last_access: Seconds,
    pub(crate) is_fetched: bool,
    pub(crate) is_stale: bool,
    pub(crate) is_leased: bool,
}

/// What a conditional change makes of an item.
struct New {
    value: Vec<u8>,
    traits: Traits,
}

impl New {
    fn plain(value: Vec<u8>, flags: u32, expiry: Expiry) -> Self {
        Self { value, traits: Traits { flags, expiry, cas: None, marks: Marks::New } }
    }
}

impl Op {
    /// The key that the request is about.
    pub(crate) fn key(&self) -> Option<&[u8]> {
        match self {
            Op::Store { key, .. }
            | Op::Append { key, .. }
            | Op::Prepend { key, .. }
            | Op::Increment { key, .. }
            | Op::Touch { key, .. }
            | Op::Get { key }
            | Op::GetAndTouch { key, .. }
            | Op::Delete { key }
            | Op::Invalidate { key, .. }
            | Op::Lease { key }
            | Op::Abandon { key, .. } => Some(key),
            Op::Flush { .. } => None,
        }
    }
}

/// Answers one request in a batch of its own.
pub(crate) fn apply(handle: &mut Handle, now: Seconds, op: &Op) -> Reply {
    let mut batch = handle.batch(now);
    match op {
        Op::Store { when, key, value, flags, expiry } => {
            let new = || New::plain(value.clone(), *flags, Expiry::At(*expiry));
            if *when == When::Always {
                return set(&mut batch, key, &new());
            }
            change(&mut batch, key, |item| may_store(*when, item).map(|()| new()))
        }
        Op::Append { key, value } => join(&mut batch, key, |old| [old, value].concat()),
        Op::Prepend { key, value } => join(&mut batch, key, |old| [value, old].concat()),
        Op::Increment { key, by } => change(&mut batch, key, |item| {
            let item = item.ok_or(Reply::NotFound)?;
            let number = number(&value_of(&item)).ok_or(Reply::NotANumber)?;
            let value = number.wrapping_add(*by).to_string().into_bytes();
            let new = New::plain(value, item.flags(), Expiry::Inherit);
            Ok(New { traits: Traits { marks: Marks::Same, ..new.traits }, ..new })
        }),
        Op::Touch { key, expiry } => match get_and_touch(&mut batch, key, *expiry) {
            Reply::Hit(_) => Reply::Done,
            other => other,
        },
        Op::Get { key } => {
            let seen = seen(&batch.peek(key));
            let fetched = batch.fetch(key);
            let agree = live(&fetched).is_some() == matches!(seen, Reply::Hit(_));
            assert!(agree, "peek and fetch agree");
            seen
        }
        Op::GetAndTouch { key, expiry } => get_and_touch(&mut batch, key, *expiry),
        Op::Delete { key } => match batch.remove(key, Expected::Any) {
            Removal::Removed => Reply::Done,
            Removal::Missing => Reply::NotFound,
            Removal::Changed => panic!("a removal without condition"),
        },
        Op::Invalidate { key, cas } => change(&mut batch, key, |item| {
            let item = item.ok_or(Reply::NotFound)?;
            let new = New::plain(value_of(&item), item.flags(), Expiry::Inherit);
            Ok(New { traits: Traits { cas: *cas, marks: Marks::Invalidated, ..new.traits }, ..new })
        }),
        Op::Lease { key } => {
            let lookup = batch.peek(key);
            let amendment = Amendment { expiry: None, lease: true };
            match (live(&lookup), batch.amend(key, lookup.witness(), amendment)) {
                (Some(_), Amended::Done { leased }) => Reply::Leased(leased),
                (None, Amended::Changed) => Reply::NotFound,
                (item, amended) => panic!("{amended:?} where there is {item:?}"),
            }
        }
        Op::Abandon { key, value } => {
            if let Some(mut incoming) = receive(&mut batch, key, value, 1, None) {
                let room_bytes = incoming.room().len();
                incoming.advance(room_bytes);
                let _nothing_more_comes = batch.make_room(&mut incoming);
            } else if let Ok(mut draft) = batch.reserve(key, value.len(), 1, Expiry::At(0)) {
                batch.fill(&mut draft, &value[..value.len() / 2]);
                batch.discard(draft);
            }
            Reply::Done
        }
        Op::Flush { at } => {
            batch.flush(*at);
            Reply::Done
        }
    }
}

/// An unsigned number as a client writes it.
pub(crate) fn number(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// The value in one piece.
pub(crate) fn value_of(item: &Item<'_>) -> Vec<u8> {
    let mut value = Vec::with_capacity(item.value_bytes());
    item.value_chunks().for_each(|chunk| value.extend_from_slice(chunk));
    value
}

/// Stores some values at once, others in steps, whatever their length.
fn set(batch: &mut Batch<'_>, key: &[u8], new: &New) -> Reply {
    if key.iter().chain(new.value.last()).fold(0, |sum: u8, byte| sum ^ byte) & 1 == 0 {
        let put = batch.put(key, &new.value, new.traits);
        return put.map_or(Reply::OutOfMemory, |cas| Reply::Stored { cas });
    }
    let Ok(draft) = drafted(batch, key, new) else { return Reply::OutOfMemory };
    let cas = batch.publish(draft, Expected::Any).expect("there is no condition");
    Reply::Stored { cas }
}

/// A draft, made at once or, where it is large, received piece by piece.
fn drafted(batch: &mut Batch<'_>, key: &[u8], new: &New) -> Result<Draft, OutOfMemory> {
    let New { value, traits } = new;
    let Some(mut incoming) = receive(batch, key, value, traits.flags, traits.cas) else {
        let mut draft = batch.reserve_with(key, value.len(), *traits)?;
        fill(batch, &mut draft, value);
        return Ok(draft);
    };
    let mut received = 0;
    loop {
        let room = incoming.room();
        let bytes = room.len();
        room.copy_from_slice(&value[received..received + bytes]);
        incoming.advance(bytes);
        received += bytes;
        if !batch.make_room(&mut incoming) {
            break;
        }
    }
    let mut draft = batch.complete(incoming, *traits)?;
    fill(batch, &mut draft, &value[received..]);
    Ok(draft)
}

/// Begins to receive every other value that is large.
fn receive(
    batch: &mut Batch<'_>,
    key: &[u8],
    value: &[u8],
    flags: u32,
    cas: Option<u64>,
) -> Option<Incoming> {
    if value.len().is_multiple_of(2) { batch.receive(key, value.len(), flags, cas) } else { None }
}

/// Looks, decides, and stores on condition that nothing has happened since; else looks again.
fn change(
    batch: &mut Batch<'_>,
    key: &[u8],
    decide: impl Fn(Option<Item<'_>>) -> Result<New, Reply>,
) -> Reply {
    for _ in 0..ATTEMPTS_MAX {
        let lookup = batch.peek(key);
        let witness = lookup.witness();
        let new = match decide(live(&lookup)) {
            Ok(new) => new,
            Err(reply) => return reply,
        };
        let Ok(draft) = drafted(batch, key, &new) else { return Reply::OutOfMemory };
        match batch.publish(draft, Expected::Unchanged(witness)) {
            Ok(cas) => return Reply::Stored { cas },
            Err(draft) => batch.discard(draft),
        }
    }
    panic!("a change that never succeeds")
}

fn join(batch: &mut Batch<'_>, key: &[u8], joined: impl Fn(&[u8]) -> Vec<u8>) -> Reply {
    change(batch, key, |item| {
        let item = item.ok_or(Reply::NotStored)?;
        let value = joined(&value_of(&item));
        Ok(New::plain(value, item.flags(), Expiry::Inherit))
    })
}

fn may_store(when: When, item: Option<Item<'_>>) -> Result<(), Reply> {
    match (when, item) {
        (When::Always, _) | (When::Absent, None) | (When::Present, Some(_)) => Ok(()),
        (When::Absent, Some(_)) | (When::Present, None) => Err(Reply::NotStored),
        (When::Cas(_), None) => Err(Reply::NotFound),
        (When::Cas(cas), Some(item)) if item.cas() == cas => Ok(()),
        (When::Cas(_), Some(_)) => Err(Reply::Exists),
    }
}

/// In pieces, as a value comes from a socket.
fn fill(batch: &Batch<'_>, draft: &mut Draft, value: &[u8]) {
    value.chunks(PIECE_BYTES).for_each(|piece| batch.fill(draft, piece));
}

fn get_and_touch(batch: &mut Batch<'_>, key: &[u8], expiry: Seconds) -> Reply {
    let seen = seen(&batch.peek(key));
    if matches!(seen, Reply::Hit(_)) {
        let touched = live(&batch.touch(key, expiry)).map(|item| item.expiry());
        assert_eq!(touched, Some(expiry), "a touched item has its new expiry");
    }
    seen
}

/// What a look-up tells.
pub(crate) fn seen(lookup: &State<'_>) -> Reply {
    live(lookup).map_or(Reply::NotFound, |item| {
        Reply::Hit(Hit {
            value: value_of(&item),
            flags: item.flags(),
            expiry: item.expiry(),
            cas: item.cas(),
            last_access: item.last_access(),
            is_fetched: item.is_fetched(),
            is_stale: item.is_stale(),
            is_leased: item.is_leased(),
        })
    })
}

fn live<'b>(lookup: &State<'b>) -> Option<Item<'b>> {
    match *lookup {
        State::Hit(item) => Some(item),
        State::Missing | State::Expired | State::Flushed => None,
    }
}

/// Nobody interferes but the store itself, by moving or evicting the key while room is made for it.
const ATTEMPTS_MAX: u32 = 100;

/// No divisor of anything, so that pieces end everywhere in a segment.
const PIECE_BYTES: usize = 1777;
