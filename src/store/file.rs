//! The file that a store lives in, so that the next process finds it again.
//!
//! ```text
//! | page 0: what file this is .. | 512: state of the store | 4096: the arena (arena.rs) ...
//! ```
//!
//! What file this is is written once. The state is written as a whole whenever something of it
//! changes, which is once a second at least and never for a single request, by one call to the
//! system that a kill does not interrupt; so there is one state and not two to choose from. Both
//! carry checksums.
//!
//! A kill of the process loses nothing: what it stored is the kernel's to keep. A halt of the
//! machine may lose any page and keep any other, so a file that was in use then is not used again.
//! The kernel's name for its own boot tells, and is on the disk before anything else is changed.
//! What another process writes to the file while it is in use is outside of all this; a lock keeps
//! other servers out.

use super::index::LOCATION_BITS;
use crate::clock::Seconds;
use crate::sync::{Mutex, lock};
use memmap2::{MmapOptions, MmapRaw};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, Flock, FlockArg, fallocate};
use nix::unistd::{Whence, geteuid, lseek};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

/// See the module's text. The file is locked as long as this lives.
#[derive(Debug)]
pub(super) struct MemoryFile {
    file: Arc<Flock<File>>,
    state: Mutex<State>,
}

/// The part of the file that the arena maps.
#[derive(Debug)]
pub(super) struct Backing(Arc<Flock<File>>);

/// What a store must know of itself that its items do not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    /// No item has a version above this.
    pub(super) ceiling: u64,
    /// Items up to this version were flushed.
    pub(super) flushed: u64,
    /// When the pending flush is due (0: none is pending).
    pub(super) flush_at: Seconds,
    /// The last second in which the store was in use.
    pub(super) last_used: Seconds,
    /// Everything was written to the disk, and the store used no more.
    pub(super) is_stopped: bool,
    /// The boot of the machine during which it was used last, as the kernel names it.
    boot: [u8; BOOT_BYTES],
}

/// What was in a file.
#[derive(Debug)]
pub(super) enum Contents {
    /// Nothing: it is new.
    New,
    /// A store.
    Store { state: State, segment_shift: u32, segments: u32 },
    /// A store that cannot be used, and why. No item in it has a version above the ceiling, as far
    /// as that is known.
    Unusable { reason: String, ceiling: u64 },
}

impl MemoryFile {
    /// Opens a file, or creates it, and locks it. Nothing in it is changed.
    ///
    /// # Errors
    /// The system refuses; or it is not ours: another process uses it, it belongs to another user,
    /// or holds something that is not a store.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Contents)> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(MODE)
            .open(path)?;
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(refusal("it is no regular file"));
        }
        if found.uid() != geteuid().as_raw() {
            return Err(refusal(format!("it belongs to another user (id {})", found.uid())));
        }
        if found.mode() & 0o777 != MODE {
            file.set_permissions(Permissions::from_mode(MODE))?;
        }
        let file = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
            if errno == Errno::EWOULDBLOCK {
                refusal("it is in use by another process")
            } else {
                errno.into()
            }
        })?;
        let file_bytes = file.metadata()?.len();
        let mut page =
            vec![0; usize::try_from(file_bytes).map_or(PAGE_BYTES, |all| all.min(PAGE_BYTES))];
        file.read_exact_at(&mut page, 0)?;
        let contents = contents(&page, file_bytes)?;
        let state = match contents {
            Contents::Store { state, .. } => state,
            Contents::Unusable { ceiling, .. } => State { ceiling, ..State::new(0) },
            Contents::New => State::new(0),
        };
        Ok((Self { file: Arc::new(file), state: Mutex::new(state) }, contents))
    }

    /// Empties the file, for a store of segments of this size, which goes on with the versions of
    /// what was there.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn clear(&self, segment_shift: u32, now: Seconds) -> io::Result<()> {
        let mut state = lock(&self.state);
        *state = State { ceiling: state.ceiling, ..State::new(now) };
        let mut page = identity(segment_shift);
        page.resize(STATE_OFFSET, 0);
        page.extend(state.encode());
        page.resize(PAGE_BYTES, 0);
        self.file.set_len(0)?;
        self.file.write_all_at(&page, 0)?;
        self.file.sync_data()
    }

    /// Has a store that was found in the first bytes of the arena go on as one in use.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn resume(&self, arena_bytes: u64, now: Seconds) -> io::Result<()> {
        // Half a segment at the end of a file that was cut must not be whole again when it grows.
        if self.file.metadata()?.len() != PAGE_BYTES as u64 + arena_bytes {
            self.file.set_len(PAGE_BYTES as u64 + arena_bytes)?;
        }
        let mut state = lock(&self.state);
        let was_stopped = state.is_stopped;
        *state = State { last_used: now.max(state.last_used), ..*state };
        *state = State { is_stopped: false, boot: boot(), ..*state };
        self.write(&state)?;
        // Else a halt of the machine could leave it changed, and stopped in order by its own word.
        // (What a kill left said so before; and there is a cache to be written with it.)
        if was_stopped { self.file.sync_data() } else { Ok(()) }
    }

    /// Notes that nothing in the file ends before `now` any more, whatever time it was when it was
    /// last used.
    pub(super) fn begin_at(&self, now: Seconds) {
        self.update(|state| state.last_used = now);
    }

    /// What the arena maps.
    pub(super) fn backing(&self) -> Backing {
        Backing(Arc::clone(&self.file))
    }

    /// The state as it is now.
    pub(super) fn state(&self) -> State {
        *lock(&self.state)
    }

    /// Raises the ceiling of versions to this one or above, and returns it.
    pub(super) fn raise_ceiling(&self, version: u64) -> u64 {
        self.update(|state| {
            if state.ceiling < version {
                state.ceiling = version + VERSIONS_AHEAD;
            }
            state.ceiling
        })
    }

    /// Notes that items up to this version were flushed.
    pub(super) fn note_flush(&self, flushed: u64) {
        self.update(|state| (state.flushed, state.flush_at) = (flushed, 0));
    }

    /// Notes when all will be flushed.
    pub(super) fn note_pending_flush(&self, at: Seconds) {
        self.update(|state| state.flush_at = at);
    }

    /// Notes that the store is in use now.
    pub(super) fn note_time(&self, now: Seconds) {
        self.update(|state| state.last_used = state.last_used.max(now));
    }

    /// Writes everything to the disk and says so.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn stop(&self) -> io::Result<()> {
        self.file.sync_all()?;
        self.update(|state| state.is_stopped = true);
        self.file.sync_all()
    }

    /// Changes the state. Where the system refuses to write one page that is there already, nothing
    /// is left to be done about it: the file is then older than the store, and says so.
    fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = lock(&self.state);
        let before = *state;
        let result = change(&mut state);
        if *state != before {
            let _no_better_place = self.write(&state);
        }
        result
    }

    fn write(&self, state: &State) -> io::Result<()> {
        self.file.write_all_at(&state.encode(), STATE_OFFSET as u64)
    }
}

