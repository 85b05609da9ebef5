//! Latencies by percentile in the text form that HdrHistogram's plotters read, in microseconds.

use std::io::{self, Write};

use hdrhistogram::Histogram;

/// Writes every step of the distribution, five to each halving of the distance to 100 %.
///
/// # Errors
///
/// Those of `output`.
pub fn write(nanos: &Histogram<u64>, output: &mut impl Write) -> io::Result<()> {
    writeln!(output, "{:>12} {:>14} {:>10} {:>14}\n", "Value", "Percentile", "TotalCount", TO_GO)?;
    for step in nanos.iter_quantiles(STEPS_PER_HALVING) {
        let value = step.value_iterated_to() as f64 / 1e3;
        let (quantile, count) = (step.quantile_iterated_to(), nanos_up_to(nanos, &step));
        match quantile < 1.0 {
            true => {
                let to_go = 1.0 / (1.0 - quantile);
                writeln!(output, "{value:>12.3} {quantile:>14.12} {count:>10} {to_go:>14.2}")?;
            }
            false => writeln!(output, "{value:>12.3} {quantile:>14.12} {count:>10}")?,
        }
    }
    let (mean, deviation) = (nanos.mean() / 1e3, nanos.stdev() / 1e3);
    writeln!(output, "#[Mean    = {mean:>12.3}, StdDeviation   = {deviation:>12.3}]")?;
    let (max, count) = (nanos.max() as f64 / 1e3, nanos.len());
    writeln!(output, "#[Max     = {max:>12.3}, Total count    = {count:>12}]")?;
    let buckets = nanos.buckets();
    // Of each bucket but the first only the upper half is its own.
    let sub = nanos.distinct_values() * 2 / (usize::from(buckets) + 1);
    writeln!(output, "#[Buckets = {buckets:>12}, SubBuckets     = {sub:>12}]")
}

fn nanos_up_to(nanos: &Histogram<u64>, step: &hdrhistogram::iterators::IterationValue<u64>) -> u64 {
    nanos.count_between(0, step.value_iterated_to())
}

const TO_GO: &str = "1/(1-Percentile)";
const STEPS_PER_HALVING: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::histogram;

    #[test]
    fn the_text_has_every_value_and_its_percentile() {
        let mut nanos = histogram();
        (1..=1000_u64).for_each(|micros| nanos.record(micros * 1000).unwrap());
        let mut text = Vec::new();
        write(&nanos, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let rows: Vec<Vec<f64>> = text
            .lines()
            .skip(2)
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|field| field.parse().unwrap()).collect())
            .collect();
        for row in &rows {
            let (micros, quantile, count) = (row[0], row[1], row[2]);
            assert!((micros / count - 1.0).abs() < 0.002, "{row:?}");
            assert!(count / 1000.0 >= quantile - 1e-9, "{row:?}");
        }
        assert!(rows.windows(2).all(|two| two[0][1] < two[1][1]));
        assert_eq!(rows.last().unwrap()[1..], [1.0, 1000.0]);
        assert!(text.contains("Total count    =         1000"), "{text}");
        assert!(text.contains("SubBuckets     =         2048"), "{text}");
    }
}
