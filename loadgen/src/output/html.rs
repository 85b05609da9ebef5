//! A page about a run that needs nothing but itself: no script, no font, no picture from elsewhere.
//! The curves are SVG that scales with the screen; colours follow the reader's preference for light
//! or dark.

mod chart;
pub mod comparison;

use std::fmt::Write as _;

use chart::{Axis, Chart, Series};
use hdrhistogram::Histogram;
use hdrhistogram::iterators::IterationValue;

use crate::clock;
use crate::load::Outcome;
use crate::truth::Fault;
use crate::workload::operation::Operation;

/// The page; `title` and `command` say what was run.
#[must_use]
pub fn page(outcome: &Outcome, title: &str, command: &str) -> String {
    let mut body = String::new();
    tiles(outcome, &mut body);
    for warning in &outcome.warnings {
        let _ = writeln!(body, "<p class=warning>{}</p>", escape(warning));
    }
    body.push_str("<div class=charts>");
    charts(outcome).iter().for_each(|chart| body.push_str(&chart.svg()));
    body.push_str("</div>\n");
    table(outcome, &mut body);
    document(title, command, &body)
}

/// What every page has around its `body`.
fn document(title: &str, command: &str, body: &str) -> String {
    PAGE.replace("{title}", &escape(title))
        .replace("{command}", &escape(command))
        .replace("{machine}", &escape(&crate::cost::machine::describe()))
        .replace("{date}", &clock::today())
        .replace("{style}", STYLE)
        .replace("{body}", body)
}

/// The figures that come first.
fn tiles(outcome: &Outcome, body: &mut String) {
    let (report, counters) = (&outcome.report, &outcome.report.total.counters);
    let latencies = report.total.latencies.all();
    let at = |quantile| micros(latencies.value_at_quantile(quantile));
    let mut tiles = vec![
        ("requests a second", count(report.requests_per_second())),
        ("latency p50", at(0.5)),
        ("latency p99", at(0.99)),
        ("latency p99.9", at(0.999)),
    ];
    if counters.hits + counters.misses > 0 {
        tiles.push(("keys found", format!("{:.2} %", counters.hit_ratio() * 100.0)));
    }
    tiles.push(("failures", count(counters.failures() as f64)));
    tiles.push(("wrong answers", count(counters.wrong() as f64)));
    if let Some(cost) = &outcome.cost {
        let micros = cost.cpu_micros / counters.requests().max(1) as f64;
        tiles.push(("server CPU a request", format!("{micros:.2} µs")));
        let mebibytes = cost.resident_bytes as f64 / 1_048_576.0;
        tiles.push(("server memory", format!("{mebibytes:.1} MiB")));
    }
    body.push_str("<div class=tiles>");
    for (name, figure) in tiles {
        let _ = write!(body, "<div><b>{figure}</b><span>{name}</span></div>");
    }
    body.push_str("</div>\n");
}