impl Backing {
    /// Addresses for the arena. They can be touched as far as the file goes.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn map(&self, bytes: usize) -> io::Result<MmapRaw> {
        MmapOptions::new().offset(PAGE_BYTES as u64).len(bytes).map_raw(&**self.0)
    }

    /// Has the file hold these bytes of the arena. Returns `false` if the disk has no room: to
    /// touch what is mapped would then end the process.
    pub(super) fn allocate(&self, offset: usize, bytes: usize) -> bool {
        match self.fallocate(FallocateFlags::empty(), offset, bytes) {
            Ok(()) => true,
            // The file system gives room when it is needed, or does not.
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => {
                let end = (PAGE_BYTES + offset + bytes) as u64;
                let length = self.0.metadata().map(|found| found.len());
                length.is_ok_and(|length| length >= end || self.0.set_len(end).is_ok())
            }
            Err(_) => false,
        }
    }

    /// Whether the file holds nothing of these bytes: to read them would take room for zeros.
    pub(super) fn is_hole(&self, offset: usize, bytes: usize) -> bool {
        let start = PAGE_BYTES + offset;
        let Ok(from) = i64::try_from(start) else { return true };
        // Nobody reads or writes where the file's own position says.
        match lseek(&**self.0, from, Whence::SeekData) {
            Ok(data) => usize::try_from(data).is_ok_and(|data| data >= start + bytes),
            Err(errno) => errno == Errno::ENXIO,
        }
    }

    /// Gives the room of these bytes back; they read as zeros afterwards. Where the file system
    /// cannot do that they stay.
    pub(super) fn punch(&self, offset: usize, bytes: usize) {
        let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let _stays = self.fallocate(hole, offset, bytes);
    }

    fn fallocate(&self, how: FallocateFlags, offset: usize, bytes: usize) -> nix::Result<()> {
        let length = |bytes| i64::try_from(bytes).map_err(|_| Errno::EFBIG);
        fallocate(&**self.0, how, length(PAGE_BYTES + offset)?, length(bytes)?)
    }
}

impl State {
    fn new(now: Seconds) -> Self {
        Self {
            ceiling: 0,
            flushed: 0,
            flush_at: 0,
            last_used: now,
            is_stopped: false,
            boot: boot(),
        }
    }

