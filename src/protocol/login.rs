//! What a text client says of itself, a `set` whose value is `user password`, and what it is told.
//!
//! The parser is stricter than that of commands, since whoever speaks here is not known yet: what
//! is not of this form is not understood at all.

use super::number::strict_u32;
use super::text::{Tokens, VALUE_END, without_end};
use memchr::memchr;

/// Why a client is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It asks for something else first.
    Unauthenticated,
    /// The value would be longer than it can be.
    TooLong,
    /// The value is not followed by a line end.
    Unterminated,
    /// The value is not a user and a password.
    Format,
    /// No such user, or another password.
    Failure,
}

/// The line of a client that is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// So many bytes follow it, the value's end included.
    Announces(usize),
    /// It is refused.
    Refused(Refusal),
    /// It is not worth an answer: the connection ends.
    Hostile,
}

/// What a client is told that is let in.
pub const WELCOME: &[u8] = b"STORED\r\n";
/// Input that is shorter is not looked at.
pub const INPUT_BYTES_MIN: usize = 3;

/// Understands a line, given with its end.
#[must_use]
pub fn parse(line: &[u8]) -> Line {
    if line.len() <= LINE_BYTES_MIN {
        return Line::Hostile;
    }
    // Whatever begins with these letters is a set to memcached.
    let is_set = line.starts_with(b"set");
    let length = Tokens::new(without_end(line)).nth(4).and_then(strict_u32);
    match length.and_then(|length| usize::try_from(length).ok()) {
        Some(length) if is_set && length <= TOKEN_BYTES_MAX => {
            Line::Announces(length + VALUE_END.len())
        }
        Some(_) if is_set => Line::Refused(Refusal::TooLong),
        _ => Line::Refused(Refusal::Unauthenticated),
    }
}

/// The user and the password in a value with its end.
///
/// # Errors
/// There is no such end, or no blank between the two.
pub fn credentials(value: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    let token = value.strip_suffix(VALUE_END).ok_or(Refusal::Unterminated)?;
    let blank = memchr(b' ', token).ok_or(Refusal::Format)?;
    Ok((&token[..blank], &token[blank + 1..]))
}

impl Refusal {
    /// What the client is told.
    #[must_use]
    pub fn reply(self) -> &'static [u8] {
        match self {
            Self::Unauthenticated => b"CLIENT_ERROR unauthenticated\r\n",
            Self::TooLong => b"CLIENT_ERROR auth token too long\r\n",
            Self::Unterminated => b"CLIENT_ERROR bad command line termination\r\n",
            Self::Format => b"CLIENT_ERROR bad authentication token format\r\n",
            Self::Failure => b"CLIENT_ERROR authentication failure\r\n",
        }
    }
}

/// Without the line feed.
const LINE_BYTES_MIN: usize = 6;
const TOKEN_BYTES_MAX: usize = 16384;
