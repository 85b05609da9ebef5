//! Which operation comes next, and on which keys: one thread's part of a workload.
//!
//! Nothing here waits for a reply, so what is asked does not depend on what a server answers, and
//! two servers are asked the same.

use std::sync::Arc;

use crate::random::{Random, floor, mix, unit};
use crate::workload::operation::{Chooser, Operation};
use crate::workload::popularity::Popularity;
use crate::workload::{Item, Workload};

/// One thread among several.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Which, from 0.
    pub index: usize,
    /// Of how many.
    pub count: usize,
}

impl Part {
    /// All of it.
    pub const WHOLE: Self = Self { index: 0, count: 1 };

    /// This part of `total` things, the first parts one more where it does not divide.
    #[must_use]
    pub fn of(self, total: u64) -> u64 {
        let (index, count) = (self.index as u64, self.count as u64);
        total / count + u64::from(index < total % count)
    }
}

/// A sequence of operations and keys.
#[derive(Clone, Debug)]
pub struct Traffic {
    workload: Arc<Workload>,
    part: Part,
    random: Random,
    chooser: Chooser,
    order: Order,
    /// Requests drawn so far.
    drawn: u64,
    one_hits: u64,
}

/// How keys follow one another.
#[derive(Clone, Debug)]
enum Order {
    Drawn { popularity: Popularity, stride: u64 },
    Sequential { next: u64 },
    Recorded { next: usize },
}

/// What is asked next: an operation, and when where the workload tells times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// What.
    pub operation: Operation,
    /// The key, where a trace tells it; otherwise keys are to be drawn.
    pub item: Option<Item>,
}

impl Traffic {
    /// The requests of `workload`, or those of this part of its trace.
    #[must_use]
    pub fn new(workload: &Arc<Workload>, part: Part) -> Self {
        let order = match workload.trace {
            Some(_) => Order::Recorded { next: part.index },
            None => Order::Drawn {
                popularity: Popularity::new(workload.key_count, workload.zipf),
                stride: stride(workload.key_count),
            },
        };
        Self::with_order(workload, part, order)
    }

    /// A set of key 0, key 1 and so on: this part of all the keys.
    #[must_use]
    pub fn sequential(workload: &Arc<Workload>, part: Part) -> Self {
        Self::with_order(workload, part, Order::Sequential { next: part.index as u64 })
    }

    /// The next request; `None` when a trace, or every key in turn, is at its end.
    pub fn request(&mut self) -> Option<Next> {
        self.drawn += 1;
        let next = match &mut self.order {
            Order::Drawn { .. } => {
                let operation = self.chooser.draw(&mut self.random);
                return Some(Next { operation: self.bounded(operation), item: None });
            }
            Order::Sequential { next } => {
                let id = *next;
                *next += self.part.count as u64;
                (id < self.workload.key_count)
                    .then_some((Operation::Set, Item { id, told: None }))?
            }
            Order::Recorded { next } => {
                let trace = self.workload.trace.as_ref().expect("recorded");
                let record = trace.records().get(*next)?;
                *next += self.part.count;
                let told = Some((record.value_bytes, record.ttl_seconds));
                (record.operation, Item { id: u64::from(record.key), told })
            }
        };
        Some(Next { operation: next.0, item: Some(next.1) })
    }

    /// When the next request is due, where a trace tells it: nanoseconds after its first.
    #[must_use]
    pub fn recorded_nanos(&self) -> Option<u64> {
        let Order::Recorded { next } = self.order else { return None };
        Some(self.workload.trace.as_ref()?.records().get(next)?.nanos)
    }

    /// A key.
    pub fn item(&mut self) -> Item {
        Item { id: self.id(), told: None }
    }

    fn id(&mut self) -> u64 {
        let Order::Drawn { popularity, stride } = &self.order else { return 0 };
        if self.workload.one_hit > 0.0 && self.random.unit() < self.workload.one_hit {
            self.one_hits += 1;
            let (index, count) = (self.part.index as u64, self.part.count as u64);
            let seed = (self.workload.seed % 1024) << 36;
            return ONE_HIT_BASE + seed + index + (self.one_hits - 1) * count;
        }
        let rank = popularity.draw(&mut self.random);
        let keys = self.workload.key_count;
        let slot = spread(rank, *stride, keys);
        if self.workload.drift == 0.0 {
            return slot;
        }
        let requests = self.drawn as f64 * self.part.count as f64;
        let turns = requests * self.workload.drift / 1e6 + unit(mix(slot ^ DRIFT_SALT));
        slot + keys * floor(turns)
    }

    /// Every sixteenth lengthening stores anew, lest values grow without end.
    fn bounded(&mut self, operation: Operation) -> Operation {
        let lengthens = matches!(operation, Operation::Append | Operation::Prepend);
        if lengthens && self.random.below(16) == 0 { Operation::Set } else { operation }
    }

    fn with_order(workload: &Arc<Workload>, part: Part, order: Order) -> Self {
        Self {
            workload: Arc::clone(workload),
            part,
            random: Random::new(workload.seed, part.index as u64),
            chooser: workload.mix.chooser(),
            order,
            drawn: 0,
            one_hits: 0,
        }
    }
}

