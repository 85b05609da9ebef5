//! The versions of items. Each is given once, over all restarts of a store that lives in a file:
//! the file has a ceiling above all that were given, which is raised before it is passed.

use super::file::{MemoryFile, State};
use crate::sync::{AtomicU64, Ordering};

#[derive(Debug)]
pub(super) struct Versions {
    /// The one that was given last.
    last: AtomicU64,
    /// What the file says. Without a file there is no end.
    ceiling: AtomicU64,
}

impl Versions {
    /// Those that follow what a file says, if there is one.
    pub(super) fn after(state: Option<&State>) -> Self {
        // A flush is noted for versions that may have been given before the ceiling was raised.
        let last = state.map_or(0, |state| state.ceiling.max(state.flushed));
        let ceiling = state.map_or(u64::MAX, |state| state.ceiling);
        Self { last: AtomicU64::new(last), ceiling: AtomicU64::new(ceiling) }
    }

    pub(super) fn last(&self) -> u64 {
        self.last.load(Ordering::SeqCst)
    }

    /// One above all others.
    #[inline]
    pub(super) fn next(&self, file: Option<&MemoryFile>) -> u64 {
        let version = self.last.fetch_add(1, Ordering::SeqCst) + 1;
        if version > self.ceiling.load(Ordering::Acquire)
            && let Some(file) = file
        {
            self.raise_ceiling(version, file);
        }
        version
    }

    #[cold]
    fn raise_ceiling(&self, version: u64, file: &MemoryFile) {
        let ceiling = file.raise_ceiling(version);
        self.ceiling.fetch_max(ceiling, Ordering::Release);
    }
}
