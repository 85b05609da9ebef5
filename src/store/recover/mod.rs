//! A store that is found again in its file: after an orderly stop or a kill, under the same limit
//! or another.
//!
//! ```text
//! scan.rs     every segment, all processors: what is sound, and what of it lives
//! (here)      what fits the limit
//! chains.rs   which items of several entries are whole
//! rebuild.rs  the index, all processors
//! ```
//!
//! What is not taken over is marked so in the file at once: nothing that was dropped by one start
//! comes back in the next.
//!
//! # Why nothing wrong comes back
//!
//! A version is given once, for the file has the ceiling raised before the first item above it is
//! made. An item counts if it is not marked dead, which is the last thing that is done to a draft
//! before it gets its slot in the index; what it replaces is marked dead after that, before the
//! key's lock is released and hence before any reply of the one who stored it. A kill in between
//! leaves both, and the newer one counts if its time is not over by then. A removed or evicted item
//! is marked in the same way. A segment that is used again says that it is empty before anything in
//! it is written over. (The marks of the dead change after an item was written, so no checksum
//! covers them: what turns one of these bits in the file brings an item back.)

mod chains;
mod rebuild;
mod scan;

use self::scan::{Horizon, Scanned, Survivors};
use super::arena::{Arena, Location, SegmentId};
use super::file::{Contents, MemoryFile, State};
use super::index::Index;
use super::item;
use super::segment::{Restored, Space, beyond, map_with_growth};
use super::{Options, Store};
use crate::clock::Seconds;
use std::collections::HashSet;
use std::io;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

/// Where a store lives on.
#[derive(Clone, Debug)]
pub struct MemoryFileOptions {
    /// The file. It is created where there is none.
    pub path: PathBuf,
    /// What has not been used for longer is not taken over.
    pub discard_older_than_seconds: Option<Seconds>,
}

/// What a store found in its file.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    /// Nothing was there.
    pub is_new: bool,
    /// Why nothing of what was there was taken over, if so.
    pub discarded: Option<String>,
    /// Items taken over.
    pub items: u64,
    /// What they take in the arena.
    pub items_bytes: u64,
    /// Items whose time was over, or that were flushed.
    pub over: u64,
    /// Items for which the limit has no room now.
    pub evicted: u64,
    /// Items of which something was missing.
    pub incomplete: u64,
    /// Segments that were not as they were written.
    pub segments_damaged: u64,
}

impl Store {
    /// A store that lives in a file: it begins with what is there, and leaves what it has to the
    /// next. `now` is the second in which it begins.
    ///
    /// # Errors
    /// The file is in use, another user's, or something else than a store; the system refuses; or
    /// the dimensions are out of range. Text and kind say which.
    pub fn open(
        options: &Options,
        file: &MemoryFileOptions,
        now: Seconds,
    ) -> io::Result<Arc<Self>> {
        options.check()?;
        let opened = MemoryFile::open(&file.path)
            .and_then(|(memory, contents)| begin(options, file, memory, contents, now));
        opened.map_err(|error| {
            let path = file.path.display();
            io::Error::other(format!("memory file \"{path}\": {error}"))
        })
    }

    /// What the store found in its file, if it has one.
    #[must_use]
    pub fn recovery(&self) -> Option<&Recovery> {
        self.recovery.as_ref()
    }

    /// Ends the use of the store, after which nobody stores anything: what is in its file will
    /// outlast the machine. Does nothing where there is no file, or the second time.
    ///
    /// # Errors
    /// The system cannot write it.
    pub fn close(&self) -> io::Result<()> {
        match &self.file {
            Some(file) if !file.state().is_stopped => file.stop(),
            _ => Ok(()),
        }
    }
}

