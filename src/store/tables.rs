//! Memory for the index's tables, which come in a few sizes, are replaced by larger ones as they
//! fill, and must leave nothing behind: what they take counts against the memory limit to the page.
//!
//! A table lies in whole pages of a mapping of its own. When it is freed its pages go back to the
//! system, and its addresses wait for the next table of that size. So there are gaps between tables
//! but they cost only addresses, of which there are plenty. (From a general allocator, tables that
//! all grow by an eighth at about the same time take twice their size: what one leaves is always a
//! little too small for the next.)

use crate::sync::AtomicU64;
#[cfg(not(shuttle))]
use crate::sync::{Mutex, lock};
#[cfg(not(shuttle))]
use memmap2::{Advice, MmapOptions, MmapRaw, UncheckedAdvice};
use std::io;

/// One cache line of slots.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Bucket(pub(super) [AtomicU64; 8]);

/// See the module's text.
#[cfg(not(shuttle))]
#[derive(Debug)]
pub(super) struct TableMemory {
    map: MmapRaw,
    places: Mutex<Places>,
}

/// The model checker's atomics are no plain words, so that there tables are the allocator's.
#[cfg(shuttle)]
#[derive(Debug)]
pub(super) struct TableMemory;

#[cfg(not(shuttle))]
#[derive(Debug)]
struct Places {
    /// From this offset on, nothing was ever used.
    fresh: usize,
    /// Offsets of free places, by class.
    free: [Vec<usize>; CLASSES],
}

#[cfg(not(shuttle))]
impl TableMemory {
    /// Addresses for the tables of a store of at most so many bytes.
    ///
    /// # Errors
    /// The system refuses the mapping.
    pub(super) fn new(memory_bytes: usize) -> io::Result<Self> {
        let bytes = memory_bytes.saturating_mul(ADDRESSES_PER_BYTE).min(ADDRESSES_MAX);
        let map = MmapOptions::new().len(bytes).no_reserve_swap().map_anon()?;
        // The gaps must not be filled to make huge pages of what is around them.
        let _advice = map.advise(Advice::NoHugePage);
        let places = Places { fresh: 0, free: [const { Vec::new() }; CLASSES] };
        Ok(Self { map: MmapRaw::from(map), places: Mutex::new(places) })
    }

    /// A table of a class, all slots empty. It is the caller's alone until it is
    /// [released](Self::release).
    ///
    /// # Panics
    /// All addresses are in use, which the limits of the store exclude.
    pub(super) fn allocate(&self, class: usize) -> *mut Bucket {
        let mut places = lock(&self.places);
        let offset = places.free[class].pop().unwrap_or_else(|| {
            let bytes = table_bytes(class);
            let offset = places.fresh.next_multiple_of(bytes.min(PAGE_BYTES));
            places.fresh = offset + bytes;
            offset
        });
        drop(places);
        assert!(offset + table_bytes(class) <= self.map.len(), "addresses for every table");
        let table = self.map.as_mut_ptr().wrapping_add(offset);
        // A page that is read first is the system's page of zeros until it is written, when all
        // processors that might know it as that have to be told.
        for page in (0..table_bytes(class)).step_by(PAGE_BYTES) {
            // SAFETY: it lies in the mapping, is the caller's alone, and zero already.
            unsafe { table.wrapping_add(page).write_volatile(0) };
        }
        table.cast()
    }

    /// Takes a table back.
    ///
    /// # Safety
    /// `table` came from [`allocate`](Self::allocate) with this class and was not released since;
    /// nobody has a reference into it.
    pub(super) unsafe fn release(&self, table: *mut Bucket, class: usize) {
        let offset = table.addr() - self.map.as_mut_ptr().addr();
        let bytes = table_bytes(class);
        // SAFETY: the caller has these bytes of the mapping alone. Whole pages of private anonymous
        // memory read as zeros after the advice; less than a page is written over, as are pages
        // for which it was refused.
        unsafe {
            let is_returned = bytes.is_multiple_of(PAGE_BYTES)
                && self
                    .map
                    .unchecked_advise_range(UncheckedAdvice::DontNeed, offset, bytes)
                    .is_ok();
            if !is_returned {
                table.write_bytes(0, TABLE_BUCKETS[class]);
            }
        }
        lock(&self.places).free[class].push(offset);
    }
}