    /// Whether the machine has gone down while the store was in use.
    fn is_torn(&self) -> bool {
        !self.is_stopped && self.boot != boot()
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(STATE_BYTES);
        bytes.extend(self.ceiling.to_le_bytes());
        bytes.extend(self.flushed.to_le_bytes());
        bytes.extend(self.flush_at.to_le_bytes());
        bytes.extend(self.last_used.to_le_bytes());
        bytes.push(u8::from(self.is_stopped));
        bytes.extend(self.boot);
        sealed(bytes)
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = unsealed(bytes)?;
        let ceiling = take(&mut fields).map(u64::from_le_bytes)?;
        let flushed = take(&mut fields).map(u64::from_le_bytes)?;
        let flush_at = take(&mut fields).map(u32::from_le_bytes)?;
        let last_used = take(&mut fields).map(u32::from_le_bytes)?;
        let is_stopped = take(&mut fields)? != [0];
        if ceiling.max(flushed) > VERSION_MAX {
            return None;
        }
        Some(Self { ceiling, flushed, flush_at, last_used, is_stopped, boot: take(&mut fields)? })
    }
}

/// What page 0 says of a file of so many bytes.
fn contents(page: &[u8], file_bytes: u64) -> io::Result<Contents> {
    if page.is_empty() {
        return Ok(Contents::New);
    }
    if !page.starts_with(MAGIC) {
        return Err(refusal("it is not larder's, and is left as it is"));
    }
    let unusable_from =
        |ceiling, reason: &str| Ok(Contents::Unusable { reason: reason.to_owned(), ceiling });
    let unusable = |reason| unusable_from(0, reason);
    let Some(identity) = page.get(..IDENTITY_BYTES).and_then(unsealed) else {
        return unusable("what it says of itself is damaged");
    };
    let mut fields = &identity[MAGIC.len()..];
    let (Some(layout), Some(segment_shift)) = (take(&mut fields), take(&mut fields)) else {
        return unusable("what it says of itself is damaged");
    };
    if layout != LAYOUT.to_ne_bytes() {
        return unusable("another version of larder wrote it");
    }
    let state = page.get(STATE_OFFSET..STATE_OFFSET + STATE_BYTES);
    let Some(state) = state.and_then(State::decode) else {
        return unusable("its state is damaged");
    };
    if state.is_torn() {
        let ceiling = state.ceiling.saturating_add(VERSIONS_TORN).min(VERSION_MAX);
        return unusable_from(ceiling, "the machine went down while it was in use");
    }
    let segment_shift = u32::from_le_bytes(segment_shift);
    let arena_bytes = file_bytes.saturating_sub(PAGE_BYTES as u64);
    let segments = arena_bytes.checked_shr(segment_shift).map(u32::try_from);
    let is_possible = arena_bytes <= 8 << LOCATION_BITS;
    let Some(Ok(segments)) = segments.filter(|_| is_possible) else {
        return unusable_from(state.ceiling, "its size is beyond measure");
    };
    Ok(Contents::Store { state, segment_shift, segments })
}

fn identity(segment_shift: u32) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(LAYOUT.to_ne_bytes());
    bytes.extend(segment_shift.to_le_bytes());
    sealed(bytes)
}

/// With a checksum behind it.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = crc32fast::hash(&bytes);
    bytes.extend(sum.to_le_bytes());
    bytes
}

/// What is in front of its checksum, if that is right.
fn unsealed(bytes: &[u8]) -> Option<&[u8]> {
    let (bytes, sum) = bytes.split_last_chunk()?;
    (u32::from_le_bytes(*sum) == crc32fast::hash(bytes)).then_some(bytes)
}

fn take<const N: usize>(fields: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = fields.split_first_chunk()?;
    *fields = rest;
    Some(*first)
}

/// This boot of the machine. Where the kernel does not say, all boots are the same.
fn boot() -> [u8; BOOT_BYTES] {
    let mut boot = [0; BOOT_BYTES];
    let told = fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    boot.iter_mut().zip(told).for_each(|(byte, told)| *byte = told);
    boot
}

fn refusal(reason: impl Into<String>) -> io::Error {
    io::Error::other(reason.into())
}

const MAGIC: &[u8] = b"larder\x1a\n";

/// Changes with whatever changes in the layout of file, segments or items; on a machine of the
/// other byte order it reads as another.
const LAYOUT: u32 = 1;

/// The ceiling is raised by so much at a time: once for a million stores.
const VERSIONS_AHEAD: u64 = 1 << 20;

/// So many may have been given since what a halt of the machine left of the ceiling: those of some
/// minutes.
const VERSIONS_TORN: u64 = 1 << 32;

/// A version has 48 bits; as many as these will take years are left.
const VERSION_MAX: u64 = 1 << 47;

/// Where the arena begins.
const PAGE_BYTES: usize = 4096;

/// Apart from what is never written again, as disks have it.
const STATE_OFFSET: usize = 512;

const BOOT_BYTES: usize = 36;
const STATE_BYTES: usize = 8 + 8 + 4 + 4 + 1 + BOOT_BYTES + SUM_BYTES;
const IDENTITY_BYTES: usize = 8 + 4 + 4 + SUM_BYTES;
const SUM_BYTES: usize = 4;

/// Its owner's alone: it holds all that was ever stored.
const MODE: u32 = 0o600;