fn begin(
    options: &Options,
    file: &MemoryFileOptions,
    memory: MemoryFile,
    contents: Contents,
    now: Seconds,
) -> io::Result<Arc<Store>> {
    let found = match contents {
        Contents::New => Err(None),
        Contents::Unusable { reason, .. } => Err(Some(reason)),
        Contents::Store { state, segment_shift, segments } => {
            let discard_older_than = file.discard_older_than_seconds.unwrap_or(Seconds::MAX);
            let age = now.saturating_sub(state.last_used);
            if age > discard_older_than {
                Err(Some(format!("it was not used for {age} seconds")))
            } else if !options.suits(segment_shift) {
                Err(Some("its segments do not suit this memory limit".to_owned()))
            } else {
                Ok((state, segment_shift, segments))
            }
        }
    };
    match found {
        Ok((state, segment_shift, segments)) => {
            memory.resume(u64::from(segments) << segment_shift, now)?;
            let options = Options { segment_bytes: 1 << segment_shift, ..options.clone() };
            recover(&options, memory, &state, segments, now)
        }
        Err(discarded) => {
            memory.clear(options.segment_bytes.ilog2(), now)?;
            let (space, index) = space_and_index(options, &memory, 0)?;
            let recovery =
                Recovery { is_new: discarded.is_none(), discarded, ..Recovery::default() };
            Ok(Arc::new(Store::assemble(options, index, space, Some((memory, recovery)))))
        }
    }
}

fn recover(
    options: &Options,
    memory: MemoryFile,
    state: &State,
    in_file: u32,
    now: Seconds,
) -> io::Result<Arc<Store>> {
    let (space, mut index) = space_and_index(options, &memory, in_file)?;
    let arena = &space.arena;
    let over_at = now.max(state.last_used);
    let horizon = Horizon { ceiling: state.ceiling, flushed: state.flushed, over_at };
    let mut recovery = Recovery::default();
    let mut survivors = Vec::new();
    // SAFETY: the segments lie in the file, which is locked, and each is looked at by one thread.
    for scanned in in_parallel(in_file, |segment| unsafe { scan::scan(arena, segment, &horizon) }) {
        match scanned {
            Scanned::Free => {}
            Scanned::Damaged => recovery.segments_damaged += 1,
            Scanned::Sound(found) => survivors.push(found),
        }
    }
    recovery.over = survivors.iter().map(|found| found.over).sum();
    survivors.retain(|found| found.live_bytes > 0);
    let before = survivors.len();
    recovery.evicted = drop_beyond_limit(&space, &mut survivors);
    let incomplete = settle_chains(arena, &mut survivors);
    // What went for room may have been part of these.
    let went_for_room = survivors.len() < before;
    let reason = if went_for_room { &mut recovery.evicted } else { &mut recovery.incomplete };
    *reason += incomplete;
    let items: u64 = survivors.iter().map(|found| found.items).sum();
    let restored: Vec<Restored> = survivors.iter().map(Survivors::restored).collect();
    for found in &survivors {
        space.count_live(found.segment, found.live_bytes);
    }
    index.expect_items(items);
    let segments = u32::try_from(restored.len()).expect("they have numbers");
    let added = in_parallel(segments, |number| {
        // SAFETY: the segment was scanned, what is alive in it is whole by now, and the index is
        // the one that goes with the space.
        unsafe { rebuild::index_segment(&index, &space, &restored[number as usize]) }
    });
    recovery.items = u64::try_from(added.iter().sum::<i64>()).unwrap_or(0);
    recovery.items_bytes = space.restore(&restored, in_file);
    // What was over is marked dead by now.
    memory.begin_at(now);
    let store = Store::assemble(options, index, space, Some((memory, recovery)));
    store.flush_if_due(now);
    Ok(Arc::new(store))
}

