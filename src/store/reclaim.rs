//! Making room: which segment is cleared next, and what becomes of the items in it.
//!
//! While little of the memory is dead, the segment at the end of a queue is judged: what was used
//! goes on in the main queue, the rest is evicted (`policy.rs`). When more than a twelfth is dead
//! (overwritten, deleted), the segment with the most dead bytes is compacted instead: its live
//! entries move together with those of segments near it in its queue, and keep their place there.
//! While there is room for everybody, dead bytes drive nobody out, and an eighth of them is allowed
//! before anything is moved. Under `-M` nothing live is ever dropped, so compaction is all there
//! is. In all of them, items that have expired or were flushed are dropped.
//!
//! One thread clears at a time, and stops where it likes: what is being cleared, and how far, is
//! the [`Mover`]'s, who may be the next one. So a writer pays in small pieces, in proportion to
//! what it stores, while less than the reserve is free, which is when the housekeeper, who keeps a
//! little more, does not get along; it clears a whole segment only when there is none left.
//!
//! What was cleared is free when its readers have gone, and until then what was moved lies there
//! twice. When there is no more room for that, clearing waits for the readers: evicting instead
//! would make no room sooner, and hit items that were to stay.

use super::append::{Appender, Supply};
use super::arena::SegmentId;
use super::change::Change;
use super::index::{Hash, Stamp};
use super::item::{Entry, Item};
use super::policy::{self, Queue, Verdict};
use super::segment::{Clearing, Space, Survey};
use super::{Counters, OutOfMemory, PREFETCH_KEYS, Store};
use crate::clock::Seconds;
use crate::sync::{Ordering, lock, try_lock, yield_now};
use crossbeam_epoch::Guard;

/// A writer's supply of segments: free ones, or room made by clearing others.
pub(super) struct Foreground<'a> {
    pub(super) store: &'a Store,
    pub(super) guard: &'a mut Guard,
    pub(super) now: Seconds,
    pub(super) counters: &'a Counters,
}

/// The supply of whoever moves items out of a segment: free ones only, for clearing cannot wait for
/// clearing.
struct Moving<'a> {
    change: Change<'a>,
    queue: Queue,
    rank: Option<u64>,
}

/// What becomes of the live items of a segment that is cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Each is judged.
    Judged,
    /// All are kept, where they are in their queue.
    Compacted,
    /// All are evicted.
    Evicted,
}

/// Why clearing does not get on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// There is nothing to clear, or no room to move to.
    OutOfMemory,
    /// There will be room to move to when the readers of what is retired have gone.
    Readers,
}

/// What is being cleared, and the segments to which live items are moved. Whoever holds its lock is
/// the one who clears.
#[derive(Debug, Default)]
pub(super) struct Mover {
    clearing: Option<(Clearing, Fate)>,
    /// What was admitted to the main queue, or goes round it again.
    kept: Appender,
    /// What was compacted, of either queue.
    compacted_probation: Appender,
    compacted_main: Appender,
    /// Bytes that were moved, less so many times the room that this made.
    debt_bytes: usize,
    moved_bytes: usize,
    evicted_count: u64,
}

impl Mover {
    /// Whether so much was moved for so little room that it has to be made otherwise.
    pub(super) fn owes_room(&self, space: &Space) -> bool {
        self.debt_bytes > MOVES_MAX * space.capacity()
    }

    /// A segment of this length is cleared.
    fn settle_accounts(&mut self, used_bytes: usize) {
        let moved_bytes = std::mem::take(&mut self.moved_bytes);
        let gained_bytes = used_bytes.saturating_sub(moved_bytes);
        self.debt_bytes = (self.debt_bytes + moved_bytes).saturating_sub(MOVES_MAX * gained_bytes);
    }
}

impl Supply for Foreground<'_> {
    fn take(&mut self) -> Result<SegmentId, OutOfMemory> {
        let mut clearings: usize = 0;
        let mut waits = 0;
        loop {
            if let Some(segment) = self.store.space.take() {
                let space = &self.store.space;
                if space.spare() <= space.reserve() || space.wants_pages() {
                    self.store.wake_housekeeper();
                }
                return Ok(segment);
            }
            let (_, soon) = self.store.space.available();
            if soon == 0 {
                // With eviction there is an end of itself: when nothing is left to evict.
                if clearings == CLEARINGS_MAX && !self.store.evict {
                    return Err(OutOfMemory);
                }
                match self.clear_one(clearings >= MOVES_MAX) {
                    Ok(()) => clearings += 1,
                    Err(Obstacle::OutOfMemory) if !self.store.space.waits_for_readers() => {
                        return Err(OutOfMemory);
                    }
                    Err(_) => {}
                }
            }
            self.let_readers_go();
            waits += 1;
            if waits > WAITS_BEFORE_YIELD {
                yield_now();
            }
        }
    }

    fn retire(&mut self, segment: SegmentId) {
        self.change().retire(segment);
    }
}

