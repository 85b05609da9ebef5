//! What a server owes a connection: the requests that were sent and have not been answered, with
//! all that is needed to judge their answers.

use std::collections::VecDeque;

use crate::truth::ledger::Write;
use crate::truth::value::Version;
use crate::workload::Item;
use crate::workload::operation::Operation;

/// Requests sent on one connection and not yet answered, in order.
#[derive(Debug, Default)]
pub(crate) struct Owed {
    pub(crate) requests: VecDeque<Request>,
    pub(crate) keys: VecDeque<Key>,
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) operation: Operation,
    /// Keys asked for.
    pub(crate) asked: usize,
    /// Keys not yet answered.
    pub(crate) keys: usize,
    /// When it should have been sent, in nanoseconds; latency counts from here.
    pub(crate) due_nanos: u64,
    /// When it was sent; the patience with the server counts from here.
    pub(crate) sent_nanos: u64,
    /// Of a request that changes a value.
    pub(crate) write: Write,
    /// Of a cas: what the value said that it is to replace. Of a question before a cas: 1.
    pub(crate) base: Version,
}

/// One key of a request, with what its answer must not be below.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) item: Item,
    pub(crate) floor: u64,
}

/// What an answer leads to; done before anything new is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FollowUp {
    /// A miss is filled.
    Fill(Item),
    /// A value is replaced if it still is the one that was answered.
    Cas { item: Item, token: u64, base: Version },
    /// A counter that is not there is made.
    Count(Item),
}

impl Owed {
    /// With room for so many at once.
    pub(crate) fn with_capacity(requests: usize, keys: usize) -> Self {
        Self { requests: VecDeque::with_capacity(requests), keys: VecDeque::with_capacity(keys) }
    }

    pub(crate) fn push(&mut self, request: Request) {
        self.requests.push_back(request);
    }

    pub(crate) fn push_key(&mut self, key: Key) {
        self.keys.push_back(key);
    }

    pub(crate) fn len(&self) -> usize {
        self.requests.len()
    }

    pub(crate) fn first(&self) -> Option<&Request> {
        self.requests.front()
    }

    /// Gives up on everything; what was asked is told to `each`.
    pub(crate) fn abandon(&mut self, each: impl FnMut(Request)) {
        self.requests.drain(..).for_each(each);
        self.keys.clear();
    }
}