#[cfg(shuttle)]
impl TableMemory {
    pub(super) fn new(_memory_bytes: usize) -> io::Result<Self> {
        Ok(Self)
    }

    pub(super) fn allocate(&self, class: usize) -> *mut Bucket {
        let table: Box<[Bucket]> = (0..TABLE_BUCKETS[class]).map(|_| Bucket::default()).collect();
        Box::into_raw(table).cast()
    }

    /// # Safety
    /// As outside the model.
    pub(super) unsafe fn release(&self, table: *mut Bucket, class: usize) {
        let table = std::ptr::slice_from_raw_parts_mut(table, TABLE_BUCKETS[class]);
        // SAFETY: it was made of a box of this length; the caller has it alone.
        drop(unsafe { Box::from_raw(table) });
    }
}

/// The length of a class's tables.
#[cfg(not(shuttle))]
fn table_bytes(class: usize) -> usize {
    TABLE_BUCKETS[class] * BUCKET_BYTES
}

/// Table sizes in buckets: some that share a page, for tiny stores, then whole pages, each an
/// eighth more than the one before as far as pages allow. The largest holds some hundreds of
/// thousands of items, where the store plans for some thousands.
pub(super) const TABLE_BUCKETS: [usize; CLASSES] = table_buckets();

const fn table_buckets() -> [usize; CLASSES] {
    let mut sizes = [2; CLASSES];
    let mut class = 1;
    while class < CLASSES {
        let size = sizes[class - 1];
        sizes[class] = if size < PAGE_BUCKETS {
            size * 2
        } else {
            let pages = size / PAGE_BUCKETS;
            size + PAGE_BUCKETS * if pages < 8 { 1 } else { pages / 8 }
        };
        class += 1;
    }
    sizes
}

/// The first class that takes a page.
pub(super) const PAGE_CLASS: usize = 5;

/// As many as the tag of a pointer to a 64-byte aligned bucket can number.
const CLASSES: usize = 64;

/// Zeros are an empty bucket.
const BUCKET_BYTES: usize = 64;
const PAGE_BYTES: usize = 4096;
const PAGE_BUCKETS: usize = PAGE_BYTES / BUCKET_BYTES;

/// Tables take a third of the memory where items are smallest, and a table has been all the sizes
/// before its last, which together are some nine times as large.
#[cfg(not(shuttle))]
const ADDRESSES_PER_BYTE: usize = 4;
#[cfg(not(shuttle))]
const ADDRESSES_MAX: usize = 16 << 40;

const _: () = assert!(TABLE_BUCKETS[PAGE_CLASS] == PAGE_BUCKETS);
#[cfg(not(shuttle))]
const _: () = assert!(size_of::<Bucket>() == BUCKET_BYTES);
const _: () = assert!(align_of::<Bucket>() >= CLASSES);

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    #[expect(unsafe_code, reason = "tables are raw memory")]
    fn a_table_is_zero_again_after_it_was_used() {
        let memory = TableMemory::new(1 << 20).unwrap();
        for class in [0, 1, PAGE_CLASS - 1, PAGE_CLASS, PAGE_CLASS + 9] {
            let (first, second) = (memory.allocate(class), memory.allocate(class));
            assert!(first.addr().abs_diff(second.addr()) >= table_bytes(class), "apart");
            assert!(first.addr().is_multiple_of(BUCKET_BYTES));
            // SAFETY: both tables are this test's, and as long as their class says.
            unsafe {
                first.write_bytes(7, TABLE_BUCKETS[class]);
                memory.release(first, class);
                let again = memory.allocate(class);
                assert_eq!(again, first, "its place is used again");
                let bytes = std::slice::from_raw_parts(again.cast::<u8>(), table_bytes(class));
                assert!(bytes.iter().all(|byte| *byte == 0));
            }
        }
    }

    #[test]
    fn tables_grow_by_an_eighth_of_whole_pages() {
        let pages: Vec<usize> =
            TABLE_BUCKETS[PAGE_CLASS..].iter().map(|buckets| buckets / PAGE_BUCKETS).collect();
        assert_eq!(&pages[..12], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        assert!(
            pages.windows(2).all(|two| two[1] - two[0] <= two[0] / 8 + usize::from(two[0] < 8))
        );
    }
}
