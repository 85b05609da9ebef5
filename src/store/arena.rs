//! The arena: one mapping of memory, cut into segments of equal size.
//!
//! ```text
//! | segment 0                      | segment 1                      | ...
//! | header 64 | entry | entry | .. | header 64 | entry | ...        |
//! ```
//!
//! A segment begins with a header of one cache line that says, to a process that finds the mapping
//! again, what the segment holds. Entries (see `item.rs`) follow, 8-byte aligned, without gaps.
//! Memory that was never used costs nothing: the system gives pages on first touch, and takes them
//! back in [`Arena::release`].
//!
//! The mapping is anonymous, or that of a file behind its first page (`file.rs`). What was stored
//! in it is then in the file as soon as the processor has done it, whatever becomes of the process.
//! That is why the order of stores matters here and in `item.rs`, even where no other thread is
//! looking: a process may end between any two of them.

use super::file::Backing;
use memmap2::{Advice, MmapOptions, MmapRaw, UncheckedAdvice};
use std::hint::black_box;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// A position in the arena, in units of 8 bytes. 0 is the first segment's header and so never an
/// entry: it means "none".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Location(pub(super) u64);

/// The number of a segment, from 0.
pub(super) type SegmentId = u32;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Arena {
    map: MmapRaw,
    segment_shift: u32,
    segments: u32,
    backing: Option<Backing>,
}

/// What a segment's first cache line holds.
#[repr(C)]
struct SegmentHeader {
    /// [`SEGMENT_MAGIC`] while the segment holds entries.
    magic: AtomicU32,
    queue: AtomicU32,
    /// Counts segments in the order in which they were opened.
    opened: AtomicU64,
    rank: AtomicU64,
    /// Bytes of this header and of the entries behind it that are published or dead; in the upper
    /// half their checksum, where there is a file.
    progress: AtomicU64,
    /// Bytes of this header and of the entries behind it that are written, drafts among them; in
    /// the upper half the same, inverted.
    written: AtomicU64,
}

/// What a segment's header says of the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) opened: u64,
    pub(super) rank: u64,
    pub(super) is_main: bool,
}

impl Location {
    pub(super) const NONE: Self = Self(0);
}

impl Arena {
    /// Maps `segments` segments of `1 << segment_shift` bytes. This takes addresses; memory is
    /// taken by what is written.
    ///
    /// # Errors
    /// The system refuses the mapping.
    pub(super) fn new(segments: u32, segment_shift: u32) -> io::Result<Self> {
        // Of whole huge pages, for then the system has it begin with one.
        let bytes = ((segments as usize) << segment_shift).next_multiple_of(HUGE_PAGE_BYTES);
        let map = MmapOptions::new().len(bytes).no_reserve_swap().map_anon()?;
        // Items lie anywhere, so with small pages nearly every look at one would also miss the
        // translation cache. Segments are taken from the lowest up, so that huge pages fill one
        // after the other. Where the system has none, nothing changes.
        let _advice = map.advise(Advice::HugePage);
        Ok(Self { map: MmapRaw::from(map), segment_shift, segments, backing: None })
    }

    /// As [`Arena::new`], of a file's memory. The file grows as segments are
    /// [prepared](Arena::prepare).
    ///
    /// # Errors
    /// The system refuses the mapping.
    pub(super) fn of_file(backing: Backing, segments: u32, segment_shift: u32) -> io::Result<Self> {
        let map = backing.map((segments as usize) << segment_shift)?;
        let _advice = map.advise(Advice::HugePage);
        Ok(Self { map, segment_shift, segments, backing: Some(backing) })
    }

    /// Whether what is stored outlives the process.
    pub(super) fn is_kept(&self) -> bool {
        self.backing.is_some()
    }

    pub(super) fn segments(&self) -> u32 {
        self.segments
    }

    pub(super) fn segment_bytes(&self) -> usize {
        1 << self.segment_shift
    }