fn charts(outcome: &Outcome) -> Vec<Chart> {
    let report = &outcome.report;
    let seconds = report.interval.as_secs_f64();
    // The last interval is shorter than the others.
    let intervals = report.intervals.split_last().map_or(&[][..], |(_, whole)| whole);
    if intervals.len() < 2 {
        // One point is no curve.
        return vec![by_percentile(outcome)];
    }
    let over_time = |name: &str, figure: &dyn Fn(usize) -> f64| Series {
        name: name.to_owned(),
        points: intervals
            .iter()
            .enumerate()
            .map(|(position, interval)| (interval.index as f64 * seconds, figure(position)))
            .collect(),
    };
    let time = || Axis { label: "seconds", logarithmic: false };
    let requests = |position: usize| intervals[position].counters.requests() as f64 / seconds;
    let throughput = Chart {
        title: "Requests a second",
        x: time(),
        y: Axis { label: "", logarithmic: false },
        series: vec![over_time("requests/s", &requests)],
    };
    let quantile =
        |index: usize| move |position: usize| intervals[position].latency_nanos[index] as f64 / 1e3;
    let latency = Chart {
        title: "Latency over time, µs",
        x: time(),
        y: Axis { label: "", logarithmic: true },
        series: vec![
            over_time("p50", &quantile(0)),
            over_time("p99", &quantile(2)),
            over_time("max", &quantile(4)),
        ],
    };
    let mut charts = vec![throughput, by_percentile(outcome), latency];
    if intervals.iter().any(|interval| interval.counters.misses > 0) {
        let ratio = |position: usize| intervals[position].counters.hit_ratio() * 100.0;
        charts.push(Chart {
            title: "Keys found, %",
            x: time(),
            y: Axis { label: "", logarithmic: false },
            series: vec![over_time("keys found", &ratio)],
        });
    }
    let memory = outcome.cost.as_ref().map(|cost| &cost.resident_bytes_by_interval);
    if let Some(memory) = memory.filter(|memory| memory.len() >= intervals.len()) {
        let mebibytes = |position: usize| memory[position] as f64 / 1_048_576.0;
        charts.push(Chart {
            title: "Server memory, MiB",
            x: time(),
            y: Axis { label: "", logarithmic: false },
            series: vec![over_time("resident", &mebibytes)],
        });
    }
    charts
}

/// The distance to 100 % on a logarithmic scale, so that each nine has the same width.
fn by_percentile(outcome: &Outcome) -> Chart {
    let total = &outcome.report.total;
    let series = |name: &str, nanos: &Histogram<u64>| Series {
        name: name.to_owned(),
        points: percentiles(nanos),
    };
    let operations = Operation::ALL.into_iter().filter_map(|operation| {
        let nanos = total.latencies.of(operation).filter(|nanos| !nanos.is_empty())?;
        Some(series(operation.name(), nanos))
    });
    Chart {
        title: "Latency by percentile, µs",
        x: Axis { label: "percentile", logarithmic: true },
        y: Axis { label: "", logarithmic: true },
        series: operations.take(SERIES_MAX).collect(),
    }
}

/// Latencies in microseconds, over by what the distance to 100 % is divided.
fn percentiles(nanos: &Histogram<u64>) -> Vec<(f64, f64)> {
    let steps = nanos.iter_quantiles(STEPS_PER_HALVING);
    let steps = steps.filter(|step| step.quantile_iterated_to() < 1.0);
    let point = |step: IterationValue<u64>| {
        (1.0 / (1.0 - step.quantile_iterated_to()), step.value_iterated_to() as f64 / 1e3)
    };
    steps.map(point).collect()
}

fn table(outcome: &Outcome, body: &mut String) {
    let total = &outcome.report.total;
    body.push_str("<div class=scroll><table><tr><th>latency, µs<th>count");
    QUANTILES.iter().for_each(|(name, _)| {
        let _ = write!(body, "<th>{name}");
    });
    let mut row = |name: &str, nanos: &Histogram<u64>| {
        let _ = write!(body, "<tr><td>{name}<td>{}", nanos.len());
        QUANTILES.iter().for_each(|(_, quantile)| {
            let _ = write!(body, "<td>{:.1}", nanos.value_at_quantile(*quantile) as f64 / 1e3);
        });
    };
    for operation in Operation::ALL {
        if let Some(nanos) = total.latencies.of(operation).filter(|nanos| !nanos.is_empty()) {
            row(operation.name(), nanos);
        }
    }
    if outcome.open {
        row("sent late by loadgen", &total.lateness);
    }
    body.push_str("</table></div>\n<p>");
    let counters = &total.counters;
    let _ = write!(
        body,
        "{} errors, {} timeouts, {} lost, {} never sent",
        counters.errors, counters.timeouts, counters.lost, counters.unsent
    );
    if let Some(error) = &total.first_error {
        let _ = write!(body, " (the first error: {})", escape(error));
    }
    for fault in Fault::ALL {
        let _ = write!(body, ", {} {}", counters.faults[fault as usize], fault.name());
    }
    body.push_str(if outcome.open { OPEN_NOTE } else { CLOSED_NOTE });
    body.push_str("</p>\n");
}

