//! How much may be sent to an address that may never have asked for it.
//!
//! Each address has a bucket that fills at a steady rate, up to what a second brings, and is
//! emptied by what is sent there. The buckets are of a fixed number: an address has the one that
//! its hash leads to, and may share it, which makes for less and never for more. The hash is keyed,
//! so nobody outside can choose with whom.

use ahash::RandomState;
use std::net::IpAddr;
use std::time::Duration;

/// What may be sent, by address.
#[derive(Debug)]
pub(super) struct Allowances {
    bytes_per_second: u32,
    buckets: Box<[Bucket]>,
    hasher: RandomState,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// What may still be sent. A reply that is larger leaves a debt.
    bytes: i64,
    /// When it was last filled, in milliseconds of the server's uptime.
    filled_at: u64,
}

impl Allowances {
    pub(super) fn new(bytes_per_second: u32) -> Self {
        let full = Bucket { bytes: i64::from(bytes_per_second), filled_at: 0 };
        let buckets = vec![full; BUCKETS].into_boxed_slice();
        Self { bytes_per_second, buckets, hasher: crate::sync::random_state() }
    }

    /// Whether anything may be sent to `address` now.
    pub(super) fn is_left(&mut self, address: IpAddr, uptime: Duration) -> bool {
        let now = u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX);
        let limit_bytes = i64::from(self.bytes_per_second);
        let bucket = self.bucket(address);
        // A reply is small against a second's allowance, and so is its debt.
        let passed = i64::try_from(now.saturating_sub(bucket.filled_at)).unwrap_or(i64::MAX);
        let earned = limit_bytes.saturating_mul(passed) / 1000;
        if earned > 0 {
            bucket.bytes = bucket.bytes.saturating_add(earned).min(limit_bytes);
            bucket.filled_at = now;
        }
        bucket.bytes > 0
    }

    /// Says that so much is sent.
    pub(super) fn take(&mut self, address: IpAddr, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let bucket = self.bucket(address);
        bucket.bytes = bucket.bytes.saturating_sub(bytes);
    }

    fn bucket(&mut self, address: IpAddr) -> &mut Bucket {
        let hash = match address {
            IpAddr::V4(address) => self.hasher.hash_one(address.octets()),
            // Who has one address of such a network has them all.
            IpAddr::V6(address) => self.hasher.hash_one(&address.segments()[..4]),
        };
        let index = usize::try_from(hash % BUCKETS as u64).expect("there are few");
        &mut self.buckets[index]
    }
}

const BUCKETS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    /// CVE-2018-1000115: memcached answered as much as it was asked, to whom it was told.
    #[test]
    fn cve_2018_1000115_an_address_is_sent_no_more_than_its_rate() {
        let mut allowances = Allowances::new(1_000);
        let mut sent = 0;
        for millis in 0..10_000 {
            while allowances.is_left(HERE, Duration::from_millis(millis)) {
                allowances.take(HERE, 300);
                sent += 300;
            }
        }
        assert!((10_000..=11_000 + 300).contains(&sent), "{sent} bytes in ten seconds");
    }

    #[test]
    fn a_bucket_is_never_fuller_than_a_second_makes_it() {
        let mut allowances = Allowances::new(1_000);
        assert!(allowances.is_left(HERE, Duration::from_secs(1_000_000)));
        allowances.take(HERE, 1_000);
        assert!(!allowances.is_left(HERE, Duration::from_secs(1_000_000)));
        assert!(!allowances.is_left(HERE, Duration::ZERO), "time does not run backwards");
        assert!(allowances.is_left(HERE, Duration::from_secs(1_000_001)));
    }

    #[test]
    fn a_debt_is_paid_off_first() {
        let mut allowances = Allowances::new(1_000);
        allowances.take(HERE, 5_000);
        assert!(!allowances.is_left(HERE, Duration::from_millis(4_000)));
        assert!(allowances.is_left(HERE, Duration::from_millis(4_001)));
    }

    #[test]
    fn small_steps_add_up() {
        let mut allowances = Allowances::new(10);
        allowances.take(HERE, 10);
        let paid =
            (0..1_000).find(|&millis| allowances.is_left(HERE, Duration::from_millis(millis)));
        assert_eq!(paid, Some(100));
    }

    #[test]
    fn neighbours_of_a_network_share_and_others_mostly_do_not() {
        let mut allowances = Allowances::new(1_000);
        allowances.take("2001:db8::1".parse().expect("an address"), 2_000);
        let neighbour = "2001:db8::2".parse().expect("an address");
        assert!(!allowances.is_left(neighbour, Duration::ZERO));
        allowances.take(HERE, 2_000);
        let others = (0..100)
            .filter(|&other| allowances.is_left(IpAddr::from([10, 0, 1, other]), Duration::ZERO));
        assert!(others.count() > 90);
    }
}
