//! SASL PLAIN (RFC 4616), which is all the SASL there is here: one message says who a client is and
//! proves it.

/// The mechanisms to choose from, separated by blanks.
pub const MECHANISMS: &[u8] = b"PLAIN";
/// The longest name of a mechanism that is looked at.
pub const MECHANISM_BYTES_MAX: usize = 32;
/// The longest message that is waited for.
pub const MESSAGE_BYTES_MAX: usize = 16384;

/// Whether this names the mechanism; names are the same in capitals and small letters.
#[must_use]
pub fn is_plain(mechanism: &[u8]) -> bool {
    mechanism.eq_ignore_ascii_case(b"PLAIN")
}

/// The user and the password in a message: `[on behalf of] NUL user NUL password`. Nobody acts on
/// behalf of others.
#[must_use]
pub fn credentials(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = message.split(|&byte| byte == 0);
    let (behalf, user, password) = (parts.next()?, parts.next()?, parts.next()?);
    let is_own = behalf.is_empty() || behalf == user;
    let is_plain = is_own && !user.is_empty() && !password.is_empty() && parts.next().is_none();
    is_plain.then_some((user, password))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_three_parts() {
        assert_eq!(credentials(b"\0user\0pass word"), Some((&b"user"[..], &b"pass word"[..])));
        assert_eq!(credentials(b"user\0user\0password"), Some((&b"user"[..], &b"password"[..])));
        for message in [
            &b""[..],
            b"user",
            b"\0user",
            b"user\0password",
            b"\0user\0",
            b"\0\0password",
            b"other\0user\0password",
            b"\0user\0password\0",
            b"\0user\0password\0more",
        ] {
            assert_eq!(credentials(message), None, "{}", message.escape_ascii());
        }
    }

    #[test]
    fn mechanisms_are_the_same_in_small_letters() {
        assert!(is_plain(b"PLAIN") && is_plain(b"plain"));
        assert!(!is_plain(b"PLAI") && !is_plain(b"CRAM-MD5") && !is_plain(b""));
    }
}
