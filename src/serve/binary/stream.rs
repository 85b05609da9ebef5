//! Replies that take longer than a turn, as packets.

use super::{Encoder, Header, Phase, Serving, Stop};
use crate::command::{Progress, Stream};
use crate::protocol::{Encode, Fault};

/// A reply under way.
#[derive(Debug)]
pub(in crate::serve) struct Reply {
    header: Header,
    pub(in crate::serve) stream: Stream,
    /// What text clients would have been sent so far. It becomes a single figure, whose length has
    /// to be known before the first byte of it can be sent.
    text: Vec<u8>,
}

impl Reply {
    pub(super) fn new(header: Header, stream: Stream) -> Self {
        Self { header, stream, text: Vec::new() }
    }

    pub(super) fn buffered_bytes(&self) -> usize {
        self.text.capacity()
    }
}

impl Serving<'_, '_> {
    /// Goes on with the reply.
    pub(super) fn reply(&mut self) -> Option<Stop> {
        let Phase::Reply(reply) = &mut *self.phase else { return None };
        let Reply { header, stream, text } = &mut **reply;
        let mut encoder = Encoder::new(self.output, header);
        let progress = if let Stream::Sizes(sizes) = stream {
            sizes.advance(self.context, &mut encoder)
        } else if self.context.shared.may_keep(text.capacity(), PIECE_BYTES) {
            let progress = stream.advance(self.context, text.len() + PIECE_BYTES, text);
            if progress == Progress::Ended {
                encoder.figure(b"detailed", text);
                encoder.end();
            }
            progress
        } else {
            encoder.fault(Fault::OutOfMemory);
            Progress::Ended
        };
        if progress != Progress::Ended {
            return Some(Stop::Turn);
        }
        *self.phase = Phase::Packet;
        None
    }
}

/// Text that is made in one turn.
const PIECE_BYTES: usize = 64 << 10;
