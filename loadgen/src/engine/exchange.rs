//! What the server owes a connection, and whether what comes is that.
//!
//! Replies are taken in pieces (one value, or one word), so that an answer of any number of keys
//! needs a buffer for one value only. What a reply means for a request is the same in every
//! dialect.

use std::collections::VecDeque;
use std::fmt;

use crate::dialect::Reply;
use crate::engine::Plan;
use crate::engine::owed::{FollowUp, Key, Owed, Request};
use crate::measure::Sample;
use crate::truth::Fault;
use crate::truth::ledger::Age;
use crate::truth::ledger::Write;
use crate::truth::value::Version;
use crate::workload::Item;
use crate::workload::keys::KEY_BYTES_MAX;
use crate::workload::operation::Operation;

/// An answer that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// In which way.
    pub fault: Fault,
    /// What came.
    pub detail: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "wrong reply: {}: {}", self.fault, self.detail)
    }
}

impl std::error::Error for Wrong {}

/// Holds replies to what is owed.
pub(crate) struct Exchange<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) sample: &'a mut Sample,
    pub(crate) follow_ups: &'a mut VecDeque<FollowUp>,
    pub(crate) now_nanos: u64,
}

impl Exchange<'_> {
    /// Takes every complete reply at the start of `input`; returns the bytes taken.
    pub(crate) fn take(&mut self, owed: &mut Owed, input: &[u8]) -> Result<usize, Wrong> {
        let mut taken = 0;
        while let Some(&request) = owed.requests.front() {
            let rest = &input[taken..];
            let reply = self.plan.dialect.reply(rest);
            match reply.map_err(|_| violation("no reply of the protocol", rest))? {
                Some((reply, bytes)) => {
                    self.accept(owed, request, &reply)?;
                    taken += bytes;
                }
                None => return Ok(taken),
            }
        }
        match &input[taken..] {
            [] => Ok(taken),
            NO_ROOM => {
                self.error(NO_ROOM.trim_ascii_end());
                Ok(input.len())
            }
            rest => Err(violation("more than was asked for", rest)),
        }
    }

    /// A piece of an answer that no buffer is made for.
    pub(crate) fn too_long(&self, input: &[u8]) -> Wrong {
        violation("longer than any value that was stored", input)
    }

    fn accept(
        &mut self,
        owed: &mut Owed,
        request: Request,
        reply: &Reply<'_>,
    ) -> Result<(), Wrong> {
        if let Reply::Error(text) = reply {
            self.error(text);
            self.settle(owed, request, false);
            return self.finish(owed, request);
        }
        match request.operation {
            Operation::Get | Operation::Gets => self.accept_get(owed, request, reply),
            Operation::Incr => self.accept_incr(owed, request, reply),
            _ => self.accept_change(owed, request, reply),
        }
    }

    fn accept_get(
        &mut self,
        owed: &mut Owed,
        request: Request,
        reply: &Reply<'_>,
    ) -> Result<(), Wrong> {
        let one_word = self.plan.dialect.value_ends_get(request.asked);
        match *reply {
            Reply::Value { key, value, token } => {
                let skipped = self.skipped(owed, request, key)?;
                self.misses(owed, skipped);
                let answered = owed.keys.pop_front().expect("the key that was found");
                let front = owed.requests.front_mut().expect("the request that is answered");
                front.keys -= skipped + 1;
                self.sample.counters.hits += 1;
                let version = self.check_value(answered, value)?;
                if request.operation == Operation::Gets && request.base == 1 {
                    let item = answered.item;
                    self.follow_ups.push_back(FollowUp::Cas { item, token, base: version });
                }
                if one_word { self.finish(owed, request) } else { Ok(()) }
            }
            Reply::End if !one_word => {
                self.misses(owed, request.keys);
                owed.requests.front_mut().expect("the request that is answered").keys = 0;
                self.finish(owed, request)
            }
            Reply::Miss if one_word => {
                self.misses(owed, request.keys);
                owed.requests.front_mut().expect("the request that is answered").keys = 0;
                self.finish(owed, request)
            }
            _ => Err(unexpected(request, reply)),
        }
    }

    /// How many keys were asked for before the one that was found; keys come back in the order in
    /// which they were asked for.
    fn skipped(&self, owed: &Owed, request: Request, key: &[u8]) -> Result<usize, Wrong> {
        let mut text = [0; KEY_BYTES_MAX];
        let keys = &self.plan.workload.keys;
        let mut asked = owed.keys.iter().take(request.keys);
        asked
            .position(|asked| keys.text(asked.item.id, &mut text) == key)
            .ok_or_else(|| violation("a key that is not next among those asked for", key))
    }

    fn misses(&mut self, owed: &mut Owed, count: usize) {
        if count == 0 {
            return;
        }
        self.sample.counters.misses += count as u64;
        for key in owed.keys.drain(..count) {
            if self.plan.workload.cache_aside {
                self.follow_ups.push_back(FollowUp::Fill(key.item));
            }
        }
    }

    fn check_value(&mut self, key: Key, value: &[u8]) -> Result<Version, Wrong> {
        let workload = &self.plan.workload;
        let version = match workload.values.check(workload.keys.identity(key.item.id), value) {
            Ok(version) => version,
            Err(fault) => {
                self.fault(Wrong { fault, detail: self.describe(key.item, value) })?;
                return Ok(0);
            }
        };
        let Some(ledger) = &self.plan.ledger else { return Ok(version) };
        match ledger.judge(version, u32::try_from(key.floor).unwrap_or(0)) {
            Age::Stale => {
                let detail = format!(
                    "version {} after {} was acknowledged: {}",
                    version & 0xFFFF_FFFF,
                    key.floor,
                    self.describe(key.item, value)
                );
                self.fault(Wrong { fault: Fault::Stale, detail })?;
            }
            Age::OtherRun => self.sample.counters.other_runs += 1,
            Age::Current | Age::Untold => {}
        }
        Ok(version)
    }

    fn accept_incr(
        &mut self,
        owed: &mut Owed,
        request: Request,
        reply: &Reply<'_>,
    ) -> Result<(), Wrong> {
        let key = *owed.keys.front().expect("an increment has a key");
        match *reply {
            Reply::Number(number) => {
                if self.plan.counters.is_some() && number <= key.floor {
                    let detail = format!("{number} after {} was acknowledged", key.floor);
                    self.fault(Wrong { fault: Fault::Stale, detail })?;
                }
                if let Some(counters) = &self.plan.counters {
                    counters.acknowledge(key.item.id, number);
                }
            }
            Reply::NotFound => {
                self.sample.counters.refused += 1;
                self.follow_ups.push_back(FollowUp::Count(key.item));
            }
            _ => return Err(unexpected(request, reply)),
        }
        self.finish(owed, request)
    }

    fn accept_change(
        &mut self,
        owed: &mut Owed,
        request: Request,
        reply: &Reply<'_>,
    ) -> Result<(), Wrong> {
        use Operation::{Add, Append, Cas, Delete, Prepend, Set, Touch};
        let applied = match (request.operation, reply) {
            (Set | Add | Append | Prepend | Cas, Reply::Stored | Reply::Done)
            | (Delete, Reply::Deleted | Reply::Done)
            | (Touch, Reply::Touched | Reply::Done) => true,
            (Add | Append | Prepend, Reply::NotStored)
            | (Add | Cas, Reply::Exists)
            | (Append | Prepend | Cas | Touch | Delete, Reply::NotFound)
            | (Touch, Reply::Miss) => false,
            _ => return Err(unexpected(request, reply)),
        };
        if !applied {
            self.sample.counters.refused += 1;
        }
        if applied && request.operation == Cas {
            self.check_cas(owed, request)?;
        }
        // A key that is not there is as gone as one that was deleted.
        self.settle(owed, request, applied || request.operation == Delete);
        self.finish(owed, request)
    }

    /// A cas that was stored over a value which the one it replaces had been superseded by.
    fn check_cas(&mut self, owed: &Owed, request: Request) -> Result<(), Wrong> {
        let (Some(ledger), Some(key)) = (&self.plan.ledger, owed.keys.front()) else {
            return Ok(());
        };
        let floor = u32::try_from(key.floor).unwrap_or(0);
        if ledger.judge(request.base, floor) != Age::Stale {
            return Ok(());
        }
        let base = request.base & 0xFFFF_FFFF;
        let detail = format!("a cas of version {base} succeeded after {floor} was acknowledged");
        self.fault(Wrong { fault: Fault::Stale, detail })
    }

    fn settle(&self, owed: &Owed, request: Request, applied: bool) {
        let (Some(ledger), Some(key)) = (&self.plan.ledger, owed.keys.front()) else { return };
        if request.write != Write::default() {
            ledger.settle(key.item.id, request.write, applied);
        }
    }

    fn finish(&mut self, owed: &mut Owed, request: Request) -> Result<(), Wrong> {
        let left = owed.requests.pop_front().expect("the request that is answered").keys;
        owed.keys.drain(..left);
        self.sample.counters.answered[request.operation as usize] += 1;
        let nanos = self.now_nanos.saturating_sub(request.due_nanos);
        self.sample.latencies.record(request.operation, nanos);
        Ok(())
    }

    /// Counts a wrong value, or ends the run by it. A violation of the protocol is counted where
    /// the connection is given up.
    fn fault(&mut self, wrong: Wrong) -> Result<(), Wrong> {
        if self.plan.faults_are_fatal {
            return Err(wrong);
        }
        self.sample.counters.faults[wrong.fault as usize] += 1;
        Ok(())
    }

    fn error(&mut self, text: &[u8]) {
        self.sample.counters.errors += 1;
        if self.sample.first_error.is_none() {
            self.sample.first_error = Some(shown(text).to_string());
        }
    }

    fn describe(&self, item: Item, value: &[u8]) -> String {
        let mut text = [0; KEY_BYTES_MAX];
        let key = self.plan.workload.keys.text(item.id, &mut text);
        format!("for {}, {} bytes: `{}`", key.escape_ascii(), value.len(), shown(value))
    }
}

