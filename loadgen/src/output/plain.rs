//! A summary that fits a terminal.

use std::fmt;

use crate::load::Outcome;
use crate::truth::Fault;
use crate::workload::operation::Operation;
use hdrhistogram::Histogram;

/// An outcome's summary.
#[derive(Clone, Copy, Debug)]
pub struct Plain<'a>(pub &'a Outcome);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (report, counters) = (&self.0.report, &self.0.report.total.counters);
        let (requests, rate) = (counters.requests(), report.requests_per_second());
        let seconds = report.elapsed.as_secs_f64();
        line(formatter, "requests", format_args!("{requests} in {seconds:.2} s, {rate:.0}/s"))?;
        let (hits, asked) = (counters.hits, counters.hits + counters.misses);
        let percent = counters.hit_ratio() * 100.0;
        line(formatter, "keys found", format_args!("{hits} of {asked} ({percent:.2} %)"))?;
        line(formatter, "keys missed", format_args!("{}", counters.misses))?;
        if counters.refused > 0 {
            let refused = counters.refused;
            line(formatter, "refused", format_args!("{refused} adds, cas and the like"))?;
        }
        let [sent, received] =
            [counters.sent_bytes, counters.received_bytes].map(|bytes| bytes as f64 / 1e6);
        line(formatter, "traffic", format_args!("{sent:.1} MB sent, {received:.1} MB received"))?;
        self.latencies(formatter)?;
        self.failures(formatter)?;
        self.cost(formatter)
    }
}

impl Plain<'_> {
    fn latencies(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let latencies = &self.0.report.total.latencies;
        let heading = format!("{:<14} {:>9}", "latency, µs", "count");
        write!(formatter, "{heading}")?;
        COLUMNS.iter().try_for_each(|(name, _)| write!(formatter, " {name:>8}"))?;
        writeln!(formatter)?;
        let mut kinds = 0;
        for operation in Operation::ALL {
            if let Some(histogram) = latencies.of(operation).filter(|one| !one.is_empty()) {
                kinds += 1;
                row(formatter, operation.name(), histogram)?;
            }
        }
        if kinds > 1 {
            row(formatter, "all", &latencies.all())?;
        }
        match self.0.open {
            false => {
                let note = "closed loop: a slow server is asked less often, so this is not the";
                line(formatter, "", format_args!("{note}"))?;
                line(formatter, "", format_args!("latency of requests that come at a fixed rate"))
            }
            true => {
                row(formatter, "sent late", &self.0.report.total.lateness)?;
                let note = "open loop: from when a request was due to its last byte";
                line(formatter, "", format_args!("{note}"))
            }
        }
    }

    fn failures(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counters = &self.0.report.total.counters;
        let (errors, timeouts, lost) = (counters.errors, counters.timeouts, counters.lost);
        let (unsent, reconnects) = (counters.unsent, counters.reconnects);
        line(
            formatter,
            "failures",
            format_args!("{errors} errors, {timeouts} timeouts, {lost} lost, {unsent} never sent"),
        )?;
        if let Some(error) = &self.0.report.total.first_error {
            line(formatter, "first error", format_args!("{error}"))?;
        }
        if reconnects > 0 {
            line(formatter, "reconnects", format_args!("{reconnects}"))?;
        }
        let counted =
            Fault::ALL.map(|fault| format!("{} {}", counters.faults[fault as usize], fault.name()));
        line(formatter, "wrong answers", format_args!("{}", counted.join(", ")))?;
        if counters.other_runs > 0 {
            let other_runs = counters.other_runs;
            line(formatter, "", format_args!("{other_runs} values that another run had stored"))?;
        }
        Ok(())
    }
}

impl Plain<'_> {
    fn cost(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(cost) = &self.0.cost {
            let requests = self.0.report.total.counters.requests().max(1) as f64;
            let micros = cost.cpu_micros / requests;
            let switches = cost.switches as f64 / requests;
            let resident = cost.resident_bytes as f64 / 1_048_576.0;
            let text = format_args!("{micros:.3} µs CPU, {switches:.3} context switches a request");
            line(formatter, "server", text)?;
            match (cost.items, cost.items_per_mebibyte()) {
                (Some(items), Some(density)) => {
                    let text = format_args!("{resident:.1} MiB, {items} items, {density:.0} a MiB");
                    line(formatter, "", text)?;
                }
                _ => line(formatter, "", format_args!("{resident:.1} MiB"))?,
            }
        }
        let grown = self.0.stats.iter().filter(|(_, growth)| *growth != 0);
        let told: Vec<_> = grown.map(|(name, growth)| format!("{name} {growth:+}")).collect();
        told.chunks(4).enumerate().try_for_each(|(index, told)| {
            let name = if index == 0 { "its stats" } else { "" };
            line(formatter, name, format_args!("{}", told.join(", ")))
        })
    }
}

fn row(formatter: &mut fmt::Formatter<'_>, name: &str, histogram: &Histogram<u64>) -> fmt::Result {
    write!(formatter, "{name:<14} {:>9}", histogram.len())?;
    for (_, quantile) in COLUMNS {
        let micros = histogram.value_at_quantile(quantile) as f64 / 1e3;
        write!(formatter, " {micros:>8.1}")?;
    }
    writeln!(formatter)
}

fn line(formatter: &mut fmt::Formatter<'_>, name: &str, text: fmt::Arguments<'_>) -> fmt::Result {
    writeln!(formatter, "{name:<14} {text}")
}

const COLUMNS: [(&str, f64); 6] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999), ("max", 1.0)];
