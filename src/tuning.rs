//! Settings of memcached's engine, from the command line and from clients, who may change them
//! while it runs. larder's engine has no use for them: they are remembered, so that `stats
//! settings` shows what was set.

use crate::sync::{Mutex, lock};
use std::collections::BTreeMap;

/// The settings that were changed, by memcached's names.
#[derive(Debug)]
pub struct Tuning(Mutex<BTreeMap<&'static str, String>>);

impl Tuning {
    /// With those that were changed before the start.
    #[must_use]
    pub fn new(changed: &[(&'static str, String)]) -> Self {
        Self(Mutex::new(changed.iter().cloned().collect()))
    }

    /// Changes one.
    pub fn set(&self, name: &'static str, value: String) {
        lock(&self.0).insert(name, value);
    }

    /// The value of one that was changed.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<String> {
        lock(&self.0).get(name).cloned()
    }

    /// Whether this was switched on.
    #[must_use]
    pub fn is_on(&self, name: &str) -> bool {
        self.is(name, "yes")
    }

    /// Whether this was switched off.
    #[must_use]
    pub fn is_off(&self, name: &str) -> bool {
        self.is(name, "no")
    }

    fn is(&self, name: &str, word: &str) -> bool {
        lock(&self.0).get(name).is_some_and(|value| value == word)
    }
}
