//! One simulated client: a connection to each server, and the requests it has under way. A request
//! goes to the server where its key lives; a get of keys on several servers becomes one get for
//! each.

use std::collections::VecDeque;

use crate::dialect::Store;
use crate::engine::Plan;
use crate::engine::link::Link;
use crate::engine::owed::{FollowUp, Key, Request};
use crate::truth::counters::COUNTER_BASE;
use crate::truth::ledger::Write;
use crate::truth::value::block;
use crate::workload::Item;
use crate::workload::keys::{KEY_BYTES_MAX, KeyBuffer};
use crate::workload::operation::Operation;
use crate::workload::traffic::Traffic;

/// A client's connections.
#[derive(Debug)]
pub(crate) struct Session {
    /// One for each server.
    pub(crate) links: Vec<Link>,
    /// What answers have led to.
    pub(crate) follow_ups: VecDeque<FollowUp>,
    /// When there last was room for another request, in nanoseconds.
    pub(crate) free_nanos: u64,
    /// Whether it had no room for another request when it was asked last.
    pub(crate) full: bool,
    /// Whether it has written requests and not sent them.
    pub(crate) unsent: bool,
    /// When it sent last in an open loop, in nanoseconds.
    pub(crate) sent_nanos: u64,
    /// Whether it stands in the queue of those that have room.
    pub(crate) queued: bool,
}

/// When a request is due and when it is sent, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) due: u64,
    pub(crate) sent: u64,
}

/// Writes requests; keeps what it needs for that from one to the next.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    items: Vec<Item>,
    homes: Vec<usize>,
}

impl Session {
    pub(crate) fn new(links: Vec<Link>, follow_ups_max: usize) -> Self {
        let follow_ups = VecDeque::with_capacity(follow_ups_max);
        Self {
            links,
            follow_ups,
            free_nanos: 0,
            full: false,
            unsent: false,
            sent_nanos: 0,
            queued: false,
        }
    }

    /// Requests under way.
    pub(crate) fn owed(&self) -> usize {
        self.links.iter().map(|link| link.owed.len()).sum()
    }

    /// Whether all its connections are open.
    pub(crate) fn is_up(&self) -> bool {
        self.links.iter().all(Link::is_up)
    }

    /// Writes the next request; `false` when there is none left.
    pub(crate) fn ask(
        &mut self,
        writer: &mut Writer,
        plan: &Plan,
        traffic: &mut Traffic,
        times: Times,
    ) -> bool {
        let Some(next) = traffic.request() else { return false };
        match (next.operation, next.item) {
            (operation @ (Operation::Get | Operation::Gets), item) => {
                writer.items.clear();
                match item {
                    Some(item) => writer.items.push(item),
                    None => {
                        let keys = plan.workload.keys_per_get;
                        writer.items.extend((0..keys).map(|_| traffic.item()));
                    }
                }
                self.get(writer, plan, operation, 0, times);
            }
            (Operation::Cas, item) => {
                writer.items.clear();
                writer.items.push(item.unwrap_or_else(|| traffic.item()));
                self.get(writer, plan, Operation::Gets, 1, times);
            }
            (operation, item) => {
                let item = item.unwrap_or_else(|| traffic.item());
                self.change(plan, operation, item, None, times);
            }
        }
        true
    }

    /// Does what an answer has led to.
    pub(crate) fn follow(&mut self, plan: &Plan, follow_up: FollowUp, times: Times) {
        match follow_up {
            FollowUp::Fill(item) => self.change(plan, Operation::Set, item, None, times),
            FollowUp::Cas { item, token, base } => {
                self.change(plan, Operation::Cas, item, Some((token, base)), times);
            }
            FollowUp::Count(item) => self.count(plan, item, times),
        }
    }

    /// Asks for the writer's items.
    fn get(
        &mut self,
        writer: &mut Writer,
        plan: &Plan,
        operation: Operation,
        base: u64,
        times: Times,
    ) {
        if self.links.len() == 1 {
            write_get(&mut self.links[0], plan, operation, base, times, writer.items.iter());
            return;
        }
        let mut text = [0; KEY_BYTES_MAX];
        writer.homes.clear();
        writer.homes.extend(writer.items.iter().map(|item| plan.home(item.id, &mut text)));
        for (server, link) in self.links.iter_mut().enumerate() {
            let homes = writer.items.iter().zip(&writer.homes);
            let here = homes.filter(|(_, home)| **home == server).map(|(item, _)| item);
            if here.clone().next().is_some() {
                write_get(link, plan, operation, base, times, here);
            }
        }
    }

