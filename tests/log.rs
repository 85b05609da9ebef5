//! The log's level while the program runs, in a process of its own because the level is the
//! process's.

use larder::log;
use tracing::{Level, enabled};

#[test]
fn verbosity_changes_at_run_time() {
    // Before the start there is nothing to change.
    log::set_verbosity(3);
    assert!(!enabled!(target: "larder", Level::WARN));

    log::start(0);
    let shown = || {
        [
            enabled!(target: "larder", Level::WARN),
            enabled!(target: "larder::server", Level::INFO),
            enabled!(target: "larder", Level::DEBUG),
            enabled!(target: log::BANNER, Level::INFO),
        ]
    };
    assert_eq!(shown(), [true, false, false, true]);
    log::set_verbosity(2);
    assert_eq!(shown(), [true, true, true, true]);
    log::set_verbosity(1);
    assert_eq!(shown(), [true, true, false, true]);
    log::start(0);
    assert_eq!(shown(), [true, false, false, true]);
}
