//! What each command means, once, whatever the dialect it came in.
//!
//! Everything that depends on what a key holds is done in the same way: look, decide, prepare the
//! new item aside, and publish it on condition that the key still holds what was seen; where it
//! does not, look again.

mod authentication;
mod change;
mod manage;
mod observe;
mod report;
mod retrieval;
mod storage;
mod stream;

pub use self::authentication::authenticate;
pub use self::change::{count, delete, touch};
pub use self::manage::manage;
pub use self::observe::Observer;
pub use self::retrieval::{Hit, Value, fetch, fetch_each, inspect, retrieve};
pub use self::storage::{admit, item_bytes, no_memory, receive, store};
pub use self::stream::{Progress, Stream};

use crate::clock::Seconds;
use crate::protocol::{Encode, Fault, Outcome, Request, expiry};
use crate::shared::Shared;
use crate::stats::{Count, Counters};
use crate::store::{Batch, Draft, Expected, OutOfMemory, State};
use crate::watch::CloseReason;

/// What commands work with, for the time between two waits.
#[derive(Debug)]
pub struct Context<'w> {
    /// What all threads share.
    pub shared: &'w Shared,
    /// This worker's counts.
    pub counters: &'w Counters,
    /// The store, at one moment.
    pub batch: Batch<'w>,
    /// Who looks on.
    pub observer: Observer<'w>,
}

/// What becomes of the connection after a request.
#[derive(Debug)]
pub enum Then {
    /// The next request.
    Continue,
    /// The rest of the reply, then the next request.
    Stream(Stream),
    /// It ends, when what was written so far is sent.
    Close(CloseReason),
}

/// Carries out a request that is complete in itself: neither keys nor a value follow it.
///
/// # Panics
/// If it is one of [`Request::Retrieve`], [`Request::Store`] and [`Request::Manage`], which have
/// [`retrieve`], [`store`] and [`manage`](manage()).
pub fn execute(context: &mut Context<'_>, request: Request<'_>, encoder: &mut impl Encode) -> Then {
    let result = match request {
        Request::Delete(deletion) => delete(context, &deletion),
        Request::Touch { key, exptime } => Ok(touch(context, key, exptime)),
        Request::Count(counting) => count(context, &counting),
        Request::Flush { exptime } => flush(context, exptime),
        Request::LimitMemory { megabytes } => limit_memory(context, megabytes),
        Request::Verbosity { level } => {
            context.shared.set_verbosity(level);
            Ok(Outcome::Ok)
        }
        Request::Noop => Ok(Outcome::Ok),
        Request::Version => {
            encoder.version();
            return Then::Continue;
        }
        Request::Stats { topic, arguments } => {
            let stream = report::report(context, topic, arguments, encoder);
            // The report may have switched figures on or off.
            context.observer = context.observer.renewed();
            return stream.map_or(Then::Continue, Then::Stream);
        }
        Request::Shutdown { manner } => match shutdown(context, manner) {
            Ok(()) => return Then::Close(CloseReason::Shutdown),
            Err(fault) => Err(fault),
        },
        Request::Quit => return Then::Close(CloseReason::Normal),
        Request::Retrieve(_) | Request::Store(_) | Request::Manage { .. } => {
            unreachable!("served elsewhere")
        }
    };
    match result {
        Ok(outcome) => encoder.outcome(outcome),
        Err(fault) => encoder.fault(fault),
    }
    Then::Continue
}

fn flush(context: &mut Context<'_>, exptime: Option<i64>) -> Result<Outcome, Fault> {
    context.counters.count(Count::CmdFlush);
    if !context.shared.config.flush_allowed {
        return Err(Fault::FlushNotAllowed);
    }
    let exptime = exptime.ok_or(Fault::InvalidExptime)?;
    let at = if exptime > 0 { expiry(exptime, context.batch.now()) } else { 0 };
    // A moment before it started is none to memcached, which then flushes nothing, nor what it was to
    // flush. Who means "in a month" and says 1970 by that loses nothing.
    let is_none =
        at != 0 && at < context.shared.clock.started_seconds().saturating_sub(START_AHEAD_SECONDS);
    context.batch.flush(if is_none { Seconds::MAX } else { at });
    Ok(Outcome::Ok)
}

fn limit_memory(context: &mut Context<'_>, megabytes: u32) -> Result<Outcome, Fault> {
    if megabytes < MEMORY_MEGABYTES_MIN {
        return Err(Fault::LimitTooSmall);
    }
    if megabytes > MEMORY_MEGABYTES_MAX {
        return Err(Fault::LimitInBytes);
    }
    let bytes = usize::try_from(u64::from(megabytes) << 20).map_err(|_| Fault::LimitOutOfBounds)?;
    match context.batch.set_memory_bytes(bytes) {
        Ok(()) => Ok(Outcome::Ok),
        Err(OutOfMemory) => Err(Fault::LimitOutOfBounds),
    }
}

fn shutdown(context: &Context<'_>, manner: &[u8]) -> Result<(), Fault> {
    if !context.shared.config.shutdown_allowed {
        return Err(Fault::ShutdownNotEnabled);
    }
    if !matches!(manner, b"" | b"graceful") {
        return Err(Fault::InvalidShutdownMode);
    }
    context.shared.request_shutdown();
    Ok(())
}

fn visible_cas(shared: &Shared, cas: u64) -> u64 {
    if shared.config.cas { cas } else { 0 }
}

/// Publishes a draft, or discards it if the key is not as expected. Gives the cas.
fn published(batch: &mut Batch<'_>, draft: Draft, expected: Expected) -> Option<u64> {
    match batch.publish(draft, expected) {
        Ok(cas) => Some(cas),
        Err(draft) => {
            batch.discard(draft);
            None
        }
    }
}

fn count_death(counters: &Counters, state: &State<'_>) {
    match state {
        State::Expired => counters.count(Count::GetExpired),
        State::Flushed => counters.count(Count::GetFlushed),
        State::Hit(_) | State::Missing => {}
    }
}

/// By so much memcached takes itself to have started earlier than it did.
const START_AHEAD_SECONDS: Seconds = 60;
/// Where all items are when one of memcached's size classes is asked for.
const CLASS: u32 = 1;
/// How many classes memcached can have.
const CLASSES: u32 = 64;
/// Less than this is no memory limit.
const MEMORY_MEGABYTES_MIN: u32 = 8;
/// More than this was meant in bytes.
const MEMORY_MEGABYTES_MAX: u32 = 1_000_000_000;
