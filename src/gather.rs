//! Short input, gathered from a worker's connections and served together.
//!
//! A client that waits for every reply sends one request at a time, and to look one key up is
//! mostly to wait for memory: for its bucket, then for its item. Where many such clients are ready
//! in one turn of the event loop, their requests are served as a pipeline is: at one moment, in one
//! batch, and the keys of all are waited for at once. The last group of a turn is served by a task
//! of its own, which the first request wakes: it stands in the event loop's queue behind all
//! connections that were ready when the turn began.

use crate::clock::Seconds;
use crate::connection::Connection;
use crate::serve::{Stop, first_key};
use crate::store::PREFETCH_KEYS;
use crate::worker::{Desk, Engine, Worker};
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Input that waits to be served, of [`PREFETCH_KEYS`] connections at most.
#[derive(Debug)]
pub(crate) struct Gather {
    clients: Vec<Gathered>,
    /// What they sent, one behind the other.
    input: Vec<u8>,
    waker: Waker,
}

#[derive(Debug)]
struct Gathered {
    connection: Rc<RefCell<Connection>>,
    input_end: usize,
}

/// What a connection is to send.
#[derive(Debug)]
struct Reply {
    connection: Rc<RefCell<Connection>>,
    output_end: usize,
    stop: Stop,
}

/// The task that serves what a turn of the event loop has gathered.
#[derive(Debug)]
pub(crate) struct Gathering(pub(crate) Rc<Worker>);

impl Gather {
    /// Takes up what a connection has read. It is served in this turn of the event loop; if the
    /// group is full, that is served first.
    pub(crate) fn add(
        &mut self,
        worker: &Worker,
        engine: &mut Engine,
        input: &[u8],
        connection: Rc<RefCell<Connection>>,
    ) {
        if self.clients.len() == PREFETCH_KEYS {
            self.serve(worker, engine);
        }
        if self.clients.is_empty() {
            self.waker.wake_by_ref();
        }
        self.input.extend_from_slice(input);
        self.clients.push(Gathered { connection, input_end: self.input.len() });
    }

    fn serve(&mut self, worker: &Worker, engine: &mut Engine) {
        let now = worker.now();
        let mut first = 0;
        while first < self.clients.len() {
            let replies = self.execute(first, worker, engine, now);
            for reply in replies.iter().flatten() {
                let (output, end) = (&mut engine.output, reply.output_end);
                reply.connection.borrow_mut().take_replies(worker, output, end, reply.stop);
            }
            engine.clear_output(worker);
            first += replies.iter().flatten().count();
        }
        self.clients.clear();
        self.input.clear();
    }

    /// Serves from the `first` on as many as fit the output. What the store lends for it is given
    /// back before anything is sent.
    fn execute(
        &self,
        first: usize,
        worker: &Worker,
        engine: &mut Engine,
        now: Seconds,
    ) -> [Option<Reply>; PREFETCH_KEYS] {
        let (mut context, output) = engine.begin(worker, now);
        // Whoever sends more than one request has them announced in his turn.
        context.batch.prefetch(self.from(first).filter_map(|(input, _)| first_key(input)));
        let mut replies = [const { None }; PREFETCH_KEYS];
        for (place, (input, connection)) in replies.iter_mut().zip(self.from(first)) {
            let mut running = connection.borrow_mut();
            let stop = running.serve_gathered(worker, &mut context, input, output);
            let connection = Rc::clone(connection);
            *place = Some(Reply { connection, output_end: output.end(), stop });
            if output.unsent_bytes() >= worker.limits().output_bytes {
                break;
            }
        }
        replies
    }

    /// What was gathered from the `first` on.
    fn from(&self, first: usize) -> impl Iterator<Item = (&[u8], &Rc<RefCell<Connection>>)> {
        let mut start = first.checked_sub(1).map_or(0, |last| self.clients[last].input_end);
        self.clients[first..].iter().map(move |gathered| {
            let input = &self.input[start..gathered.input_end];
            start = gathered.input_end;
            (input, &gathered.connection)
        })
    }
}

impl Future for Gathering {
    type Output = ();

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<()> {
        let worker = &*self.0;
        let Desk { gather, engine, .. } = &mut *worker.desk();
        gather.waker.clone_from(task.waker());
        gather.serve(worker, engine);
        Poll::Pending
    }
}

impl Default for Gather {
    fn default() -> Self {
        Self {
            clients: Vec::with_capacity(PREFETCH_KEYS),
            input: Vec::new(),
            waker: Waker::noop().clone(),
        }
    }
}
