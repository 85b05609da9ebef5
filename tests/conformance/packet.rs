//! Packets of the binary protocol, as the table writes them on a line.
//!
//! ```text
//! > set flags=5 exptime=0 key=a value=hello there
//! < set cas=first
//! > 0x77 bodylen=4 opaque=7
//! < .. stat key=version value=1.6.45
//! ```
//!
//! The opcode comes first, by name or number; then what is not zero or empty, in any order but for
//! the extras (`flags exptime delta initial`, or any bytes as `extras=`), which follow each other
//! as they are given, and `value=`, which takes the rest of the line. `number=` is a value of eight
//! bytes. `keylen extlen bodylen` override what is there. `cas=a` matches any cas and binds it, or
//! sends what was bound; `cas=_` binds nothing; `..` skips to where the packet stands. All packets
//! have the same opaque value unless they say otherwise.

use crate::table::{Piece, bytes};

/// Which way a packet goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Request,
    Reply,
}

/// Reads one line's packet.
pub(crate) fn packet(line: &str, way: Way) -> Result<Vec<Piece>, String> {
    let (skip, line) = match line.strip_prefix(".. ") {
        Some(rest) if way == Way::Reply => (Some(Piece::Skip), rest),
        _ => (None, line),
    };
    let (name, fields) = line.split_once(' ').unwrap_or((line, ""));
    let mut packet = Packet::new(way, opcode(name)?);
    let mut rest = fields;
    while !rest.is_empty() {
        let (field, after) = rest.split_once('=').ok_or("a field without a value")?;
        let (text, after) = match field {
            "value" => (after, ""),
            _ => after.split_once(' ').unwrap_or((after, "")),
        };
        packet.set(field, text)?;
        rest = after;
    }
    Ok(skip.into_iter().chain(packet.pieces()).collect())
}

struct Packet {
    magic: u8,
    opcode: u8,
    /// Of a reply; what a request has in its place is reserved.
    status: u16,
    data_type: u8,
    opaque: u32,
    cas: Cas,
    extras: Vec<u8>,
    key: Vec<u8>,
    value: Vec<u8>,
    key_bytes: Option<u16>,
    extras_bytes: Option<u8>,
    body_bytes: Option<u32>,
}

enum Cas {
    Number(u64),
    Name(String),
}

impl Packet {
    fn new(way: Way, opcode: u8) -> Self {
        Self {
            magic: if way == Way::Request { 0x80 } else { 0x81 },
            opcode,
            status: 0,
            data_type: 0,
            opaque: OPAQUE,
            cas: Cas::Number(0),
            extras: Vec::new(),
            key: Vec::new(),
            value: Vec::new(),
            key_bytes: None,
            extras_bytes: None,
            body_bytes: None,
        }
    }

    fn set(&mut self, field: &str, text: &str) -> Result<(), String> {
        match field {
            "magic" => self.magic = number(text)?,
            "status" => self.status = number(text)?,
            "datatype" => self.data_type = number(text)?,
            "opaque" => self.opaque = number(text)?,
            "cas" if text.starts_with(|first: char| first.is_ascii_digit()) => {
                self.cas = Cas::Number(number(text)?);
            }
            "cas" => self.cas = Cas::Name(text.to_owned()),
            "flags" | "exptime" => self.extras.extend(number::<u32>(text)?.to_be_bytes()),
            "delta" | "initial" => self.extras.extend(number::<u64>(text)?.to_be_bytes()),
            "extras" => self.extras.extend(bytes(text)?),
            "key" => self.key = bytes(text)?,
            "value" => self.value = bytes(text)?,
            "number" => self.value = number::<u64>(text)?.to_be_bytes().to_vec(),
            "keylen" => self.key_bytes = Some(number(text)?),
            "extlen" => self.extras_bytes = Some(number(text)?),
            "bodylen" => self.body_bytes = Some(number(text)?),
            _ => return Err(format!("no such field: {field}")),
        }
        Ok(())
    }

    fn pieces(self) -> Vec<Piece> {
        let body = [self.extras.as_slice(), &self.key, &self.value].concat();
        let fits = "a packet of the table is small";
        let extras_bytes =
            self.extras_bytes.unwrap_or_else(|| self.extras.len().try_into().expect(fits));
        let key_bytes = self.key_bytes.unwrap_or_else(|| self.key.len().try_into().expect(fits));
        let body_bytes = self.body_bytes.unwrap_or_else(|| body.len().try_into().expect(fits));
        let mut head = vec![self.magic, self.opcode];
        head.extend(key_bytes.to_be_bytes());
        head.extend([extras_bytes, self.data_type]);
        head.extend(self.status.to_be_bytes());
        head.extend(body_bytes.to_be_bytes());
        head.extend(self.opaque.to_be_bytes());
        match self.cas {
            Cas::Number(cas) => {
                head.extend(cas.to_be_bytes());
                head.extend(body);
                vec![Piece::Bytes(head)]
            }
            Cas::Name(name) => vec![Piece::Bytes(head), Piece::Cas(name), Piece::Bytes(body)],
        }
    }
}

fn opcode(name: &str) -> Result<u8, String> {
    let known = OPCODES.iter().find(|(known, _)| *known == name);
    known.map_or_else(|| number(name), |(_, opcode)| Ok(*opcode))
}

/// A number, in decimal or behind `0x`.
fn number<N: TryFrom<u64>>(text: &str) -> Result<N, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    let number = number.map_err(|error| format!("{error}: {text}"))?;
    N::try_from(number).map_err(|_| format!("too large: {text}"))
}

const OPAQUE: u32 = 0xc0ff_ee11;

const OPCODES: [(&str, u8); 35] = [
    ("get", 0x00),
    ("set", 0x01),
    ("add", 0x02),
    ("replace", 0x03),
    ("delete", 0x04),
    ("increment", 0x05),
    ("decrement", 0x06),
    ("quit", 0x07),
    ("flush", 0x08),
    ("getq", 0x09),
    ("noop", 0x0a),
    ("version", 0x0b),
    ("getk", 0x0c),
    ("getkq", 0x0d),
    ("append", 0x0e),
    ("prepend", 0x0f),
    ("stat", 0x10),
    ("setq", 0x11),
    ("addq", 0x12),
    ("replaceq", 0x13),
    ("deleteq", 0x14),
    ("incrementq", 0x15),
    ("decrementq", 0x16),
    ("quitq", 0x17),
    ("flushq", 0x18),
    ("appendq", 0x19),
    ("prependq", 0x1a),
    ("touch", 0x1c),
    ("gat", 0x1d),
    ("gatq", 0x1e),
    ("list", 0x20),
    ("auth", 0x21),
    ("step", 0x22),
    ("gatk", 0x23),
    ("gatkq", 0x24),
];
