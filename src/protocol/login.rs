//! The parser of what a text client says of itself: a `set` whose value is `user password`.
//!
//! It is stricter than the parser of commands, since whoever speaks here is not known yet: what is
//! not of this form is not understood at all.

use super::Fault;
use super::number::strict_u32;
use super::text::{Tokens, VALUE_END, without_end};
use memchr::memchr;

/// Input that is shorter is not looked at.
pub const INPUT_BYTES_MIN: usize = 3;

/// Understands the line of a `set` and says how many bytes follow it, the value's end included.
///
/// # Errors
/// Why it is refused; without a fault where nothing is answered and the connection ends.
pub fn announced(line: &[u8]) -> Result<usize, Option<Fault>> {
    if line.len() <= LINE_BYTES_MIN {
        return Err(None);
    }
    // Whatever begins with these letters is a set to memcached.
    let is_set = line.starts_with(b"set");
    let length = Tokens::new(without_end(line)).nth(4).and_then(strict_u32);
    match length.and_then(|length| usize::try_from(length).ok()) {
        Some(length) if is_set && length <= TOKEN_BYTES_MAX => Ok(length + VALUE_END.len()),
        Some(_) if is_set => Err(Some(Fault::TokenTooLong)),
        _ => Err(Some(Fault::Unauthenticated)),
    }
}

/// The user and the password in a value with its end.
///
/// # Errors
/// There is no such end, or no blank between the two.
pub fn credentials(value: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let token = value.strip_suffix(VALUE_END).ok_or(Fault::TokenUnterminated)?;
    let blank = memchr(b' ', token).ok_or(Fault::TokenFormat)?;
    Ok((&token[..blank], &token[blank + 1..]))
}

/// Without the line feed.
const LINE_BYTES_MIN: usize = 6;
const TOKEN_BYTES_MAX: usize = 16384;
