//! Findings that can be added to those of other machines, nothing lost: a log of HdrHistogram's own
//! format, which its tools read too, one line for each operation. What is no latency stands in a
//! comment, as JSON.

use std::io::{self, ErrorKind, Write};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{
    IntervalLogIterator, IntervalLogWriterBuilder, LogEntry, Tag,
};
use hdrhistogram::serialization::{Deserializer, V2DeflateSerializer};

use crate::measure::report::{Interval, Report};
use crate::measure::{Counters, histogram};
use crate::workload::operation::Operation;

/// What is no latency.
#[derive(serde::Serialize, serde::Deserialize)]
struct Rest {
    open: bool,
    elapsed_nanos: u64,
    interval_nanos: u64,
    counters: Counters,
    first_error: Option<String>,
    intervals: Vec<Interval>,
}

/// Writes the findings of a run; `open` tells the kind of its loop.
///
/// # Errors
///
/// Those of `output`.
pub fn write(open: bool, report: &Report, output: &mut impl Write) -> io::Result<()> {
    let rest = Rest {
        open,
        elapsed_nanos: crate::clock::nanos(report.elapsed),
        interval_nanos: crate::clock::nanos(report.interval),
        counters: report.total.counters.clone(),
        first_error: report.total.first_error.clone(),
        intervals: report.intervals.clone(),
    };
    let mut serializer = V2DeflateSerializer::new();
    let mut writer = IntervalLogWriterBuilder::new()
        .add_comment("[Histogram log format version 1.3]")
        .add_comment(&format!("{REST}{}", serde_json::to_string(&rest)?))
        .begin_log_with(output, &mut serializer)?;
    let mut line = |name: &'static str, histogram: &Histogram<u64>| {
        let tag = Tag::new(name);
        let written = writer.write_histogram(histogram, Duration::ZERO, report.elapsed, tag);
        written.map_err(|error| io::Error::other(format!("{error:?}")))
    };
    for operation in Operation::ALL {
        if let Some(histogram) = report.total.latencies.of(operation) {
            line(operation.name(), histogram)?;
        }
    }
    line(SENT_LATE, &report.total.lateness)
}

/// Reads findings that [`write`] wrote, and whether their loop was open.
///
/// # Errors
///
/// `InvalidData` where they are not that.
pub fn read(log: &[u8]) -> io::Result<(bool, Report)> {
    let invalid = |what: &str| io::Error::new(ErrorKind::InvalidData, what.to_owned());
    let rest = log
        .split(|&byte| byte == b'\n')
        .find_map(|line| line.strip_prefix(b"#")?.strip_prefix(REST.as_bytes()));
    let rest = rest.ok_or_else(|| invalid("not a log of loadgen"))?;
    let rest: Rest = serde_json::from_slice(rest)?;
    let mut report = Report {
        elapsed: Duration::from_nanos(rest.elapsed_nanos),
        interval: Duration::from_nanos(rest.interval_nanos),
        intervals: rest.intervals,
        ..Report::default()
    };
    report.total.counters = rest.counters;
    report.total.first_error = rest.first_error;
    for entry in IntervalLogIterator::new(log) {
        let LogEntry::Interval(line) = entry.map_err(|_| invalid("a line that is no histogram"))?
        else {
            continue;
        };
        let found = decode(line.encoded_histogram()).ok_or_else(|| invalid("no histogram"))?;
        match line.tag().map(|tag| tag.as_str()) {
            Some(SENT_LATE) => report.total.lateness = found,
            Some(name) => {
                let operation = name.parse().map_err(|error: String| invalid(&error))?;
                report.total.latencies.add_to(operation, &found);
            }
            None => return Err(invalid("a histogram of nothing named")),
        }
    }
    Ok((rest.open, report))
}

/// With the bounds that all histograms here have: those that were written end where their values
/// do.
fn decode(text: &str) -> Option<Histogram<u64>> {
    let bytes = STANDARD.decode(text).ok()?;
    let read: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice()).ok()?;
    let mut bounded = histogram();
    bounded.add(read).ok()?;
    Some(bounded)
}

const REST: &str = "[loadgen] ";
const SENT_LATE: &str = "sent-late";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Sample;
    use crate::random::Random;

    fn report(seed: u64) -> Report {
        let mut random = Random::new(seed, 0);
        let mut sample = Sample::default();
        for _ in 0..1000 {
            let operation = Operation::ALL[usize::try_from(random.below(3)).unwrap()];
            sample.latencies.record(operation, random.below(1 << 34));
            sample.lateness.record(random.below(1000) + 1).unwrap();
            sample.counters.answered[operation as usize] += 1;
        }
        sample.counters.hits = random.below(1000);
        sample.first_error = Some("SERVER_ERROR busy".to_owned());
        let (interval, elapsed) = (Duration::from_secs(1), Duration::from_nanos(1_234_567_891));
        let mut report = Report { interval, elapsed, ..Report::default() };
        report.push(0, &sample);
        report
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut log = Vec::new();
        write(true, &report(1), &mut log).unwrap();
        let (open, read) = read(&log).unwrap();
        assert!(open);
        assert_eq!(read.total, report(1).total);
        assert_eq!((read.elapsed, read.interval), (report(1).elapsed, report(1).interval));
        assert_eq!(read.intervals[0].latency_nanos, report(1).intervals[0].latency_nanos);
    }

    #[test]
    fn runs_add_up() {
        let mut sum = report(1);
        sum.merge(&report(2));
        assert_eq!(sum.total.counters.requests(), 2000);
        assert_eq!(sum.total.latencies.all().len(), 2000);
        let hits = report(1).total.counters.hits + report(2).total.counters.hits;
        assert_eq!((sum.intervals.len(), sum.intervals[0].counters.hits), (1, hits));
    }

    #[test]
    fn what_is_no_log_is_refused() {
        for bad in [&b""[..], b"#[loadgen] {}\n", b"0.1,1.0,2.0,xyz\n"] {
            assert!(read(bad).is_err());
        }
    }
}