    /// Where byte `offset` of a segment lies. The offset is a multiple of 8.
    pub(super) fn location(&self, segment: SegmentId, offset: usize) -> Location {
        debug_assert!(offset.is_multiple_of(8) && offset < self.segment_bytes());
        Location((u64::from(segment) << (self.segment_shift - 3)) | (offset as u64 >> 3))
    }

    pub(super) fn segment_of(&self, at: Location) -> SegmentId {
        u32::try_from(at.0 >> (self.segment_shift - 3)).expect("a location lies in the arena")
    }

    pub(super) fn offset_of(&self, at: Location) -> usize {
        (usize::try_from(at.0).expect("64-bit") << 3) & (self.segment_bytes() - 1)
    }

    /// The address of a location.
    pub(super) fn pointer(&self, at: Location) -> *mut u8 {
        let offset = usize::try_from(at.0).expect("64-bit") << 3;
        assert!(offset < self.map.len(), "a location lies in the arena");
        self.map.as_mut_ptr().wrapping_add(offset)
    }

    /// The location whose [address](Self::pointer) this is.
    pub(super) fn location_at(&self, pointer: *const u8) -> Location {
        let offset = pointer.addr() - self.start().addr();
        debug_assert!(offset < self.map.len() && offset.is_multiple_of(8));
        Location(offset as u64 >> 3)
    }

    /// The address of the first segment.
    pub(super) fn start(&self) -> *mut u8 {
        self.map.as_mut_ptr()
    }

    /// How far from the [start](Self::start) bytes lie that lie in the arena.
    pub(super) fn offset_in_map(&self, bytes: &[u8]) -> usize {
        let offset = bytes.as_ptr().addr().wrapping_sub(self.start().addr());
        assert!(offset < self.map.len(), "they lie in the arena");
        offset
    }

    /// The segment that this offset from the start lies in.
    pub(super) fn segment_at(&self, offset: usize) -> SegmentId {
        u32::try_from(offset >> self.segment_shift).expect("an offset lies in the arena")
    }

    /// Has the processor fetch lines of an entry that will be looked at soon.
    pub(super) fn prefetch(&self, at: Location, lines: Range<usize>) {
        for line in lines {
            prefetch(self.pointer(at).wrapping_add(line * CACHE_LINE_BYTES));
        }
    }

