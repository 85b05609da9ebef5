//! A run as JSON: one object, its names in words and units last.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::load::Outcome;
use crate::measure::report::QUANTILES;
use crate::truth::Fault;
use crate::workload::operation::Operation;
use hdrhistogram::Histogram;

/// All that is known of a run.
#[must_use]
pub fn outcome(outcome: &Outcome) -> Value {
    let report = &outcome.report;
    let counters = &report.total.counters;
    let operations: serde_json::Map<_, _> = Operation::ALL
        .into_iter()
        .filter_map(|operation| {
            let latencies = report.total.latencies.of(operation)?;
            Some((operation.name().to_owned(), latency(latencies)))
        })
        .collect();
    let faults: serde_json::Map<_, _> = Fault::ALL
        .into_iter()
        .map(|fault| (fault.name().to_owned(), counters.faults[fault as usize].into()))
        .collect();
    json!({
        "loop": if outcome.open { "open" } else { "closed" },
        "elapsed_seconds": report.elapsed.as_secs_f64(),
        "requests": counters.requests(),
        "requests_per_second": report.requests_per_second(),
        "hits": counters.hits,
        "misses": counters.misses,
        "hit_ratio": counters.hit_ratio(),
        "refused": counters.refused,
        "errors": counters.errors,
        "first_error": report.total.first_error,
        "timeouts": counters.timeouts,
        "lost": counters.lost,
        "unsent": counters.unsent,
        "reconnects": counters.reconnects,
        "wrong": faults,
        "values_of_other_runs": counters.other_runs,
        "sent_bytes": counters.sent_bytes,
        "received_bytes": counters.received_bytes,
        "latency": latency(&report.total.latencies.all()),
        "latency_by_operation": operations,
        "sent_late": latency(&report.total.lateness),
        "server": outcome.cost,
        "server_stats_growth": outcome.stats.iter().copied().collect::<BTreeMap<_, _>>(),
        "noise": outcome.noise,
        "warnings": outcome.warnings,
        "interval_seconds": report.interval.as_secs_f64(),
        "intervals": report.intervals.iter().map(|interval| json!({
            "index": interval.index,
            "requests": interval.counters.requests(),
            "hits": interval.counters.hits,
            "misses": interval.counters.misses,
            "failures": interval.counters.failures(),
            "p50_us": micros(interval.latency_nanos[0]),
            "p99_us": micros(interval.latency_nanos[2]),
            "max_us": micros(interval.latency_nanos[QUANTILES.len() - 1]),
        })).collect::<Vec<_>>(),
    })
}

fn latency(nanos: &Histogram<u64>) -> Value {
    let at = |quantile| micros(nanos.value_at_quantile(quantile));
    json!({
        "count": nanos.len(),
        "mean_us": nanos.mean() / 1e3,
        "p50_us": at(0.5),
        "p90_us": at(0.9),
        "p99_us": at(0.99),
        "p99_9_us": at(0.999),
        "p99_99_us": at(0.9999),
        "max_us": at(1.0),
    })
}

fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1e3
}
