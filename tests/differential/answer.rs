//! Takes an answer apart into what must be equal and what only must correspond: unique numbers,
//! which each server counts for itself, and times, which pass while both are asked.

use crate::sequence::Wire;

/// A part of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    Bytes(&'a [u8]),
    /// A unique number.
    Cas(u64),
    /// Seconds until something or since something.
    Seconds(i64),
}

/// The parts of an answer, in order. What does not look like an answer is one part.
pub(crate) fn parts(wire: Wire, answer: &[u8]) -> Vec<Part<'_>> {
    let mut reader = Reader { rest: answer, parts: Vec::new() };
    while !reader.rest.is_empty() {
        let read = if wire.is_binary() { reader.packet() } else { reader.line() };
        if read.is_none() {
            reader.bytes(reader.rest.len());
        }
    }
    reader.parts
}

struct Reader<'a> {
    rest: &'a [u8],
    parts: Vec<Part<'a>>,
}

impl<'a> Reader<'a> {
    /// A line of either text dialect, with the value that it announces.
    fn line(&mut self) -> Option<()> {
        let end = self.rest.windows(2).position(|at| at == b"\r\n")?;
        let mut tokens = self.rest[..end].split(|&byte| byte == b' ');
        let first = tokens.next()?;
        match first {
            b"VALUE" => {
                let value_bytes = number::<usize>(tokens.nth(2)?)?;
                if let Some(cas) = tokens.next() {
                    self.bytes(end - cas.len());
                    self.cas(cas)?;
                    self.bytes(LINE_END_BYTES);
                } else {
                    self.bytes(end + LINE_END_BYTES);
                }
                self.value(value_bytes)?;
            }
            b"VA" => {
                let length = tokens.next()?;
                self.bytes(first.len() + 1 + length.len());
                self.flags(end - first.len() - 1 - length.len())?;
                self.value(number(length)?)?;
            }
            b"HD" | b"NS" | b"EX" | b"NF" | b"EN" => {
                self.bytes(first.len());
                self.flags(end - first.len())?;
            }
            b"ME" => {
                let key = tokens.next()?;
                self.bytes(first.len() + 1 + key.len());
                self.figures(end - first.len() - 1 - key.len())?;
            }
            _ => self.bytes(end + LINE_END_BYTES),
        }
        Some(())
    }

    /// The flags of a meta answer, and the end of their line.
    fn flags(&mut self, length: usize) -> Option<()> {
        for flag in self.rest[..length].split(|&byte| byte == b' ').skip(1) {
            self.bytes(1);
            match flag {
                [b'c', digits @ ..] => {
                    self.bytes(1);
                    self.cas(digits)?;
                }
                [b't' | b'l', digits @ ..] => {
                    self.bytes(1);
                    self.seconds(digits)?;
                }
                _ => self.bytes(flag.len()),
            }
        }
        self.bytes(LINE_END_BYTES);
        Some(())
    }

    /// What `me` tells of an item: a name, an equals sign and a value each.
    fn figures(&mut self, length: usize) -> Option<()> {
        for figure in self.rest[..length].split(|&byte| byte == b' ').skip(1) {
            let name = figure.iter().position(|&byte| byte == b'=')? + 1;
            self.bytes(1 + name);
            match &figure[..name] {
                b"exp=" | b"la=" => self.seconds(&figure[name..])?,
                b"cas=" => self.cas(&figure[name..])?,
                _ => self.bytes(figure.len() - name),
            }
        }
        self.bytes(LINE_END_BYTES);
        Some(())
    }

    fn packet(&mut self) -> Option<()> {
        let header = self.rest.first_chunk::<HEADER_BYTES>()?;
        let body_bytes = u32::from_be_bytes(*header[8..].first_chunk()?);
        let cas = u64::from_be_bytes(*header[CAS_OFFSET..].first_chunk()?);
        let body_bytes = usize::try_from(body_bytes).ok()?;
        if self.rest.len() < HEADER_BYTES + body_bytes {
            return None;
        }
        self.bytes(CAS_OFFSET);
        self.parts.push(Part::Cas(cas));
        self.rest = &self.rest[HEADER_BYTES - CAS_OFFSET..];
        self.bytes(body_bytes);
        Some(())
    }

    fn value(&mut self, value_bytes: usize) -> Option<()> {
        let bytes = value_bytes.checked_add(LINE_END_BYTES)?;
        (bytes <= self.rest.len()).then(|| self.bytes(bytes))
    }

    fn bytes(&mut self, length: usize) {
        let (bytes, rest) = self.rest.split_at(length);
        self.parts.push(Part::Bytes(bytes));
        self.rest = rest;
    }

    fn cas(&mut self, digits: &[u8]) -> Option<()> {
        self.parts.push(Part::Cas(number(digits)?));
        self.rest = &self.rest[digits.len()..];
        Some(())
    }

    fn seconds(&mut self, digits: &[u8]) -> Option<()> {
        self.parts.push(Part::Seconds(number(digits)?));
        self.rest = &self.rest[digits.len()..];
        Some(())
    }
}

fn number<N: std::str::FromStr>(digits: &[u8]) -> Option<N> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

const LINE_END_BYTES: usize = 2;
const HEADER_BYTES: usize = 24;
const CAS_OFFSET: usize = 16;

#[test]
fn numbers_that_only_correspond_are_found() {
    let text = b"VALUE a 0 4 77\r\nHD\r\n\r\nHD t-1 Oc5 c6\r\nVA 3 l2 kc\r\nc9 \r\nEND\r\n";
    let found: Vec<_> = parts(Wire::Text, text)
        .into_iter()
        .filter(|part| !matches!(part, Part::Bytes(_)))
        .collect();
    assert_eq!(found, [Part::Cas(77), Part::Seconds(-1), Part::Cas(6), Part::Seconds(2)]);
}

#[test]
fn nothing_of_an_answer_is_lost() {
    for (wire, answer) in [
        (Wire::Text, &b"VALUE a 0 9\r\nshort\r\n"[..]),
        (Wire::Text, b"VA x\r\nHD c\r\nHD cx\r\nVALUE\r\nno end"),
        (Wire::Binary, b"\x81 too short"),
    ] {
        let bytes: Vec<u8> = parts(wire, answer)
            .into_iter()
            .flat_map(|part| match part {
                Part::Bytes(bytes) => bytes.to_vec(),
                other => panic!("{other:?} is none"),
            })
            .collect();
        assert_eq!(bytes, answer);
    }
}
