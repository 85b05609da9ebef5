//! The log: stderr, one line per event, never a key or a value.
//!
//! Without `-v` it carries warnings and what [`BANNER`] announces. The level can change while the
//! server runs; a level that is off costs a hot path one load, because the change goes through
//! tracing's own cache of what is wanted.

use std::io;
use std::sync::OnceLock;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

/// Events under this target are shown at every verbosity: what the server is, holds and listens on.
pub const BANNER: &str = "larder::banner";

/// Starts the log. Later calls only set the verbosity.
pub fn start(verbosity: u32) {
    let (filter, handle) = reload::Layer::new(filter(verbosity));
    // A full disk behind stderr must not end the server, so nothing is said about a line that could
    // not be written.
    let lines = fmt::layer().with_target(false).log_internal_errors(false).with_writer(io::stderr);
    match Registry::default().with(lines.with_filter(filter)).try_init() {
        Ok(()) => drop(FILTER.set(handle)),
        Err(_already_started) => set_verbosity(verbosity),
    }
}

/// Shows what that many `-v` show: 0 warnings, 1 events, 2 and above connections, too. Does
/// nothing before [`start`].
pub fn set_verbosity(verbosity: u32) {
    if let Some(handle) = FILTER.get() {
        // It fails only where the subscriber is gone, and then nobody is listening.
        let _ = handle.reload(filter(verbosity));
    }
}

fn filter(verbosity: u32) -> Targets {
    let level = match verbosity {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    Targets::new()
        .with_target("larder", level)
        .with_target(BANNER, level.max(LevelFilter::INFO))
        .with_default(LevelFilter::WARN)
}

static FILTER: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn each_v_shows_one_level_more() {
        let shown = |verbosity: u32, level: Level| filter(verbosity).would_enable("larder", &level);
        let levels = [Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
        for (verbosity, count) in [(0, 1), (1, 2), (2, 3), (3, 4), (u32::MAX, 4)] {
            let visible = levels.iter().filter(|level| shown(verbosity, **level)).count();
            assert_eq!(visible, count, "-v x {verbosity}");
        }
    }

    #[test]
    fn the_banner_is_always_shown() {
        assert!(filter(0).would_enable(BANNER, &Level::INFO));
        assert!(!filter(0).would_enable(BANNER, &Level::DEBUG));
        assert!(!filter(2).would_enable("tokio", &Level::INFO));
    }
}
