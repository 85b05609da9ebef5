//! Bytes of a known number of which a part has arrived.

use crate::shared::Shared;
use std::fmt::{self, Debug, Formatter};

/// It grows with what arrives: to announce costs a client nothing.
pub(super) struct Partial {
    bytes: Vec<u8>,
    total_bytes: usize,
}

impl Partial {
    pub(super) fn new(arrived: &[u8], total_bytes: usize) -> Self {
        Self { bytes: arrived.to_vec(), total_bytes }
    }

    pub(super) fn missing_bytes(&self) -> usize {
        self.total_bytes - self.bytes.len()
    }

    /// Takes over what has arrived, if there is memory for it. There is never room for more than
    /// twice as much.
    pub(super) fn grow(&mut self, arrived: &[u8], shared: &Shared) -> bool {
        let bytes = self.bytes.len() + arrived.len();
        if bytes > self.bytes.capacity() {
            let capacity = bytes.saturating_mul(2).min(self.total_bytes);
            let additional_bytes = capacity - self.bytes.len();
            if !shared.may_buffer(additional_bytes)
                || self.bytes.try_reserve_exact(additional_bytes).is_err()
            {
                return false;
            }
        }
        self.bytes.extend_from_slice(arrived);
        true
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn capacity_bytes(&self) -> usize {
        self.bytes.capacity()
    }
}

/// Without the bytes, which may be somebody's password.
impl Debug for Partial {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Partial").finish_non_exhaustive()
    }
}
