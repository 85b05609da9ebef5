//! Writes a workload down as a trace, for simulators and for other load generators.

use std::io::{self, Write};
use std::sync::Arc;

use crate::engine::schedule::{Arrivals, Rate, Schedule};
use crate::workload::Workload;
use crate::workload::keys::KEY_BYTES_MAX;
use crate::workload::traffic::{Part, Traffic};

/// Writes `requests` requests with the heading that [`crate::workload::trace`] reads, at this rate.
///
/// # Errors
///
/// Those of `output`.
pub fn synthesise(
    workload: &Arc<Workload>,
    requests: u64,
    rate: Rate,
    output: &mut impl Write,
) -> io::Result<()> {
    let mut traffic = Traffic::new(workload, Part::WHOLE);
    let mut schedule = Schedule::new(rate, Arrivals::Poisson, workload.seed, Part::WHOLE);
    let mut buffer = [0; KEY_BYTES_MAX];
    writeln!(output, "time,key,key_size,value_size,op,ttl")?;
    for _ in 0..requests {
        let Some(next) = traffic.request() else { break };
        let item = next.item.unwrap_or_else(|| traffic.item());
        let key = workload.keys.text(item.id, &mut buffer);
        let seconds = schedule.next_nanos() as f64 / 1e9;
        let (value_bytes, ttl) = (workload.value_bytes(item), workload.ttl_seconds(item));
        let (key_bytes, operation) = (key.len(), next.operation);
        let key = key.escape_ascii();
        writeln!(output, "{seconds:.6},{key},{key_bytes},{value_bytes},{operation},{ttl}")?;
        schedule.advance();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::trace::Trace;

    #[test]
    fn what_is_written_is_read_again() {
        let workload = Arc::new(Workload {
            mix: "get:3,set:1".parse().unwrap(),
            ttl: "60s".parse().unwrap(),
            zipf: 0.9,
            ..Workload::default()
        });
        let mut text = Vec::new();
        synthesise(&workload, 1000, Rate::steady(100.0), &mut text).unwrap();
        let trace = Trace::read(text.as_slice()).unwrap();
        let mut traffic = Traffic::new(&workload, Part::WHOLE);
        let mut buffer = [0; KEY_BYTES_MAX];
        assert_eq!(trace.records().len(), 1000);
        for record in trace.records() {
            let operation = traffic.request().unwrap().operation;
            let key = workload.keys.text(traffic.item().id, &mut buffer);
            assert_eq!((record.operation, trace.key(record.key.into())), (operation, key));
            assert_eq!((record.value_bytes, record.ttl_seconds), (100, 60));
        }
        let seconds = trace.records().last().unwrap().nanos as f64 / 1e9;
        assert!((8.0..12.0).contains(&seconds), "{seconds}");
    }
}
