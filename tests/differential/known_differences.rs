//! What larder answers otherwise than memcached 1.6.45, on purpose, and what memcached leaves to
//! chance: each with its reason, and as narrow as it can be told.
//!
//! Some differences can be recognised in an answer; [`reconcile`] turns memcached's into larder's:
//!
//! - STRAY LINE: an empty line behind the fault of a retrieval whose key is too long.
//! - CLASS: larder keeps items of all sizes together; each is of class 1, as far as `me` tells.
//! - BELOW ZERO: what is left of an item that was over when `mg` created it is counted below zero,
//!   without a sign.
//!
//! The others depend on what memcached happens to be doing, so that two memcacheds differ as well,
//! or put the connection out of step, or are mistakes that larder does not repeat and that spread
//! to later answers. The generators do not send what leads there, and say so with these names:
//!
//! - PADDING: a number that grew shorter is padded only if no answer with the old one is still
//!   being sent. So numbers that are counted with are read alone ([`Company::Alone`]).
//! - STALE BLANKS: counting with a value of blanks, or an empty one, reads on into what the memory
//!   held before. So no key that is counted with gets such a value.
//! - LOST ANSWERS: what is queued is lost when a key is too long in a retrieval, or when the
//!   connection is closed for what was sent. So these commands come alone.
//! - QUIET RETRIEVALS: a key that is too long in a retrieval is not told of if the last one is
//!   `noreply`, although retrievals do not know the word. So no such key comes with it.
//! - REVIVED: a flush for later takes the place of one that has been, and what that one passed over
//!   without looking comes back. So every flush is immediate.
//! - UNHEARD B: `me` takes the flag `b` for one only if another one follows. So one does.
//! - LATE FAULT: `mg` and `ma` notice that an opaque token is too long when they have already
//!   touched, created or counted; `ms` when it has noticed that the value is too large. So the
//!   former come with none that is, and the latter only with a short value.
//! - RAW KEYS: an item that `mg` creates under an encoded key, or that was emptied or appended to,
//!   is not known to have one: it is told as it is, line ends and all. So none of this is done
//!   under such a key.
//! - EITHER FORM: a key is told in the form in which it was stored; larder tells it in the form in
//!   which it is asked for. So no key comes both encoded and plain.
//! - GROWN NUMBERS: the time and the unique number that `ma` is to give are lost if the number
//!   takes more digits than before. So only `MD` comes with them.
//! - LEFTOVER NUMBER: an `ms` that fails when its value arrives, or whose value never does, leaves
//!   its unique number to the next classic command that stores, be it over a later connection. So
//!   each gets its value, and an `ms` that succeeds comes behind one that does not.
//! - FRAMES APART: in datagrams, memcached numbers the frames of each item by themselves and sends
//!   one without an end for each miss. So no retrieval asks for several keys there.
//! - FAR OFF: `me` tells of a time in more than 2^31 seconds, which only a binary packet can hold,
//!   as of one that is over. So none is sent.
//! - SWALLOWED TWICE: behind an unknown opcode, extras and key are swallowed a second time. So
//!   unknown opcodes come without.
//!
//! [`Company::Alone`]: crate::sequence::Company::Alone

use crate::sequence::Wire;
use crate::session::Answer;

/// memcached's answer as larder would give it, where it differs from `ours` in a known way.
pub(crate) fn reconcile(wire: Wire, theirs: Answer, ours: &Answer) -> Answer {
    if theirs == *ours || wire.is_binary() {
        return theirs;
    }
    let bytes = without_stray_lines(&theirs.bytes);
    let lines = bytes.split_inclusive(|&byte| byte == b'\n').map(|line| match line.get(..3) {
        Some(b"ME ") => with_number(line, b" cls=", |_| true, b"1"),
        Some(b"HD " | b"VA ") => with_number(line, b" t", is_below_zero, b"0"),
        _ => line.to_vec(),
    });
    Answer { bytes: lines.flatten().collect(), ..theirs }
}

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

/// The line with another number behind a name, if the number is one to be replaced.
fn with_number(line: &[u8], name: &[u8], is_wrong: fn(&str) -> bool, right: &[u8]) -> Vec<u8> {
    for start in line.windows(name.len()).enumerate().filter(|(_, at)| *at == name) {
        let (told, rest) = line.split_at(start.0 + name.len());
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let number = std::str::from_utf8(&rest[..digits]).unwrap_or_default();
        if !number.is_empty() && is_wrong(number) {
            return [told, right, &rest[digits..]].concat();
        }
    }
    line.to_vec()
}

fn is_below_zero(seconds: &str) -> bool {
    seconds.parse().is_ok_and(|seconds: u32| i32::try_from(seconds).is_err())
}

const STRAY: &[u8] = b"CLIENT_ERROR bad command line format\r\n\r\n";
