//! A recorded trace: `time,key,key size,value size,op,ttl`, one request a line, as the Twitter
//! cache traces have it; their seventh column, the client, may stand before the operation. Times
//! are in seconds, fractions allowed.

use std::collections::HashMap;
use std::io::{self, BufRead, ErrorKind};

use crate::random::floor;
use crate::workload::keys::identity;
use crate::workload::operation::Operation;

/// All of a trace, its keys numbered in the order in which they come.
#[derive(Debug, Default)]
pub struct Trace {
    records: Vec<Record>,
    key_bytes: Vec<u8>,
    /// Where the text of each key ends.
    key_ends: Vec<usize>,
    /// By what the values of each key know it.
    identities: Vec<u64>,
    /// The size by which a key is known where a request does not tell one.
    value_bytes: Vec<u32>,
}

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Nanoseconds after the first.
    pub nanos: u64,
    /// Number of the key.
    pub key: u32,
    /// Length of the value that is stored, now or on a miss.
    pub value_bytes: u32,
    /// What is asked for.
    pub operation: Operation,
    /// Time to live of what is stored; 0 is for ever.
    pub ttl_seconds: u32,
}

impl Trace {
    /// Reads a trace; a first line that does not begin with a number is taken for a heading.
    ///
    /// # Errors
    ///
    /// Those of reading; `InvalidData` names the line that is not a request.
    pub fn read(input: impl BufRead) -> io::Result<Self> {
        let mut trace = Self::default();
        let mut numbers: HashMap<Vec<u8>, u32> = HashMap::new();
        let mut first_seconds = None;
        for (index, line) in input.lines().enumerate() {
            let line = line?;
            let heading = index == 0 && !line.starts_with(|c: char| c.is_ascii_digit());
            if line.is_empty() || heading {
                continue;
            }
            let fields: Vec<_> = line.split(',').map(str::trim).collect();
            let parsed = Fields::parse(&fields).ok_or_else(|| {
                let message = format!("line {}: `{line}` is not a request", index + 1);
                io::Error::new(ErrorKind::InvalidData, message)
            })?;
            let key = trace.number(&mut numbers, parsed.key)?;
            let first_seconds = *first_seconds.get_or_insert(parsed.seconds);
            trace.push(key, &parsed, (parsed.seconds - first_seconds).max(0.0));
        }
        match trace.records.is_empty() {
            true => Err(io::Error::new(ErrorKind::InvalidData, "the trace is empty")),
            false => Ok(trace),
        }
    }

    /// The requests, in order.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// How many keys there are.
    #[must_use]
    pub fn key_count(&self) -> u64 {
        self.key_ends.len() as u64
    }

    /// The text of a key.
    #[must_use]
    pub fn key(&self, id: u64) -> &[u8] {
        let index = usize::try_from(id).expect("a key of this trace");
        let begin = index.checked_sub(1).map_or(0, |before| self.key_ends[before]);
        &self.key_bytes[begin..self.key_ends[index]]
    }

    /// The number by which a key's values know it, the same in every trace.
    #[must_use]
    pub fn identity(&self, id: u64) -> u64 {
        self.identities[usize::try_from(id).expect("a key of this trace")]
    }

    /// Length of a key, on average over the keys.
    #[must_use]
    pub fn key_bytes_mean(&self) -> f64 {
        self.key_bytes.len() as f64 / self.key_ends.len() as f64
    }

    /// The size that a key's value has where nothing else is known.
    #[must_use]
    pub fn value_bytes(&self, id: u64) -> u32 {
        self.value_bytes[usize::try_from(id).expect("a key of this trace")]
    }

    fn push(&mut self, key: u32, fields: &Fields<'_>, seconds: f64) {
        let known = &mut self.value_bytes[key as usize];
        if fields.value_bytes > 0 {
            *known = fields.value_bytes;
        }
        self.records.push(Record {
            nanos: floor(seconds * 1e9),
            key,
            value_bytes: *known,
            operation: fields.operation,
            ttl_seconds: fields.ttl_seconds,
        });
    }

    fn number(&mut self, numbers: &mut HashMap<Vec<u8>, u32>, key: &str) -> io::Result<u32> {
        if let Some(&number) = numbers.get(key.as_bytes()) {
            return Ok(number);
        }
        let number = u32::try_from(numbers.len()).map_err(|_| ErrorKind::FileTooLarge)?;
        numbers.insert(key.as_bytes().to_vec(), number);
        self.key_bytes.extend_from_slice(key.as_bytes());
        self.key_ends.push(self.key_bytes.len());
        self.identities.push(identity(key.as_bytes()));
        self.value_bytes.push(0);
        Ok(number)
    }
}

/// A line taken apart.
struct Fields<'a> {
    seconds: f64,
    key: &'a str,
    value_bytes: u32,
    operation: Operation,
    ttl_seconds: u32,
}

impl<'a> Fields<'a> {
    fn parse(fields: &[&'a str]) -> Option<Self> {
        let (&[time, key, _, value_bytes], rest) = fields.split_first_chunk::<4>()?;
        let (&operation, ttl) = match rest {
            [operation] => (operation, "0"),
            [operation, ttl] | [_, operation, ttl] => (operation, *ttl),
            _ => return None,
        };
        let sendable = |byte: u8| byte > b' ' && byte != 0x7F;
        let key_fits = (1..=super::keys::KEY_BYTES_MAX).contains(&key.len());
        (key_fits && key.bytes().all(sendable)).then_some(())?;
        Some(Self {
            seconds: time.parse().ok().filter(|seconds: &f64| seconds.is_finite())?,
            key,
            value_bytes: value_bytes.parse().ok()?,
            operation: nearest(operation)?,
            ttl_seconds: ttl.parse().ok()?,
        })
    }
}

/// The operation of that name, or the one nearest to it among those that this program sends.
fn nearest(name: &str) -> Option<Operation> {
    match name {
        "replace" => Some(Operation::Set),
        "decr" => Some(Operation::Incr),
        other => other.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let text = "time,key,key_size,value_size,op,ttl\n100,a,1,0,get,0\n100.5,bb,2,7,set,60\n\
                    101,a,1,9,4,replace,5\n";
        let trace = Trace::read(text.as_bytes()).unwrap();
        let record = |nanos, key, value_bytes, operation, ttl_seconds| Record {
            nanos,
            key,
            value_bytes,
            operation,
            ttl_seconds,
        };
        let expected = [
            record(0, 0, 0, Operation::Get, 0),
            record(500_000_000, 1, 7, Operation::Set, 60),
            record(1_000_000_000, 0, 9, Operation::Set, 5),
        ];
        assert_eq!(trace.records(), expected);
        assert_eq!((trace.key(0), trace.key(1)), (&b"a"[..], &b"bb"[..]));
        assert_eq!((trace.value_bytes(0), trace.value_bytes(1)), (9, 7));
    }

    #[test]
    fn a_line_that_is_no_request_is_named() {
        for bad in ["1,a,1,0,got,0", "1,a,1", "1,a b,1,0,get,0", "1,,0,0,get,0", "x\nx"] {
            let text = format!("0,k,1,0,get,0\n{bad}\n");
            let error = Trace::read(text.as_bytes()).unwrap_err();
            assert!(error.to_string().starts_with("line 2:"), "{bad}: {error}");
        }
        assert!(Trace::read(&b""[..]).is_err());
    }
}
