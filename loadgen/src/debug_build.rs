//! Numbers from a debug build mislead; whoever prints some asks here first.

use crate::cost::stats;
use crate::engine::address::Address;

/// Says on stderr when this program or the server is a debug build. A server that does not tell
/// passes for a release build.
pub fn warn(server: &Address) {
    if cfg!(debug_assertions) {
        eprintln!("warning: the load generator is a debug build; its numbers mean nothing");
    }
    // larder tells; other servers answer with an error or with nothing of the kind.
    let told = stats::ask(server, "larder").unwrap_or_default();
    if told.get("build").is_some_and(|build| build == "debug") {
        eprintln!("warning: the server is a debug build; its numbers mean nothing");
    }
}
