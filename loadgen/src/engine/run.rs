//! Runs a plan on its threads and gathers what they find.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use crate::engine::Plan;
use crate::engine::client::Client;
use crate::engine::error::Error;
use crate::engine::limit::Limit;
use crate::engine::schedule::Pace;
use crate::measure::Sample;
use crate::measure::report::Report;
use crate::workload::operation::Operation;
use crate::workload::traffic::{Part, Traffic};

/// What one thread found in one interval.
type Found = (usize, u64, Sample);

/// Runs `plan` until `limit`, after so many requests that do not count. Every `interval`, what was
/// found is given to `observe`.
///
/// # Errors
///
/// When a server cannot be reached, or on the first wrong answer where those are fatal.
pub fn run(
    plan: &Arc<Plan>,
    warm_up_requests: u64,
    limit: Limit,
    interval: Duration,
    observe: &mut dyn FnMut(u64, &Sample),
) -> Result<Report, Error> {
    let mut clients = parts(plan)
        .map(|part| Client::connect(plan, part, Traffic::new(&plan.workload, part)))
        .collect::<io::Result<Vec<_>>>()?;
    if warm_up_requests > 0 {
        warm_up(&mut clients, Limit::Requests(warm_up_requests))?;
    }
    run_clients(clients, limit, interval, observe)
}

/// Stores every key of the plan's workload once.
///
/// # Errors
///
/// As [`run`]; also when the server refuses to store.
pub fn preload(plan: &Arc<Plan>) -> Result<Report, Error> {
    let plan = Arc::new(Plan {
        pace: Pace::Closed,
        connections: plan.threads,
        pipeline: PRELOAD_PIPELINE,
        ..Plan::clone(plan)
    });
    let clients = parts(&plan)
        .map(|part| Client::connect(&plan, part, Traffic::sequential(&plan.workload, part)))
        .collect::<io::Result<Vec<_>>>()?;
    let report = run_clients(clients, Limit::Traffic, NO_INTERVAL, &mut |_, _| {})?;
    let stored = report.total.counters.answered[Operation::Set as usize];
    match report.total.counters.failures() {
        0 if stored == plan.workload.key_count => Ok(report),
        failures => {
            let why = report.total.first_error.map_or(String::new(), |error| format!(": {error}"));
            let message = format!("of the keys to begin with, {failures} could not be stored{why}");
            Err(io::Error::other(message).into())
        }
    }
}

fn warm_up(clients: &mut [Client], limit: Limit) -> Result<(), Error> {
    std::thread::scope(|scope| {
        let work = |client: &mut Client| client.run(limit, NO_INTERVAL, &mut |_, _| {}).map(drop);
        let threads: Vec<_> =
            clients.iter_mut().map(|client| scope.spawn(move || work(client))).collect();
        let mut ended = threads.into_iter().map(std::thread::ScopedJoinHandle::join);
        ended.try_for_each(|ended| ended.expect("a client thread does not panic"))
    })
}

fn parts(plan: &Plan) -> impl Iterator<Item = Part> {
    let count = plan.threads.min(plan.connections);
    (0..count).map(move |index| Part { index, count })
}

fn run_clients(
    clients: Vec<Client>,
    limit: Limit,
    interval: Duration,
    observe: &mut dyn FnMut(u64, &Sample),
) -> Result<Report, Error> {
    let mut gathering = Gathering::new(clients.len(), interval);
    let (sender, receiver) = channel();
    let (gathering, observe) = (&mut gathering, observe);
    std::thread::scope(|scope| {
        let threads: Vec<_> = clients
            .into_iter()
            .enumerate()
            .map(|(thread, client)| {
                let sender = sender.clone();
                scope.spawn(move || work(client, thread, limit, interval, &sender))
            })
            .collect();
        drop(sender);
        gathering.gather(&receiver, observe);
        for thread in threads {
            let elapsed = thread.join().expect("a client thread does not panic")?;
            gathering.report.elapsed = gathering.report.elapsed.max(elapsed);
        }
        Ok::<_, Error>(())
    })?;
    Ok(std::mem::take(&mut gathering.report))
}

fn work(
    mut client: Client,
    thread: usize,
    limit: Limit,
    interval: Duration,
    sender: &Sender<Found>,
) -> Result<Duration, Error> {
    client.run(limit, interval, &mut |index, sample| {
        // Nobody listens when another thread has ended the run.
        let _ = sender.send((thread, index, sample.clone()));
    })
}

/// Puts together what the threads found in the same interval.
struct Gathering {
    report: Report,
    /// The interval that each thread is in.
    current: Vec<u64>,
    open: BTreeMap<u64, Sample>,
}

impl Gathering {
    fn new(threads: usize, interval: Duration) -> Self {
        let report = Report { interval, ..Report::default() };
        Self { report, current: vec![0; threads], open: BTreeMap::new() }
    }

    fn gather(&mut self, receiver: &Receiver<Found>, observe: &mut dyn FnMut(u64, &Sample)) {
        for (thread, index, sample) in receiver {
            self.open.entry(index).or_default().add(&sample);
            self.current[thread] = index + 1;
            let complete = self.current.iter().min().copied().unwrap_or(0);
            while let Some(entry) = self.open.first_entry()
                && *entry.key() < complete
            {
                let (index, sample) = entry.remove_entry();
                observe(index, &sample);
                self.report.push(index, &sample);
            }
        }
        for (index, sample) in std::mem::take(&mut self.open) {
            observe(index, &sample);
            self.report.push(index, &sample);
        }
    }
}

const PRELOAD_PIPELINE: usize = 16;
/// Longer than any run.
const NO_INTERVAL: Duration = Duration::MAX;
