//! Which dialects clients may speak: what `-B` and the listeners say, as far as authentication lets
//! them.
//!
//! Each way to authenticate is made for one dialect. Clients that spoke another would be let in
//! without it, so where it is asked for, its dialect is all that may be spoken, on every listener.

use crate::auth::Method;
use crate::failure::Failure;

/// Dialects that clients may speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialects {
    /// What a connection begins with.
    Any,
    /// Text, classic and meta.
    Text,
    /// Binary.
    Binary,
}

/// What `-B` as typed allows.
pub(super) fn of_server(typed: Option<&str>, method: Option<&Method>) -> Result<Dialects, Failure> {
    let asked = match typed.map(str::trim) {
        None => return Ok(method.map_or(Dialects::Any, dialect_of)),
        Some("auto") => Dialects::Any,
        Some("ascii") => Dialects::Text,
        Some("binary") => Dialects::Binary,
        Some(other) => {
            return Err(Failure::usage(format!(
                "Invalid value for binding protocol: {other}\n \
                 -- should be one of auto, binary, or ascii"
            )));
        }
    };
    match method {
        Some(method) if asked != dialect_of(method) => Err(Failure::usage(match method {
            Method::Token => BINARY_WITH_TOKENS,
            Method::Sasl { .. } => TEXT_WITH_SASL,
        })),
        _ => Ok(asked),
    }
}

/// What a listener that asks for `asked` allows; `of_server` if it asks for nothing.
pub(super) fn of_listener(
    asked: Option<Dialects>,
    of_server: Dialects,
    method: Option<&Method>,
) -> Result<Dialects, String> {
    match (method, asked) {
        (_, None) => Ok(of_server),
        (None, Some(asked)) => Ok(asked),
        (Some(Method::Token), Some(Dialects::Text | Dialects::Any)) => Ok(Dialects::Text),
        (Some(Method::Token), Some(Dialects::Binary)) => {
            Err("Cannot use binary protocol when ascii authentication enabled".to_owned())
        }
        (Some(Method::Sasl { .. }), Some(Dialects::Binary)) => Ok(Dialects::Binary),
        (Some(Method::Sasl { .. }), Some(Dialects::Text | Dialects::Any)) => {
            Err("Cannot use ascii protocol when SASL authentication enabled".to_owned())
        }
    }
}

fn dialect_of(method: &Method) -> Dialects {
    match method {
        Method::Token => Dialects::Text,
        Method::Sasl { .. } => Dialects::Binary,
    }
}

const BINARY_WITH_TOKENS: &str =
    "ERROR: You cannot allow the BINARY protocol while using ascii authentication tokens.";
const TEXT_WITH_SASL: &str = "ERROR: You cannot allow the ASCII protocol while using SASL.";

#[cfg(test)]
mod tests {
    use super::*;

    /// memcached 1.6.43 closed a way round `-Y`: a listener that negotiated, or was binary, let
    /// clients in that had not authenticated.
    #[test]
    fn no_dialect_is_a_way_round_authentication() {
        let token = Method::Token;
        let sasl = Method::Sasl { realm: "here".to_owned() };
        for (method, dialect) in [(&token, Dialects::Text), (&sasl, Dialects::Binary)] {
            for typed in [None, Some("auto"), Some("ascii"), Some("binary")] {
                let Ok(of_server) = of_server(typed, Some(method)) else { continue };
                assert_eq!(of_server, dialect, "{typed:?}");
                let asked = [Dialects::Any, Dialects::Text, Dialects::Binary].map(Some);
                for asked in asked.into_iter().chain([None]) {
                    let of_listener = of_listener(asked, of_server, Some(method));
                    assert!(of_listener.is_err() || of_listener == Ok(dialect), "{asked:?}");
                }
            }
        }
    }

    #[test]
    fn a_listener_may_differ_from_the_server() {
        for asked in [Dialects::Any, Dialects::Text, Dialects::Binary] {
            assert_eq!(of_listener(Some(asked), Dialects::Text, None), Ok(asked));
        }
        assert_eq!(of_listener(None, Dialects::Text, None), Ok(Dialects::Text));
        assert_eq!(of_server(Some(" binary"), None), Ok(Dialects::Binary));
        assert_eq!(of_server(None, None), Ok(Dialects::Any));
    }

    #[test]
    fn complains_as_memcached_does() {
        let sasl = Method::Sasl { realm: String::new() };
        for typed in ["auto", "binary"] {
            let failure = of_server(Some(typed), Some(&Method::Token));
            assert_eq!(failure, Err(Failure::usage(BINARY_WITH_TOKENS)));
        }
        for typed in ["auto", "ascii"] {
            assert_eq!(of_server(Some(typed), Some(&sasl)), Err(Failure::usage(TEXT_WITH_SASL)));
        }
    }
}
