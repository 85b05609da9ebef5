//! The requests a connection has under way: it writes their bytes, then holds the server to them,
//! byte by byte.
//!
//! Replies are taken in pieces (one value with its header, or one line), so that a reply of any
//! number of keys needs a buffer for one value only and nothing is looked at twice but the header
//! of a value that is still arriving.

use std::fmt;

use memchr::memchr;

use crate::item::{self, KEY_BYTES, Key};
use crate::traffic::{Operation, Traffic};
use crate::workload::Workload;

/// Requests sent and replies owed.
#[derive(Debug)]
pub(crate) struct Batch {
    workload: Workload,
    /// What follows the key in the header of a value, up to the `\n`.
    header_tail: Vec<u8>,
    /// What follows the key in the line of a set.
    set_tail: Vec<u8>,
    requests: Vec<Request>,
    keys: Vec<Key>,
    /// The first request not answered in full.
    request: usize,
    /// The first key not answered.
    key: usize,
    /// Keys asked for and found.
    pub(crate) hits: u64,
    /// Keys asked for and not found.
    pub(crate) misses: u64,
}

/// One request; its keys end at `keys_end`.
#[derive(Debug)]
struct Request {
    operation: Operation,
    keys_end: usize,
}

/// A reply that is not what was stored or not what the protocol allows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct WrongReply(String);

impl fmt::Display for WrongReply {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "wrong reply: {}", self.0)
    }
}

impl std::error::Error for WrongReply {}

impl Batch {
    pub(crate) fn new(workload: &Workload) -> Self {
        let keys_max = workload.pipeline * workload.keys_per_get;
        Self {
            workload: workload.clone(),
            header_tail: format!(" 0 {}\r", workload.value_bytes).into_bytes(),
            set_tail: format!(" 0 0 {}\r\n", workload.value_bytes).into_bytes(),
            requests: Vec::with_capacity(workload.pipeline),
            keys: Vec::with_capacity(keys_max),
            request: 0,
            key: 0,
            hits: 0,
            misses: 0,
        }
    }

    /// Draws the next requests and writes them to `output`.
    pub(crate) fn fill(&mut self, traffic: &mut Traffic, output: &mut Vec<u8>) {
        debug_assert!(self.is_answered());
        self.requests.clear();
        self.keys.clear();
        (self.request, self.key, self.hits, self.misses) = (0, 0, 0, 0);
        for _ in 0..self.workload.pipeline {
            let operation = traffic.operation();
            match operation {
                Operation::Get => self.write_get(traffic, output),
                Operation::Set => self.write_set(traffic, output),
            }
            self.requests.push(Request { operation, keys_end: self.keys.len() });
        }
    }

    /// Checks every complete piece at the start of `input` and returns how many bytes they take.
    pub(crate) fn check(&mut self, input: &[u8]) -> Result<usize, WrongReply> {
        let mut checked = 0;
        while let Some(request) = self.requests.get(self.request) {
            let rest = &input[checked..];
            let piece = match request.operation {
                Operation::Get => self.check_get(rest)?,
                Operation::Set => self.check_set(rest)?,
            };
            match piece {
                0 => return Ok(checked),
                bytes => checked += bytes,
            }
        }
        match input.len() - checked {
            0 => Ok(checked),
            _ => Err(wrong("more than was asked for", &input[checked..])),
        }
    }

    /// Whether every reply has come.
    pub(crate) fn is_answered(&self) -> bool {
        self.request == self.requests.len()
    }

    fn write_get(&mut self, traffic: &mut Traffic, output: &mut Vec<u8>) {
        output.extend_from_slice(b"get");
        for _ in 0..self.workload.keys_per_get {
            let key = item::key(traffic.key());
            self.keys.push(key);
            output.push(b' ');
            output.extend_from_slice(&key);
        }
        output.extend_from_slice(b"\r\n");
    }

