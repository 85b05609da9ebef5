//! Gets that came alone, gathered from a worker's connections and looked up together.
//!
//! A client that waits for every reply asks for one key at a time, and to look one key up is mostly
//! to wait for memory: for its bucket, then for its item. Where many such clients are ready in one
//! turn of the event loop, a group of their keys is waited for at once, as a pipeline's is, at one
//! moment and in one batch. The last group of a turn is looked up by a task of its own, which the
//! first get wakes: it stands behind those connections in the event loop's queue that were ready
//! when the turn began.

use crate::clock::Seconds;
use crate::connection::Connection;
use crate::protocol::encode::Encoder;
use crate::protocol::{Encode, Retrieval};
use crate::serve::retrieve;
use crate::store::PREFETCH_KEYS;
use crate::worker::{Desk, Engine, Worker};
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

/// Gets that wait to be looked up: [`PREFETCH_KEYS`] at most, all of one kind.
#[derive(Debug)]
pub(crate) struct Gather {
    retrieval: Retrieval,
    askers: Vec<Weak<RefCell<Connection>>>,
    /// The keys, one behind the other, and where each ends.
    keys: Vec<u8>,
    key_ends: Vec<usize>,
    waker: Waker,
}

/// The task that looks up what a turn of the event loop has gathered.
#[derive(Debug)]
pub(crate) struct Gathering(pub(crate) Rc<Worker>);

impl Gather {
    /// Takes a get up. It is answered in this turn of the event loop. If the group is full or of
    /// another kind, that is looked up first.
    pub(crate) fn add(
        &mut self,
        worker: &Worker,
        engine: &mut Engine,
        retrieval: Retrieval,
        key: &[u8],
        asker: Weak<RefCell<Connection>>,
    ) {
        if self.askers.len() == PREFETCH_KEYS || self.retrieval != retrieval {
            self.answer(worker, engine);
        }
        if self.askers.is_empty() {
            self.retrieval = retrieval;
            self.waker.wake_by_ref();
        }
        self.keys.extend_from_slice(key);
        self.key_ends.push(self.keys.len());
        self.askers.push(asker);
    }

    fn answer(&mut self, worker: &Worker, engine: &mut Engine) {
        let now = worker.now();
        let mut keys: [&[u8]; PREFETCH_KEYS] = [&[]; PREFETCH_KEYS];
        let mut start = 0;
        for (key, &end) in keys.iter_mut().zip(&self.key_ends) {
            *key = &self.keys[start..end];
            start = end;
        }
        let mut left = &keys[..self.askers.len()];
        let mut askers = self.askers.drain(..);
        while !left.is_empty() {
            let (reply_ends, done) = look_up(worker, engine, now, self.retrieval, left);
            left = &left[done..];
            let mut start = 0;
            // The ends come first: a `zip` takes from its left before it finds its right empty.
            for (&end, asker) in reply_ends[..done].iter().zip(&mut askers) {
                if let Some(asker) = asker.upgrade() {
                    asker.borrow_mut().answer(worker, now, &engine.output[start..end]);
                }
                start = end;
            }
            engine.clear_output(worker);
        }
        drop(askers);
        self.keys.clear();
        self.key_ends.clear();
    }
}

/// Looks up as many keys as fit the output. Returns where each one's reply ends, and how many they
/// are. It is over before anything is sent: nothing may be pinned meanwhile.
fn look_up(
    worker: &Worker,
    engine: &mut Engine,
    now: Seconds,
    retrieval: Retrieval,
    keys: &[&[u8]],
) -> ([usize; PREFETCH_KEYS], usize) {
    let output_bytes = worker.limits().output_bytes;
    let (mut context, output) = engine.begin(worker, now);
    let mut ends = [0; PREFETCH_KEYS];
    let mut places = ends.iter_mut();
    let end_reply = |encoder: &mut Encoder<'_>| {
        encoder.end();
        *places.next().expect("no more replies than keys") = encoder.written();
    };
    let mut encoder = Encoder::new(output, false);
    let done = retrieve(&mut context, retrieval, keys, output_bytes, &mut encoder, end_reply);
    (ends, done)
}

impl Future for Gathering {
    type Output = ();

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<()> {
        let worker = &*self.0;
        let Desk { gather, engine, .. } = &mut *worker.desk();
        gather.waker.clone_from(task.waker());
        gather.answer(worker, engine);
        Poll::Pending
    }
}

impl Default for Gather {
    fn default() -> Self {
        Self {
            retrieval: Retrieval { cas: false, touch: None },
            askers: Vec::with_capacity(PREFETCH_KEYS),
            keys: Vec::new(),
            key_ends: Vec::with_capacity(PREFETCH_KEYS),
            waker: Waker::noop().clone(),
        }
    }
}
