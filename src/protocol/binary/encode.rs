//! Outcomes, faults, items and figures as the binary protocol writes them.

use super::{Command, HEADER_BYTES, Header, Shown, Tag};
use crate::protocol::{COMPATIBLE_VERSION, Encode, Fault, Mode, Outcome};
use std::fmt::Display;
use std::io::Write;

/// Appends the replies to one request to an output buffer.
#[derive(Debug)]
pub struct Encoder<'o> {
    output: &'o mut Vec<u8>,
    tag: Tag,
    command: Option<Command>,
    quiet: bool,
}

/// How a request ended, as a packet says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
enum Status {
    Success = 0x00,
    NotFound = 0x01,
    Exists = 0x02,
    TooLarge = 0x03,
    Invalid = 0x04,
    NotStored = 0x05,
    NonNumeric = 0x06,
    Unauthenticated = 0x20,
    GoOn = 0x21,
    UnknownCommand = 0x81,
    OutOfMemory = 0x82,
}

impl<'o> Encoder<'o> {
    /// For replies to the request with this header.
    #[must_use]
    pub fn new(output: &'o mut Vec<u8>, header: &Header) -> Self {
        let Header { tag, command, quiet, .. } = *header;
        Self { output, tag, command, quiet }
    }

    /// What was asked for of an item. `write_value` writes its value, of `value_bytes` bytes, or
    /// takes note of where it is to be.
    pub fn item(
        &mut self,
        key: &[u8],
        flags: u32,
        cas: u64,
        value_bytes: usize,
        write_value: impl FnOnce(&mut Vec<u8>),
    ) {
        let extras = flags.to_be_bytes();
        let key = match self.shown() {
            Shown::Flags => return self.packet(Status::Success, cas, &extras, &[], &[]),
            Shown::Value => &[],
            Shown::KeyAndValue => key,
        };
        let head = self.header(Status::Success, cas, extras.len(), key.len(), value_bytes);
        self.output.reserve(HEADER_BYTES + extras.len() + key.len());
        self.output.extend_from_slice(&head);
        self.output.extend_from_slice(&extras);
        self.output.extend_from_slice(key);
        write_value(self.output);
    }

    /// There is no such item.
    pub fn miss(&mut self, key: &[u8]) {
        if self.quiet {
            return;
        }
        if self.shown() == Shown::KeyAndValue {
            self.packet(Status::NotFound, 0, &[], key, &[]);
        } else {
            self.refuse(Status::NotFound);
        }
    }

    /// A figure whose value is bytes.
    pub fn figure(&mut self, name: &[u8], value: &[u8]) {
        self.packet(Status::Success, 0, &[], name, value);
    }

    /// The ways to authenticate, separated by blanks.
    pub fn mechanisms(&mut self, names: &[u8]) {
        self.success(0, &[], names);
    }

    /// The client may do everything now.
    pub fn authenticated(&mut self) {
        self.success(0, &[], b"Authenticated");
    }

    /// The client may not do this, or has not shown to be whom it said.
    pub fn unauthenticated(&mut self) {
        self.refuse(Status::Unauthenticated);
    }

    /// The client is to say more to authenticate.
    pub fn go_on(&mut self) {
        self.packet(Status::GoOn, 0, &[], &[], &[]);
    }

    fn shown(&self) -> Shown {
        match self.command {
            Some(Command::Get(shown) | Command::Touch(shown)) => shown,
            _ => Shown::Value,
        }
    }

    fn success(&mut self, cas: u64, extras: &[u8], value: &[u8]) {
        if !self.quiet {
            self.packet(Status::Success, cas, extras, &[], value);
        }
    }

    /// A client hears of what went wrong even where it wants to hear of nothing else.
    fn refuse(&mut self, status: Status) {
        self.error(status, status.text());
    }

    fn error(&mut self, status: Status, text: &str) {
        self.packet(status, 0, &[], &[], text.as_bytes());
    }

    fn packet(&mut self, status: Status, cas: u64, extras: &[u8], key: &[u8], value: &[u8]) {
        let header = self.header(status, cas, extras.len(), key.len(), value.len());
        for part in [&header, extras, key, value] {
            self.output.extend_from_slice(part);
        }
    }

