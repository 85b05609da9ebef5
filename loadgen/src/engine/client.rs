//! One thread's sessions and its event loop.
//!
//! In a closed loop a session sends a pipeline of requests, waits for all their answers, and only
//! then sends the next. What has come for all sessions is read before any of them sends again: a
//! server that is woken for one request at a time goes back to sleep behind each, and on a quiet
//! machine waking a core is what costs most.
//!
//! In an open loop requests are due by a schedule, whatever the server does: a request goes to the
//! session that has had room for longest, and when none has, it waits. Its latency counts from when
//! it was due, so that a server's pause counts for every request that fell into it. What waits
//! needs no memory: the schedule's next time simply lies in the past. What is due is sent before
//! answers are read, so that the one hardly delays the other.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use crate::clock::{self, nanos};
use crate::dialect::Dialect;
use crate::engine::Plan;
use crate::engine::error::{Error, named};
use crate::engine::exchange::Exchange;
use crate::engine::limit::{Budget, Limit};
use crate::engine::link::{Failure, Link};
use crate::engine::owed::Owed;
use crate::engine::schedule::{Pace, Schedule};
use crate::engine::session::{Session, Times, Writer};
use crate::measure::Sample;
use crate::timer::Timer;
use crate::truth::Fault;
use crate::workload::keys::KEY_BYTES_MAX;
use crate::workload::traffic::{Part, Traffic};

/// One thread's sessions, open and ready to run any number of times.
#[derive(Debug)]
pub struct Client {
    plan: Arc<Plan>,
    part: Part,
    traffic: Traffic,
    poll: Poll,
    timer: Timer,
    events: Events,
    sessions: Vec<Session>,
    /// Sessions that have room, the one that has had it for longest first.
    ready: VecDeque<usize>,
    /// Requests of an open loop that are written and not sent: of which session, and since when
    /// they could have been.
    unsent: Vec<(usize, u64)>,
    writer: Writer,
    scratch: Vec<u8>,
    sample: Sample,
    start: Instant,
    /// What may still begin.
    budget: Budget,
    schedule: Option<Schedule>,
    /// When a session last had all its connections.
    up_nanos: u64,
    /// Why a connection was given up last.
    last_failure: Option<io::Error>,
}

impl Client {
    /// Opens this part of the plan's connections.
    ///
    /// # Errors
    ///
    /// When a server cannot be reached.
    pub fn connect(plan: &Arc<Plan>, part: Part, traffic: Traffic) -> io::Result<Self> {
        let poll = Poll::new()?;
        let sessions = usize::try_from(part.of(plan.connections as u64)).expect("it was a usize");
        let keys_max = plan.pipeline * plan.workload.keys_per_get;
        let sessions: Vec<_> = (0..sessions)
            .map(|session| {
                let open = |(server, address): (usize, &crate::engine::address::Address)| {
                    let token = Token(session * plan.servers.len() + server);
                    let owed = Owed::with_capacity(plan.pipeline * plan.servers.len(), keys_max);
                    Link::open(address.endpoint(), poll.registry(), token, owed)
                        .map_err(|error| named(address, &error))
                };
                let links = plan.servers.iter().enumerate().map(open).collect::<io::Result<_>>()?;
                Ok(Session::new(links, keys_max))
            })
            .collect::<io::Result<_>>()?;
        let piece_bytes = plan.workload.value_bytes_max() + KEY_BYTES_MAX + Dialect::OVERHEAD_BYTES;
        Ok(Self {
            plan: Arc::clone(plan),
            part,
            traffic,
            timer: Timer::register(poll.registry(), TIMER)?,
            poll,
            events: Events::with_capacity(EVENTS_MAX),
            ready: VecDeque::with_capacity(sessions.len()),
            unsent: Vec::with_capacity(sessions.len() * plan.pipeline),
            sessions,
            writer: Writer::default(),
            scratch: vec![0; piece_bytes + READ_BYTES],
            sample: Sample::default(),
            start: clock::now(),
            budget: Budget::Requests(0),
            schedule: None,
            up_nanos: 0,
            last_failure: None,
        })
    }

