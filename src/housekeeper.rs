//! The thread that keeps the store's house: it works while somebody waits for it, rests as long as
//! it works where nobody does, and otherwise looks in twice a second.

use crate::shared::Shared;
use crate::store::{Chores, Housekeeper};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Keeps house until `stopping`; whoever sets that unparks the thread.
pub(crate) fn run(shared: &Shared, stopping: &Arc<AtomicBool>) {
    let mut housekeeper = shared.store.housekeeper();
    shared.store.wake_for_chores(thread::current());
    while !stopping.load(Ordering::Acquire) {
        let before = shared.clock.uptime();
        match work(&mut housekeeper, shared) {
            Chores::Urgent => thread::yield_now(),
            Chores::Some => {
                let worked = shared.clock.uptime().saturating_sub(before);
                thread::park_timeout(worked.max(REST_MIN));
            }
            Chores::None => thread::park_timeout(PAUSE),
        }
    }
}

/// One step at a time: a worker that wants the processor waits for one step, not for many.
fn work(housekeeper: &mut Housekeeper, shared: &Shared) -> Chores {
    housekeeper.step(shared.clock.now_seconds())
}

/// Nothing is due more often than once a second.
const PAUSE: Duration = Duration::from_millis(500);

const REST_MIN: Duration = Duration::from_micros(50);
