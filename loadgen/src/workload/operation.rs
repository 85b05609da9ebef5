//! The operations, and the proportion in which they are asked for.

use std::fmt;
use std::str::FromStr;

use crate::random::{Random, unit};

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// Ask for one or more keys.
    Get,
    /// Ask for a key and the token that a `cas` needs.
    Gets,
    /// Store a value.
    Set,
    /// Store a value where there is none.
    Add,
    /// Lengthen a value at its end.
    Append,
    /// Lengthen a value at its beginning.
    Prepend,
    /// Store a value unless it has changed since it was asked for: a `gets`, then the `cas`.
    Cas,
    /// Add one to a counter.
    Incr,
    /// Give a new time to live.
    Touch,
    /// Remove a value.
    Delete,
}

impl Operation {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 10] = [
        Self::Get,
        Self::Gets,
        Self::Set,
        Self::Add,
        Self::Append,
        Self::Prepend,
        Self::Cas,
        Self::Incr,
        Self::Touch,
        Self::Delete,
    ];

    /// memcached's word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Gets => "gets",
            Self::Set => "set",
            Self::Add => "add",
            Self::Append => "append",
            Self::Prepend => "prepend",
            Self::Cas => "cas",
            Self::Incr => "incr",
            Self::Touch => "touch",
            Self::Delete => "delete",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Operation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|operation| operation.name() == text);
        found.ok_or_else(|| format!("`{text}` is no operation"))
    }
}

/// A proportion of operations, written `get:0.9,set:0.1`; the weights need not add up to anything.
#[derive(Clone, Debug, PartialEq)]
pub struct Mix(Vec<(Operation, f64)>);

impl Mix {
    /// Nothing but `operation`.
    #[must_use]
    pub fn only(operation: Operation) -> Self {
        Self(vec![(operation, 1.0)])
    }

    /// The share of `operation`, from 0 to 1.
    #[must_use]
    pub fn share(&self, operation: Operation) -> f64 {
        let total: f64 = self.0.iter().map(|(_, weight)| weight).sum();
        let of: f64 = self.0.iter().filter(|(o, _)| *o == operation).map(|(_, w)| w).sum();
        of / total
    }

    /// Whether `operation` is asked for at all.
    #[must_use]
    pub fn has(&self, operation: Operation) -> bool {
        self.share(operation) > 0.0
    }

    /// Whether anything in it changes a value.
    #[must_use]
    pub fn writes(&self) -> bool {
        self.0.iter().any(|(operation, _)| {
            !matches!(operation, Operation::Get | Operation::Gets | Operation::Touch)
        })
    }

    /// The same, but with `gets` only where no `cas` explains it: a `cas` asks its own question.
    pub(crate) fn without_gets_of_cas(mut self) -> Self {
        let cas: f64 = self.0.iter().filter(|(o, _)| *o == Operation::Cas).map(|(_, w)| w).sum();
        for (operation, weight) in &mut self.0 {
            if *operation == Operation::Gets {
                *weight = (*weight - cas).max(0.0);
            }
        }
        self.0.retain(|(_, weight)| *weight > 0.0);
        self
    }

    pub(crate) fn chooser(&self) -> Chooser {
        let total: f64 = self.0.iter().map(|(_, weight)| weight).sum();
        let mut sum = 0.0;
        let mut bounds = Vec::with_capacity(self.0.len());
        for (operation, weight) in &self.0 {
            sum += weight / total;
            bounds.push((*operation, sum));
        }
        bounds.last_mut().expect("a mix is not empty").1 = 1.0;
        Chooser { bounds }
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (operation, weight)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(formatter, "{comma}{operation}:{weight}")?;
        }
        Ok(())
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || format!("`{text}` is not a mix, as in get:9,set:1");
        let mut mix = Vec::new();
        for part in text.split([',', ' ']) {
            let (operation, weight) = part.split_once(':').unwrap_or((part, "1"));
            let weight: f64 = weight.parse().map_err(|_| bad())?;
            if !(weight.is_finite() && weight >= 0.0) {
                return Err(bad());
            }
            mix.push((operation.parse()?, weight));
        }
        match mix.iter().any(|(_, weight)| *weight > 0.0) {
            true => Ok(Self(mix)),
            false => Err(bad()),
        }
    }
}

/// Draws operations in the proportion of a [`Mix`].
#[derive(Clone, Debug)]
pub(crate) struct Chooser {
    /// Each operation with the end of its part of [0, 1).
    bounds: Vec<(Operation, f64)>,
}

impl Chooser {
    pub(crate) fn draw(&self, random: &mut Random) -> Operation {
        if let [(only, _)] = self.bounds[..] {
            return only;
        }
        let point = unit(random.bits());
        let found = self.bounds.iter().find(|(_, end)| point < *end);
        found.expect("the last bound is 1").0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_is_operations_with_weights() {
        let mix: Mix = "get:0.9,set:0.1".parse().unwrap();
        assert!((mix.share(Operation::Get) - 0.9).abs() < 1e-12);
        assert_eq!("set".parse(), Ok(Mix::only(Operation::Set)));
        assert_eq!(mix.to_string().parse(), Ok(mix));
        for bad in ["", "get:0", "get:-1", "got:1", "get:x", "get:inf", "9:1"] {
            assert!(bad.parse::<Mix>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_cas_asks_its_own_question() {
        let mix: Mix = "get:0.91,gets:0.02,cas:0.02".parse().unwrap();
        assert!(!mix.without_gets_of_cas().has(Operation::Gets));
        let mix: Mix = "gets:0.05,cas:0.02".parse().unwrap();
        assert!((mix.without_gets_of_cas().share(Operation::Gets) - 0.6).abs() < 1e-9);
    }

    #[test]
    fn operations_come_in_the_asked_proportion() {
        let mut random = Random::new(42, 0);
        let chooser = "get:6,set:3,delete:1".parse::<Mix>().unwrap().chooser();
        let mut counts = [0_u32; Operation::ALL.len()];
        for _ in 0..100_000 {
            counts[chooser.draw(&mut random) as usize] += 1;
        }
        let expected = [(Operation::Get, 60_000), (Operation::Set, 30_000)];
        for (operation, count) in expected {
            assert!(counts[operation as usize].abs_diff(count) < 600, "{counts:?}");
        }
    }
}
