//! Replies on their way to a client: bytes that are copied together, and between them large values
//! that the store lends, so that they are sent from where they lie.
//!
//! To copy a value costs its length twice, once to collect it and once to give it to the system;
//! to lend it costs a count for each of its pieces, and the room of a segment that cannot be used
//! again until the client has read. So only what is [large](Config::lent_bytes_min)
//! is lent, and no more than the store has to spare.

use crate::config::Config;
use crate::store::{Item, Loan, Store};
use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem;

/// Replies that are being collected or sent.
#[derive(Debug, Default)]
pub struct Output {
    bytes: Vec<u8>,
    loans: Loans,
    /// How many of `bytes` are sent.
    sent: usize,
}

/// Values that are lent, each with the number of bytes that stand before it.
#[derive(Debug)]
pub struct Loans {
    queue: VecDeque<(usize, Loan)>,
    length: usize,
    /// Values of so many bytes are lent.
    lent_bytes_min: usize,
    /// Values of more bytes are not copied, even where they cannot be lent.
    copied_bytes_max: usize,
    is_overdrawn: bool,
}

impl Output {
    /// Nothing yet, of a connection.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let loans = Loans {
            lent_bytes_min: config.lent_bytes_min,
            copied_bytes_max: config.buffer_bytes_max / 4,
            ..Loans::default()
        };
        Self { loans, ..Self::default() }
    }

    /// Nothing yet, of the same kind.
    fn another(&self) -> Self {
        let Loans { lent_bytes_min, copied_bytes_max, .. } = self.loans;
        let loans = Loans { lent_bytes_min, copied_bytes_max, ..Loans::default() };
        Self { loans, ..Self::default() }
    }

    /// What to add replies to.
    pub fn parts(&mut self) -> (&mut Vec<u8>, &mut Loans) {
        (&mut self.bytes, &mut self.loans)
    }

    /// What was copied together, sent or not: where the next reply begins.
    #[must_use]
    pub fn end(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes that are not sent.
    #[must_use]
    pub fn unsent_bytes(&self) -> usize {
        self.bytes.len() - self.sent + self.loans.length
    }

    /// Whether everything is sent up to where a reply ends.
    #[must_use]
    pub fn is_sent(&self, end: usize) -> bool {
        self.piece(end).is_some_and(<[u8]>::is_empty)
    }

    /// Whether everything is sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.unsent_bytes() == 0
    }

    /// Bytes of memory that it takes beside the store.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.bytes.capacity() + self.loans.queue.capacity() * size_of::<(usize, Loan)>()
    }

    /// What was copied together, sent or not.
    #[must_use]
    pub fn copied(&self) -> &[u8] {
        &self.bytes
    }

    /// What is to be sent next up to where a reply ends, if that is in one piece.
    #[must_use]
    pub fn piece(&self, end: usize) -> Option<&[u8]> {
        let is_one = self.loans.queue.front().is_none_or(|(before, _)| *before > end);
        is_one.then(|| &self.bytes[self.sent..end])
    }

    /// The first pieces of what is to be sent next, up to where a reply ends. Returns how many.
    pub fn pieces<'o>(&'o self, end: usize, pieces: &mut [IoSlice<'o>]) -> usize {
        let mut start = self.sent;
        let mut count = 0;
        let loans = self.loans.queue.iter().take_while(|(before, _)| *before <= end);
        let parts = loans
            .map(|(before, loan)| (*before, loan.bytes()))
            .chain([(end, [].as_slice())])
            .flat_map(|(before, lent)| {
                let own = &self.bytes[mem::replace(&mut start, before)..before];
                [own, lent]
            })
            .filter(|part| !part.is_empty());
        for (place, part) in pieces.iter_mut().zip(parts) {
            *place = IoSlice::new(part);
            count += 1;
        }
        count
    }

    /// Notes that so many bytes more are sent.
    ///
    /// # Panics
    /// There are fewer.
    pub fn advance(&mut self, mut bytes: usize) {
        while bytes > 0 {
            let next_loan =
                self.loans.queue.front().map_or(self.bytes.len(), |(before, _)| *before);
            let own = bytes.min(next_loan - self.sent);
            self.sent += own;
            bytes -= own;
            if bytes > 0 {
                bytes -= self.loans.advance(bytes);
            }
        }
    }

    /// Takes out what is not sent, up to where a reply ends.
    #[must_use]
    pub fn take_rest(&mut self, end: usize) -> Self {
        let mut rest = self.another();
        rest.bytes.extend_from_slice(&self.bytes[self.sent..end]);
        while let Some((before, _)) = self.loans.queue.front()
            && *before <= end
        {
            let (before, loan) = self.loans.queue.pop_front().expect("it was there");
            self.loans.length -= loan.bytes().len();
            rest.loans.push(before - self.sent, loan);
        }
        self.sent = end;
        rest
    }

    /// Takes out what is not sent, with the memory that it lies in, unless that is mostly empty.
    #[must_use]
    pub fn take_unsent(&mut self) -> Self {
        if self.bytes.len() - self.sent > self.bytes.capacity() / MOVED_PART {
            let another = self.another();
            return mem::replace(self, another);
        }
        let rest = self.take_rest(self.bytes.len());
        self.bytes.clear();
        self.sent = 0;
        rest
    }

    /// Makes it as it was at the beginning, with memory for about so many bytes.
    pub fn clear(&mut self, bytes: usize) {
        self.bytes.clear();
        self.bytes.shrink_to(bytes);
        self.loans.queue.clear();
        self.loans.queue.shrink_to(LOANS_KEPT);
        self.loans.length = 0;
        self.sent = 0;
    }

    /// What is not sent, in one piece. Nothing is left.
    #[must_use]
    pub fn take_bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.unsent_bytes());
        loop {
            let mut piece = [IoSlice::new(&[])];
            if self.pieces(self.end(), &mut piece) == 0 {
                break;
            }
            let length = piece[0].len();
            bytes.extend_from_slice(&piece[0]);
            self.advance(length);
        }
        self.clear(0);
        bytes
    }
}

