//! Drives a workload: when requests are sent, over which connections, and what becomes of them.
//!
//! ```text
//! Schedule (when) ---.
//! Traffic (what) ----+-> Session -> Link -> socket        one thread, one epoll, many sessions
//! follow-ups <-------+-- Exchange (is it what is owed?) <-'
//! ```

pub mod address;
pub mod client;
pub mod error;
pub mod exchange;
pub mod ketama;
pub mod limit;
mod link;
mod owed;
pub mod run;
pub mod schedule;
mod session;

use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::dialect::Dialect;
use crate::engine::address::Address;
use crate::engine::ketama::Continuum;
use crate::engine::schedule::Pace;
use crate::random::mix;
use crate::truth::counters::{COUNTER_BASE, CounterLedger};
use crate::truth::ledger::{Ledger, Write};
use crate::truth::value::Values;
use crate::workload::Workload;
use crate::workload::keys::KeyBuffer;
use crate::workload::operation::Operation;

/// Everything that the threads of a run share.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is asked.
    pub workload: Arc<Workload>,
    /// Of whom.
    pub servers: Vec<Address>,
    /// In which words.
    pub dialect: Dialect,
    /// When.
    pub pace: Pace,
    /// How many sessions, over all threads; each has a connection to every server.
    pub connections: usize,
    /// How many threads.
    pub threads: usize,
    /// Requests that a session has under way at most.
    pub pipeline: usize,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Whether the first wrong answer ends the run.
    pub faults_are_fatal: bool,
    /// What the threads know of each other's writes; `None` where nothing is written.
    pub ledger: Option<Arc<Ledger>>,
    /// The same of counters.
    pub counters: Option<Arc<CounterLedger>>,
    /// Where keys live among the servers.
    pub continuum: Continuum,
}

impl Plan {
    /// A closed loop of the text protocol with one connection on one thread; the rest is for the
    /// caller to set.
    #[must_use]
    pub fn new(workload: Workload, servers: Vec<Address>) -> Self {
        let truthful = workload.values == Values::Truthful;
        let ledger = (truthful && workload.writes())
            .then(|| Arc::new(Ledger::new(workload.key_count, run_number(workload.seed))));
        let counts = workload.mix.has(Operation::Incr) && workload.drift == 0.0;
        let counters = counts.then(|| Arc::new(CounterLedger::new(workload.key_count)));
        let continuum = Address::continuum(&servers);
        Self {
            workload: Arc::new(workload),
            servers,
            dialect: Dialect::Text,
            pace: Pace::Closed,
            connections: 1,
            threads: 1,
            pipeline: 1,
            timeout: Duration::from_secs(10),
            faults_are_fatal: true,
            ledger,
            counters,
            continuum,
        }
    }

    /// The index of the server where a key lives.
    fn home(&self, id: u64, text: &mut KeyBuffer) -> usize {
        match self.servers.len() {
            1 => 0,
            _ => self.continuum.server(self.workload.keys.text(id, text)),
        }
    }

    fn begin_write(&self, id: u64) -> Write {
        match &self.ledger {
            Some(ledger) if id < COUNTER_BASE => ledger.begin(id),
            _ => Write::default(),
        }
    }
}

/// A number that tells this run's values from those of other runs; never 0.
fn run_number(seed: u64) -> u32 {
    let process = u64::from(std::process::id());
    let bits = mix(clock::unix_nanos() ^ process.rotate_left(32) ^ mix(seed));
    ((bits >> 32) as u32).max(1)
}
