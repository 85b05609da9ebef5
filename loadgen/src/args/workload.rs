//! The part of the command line that says what is asked.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;

use crate::args::number::{bytes, not_negative, positive, share};
use crate::random::floor;
use crate::truth::value::Values;
use crate::workload::Workload;
use crate::workload::keys::{KEY_BYTES_MAX, Keys};
use crate::workload::operation::{Mix, Operation};
use crate::workload::preset::Preset;
use crate::workload::size::Size;
use crate::workload::trace::Trace;
use crate::workload::ttl::Ttl;

/// What is asked.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Workload")]
pub struct WorkloadArgs {
    /// A published workload: cluster1 to cluster54, meta-kvcache-reg, facebook-etc-2012, ..; every
    /// option given besides overrides its figure
    #[arg(long, value_name = "NAME")]
    pub preset: Option<Preset>,
    /// Operations in proportion: get gets set add append prepend cas incr touch delete [default:
    /// get]
    #[arg(long, value_name = "OP:WEIGHT,..")]
    pub mix: Option<Mix>,
    /// Distinct keys [default: 100000]
    #[arg(long, value_name = "N")]
    pub keys: Option<NonZeroU64>,
    /// As many keys as, with their values, take that many bytes; k, m and g are 1024s
    #[arg(long, value_name = "BYTES", conflicts_with = "keys", value_parser = bytes)]
    pub working_set: Option<u64>,
    /// Length of a key, a property of each: BYTES or a distribution as for --value-bytes [default:
    /// 16]
    #[arg(long, value_name = "SIZE")]
    pub key_bytes: Option<Size>,
    /// Length of a value, a property of each key: BYTES, uniform:LOW,HIGH, lognormal:MEAN,SIGMA,
    /// pareto:LOCATION,SCALE,SHAPE, gev:.., quantiles:P=BYTES,.. or etc [default: 100]
    #[arg(long, value_name = "SIZE")]
    pub value_bytes: Option<Size>,
    /// Exponent of the keys' popularity; 0 makes all alike [default: 0]
    #[arg(long, value_name = "ALPHA", value_parser = not_negative)]
    pub zipf: Option<f64>,
    /// Share of the keys asked for that are never asked for again [default: 0]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub one_hit: Option<f64>,
    /// Share of the keys that a million requests replace by new ones of the same popularity; a
    /// preset has the one that makes the published share of its requests ask for a new key
    /// [default: 0]
    #[arg(long, value_name = "SHARE", value_parser = not_negative)]
    pub drift: Option<f64>,
    /// How long values live, a property of each key: TIME:WEIGHT,.. as in 60s:0.4,1h:0.6 [default:
    /// for ever]
    #[arg(long, value_name = "TTL")]
    pub ttl: Option<Ttl>,
    /// Keys in one get [default: 1]
    #[arg(long, value_name = "N")]
    pub keys_per_get: Option<NonZeroUsize>,
    /// Follow a miss by a set
    #[arg(long)]
    pub cache_aside: bool,
    /// Where the random sequences begin; the same seed asks the same, on every machine
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// What the values must be [default: truthful]
    #[arg(long, value_enum)]
    pub values: Option<Values>,
    /// Requests as recorded: csv of time, key, key size, value size, operation, time to live
    #[arg(long, value_name = "FILE", conflicts_with_all = DRAWN)]
    pub trace: Option<PathBuf>,
    /// How many times as fast as recorded [default: as fast as the server answers]
    #[arg(long, value_name = "FACTOR", requires = "trace", value_parser = positive)]
    pub trace_speed: Option<f64>,
}

impl WorkloadArgs {
    /// What is asked.
    ///
    /// # Errors
    ///
    /// When the trace cannot be read.
    pub fn workload(&self) -> Result<Workload, String> {
        let trace = self.trace()?;
        let preset = self.preset.as_ref();
        let default = Workload::default();
        let key_bytes = self.key_bytes.clone().or(preset.map(|preset| preset.key_bytes.clone()));
        if let Some(Size::Fixed(bytes)) = key_bytes
            && bytes > KEY_BYTES_MAX as f64
        {
            return Err(format!("a key has {KEY_BYTES_MAX} bytes at most"));
        }
        let keys = match &trace {
            Some(trace) => Keys::Listed(Arc::clone(trace)),
            None => key_bytes.map_or(default.keys, |bytes| Keys::Made { bytes }),
        };
        let given = |given: &Option<Size>, preset: Option<Size>| given.clone().or(preset);
        let value_bytes = given(&self.value_bytes, preset.map(|preset| preset.value_bytes.clone()));
        let mix = self.mix.clone().or(preset.map(|preset| preset.mix.clone()));
        let ttl = self.ttl.clone().or(preset.map(|preset| preset.ttl.clone()));
        let workload = Workload {
            mix: mix.unwrap_or_else(|| Mix::only(Operation::Get)),
            key_count: default.key_count,
            keys,
            value_bytes: value_bytes.unwrap_or(default.value_bytes),
            ttl: ttl.unwrap_or_else(Ttl::none),
            zipf: self.zipf.or(preset.map(|preset| preset.zipf)).unwrap_or(0.0),
            one_hit: self.one_hit.or(preset.map(|preset| preset.one_hit)).unwrap_or(0.0),
            drift: 0.0,
            keys_per_get: self.keys_per_get.map_or(1, NonZeroUsize::get),
            cache_aside: self.cache_aside,
            seed: self.seed,
            values: self.values.unwrap_or(Values::Truthful),
            trace,
        };
        let key_count = self.key_count(&workload);
        let drift = self.drift.or(preset.map(|preset| preset.drift(key_count))).unwrap_or(0.0);
        Ok(Workload { key_count, drift, ..workload })
    }

    fn key_count(&self, workload: &Workload) -> u64 {
        match (&workload.trace, self.keys, self.working_set) {
            (Some(trace), _, _) => trace.key_count(),
            (None, Some(keys), _) => keys.get(),
            (None, None, Some(bytes)) => floor(bytes as f64 / workload.item_bytes_mean()).max(1),
            (None, None, None) => workload.key_count,
        }
    }

    fn trace(&self) -> Result<Option<Arc<Trace>>, String> {
        let Some(path) = &self.trace else { return Ok(None) };
        let named = |error| format!("{}: {error}", path.display());
        let file = std::fs::File::open(path).map_err(named)?;
        let trace = Trace::read(std::io::BufReader::new(file)).map_err(named)?;
        Ok(Some(Arc::new(trace)))
    }
}

/// What a trace tells itself.
const DRAWN: [&str; 9] = [
    "preset",
    "mix",
    "keys",
    "working_set",
    "key_bytes",
    "zipf",
    "one_hit",
    "keys_per_get",
    "requests",
];
