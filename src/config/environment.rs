//! The variables that users of container images set: those of Bitnami's image, which was the common
//! one, and whose names charts and compose files carry on.
//!
//! `MEMCACHED_PORT` and the like are not among them, on purpose: Docker and Kubernetes set these
//! for whatever runs beside a service of that name.

use std::ffi::OsString;
use std::path::Path;

use super::authentication;
use super::file::contents;
use super::sources::{Layer, Source};
use super::words::split;
use crate::auth::Authentication;
use crate::failure::Failure;

/// The variables that are set to something, the weaker before the stronger. `variable` looks one
/// up.
///
/// # Errors
///
/// The first one that cannot be understood, with its name.
pub(super) fn read(variable: impl Fn(&str) -> Option<OsString>) -> Result<Vec<Source>, Failure> {
    let value = |name: &str| value(name, &variable);
    let mut sources = Vec::new();
    for (name, option) in OPTIONS {
        if let Some(value) = value(name)? {
            let words = [option.to_owned(), value];
            sources.push(Source::new(Layer::Environment, name.to_owned(), &words)?);
        }
    }
    if let Some(value) = value(FLAGS)? {
        let words = split(&value).map_err(|reason| Failure::usage(reason).at(FLAGS))?;
        sources.push(Source::new(Layer::Environment, FLAGS.to_owned(), &words)?);
    }
    Ok(sources)
}

/// The one user that a password makes, who authenticates as under `-S`. It is none of the options:
/// those are printed.
///
/// # Errors
///
/// A user without a password, or one that cannot be a user, with the variable's name.
pub(super) fn user(
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Option<Authentication>, Failure> {
    let name = value(USERNAME, &variable)?;
    // Blanks may belong to it; the end of a file's line does not.
    let password = text(PASSWORD, &variable)?;
    match (name, password.as_deref().map(|text| text.trim_end_matches(['\r', '\n']))) {
        (None, None) => Ok(None),
        // Going on without would let everybody in where somebody meant not to.
        (Some(_), None) => {
            Err(Failure::usage("a user needs a password, MEMCACHED_PASSWORD").at(USERNAME))
        }
        (_, Some("")) => Err(Failure::usage("a password cannot be empty").at(PASSWORD)),
        (name, Some(password)) => {
            let user = authentication::of_user(name.as_deref().unwrap_or(USER_DEFAULT), password);
            user.map(Some).map_err(|failure| failure.at(PASSWORD))
        }
    }
}

/// What [`text`] says, less the blanks around it. Empty is not set.
fn value(
    name: &str,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Option<String>, Failure> {
    let text = text(name, variable)?;
    Ok(text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()))
}

/// What `name` is set to, or what is in the file that `name` with `_FILE` behind it names. A
/// variable that is empty is not set, but a file may be empty.
fn text(
    name: &str,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Option<String>, Failure> {
    let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
    let bytes = match variable(&format!("{name}_FILE")) {
        Some(path) => Some(contents(Path::new(&path)).map_err(|failure| failure.at(name))?),
        None => variable(name).map(OsString::into_encoded_bytes),
    };
    let text = bytes.map(String::from_utf8).transpose();
    text.map_err(|_| Failure::usage("not UTF-8").at(name))
}

const OPTIONS: [(&str, &str); 8] = [
    ("LARDER_USER", "-u"),
    ("MEMCACHED_LISTEN_ADDRESS", "-l"),
    ("MEMCACHED_PORT_NUMBER", "-p"),
    ("MEMCACHED_CACHE_SIZE", "-m"),
    ("MEMCACHED_MAX_CONNECTIONS", "-c"),
    ("MEMCACHED_THREADS", "-t"),
    ("MEMCACHED_MAX_ITEM_SIZE", "-I"),
    ("MEMCACHED_SASL_PWDB", "--sasl-pwdb"),
];
const FLAGS: &str = "MEMCACHED_EXTRA_FLAGS";
const USERNAME: &str = "MEMCACHED_USERNAME";
const PASSWORD: &str = "MEMCACHED_PASSWORD";
/// Bitnami's.
const USER_DEFAULT: &str = "root";
