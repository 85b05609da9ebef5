//! Outcomes, faults and items as the meta commands write them: a code of two letters, then the
//! flags that were asked for, in the order in which they were.

use super::{FlagSet, Reply};
use crate::clock::Seconds;
use crate::protocol::encode::fault_line;
use crate::protocol::number::strict_exptime;
use crate::protocol::text::Tokens;
use crate::protocol::{Attributes, Counted, Fault, Lease, Outcome, Stored, expiry};
use std::io::Write;

/// Appends the reply to a meta command to an output buffer.
#[derive(Debug)]
pub struct Encoder<'o, 'r> {
    output: &'o mut Vec<u8>,
    reply: &'r Reply<'r>,
    now: Seconds,
}

impl<'o, 'r> Encoder<'o, 'r> {
    /// Answers as `reply` says, at a moment.
    #[must_use]
    pub fn new(output: &'o mut Vec<u8>, reply: &'r Reply<'r>, now: Seconds) -> Self {
        Self { output, reply, now }
    }

    /// How a request ended. That all went well is not told to those who do not want to know.
    pub fn outcome(&mut self, outcome: Outcome) {
        let code = match outcome {
            Outcome::NotStored => b"NS",
            Outcome::Exists => b"EX",
            Outcome::NotFound => b"NF",
            _ if self.reply.asked.has(b'q') => return,
            _ => b"HD",
        };
        match (outcome, self.reply.sent_bytes) {
            (Outcome::Counted(counted), _) => self.counted(&counted),
            (Outcome::Stored(stored), _) => self.storage(code, stored),
            (_, Some(value_bytes)) => self.storage(code, Stored { cas: 0, value_bytes }),
            (_, None) => self.plain(code),
        }
    }

    /// Why a request was not carried out.
    pub fn fault(&mut self, fault: Fault) {
        self.output.extend_from_slice(fault_line(fault));
    }

    /// An item. `write_value` writes its value, or takes note of where it is to be.
    #[inline]
    pub fn item(&mut self, item: &Attributes, write_value: impl FnOnce(&mut Vec<u8>)) {
        let with_value = self.reply.asked.has(b'v') && self.reply.known_cas != Some(item.cas);
        self.output.reserve(ITEM_FRAME_BYTES);
        if with_value {
            self.output.extend_from_slice(b"VA ");
            self.digits(item.value_bytes as u64);
        } else {
            self.output.extend_from_slice(b"HD");
        }
        if self.reply.asked.is_within(KEY_AND_VALUE) {
            self.key();
        } else {
            self.item_flags(item);
        }
        match item.lease {
            Lease::Taken if item.stale => self.output.extend_from_slice(b" Z X"),
            Lease::Taken => self.output.extend_from_slice(b" Z"),
            Lease::Won if item.stale => self.output.extend_from_slice(b" X W"),
            Lease::Won => self.output.extend_from_slice(b" W"),
            Lease::Free => {}
        }
        self.end_line();
        if with_value {
            write_value(self.output);
            self.end_line();
        }
    }

    /// There is no such item. That is not told to those who do not want to know.
    pub fn miss(&mut self) {
        if !self.reply.asked.has(b'q') {
            self.plain(b"EN");
        }
    }

    /// What is known of an item, which takes so many bytes in memcached.
    pub fn inspected(&mut self, item: &Attributes, item_bytes: usize) {
        let Attributes { cas, fetched, last_access, .. } = *item;
        let time_to_live = match item.expiry {
            0 => -1,
            end => i64::from(end) - i64::from(self.now),
        };
        let idle_seconds = self.now.saturating_sub(last_access);
        let fetched = if fetched { "yes" } else { "no" };
        self.output.extend_from_slice(b"ME ");
        self.output.extend_from_slice(self.reply.key);
        write!(
            self.output,
            " exp={time_to_live} la={idle_seconds} cas={cas} fetch={fetched} cls=1 \
             size={item_bytes}\r\n"
        )
        .expect("a Vec takes all that is written");
    }

    /// There is no such item to inspect.
    pub fn nothing_to_inspect(&mut self) {
        self.output.extend_from_slice(b"EN\r\n");
    }