    /// Gives a segment's pages back to the system; it reads as zeros afterwards.
    ///
    /// # Safety
    /// Nobody reads or writes the segment during the call, whoever [populates](Arena::populate) it
    /// aside, and no reference into it is alive.
    pub(super) unsafe fn release(&self, segment: SegmentId) {
        let offset = (segment as usize) << self.segment_shift;
        if let Some(backing) = &self.backing {
            return backing.punch(offset, self.segment_bytes());
        }
        // SAFETY: the range is whole pages within the mapping (segments are a power of two of at
        // least a page); the caller vouches that nobody is looking. Private anonymous memory reads
        // as zeros after this.
        let advised = unsafe {
            self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, offset, self.segment_bytes())
        };
        // Refused advice leaves the pages as they were: more memory than promised, nothing wrong in
        // it.
        drop(advised);
        // Else the system would before long fill the gap again, to make a huge page of what is
        // around it. (Each gap is a mapping of its own then, of which a process may have 65,530:
        // as many as a store of 128 GiB can come to if its limit is halved.)
        let _advice = self.map.advise_range(Advice::NoHugePage, offset, self.segment_bytes());
    }

    /// Has the system give a segment's pages now rather than at the first touch. Whatever is in
    /// it stays as it is.
    ///
    /// A huge page may take milliseconds. Advice would hold the lock of all the process's mappings
    /// for as long, for which every allocator waits that wants more memory; a touch does not. So
    /// the first page is touched, and advice given only for the rest, in pieces that are small
    /// where there are no huge pages.
    pub(super) fn populate(&self, segment: SegmentId) {
        let offset = (segment as usize) << self.segment_shift;
        match &self.backing {
            None => {
                // SAFETY: anonymous memory can be touched anywhere.
                let header = unsafe { self.header(segment) };
                // A zero that the compiler knew would be nothing to write.
                header.magic.fetch_or(black_box(0), Ordering::Relaxed);
            }
            Some(backing) if backing.allocate(offset, self.segment_bytes()) => {}
            Some(_) => return,
        }
        let piece_bytes = POPULATED_PIECE_BYTES.min(self.segment_bytes());
        for piece in (offset..offset + self.segment_bytes()).step_by(piece_bytes) {
            // A system that cannot do so gives them at the first touch.
            let _advice = self.map.advise_range(Advice::PopulateWrite, piece, piece_bytes);
        }
    }

    /// The first segment of which nothing is in a huge page with something of this one.
    pub(super) fn end_of_huge_page(&self, segment: SegmentId) -> SegmentId {
        let start = self.start().addr();
        let end = start + ((segment as usize + 1) << self.segment_shift);
        let bytes = end.next_multiple_of(HUGE_PAGE_BYTES) - start;
        let end = bytes.div_ceil(self.segment_bytes());
        u32::try_from(end).expect("little more than the arena").min(self.segments)
    }

    /// Prepares a segment for use that was released or never used. Returns `false` if its file has
    /// no room for it.
    pub(super) fn prepare(&self, segment: SegmentId) -> bool {
        let offset = (segment as usize) << self.segment_shift;
        if let Some(backing) = &self.backing {
            return backing.allocate(offset, self.segment_bytes());
        }
        let _advice = self.map.advise_range(Advice::HugePage, offset, self.segment_bytes());
        true
    }

    /// Whether a file holds nothing of a segment.
    pub(super) fn is_hole(&self, segment: SegmentId) -> bool {
        let offset = (segment as usize) << self.segment_shift;
        let backing = self.backing.as_ref();
        backing.is_some_and(|backing| backing.is_hole(offset, self.segment_bytes()))
    }

    /// Begins a segment. Whoever finds the file meanwhile finds no entries in it.
    ///
    /// # Safety
    /// The caller is the only one who writes this segment's header.
    pub(super) unsafe fn write_header(&self, segment: SegmentId, label: Label, checksum: u32) {
        // SAFETY: `prepare` has given the segment memory, or it has been used before.
        let header = unsafe { self.header(segment) };
        header.magic.store(0, Ordering::Release);
        header.opened.store(label.opened, Ordering::Release);
        self.set_place(segment, label.is_main, label.rank);
        self.set_written(segment, FIRST_ENTRY);
        header.progress.store(progress(FIRST_ENTRY, checksum), Ordering::Release);
        header.magic.store(SEGMENT_MAGIC, Ordering::Release);
    }

    /// Says that a segment holds nothing any more.
    ///
    /// # Safety
    /// The segment was opened, and the caller is the only one who writes its header.
    pub(super) unsafe fn clear_header(&self, segment: SegmentId) {
        // SAFETY: it was opened.
        unsafe { self.header(segment) }.magic.store(0, Ordering::Release);
    }

    /// What a segment's header says, if the segment holds entries.
    ///
    /// # Safety
    /// The segment's memory can be touched: it was opened, or lies in the file that was found.
    pub(super) unsafe fn label(&self, segment: SegmentId) -> Option<Label> {
        // SAFETY: the caller's promise.
        let header = unsafe { self.header(segment) };
        (header.magic.load(Ordering::Acquire) == SEGMENT_MAGIC).then(|| Label {
            opened: header.opened.load(Ordering::Relaxed),
            rank: header.rank.load(Ordering::Relaxed),
            is_main: header.queue.load(Ordering::Relaxed) & 1 != 0,
        })
    }

    /// Says in which queue an opened segment is, and where.
    pub(super) fn set_place(&self, segment: SegmentId, is_main: bool, rank: u64) {
        // SAFETY: only an opened segment has a place.
        let header = unsafe { self.header(segment) };
        header.queue.store(u32::from(is_main), Ordering::Relaxed);
        header.rank.store(rank, Ordering::Relaxed);
    }

    /// Says how many bytes of the segment, its header included, hold entries that are published or
    /// dead, and what their checksum is.
    ///
    /// # Safety
    /// Only a segment's owner says so, from its opening to its sealing.
    pub(super) unsafe fn set_progress(&self, segment: SegmentId, used_bytes: usize, sum: u32) {
        // SAFETY: the owner opened it.
        let header = unsafe { self.header(segment) };
        header.progress.store(progress(used_bytes, sum), Ordering::Release);
    }

    /// What its owner said last with [`Arena::set_progress`].
    ///
    /// # Safety
    /// The segment's memory can be touched, as for [`Arena::label`].
    pub(super) unsafe fn progress(&self, segment: SegmentId) -> (usize, u32) {
        // SAFETY: the caller's promise.
        let progress = unsafe { self.header(segment) }.progress.load(Ordering::Acquire);
        let (used_bytes, sum) = halves(progress);
        (used_bytes as usize, sum)
    }

    /// Says how many bytes of an open segment hold entries, drafts among them: less than before if
    /// one was taken back.
    pub(super) fn set_written(&self, segment: SegmentId, written_bytes: usize) {
        let written_bytes = u32::try_from(written_bytes).expect("within a segment");
        let both = u64::from(written_bytes) | u64::from(!written_bytes) << u32::BITS;
        // SAFETY: only to an opened segment anything is written.
        unsafe { self.header(segment) }.written.store(both, Ordering::Release);
    }

    /// What its owner said last with [`Arena::set_written`]; `None` if it cannot have said so.
    ///
    /// # Safety
    /// The segment's memory can be touched, as for [`Arena::label`].
    pub(super) unsafe fn written_bytes(&self, segment: SegmentId) -> Option<usize> {
        // SAFETY: the caller's promise.
        let (written_bytes, inverted) =
            halves(unsafe { self.header(segment) }.written.load(Ordering::Acquire));
        (written_bytes == !inverted).then_some(written_bytes as usize)
    }

    /// # Safety
    /// The segment's memory can be touched, as for [`Arena::label`].
    unsafe fn header(&self, segment: SegmentId) -> &SegmentHeader {
        // SAFETY: a segment starts at a multiple of its size from the start of the mapping, so it
        // is aligned and in the mapping; any bits are a header, and it is only changed as the
        // atomics it consists of.
        unsafe { &*self.pointer(self.location(segment, 0)).cast::<SegmentHeader>() }
    }
}

