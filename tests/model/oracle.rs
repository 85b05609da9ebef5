//! What the right answer is.

use super::store::{Hit, Op, Reply, When, number};
use super::{Plan, brief};
use larder::clock::Seconds;
use std::collections::HashMap;

/// Memcached, naively.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) items: HashMap<Vec<u8>, Hit>,
    pub(crate) now: Seconds,
    flush_at: Seconds,
    cas: u64,
}

impl Oracle {
    pub(crate) fn new(now: Seconds) -> Self {
        Self { now, ..Self::default() }
    }

    /// Carries out what time has brought and returns how many items it killed.
    pub(crate) fn forget_dead(&mut self) -> u64 {
        let now = self.now;
        if self.flush_at != 0 && self.flush_at <= now {
            self.items.clear();
            self.flush_at = 0;
        }
        let before = self.items.len();
        self.items.retain(|_, item| item.expiry == 0 || item.expiry > now);
        (before - self.items.len()) as u64
    }

    /// Compares an answer with the right one. Returns 1 if they agree only when the key is taken to
    /// have been evicted.
    pub(crate) fn compare(&mut self, op: &Op, reply: &Reply) -> Result<u64, String> {
        let mut cas = if let Reply::Stored { cas } = reply { *cas } else { 0 };
        if let Op::Invalidate { cas: Some(chosen), .. } = op {
            cas = *chosen;
        } else if cas != 0 && cas <= self.cas {
            return Err(format!("cas {cas} after {}", self.cas));
        } else {
            self.cas = self.cas.max(cas);
        }
        let before = op.key().and_then(|key| self.items.get(key)).cloned();
        let expected = self.apply(op, cas);
        if expected == *reply {
            return Ok(0);
        }
        if before.is_some()
            && let Some(key) = op.key()
        {
            self.items.remove(key);
            if self.apply(op, cas) == *reply {
                return Ok(1);
            }
        }
        Err(format!("{} instead of {}", brief(reply), brief(&expected)))
    }

    /// The right answer. A new item gets this cas.
    fn apply(&mut self, op: &Op, cas: u64) -> Reply {
        let old = op.key().and_then(|key| self.items.get(key)).cloned();
        match (op, old) {
            (Op::Store { when, key, value, flags, expiry }, old) => match (when, old) {
                (When::Absent, Some(_)) | (When::Present, None) => Reply::NotStored,
                (When::Cas(_), None) => Reply::NotFound,
                (When::Cas(cas), Some(old)) if old.cas != *cas => Reply::Exists,
                _ => self.put(key, value.clone(), *flags, *expiry, cas),
            },
            (Op::Append { .. } | Op::Prepend { .. }, None) => Reply::NotStored,
            (Op::Append { key, value }, Some(old)) => {
                self.put(key, [&old.value[..], value].concat(), old.flags, old.expiry, cas)
            }
            (Op::Prepend { key, value }, Some(old)) => {
                self.put(key, [value, &old.value[..]].concat(), old.flags, old.expiry, cas)
            }
            (Op::Increment { key, by }, Some(old)) => match number(&old.value) {
                None => Reply::NotANumber,
                Some(number) => {
                    let value = number.wrapping_add(*by).to_string().into_bytes();
                    let item = Hit { value, cas, last_access: self.now, ..old };
                    self.items.insert(key.clone(), item);
                    Reply::Stored { cas }
                }
            },
            (Op::Get { key }, Some(old)) => {
                self.fetched(key, old.expiry);
                Reply::Hit(old)
            }
            (Op::GetAndTouch { key, expiry }, Some(old)) => {
                self.fetched(key, *expiry);
                Reply::Hit(old)
            }
            (Op::Touch { key, expiry }, Some(_)) => {
                self.fetched(key, *expiry);
                Reply::Done
            }
            (Op::Invalidate { key, .. }, Some(old)) => {
                let item = Hit { cas, is_stale: true, is_leased: false, ..old };
                self.items.insert(key.clone(), item);
                Reply::Stored { cas }
            }
            (Op::Lease { key }, Some(old)) => {
                self.items.insert(key.clone(), Hit { is_leased: true, ..old.clone() });
                Reply::Leased(!old.is_leased)
            }
            (Op::Delete { key }, Some(_)) => {
                self.items.remove(key);
                Reply::Done
            }
            (Op::Flush { at }, _) => {
                self.flush_at = if *at <= self.now { 0 } else { *at };
                if self.flush_at == 0 {
                    self.items.clear();
                }
                Reply::Done
            }
            (Op::Abandon { .. }, _) => Reply::Done,
            (_, None) => Reply::NotFound,
        }
    }

    fn put(&mut self, key: &[u8], value: Vec<u8>, flags: u32, expiry: Seconds, cas: u64) -> Reply {
        let item = Hit {
            value,
            flags,
            expiry,
            cas,
            last_access: self.now,
            is_fetched: false,
            is_stale: false,
            is_leased: false,
        };
        self.items.insert(key.to_vec(), item);
        Reply::Stored { cas }
    }

    fn fetched(&mut self, key: &[u8], expiry: Seconds) {
        let item = self.items.get_mut(key).expect("it was there");
        *item = Hit { expiry, last_access: self.now, is_fetched: true, ..item.clone() };
    }

    /// Which part of the memory live items and this request would take.
    pub(crate) fn fullness(&self, plan: &Plan, op: &Op) -> f64 {
        let entry = |key: &[u8], value: usize| (key.len() + value + 32) as f64;
        let live: f64 = self.items.iter().map(|(key, item)| entry(key, item.value.len())).sum();
        let asked = match op {
            Op::Store { key, value, .. } => entry(key, value.len()),
            Op::Append { key, value } | Op::Prepend { key, value } => {
                entry(key, value.len() + self.items.get(key).map_or(0, |item| item.value.len()))
            }
            _ => 0.0,
        };
        (live + asked) / plan.memory_bytes as f64
    }
}
