//! The rest of a request, its value, of which a part has arrived.

use crate::command::Context;
use crate::shared::Shared;
use crate::store::Incoming;
use std::fmt::{self, Debug, Formatter};

/// It grows with what arrives: to announce costs a client nothing. What is large is received where
/// it will lie in the store, as far as that is possible; the rest is kept here.
pub(super) struct Partial {
    /// What stands before the value, and what has arrived of it, with its end, and is not in its
    /// place.
    bytes: Vec<u8>,
    front_bytes: usize,
    missing_bytes: usize,
    incoming: Option<Incoming>,
    /// Whether it was tried to receive it in its place: it is tried once.
    is_settled: bool,
}

impl Partial {
    /// Of which `front` has arrived, and nothing of what follows.
    pub(super) fn new(front: &[u8], missing_bytes: usize) -> Self {
        Self {
            bytes: front.to_vec(),
            front_bytes: front.len(),
            missing_bytes,
            incoming: None,
            is_settled: false,
        }
    }

    pub(super) fn missing_bytes(&self) -> usize {
        self.missing_bytes
    }

    /// Takes over what has arrived, if there is memory for it. If it has become so much that it is
    /// worth it, `receive` is asked for a place for the value that this front announces.
    pub(super) fn grow(
        &mut self,
        arrived: &[u8],
        context: &mut Context<'_>,
        receive: impl FnOnce(&mut Context<'_>, &[u8]) -> Option<Incoming>,
    ) -> bool {
        let arrived_bytes = self.rest().len() + arrived.len();
        let value_bytes = self.rest().len() + self.missing_bytes;
        if !self.is_settled && context.shared.store.receives(value_bytes, arrived_bytes) {
            self.is_settled = true;
            self.incoming = receive(context, &self.bytes[..self.front_bytes]);
            if let Some(incoming) = &mut self.incoming {
                let kept = &self.bytes[self.front_bytes..];
                let placed = place(incoming, context, kept);
                self.bytes.drain(self.front_bytes..self.front_bytes + placed);
            }
        }
        let placed = match &mut self.incoming {
            Some(incoming) if self.bytes.len() == self.front_bytes => {
                place(incoming, context, arrived)
            }
            _ => 0,
        };
        self.missing_bytes -= placed;
        self.keep(&arrived[placed..], context.shared)
    }

    /// Where what comes next can be written to at once: its place in the store, if it has one. It
    /// is never all that is missing.
    pub(super) fn room(&mut self) -> Option<&mut [u8]> {
        let room = self.incoming.as_mut()?.room();
        let length = room.len().min(self.missing_bytes.saturating_sub(1));
        room.get_mut(..length).filter(|room| !room.is_empty())
    }

    /// Takes notice that so much was written there.
    pub(super) fn advance(&mut self, bytes: usize) {
        if let Some(incoming) = &mut self.incoming {
            incoming.advance(bytes);
            self.missing_bytes -= bytes;
        }
    }

    /// What stands before the value, with what of the value, and its end, is not in its place.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The two parts of [`Self::bytes`].
    pub(super) fn split(&self) -> (&[u8], &[u8]) {
        self.bytes.split_at(self.front_bytes)
    }

    /// What is in its place.
    pub(super) fn take_incoming(&mut self) -> Option<Incoming> {
        self.incoming.take()
    }

    pub(super) fn capacity_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Takes over what has arrived, if there is memory for it, into the buffer. There is never room
    /// for more than twice as much.
    pub(super) fn keep(&mut self, arrived: &[u8], shared: &Shared) -> bool {
        let bytes = self.bytes.len() + arrived.len();
        if bytes > self.bytes.capacity() {
            let total_bytes = self.bytes.len() + self.missing_bytes;
            let capacity = bytes.saturating_mul(2).min(total_bytes);
            let additional_bytes = capacity - self.bytes.len();
            if !shared.may_receive(self.bytes.capacity(), additional_bytes)
                || self.bytes.try_reserve_exact(additional_bytes).is_err()
            {
                return false;
            }
        }
        self.bytes.extend_from_slice(arrived);
        self.missing_bytes -= arrived.len();
        true
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.front_bytes..]
    }
}

/// Writes what has arrived to its place, as far as it has one. Returns how much.
fn place(incoming: &mut Incoming, context: &mut Context<'_>, arrived: &[u8]) -> usize {
    let mut placed = 0;
    while placed < arrived.len() {
        if incoming.room().is_empty() && !context.batch.make_room(incoming) {
            break;
        }
        let room = incoming.room();
        let bytes = room.len().min(arrived.len() - placed);
        room[..bytes].copy_from_slice(&arrived[placed..placed + bytes]);
        incoming.advance(bytes);
        placed += bytes;
    }
    placed
}

/// Without the bytes, which may be somebody's password.
impl Debug for Partial {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Partial").finish_non_exhaustive()
    }
}