    fn write_set(&mut self, traffic: &mut Traffic, output: &mut Vec<u8>) {
        let key = item::key(traffic.key());
        self.keys.push(key);
        output.extend_from_slice(b"set ");
        output.extend_from_slice(&key);
        output.extend_from_slice(&self.set_tail);
        self.workload.values.write(&key, self.workload.value_bytes, output);
        output.extend_from_slice(b"\r\n");
    }

    /// Takes one value, or the end of the reply; returns its length, 0 when it is not there in
    /// full.
    fn check_get(&mut self, input: &[u8]) -> Result<usize, WrongReply> {
        let Some(line) = line(input, &self.workload)? else { return Ok(0) };
        if line == b"END\r" {
            let keys_end = self.requests[self.request].keys_end;
            self.misses += (keys_end - self.key) as u64;
            self.finish_request();
            return Ok(line.len() + 1);
        }
        let Some(key) = self.header_key(line) else {
            return Err(wrong("not the header of a value that was stored", line));
        };
        let value_start = line.len() + 1;
        let value_end = value_start + self.workload.value_bytes;
        let Some(value) = input.get(value_start..value_end + 2) else { return Ok(0) };
        let (value, end) = value.split_at(self.workload.value_bytes);
        if !self.workload.values.matches(key, value) {
            return Err(wrong(&format!("for {}", key.escape_ascii()), value));
        }
        if end != b"\r\n" {
            return Err(wrong("a value that goes on past its length", end));
        }
        self.find_key(key)?;
        Ok(value_end + 2)
    }

    /// The key in the header of a value, if the header is otherwise as it must be.
    fn header_key<'a>(&self, line: &'a [u8]) -> Option<&'a Key> {
        let (key, tail) = line.strip_prefix(b"VALUE ")?.split_first_chunk::<KEY_BYTES>()?;
        (tail == self.header_tail).then_some(key)
    }

    /// Steps over the keys that were not found to the one that was; keys come back in the order in
    /// which they were asked for.
    fn find_key(&mut self, key: &Key) -> Result<(), WrongReply> {
        let keys_end = self.requests[self.request].keys_end;
        let asked = &self.keys[self.key..keys_end];
        match asked.iter().position(|asked| asked == key) {
            Some(skipped) => {
                self.hits += 1;
                self.misses += skipped as u64;
                self.key += skipped + 1;
                Ok(())
            }
            None => Err(wrong("a key that is not next among those asked for", key)),
        }
    }

    fn check_set(&mut self, input: &[u8]) -> Result<usize, WrongReply> {
        match line(input, &self.workload)? {
            None => Ok(0),
            Some(b"STORED\r") => {
                self.finish_request();
                Ok(b"STORED\r\n".len())
            }
            Some(other) => Err(wrong("to a set", other)),
        }
    }

    fn finish_request(&mut self) {
        self.key = self.requests[self.request].keys_end;
        self.request += 1;
    }
}

/// The first line without its `\n`; `None` while it is still arriving.
fn line<'a>(input: &'a [u8], workload: &Workload) -> Result<Option<&'a [u8]>, WrongReply> {
    match memchr(b'\n', input) {
        Some(end) => Ok(Some(&input[..end])),
        None if input.len() > workload.reply_piece_bytes_max() => {
            Err(wrong("a line without end", input))
        }
        None => Ok(None),
    }
}

fn wrong(what: &str, bytes: &[u8]) -> WrongReply {
    let shown = &bytes[..bytes.len().min(SHOWN_BYTES_MAX)];
    WrongReply(format!("{what}: `{}`", shown.escape_ascii()))
}

