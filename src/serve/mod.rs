//! Bytes in, bytes out: serves the requests in a piece of input, appending the replies to a piece
//! of output.
//!
//! There is no socket here and nothing waits. A request may begin in one piece of input and end in
//! a later one; what must be remembered in between is the client's [`Session`]. Only what cannot
//! be understood yet is left in the input, and that is never more than
//! [`LINE_BYTES_MAX`](crate::protocol::text::LINE_BYTES_MAX) bytes and a little: keys are looked up
//! as they come, a value is taken over into a buffer of its own, and what is to be ignored is
//! dropped at once.
//!
//! The first byte of a connection says which dialect it speaks, once and for all. What the dialects
//! have in common is here; each has a file of its own.

mod binary;
mod partial;
mod session;
mod text;

pub use self::session::Session;

use self::session::Phase;
use crate::command::Context;
use crate::output::Output;
use crate::protocol;
use crate::protocol::binary::REQUEST_MAGIC;
use crate::watch::CloseReason;

/// The limits within which [`serve`] stays.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests that may still be begun; it is counted down.
    pub requests: usize,
    /// Bytes of output above which nothing further is begun.
    pub output_bytes: usize,
}

/// How far [`serve`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// Bytes of the input that are done with.
    pub consumed: usize,
    /// Bytes behind those that are known to hold no line end.
    pub scanned: usize,
    /// Why it came no further.
    pub stop: Stop,
}

/// Why [`serve`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The rest of the input is not yet a request.
    Input,
    /// There is more input, but it is the turn of others.
    Turn,
    /// There is more input, but the output must be sent first.
    Output,
    /// The connection is to be closed when the output is sent.
    Close(CloseReason),
    /// The connection is to be given up: there is no memory for its replies.
    Fail,
}

impl Stop {
    /// The connection is to be closed, since nobody can tell what the client wants.
    const BROKEN: Self = Self::Close(CloseReason::Error);
}

/// Serves what is in `input`, whose first `scanned` bytes are known to hold no line end.
pub fn serve(
    context: &mut Context<'_>,
    session: &mut Session,
    input: &[u8],
    scanned: usize,
    output: &mut Output,
    limits: &mut Limits,
) -> Served {
    if let (Phase::Opening, Some(&first)) = (&session.phase, input.first()) {
        session.open(first);
    }
    let Session { phase, authenticated, failed_logins, .. } = session;
    let position = 0;
    let (output, loans) = output.parts();
    let start = output.len();
    let served = match phase {
        Phase::Opening => Served { consumed: 0, scanned: 0, stop: Stop::Input },
        Phase::Text(phase) => {
            let mut serving = text::Serving {
                context,
                phase,
                authenticated,
                failed_logins,
                input,
                position,
                scanned,
                first: position,
                output,
                loans,
            };
            let stop = serving.run(limits);
            Served { consumed: serving.position, scanned: serving.scanned, stop }
        }
        Phase::Binary(phase) => {
            let mut serving = binary::Serving {
                context,
                phase,
                authenticated,
                failed_logins,
                input,
                position,
                ahead: 0,
                output,
                loans,
            };
            let stop = serving.run(limits);
            Served { consumed: serving.position, scanned: 0, stop }
        }
    };
    if loans.take_overdrawn() {
        output.truncate(start);
        loans.retract(start);
        return Served { stop: Stop::Fail, ..served };
    }
    served
}

/// The key that the first request in `input` will probably ask for. A wrong guess is for the caller
/// to bear.
#[must_use]
pub fn first_key(input: &[u8]) -> Option<&[u8]> {
    if input.first() == Some(&REQUEST_MAGIC) {
        protocol::binary::keys_ahead(input).next()
    } else {
        protocol::text::first_key(input)
    }
}

#[cfg(test)]
mod tests;