fn unexpected(request: Request, reply: &Reply<'_>) -> Wrong {
    let detail = format!("{reply:?} to a {}", request.operation);
    Wrong { fault: Fault::Violation, detail }
}

fn violation(what: &str, bytes: &[u8]) -> Wrong {
    Wrong { fault: Fault::Violation, detail: format!("{what}: `{}`", shown(bytes)) }
}

fn shown(bytes: &[u8]) -> impl fmt::Display {
    bytes[..bytes.len().min(SHOWN_BYTES_MAX)].escape_ascii()
}

const SHOWN_BYTES_MAX: usize = 120;
/// What memcached says unasked to a connection beyond its `-c`.
const NO_ROOM: &[u8] = b"ERROR Too many open connections\r\n";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Dialect;
    use crate::truth::value::Values;
    use crate::workload::Workload;
    use crate::workload::operation::Mix;

    /// Requests that are owed, and what has been found of their answers.
    struct Bench {
        plan: Plan,
        owed: Owed,
        sample: Sample,
        follow_ups: VecDeque<FollowUp>,
    }

    impl Bench {
        fn new(operation: Operation, cache_aside: bool) -> Self {
            let mix = Mix::only(operation);
            let workload = Workload { mix, cache_aside, ..Workload::default() };
            let plan = Plan::new(workload, vec!["127.0.0.1:1".parse().unwrap()]);
            let (sample, follow_ups) = (Sample::default(), VecDeque::new());
            Self { plan, owed: Owed::default(), sample, follow_ups }
        }

        fn ask(&mut self, operation: Operation, ids: &[u64]) {
            let floor = |id| self.plan.ledger.as_ref().map_or(0, |ledger| ledger.floor(id).into());
            for &id in ids {
                self.owed.push_key(Key { item: Item { id, told: None }, floor: floor(id) });
            }
            let changes = !matches!(operation, Operation::Get | Operation::Gets);
            let write = if changes { self.plan.begin_write(ids[0]) } else { Write::default() };
            self.owed.push(Request {
                operation,
                asked: ids.len(),
                keys: ids.len(),
                due_nanos: 0,
                sent_nanos: 0,
                write,
                base: 0,
            });
        }

        fn take(&mut self, input: &[u8]) -> Result<usize, Fault> {
            let mut exchange = Exchange {
                plan: &self.plan,
                sample: &mut self.sample,
                follow_ups: &mut self.follow_ups,
                now_nanos: 1000,
            };
            exchange.take(&mut self.owed, input).map_err(|wrong| wrong.fault)
        }

        fn found(&self) -> (u64, u64) {
            (self.sample.counters.hits, self.sample.counters.misses)
        }
    }

    /// A value of key `id` as a server sends it that stored `of` in this version.
    fn value(id: u64, of: u64, version: Version) -> Vec<u8> {
        let mut value = Vec::new();
        Values::Truthful.write(of, version, 40, &mut value);
        let header = format!("VALUE key:00000000000{id} 0 40\r\n");
        [header.as_bytes(), &value, b"\r\n"].concat()
    }

    const END: &[u8] = b"END\r\n";

    #[test]
    fn hits_and_misses_are_told_apart() {
        let cases: [(&[u64], (u64, u64)); 4] =
            [(&[0, 1, 2], (3, 0)), (&[1], (1, 2)), (&[], (0, 3)), (&[0, 2], (2, 1))];
        for (present, found) in cases {
            let mut bench = Bench::new(Operation::Get, true);
            bench.ask(Operation::Get, &[0, 1, 2]);
            let values: Vec<u8> = present.iter().flat_map(|&id| value(id, id, 0)).collect();
            let reply = [&values[..], END].concat();
            assert_eq!(bench.take(&reply), Ok(reply.len()));
            assert_eq!(bench.found(), found);
            assert_eq!(bench.follow_ups.len() as u64, found.1);
            assert_eq!((bench.owed.len(), bench.owed.keys.len()), (0, 0));
        }
    }

    #[test]
    fn replies_may_arrive_byte_by_byte() {
        let mut bench = Bench::new(Operation::Get, false);
        bench.ask(Operation::Get, &[0, 1]);
        bench.ask(Operation::Set, &[3]);
        let mut arrived = Vec::new();
        for byte in [value(1, 1, 0), END.to_vec(), b"STORED\r\n".to_vec()].concat() {
            arrived.push(byte);
            let taken = bench.take(&arrived).unwrap();
            arrived.drain(..taken);
        }
        assert_eq!((bench.found(), bench.owed.len(), arrived.len()), ((1, 1), 0, 0));
        assert_eq!(bench.sample.counters.requests(), 2);
    }

    #[test]
    fn lies_are_caught() {
        let torn = [&value(0, 0, 1)[..59], b"0123456789\r\n"].concat();
        let lies: [(Fault, Vec<u8>); 6] = [
            (Fault::Foreign, value(0, 1, 0)),
            (Fault::Torn, torn),
            (Fault::Violation, value(9, 9, 0)),
            (Fault::Violation, [value(1, 1, 0), value(0, 0, 0)].concat()),
            (Fault::Violation, [END, END].concat()),
            (Fault::Violation, b"STORED\r\n".to_vec()),
        ];
        for (fault, lie) in lies {
            let mut bench = Bench::new(Operation::Get, false);
            bench.ask(Operation::Get, &[0, 1, 2]);
            assert_eq!(bench.take(&lie), Err(fault), "{}", lie.escape_ascii());
        }
    }

    #[test]
    fn a_value_is_stale_once_a_newer_one_was_acknowledged_before_the_question() {
        let mut bench = Bench::new(Operation::Set, false);
        let run = bench.plan.begin_write(7).version & !0xFFFF_FFFF;
        bench.ask(Operation::Set, &[5]);
        bench.ask(Operation::Get, &[5]);
        bench.take(b"STORED\r\n").unwrap();
        bench.ask(Operation::Set, &[5]);
        bench.ask(Operation::Get, &[5]);
        // The first question came before the second acknowledgement, and either may be answered.
        let first = value(5, 5, run | 1);
        bench.take(&[&first[..], END, b"STORED\r\n"].concat()).unwrap();
        bench.take(&[&first[..], END].concat()).unwrap();
        bench.ask(Operation::Get, &[5]);
        assert_eq!(bench.take(&first), Err(Fault::Stale));
    }

    #[test]
    fn a_connection_too_many_is_no_lie() {
        let mut bench = Bench::new(Operation::Get, false);
        assert_eq!(bench.take(NO_ROOM), Ok(NO_ROOM.len()));
        bench.ask(Operation::Get, &[0]);
        assert_eq!(bench.take(NO_ROOM), Ok(NO_ROOM.len()));
        assert_eq!((bench.sample.counters.errors, bench.owed.len()), (2, 0));
        let first = bench.sample.first_error.unwrap();
        assert_eq!(first, "ERROR Too many open connections");
    }

    #[test]
    fn an_error_is_counted_and_ends_its_request_alone() {
        let mut bench = Bench::new(Operation::Get, false);
        bench.ask(Operation::Get, &[0, 1]);
        bench.ask(Operation::Get, &[2]);
        let reply = [b"SERVER_ERROR out of memory\r\n", &value(2, 2, 0)[..], END].concat();
        assert_eq!(bench.take(&reply), Ok(reply.len()));
        assert_eq!((bench.sample.counters.errors, bench.found()), (1, (1, 0)));
    }

    #[test]
    fn one_value_or_one_miss_ends_a_meta_get_of_one_key() {
        let mut bench = Bench::new(Operation::Get, false);
        bench.plan.dialect = Dialect::Meta;
        bench.ask(Operation::Get, &[0]);
        bench.ask(Operation::Get, &[1]);
        let text = value(0, 0, 0);
        let value = text.strip_prefix(b"VALUE key:000000000000 0 40\r\n").unwrap();
        let reply = [b"EN\r\nVA 40 kkey:000000000001\r\n", value].concat();
        assert_eq!(bench.take(&reply), Err(Fault::Foreign));
        assert_eq!(bench.found(), (1, 1));
    }

    #[test]
    fn a_meta_get_of_several_keys_ends_with_its_noop() {
        let mut bench = Bench::new(Operation::Get, false);
        bench.plan.dialect = Dialect::Meta;
        bench.ask(Operation::Get, &[0, 1]);
        let mut reply = Vec::new();
        for id in [0, 1] {
            reply.extend_from_slice(format!("VA 40 kkey:00000000000{id}\r\n").as_bytes());
            Values::Truthful.write(id, 0, 40, &mut reply);
            reply.extend_from_slice(b"\r\n");
            bench.take(&reply).unwrap();
            assert_eq!(bench.owed.len(), 1);
            reply.clear();
        }
        assert_eq!(bench.take(b"MN\r\n"), Ok(4));
        assert_eq!((bench.owed.len(), bench.found()), (0, (2, 0)));
    }

    #[test]
    fn a_counter_that_stands_still_is_a_lie() {
        let mut bench = Bench::new(Operation::Incr, false);
        let counter = crate::truth::counters::COUNTER_BASE;
        bench.ask(Operation::Incr, &[counter]);
        assert_eq!(bench.take(b"7\r\n"), Ok(3));
        let key = Key { item: Item { id: counter, told: None }, floor: 7 };
        bench.ask(Operation::Incr, &[counter]);
        *bench.owed.keys.back_mut().unwrap() = key;
        assert_eq!(bench.take(b"7\r\n"), Err(Fault::Stale));
    }
}