fn progress(used_bytes: usize, sum: u32) -> u64 {
    u64::from(u32::try_from(used_bytes).expect("within a segment")) | u64::from(sum) << u32::BITS
}

/// The lower and the upper half.
fn halves(both: u64) -> (u32, u32) {
    let lower = u32::try_from(both & u64::from(u32::MAX)).expect("masked");
    (lower, u32::try_from(both >> u32::BITS).expect("shifted"))
}

/// Has the processor fetch a line of memory that will be looked at soon.
pub(super) fn prefetch<T>(line: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint: it reads nothing that the program could see and faults on no
    // address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(line.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _no_hint_to_give = line;
}

/// As most systems have them.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Some tens of microseconds' worth of small pages.
const POPULATED_PIECE_BYTES: usize = 64 << 10;

const CACHE_LINE_BYTES: usize = 64;

/// The line of an entry in which its header begins, and mostly ends: what is waited for first of many
/// items. More of each would be more lines than a processor has under way at a time.
pub(super) const HEADER_LINES: Range<usize> = 0..1;
/// The lines with header and key, which are all that a change looks at.
pub(super) const KEY_LINES: Range<usize> = 0..2;
/// The lines behind the header's, in which most values lie, or begin.
pub(super) const VALUE_LINES: Range<usize> = 1..3;

/// Where the first entry of a segment lies.
pub(super) const FIRST_ENTRY: usize = 64;

/// Marks a segment that holds entries.
const SEGMENT_MAGIC: u32 = 0x6c61_7264;

const _: () = assert!(size_of::<SegmentHeader>() <= FIRST_ENTRY);
