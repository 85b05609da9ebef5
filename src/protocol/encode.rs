//! Outcomes, faults, items and figures as the classic text protocol writes them.

use super::{COMPATIBLE_VERSION, Encode, Fault, Outcome};
use crate::clock::Seconds;
use std::fmt::Display;
use std::io::Write;

/// Appends replies to an output buffer.
#[derive(Debug)]
pub struct Encoder<'o> {
    pub(super) output: &'o mut Vec<u8>,
    quiet: bool,
}

impl<'o> Encoder<'o> {
    /// With `quiet`, neither outcomes nor faults nor numbers are written: the client asked for no
    /// reply.
    #[must_use]
    pub fn new(output: &'o mut Vec<u8>, quiet: bool) -> Self {
        Self { output, quiet }
    }

    /// An item. `write_value` writes its value, of `value_bytes` bytes, or takes note of where it is
    /// to be.
    pub fn value(
        &mut self,
        key: &[u8],
        flags: u32,
        cas: Option<u64>,
        value_bytes: usize,
        write_value: impl FnOnce(&mut Vec<u8>),
    ) {
        self.output.reserve(key.len() + VALUE_FRAME_BYTES_MAX);
        self.output.extend_from_slice(b"VALUE ");
        self.output.extend_from_slice(key);
        self.output.push(b' ');
        self.digits(u64::from(flags));
        self.output.push(b' ');
        self.digits(value_bytes as u64);
        if let Some(cas) = cas {
            self.output.push(b' ');
            self.digits(cas);
        }
        self.output.extend_from_slice(b"\r\n");
        write_value(self.output);
        self.output.extend_from_slice(b"\r\n");
    }

    /// An item in a list: its key, its value's length, the second in which it ends (0: never).
    pub fn listed(&mut self, key: &[u8], value_bytes: usize, expiry: Seconds) {
        self.output.extend_from_slice(b"ITEM ");
        self.output.extend_from_slice(key);
        write!(self.output, " [{value_bytes} b; {expiry} s]\r\n")
            .expect("a Vec takes all that is written");
    }

    /// Takes back what was written beyond the first `length` bytes.
    pub fn retract(&mut self, length: usize) {
        self.output.truncate(length);
    }

    fn number(&mut self, number: u64) {
        if !self.quiet {
            self.digits(number);
            self.output.extend_from_slice(b"\r\n");
        }
    }

    fn line(&mut self, line: &[u8]) {
        if !self.quiet {
            self.output.extend_from_slice(line);
        }
    }

    fn digits(&mut self, number: u64) {
        self.output.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    }
}

impl Encode for Encoder<'_> {
    fn outcome(&mut self, outcome: Outcome) {
        self.line(match outcome {
            Outcome::Stored(_) => b"STORED\r\n",
            Outcome::NotStored => b"NOT_STORED\r\n",
            Outcome::Exists => b"EXISTS\r\n",
            Outcome::NotFound => b"NOT_FOUND\r\n",
            Outcome::Deleted => b"DELETED\r\n",
            Outcome::Touched { .. } => b"TOUCHED\r\n",
            Outcome::Counted(counted) => return self.number(counted.number),
            Outcome::Ok => b"OK\r\n",
            Outcome::Reset => b"RESET\r\n",
        });
    }

    fn fault(&mut self, fault: Fault) {
        self.line(fault_line(fault));
    }

    fn version(&mut self) {
        write!(self.output, "VERSION {COMPATIBLE_VERSION}\r\n")
            .expect("a Vec takes all that is written");
    }

    fn stat(&mut self, name: impl Display, value: impl Display) {
        write!(self.output, "STAT {name} {value}\r\n").expect("a Vec takes all that is written");
    }

    fn end(&mut self) {
        self.output.extend_from_slice(b"END\r\n");
    }

    fn written(&self) -> usize {
        self.output.len()
    }
}

/// A fault as the text protocols, classic and meta, write it.
pub(super) fn fault_line(fault: Fault) -> &'static [u8] {
    match fault {
        Fault::Management(refusal) => refusal.line(),
        Fault::UnknownCommand => b"ERROR\r\n",
        Fault::BadFormat => b"CLIENT_ERROR bad command line format\r\n",
        Fault::BadDataChunk => b"CLIENT_ERROR bad data chunk\r\n",
        Fault::InvalidExptime => b"CLIENT_ERROR invalid exptime argument\r\n",
        Fault::InvalidDelta => b"CLIENT_ERROR invalid numeric delta argument\r\n",
        Fault::NonNumeric => b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n",
        Fault::BadToken => b"CLIENT_ERROR bad token in command line format\r\n",
        Fault::InvalidInitial => b"CLIENT_ERROR invalid numeric initial value\r\n",
        Fault::InvalidDeltaToken => b"CLIENT_ERROR invalid numeric delta value\r\n",
        Fault::DuplicateFlag => b"CLIENT_ERROR duplicate flag\r\n",
        Fault::InvalidFlag => b"CLIENT_ERROR invalid flag\r\n",
        Fault::TooManyFlags => b"CLIENT_ERROR options flags are too long\r\n",
        Fault::InvalidOrDuplicateFlag => b"CLIENT_ERROR invalid or duplicate flag\r\n",
        Fault::UndecodableKey => b"CLIENT_ERROR error decoding key\r\n",
        Fault::OpaqueTooLong => b"CLIENT_ERROR opaque token too long\r\n",
        Fault::InvalidStorageMode => b"CLIENT_ERROR invalid mode for ms M token\r\n",
        Fault::InvalidCountingMode => b"CLIENT_ERROR invalid mode for ma M token\r\n",
        Fault::FlushNotAllowed => b"CLIENT_ERROR flush_all not allowed\r\n",
        Fault::DumpNotAllowed => b"CLIENT_ERROR stats cachedump not allowed\r\n",
        Fault::DumpArguments => b"CLIENT_ERROR bad command line\r\n",
        Fault::IllegalClass => b"CLIENT_ERROR Illegal slab id\r\n",
        Fault::DetailNotAllowed => b"CLIENT_ERROR stats detail not allowed\r\n",
        Fault::DetailUsage => b"CLIENT_ERROR usage: stats detail on|off|dump\r\n",
        Fault::LimitTooSmall => b"MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m\r\n",
        Fault::LimitInBytes => b"MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes\r\n",
        Fault::LimitOutOfBounds => b"MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust\r\n",
        Fault::InvalidShutdownMode => b"CLIENT_ERROR invalid shutdown mode\r\n",
        Fault::ShutdownNotEnabled => b"SERVER_ERROR: shutdown not enabled\r\n",
        Fault::TooLarge => b"SERVER_ERROR object too large for cache\r\n",
        Fault::OutOfMemoryStoring => b"SERVER_ERROR out of memory storing object\r\n",
        Fault::OutOfMemory => b"SERVER_ERROR out of memory\r\n",
        Fault::OutOfMemoryCreating => b"SERVER_ERROR Out of memory allocating new item\r\n",
    }
}

/// What surrounds key and value: `VALUE `, flags, length, cas, blanks and line ends.
const VALUE_FRAME_BYTES_MAX: usize = 6 + 1 + 10 + 1 + 20 + 1 + 20 + 2 + 2;
