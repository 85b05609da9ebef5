//! How long gets take while millions of items that ended in the same second are cleared away, and
//! how long that takes. The goal is that none of them waits long. What the same gets take right
//! before tells how much of it is the machine's: of each quarter of a second the longest is noted,
//! as many of them before as while, so that a pause of the machine's is in one of them and not in
//! all.
//!
//! One worker on one core serves the gets, the load is on another core: whichever of a server's
//! threads clears away does it on the core that the gets want.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use loadgen::engine::Plan;
use loadgen::engine::limit::Limit;
use loadgen::engine::run;
use loadgen::measure::Sample;
use loadgen::process::{Server, on_cores};
use loadgen::workload::Workload;
use loadgen::workload::keys::Keys;
use loadgen::workload::operation::{Mix, Operation};
use loadgen::workload::size::Size;
use loadgen::workload::ttl::Ttl;

use crate::cpu;
use crate::servers::{Contestant, Kind, stat};
use crate::summary::{Goal, Table, Takes};

pub(crate) fn measure(contestants: &[Contestant], items: u64, seed: u64) -> io::Result<Table> {
    let title = format!(
        "One worker, {PIPELINE} gets pipelined while {items} items of 20 + 30 bytes end at once"
    );
    let header = [
        "latency of gets, µs",
        "p99.9 before",
        "p99.9 while",
        "longest of 0.25 s before",
        "longest of 0.25 s while",
        "cleared after",
        "goal",
    ];
    let mut table = Table::new(title, header.map(str::to_owned).to_vec());
    for contestant in contestants.iter().filter(|contestant| contestant.kind != Kind::Null) {
        let figures = Figures::take(contestant, items, seed)?;
        let goal = match contestant.kind {
            Kind::Larder => GOAL_MICROS.verdict(figures.during.longest.greatest()),
            Kind::Memcached | Kind::Null => "-".to_owned(),
        };
        table.push(vec![
            contestant.title.clone(),
            format!("{:.0}", figures.before.p999),
            format!("{:.0}", figures.during.p999),
            format!("{:.0}", figures.before.longest),
            format!("{:.0}", figures.during.longest),
            figures.cleared(),
            goal,
        ]);
    }
    Ok(table)
}

/// What is measured of one server.
struct Figures {
    before: Latency,
    /// From when the items end until they are gone.
    during: Latency,
    seconds: f64,
    items_left: u64,
}

/// Of some takes, in microseconds.
struct Latency {
    p999: f64,
    /// Of each take.
    longest: Takes,
}

impl Latency {
    fn of(takes: &[Sample]) -> Self {
        let mut all = Sample::default();
        let mut longest = Takes::default();
        for take in takes {
            all.add(take);
            longest.push(take.latencies.all().max() as f64 / 1e3);
        }
        Self { p999: all.latencies.all().value_at_quantile(0.999) as f64 / 1e3, longest }
    }
}

impl Figures {
    fn take(contestant: &Contestant, items: u64, seed: u64) -> io::Result<Self> {
        let (server_core, client_core) = cpu::two_cores()?;
        let megabytes = MEGABYTES_MIN + items * ITEM_BYTES_MAX / (1 << 20);
        let server =
            contestant.start_with_memory(megabytes, 1, &[server_core], cpu::CONNECTIONS_MAX)?;
        let workload = Workload { key_count: KEYS, seed, ..Workload::default() };
        let gets = Arc::new(plan(&server, workload));
        on_cores(&[client_core], || {
            let rate = run::preload(&gets)?.requests_per_second();
            let loading = Duration::from_secs_f64(LOADING_TIMES * items as f64 / rate);
            let end = stat(&server, "time")? + LOADING_SECONDS_MIN + loading.as_secs();
            run::preload(&Arc::new(plan(&server, ending(items, end, seed))))?;
            if stat(&server, "time")? + 2 > end {
                return Err(io::Error::new(
                    ErrorKind::TimedOut,
                    "the items ended while they were stored",
                ));
            }
            Self::ask(&server, &gets, end)
        })?
    }

    fn ask(server: &Server, gets: &Arc<Plan>, end: u64) -> io::Result<Self> {
        let take = || run::run(gets, 0, Limit::Time(TAKE), Duration::MAX, &mut |_, _| {});
        let (mut before, mut during) = (Vec::new(), Vec::new());
        let mut now = stat(server, "time")?;
        while now < end {
            let report = take()?;
            now = stat(server, "time")?;
            // The last one may have seen the end already.
            if now < end { &mut before } else { &mut during }.push(report.total);
        }
        let (mut seconds, mut items_left) = (0.0, u64::MAX);
        while items_left > gets.workload.key_count && seconds < PATIENCE_SECONDS {
            let report = take()?;
            seconds += report.elapsed.as_secs_f64();
            during.push(report.total);
            items_left = stat(server, "curr_items")?;
        }
        let compared = before.len().saturating_sub(during.len());
        Ok(Self {
            before: Latency::of(&before[compared..]),
            during: Latency::of(&during),
            seconds,
            items_left,
        })
    }

    fn cleared(&self) -> String {
        match self.items_left {
            0..=KEYS => format!("{:.1} s", self.seconds),
            left => format!("{left} left after {:.0} s", self.seconds),
        }
    }
}

fn plan(server: &Server, workload: Workload) -> Plan {
    Plan { pipeline: PIPELINE, ..Plan::new(workload, vec![server.address.into()]) }
}

/// Keys of another length than those that are asked for.
fn ending(items: u64, end: u64, seed: u64) -> Workload {
    Workload {
        mix: Mix::only(Operation::Set),
        key_count: items,
        keys: Keys::Made { bytes: Size::Fixed(20.0) },
        value_bytes: Size::Fixed(30.0),
        ttl: Ttl::until(u32::try_from(end).expect("a date")),
        seed,
        ..Workload::default()
    }
}

const PIPELINE: usize = 16;

/// What is asked for, and never ends.
const KEYS: u64 = 100_000;

const MEGABYTES_MIN: u64 = 128;
/// With all that a server keeps of an item.
const ITEM_BYTES_MAX: u64 = 160;

/// So much longer may it take to store the items than what it took to store the keys leads to
/// expect.
const LOADING_TIMES: f64 = 1.5;
const LOADING_SECONDS_MIN: u64 = 5;

/// One run of gets, after which the server is asked how far it is.
const TAKE: Duration = Duration::from_millis(250);

const PATIENCE_SECONDS: f64 = 60.0;

/// Of the longest wait of all.
const GOAL_MICROS: Goal = Goal::AtMost(2000.0);
