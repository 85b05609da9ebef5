//! Closes connections that have asked for nothing for too long (`-o idle_timeout`).
//!
//! Nothing is done per request: a task of the worker's looks at the time of each connection's last
//! input, which is kept anyway, as often as one could have become too old. It shuts the socket
//! down; the connection then finds that its client has left, and ends as it always does.
//!
//! As with memcached only TCP clients have to fear it: who uses a Unix socket is at home here, and
//! datagrams leave nothing behind that could be closed.

use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::sys::socket::{Shutdown, shutdown};
use tracing::debug;

use crate::clock::Seconds;
use crate::shared::{ConnectionRecord, ConnectionState};
use crate::stats::Count;
use crate::stream::Endpoint;
use crate::worker::Worker;

/// A connection, by its descriptor.
type Known = (RawFd, Arc<ConnectionRecord>);

/// Watches over the connections of `worker`, for ever.
pub(crate) async fn watch(worker: Rc<Worker>, timeout_seconds: Seconds) {
    loop {
        let records = worker.figures().records();
        let (idle, wait_seconds) = sort(&records, worker.now(), timeout_seconds);
        for (fd, record) in idle {
            debug!("fd {fd} is closed: idle for more than {timeout_seconds} s");
            record.kicked.store(true, Ordering::Relaxed);
            // The connection is of this thread, so the descriptor is still its own. Where its
            // client has left meanwhile there is nothing to shut down.
            if shutdown(*fd, Shutdown::Both).is_ok() {
                worker.figures().counters.count(Count::IdleKicks);
            }
        }
        tokio::time::sleep(Duration::from_secs(wait_seconds.into())).await;
    }
}

/// The TCP connections that wait for a request for more than `timeout_seconds`, and in how many
/// seconds there may be another one.
fn sort(records: &[Known], now: Seconds, timeout_seconds: Seconds) -> (Vec<&Known>, Seconds) {
    let mut idle = Vec::new();
    let mut longest_seconds = 0;
    for known in records {
        let (_, record) = known;
        if !matches!(record.peer, Endpoint::Tcp(_)) {
            continue;
        }
        if record.state.load(Ordering::Relaxed) != ConnectionState::Reading as u8 {
            continue;
        }
        let seconds = now.saturating_sub(record.last_request.load(Ordering::Relaxed));
        if seconds > timeout_seconds {
            idle.push(known);
        } else {
            longest_seconds = longest_seconds.max(seconds);
        }
    }
    (idle, (timeout_seconds - longest_seconds).saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, SocketAddr};

    fn record(last_request: Seconds, state: ConnectionState) -> Arc<ConnectionRecord> {
        record_of(Endpoint::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 1))), last_request, state)
    }

    fn record_of(
        peer: Endpoint,
        last_request: Seconds,
        state: ConnectionState,
    ) -> Arc<ConnectionRecord> {
        let record = ConnectionRecord::new(peer, Endpoint::Unnamed, last_request);
        record.state.store(state as u8, Ordering::Relaxed);
        Arc::new(record)
    }

    fn sorted(records: &[Known], now: Seconds, timeout_seconds: Seconds) -> (Vec<RawFd>, Seconds) {
        let (idle, wait_seconds) = sort(records, now, timeout_seconds);
        (idle.iter().map(|(fd, _)| *fd).collect(), wait_seconds)
    }

    #[test]
    fn those_that_wait_too_long_go_and_the_next_one_says_when_to_look_again() {
        use ConnectionState::{Reading, ReadingValue, Writing};
        let records = [
            (3, record(900, Reading)),
            (4, record(989, Reading)),
            (5, record(990, Reading)),
            (6, record(996, Reading)),
            (7, record(900, ReadingValue)),
            (8, record(900, Writing)),
        ];
        assert_eq!(sorted(&records, 1000, 10), (vec![3, 4], 1));
        assert_eq!(sorted(&records[3..], 1000, 10), (vec![], 7));
        assert_eq!(sorted(&[], 1000, 10), (vec![], 11));
        assert_eq!(sorted(&[], 1000, Seconds::MAX), (vec![], Seconds::MAX));
    }

    #[test]
    fn who_comes_by_a_unix_socket_is_never_idle() {
        let records = [(3, record_of(Endpoint::Unnamed, 900, ConnectionState::Reading))];
        assert_eq!(sorted(&records, 1000, 10), (vec![], 11));
    }

    #[test]
    fn a_clock_behind_a_connection_makes_nobody_idle() {
        let records = [(3, record(1001, ConnectionState::Reading))];
        assert_eq!(sorted(&records, 1000, 0), (vec![], 1));
    }
}