/// A space for a file, in which so many segments are found, and an empty index.
fn space_and_index(
    options: &Options,
    memory: &MemoryFile,
    in_file: u32,
) -> io::Result<(Space, Index)> {
    let segment_shift = options.segment_bytes.ilog2();
    if !memory.backing().allocate(0, SEGMENTS_FIRST * options.segment_bytes) {
        return Err(io::Error::new(io::ErrorKind::StorageFull, "there is no room for it"));
    }
    let (arena, index) = map_with_growth(|growth| {
        let segments = Space::segments_of(options.memory_bytes, segment_shift, growth)?;
        let index_bytes_max = options.memory_bytes.saturating_mul(growth);
        let arena = Arena::of_file(memory.backing(), segments.max(in_file), segment_shift)?;
        Ok((arena, Index::new(options.shards_log2, index_bytes_max)?))
    })?;
    let fixed_bytes = Index::fixed_bytes(options.shards_log2);
    Ok((Space::new(arena, options.memory_bytes, fixed_bytes), index))
}

/// Lets go of segments, in the order of eviction, until what is left fits the limit together with
/// the index of its items. Returns how many items went.
fn drop_beyond_limit(space: &Space, survivors: &mut Vec<Survivors>) -> u64 {
    let items = |survivors: &[Survivors]| survivors.iter().map(|found| found.items).sum::<u64>();
    let before = items(survivors);
    let items_per_segment = usize::try_from(before).expect("64-bit") / survivors.len().max(1);
    let fit = space.segments_fit(items_per_segment * INDEX_BYTES_PER_ITEM);
    let restored: Vec<Restored> = survivors.iter().map(Survivors::restored).collect();
    let gone: HashSet<SegmentId> = beyond(&restored, fit).into_iter().collect();
    survivors.retain(|found| !gone.contains(&found.segment));
    before - items(survivors)
}

/// Drops what is left of items of which something is missing. Returns how many there were.
fn settle_chains(arena: &Arena, survivors: &mut [Survivors]) -> u64 {
    let take = |part: fn(&mut Survivors) -> &mut Vec<Location>, from: &mut [Survivors]| {
        from.iter_mut().flat_map(|found| std::mem::take(part(found))).collect::<Vec<_>>()
    };
    let mut heads = take(|found| &mut found.heads, survivors);
    let fragments = take(|found| &mut found.fragments, survivors);
    // SAFETY: the scan found them, and nobody knows of them yet.
    let dropped = unsafe { chains::settle(arena, &mut heads, fragments) };
    let heads: HashSet<Location> = heads.into_iter().collect();
    let mut incomplete = 0;
    for at in dropped {
        let segment = arena.segment_of(at);
        let place = survivors.binary_search_by_key(&segment, |found| found.segment);
        let found = &mut survivors[place.expect("it is of one of these")];
        // SAFETY: the scan found it, dead or alive.
        let entry = unsafe {
            item::checked_entry(arena, at, found.end - arena.offset_of(at)).expect("it was found")
        };
        found.live_bytes -= entry.bytes;
        let is_head = u64::from(heads.contains(&at));
        found.items -= is_head;
        incomplete += is_head;
    }
    incomplete
}

impl Survivors {
    fn restored(&self) -> Restored {
        let Self { segment, label, end, first_expiry, .. } = *self;
        Restored { segment, label, end, first_expiry }
    }
}

/// Does a piece of work for each number below `count`, on all processors. The results come in the
/// order of the numbers.
fn in_parallel<T: Send>(count: u32, work: impl Fn(u32) -> T + Sync) -> Vec<T> {
    let next = AtomicU32::new(0);
    let run = || {
        let numbers = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
        numbers.take_while(|&number| number < count).map(|number| (number, work(number))).collect()
    };
    let mut done: Vec<(u32, T)> = thread::scope(|scope| {
        let helpers = thread::available_parallelism().map_or(1, NonZero::get) - 1;
        // Where the system gives no thread, the others do its part.
        let helpers: Vec<_> = (0..helpers)
            .filter_map(|_| thread::Builder::new().spawn_scoped(scope, run).ok())
            .collect();
        let mut done: Vec<_> = run();
        for helper in helpers {
            done.extend(helper.join().expect("it panics only where this thread would"));
        }
        done
    });
    done.sort_unstable_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

/// What the index takes for an item, at the least.
const INDEX_BYTES_PER_ITEM: usize = 11;

/// Without room for so many segments there is no store.
const SEGMENTS_FIRST: usize = 8;
