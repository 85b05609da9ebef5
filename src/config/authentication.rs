//! Who may use the server: `-Y` and `-S` as typed become a file of users that was read.

use std::path::Path;

use super::Args;
use crate::auth::{Authentication, Method};
use crate::failure::Failure;

/// Reads the file of users, where one is asked for.
pub(super) fn authentication(args: &Args) -> Result<Option<Authentication>, Failure> {
    let path_of_sasl = || {
        args.sasl_pwdb.as_deref().filter(|path| *path != Path::new("")).ok_or_else(|| {
            Failure::usage("-S needs a file of users, named by MEMCACHED_SASL_PWDB or --sasl-pwdb")
        })
    };
    match (&args.auth_file, args.enable_sasl) {
        (None, false) => Ok(None),
        (Some(path), false) => Authentication::open(Method::Token, path).map(Some),
        (None, true) => {
            let method = Method::Sasl { realm: host_name() };
            Authentication::open(method, path_of_sasl()?).map(Some)
        }
        (Some(_), true) => {
            Err(Failure::usage("-S and -Y are for different protocols: choose one of them"))
        }
    }
}

/// Where it is not to be had, no realm is taken for this host's.
fn host_name() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default()
}
