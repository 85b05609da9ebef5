//! What larder answers otherwise than memcached 1.6.45, on purpose, and what memcached leaves to
//! chance: each with its reason, and as narrow as it can be told.
//!
//! Some differences can be recognised in an answer; [`reconcile`] turns memcached's into larder's.
//! Others depend on what memcached happens to be doing, so that two memcacheds differ as well, or
//! put the connection out of step; the generators do not send what leads there, and say so with
//! the names of this list.
//!
//! - PADDING: a number that grew shorter is padded only if no answer with the old one is still
//!   being sent. So numbers that are counted with are read alone ([`Company::Alone`]).
//! - STALE BLANKS: counting with a value of blanks, or an empty one, reads on into what the memory
//!   held before. So no key that is counted with gets such a value.
//! - LOST ANSWERS: what is queued is lost when a key is too long in a retrieval, or when the
//!   connection is closed for what was sent. So these commands come alone.
//! - QUIET RETRIEVALS: a key that is too long in a retrieval is not told of if the last one is
//!   `noreply`, although retrievals do not know the word. So no such key comes with it.
//! - SWALLOWED TWICE: behind an unknown opcode, extras and key are swallowed a second time. So
//!   unknown opcodes come without.
//!
//! [`Company::Alone`]: crate::sequence::Company::Alone

use crate::sequence::Wire;
use crate::session::Answer;

/// memcached's answer as larder would give it, where it differs from `ours` in a known way.
pub(crate) fn reconcile(wire: Wire, theirs: Answer, ours: &Answer) -> Answer {
    if theirs == *ours || wire == Wire::Binary {
        return theirs;
    }
    Answer { bytes: without_stray_lines(&theirs.bytes), ..theirs }
}

/// memcached sends an empty line behind the fault of a retrieval whose key is too long.
fn without_stray_lines(answer: &[u8]) -> Vec<u8> {
    let mut rest = answer;
    let mut kept = Vec::new();
    while let Some(at) = rest.windows(STRAY.len()).position(|window| window == STRAY) {
        kept.extend_from_slice(&rest[..at + STRAY.len() - 2]);
        rest = &rest[at + STRAY.len()..];
    }
    kept.extend_from_slice(rest);
    kept
}

const STRAY: &[u8] = b"CLIENT_ERROR bad command line format\r\n\r\n";
