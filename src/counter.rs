//! A count with one writer and any number of readers: what statistics are made of. Adding is a load and a store, no locked
//! instruction, because nobody else adds.

use std::sync::atomic::{AtomicU64, Ordering};

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Counts up. Only the thread that owns the counter may.
    pub(crate) fn add(&self, amount: u64) {
        self.0.store(self.get().wrapping_add(amount), Ordering::Relaxed);
    }

    /// Counts down. Only the thread that owns the counter may.
    pub(crate) fn sub(&self, amount: u64) {
        self.0.store(self.get().wrapping_sub(amount), Ordering::Relaxed);
    }

    /// The count, as it was a moment ago.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
