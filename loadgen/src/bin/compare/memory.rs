//! How much of a full server's memory is what clients stored: keys and values over resident bytes.
//! Distinct items of one size are stored until well after the first had to go. (memcached refuses a
//! few on the way; they count as not stored.)

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use loadgen::engine::Plan;
use loadgen::engine::client::Client;
use loadgen::engine::error::Error;
use loadgen::engine::limit::Limit;
use loadgen::process::{Server, allowed_cores};
use loadgen::workload::Workload;
use loadgen::workload::keys::Keys;
use loadgen::workload::operation::{Mix, Operation};
use loadgen::workload::size::Size;
use loadgen::workload::traffic::{Part, Traffic};

use crate::cpu;
use crate::servers::{Contestant, Kind, stat};
use crate::summary::{Goal, Table};

/// Items of one size, in bytes, and larder's goal.
struct Shape {
    key_bytes: u32,
    value_bytes: u32,
    goal: Goal,
}

pub(crate) fn measure(contestants: &[Contestant], megabytes: u64, seed: u64) -> io::Result<Table> {
    let contestants: Vec<_> =
        contestants.iter().filter(|contestant| contestant.kind != Kind::Null).collect();
    let mut header = vec!["keys and values over resident bytes".to_owned()];
    header.extend(contestants.iter().map(|contestant| contestant.title.clone()));
    header.push("goal".to_owned());
    let mut table = Table::new(format!("Full, {megabytes} MiB, {WORKERS} workers"), header);
    for shape in &SHAPES {
        let mut row = vec![format!("key {}, value {}", shape.key_bytes, shape.value_bytes)];
        let mut verdict = "-".to_owned();
        for contestant in &contestants {
            let share = shape.share(contestant, megabytes, seed)?;
            row.push(format!("{share:.3}"));
            if contestant.kind == Kind::Larder {
                verdict = shape.goal.verdict(share);
            }
        }
        row.push(verdict);
        table.push(row);
    }
    Ok(table)
}

impl Shape {
    /// A fourth more than the memory, headers not counted.
    fn workload(&self, megabytes: u64, seed: u64) -> Workload {
        Workload {
            mix: Mix::only(Operation::Set),
            key_count: (megabytes << 20) * 5 / 4 / self.payload_bytes(),
            keys: Keys::Made { bytes: Size::Fixed(self.key_bytes.into()) },
            value_bytes: Size::Fixed(self.value_bytes.into()),
            seed,
            ..Workload::default()
        }
    }

    fn payload_bytes(&self) -> u64 {
        u64::from(self.key_bytes + self.value_bytes)
    }

    fn share(&self, contestant: &Contestant, megabytes: u64, seed: u64) -> io::Result<f64> {
        let cores = allowed_cores()?;
        let server =
            contestant.start_with_memory(megabytes, WORKERS, &cores, cpu::CONNECTIONS_MAX)?;
        fill(self.workload(megabytes, seed), &server)?;
        let resident_bytes = server.resident_bytes()?;
        if stat(&server, "evictions")? == 0 {
            let message = format!("{}: nothing was evicted", contestant.title);
            return Err(io::Error::new(ErrorKind::InvalidData, message));
        }
        let payload_bytes = stat(&server, "curr_items")? * self.payload_bytes();
        Ok(payload_bytes as f64 / resident_bytes as f64)
    }
}

/// Stores every key once, over a connection to each worker.
fn fill(workload: Workload, server: &Server) -> Result<(), Error> {
    let plan = Plan {
        connections: WORKERS,
        threads: WORKERS,
        pipeline: PIPELINE,
        ..Plan::new(workload, vec![server.address.into()])
    };
    let plan = Arc::new(plan);
    let store = &|index| -> Result<(), Error> {
        let part = Part { index, count: WORKERS };
        let traffic = Traffic::sequential(&plan.workload, part);
        let mut client = Client::connect(&plan, part, traffic)?;
        client.run(Limit::Traffic, Duration::MAX, &mut |_, _| {}).map(drop)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..WORKERS).map(|index| scope.spawn(move || store(index))).collect();
        let mut ended = threads.into_iter().map(std::thread::ScopedJoinHandle::join);
        ended.try_for_each(|ended| ended.expect("a client thread does not panic"))
    })
}

/// memcached's default.
const WORKERS: usize = 4;
const PIPELINE: usize = 16;

const SHAPES: [Shape; 4] = [
    Shape { key_bytes: 20, value_bytes: 30, goal: Goal::AtLeast(0.58) },
    Shape { key_bytes: 24, value_bytes: 100, goal: Goal::AtLeast(0.77) },
    Shape { key_bytes: 44, value_bytes: 270, goal: Goal::AtLeast(0.88) },
    Shape { key_bytes: 40, value_bytes: 1000, goal: Goal::AtLeast(0.93) },
];
