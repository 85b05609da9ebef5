//! Replies that take longer than a turn: lists of everything that is stored, and what a watching
//! client is told.
//!
//! Such a reply is made in pieces, one each time the connection is served, and nothing is held in
//! between but a place: no lock, no pin, no output. A client that does not read is not served, so a
//! list stands still until it does.

use super::{Context, item_bytes, visible_cas};
use crate::crawler::Turn;
use crate::prefixes::PrefixFigures;
use crate::protocol::encode::Encoder;
use crate::protocol::listing::Facts;
use crate::protocol::manage::Refusal;
use crate::protocol::{Encode, Fault, is_text_key};
use crate::shared::Shared;
use crate::store::{Cursor, Item};
use crate::watch::Watching;
use std::collections::BTreeMap;
use std::task::Waker;

/// A reply that was begun.
#[derive(Debug)]
pub enum Stream {
    /// A walk over everything that is stored.
    Walk(Walk),
    /// The figures by size.
    Sizes(Sizes),
    /// The figures by prefix, from this part on.
    Prefixes(usize),
    /// What is watched, as it happens.
    Watch {
        /// The lines that wait.
        watching: Watching,
        /// Wakes the connection when there are more.
        waker: Option<Waker>,
    },
}

/// How a reply stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It goes on at once.
    GoesOn,
    /// It goes on when something happens.
    Waits,
    /// It is over.
    Ended,
}

/// A walk over everything that is stored.
#[derive(Debug)]
pub struct Walk {
    /// `None` where there is nothing to walk over.
    cursor: Option<Cursor>,
    purpose: Purpose,
    turn: Option<Turn>,
}

/// What a walk is for.
#[derive(Clone, Debug)]
pub enum Purpose {
    /// Drop what is dead.
    Reclaim,
    /// List items for programs.
    Metadump,
    /// List requests for all keys.
    KeyDump,
    /// List some items for people.
    List {
        /// So many.
        items_left: u32,
        /// In so many bytes and a shard's more.
        bytes_left: usize,
    },
}

/// Items counted by size, as far as a walk has come.
#[derive(Debug, Default)]
pub struct Sizes {
    cursor: Cursor,
    /// How many there are in each step, by its upper end in bytes.
    counts: BTreeMap<usize, u64>,
}

impl Stream {
    /// Adds the next piece to `output`, up to about `output_bytes` in all.
    pub fn advance(
        &mut self,
        context: &Context<'_>,
        output_bytes: usize,
        output: &mut Vec<u8>,
    ) -> Progress {
        match self {
            Self::Walk(walk) => walk.advance(context, output_bytes, output),
            Self::Sizes(sizes) => sizes.advance(context, &mut Encoder::new(output, false)),
            Self::Prefixes(part) => list_prefixes(context, part, output_bytes, output),
            Self::Watch { watching, waker } => {
                watching.drain(waker.as_ref(), output);
                Progress::Waits
            }
        }
    }

    /// Has it wake the connection when it goes on.
    pub fn wake_with(&mut self, connection: &Waker) {
        if let Self::Watch { waker, .. } = self {
            waker.get_or_insert_with(|| connection.clone());
        }
    }
}

impl Walk {
    /// At its beginning, over everything or nothing. A turn may be lost to somebody else if the
    /// walk does not get on.
    #[must_use]
    pub fn new(purpose: Purpose, over_all: bool, turn: Option<Turn>) -> Self {
        Self { cursor: over_all.then(Cursor::default), purpose, turn }
    }

    fn advance(
        &mut self,
        context: &Context<'_>,
        output_bytes: usize,
        output: &mut Vec<u8>,
    ) -> Progress {
        let output_bytes = output_bytes.min(output.len() + PIECE_BYTES);
        let mut encoder = Encoder::new(output, false);
        let (mut checked, mut reclaimed) = (0, 0);
        let mut ended = false;
        for _ in 0..SHARDS_PER_PIECE {
            ended = !self.step(context, &mut checked, &mut reclaimed, &mut encoder);
            if ended || encoder.written() >= output_bytes {
                break;
            }
        }
        let now = context.batch.now();
        if self.turn.as_ref().is_some_and(|turn| !turn.step(now, checked, reclaimed)) {
            encoder.fault(Fault::Management(Refusal::CrawlLost));
            return Progress::Ended;
        }
        if !ended {
            return Progress::GoesOn;
        }
        self.purpose.finish(&mut encoder);
        Progress::Ended
    }