/// A bijection on the keys that sends neighbours in popularity far apart, so that keys stored one
/// by one are not stored by popularity.
fn spread(rank: u64, stride: u64, keys: u64) -> u64 {
    match rank.checked_mul(stride) {
        Some(product) => product % keys,
        None => u64::try_from(u128::from(rank) * u128::from(stride) % u128::from(keys))
            .expect("a remainder is below its divisor"),
    }
}

/// A number near the golden section of `keys` that shares no divisor with it.
fn stride(keys: u64) -> u64 {
    let near = floor(keys as f64 * 0.618_033_988_749_895).max(1);
    (near..).find(|&stride| greatest_common_divisor(stride, keys) == 1).expect("primes have no end")
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Spreads the moments at which keys are replaced.
const DRIFT_SALT: u64 = 0x6472_6966_7400;
/// Above every key that is asked for again.
pub(crate) const ONE_HIT_BASE: u64 = 1 << 46;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};

    fn traffic(workload: Workload) -> Traffic {
        Traffic::new(&Arc::new(workload), Part::WHOLE)
    }

    #[test]
    fn spreading_is_a_bijection() {
        for keys in [1, 2, 3, 10, 97, 1000, 4096] {
            let stride = stride(keys);
            let ids: HashSet<_> = (0..keys).map(|rank| spread(rank, stride, keys)).collect();
            assert_eq!(ids.len() as u64, keys);
            assert!(ids.iter().all(|id| *id < keys));
        }
        assert!(spread(u64::MAX - 2, stride(u64::MAX), u64::MAX) < u64::MAX);
    }

    #[test]
    fn keys_asked_for_once_are_asked_for_once_and_as_often_as_told() {
        let mut traffic =
            traffic(Workload { one_hit: 0.25, key_count: 100, ..Workload::default() });
        let mut counts: HashMap<u64, u32> = HashMap::new();
        for _ in 0..20_000 {
            *counts.entry(traffic.item().id).or_default() += 1;
        }
        let once: Vec<_> = counts.iter().filter(|(id, _)| **id >= ONE_HIT_BASE).collect();
        assert!(once.iter().all(|(_, count)| **count == 1));
        assert!(once.len().abs_diff(5000) < 250, "{}", once.len());
    }

    #[test]
    fn drift_replaces_keys_at_the_told_rate_and_keeps_the_popularity() {
        let workload = Workload { drift: 0.5, key_count: 1000, zipf: 1.0, ..Workload::default() };
        let mut traffic = traffic(workload);
        let mut top = Vec::new();
        let mut ids = HashSet::new();
        for _ in 0..2_000_000 {
            traffic.request();
            let id = traffic.item().id;
            ids.insert(id);
            if id.is_multiple_of(1000) && top.last() != Some(&id) {
                top.push(id);
            }
        }
        // A thousand to begin with, and half of them again in each of two million requests; the
        // least popular may not come in time to be seen.
        assert!((1900..=2001).contains(&ids.len()), "{}", ids.len());
        assert_eq!(top.len(), 2);
    }

    /// Nothing but the length of the recording was told to it.
    #[test]
    fn as_many_draws_as_recorded_meet_about_as_many_new_keys() {
        for (name, published) in
            [("cluster19", 0.212), ("cluster40", 0.0848), ("cluster29", 0.0445)]
        {
            let preset: crate::workload::preset::Preset = name.parse().unwrap();
            let key_count = 20_000;
            let (zipf, one_hit) = (preset.zipf, preset.one_hit);
            let mut traffic = traffic(Workload { key_count, zipf, one_hit, ..Workload::default() });
            let draws = crate::random::floor(key_count as f64 * preset.draws_per_key);
            let seen: HashSet<_> = (0..draws).map(|_| traffic.item().id).collect();
            let new = seen.len() as f64 / draws as f64;
            assert!(new / published > 0.7 && new / published < 1.4, "{name}: {new}");
        }
    }

    #[test]
    fn parts_take_every_key_once() {
        let workload = Arc::new(Workload { key_count: 10, ..Workload::default() });
        let mut ids = Vec::new();
        for index in 0..3 {
            let mut traffic = Traffic::sequential(&workload, Part { index, count: 3 });
            while let Some(next) = traffic.request() {
                assert_eq!(next.operation, Operation::Set);
                ids.push(next.item.unwrap().id);
            }
        }
        ids.sort_unstable();
        assert_eq!(ids, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn a_trace_comes_in_its_order() {
        let text = "5,a,1,3,get,0\n6,b,1,4,set,9\n";
        let trace = Arc::new(crate::workload::trace::Trace::read(text.as_bytes()).unwrap());
        let mut traffic = traffic(Workload { trace: Some(trace), ..Workload::default() });
        assert_eq!(traffic.recorded_nanos(), Some(0));
        let item = Some(Item { id: 0, told: Some((3, 0)) });
        assert_eq!(traffic.request(), Some(Next { operation: Operation::Get, item }));
        assert_eq!(traffic.recorded_nanos(), Some(1_000_000_000));
        let item = Some(Item { id: 1, told: Some((4, 9)) });
        assert_eq!(traffic.request(), Some(Next { operation: Operation::Set, item }));
        assert_eq!((traffic.request(), traffic.recorded_nanos()), (None, None));
    }

    #[test]
    fn parts_add_up_and_are_even() {
        let shares = [0, 1, 2, 3].map(|index| Part { index, count: 4 }.of(50));
        assert_eq!(shares, [13, 13, 12, 12]);
    }
}
