//! The continuum of libmemcached's weighted ketama: where keys live among several servers.
//!
//! A server has points on a circle of 2^32, 160 of them where all weigh the same; a key lives at
//! the server whose point is next at or above the key's hash. Point and key hashes are parts of
//! MD5. The arithmetic of the weights is libmemcached's, in single precision as there, since a
//! point more or less moves keys.

use md5::{Digest as _, Md5};

use crate::random::floor;

/// Points in order, each with the index of its server.
#[derive(Clone, Debug)]
pub struct Continuum(Vec<(u32, u32)>);

impl Continuum {
    /// Of servers by host name, port and weight.
    #[must_use]
    pub fn new<'a>(servers: impl ExactSizeIterator<Item = (&'a str, u16, u32)> + Clone) -> Self {
        let count = servers.len();
        let total: u32 = servers.clone().map(|(_, _, weight)| weight).sum();
        let mut points = Vec::with_capacity(count * POINTS);
        for (index, (host, port, weight)) in (0..).zip(servers) {
            for hash_index in 0..hashes(weight, total, count) {
                let name = match port {
                    DEFAULT_PORT => format!("{host}-{hash_index}"),
                    port => format!("{host}:{port}-{hash_index}"),
                };
                let digest = Md5::digest(name.as_bytes());
                let (words, _) = digest.as_chunks::<4>();
                points.extend(words.iter().map(|word| (u32::from_le_bytes(*word), index)));
            }
        }
        points.sort_by_key(|(point, _)| *point);
        Self(points)
    }

    /// The index of the server where `key` lives.
    #[must_use]
    pub fn server(&self, key: &[u8]) -> usize {
        let digest = Md5::digest(key);
        let hash = u32::from_le_bytes(*digest.first_chunk().expect("a digest has 16 bytes"));
        let above = self.0.partition_point(|(point, _)| *point < hash);
        self.0.get(above).or(self.0.first()).map_or(0, |(_, index)| *index as usize)
    }
}

/// How many digests a server's points come from.
#[expect(clippy::cast_possible_truncation, reason = "libmemcached rounds to single precision")]
fn hashes(weight: u32, total: u32, count: usize) -> u64 {
    let share = weight as f32 / total as f32;
    let hashes = share * POINTS as f32 / POINTS_PER_HASH as f32 * count as f32;
    floor(f64::from((f64::from(hashes) + 0.000_000_000_1) as f32))
}

const POINTS: usize = 160;
const POINTS_PER_HASH: usize = 4;
/// Left out of a server's name.
const DEFAULT_PORT: u16 = 11_211;

#[cfg(test)]
mod tests {
    use super::*;

    /// Where libmemcached 1.1.4 (`memcached_generate_hash` under `KETAMA_WEIGHTED`) puts the keys
    /// `key:0` to `key:99999`: a sum over all, each time 31 times the sum and the index plus one.
    #[track_caller]
    fn assert_homes(servers: &[(&str, u16, u32)], first: &str, sum: u64) {
        let continuum = Continuum::new(servers.iter().copied());
        let home = |key: u32| continuum.server(format!("key:{key}").as_bytes());
        let firsts: String = (0..64).map(|key| home(key).to_string()).collect();
        assert_eq!(firsts, first);
        let add = |sum: u64, key| sum.wrapping_mul(31).wrapping_add(home(key) as u64 + 1);
        assert_eq!((0..100_000).fold(0, add), sum);
    }

    #[test]
    fn keys_live_where_libmemcached_has_them() {
        let hosts = [("10.0.1.1", 11_211), ("10.0.1.2", 11_211), ("10.0.1.3", 11_212)];
        let equal = hosts.map(|(host, port)| (host, port, 1));
        let first = "0212110200212112120120211200212122121221212000122111001020100122";
        assert_homes(&equal, first, 16_536_617_579_813_780_448);
        let [a, b, c] = hosts;
        let weighted = [(a.0, a.1, 1), (b.0, b.1, 2), (c.0, c.1, 5)];
        let first = "1212112202212122120220212201212122122222212101122121221222222122";
        assert_homes(&weighted, first, 5_576_294_630_830_477_166);
    }

    #[test]
    fn weights_round_as_libmemcached_rounds_them() {
        let seven = [
            ("cache-a", 11_211, 3),
            ("cache-b", 7001, 1),
            ("cache-c", 7002, 4),
            ("cache-d", 7003, 1),
            ("cache-e", 11_211, 5),
            ("cache-f", 7005, 9),
            ("cache-g", 7006, 2),
        ];
        let first = "2445553020405530311562002250444124340445445526551505202252500551";
        assert_homes(&seven, first, 14_751_061_715_585_122_190);
    }
}