    /// Sends requests until `limit` and waits for the last answer. What was found is given to
    /// `observe` with the number of its interval, at the end of each and at the end of all.
    ///
    /// # Errors
    ///
    /// On a wrong answer, where those are fatal, and when the system refuses.
    pub fn run(
        &mut self,
        limit: Limit,
        interval: Duration,
        observe: &mut dyn FnMut(u64, &Sample),
    ) -> Result<Duration, Error> {
        self.begin(limit);
        let interval_nanos = nanos(interval).max(1);
        let (mut index, mut checked_nanos) = (0, 0);
        loop {
            let now = self.elapsed_nanos();
            self.dispatch(now)?;
            if self.is_over(now) {
                break;
            }
            self.wait()?;
            self.handle_events()?;
            let now = self.elapsed_nanos();
            if now / interval_nanos > index {
                observe(index, &self.sample);
                self.sample.clear();
                index = now / interval_nanos;
            }
            if now - checked_nanos > HOUSEKEEPING_NANOS {
                checked_nanos = now;
                self.keep_house(now)?;
            }
        }
        self.end();
        let elapsed = clock::now() - self.start;
        observe(index, &self.sample);
        self.sample.clear();
        Ok(elapsed)
    }

    fn begin(&mut self, limit: Limit) {
        self.start = clock::now();
        self.budget = Budget::new(limit, self.part);
        self.schedule = match self.plan.pace {
            Pace::Open(rate, arrivals) => {
                Some(Schedule::new(rate, arrivals, self.plan.workload.seed, self.part))
            }
            Pace::Closed | Pace::Recorded(_) => None,
        };
        self.up_nanos = 0;
        self.ready.clear();
        for (index, session) in self.sessions.iter_mut().enumerate() {
            session.free_nanos = 0;
            session.queued = session.is_up();
            if session.queued {
                self.ready.push_back(index);
            }
        }
    }

    /// Lets sessions that have room send what is due.
    fn dispatch(&mut self, now: u64) -> Result<(), Error> {
        while let Some(&index) = self.ready.front() {
            if self.plan.pace == Pace::Closed {
                self.ready.pop_front();
                self.sessions[index].queued = false;
                self.send_batch(index)?;
                continue;
            }
            let due = self.due_nanos().filter(|&due| due <= now && self.budget.allows(due));
            let Some(due) = due else { break };
            self.ask(index, due, now);
        }
        if self.ready.front().is_some_and(|&index| self.sessions[index].unsent) {
            self.ready.rotate_left(1);
        }
        self.flush()
    }

    /// Sends what an open loop has written, what was due first before the rest, and tells how late.
    fn flush(&mut self) -> Result<(), Error> {
        for position in 0..self.unsent.len() {
            let (index, since_nanos) = self.unsent[position];
            if std::mem::take(&mut self.sessions[index].unsent) {
                let now = self.elapsed_nanos();
                self.sessions[index].sent_nanos = now;
                self.send(index, now)?;
            }
            let late = self.sessions[index].sent_nanos.saturating_sub(since_nanos);
            self.sample.lateness.saturating_record(late.max(1));
        }
        self.unsent.clear();
        Ok(())
    }

    /// In an open loop: one request of the session that is first in the queue. It stays there while
    /// it has room, so that what is due at the same time is sent with one write.
    fn ask(&mut self, index: usize, due: u64, now: u64) {
        let session = &mut self.sessions[index];
        self.unsent.push((index, due.max(session.free_nanos)));
        let times = Times { due, sent: now };
        let asked = session.ask(&mut self.writer, &self.plan, &mut self.traffic, times);
        self.budget.take(asked);
        if let Some(schedule) = &mut self.schedule {
            schedule.advance();
        }
        session.unsent = true;
        session.full = session.owed() >= self.plan.pipeline;
        if session.full {
            session.queued = false;
            self.ready.pop_front();
        }
    }

    /// In an open loop: does at once what answers have led to, as far as there is room.
    fn follow(&mut self, index: usize, now: u64) -> Result<(), Error> {
        let session = &mut self.sessions[index];
        let times = Times { due: now, sent: now };
        while session.owed() < self.plan.pipeline
            && let Some(follow_up) = session.follow_ups.pop_front()
        {
            session.follow(&self.plan, follow_up, times);
        }
        self.send(index, now)
    }

    /// In a closed loop: as many requests as a pipeline holds, with one write.
    fn send_batch(&mut self, index: usize) -> Result<(), Error> {
        // Not when the queue was begun: what the sessions before this one took is not the server's.
        let now = self.elapsed_nanos();
        let session = &mut self.sessions[index];
        let times = Times { due: now, sent: now };
        for _ in 0..self.plan.pipeline {
            if let Some(follow_up) = session.follow_ups.pop_front() {
                session.follow(&self.plan, follow_up, times);
            } else if self.budget.allows(now) {
                let asked = session.ask(&mut self.writer, &self.plan, &mut self.traffic, times);
                self.budget.take(asked);
            }
        }
        self.send(index, now)
    }