    /// Walks over the next shard; `false` if there is none.
    fn step(
        &mut self,
        context: &Context<'_>,
        checked: &mut u64,
        reclaimed: &mut u64,
        encoder: &mut Encoder<'_>,
    ) -> bool {
        let Context { shared, batch, .. } = context;
        let Some(cursor) = &mut self.cursor else { return false };
        match &mut self.purpose {
            Purpose::Reclaim => {
                let Some(swept) = batch.sweep_next(cursor) else { return false };
                *checked += swept.checked;
                *reclaimed += swept.reclaimed;
                true
            }
            Purpose::Metadump => batch.visit_next(cursor, |item| {
                *checked += 1;
                encoder.facts(&Facts {
                    key: item.key(),
                    expiry: item.expiry(),
                    last_access: item.last_access(),
                    cas: visible_cas(shared, item.cas()),
                    fetched: item.is_fetched(),
                    bytes: bytes_of(shared, item),
                    flags: item.flags(),
                });
            }),
            Purpose::KeyDump => batch.visit_next(cursor, |item| {
                *checked += 1;
                encoder.request_for(item.key());
            }),
            Purpose::List { items_left, bytes_left } => {
                if *items_left == 0 || *bytes_left == 0 {
                    return false;
                }
                let before = encoder.written();
                let walked = batch.visit_next(cursor, |item| {
                    if *items_left > 0 && is_text_key(item.key()) {
                        *items_left -= 1;
                        encoder.listed(item.key(), item.value_bytes(), item.expiry());
                    }
                });
                *bytes_left = bytes_left.saturating_sub(encoder.written() - before);
                walked
            }
        }
    }
}

impl Purpose {
    /// Writes what comes last.
    fn finish(&self, encoder: &mut Encoder<'_>) {
        match self {
            Self::Reclaim => {}
            Self::Metadump | Self::List { .. } => encoder.end(),
            Self::KeyDump => encoder.end_of_requests(),
        }
    }
}

impl Sizes {
    /// Walks over the next items, and writes the figures behind the last.
    pub fn advance(&mut self, context: &Context<'_>, encoder: &mut impl Encode) -> Progress {
        let Self { cursor, counts } = self;
        for _ in 0..SHARDS_PER_PIECE {
            let walked = context.batch.visit_next(cursor, |item| {
                let bytes = bytes_of(context.shared, item).next_multiple_of(SIZE_STEP_BYTES);
                *counts.entry(bytes).or_default() += 1;
            });
            if !walked {
                for (bytes, count) in counts {
                    encoder.stat(bytes, count);
                }
                encoder.end();
                return Progress::Ended;
            }
        }
        Progress::GoesOn
    }
}

fn bytes_of(shared: &Shared, item: &Item<'_>) -> usize {
    item_bytes(shared, item.key(), item.flags(), item.value_bytes())
}

fn list_prefixes(
    context: &Context<'_>,
    part: &mut usize,
    output_bytes: usize,
    output: &mut Vec<u8>,
) -> Progress {
    let mut encoder = Encoder::new(output, false);
    while encoder.written() < output_bytes {
        let listed = context.shared.prefixes.visit(*part, |prefix, figures| {
            // What came in the binary protocol may hold the end of the list.
            if is_text_key(prefix) {
                let PrefixFigures { gets, hits, sets, deletes } = *figures;
                encoder.prefix(prefix, [gets, hits, sets, deletes]);
            }
        });
        if !listed {
            encoder.end();
            return Progress::Ended;
        }
        *part += 1;
    }
    Progress::GoesOn
}

/// Output of a walk in one turn: some hundred microseconds' worth, that others need not wait longer.
const PIECE_BYTES: usize = 64 << 10;

/// Shards walked over in one turn, for the same reason, where there is little to write.
const SHARDS_PER_PIECE: usize = 32;

/// Sizes are told in steps of so many bytes.
const SIZE_STEP_BYTES: usize = 32;
