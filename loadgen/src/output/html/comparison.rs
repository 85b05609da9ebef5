//! A page about two servers under the same load: every figure with its ratio, and their curves in
//! the same charts.

use std::fmt::Write as _;

use super::chart::{Axis, Chart, Series};
use super::{document, escape, percentiles};
use crate::compare::{Comparison, FIGURES, Side, readable};
use crate::measure::histogram;

/// The page; `title` and `command` say what was run.
#[must_use]
pub fn page(comparison: &Comparison, title: &str, command: &str) -> String {
    let mut body = String::new();
    let names = names(&comparison.sides);
    for (name, side) in names.iter().zip(&comparison.sides) {
        let (name, command) = (escape(name), escape(&side.command));
        let _ = writeln!(body, "<p class=command><b>{name}</b> <code>{command}</code></p>");
    }
    for warning in comparison.warnings() {
        let _ = writeln!(body, "<p class=warning>{}</p>", escape(&warning));
    }
    table(comparison, &names, &mut body);
    body.push_str("<div class=charts>");
    charts(comparison, &names).iter().for_each(|chart| body.push_str(&chart.svg()));
    body.push_str("</div>\n");
    document(title, command, &body)
}

/// What the servers are called: their programs, where these differ.
fn names(sides: &[Side; 2]) -> [String; 2] {
    let program = |side: &Side| {
        let program = side.command.split_whitespace().next().unwrap_or_default();
        program.rsplit('/').next().unwrap_or_default().to_owned()
    };
    let [a, b] = sides.each_ref().map(program);
    if a == b { [format!("{a} (A)"), format!("{b} (B)")] } else { [a, b] }
}

fn table(comparison: &Comparison, names: &[String; 2], body: &mut String) {
    let [a, b] = names.each_ref().map(|name| escape(name));
    let rounds = comparison.sides[0].rounds.len();
    let _ = write!(
        body,
        "<div class=scroll><table><tr><th>median of {rounds} rounds<th>{a}<th>{b}<th>{b} over \
         {a}<th>95 % interval<th>"
    );
    for compared in &comparison.figures {
        let [a, b] = compared.medians.map(readable);
        let _ = write!(body, "<tr><td>{}<td>{a}<td>{b}", escape(compared.figure));
        let _ = match compared.ratio {
            Some(ratio) => write!(
                body,
                "<td>{:.3}<td>{:.3} to {:.3}<td>{}",
                ratio.mean,
                ratio.low,
                ratio.high,
                if ratio.verdict() == "noise" { "noise" } else { "" }
            ),
            None => write!(body, "<td>-<td>-<td>too few rounds"),
        };
    }
    body.push_str("</table></div>\n");
}

fn charts(comparison: &Comparison, names: &[String; 2]) -> Vec<Chart> {
    let sides = || names.iter().zip(&comparison.sides);
    let latencies = sides().map(|(name, side)| {
        let mut all = histogram();
        for outcome in &side.rounds {
            all.add(outcome.report.total.latencies.all()).expect("the same bounds");
        }
        Series { name: name.clone(), points: percentiles(&all) }
    });
    let mut charts = vec![Chart {
        title: "Latency by percentile, µs",
        x: Axis { label: "percentile", logarithmic: true },
        y: Axis { label: "", logarithmic: true },
        series: latencies.collect(),
    }];
    for (title, figure) in FIGURES.iter().filter(|(name, _)| CHARTED.contains(name)) {
        let series: Vec<_> = sides()
            .map(|(name, side)| {
                let figures = side.rounds.iter().enumerate();
                let points = figures
                    .filter_map(|(round, outcome)| Some(((round + 1) as f64, figure(outcome)?)));
                Series { name: name.clone(), points: points.collect() }
            })
            .collect();
        let some = |series: &Series| series.points.iter().any(|(_, figure)| *figure > 0.0);
        if comparison.sides[0].rounds.len() > 1 && series.iter().any(some) {
            let x = Axis { label: "round", logarithmic: false };
            let y = Axis { label: "", logarithmic: false };
            charts.push(Chart { title, x, y, series });
        }
    }
    charts
}

/// Figures that are drawn round by round.
const CHARTED: [&str; 5] = [
    "requests/s",
    "latency p99, µs",
    "misses, % of keys",
    "server CPU, µs a request",
    "server memory, MiB",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Compared;
    use crate::load::Outcome;
    use crate::workload::operation::Operation;

    #[test]
    fn both_servers_are_in_every_chart() {
        let mut outcome = Outcome::default();
        outcome.report.elapsed = std::time::Duration::from_secs(1);
        outcome.report.total.counters.answered[0] = 1000;
        outcome.report.total.latencies.record(Operation::Get, 1000);
        let rounds = vec![outcome.clone(), outcome];
        let sides = ["/opt/a -p 1", "b <2>"]
            .map(|command| Side { command: command.to_owned(), rounds: rounds.clone() });
        let figures = vec![Compared { figure: "requests/s", medians: [1e3, 1e3], ratio: None }];
        let page = page(&Comparison { figures, sides }, "A & B", "loadgen compare");
        assert!(page.contains("<h1>A &amp; B</h1>") && page.contains("b &lt;2&gt;"));
        assert!(page.contains("<td>requests/s<td>1,000<td>1,000<td>-"), "{page}");
        assert_eq!(page.matches("<polyline").count(), 2 * 3, "{page}");
        assert!(!page.contains("NaN") && !page.contains("inf<"));
    }
}
