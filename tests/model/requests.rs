//! What the store and the oracle are asked.

use super::Plan;
use super::oracle::Oracle;
use super::random::Random;
use super::store::{Op, When};
use larder::clock::Seconds;

impl Random {
    pub(crate) fn op(&mut self, plan: &Plan, oracle: &Oracle) -> Op {
        let key = key_of(self.below(plan.keys));
        let (value, flags) = (self.value(plan), self.flags());
        let expiry = self.expiry(oracle.now);
        let small = |mut value: Vec<u8>| {
            value.truncate(300);
            value
        };
        match self.below(100) {
            0..=34 => Op::Store { when: When::Always, key, value, flags, expiry },
            35..=39 => Op::Store { when: When::Absent, key, value, flags, expiry },
            40..=44 => Op::Store { when: When::Present, key, value, flags, expiry },
            45..=52 => {
                let right = oracle.items.get(&key).map_or(1, |item| item.cas);
                let when = When::Cas(if self.below(3) == 0 { right + 1 } else { right });
                Op::Store { when, key, value, flags, expiry }
            }
            53 if self.below(2) == 0 => {
                let cas = (self.below(2) == 0).then(|| self.next());
                Op::Invalidate { key, cas }
            }
            54 => Op::Lease { key },
            53..=56 => Op::Append { key, value: small(value) },
            57..=59 => Op::Prepend { key, value: small(value) },
            60..=64 => Op::Increment { key, by: self.next() },
            65..=68 => Op::Touch { key, expiry },
            69..=72 => Op::GetAndTouch { key, expiry },
            73..=77 => Op::Delete { key },
            78 => Op::Abandon { key, value },
            79 if self.below(10) == 0 => {
                let at = if self.below(2) == 0 { 0 } else { oracle.now + self.below(9) };
                Op::Flush { at }
            }
            _ => Op::Get { key },
        }
    }

    /// Mostly small, some numbers, some of several segments, now and then the largest.
    fn value(&mut self, plan: &Plan) -> Vec<u8> {
        let largest = u32::try_from(plan.value_bytes_max).expect("small");
        let bytes = match self.below(200) {
            0 => largest,
            1..=4 => self.below(largest),
            5..=20 => self.below(largest.min(8192)),
            21..=60 => self.below(1000),
            61..=90 => return self.below(1000).to_string().into_bytes(),
            _ => self.below(120),
        };
        let mut value = self.next().to_le_bytes().repeat(bytes as usize / 8 + 1);
        value.truncate(bytes as usize);
        value
    }

    fn flags(&mut self) -> u32 {
        if self.below(2) == 0 { 0 } else { self.below(u32::MAX) }
    }

    /// Never, soon, later, or already over.
    fn expiry(&mut self, now: Seconds) -> Seconds {
        match self.below(8) {
            0 => now - self.below(2),
            1 | 2 => now + 1 + self.below(20),
            3 => now + 1000,
            _ => 0,
        }
    }
}

/// Keys of every length up to 250.
pub(crate) fn key_of(number: u32) -> Vec<u8> {
    let mut key = format!("{number}:").into_bytes();
    key.resize(key.len().max(number as usize * 37 % 251), b'k');
    key
}
