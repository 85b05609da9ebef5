//! Settings of memcached's engine that clients may change while it runs. larder's engine has no use
//! for them: they are remembered, so that `stats settings` shows what was set.

use crate::sync::{Mutex, lock};
use std::collections::BTreeMap;

/// The settings that were changed, by memcached's names.
#[derive(Debug, Default)]
pub struct Tuning(Mutex<BTreeMap<&'static str, String>>);

impl Tuning {
    /// Changes one.
    pub fn set(&self, name: &'static str, value: String) {
        lock(&self.0).insert(name, value);
    }

    /// The value of one that was changed.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<String> {
        lock(&self.0).get(name).cloned()
    }
}
