//! How quiet a machine was: figures that were taken while others worked on it mislead.

use std::fs;
use std::io;
use std::time::Duration;

/// Processor time of the whole machine so far, in ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticks {
    busy: u64,
    idle: u64,
    /// Taken by other virtual machines.
    stolen: u64,
}

/// Shares of the machine's processor time, from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Noise {
    /// Spent on neither this program nor the server.
    pub others: f64,
    /// Taken by other virtual machines.
    pub stolen: f64,
}

impl Ticks {
    /// Up to now.
    ///
    /// # Errors
    ///
    /// When the system does not tell.
    pub fn now() -> io::Result<Self> {
        Ok(Self::parse(&fs::read_to_string("/proc/stat")?))
    }

    fn parse(text: &str) -> Self {
        let line = text.lines().next().unwrap_or_default();
        let field: Vec<u64> =
            line.split_whitespace().skip(1).map(|ticks| ticks.parse().unwrap_or(0)).collect();
        let at = |index: usize| field.get(index).copied().unwrap_or(0);
        Self { busy: at(0) + at(1) + at(2) + at(5) + at(6), idle: at(3) + at(4), stolen: at(7) }
    }

    /// Since `before`, when `ours` was spent by this program and the server.
    #[must_use]
    pub fn noise_since(self, before: Self, ours: Duration) -> Noise {
        let busy = self.busy.saturating_sub(before.busy) as f64;
        let idle = self.idle.saturating_sub(before.idle) as f64;
        let stolen = self.stolen.saturating_sub(before.stolen) as f64;
        let total = (busy + idle + stolen).max(1.0);
        let ours = ours.as_secs_f64() * TICKS_PER_SECOND;
        Noise { others: (busy - ours).max(0.0) / total, stolen: stolen / total }
    }
}

impl Noise {
    /// Whether figures of that time are to be taken with caution.
    #[must_use]
    pub fn is_loud(self) -> bool {
        self.others > OTHERS_MAX || self.stolen > STOLEN_MAX
    }
}

/// The machine in a line: processor, cores, kernel.
#[must_use]
pub fn describe() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{model}, {cores} cores, Linux {}", kernel.trim())
}

/// Of `/proc/stat`, on every Linux there is.
const TICKS_PER_SECOND: f64 = 100.0;
const OTHERS_MAX: f64 = 0.1;
const STOLEN_MAX: f64 = 0.02;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_took_is_what_is_left() {
        let before = Ticks::parse("cpu  100 0 100 1000 0 0 0 0 0 0\ncpu0 1 2 3\n");
        let after = Ticks::parse("cpu  150 0 140 1090 0 5 5 10 0 0\n");
        let noise = after.noise_since(before, Duration::from_millis(800));
        assert!((noise.others - 0.1).abs() < 1e-9 && (noise.stolen - 0.05).abs() < 1e-9);
        assert!(noise.is_loud());
        let quiet = after.noise_since(before, Duration::from_secs(1));
        assert!(quiet.others.abs() < 1e-9);
        assert!(Ticks::now().unwrap() != Ticks::default());
    }
}
