//! Flushes: everything that was published before a moment dies at once, untouched where it lies.
//! The moment is a version, so that whatever is published is on one side of it.

use super::{Batch, Store};
use crate::clock::Seconds;
use crate::sync::{Ordering, lock};

impl Batch<'_> {
    /// Kills everything that was published before this call: at once if `at` is 0 or not later than
    /// now, else when the second `at` begins. The newest call replaces a pending one.
    pub fn flush(&mut self, at: Seconds) {
        let _flushing = lock(&self.store().flushing);
        if at <= self.now {
            self.store().flush_now();
        } else {
            self.store().flush_at.store(at, Ordering::Release);
            if let Some(file) = &self.store().file {
                file.note_pending_flush(at);
            }
        }
    }
}

impl Store {
    /// Carries out the pending flush if its time has come.
    pub(super) fn flush_if_due(&self, now: Seconds) {
        let is_due = || {
            let at = self.flush_at.load(Ordering::Acquire);
            at != 0 && at <= now
        };
        if is_due() {
            // Only the first to come flushes: what is stored after it did survives.
            let _flushing = lock(&self.flushing);
            if is_due() {
                self.flush_now();
            }
        }
    }

    fn flush_now(&self) {
        *lock(&self.flushable) = self.held().flushable();
        // Whoever publishes on a condition takes a version first and then looks whether what it saw
        // was flushed. When no version was taken since the flush could be seen, everybody is on one
        // side of it: published before it and dead, or bound to see it.
        let mut sequence = self.versions.0.last();
        loop {
            self.flushed.fetch_max(sequence, Ordering::SeqCst);
            let now = self.versions.0.last();
            if now == sequence {
                break;
            }
            sequence = now;
        }
        self.space.note_flush();
        self.flush_at.store(0, Ordering::Release);
        if let Some(file) = &self.file {
            file.note_flush(self.flushed.load(Ordering::SeqCst));
        }
    }
}
