//! What clients asked of one key and were told, in the order in which it happened.

use std::rc::Rc;

/// What happened to one key.
#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) key: String,
    /// By moment; each client's requests alternate with their answers.
    pub(crate) events: Vec<Event>,
}

/// One end of a request.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// Counts the events of all keys.
    pub(crate) moment: u64,
    pub(crate) client: usize,
    /// What was asked and answered where a request begins; `None` where it ends.
    pub(crate) begun: Option<Operation>,
}

/// A request with its answer. A `String` is a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// The value, and its cas if that was asked for, unless it was a miss.
    Get(Option<(String, Option<u64>)>),
    Set(String),
    /// Whether it was stored.
    Add(String, bool),
    Replace(String, bool),
    Append(String, bool),
    /// With the cas that it expected.
    Cas(String, u64, CasAnswer),
    /// By how much, and what came of it unless it was a miss.
    Incr(u64, Option<u64>),
    /// Whether there was anything.
    Touch(bool),
    Delete(bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CasAnswer {
    Stored,
    Exists,
    NotFound,
}

/// How many kinds of operations there are.
pub(crate) const KINDS: usize = 9;

impl History {
    /// Counts the requests that took effect, by their kind.
    pub(crate) fn count_applied(&self, counts: &mut [u64; KINDS]) {
        for operation in self.events.iter().filter_map(|event| event.begun.as_ref()) {
            counts[operation.kind()] += u64::from(operation.is_applied());
        }
    }

    /// Copies in each of which another get is told a value that was found, and replaced by a set
    /// that was acknowledged, before the get was sent.
    pub(crate) fn with_stale_answers(&self) -> Vec<Self> {
        let mut stale: Option<String> = None;
        let (mut found, mut doctored) = (None, Vec::new());
        for (place, event) in self.events.iter().enumerate() {
            match &event.begun {
                Some(Operation::Get(Some((value, _)))) => {
                    if let Some(old) = stale.take().filter(|old| old != value) {
                        let mut copy = self.clone();
                        copy.events[place].begun = Some(Operation::Get(Some((old, None))));
                        doctored.push(copy);
                    }
                    found = Some(value.clone());
                }
                Some(Operation::Set(value)) if self.is_alone(place) => {
                    stale = found.take().filter(|old| old != value);
                }
                _ => {}
            }
        }
        doctored
    }

    /// Whether nothing else is under way while this request is.
    fn is_alone(&self, place: usize) -> bool {
        let begun: usize =
            self.events[..place].iter().filter(|event| event.begun.is_some()).count();
        let next = self.events.get(place + 1);
        begun * 2 == place && next.is_some_and(|next| next.client == self.events[place].client)
    }
}

impl Operation {
    fn kind(&self) -> usize {
        match self {
            Self::Get(_) => 0,
            Self::Set(_) => 1,
            Self::Add(..) => 2,
            Self::Replace(..) => 3,
            Self::Append(..) => 4,
            Self::Cas(..) => 5,
            Self::Incr(..) => 6,
            Self::Touch(_) => 7,
            Self::Delete(_) => 8,
        }
    }

    fn is_applied(&self) -> bool {
        match self {
            Self::Get(found) => found.is_some(),
            Self::Set(_) => true,
            Self::Add(_, applied) | Self::Replace(_, applied) | Self::Append(_, applied) => {
                *applied
            }
            Self::Cas(_, _, answer) => *answer == CasAnswer::Stored,
            Self::Incr(_, count) => count.is_some(),
            Self::Touch(applied) | Self::Delete(applied) => *applied,
        }
    }
}

/// What a key names: a value, and its cas as far as anybody was told it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Held {
    pub(crate) value: Rc<str>,
    pub(crate) cas: Option<u64>,
}

impl Operation {
    /// What the key names afterwards, if this answer can be given where it named `held`.
    pub(crate) fn after(&self, held: Option<&Held>) -> Option<Option<Held>> {
        let stays = || Some(held.cloned());
        match (self, held) {
            (Self::Get(None), None) => Some(None),
            (Self::Get(Some((value, cas))), Some(held)) if **value == *held.value => {
                match (cas, held.cas) {
                    (Some(told), Some(known)) if *told != known => None,
                    (told, known) => {
                        let value = Rc::clone(&held.value);
                        Some(Some(Held { value, cas: known.or(*told) }))
                    }
                }
            }
            (Self::Set(value), _)
            | (Self::Add(value, true), None)
            | (Self::Replace(value, true), Some(_)) => written(value),
            (Self::Append(more, true), Some(held)) => written(&format!("{}{more}", held.value)),
            // A token that a client has was told before, so what it names is known.
            (Self::Cas(value, token, CasAnswer::Stored), Some(held)) => {
                written(value).filter(|_| held.cas == Some(*token))
            }
            (Self::Cas(_, token, CasAnswer::Exists), Some(held)) => {
                stays().filter(|_| held.cas != Some(*token))
            }
            (Self::Incr(by, Some(count)), Some(held)) => {
                let before: u64 = held.value.parse().ok()?;
                written(&count.to_string()).filter(|_| before.checked_add(*by) == Some(*count))
            }
            (Self::Add(_, false), Some(_))
            | (Self::Replace(_, false) | Self::Append(_, false), None)
            | (Self::Cas(_, _, CasAnswer::NotFound) | Self::Incr(_, None), None)
            | (Self::Touch(true), Some(_))
            | (Self::Touch(false) | Self::Delete(false), None) => stays(),
            (Self::Delete(true), Some(_)) => Some(None),
            _ => None,
        }
    }
}

fn written(value: &str) -> Option<Option<Held>> {
    Some(Some(Held { value: value.into(), cas: None }))
}