    /// Sends what a session has written.
    fn send(&mut self, index: usize, now: u64) -> Result<(), Error> {
        for server in 0..self.plan.servers.len() {
            match self.sessions[index].links[server].send() {
                Ok(bytes) => self.sample.counters.sent_bytes += bytes as u64,
                Err(failure) => self.fail(index, server, failure, now)?,
            }
        }
        Ok(())
    }

    /// When the next request is due; `None` when there is no next.
    fn due_nanos(&self) -> Option<u64> {
        match self.plan.pace {
            Pace::Closed => Some(0),
            Pace::Open(..) => self.schedule.as_ref().map(Schedule::next_nanos),
            Pace::Recorded(speed) => {
                let nanos = self.traffic.recorded_nanos()? as f64 / speed;
                Some(crate::random::floor(nanos))
            }
        }
    }

    fn handle_events(&mut self) -> Result<(), Error> {
        let open = self.plan.pace != Pace::Closed;
        let mut now = self.elapsed_nanos();
        // What is handled changes the client, so the events are lent out meanwhile.
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let mut sockets = events.iter().filter(|event| event.token() != TIMER);
        let handled = sockets.try_for_each(|event| {
            let servers = self.plan.servers.len();
            let (index, server) = (event.token().0 / servers, event.token().0 % servers);
            self.handle(index, server, event.is_writable(), event.is_read_closed(), now)?;
            if open {
                // What has become due meanwhile does not wait for the other answers to be read.
                now = self.elapsed_nanos();
                self.dispatch(now)?;
            }
            Ok(())
        });
        self.events = events;
        handled
    }

    fn handle(
        &mut self,
        index: usize,
        server: usize,
        writable: bool,
        closing: bool,
        now: u64,
    ) -> Result<(), Error> {
        let session = &mut self.sessions[index];
        let link = &mut session.links[server];
        if !link.is_up() {
            if link.opened(now) {
                self.sample.counters.reconnects += 1;
                self.queue(index, now);
            }
            return Ok(());
        }
        if writable {
            match link.send() {
                Ok(bytes) => self.sample.counters.sent_bytes += bytes as u64,
                Err(failure) => return self.fail(index, server, failure, now),
            }
        }
        let mut exchange = Exchange {
            plan: &self.plan,
            sample: &mut self.sample,
            follow_ups: &mut session.follow_ups,
            now_nanos: self.start.elapsed_nanos(),
        };
        if let Err(failure) = link.receive(&mut self.scratch, closing, &mut exchange) {
            return self.fail(index, server, failure, now);
        }
        if self.plan.pace != Pace::Closed && !self.sessions[index].follow_ups.is_empty() {
            self.follow(index, now)?;
        }
        self.queue(index, now);
        Ok(())
    }

    /// Puts a session among those that have room, if it has.
    fn queue(&mut self, index: usize, now: u64) {
        let session = &mut self.sessions[index];
        let owed = session.owed();
        let room = match self.plan.pace {
            Pace::Closed => owed == 0,
            Pace::Open(..) | Pace::Recorded(_) => owed < self.plan.pipeline,
        };
        if room && !session.queued && session.is_up() {
            session.queued = true;
            if std::mem::take(&mut session.full) {
                session.free_nanos = now;
            }
            self.ready.push_back(index);
        }
    }

    /// Gives up a connection and what it owes.
    fn fail(
        &mut self,
        index: usize,
        server: usize,
        failure: Failure,
        now: u64,
    ) -> Result<(), Error> {
        match failure {
            Failure::Io(error) => self.last_failure = Some(error),
            Failure::Wrong(wrong) if self.plan.faults_are_fatal => return Err(Error::Wrong(wrong)),
            // Values that are wrong are counted where they are found.
            Failure::Wrong(wrong) if wrong.fault == Fault::Violation => {
                self.sample.counters.faults[wrong.fault as usize] += 1;
            }
            Failure::Wrong(_) => {}
        }
        let (session, sample) = (&mut self.sessions[index], &mut self.sample);
        let link = &mut session.links[server];
        let owed = link.owed.len() as u64;
        link.owed.abandon(|request| {
            let nanos = now.saturating_sub(request.due_nanos);
            sample.latencies.record(request.operation, nanos);
        });
        sample.counters.lost += owed;
        link.close(now);
        session.follow_ups.clear();
        // What waits for the connection does so through no fault of this program.
        session.full = true;
        if session.queued {
            session.queued = false;
            self.ready.retain(|&ready| ready != index);
        }
        Ok(())
    }