impl Loans {
    /// Bytes that are lent and not sent.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.length
    }

    /// Adds an item's value behind the `bytes` of its output.
    pub fn add_value(&mut self, bytes: &mut Vec<u8>, store: &Store, item: &Item<'_>) {
        let value_bytes = item.value_bytes();
        let is_large = value_bytes >= self.lent_bytes_min;
        if is_large && store.lend(item, |loan| self.push(bytes.len(), loan)) {
            return;
        }
        if value_bytes > self.copied_bytes_max {
            self.is_overdrawn = true;
            return;
        }
        bytes.reserve(value_bytes + LINE_END_BYTES);
        // To ask for the next of one chunk costs as much as to copy a small value.
        match item.whole_value() {
            Some(value) => bytes.extend_from_slice(value),
            None => item.value_chunks().for_each(|chunk| bytes.extend_from_slice(chunk)),
        }
    }

    /// Whether there was a value that could be neither lent nor copied since this was asked last.
    pub fn take_overdrawn(&mut self) -> bool {
        mem::take(&mut self.is_overdrawn)
    }

    /// Takes back what was lent behind so many bytes of its output.
    pub fn retract(&mut self, bytes: usize) {
        while let Some((_, loan)) = self.queue.back().filter(|(before, _)| *before > bytes) {
            self.length -= loan.bytes().len();
            self.queue.pop_back();
        }
    }

    /// Notes that so many bytes of the first are sent, or all that it has. Returns how many.
    fn advance(&mut self, bytes: usize) -> usize {
        let (_, loan) = self.queue.front_mut().expect("no more is sent than there is");
        let sent = bytes.min(loan.bytes().len());
        self.length -= sent;
        loan.skip(sent);
        if loan.bytes().is_empty() {
            self.queue.pop_front();
        }
        sent
    }

    fn push(&mut self, before: usize, loan: Loan) {
        self.length += loan.bytes().len();
        self.queue.push_back((before, loan));
    }
}

impl Default for Loans {
    /// Lends nothing.
    fn default() -> Self {
        Self {
            queue: VecDeque::new(),
            length: 0,
            lent_bytes_min: usize::MAX,
            copied_bytes_max: usize::MAX,
            is_overdrawn: false,
        }
    }
}

/// What follows a value in text.
const LINE_END_BYTES: usize = 2;

/// What fills less than this part of its memory is copied rather than moved.
const MOVED_PART: usize = 4;

/// Places for as many loans stay when output is sent: those of a value of 1 MiB, and more.
const LOANS_KEPT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Expected, Expiry, Options, State};

    /// However little is sent at a time, and wherever the rest of a reply is taken out, what is
    /// sent in all is what was added, in order.
    #[test]
    fn bytes_and_loans_are_sent_in_their_order() {
        let store = Store::new(&Options::new(1 << 20, true)).expect("a little memory");
        let mut handle = store.register();
        let value: Vec<u8> = (0..9_000_u32).map(|place| place.to_le_bytes()[0]).collect();
        let mut batch = handle.batch(1000);
        let mut draft = batch.reserve(b"key", value.len(), 0, Expiry::At(0)).expect("room");
        batch.fill(&mut draft, &value);
        batch.publish(draft, Expected::Any).expect("no condition");
        let State::Hit(item) = batch.peek(b"key") else { panic!("it is there") };
        for step in [1, 7, 500, 4_032, 8_999, 20_000] {
            let mut output = Output::new(&Config::tiny());
            let mut ends = Vec::new();
            for _ in 0..3 {
                let (bytes, loans) = output.parts();
                bytes.extend_from_slice(b"before ");
                loans.add_value(bytes, &store, &item);
                // In the binary protocol, nothing follows a value.
                ends.push(bytes.len());
                bytes.extend_from_slice(b"alone ");
                ends.push(bytes.len());
            }
            assert_eq!(output.loans.bytes(), 3 * value.len(), "they are lent");
            let mut sent = Vec::new();
            for end in ends {
                send(&mut output, end, step, step, &mut sent);
                let mut rest = output.take_rest(end);
                assert!(output.is_sent(end));
                let end = rest.end();
                send(&mut rest, end, step, usize::MAX, &mut sent);
                assert!(rest.is_empty());
            }
            let expect = [b"before ", &value[..], b"alone "].concat().repeat(3);
            assert!(sent == expect && output.is_empty(), "in steps of {step}");
            assert_eq!(store.totals().segments_aside, 0);
        }
    }

    /// Sends about `most` bytes, `step` at a time.
    fn send(output: &mut Output, end: usize, step: usize, most: usize, sent: &mut Vec<u8>) {
        let mut left = most;
        while left > 0 && !output.is_sent(end) {
            let mut pieces = [IoSlice::new(&[]); 2];
            let count = output.pieces(end, &mut pieces);
            let next: Vec<u8> =
                pieces[..count].iter().flat_map(|piece| piece.iter()).copied().take(step).collect();
            output.advance(next.len());
            left = left.saturating_sub(next.len());
            sent.extend(next);
        }
    }
}
