//! Drives connections, one poll per thread.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use crate::clock;
use crate::connection::Connection;
use crate::report::Report;
use crate::traffic::Traffic;
use crate::workload::{Limit, Workload};

/// One thread's connections, open and ready to run any number of times.
#[derive(Debug)]
pub struct Client {
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    traffic: Traffic,
    pipeline: u64,
}

impl Client {
    /// Opens `connections` connections for uniformly random traffic; `stream` tells the threads'
    /// traffic apart.
    pub fn connect(
        server: SocketAddr,
        workload: &Workload,
        connections: usize,
        stream: u64,
    ) -> io::Result<Self> {
        let traffic = Traffic::uniform(workload, stream);
        Self::with_traffic(server, workload, connections, traffic)
    }

    /// Sends batches on every connection until `limit`, and waits for the last reply.
    ///
    /// # Errors
    ///
    /// On a wrong reply (`InvalidData`), a closed connection, or a server silent for ten seconds.
    pub fn run(&mut self, limit: Limit) -> io::Result<Report> {
        let start = clock::now();
        let mut budget = Budget::new(limit, start);
        let mut report = Report::default();
        let mut busy = 0;
        for connection in &mut self.connections {
            if budget.take(self.pipeline, start) {
                connection.begin(&mut self.traffic, start)?;
                busy += 1;
            }
        }
        while busy > 0 {
            self.wait()?;
            for event in &self.events {
                let connection = &mut self.connections[event.token().0];
                if event.is_writable() {
                    connection.send()?;
                }
                let closing = event.is_read_closed();
                if connection.batch.is_answered() || !connection.receive(closing)? {
                    continue;
                }
                let now = clock::now();
                report.add(self.pipeline, &connection.batch, now - connection.begun);
                if budget.take(self.pipeline, now) {
                    connection.begin(&mut self.traffic, now)?;
                } else {
                    busy -= 1;
                }
            }
        }
        report.elapsed = clock::now() - start;
        Ok(report)
    }

    fn with_traffic(
        server: SocketAddr,
        workload: &Workload,
        connections: usize,
        traffic: Traffic,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let now = clock::now();
        let connections = (0..connections)
            .map(|index| {
                let mut connection = Connection::open(server, workload, now)?;
                let interest = Interest::READABLE | Interest::WRITABLE;
                poll.registry().register(&mut connection.socket, Token(index), interest)?;
                Ok(connection)
            })
            .collect::<io::Result<_>>()?;
        let events = Events::with_capacity(EVENTS_MAX);
        Ok(Self { poll, events, connections, traffic, pipeline: workload.pipeline as u64 })
    }

    fn wait(&mut self) -> io::Result<()> {
        match self.poll.poll(&mut self.events, Some(SILENCE_MAX)) {
            Ok(()) if self.events.is_empty() => Err(io::Error::new(
                ErrorKind::TimedOut,
                format!("the server was silent for {} s", SILENCE_MAX.as_secs()),
            )),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            other => other,
        }
    }
}

/// Stores every key of `workload` once.
pub fn preload(server: SocketAddr, workload: &Workload) -> io::Result<Report> {
    let sets = workload.preload();
    let traffic = Traffic::sequential(&sets);
    let mut client = Client::with_traffic(server, &sets, sets.connections, traffic)?;
    client.run(Limit::Requests(sets.keys.get()))
}

/// Opens the workload's connections, shared out over `threads` threads, and runs them all until
/// `limit`.
pub fn run(
    server: SocketAddr,
    workload: &Workload,
    threads: usize,
    limit: Limit,
) -> io::Result<Report> {
    let mut clients = (0..threads)
        .map(|index| {
            let connections = share(workload.connections, threads, index);
            Client::connect(server, workload, connections, index as u64)
        })
        .collect::<io::Result<Vec<_>>>()?;
    std::thread::scope(|scope| {
        let running: Vec<_> = clients
            .iter_mut()
            .enumerate()
            .map(|(index, client)| {
                let limit = limit.share(threads, index);
                scope.spawn(move || client.run(limit))
            })
            .collect();
        let mut total = Report::default();
        for thread in running {
            total.merge(&thread.join().expect("a client thread does not panic")?);
        }
        Ok(total)
    })
}

impl Limit {
    /// The part of one thread among several.
    fn share(self, threads: usize, index: usize) -> Self {
        match self {
            Self::Time(_) => self,
            Self::Requests(requests) => {
                let (threads, index) = (threads as u64, index as u64);
                Self::Requests(requests / threads + u64::from(index < requests % threads))
            }
        }
    }
}

/// Part `index` of `total` things over `parts` places, the first ones one more where it does not
/// divide.
fn share(total: usize, parts: usize, index: usize) -> usize {
    total / parts + usize::from(index < total % parts)
}

/// What may still be begun.
#[derive(Debug)]
enum Budget {
    Until(Instant),
    Requests(u64),
}

impl Budget {
    fn new(limit: Limit, start: Instant) -> Self {
        match limit {
            Limit::Time(duration) => Self::Until(start + duration),
            Limit::Requests(requests) => Self::Requests(requests),
        }
    }

    /// Whether another batch may begin; the last may go over the number of requests.
    fn take(&mut self, requests: u64, now: Instant) -> bool {
        match self {
            Self::Until(end) => now < *end,
            Self::Requests(0) => false,
            Self::Requests(left) => {
                *left = left.saturating_sub(requests);
                true
            }
        }
    }
}

const EVENTS_MAX: usize = 1024;
const SILENCE_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_are_even() {
        let shares: Vec<_> = (0..4).map(|index| share(50, 4, index)).collect();
        assert_eq!(shares, [13, 13, 12, 12]);
        let requests = |index| Limit::Requests(10).share(3, index);
        assert_eq!([0, 1, 2].map(requests), [4, 3, 3].map(Limit::Requests));
    }

    #[test]
    fn a_budget_of_requests_runs_out() {
        let now = clock::now();
        let mut budget = Budget::new(Limit::Requests(20), now);
        assert!(budget.take(16, now) && budget.take(16, now) && !budget.take(16, now));
    }

    #[test]
    fn a_budget_of_time_runs_out() {
        let now = clock::now();
        let mut budget = Budget::new(Limit::Time(Duration::from_secs(1)), now);
        assert!(budget.take(1, now));
        assert!(!budget.take(1, now + Duration::from_secs(1)));
    }
}
