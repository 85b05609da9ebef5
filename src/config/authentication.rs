//! Who may use the server: `-Y` as typed becomes a file that was read.

use super::Args;
use crate::auth::{Authentication, Method};
use crate::failure::Failure;

/// Reads the file of users, where there is one.
pub(super) fn authentication(args: &Args) -> Result<Option<Authentication>, Failure> {
    let Some(path) = &args.auth_file else { return Ok(None) };
    Authentication::open(Method::Token, path).map(Some)
}
