//! The thread that keeps the store's house: it works while somebody waits for it, rests as long as
//! it works where nobody does, and otherwise looks in twice a second.

use crate::clock::{Clock, Seconds};
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
        take_turn(&mut housekeeper, &shared.clock, shared.clock.now_seconds());
    }
}

/// Works for a fraction of a millisecond, and rests as long as there is no hurry.
pub fn take_turn(housekeeper: &mut Housekeeper, clock: &Clock, now: Seconds) {
    let began = clock.uptime();
    loop {
        let chores = housekeeper.step(now);
        let worked = clock.uptime().saturating_sub(began);
        match chores {
            Chores::Urgent => return thread::yield_now(),
            Chores::Some if worked < TURN => {}
            Chores::Some => return thread::park_timeout(worked),
            Chores::None => return thread::park_timeout(PAUSE),
        }
    }
}

/// A worker that wants the processor waits no longer than this.
const TURN: Duration = Duration::from_micros(100);

/// Nothing is due more often than once a second.
const PAUSE: Duration = Duration::from_millis(500);
