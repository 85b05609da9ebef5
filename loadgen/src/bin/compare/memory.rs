//! How much of a full server's memory is what clients stored: keys and values over resident bytes.
//! Distinct items of one size are stored until well after the first had to go.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use loadgen::cost::stats;
use loadgen::engine::Plan;
use loadgen::engine::run;
use loadgen::process::allowed_cores;
use loadgen::workload::Workload;
use loadgen::workload::keys::Keys;
use loadgen::workload::operation::{Mix, Operation};
use loadgen::workload::size::Size;

use crate::cpu;
use crate::servers::{Contestant, Kind};
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
    fn share(&self, contestant: &Contestant, megabytes: u64, seed: u64) -> io::Result<f64> {
        let cores = allowed_cores()?;
        let server =
            contestant.start_with_memory(megabytes, WORKERS, &cores, cpu::CONNECTIONS_MAX)?;
        let payload_bytes = u64::from(self.key_bytes + self.value_bytes);
        let workload = Workload {
            mix: Mix::only(Operation::Set),
            key_count: (megabytes << 20) * FILLS / payload_bytes,
            keys: Keys::Made { bytes: Size::Fixed(self.key_bytes.into()) },
            value_bytes: Size::Fixed(self.value_bytes.into()),
            seed,
            ..Workload::default()
        };
        let plan = Plan {
            connections: WORKERS,
            threads: WORKERS,
            ..Plan::new(workload, vec![server.address.into()])
        };
        run::preload(&Arc::new(plan))?;
        let resident_bytes = server.resident_bytes()?;
        let told = stats::ask(&server.address.into(), "")?;
        let number = |name| told.get(name).and_then(|text: &String| text.parse::<u64>().ok());
        match (number("curr_items"), number("evictions")) {
            (Some(items), Some(1..)) => Ok((items * payload_bytes) as f64 / resident_bytes as f64),
            _ => {
                let message = format!("{}: nothing was evicted", contestant.title);
                Err(io::Error::new(ErrorKind::InvalidData, message))
            }
        }
    }
}

/// memcached's default.
const WORKERS: usize = 4;
/// What is stored is so many times the memory, headers not counted.
const FILLS: u64 = 2;

const SHAPES: [Shape; 4] = [
    Shape { key_bytes: 20, value_bytes: 30, goal: Goal::AtLeast(0.58) },
    Shape { key_bytes: 24, value_bytes: 100, goal: Goal::AtLeast(0.77) },
    Shape { key_bytes: 44, value_bytes: 270, goal: Goal::AtLeast(0.88) },
    Shape { key_bytes: 40, value_bytes: 1000, goal: Goal::AtLeast(0.93) },
];