    fn header(
        &self,
        status: Status,
        cas: u64,
        extras_bytes: usize,
        key_bytes: usize,
        value_bytes: usize,
    ) -> [u8; HEADER_BYTES] {
        let fits = "what is stored is within the protocol's lengths";
        let body_bytes = u32::try_from(extras_bytes + key_bytes + value_bytes).expect(fits);
        let mut header = [0; HEADER_BYTES];
        header[0] = REPLY_MAGIC;
        header[1] = self.tag.opcode;
        header[2..4].copy_from_slice(&u16::try_from(key_bytes).expect(fits).to_be_bytes());
        header[4] = u8::try_from(extras_bytes).expect(fits);
        header[6..8].copy_from_slice(&(status as u16).to_be_bytes());
        header[8..12].copy_from_slice(&body_bytes.to_be_bytes());
        header[12..16].copy_from_slice(&self.tag.opaque);
        header[16..].copy_from_slice(&cas.to_be_bytes());
        header
    }
}

impl Encode for Encoder<'_> {
    fn outcome(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Stored(stored) => self.success(stored.cas, &[], &[]),
            Outcome::Counted(counted) => {
                self.success(counted.cas, &[], &counted.number.to_be_bytes());
            }
            Outcome::Deleted | Outcome::Touched { .. } | Outcome::Ok | Outcome::Reset => {
                self.success(0, &[], &[]);
            }
            Outcome::Exists => self.refuse(Status::Exists),
            Outcome::NotFound => self.refuse(Status::NotFound),
            Outcome::NotStored => self.refuse(match self.command {
                Some(Command::Store(Mode::Add)) => Status::Exists,
                Some(Command::Store(Mode::Replace)) => Status::NotFound,
                _ => Status::NotStored,
            }),
        }
    }

    fn fault(&mut self, fault: Fault) {
        let status = match fault {
            // What is unknown of figures is their name.
            _ if self.command == Some(Command::Stat)
                && !matches!(fault, Fault::BadFormat | Fault::OutOfMemory) =>
            {
                Status::NotFound
            }
            Fault::UnknownCommand => Status::UnknownCommand,
            Fault::TooLarge => Status::TooLarge,
            Fault::NonNumeric => Status::NonNumeric,
            Fault::FlushNotAllowed => Status::Unauthenticated,
            Fault::OutOfMemory if !matches!(self.command, Some(Command::Count(_))) => {
                Status::OutOfMemory
            }
            Fault::OutOfMemory => {
                return self.error(Status::OutOfMemory, "Out of memory incrementing value");
            }
            Fault::OutOfMemoryCreating => {
                return self.error(Status::OutOfMemory, "Out of memory allocating new item");
            }
            Fault::OutOfMemoryStoring => {
                return self.error(Status::OutOfMemory, "Out of memory allocating item");
            }
            _ => Status::Invalid,
        };
        self.refuse(status);
    }

    fn version(&mut self) {
        self.success(0, &[], COMPATIBLE_VERSION.as_bytes());
    }

    fn stat(&mut self, name: impl Display, value: impl Display) {
        let start = self.output.len();
        self.output.extend_from_slice(&[0; HEADER_BYTES]);
        write!(self.output, "{name}").expect("a Vec takes all that is written");
        let key_bytes = self.output.len() - start - HEADER_BYTES;
        write!(self.output, "{value}").expect("a Vec takes all that is written");
        let value_bytes = self.output.len() - start - HEADER_BYTES - key_bytes;
        let header = self.header(Status::Success, 0, 0, key_bytes, value_bytes);
        self.output[start..start + HEADER_BYTES].copy_from_slice(&header);
    }

    fn end(&mut self) {
        self.success(0, &[], &[]);
    }

    fn written(&self) -> usize {
        self.output.len()
    }
}

impl Status {
    fn text(self) -> &'static str {
        match self {
            Self::Success | Self::GoOn => "",
            Self::NotFound => "Not found",
            Self::Exists => "Data exists for key.",
            Self::TooLarge => "Too large.",
            Self::Invalid => "Invalid arguments",
            Self::NotStored => "Not stored.",
            Self::NonNumeric => "Non-numeric server-side value for incr or decr",
            Self::Unauthenticated => "Auth failure.",
            Self::UnknownCommand => "Unknown command",
            Self::OutOfMemory => "Out of memory",
        }
    }
}

const REPLY_MAGIC: u8 = 0x81;