    /// Nothing, but an answer.
    pub fn noop(&mut self) {
        self.output.extend_from_slice(b"MN\r\n");
    }

    /// Bytes of output that wait to be sent.
    #[must_use]
    pub fn written(&self) -> usize {
        self.output.len()
    }

    #[inline]
    fn item_flags(&mut self, item: &Attributes) {
        let mut end = item.expiry;
        for flag in Tokens::new(self.reply.flags) {
            match flag[0] {
                b'v' => {}
                b's' => self.number(b's', item.value_bytes as u64),
                b't' => self.time_to_live(end),
                b'c' => self.number(b'c', item.cas),
                b'f' => self.number(b'f', u64::from(item.flags)),
                b'l' => self.number(b'l', u64::from(self.now.saturating_sub(item.last_access))),
                b'h' => self.number(b'h', u64::from(item.fetched)),
                b'T' => end = self.end_in(flag),
                b'N' if item.created => end = self.end_in(flag),
                _ => self.echo(flag),
            }
        }
    }

    fn storage(&mut self, code: &[u8], stored: Stored) {
        self.output.extend_from_slice(code);
        for flag in Tokens::new(self.reply.flags) {
            match flag[0] {
                b'c' => self.number(b'c', stored.cas),
                b's' => self.number(b's', stored.value_bytes as u64),
                _ => self.echo(flag),
            }
        }
        self.end_line();
    }

    fn counted(&mut self, counted: &Counted) {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(counted.number).as_bytes();
        let with_value = self.reply.asked.has(b'v');
        if with_value {
            self.output.extend_from_slice(b"VA ");
            self.digits(digits.len() as u64);
        } else {
            self.output.extend_from_slice(b"HD");
        }
        let mut end = counted.expiry;
        for flag in Tokens::new(self.reply.flags) {
            match flag[0] {
                b'c' => self.number(b'c', counted.cas),
                b't' => self.time_to_live(end),
                b'T' => end = self.end_in(flag),
                b'N' if counted.created => end = self.end_in(flag),
                _ => self.echo(flag),
            }
        }
        self.end_line();
        if with_value {
            self.output.extend_from_slice(digits);
            self.end_line();
        }
    }

    /// A code, with the flags that every reply may have.
    fn plain(&mut self, code: &[u8]) {
        self.output.extend_from_slice(code);
        for flag in Tokens::new(self.reply.flags) {
            self.echo(flag);
        }
        self.end_line();
    }

    /// Key and opaque come back in every reply; of other flags nothing does.
    fn echo(&mut self, flag: &[u8]) {
        match flag[0] {
            b'O' => {
                self.output.push(b' ');
                self.output.extend_from_slice(flag);
            }
            b'k' => {
                self.key();
                if self.reply.asked.has(b'b') {
                    self.output.extend_from_slice(b" b");
                }
            }
            _ => {}
        }
    }

    /// The key as it came, if it was asked for.
    fn key(&mut self) {
        if self.reply.asked.has(b'k') {
            self.output.extend_from_slice(b" k");
            self.output.extend_from_slice(self.reply.key);
        }
    }

    fn time_to_live(&mut self, end: Seconds) {
        if end == 0 {
            self.output.extend_from_slice(b" t-1");
        } else {
            self.number(b't', u64::from(end.saturating_sub(self.now)));
        }
    }

    /// When an item ends that is given the time to live which is glued to a flag.
    fn end_in(&self, flag: &[u8]) -> Seconds {
        strict_exptime(&flag[1..]).map_or(0, |exptime| expiry(exptime, self.now))
    }

    fn number(&mut self, flag: u8, number: u64) {
        self.output.extend_from_slice(&[b' ', flag]);
        self.digits(number);
    }

    fn digits(&mut self, number: u64) {
        self.output.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    }

    fn end_line(&mut self) {
        self.output.extend_from_slice(b"\r\n");
    }
}

/// What most ask for: however these stand in the request, the reply tells the key, or nothing.
const KEY_AND_VALUE: FlagSet = FlagSet::of(b"kvq");

/// What mostly surrounds a value.
const ITEM_FRAME_BYTES: usize = 64;