fn micros(nanos: u64) -> String {
    match nanos as f64 / 1e3 {
        micros if micros >= 10_000.0 => format!("{:.1} ms", micros / 1e3),
        micros => format!("{micros:.0} µs"),
    }
}

/// A number with its thousands apart.
pub(crate) fn count(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const STEPS_PER_HALVING: u32 = 5;
const SERIES_MAX: usize = 5;
const QUANTILES: [(&str, f64); 6] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999), ("max", 1.0)];
const OPEN_NOTE: &str = ".<br>Open loop: requests came by a schedule, and the latency of each counts \
                         from when it was due to its last byte.";
const CLOSED_NOTE: &str = ".<br>Closed loop: a slow server is asked less often, so these are not \
                           the latencies of requests that come at a fixed rate.";
const PAGE: &str = "<!doctype html>
<html lang=en><head><meta charset=utf-8>
<meta name=viewport content=\"width=device-width, initial-scale=1\">
<title>{title}</title><style>{style}</style></head><body>
<h1>{title}</h1><p class=command><code>{command}</code></p><p class=machine>{machine}; {date}</p>
{body}</body></html>
";
const STYLE: &str = include_str!("html/style.css");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Sample;
    use std::time::Duration;

    fn outcome() -> Outcome {
        let mut outcome = Outcome { open: true, ..Outcome::default() };
        outcome.report.interval = Duration::from_secs(1);
        outcome.report.elapsed = Duration::from_secs(5);
        for index in 0..5 {
            let mut sample = Sample::default();
            for micros in 1..=1000 {
                sample.latencies.record(Operation::Get, micros * 1000 * (index + 1));
                sample.counters.answered[Operation::Get as usize] += 1;
            }
            (sample.counters.hits, sample.counters.misses) = (900, 100);
            sample.first_error = Some("ERROR <1>".to_owned());
            outcome.report.push(index, &sample);
        }
        outcome.warnings.push("a & b".to_owned());
        outcome
    }

    #[test]
    fn a_page_stands_alone_and_is_escaped() {
        let page = page(&outcome(), "<loadgen>", "loadgen --assert 'p99<2ms'");
        assert!(page.contains("<h1>&lt;loadgen&gt;</h1>") && page.contains("p99&lt;2ms"));
        assert!(page.contains("a &amp; b") && page.contains("1,000"));
        assert!(page.contains("never sent (the first error: ERROR &lt;1&gt;), 0 torn"));
        for outside in ["http:", "https:", "<script", "url(", "@import", "NaN", "inf"] {
            assert!(!page.contains(outside), "{outside}");
        }
        for title in ["Requests a second", "Latency by percentile", "Keys found", "Open loop"] {
            assert!(page.contains(title), "{title}");
        }
    }

    #[test]
    fn a_run_of_less_than_two_intervals_has_no_curves_over_time() {
        let mut outcome = outcome();
        for (intervals, curves) in [(3, true), (2, false), (1, false)] {
            outcome.report.intervals.truncate(intervals);
            let page = page(&outcome, "t", "c");
            assert_eq!(page.contains("Requests a second"), curves);
            assert!(page.contains("Latency by percentile"));
        }
    }

    #[test]
    fn a_page_of_nothing_is_a_page() {
        assert!(page(&Outcome::default(), "t", "c").contains("</html>"));
    }

    #[test]
    fn thousands_stand_apart() {
        assert_eq!(
            [0.0, 999.0, 1000.0, 1_234_567.0].map(count),
            ["0", "999", "1,000", "1,234,567"]
        );
    }
}
