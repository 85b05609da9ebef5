//! Figures by the prefix of keys, for `stats detail`: what stands before a delimiter.
//!
//! They cost a lock for every key, so they are kept only while somebody wants them. What a client
//! can make the server remember has an end: at most [`PREFIXES_MAX`] prefixes, of less than a key's
//! length each, 20 MB at worst; keys with further prefixes are not counted.

use crate::sync::{Mutex, lock, random_state};
use ahash::RandomState;
use memchr::memchr;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// See the module's text.
#[derive(Debug)]
pub struct Prefixes {
    enabled: AtomicBool,
    delimiter: u8,
    count: AtomicUsize,
    /// By the prefix's hash, so that neither threads nor whoever lists them wait long.
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
}

type Shard = HashMap<Box<[u8]>, PrefixFigures, RandomState>;

/// What was done to the keys with a prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrefixFigures {
    /// Look-ups.
    pub gets: u64,
    /// Of these, successful.
    pub hits: u64,
    /// Stores, whatever became of them.
    pub sets: u64,
    /// Deletions, whatever became of them.
    pub deletes: u64,
}

impl Prefixes {
    /// Counts nothing unless `enabled`.
    #[must_use]
    pub fn new(delimiter: u8, enabled: bool) -> Self {
        let hasher = random_state();
        let shard = || Mutex::new(Shard::with_hasher(hasher.clone()));
        Self {
            enabled: AtomicBool::new(enabled),
            delimiter,
            count: AtomicUsize::new(0),
            shards: (0..SHARDS).map(|_| shard()).collect(),
            hasher: hasher.clone(),
        }
    }

    /// What ends a prefix.
    #[must_use]
    pub fn delimiter(&self) -> u8 {
        self.delimiter
    }

    /// Whether they are kept at the moment.
    #[must_use]
    pub fn enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    /// Begins or ceases to keep them. What was counted stays.
    pub fn enable(&self, enabled: bool) {
        self.enabled.store(enabled, Ordering::Relaxed);
    }

    /// Counts a key's prefix, if the key has one.
    pub fn count(&self, key: &[u8], count: impl FnOnce(&mut PrefixFigures)) {
        let Some(length) = memchr(self.delimiter, key) else { return };
        let prefix = &key[..length];
        let mut shard = lock(&self.shards[self.shard_of(prefix)]);
        if let Some(figures) = shard.get_mut(prefix) {
            count(figures);
        } else if self.count.fetch_add(1, Ordering::Relaxed) < PREFIXES_MAX {
            count(shard.entry(prefix.into()).or_default());
        } else {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Forgets all of them.
    pub fn clear(&self) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            self.count.fetch_sub(shard.len(), Ordering::Relaxed);
            *shard = Shard::with_hasher(self.hasher.clone());
        }
    }

    /// Shows the prefixes of one of the parts in which they are kept, some hundreds at most;
    /// `false` if there is no such part. The parts are numbered from 0.
    pub fn visit(&self, part: usize, mut visit: impl FnMut(&[u8], &PrefixFigures)) -> bool {
        let Some(shard) = self.shards.get(part) else { return false };
        for (prefix, figures) in &*lock(shard) {
            visit(prefix, figures);
        }
        true
    }

    fn shard_of(&self, prefix: &[u8]) -> usize {
        // Not the bits that the map within the shard goes by.
        usize::from(self.hasher.hash_one(prefix).to_be_bytes()[1])
    }
}

/// How many prefixes are told apart.
pub const PREFIXES_MAX: usize = 1 << 16;

/// As many as a byte can number.
const SHARDS: usize = 1 << u8::BITS;

#[cfg(test)]
mod tests {
    use super::*;

    fn all(prefixes: &Prefixes) -> Vec<(Vec<u8>, PrefixFigures)> {
        let mut found = Vec::new();
        let mut part = 0;
        while prefixes.visit(part, |prefix, figures| found.push((prefix.to_vec(), *figures))) {
            part += 1;
        }
        found
    }

    #[test]
    fn a_prefix_ends_before_the_first_delimiter() {
        let prefixes = Prefixes::new(b':', true);
        for key in [b"a:1".as_slice(), b"a:2:3", b"plain", b"a"] {
            prefixes.count(key, |figures| figures.gets += 1);
        }
        let figures = PrefixFigures { gets: 2, ..PrefixFigures::default() };
        assert_eq!(all(&prefixes), [(b"a".to_vec(), figures)]);
    }

    #[test]
    fn their_number_is_limited_and_forgetting_makes_room() {
        let prefixes = Prefixes::new(b':', true);
        let fill = || {
            for number in 0..PREFIXES_MAX + 1000 {
                prefixes.count(format!("{number}:").as_bytes(), |figures| figures.sets += 1);
            }
            prefixes.count(b"0:", |figures| figures.sets += 1);
            assert_eq!(all(&prefixes).len(), PREFIXES_MAX);
        };
        fill();
        prefixes.clear();
        assert!(all(&prefixes).is_empty());
        fill();
        let first = all(&prefixes).into_iter().find(|(prefix, _)| prefix == b"0").unwrap();
        assert_eq!(first.1.sets, 2, "a known prefix is counted on");
    }
}