impl Supply for Moving<'_> {
    fn take(&mut self) -> Result<SegmentId, OutOfMemory> {
        self.change.store.space.take_for_move(self.queue, self.rank).ok_or(OutOfMemory)
    }

    fn retire(&mut self, segment: SegmentId) {
        self.change.retire(segment);
    }
}

impl Foreground<'_> {
    /// Does a storing writer's part in keeping the reserve: clears a few times as many bytes as it
    /// stores, the more the fewer segments are free. Without eviction there is no reserve, for
    /// moving things about may not gain it.
    #[inline]
    pub(super) fn contribute(&mut self, stored_bytes: usize) {
        let space = &self.store.space;
        let shortage = space.reserve().saturating_sub(space.spare()) as usize;
        if shortage == 0 || !self.store.evict {
            return;
        }
        let Some(mut mover) = try_lock(&self.store.mover) else { return };
        let bytes = stored_bytes.saturating_mul(CLEARED_PER_STORED).saturating_mul(shortage);
        // If nothing can be cleared now, the next to need a segment will find out and say so.
        let bytes = bytes.min(CONTRIBUTION_MAX_BYTES);
        let _nothing_to_clear = self.clear_bytes(bytes, space.reserve(), &mut mover);
    }

    /// Clears about so many bytes if less is free than the reserve and a little more. Returns
    /// `false` if there is nothing to do.
    pub(super) fn refill_reserve(&self, bytes: usize) -> bool {
        let space = &self.store.space;
        let wanted = space.reserve() + AHEAD.min(space.segments_allowed() / AHEAD_PART);
        if !self.store.evict || space.spare() >= wanted {
            return false;
        }
        self.clear_bytes(bytes, wanted, &mut lock(&self.store.mover)).is_ok()
    }

    /// Clears about so many bytes of a segment if more is dead than should be. Returns `false` if
    /// there is nothing to do.
    pub(super) fn compact(&self, bytes: usize) -> bool {
        let mut mover = lock(&self.store.mover);
        if mover.clearing.is_none() {
            let survey = self.store.space.survey(self.now);
            let Some(segment) = self.to_compact(&survey, DEAD_PART_MAX, &mover) else {
                return false;
            };
            let clearing = self.store.space.start_clearing(segment);
            mover.clearing = clearing.map(|clearing| (clearing, Fate::Compacted));
        }
        let mut left = bytes;
        while left > 0 && mover.clearing.is_some() {
            let Ok(cleared) = self.clear_entry(&mut mover) else { return false };
            left = left.saturating_sub(cleared);
        }
        true
    }

    /// Removes items whose time is over, if it still is.
    pub(super) fn remove_dead(&self, items: &[(Hash, Item<'_>)]) {
        let mut hashes = [Hash::default(); PREFETCH_KEYS];
        for (place, (hash, _)) in hashes.iter_mut().zip(items) {
            *place = *hash;
        }
        let Store { index, space, .. } = self.store;
        index.prefetch(&hashes[..items.len()], &space.arena, self.guard);
        for &(hash, item) in items {
            if self.change().drop_dead(hash, item) {
                self.counters.swept.add(1);
                self.counters.expired_unfetched.add(u64::from(!item.is_fetched()));
            }
        }
    }

    /// Moves this writer to the present, so that the epoch can advance and what was retired become
    /// free.
    pub(super) fn let_readers_go(&mut self) {
        for _ in 0..EPOCHS_TO_FREE {
            self.guard.repin();
            self.guard.flush();
        }
    }

    /// Clears one segment, unless one is or will be available without it.
    fn clear_one(&mut self, stop_moving: bool) -> Result<(), Obstacle> {
        let mut mover = lock(&self.store.mover);
        if self.store.space.available().1 > 0 {
            return Ok(());
        }
        self.clear_to_the_end(stop_moving, &mut mover)
    }

    /// Clears one segment, or what is left of it.
    pub(super) fn clear_to_the_end(
        &self,
        stop_moving: bool,
        mover: &mut Mover,
    ) -> Result<(), Obstacle> {
        self.start(stop_moving, mover)?;
        while mover.clearing.is_some() {
            self.clear_entry(mover)?;
        }
        Ok(())
    }

    /// Clears until it has passed over so many bytes, or as many segments are spare as are wanted.
    fn clear_bytes(&self, bytes: usize, wanted: u32, mover: &mut Mover) -> Result<(), Obstacle> {
        let space = &self.store.space;
        let mut left = bytes;
        while left > 0 && space.spare() < wanted {
            self.start(mover.owes_room(space), mover)?;
            left = left.saturating_sub(self.clear_entry(mover)?.max(1));
        }
        Ok(())
    }

    /// Whether a large item's fragment takes most of a segment. There is nothing to gain by copying
    /// it.
    fn is_all_of_one(&self, clearing: &Clearing) -> bool {
        let mut walk = clearing.walk;
        self.store.space.next_live_entry(&mut walk, self.guard).is_some_and(|(entry, item)| {
            entry.at != item.location()
                && entry.bytes > clearing.walk.end / 2
                && self.store.is_live(&item, self.now)
        })
    }

    /// Chooses a segment to clear, if there is none that is being cleared. It may find one that
    /// stays as it is; then there is none yet.
    fn start(&self, stop_moving: bool, mover: &mut Mover) -> Result<(), Obstacle> {
        while mover.clearing.is_none() {
            let (segment, fate) = self.choose(stop_moving, mover).ok_or(Obstacle::OutOfMemory)?;
            let Some(clearing) = self.store.space.start_clearing(segment) else { continue };
            if fate == Fate::Judged && !stop_moving && self.is_all_of_one(&clearing) {
                mover.moved_bytes += clearing.walk.end;
                mover.settle_accounts(clearing.walk.end);
                if self.store.space.admit(&clearing) {
                    self.change().retire(clearing.walk.segment);
                }
                return Ok(());
            }
            mover.clearing = Some((clearing, fate));
        }
        if stop_moving
            && self.store.evict
            && let Some((_, fate)) = &mut mover.clearing
        {
            *fate = Fate::Evicted;
        }
        Ok(())
    }

    fn choose(&self, stop_moving: bool, mover: &Mover) -> Option<(SegmentId, Fate)> {
        let Store { space, evict, .. } = self.store;
        let survey = space.survey(self.now);
        if let Some(segment) = survey.flushed {
            return Some((segment, Fate::Compacted));
        }
        if !evict {
            return survey.deadest.or(survey.lapsed).map(|segment| (segment, Fate::Compacted));
        }
        if !stop_moving && let Some(segment) = self.to_compact(&survey, DEAD_PART_FULL, mover) {
            return Some((segment, Fate::Compacted));
        }
        space.next_in_line().map(|segment| (segment, Fate::Judged))
    }

    /// The segment to compact, if more than one byte in `part` is dead.
    fn to_compact(&self, survey: &Survey, part: u64, mover: &Mover) -> Option<SegmentId> {
        let space = &self.store.space;
        let deadest =
            survey.deadest.filter(|_| survey.dead_bytes > space.bytes_allowed() / part)?;
        let open = [&mover.compacted_probation, &mover.compacted_main].map(Appender::segment);
        Some(space.beside(open, deadest))
    }

    /// Takes the next entry out of the segment that is being cleared, or hands the segment to the
    /// epoch if there is none. Returns how many bytes it has passed over.
    fn clear_entry(&self, mover: &mut Mover) -> Result<usize, Obstacle> {
        let space = &self.store.space;
        let Some((mut clearing, fate)) = mover.clearing.take() else { return Ok(0) };
        let before = clearing.walk.offset;
        let Some((entry, item)) = space.next_live_entry(&mut clearing.walk, self.guard) else {
            space.retire_cleared(clearing.walk.segment);
            self.change().retire(clearing.walk.segment);
            mover.settle_accounts(clearing.walk.offset);
            return Ok(clearing.walk.offset - before);
        };
        if let Err(obstacle) = self.settle(&clearing, fate, &entry, item, mover) {
            if obstacle == Obstacle::Readers {
                // Whoever goes on begins with this entry.
                clearing.walk.offset = before;
                mover.clearing = Some((clearing, fate));
            } else if space.stop_clearing(&clearing) {
                self.change().retire(clearing.walk.segment);
            }
            return Err(obstacle);
        }
        mover.clearing = Some((clearing, fate));
        Ok(clearing.walk.offset - before)
    }

    /// Has an entry moved, or its item dropped.
    fn settle(
        &self,
        clearing: &Clearing,
        fate: Fate,
        entry: &Entry,
        item: Item<'_>,
        mover: &mut Mover,
    ) -> Result<(), Obstacle> {
        let change = self.change();
        let hash = self.store.index.hash(item.key());
        if !self.store.is_live(&item, self.now) && change.drop_dead(hash, item) {
            self.counters.reclaimed.add(1);
            self.counters.expired_unfetched.add(u64::from(!item.is_fetched()));
            return Ok(());
        }
        let Some(frequency) = self.store.index.frequency(hash, item.location(), self.guard) else {
            // Replaced a moment ago; its writer may not have marked it yet. Nobody must find its
            // way from a fragment to a head whose segment is retired.
            item.mark_dead();
            return Ok(());
        };
        let is_fragment = entry.at != item.location();
        let verdict = match fate {
            // What becomes of its head becomes of it.
            Fate::Judged if is_fragment => Verdict::Keep { frequency },
            Fate::Judged => policy::judge(clearing.queue, frequency),
            Fate::Compacted => Verdict::Keep { frequency },
            Fate::Evicted => Verdict::Forget,
        };
        if let Verdict::Keep { frequency } = verdict {
            let place = (fate == Fate::Compacted).then_some(clearing);
            match self.move_entry(entry, hash, item, frequency, place, mover) {
                Ok(()) => return Ok(()),
                // What has earned its place does not go because others still read.
                Err(OutOfMemory) if self.store.space.waits_for_readers() => {
                    return Err(Obstacle::Readers);
                }
                Err(OutOfMemory) if !self.store.evict => return Err(Obstacle::OutOfMemory),
                Err(OutOfMemory) => {}
            }
        }
        self.evict(hash, item, verdict == Verdict::Remember, mover);
        Ok(())
    }

    /// Moves an entry, to where it was in its queue or to the end of the main queue, unless its
    /// item is not its key's any more.
    fn move_entry(
        &self,
        entry: &Entry,
        hash: Hash,
        item: Item<'_>,
        frequency: u8,
        place: Option<&Clearing>,
        mover: &mut Mover,
    ) -> Result<(), OutOfMemory> {
        let space = &self.store.space;
        let (appender, queue) = match place.map(|clearing| clearing.queue) {
            None => (&mut mover.kept, Queue::Main),
            Some(Queue::Probation) => (&mut mover.compacted_probation, Queue::Probation),
            Some(Queue::Main) => (&mut mover.compacted_main, Queue::Main),
        };
        let rank = place.map(|clearing| clearing.rank);
        let mut supply = Moving { change: self.change(), queue, rank };
        let copy = appender.copy(space, entry, &mut supply)?;
        if self.change().move_entry(hash, item, entry, copy, frequency) {
            let is_head = entry.at == item.location();
            appender.finish_copy(space, copy, if is_head { item.expiry() } else { 0 });
            self.counters.moved.add(1);
            mover.moved_bytes += entry.bytes;
        } else {
            appender.take_back(space, copy);
            item.mark_dead();
        }
        Ok(())
    }

    fn evict(&self, hash: Hash, item: Item<'_>, leaves_ghost: bool, mover: &mut Mover) {
        let ghost = leaves_ghost.then(|| {
            mover.evicted_count += 1;
            self.store.evicted_count.0.store(mover.evicted_count, Ordering::Relaxed);
            Stamp::new(mover.evicted_count)
        });
        if self.change().drop_item(hash, item, ghost) {
            if let Some(listener) = self.store.eviction_listener.get() {
                listener.0(&item, self.now);
            }
            self.counters.evictions.add(1);
            self.counters.evicted_unfetched.add(u64::from(!item.is_fetched()));
        } else {
            item.mark_dead();
        }
    }

    fn change(&self) -> Change<'_> {
        Change { store: self.store, guard: self.guard, now: self.now, counters: self.counters }
    }
}