const SHOWN_BYTES_MAX: usize = 120;

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;
    use crate::item::Values;
    use crate::workload::Mix;

    const GET: &[u8] = b"get key:000000000000 key:000000000001 key:000000000002\r\n";
    const FIRST: &[u8] = b"VALUE key:000000000000 0 20\r\nkey:000000000000key:\r\n";
    const SECOND: &[u8] = b"VALUE key:000000000001 0 20\r\nkey:000000000001key:\r\n";
    const THIRD: &[u8] = b"VALUE key:000000000002 0 20\r\nkey:000000000002key:\r\n";
    const END: &[u8] = b"END\r\n";

    /// One request over keys 0, 1 and so on.
    fn batch(mix: Mix) -> (Batch, Vec<u8>) {
        let workload = Workload {
            connections: 1,
            pipeline: 1,
            keys_per_get: 3,
            mix,
            value_bytes: 20,
            keys: NonZeroU64::new(100).unwrap(),
            seed: 0,
            values: Values::Keyed,
        };
        let (mut batch, mut output) = (Batch::new(&workload), Vec::new());
        batch.fill(&mut Traffic::sequential(&workload), &mut output);
        (batch, output)
    }

    fn check(mix: Mix, reply: &[&[u8]]) -> Result<(bool, u64, u64), WrongReply> {
        let (mut batch, _) = batch(mix);
        batch.check(&reply.concat())?;
        Ok((batch.is_answered(), batch.hits, batch.misses))
    }

    #[test]
    fn requests_are_written_as_the_protocol_has_them() {
        assert_eq!(batch(Mix::GETS).1, GET);
        let set = b"set key:000000000000 0 0 20\r\nkey:000000000000key:\r\n";
        assert_eq!(batch(Mix::SETS).1, set);
    }

    #[test]
    fn hits_and_misses_are_told_apart() {
        assert_eq!(check(Mix::GETS, &[FIRST, SECOND, THIRD, END]), Ok((true, 3, 0)));
        assert_eq!(check(Mix::GETS, &[SECOND, END]), Ok((true, 1, 2)));
        assert_eq!(check(Mix::GETS, &[END]), Ok((true, 0, 3)));
        assert_eq!(check(Mix::GETS, &[FIRST, SECOND]), Ok((false, 2, 0)));
    }

    #[test]
    fn a_reply_may_arrive_byte_by_byte() {
        let reply = [FIRST, THIRD, END].concat();
        let (mut batch, _) = batch(Mix::GETS);
        let mut arrived = Vec::new();
        for &byte in &reply {
            assert!(!batch.is_answered());
            arrived.push(byte);
            let checked = batch.check(&arrived).unwrap();
            arrived.drain(..checked);
        }
        assert!(batch.is_answered() && arrived.is_empty());
        assert_eq!((batch.hits, batch.misses), (2, 1));
    }

    #[test]
    fn lies_are_caught() {
        let lies: [&[&[u8]]; 9] = [
            &[b"VALUE key:000000000000 0 20\r\nkey:000000000001key:\r\n"],
            &[b"VALUE key:000000000000 0 20\r\nkey:000000000000key;\r\n"],
            &[b"VALUE key:000000000000 0 20\r\nkey:000000000000key:00"],
            &[b"VALUE key:000000000000 1 20\r\nkey:000000000000key:\r\n"],
            &[b"VALUE key:000000000000 0 19\r\nkey:000000000000key\r\n"],
            &[b"VALUE key:000000000009 0 20\r\nkey:000000000009key:\r\n"],
            &[SECOND, FIRST],
            &[END, b"END\r\n"],
            &[b"SERVER_ERROR out of memory\r\n"],
        ];
        for lie in lies {
            let lie_text = lie.concat();
            assert!(check(Mix::GETS, lie).is_err(), "{}", lie_text.escape_ascii());
        }
        assert!(check(Mix::SETS, &[b"NOT_STORED\r\n"]).is_err());
        assert_eq!(check(Mix::SETS, &[b"STORED\r\n"]), Ok((true, 0, 0)));
    }

    #[test]
    fn a_line_without_end_is_not_waited_for() {
        assert!(check(Mix::GETS, &[&[b'V'; 200]]).is_err());
        assert!(check(Mix::SETS, &[&[b'S'; 200]]).is_err());
    }
}
