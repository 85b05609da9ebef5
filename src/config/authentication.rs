//! Who may use the server: `-Y` and `-S` as typed become a file of users that was read, and a
//! password in the environment its one user.

use std::path::Path;
use std::sync::Arc;

use super::Args;
use crate::auth::{Authentication, Method, USER_BYTES_MAX};
use crate::failure::Failure;

/// Reads the file of users, where one is asked for; otherwise those `given` by the environment may
/// use the server, if there are any.
pub(super) fn authentication(
    args: &Args,
    given: Option<&Arc<Authentication>>,
) -> Result<Option<Arc<Authentication>>, Failure> {
    let sasl_pwdb = args.sasl_pwdb.as_deref().filter(|path| *path != Path::new(""));
    if let Some(given) = given {
        // Whichever counted, somebody would be kept out, or let in, without knowing why.
        return match args.auth_file.as_deref().or(sasl_pwdb) {
            Some(_) => Err(Failure::usage(TWO_PLACES)),
            None => Ok(Some(Arc::clone(given))),
        };
    }
    let users = match (&args.auth_file, args.enable_sasl) {
        (None, false) => return Ok(None),
        (Some(path), false) => Authentication::open(Method::Token, path),
        (None, true) => {
            let path = sasl_pwdb.ok_or_else(|| Failure::usage(NO_USERS))?;
            Authentication::open(sasl(), path)
        }
        (Some(_), true) => {
            Err(Failure::usage("-S and -Y are for different protocols: choose one of them"))
        }
    };
    users.map(Arc::new).map(Some)
}

/// One user, who authenticates as under `-S`.
pub(super) fn of_user(name: &str, password: &str) -> Result<Authentication, Failure> {
    Authentication::of_user(sasl(), name.as_bytes(), password.as_bytes()).ok_or_else(|| {
        Failure::usage(format!("name and password have more than {USER_BYTES_MAX} bytes together"))
    })
}

fn sasl() -> Method {
    Method::Sasl { realm: host_name() }
}

/// Where it is not to be had, no realm is taken for this host's.
fn host_name() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default()
}

const NO_USERS: &str =
    "-S needs a file of users, named by MEMCACHED_SASL_PWDB or --sasl-pwdb, or MEMCACHED_PASSWORD";
const TWO_PLACES: &str =
    "users come from MEMCACHED_PASSWORD or from a file (-Y, --sasl-pwdb): choose one of them";
