//! Whether a history of one key is linearizable: Wing and Gong's search, taken forward in time as
//! Lowe does ("Testing for linearizability", 2017).
//!
//! A configuration is what the key names, and which of the requests under way have taken effect.
//! When a request is answered, those configurations go on in which it has taken effect, or can do
//! so now, after whichever others under way. If none is left, no order explains the answers. As few
//! requests are under way at a time as there are clients, and most answers fit one value only,
//! there are never many configurations, however long the history.

use std::collections::{HashMap, HashSet};

use crate::history::{Event, Held, History, Operation};

/// # Errors
/// No order of the requests explains the answers: what was refused, with what was under way.
pub(crate) fn check(history: &History) -> Result<(), String> {
    let mut under_way: HashMap<usize, &Operation> = HashMap::new();
    let mut possible = HashSet::from([Configuration { held: None, effective: 0 }]);
    for event in &history.events {
        let Event { moment, client, begun } = event;
        if let Some(operation) = begun {
            under_way.insert(*client, operation);
            continue;
        }
        let before = possible.clone();
        possible = after_answer(possible, &under_way, *client);
        if possible.is_empty() {
            let asked = under_way[client];
            return Err(format!(
                "at {moment} no order explains {asked:?}; under way: {under_way:?}; possible \
                 before: {before:?}"
            ));
        }
        under_way.remove(client);
    }
    Ok(())
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Configuration {
    held: Option<Held>,
    /// The clients whose requests under way have taken effect, a bit each.
    effective: u64,
}

/// The configurations in which the client's request has taken effect, which is then forgotten.
fn after_answer(
    possible: HashSet<Configuration>,
    under_way: &HashMap<usize, &Operation>,
    client: usize,
) -> HashSet<Configuration> {
    let mut open: Vec<Configuration> = possible.iter().cloned().collect();
    let (mut seen, mut answered) = (possible, HashSet::new());
    while let Some(configuration) = open.pop() {
        let Configuration { held, effective } = &configuration;
        if effective & 1 << client != 0 {
            let effective = effective & !(1 << client);
            answered.insert(Configuration { effective, ..configuration });
            continue;
        }
        let missed = held.as_ref().map(|_| Configuration { held: None, effective: *effective });
        let waiting = under_way.iter().filter(|(client, _)| effective & 1 << **client == 0);
        let next = waiting.filter_map(|(client, operation)| {
            let held = operation.after(held.as_ref())?;
            Some(Configuration { held, effective: effective | 1 << client })
        });
        for next in missed.into_iter().chain(next) {
            if seen.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    answered
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::CasAnswer;

    /// Requests by client, when they begin and when they end.
    fn judge(requests: &[(usize, u64, u64, Operation)]) -> Result<(), String> {
        let mut events: Vec<Event> = requests
            .iter()
            .flat_map(|(client, from, to, operation)| {
                let event = |moment, begun| Event { moment, client: *client, begun };
                [event(*from, Some(operation.clone())), event(*to, None)]
            })
            .collect();
        events.sort_by_key(|event| event.moment);
        check(&History { key: "key".into(), events })
    }

    /// The same, one after the other.
    fn in_turn(operations: &[Operation]) -> Result<(), String> {
        let request = |(turn, operation): (u64, &Operation)| {
            (usize::from(turn % 2 == 1), turn * 2, turn * 2 + 1, operation.clone())
        };
        judge(&(0..).zip(operations).map(request).collect::<Vec<_>>())
    }

    fn set(value: &str) -> Operation {
        Operation::Set(value.into())
    }

    fn get(value: &str) -> Operation {
        Operation::Get(Some((value.into(), None)))
    }

    fn gets(value: &str, cas: u64) -> Operation {
        Operation::Get(Some((value.into(), Some(cas))))
    }

    fn cas(value: &str, cas: u64, answer: CasAnswer) -> Operation {
        Operation::Cas(value.into(), cas, answer)
    }

    fn append(value: &str) -> Operation {
        Operation::Append(value.into(), true)
    }

    #[test]
    fn what_happens_in_turn_is_accepted() {
        in_turn(&[
            Operation::Get(None),
            set("a"),
            get("a"),
            append("b"),
            get("ab"),
            Operation::Add("c".into(), false),
            Operation::Replace("4".into(), true),
            Operation::Incr(3, Some(7)),
            gets("7", 11),
            cas("8", 11, CasAnswer::Stored),
            cas("9", 11, CasAnswer::Exists),
            Operation::Touch(true),
            Operation::Delete(true),
            Operation::Delete(false),
            Operation::Incr(1, None),
            cas("9", 11, CasAnswer::NotFound),
            Operation::Add("d".into(), true),
            get("d"),
        ])
        .unwrap();
    }

    #[test]
    fn a_spontaneous_miss_is_accepted_and_final() {
        in_turn(&[set("a"), Operation::Get(None), Operation::Touch(false)]).unwrap();
        in_turn(&[set("a"), Operation::Add("b".into(), true), get("b")]).unwrap();
        assert!(in_turn(&[set("a"), Operation::Get(None), get("a")]).is_err());
    }

    #[test]
    fn what_is_under_way_may_take_effect_in_any_order() {
        let reads = |first: &str, second: &str| {
            judge(&[
                (0, 0, 10, set("a")),
                (1, 1, 9, set("b")),
                (2, 2, 3, get(first)),
                (2, 4, 5, get(second)),
                (3, 11, 12, get(second)),
            ])
        };
        reads("a", "b").unwrap();
        reads("b", "a").unwrap();
        // Not there and back again.
        let back = judge(&[
            (0, 0, 10, set("a")),
            (1, 1, 9, set("b")),
            (2, 2, 3, get("a")),
            (2, 4, 5, get("b")),
            (2, 6, 7, get("a")),
        ]);
        assert!(back.is_err());
    }

    #[test]
    fn planted_faults_are_refused() {
        let faults: [&[Operation]; 9] = [
            // Never stored; stale; risen again.
            &[get("a")],
            &[set("a"), set("b"), get("a")],
            &[set("a"), Operation::Delete(true), get("a")],
            // A lost append, a lost increment, one that counted twice.
            &[set("a"), append("b"), append("c"), get("ac")],
            &[set("1"), Operation::Incr(1, Some(2)), Operation::Incr(1, Some(2))],
            &[set("1"), Operation::Incr(1, Some(3))],
            // A cas that succeeds twice, or over a change; one cas for two values.
            &[
                set("a"),
                gets("a", 5),
                cas("b", 5, CasAnswer::Stored),
                cas("c", 5, CasAnswer::Stored),
            ],
            &[set("a"), gets("a", 5), append("b"), cas("c", 5, CasAnswer::Stored)],
            &[set("a"), gets("a", 5), gets("a", 6)],
        ];
        for fault in faults {
            assert!(in_turn(fault).is_err(), "{fault:?}");
        }
        // An add that was refused though nothing was there, not even under way.
        assert!(in_turn(&[Operation::Add("a".into(), false)]).is_err());
    }
}
