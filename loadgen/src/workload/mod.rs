//! What is asked of a server: which operation on which key, and what the keys and values are like.

pub mod keys;
pub mod operation;
pub mod popularity;
pub mod preset;
pub mod size;
pub mod trace;
pub mod traffic;
pub mod ttl;

use std::sync::Arc;

use crate::random::{mix, unit};
use crate::truth::value::Values;
use keys::Keys;
use operation::{Mix, Operation};
use size::Size;
use trace::Trace;
use ttl::Ttl;

/// The requests of a run. The same workload with the same seed asks the same on every machine.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Operations, in proportion.
    pub mix: Mix,
    /// Number of distinct keys, without those asked for once; never 0.
    pub key_count: u64,
    /// What they are called.
    pub keys: Keys,
    /// How long their values are.
    pub value_bytes: Size,
    /// How long values live.
    pub ttl: Ttl,
    /// Exponent of the popularity; 0 is uniform.
    pub zipf: f64,
    /// Share of the keys drawn that are never drawn again.
    pub one_hit: f64,
    /// Share of the keys that a million requests replace by new ones of the same popularity.
    pub drift: f64,
    /// Keys in one get.
    pub keys_per_get: usize,
    /// Whether a miss is followed by a set.
    pub cache_aside: bool,
    /// Where the random sequences begin.
    pub seed: u64,
    /// What the values must be.
    pub values: Values,
    /// Requests as recorded, instead of drawn.
    pub trace: Option<Arc<Trace>>,
}

/// One key of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its number.
    pub id: u64,
    /// Length and time to live of its value, where a trace tells them.
    pub told: Option<(u32, u32)>,
}

impl Workload {
    /// The length of an item's value.
    #[must_use]
    pub fn value_bytes(&self, item: Item) -> usize {
        let bytes = match (item.told, &self.value_bytes) {
            (Some((bytes, _)), _) => u64::from(bytes),
            (None, Size::Fixed(bytes)) => crate::random::floor(*bytes),
            (None, size) => size.at(unit(mix(item.id ^ VALUE_SIZE_SALT))),
        };
        usize::try_from(bytes).expect("a size of at most a gibibyte")
    }

    /// An item's time to live in seconds; 0 is for ever.
    #[must_use]
    pub fn ttl_seconds(&self, item: Item) -> u32 {
        item.told.map_or_else(|| self.ttl.seconds(item.id), |(_, ttl_seconds)| ttl_seconds)
    }

    /// The longest value.
    #[must_use]
    pub fn value_bytes_max(&self) -> usize {
        let recorded = self.trace.iter().flat_map(|trace| trace.records());
        let recorded = recorded.map(|record| u64::from(record.value_bytes)).max();
        let bytes = recorded.unwrap_or_else(|| self.value_bytes.max());
        usize::try_from(bytes).expect("a size of at most a gibibyte")
    }

    /// Whether any request changes what the server holds.
    #[must_use]
    pub fn writes(&self) -> bool {
        self.cache_aside || self.trace.is_some() || self.mix.writes()
    }

    /// Key and value together, on average over the keys.
    #[must_use]
    pub fn item_bytes_mean(&self) -> f64 {
        let key_bytes = match &self.keys {
            Keys::Made { bytes } => bytes.mean(),
            Keys::Listed(trace) => trace.key_bytes_mean(),
        };
        key_bytes + self.value_bytes.mean()
    }
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            mix: Mix::only(Operation::Get),
            key_count: 100_000,
            keys: Keys::Made { bytes: Size::Fixed(16.0) },
            value_bytes: Size::Fixed(100.0),
            ttl: Ttl::none(),
            zipf: 0.0,
            one_hit: 0.0,
            drift: 0.0,
            keys_per_get: 1,
            cache_aside: false,
            seed: 1,
            values: Values::Truthful,
            trace: None,
        }
    }
}

/// Keeps a value's size apart from everything else that follows from its key's number.
const VALUE_SIZE_SALT: u64 = 0x7661_6C00;
