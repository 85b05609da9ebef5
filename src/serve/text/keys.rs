//! Keys to look up together, and how they are found in the input.

use crate::protocol::KEY_BYTES_MAX;
use crate::protocol::text::{self, Tokens};
use crate::store::PREFETCH_KEYS;

/// As many keys as are worth looking up together.
pub(super) struct KeyGroup<'k> {
    line: &'k [u8],
    keys: [&'k [u8]; PREFETCH_KEYS],
    /// What of the line follows each key.
    rests: [&'k [u8]; PREFETCH_KEYS],
    pub(super) count: usize,
    /// The next one is longer than a key can be.
    pub(super) ends_too_long: bool,
}

impl<'k> KeyGroup<'k> {
    fn new(line: &'k [u8]) -> Self {
        let nothing: [&[u8]; PREFETCH_KEYS] = [&[]; PREFETCH_KEYS];
        Self { line, keys: nothing, rests: nothing, count: 0, ends_too_long: false }
    }

    /// The keys of requests for one key each at the start of `input`, as far as they are alike.
    pub(super) fn of_lone_gets(input: &'k [u8], requests_max: usize) -> Self {
        let mut group = Self::new(input);
        let mut rest = input;
        let mut alike = None;
        while group.count < requests_max.min(PREFETCH_KEYS)
            && let Some((retrieval, key, after)) = text::lone_get(rest)
            && *alike.get_or_insert(retrieval) == retrieval
        {
            group.push(key, after);
            rest = after;
        }
        group
    }

    fn push(&mut self, key: &'k [u8], rest: &'k [u8]) {
        self.keys[self.count] = key;
        self.rests[self.count] = rest;
        self.count += 1;
    }

    pub(super) fn take(line: &'k [u8]) -> Self {
        let mut group = Self::new(line);
        let mut tokens = Tokens::new(line);
        while group.count < PREFETCH_KEYS
            && let Some(key) = tokens.next()
        {
            if key.len() > KEY_BYTES_MAX {
                group.ends_too_long = true;
                break;
            }
            group.push(key, tokens.rest());
        }
        group
    }

    pub(super) fn keys(&self) -> &[&'k [u8]] {
        &self.keys[..self.count]
    }

    /// What of the line follows the first `done` keys.
    pub(super) fn rest_after(&self, done: usize) -> &'k [u8] {
        match done.checked_sub(1) {
            Some(last) => self.rests[last],
            None => self.line,
        }
    }
}
