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

use memmap2::{Advice, MmapOptions, MmapRaw, UncheckedAdvice};
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

/// A position in the arena, in units of 8 bytes. 0 is the first segment's header and so never an
/// entry: it means "none".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Location(pub(super) u64);

/// The number of a segment, from 0.
pub(super) type SegmentId = u32;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Arena {
    map: MmapRaw,
    segment_shift: u32,
    segments: u32,
}

/// What a segment's first cache line holds.
#[repr(C)]
struct SegmentHeader {
    /// [`SEGMENT_MAGIC`] while the segment holds entries.
    magic: u32,
    /// Bytes of this header and of the entries behind it that are published or dead.
    used_bytes: AtomicU32,
    /// Counts segments in the order in which they were opened.
    sequence: u64,
}

impl Location {
    pub(super) const NONE: Self = Self(0);
}

impl Arena {
    /// Maps `segments` segments of `1 << segment_shift` bytes. This takes addresses; memory is taken
    /// by what is written.
    ///
    /// # Errors
    /// The system refuses the mapping.
    pub(super) fn new(segments: u32, segment_shift: u32) -> io::Result<Self> {
        let bytes = (segments as usize) << segment_shift;
        let map = MmapOptions::new().len(bytes).no_reserve_swap().map_anon()?;
        // Items lie anywhere, so with small pages nearly every look at one would also miss the
        // translation cache. Segments are taken from the lowest up, so that huge pages fill one
        // after the other. Where the system has none, nothing changes.
        let _advice = map.advise(Advice::HugePage);
        Ok(Self { map: MmapRaw::from(map), segment_shift, segments })
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

    /// Has the processor fetch the first lines of an entry that will be looked at soon.
    pub(super) fn prefetch(&self, at: Location) {
        for line in 0..PREFETCH_LINES {
            prefetch(self.pointer(at).wrapping_add(line * CACHE_LINE_BYTES));
        }
    }

    /// Gives a segment's pages back to the system; it reads as zeros afterwards.
    ///
    /// # Safety
    /// Nobody reads or writes the segment during the call, and no reference into it is alive.
    pub(super) unsafe fn release(&self, segment: SegmentId) {
        let offset = (segment as usize) << self.segment_shift;
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
        // around it.
        let _advice = self.map.advise_range(Advice::NoHugePage, offset, self.segment_bytes());
    }

    /// Has the system give a segment's pages now rather than at the first touch. Whatever is in
    /// it stays as it is.
    pub(super) fn populate(&self, segment: SegmentId) {
        let offset = (segment as usize) << self.segment_shift;
        // A system that cannot do so gives them at the first touch.
        let _advice = self.map.advise_range(Advice::PopulateWrite, offset, self.segment_bytes());
    }

    /// Prepares a segment that was released for use.
    pub(super) fn take_again(&self, segment: SegmentId) {
        let offset = (segment as usize) << self.segment_shift;
        let _advice = self.map.advise_range(Advice::HugePage, offset, self.segment_bytes());
    }

    /// # Safety
    /// The caller is the only one who writes this segment's header, and nobody reads it meanwhile.
    pub(super) unsafe fn write_header(&self, segment: SegmentId, sequence: u64) {
        let used_bytes = AtomicU32::new(u32::try_from(FIRST_ENTRY).expect("small"));
        let at = self.pointer(self.location(segment, 0)).cast::<SegmentHeader>();
        // SAFETY: a segment starts at a multiple of its size, so `at` is aligned and in the
        // mapping; the caller has it alone.
        unsafe { at.write(SegmentHeader { magic: SEGMENT_MAGIC, used_bytes, sequence }) };
    }

    /// Whether a segment's header says that it was opened as the one of this number.
    ///
    /// # Safety
    /// Nobody writes this segment's header meanwhile.
    pub(super) unsafe fn has_header(&self, segment: SegmentId, sequence: u64) -> bool {
        // SAFETY: aligned and in the mapping as above; any bit pattern is a header.
        let header = unsafe { &*self.pointer(self.location(segment, 0)).cast::<SegmentHeader>() };
        header.magic == SEGMENT_MAGIC && header.sequence == sequence
    }

    /// Says how many bytes of the segment, its header included, hold entries that are published or
    /// dead.
    ///
    /// # Safety
    /// Only a segment's owner says so, from its opening to its sealing.
    pub(super) unsafe fn set_used_bytes(&self, segment: SegmentId, used_bytes: usize) {
        let used_bytes = u32::try_from(used_bytes).expect("within a segment");
        // SAFETY: aligned and in the mapping as above; the owner opened it, so a header was
        // written, and from then on this field is changed as the atomic it is.
        let header = unsafe { &*self.pointer(self.location(segment, 0)).cast::<SegmentHeader>() };
        header.used_bytes.store(used_bytes, Ordering::Release);
    }

    /// What its owner said last with [`Arena::set_used_bytes`].
    ///
    /// # Safety
    /// The segment was opened, and is not used again meanwhile.
    pub(super) unsafe fn used_bytes(&self, segment: SegmentId) -> usize {
        // SAFETY: as above.
        let header = unsafe { &*self.pointer(self.location(segment, 0)).cast::<SegmentHeader>() };
        header.used_bytes.load(Ordering::Acquire) as usize
    }
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

const CACHE_LINE_BYTES: usize = 64;

/// Header, key and the value of most items.
const PREFETCH_LINES: usize = 3;

/// Where the first entry of a segment lies.
pub(super) const FIRST_ENTRY: usize = 64;

/// Marks a segment that holds entries ("larder", and the version of the layout).
pub(super) const SEGMENT_MAGIC: u32 = 0x6c61_7201;

const _: () = assert!(size_of::<SegmentHeader>() <= FIRST_ENTRY);
