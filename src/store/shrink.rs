//! Following a memory limit that shrinks, step by step: segments are evicted or given back, and the
//! tables of the index made smaller as they empty. Both must go together, for what one of them keeps
//! is missing to the other.

use super::OutOfMemory;
use super::reclaim::{Foreground, Obstacle};
use crate::sync::{lock, yield_now};

/// Which of the index's shards have been looked at since the limit shrank.
#[derive(Debug, Default)]
pub(super) struct Shrinking {
    next: usize,
    left: usize,
}

impl Foreground<'_> {
    /// Takes a step towards a limit that shrank. Returns `false` if there is nothing left to do.
    pub(super) fn approach_limit(&mut self) -> bool {
        let is_beyond = self.store.space.approach_limit();
        if is_beyond {
            let _as_far_as_it_goes = self.shrink_to_limit();
            lock(&self.store.shrinking).left = self.store.index.shards();
        }
        self.shrink_tables() || is_beyond
    }

    /// Looks at the tables of some shards. Returns `false` if all were looked at.
    fn shrink_tables(&self) -> bool {
        let mut shrinking = lock(&self.store.shrinking);
        if shrinking.left == 0 {
            return false;
        }
        for _ in 0..TABLES_PER_STEP.min(shrinking.left) {
            if let Some(resized) = self.store.index.shrink_shard(shrinking.next, self.guard) {
                self.store.space.index_resized(resized);
            }
            shrinking.next = (shrinking.next + 1) % self.store.index.shards();
            shrinking.left -= 1;
        }
        true
    }

    /// Clears segments until those in use are within the limit, or will be when their readers have
    /// gone.
    ///
    /// # Errors
    /// Nothing more can be cleared.
    fn shrink_to_limit(&mut self) -> Result<(), OutOfMemory> {
        while self.store.space.is_beyond_limit() {
            let mut mover = lock(&self.store.mover);
            let cleared = self.clear_to_the_end(mover.owes_room(&self.store.space), &mut mover);
            drop(mover);
            self.let_readers_go();
            match cleared {
                Ok(()) => {}
                Err(Obstacle::Readers) => yield_now(),
                Err(Obstacle::OutOfMemory) => return Err(OutOfMemory),
            }
        }
        Ok(())
    }
}

/// Some tens of microseconds each, where there is something to gain.
const TABLES_PER_STEP: usize = 8;