/// A retired segment is free two epochs later; a third round runs what the second made ready.
const EPOCHS_TO_FREE: usize = 3;

/// If more than one byte in this many is dead, the dead ones are gathered.
const DEAD_PART_MAX: u64 = 8;

/// The same where room is wanted. Half overwritten, a store misses 0.98 times as often as with an
/// eighth, at 1.7 times as many moves; with a sixteenth 0.98 times, too, at 2.3 times as many.
const DEAD_PART_FULL: u64 = 12;

/// So many segments are moved to make room of one; then eviction, whoever it hits.
const MOVES_MAX: usize = 16;

/// So many clearings without one free segment to show for them, then a store that may not evict
/// refuses.
const CLEARINGS_MAX: usize = 32;

/// How many segments the housekeeper keeps beyond the reserve, where there are many ...
const AHEAD: u32 = 2;
/// ... so many for each of them.
const AHEAD_PART: u32 = 64;

/// Rounds of waiting for readers before the processor is given to them.
const WAITS_BEFORE_YIELD: u32 = 2;

/// Bytes that a writer clears for each byte that it stores, and for each segment that the reserve
/// lacks.
const CLEARED_PER_STORED: usize = 4;

/// What one item's writer clears at most: some hundreds of small items.
const CONTRIBUTION_MAX_BYTES: usize = 32 << 10;