    fn change(
        &mut self,
        plan: &Plan,
        operation: Operation,
        item: Item,
        cas: Option<(u64, u64)>,
        times: Times,
    ) {
        let item = match operation {
            Operation::Incr => Item { id: item.id + COUNTER_BASE, ..item },
            _ => item,
        };
        let mut text: KeyBuffer = [0; KEY_BYTES_MAX];
        let link = &mut self.links[plan.home(item.id, &mut text)];
        let key = plan.workload.keys.text(item.id, &mut text);
        let (token, base) = cas.unwrap_or_default();
        let mut floor = plan.ledger.as_ref().map_or(0, |ledger| u64::from(ledger.floor(item.id)));
        let mut write = Write::default();
        match operation {
            Operation::Incr => {
                floor = plan.counters.as_ref().map_or(0, |ledger| ledger.floor(item.id));
                plan.dialect.incr(key, &mut link.output);
            }
            Operation::Touch => {
                plan.dialect.touch(key, plan.workload.ttl_seconds(item), &mut link.output);
            }
            Operation::Delete => {
                write = plan.begin_write(item.id);
                plan.dialect.delete(key, &mut link.output);
            }
            Operation::Append | Operation::Prepend => {
                let block = block(plan.workload.keys.identity(item.id));
                let store =
                    Store { operation, key, ttl_seconds: 0, value_bytes: block.len(), token };
                write_store(link, plan, &store, |output| output.extend_from_slice(&block));
            }
            _ => {
                write = plan.begin_write(item.id);
                let ttl_seconds = plan.workload.ttl_seconds(item);
                let value_bytes = plan.workload.value_bytes(item);
                let store = Store { operation, key, ttl_seconds, value_bytes, token };
                write_store(link, plan, &store, |output| {
                    let id = plan.workload.keys.identity(item.id);
                    plan.workload.values.write(id, write.version, value_bytes, output);
                });
            }
        }
        let (due_nanos, sent_nanos) = (times.due, times.sent);
        link.owed.push_key(Key { item, floor });
        link.owed.push(Request {
            operation,
            asked: 1,
            keys: 1,
            due_nanos,
            sent_nanos,
            write,
            base,
        });
    }

    /// Makes a counter where the greatest acknowledged number left it.
    fn count(&mut self, plan: &Plan, item: Item, times: Times) {
        let mut text: KeyBuffer = [0; KEY_BYTES_MAX];
        let link = &mut self.links[plan.home(item.id, &mut text)];
        let key = plan.workload.keys.text(item.id, &mut text);
        let start = plan.counters.as_ref().map_or(0, |ledger| ledger.floor(item.id));
        let mut number = itoa::Buffer::new();
        let value = number.format(start).as_bytes();
        let ttl_seconds = plan.workload.ttl_seconds(item);
        let operation = Operation::Add;
        let store = Store { operation, key, ttl_seconds, value_bytes: value.len(), token: 0 };
        write_store(link, plan, &store, |output| output.extend_from_slice(value));
        let (due_nanos, sent_nanos, write) = (times.due, times.sent, Write::default());
        link.owed.push_key(Key { item, floor: 0 });
        link.owed.push(Request {
            operation,
            asked: 1,
            keys: 1,
            due_nanos,
            sent_nanos,
            write,
            base: 0,
        });
    }
}

fn write_get<'a>(
    link: &mut Link,
    plan: &Plan,
    operation: Operation,
    base: u64,
    times: Times,
    items: impl Iterator<Item = &'a Item> + Clone,
) {
    let keys = items.clone().count();
    let tokens = operation == Operation::Gets;
    plan.dialect.get_begin(tokens, &mut link.output);
    let mut text = [0; KEY_BYTES_MAX];
    for &item in items {
        let key = plan.workload.keys.text(item.id, &mut text);
        plan.dialect.get_key(key, keys, tokens, &mut link.output);
        let floor = plan.ledger.as_ref().map_or(0, |ledger| u64::from(ledger.floor(item.id)));
        link.owed.push_key(Key { item, floor });
    }
    plan.dialect.get_end(keys, &mut link.output);
    let (due_nanos, sent_nanos, write) = (times.due, times.sent, Write::default());
    link.owed.push(Request { operation, asked: keys, keys, due_nanos, sent_nanos, write, base });
}

fn write_store(link: &mut Link, plan: &Plan, store: &Store<'_>, value: impl FnOnce(&mut Vec<u8>)) {
    plan.dialect.store_begin(store, &mut link.output);
    value(&mut link.output);
    plan.dialect.store_end(&mut link.output);
}
