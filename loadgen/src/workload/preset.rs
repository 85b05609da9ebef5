//! Workloads by the name of the cluster that they were observed on. Where the figures come from,
//! and what is assumed where they say nothing, stands in `data/README.md`.

use std::str::FromStr;

use crate::workload::operation::Mix;
use crate::workload::size::Size;
use crate::workload::ttl::Ttl;

/// The figures of one workload.
#[derive(Clone, Debug, PartialEq)]
pub struct Preset {
    /// Its name.
    pub name: String,
    /// Operations, in proportion.
    pub mix: Mix,
    /// How long keys are.
    pub key_bytes: Size,
    /// How long values are.
    pub value_bytes: Size,
    /// How long values live.
    pub ttl: Ttl,
    /// Exponent of the popularity.
    pub zipf: f64,
    /// Share of the keys drawn that are never drawn again.
    pub one_hit: f64,
    /// How often a key was drawn while it was observed, on average.
    pub draws_per_key: f64,
}

impl Preset {
    /// All there are.
    pub fn all() -> impl Iterator<Item = Self> {
        let twitter = TWITTER.lines().skip(1).filter_map(|line| Self::twitter(&fields(line)));
        twitter.chain(PUBLISHED.lines().skip(1).filter_map(|line| Self::published(&fields(line))))
    }

    /// `None` for the cluster of which nothing is published.
    fn twitter(fields: &[&str]) -> Option<Self> {
        let number = |index: usize| fields[index].parse::<f64>().ok();
        let draws_per_key = number(6)?;
        Some(Self {
            name: fields[0].to_owned(),
            mix: fields[12].parse::<Mix>().ok()?.without_gets_of_cas(),
            key_bytes: Size::Fixed(number(3)?),
            value_bytes: Size::Lognormal(number(4)?, VALUE_DEVIATION),
            ttl: fields[9].parse().ok()?,
            zipf: number(13).unwrap_or(ZIPF_UNKNOWN),
            one_hit: number(7)? / 100.0 / draws_per_key,
            draws_per_key,
        })
    }

    fn published(fields: &[&str]) -> Option<Self> {
        let number = |index: usize| fields[index].parse::<f64>().ok();
        let value_bytes: Size = fields[2].parse().ok()?;
        let draws_per_key = number(7).unwrap_or(FREQUENCY_UNKNOWN);
        Some(Self {
            name: fields[0].to_owned(),
            mix: fields[4].parse().ok()?,
            key_bytes: fields[1].parse().ok()?,
            value_bytes: match number(3) {
                Some(mean) => value_bytes.with_tail(mean),
                None => value_bytes,
            },
            ttl: Ttl::none(),
            zipf: number(5)?,
            one_hit: number(6)? / 100.0 / draws_per_key,
            draws_per_key,
        })
    }
}

impl FromStr for Preset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::all().find(|preset| preset.name == text);
        found.ok_or_else(|| {
            format!("`{text}` is no preset: there are cluster1 to cluster54 (but 5) and {OTHERS}")
        })
    }
}

/// The fields of a line, quotes taken off.
fn fields(line: &str) -> Vec<&str> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => rest.split_at(rest.find(',').unwrap_or(rest.len())),
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None => return fields,
        }
    }
}

const TWITTER: &str = include_str!("../../data/twitter-2020mar.csv");
const PUBLISHED: &str = include_str!("../../data/published.csv");
const OTHERS: &str = "meta-kvcache-reg, meta-graph-leader-assocs, meta-graph-leader-fbobj, \
                      meta-kvcache-l2-reg, facebook-etc-2012";
/// Of the logarithms of value sizes whose mean alone is published.
const VALUE_DEVIATION: f64 = 0.6;
const ZIPF_UNKNOWN: f64 = 0.85;
const FREQUENCY_UNKNOWN: f64 = 10.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::operation::Operation;

    fn preset(name: &str) -> Preset {
        name.parse().unwrap()
    }

    #[test]
    fn every_published_workload_is_there() {
        assert_eq!(Preset::all().count(), 53 + 5);
        assert!("cluster5".parse::<Preset>().is_err());
        OTHERS.split(", ").for_each(|name| assert_eq!(preset(name).name, name));
    }

    #[test]
    fn a_cluster_is_as_published() {
        let preset = preset("cluster52");
        assert_eq!((preset.key_bytes.mean(), preset.zipf), (20.0, 1.2117));
        assert!((preset.value_bytes.mean() / 273.0 - 1.0).abs() < 0.01);
        assert!((preset.one_hit - 0.1936 / 32.6).abs() < 1e-12);
        // 0.91 to 0.04 to 0.02 of adds and cas, whose gets are their own.
        assert!((preset.mix.share(Operation::Get) - 0.91 / 0.97).abs() < 1e-9);
        assert_eq!(preset.mix.share(Operation::Gets), 0.0);
        assert_eq!(preset.ttl, "1d:0.65, 14d:0.27, 12h:0.07".parse().unwrap());
    }

    /// What is published as compulsory misses is the first request of each key of a recording, from
    /// its beginning on: it tells of no rate at which keys are replaced.
    #[test]
    fn compulsory_misses_are_one_for_each_key_of_a_recording() {
        let rows = TWITTER.lines().skip(1).map(fields);
        let products: Vec<f64> = rows
            .filter_map(|row| {
                Some(row[6].parse::<f64>().ok()? * row[8].parse::<f64>().ok()? / 100.0)
            })
            .filter(|product| *product > 0.0)
            .collect();
        assert_eq!(
            products.len(),
            52,
            "all but cluster5, and cluster1, where it rounds to nothing"
        );
        assert!(products.iter().all(|product| (product - 1.0).abs() < 0.08), "{products:?}");
    }

    #[test]
    fn tails_give_the_published_means() {
        for (name, mean) in [
            ("meta-kvcache-reg", 351.0),
            ("meta-graph-leader-assocs", 1440.0),
            ("meta-kvcache-l2-reg", 33_000.0),
        ] {
            let found = preset(name).value_bytes.mean();
            assert!((found / mean - 1.0).abs() < 0.03, "{name}: {found}");
        }
    }

    #[test]
    fn one_percent_of_etcs_keys_take_what_was_published() {
        let zipf = preset("facebook-etc-2012").zipf;
        let weight = |rank: u32| f64::from(rank).powf(-zipf);
        let top: f64 = (1..=10_000).map(weight).sum();
        let all: f64 = (1..=1_000_000).map(weight).sum();
        assert!((top / all - 0.55).abs() < 0.02, "{}", top / all);
    }
}