    /// Gives up connections whose answers are overdue, and opens closed ones again.
    fn keep_house(&mut self, now: u64) -> Result<(), Error> {
        let timeout_nanos = nanos(self.plan.timeout);
        for index in 0..self.sessions.len() {
            for server in 0..self.plan.servers.len() {
                let link = &mut self.sessions[index].links[server];
                let first = link.owed.first().map(|request| request.sent_nanos);
                if first.is_some_and(|sent| now.saturating_sub(sent) > timeout_nanos) {
                    let overdue = ErrorKind::TimedOut.into();
                    self.fail(index, server, Failure::Io(overdue), now)?;
                    // What is behind the first one in line is lost with it.
                    self.sample.counters.lost -= 1;
                    self.sample.counters.timeouts += 1;
                }
                let token = Token(index * self.plan.servers.len() + server);
                let endpoint = self.plan.servers[server].endpoint();
                let link = &mut self.sessions[index].links[server];
                link.reopen(endpoint, self.poll.registry(), token, now)?;
            }
        }
        if self.sessions.iter().any(Session::is_up) {
            self.up_nanos = now;
        } else if now - self.up_nanos > timeout_nanos {
            let why =
                self.last_failure.take().map_or_else(String::new, |error| format!("{error}; "));
            let message = format!("{why}every connection is closed and none can be opened again");
            return Err(io::Error::new(ErrorKind::NotConnected, message).into());
        }
        Ok(())
    }

    fn is_over(&self, now: u64) -> bool {
        let more = match self.plan.pace {
            Pace::Closed => self.budget.allows(now),
            Pace::Open(..) | Pace::Recorded(_) => {
                self.due_nanos().is_some_and(|due| self.budget.allows(due))
            }
        };
        let overtime = self.budget.overtime(now) > nanos(self.plan.timeout);
        let idle = || {
            self.sessions.iter().all(|session| session.owed() == 0 && session.follow_ups.is_empty())
        };
        overtime || !more && idle()
    }

    /// Counts what the schedule still held.
    fn end(&mut self) {
        let Some(schedule) = &mut self.schedule else { return };
        while self.budget.allows(schedule.next_nanos()) {
            self.budget.take(true);
            self.sample.counters.unsent += 1;
            schedule.advance();
        }
    }

    /// Waits for an answer, or until the next request is due.
    fn wait(&mut self) -> io::Result<()> {
        let now = self.elapsed_nanos();
        let due = match self.ready.is_empty() {
            true => None,
            false => self.due_nanos().filter(|&due| self.budget.allows(due)),
        };
        let wait_nanos = due.map_or(WAIT_NANOS_MAX, |due| due.saturating_sub(now));
        // What the system takes to wake a thread up is waited for awake.
        let timeout_nanos = match wait_nanos {
            ..=WAKE_NANOS => 0,
            WAIT_NANOS_MAX.. => WAIT_NANOS_MAX,
            _ => {
                self.timer.set(Duration::from_nanos(wait_nanos - WAKE_NANOS))?;
                WAIT_NANOS_MAX
            }
        };
        match self.poll.poll(&mut self.events, Some(Duration::from_nanos(timeout_nanos))) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        self.sample.counters.idle_nanos += self.elapsed_nanos().saturating_sub(now);
        Ok(())
    }

    fn elapsed_nanos(&self) -> u64 {
        self.start.elapsed_nanos()
    }
}

trait ElapsedNanos {
    fn elapsed_nanos(self) -> u64;
}

impl ElapsedNanos for Instant {
    fn elapsed_nanos(self) -> u64 {
        nanos(clock::now() - self)
    }
}

const TIMER: Token = Token(usize::MAX - 1);
const EVENTS_MAX: usize = 1024;
/// Read at once, beyond one value.
const READ_BYTES: usize = 64 * 1024;
const WAIT_NANOS_MAX: u64 = 20_000_000;
const WAKE_NANOS: u64 = 100_000;
const HOUSEKEEPING_NANOS: u64 = 10_000_000;
