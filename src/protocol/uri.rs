//! Keys in lines that people and scripts read: percent-encoded, for a key may hold any byte.

use std::fmt::{self, Display, Write};

/// Shows bytes with all but letters, digits and `-._~` written as `%` and two hexadecimal digits.
#[derive(Clone, Copy, Debug)]
pub struct Encoded<'a>(pub &'a [u8]);

impl Display for Encoded<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &byte in self.0 {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                formatter.write_char(char::from(byte))?;
            } else {
                write!(formatter, "%{byte:02X}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_plain_stays() {
        assert_eq!(Encoded(b"aZ09-._~").to_string(), "aZ09-._~");
        assert_eq!(Encoded(b"a b%\x00\xff:/").to_string(), "a%20b%25%00%FF%3A%2F");
    }
}
