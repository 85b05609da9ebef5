//! The variables that users of container images set: those of Bitnami's image, which was the common
//! one, and whose names charts and compose files carry on.
//!
//! `MEMCACHED_PORT` and the like are not among them, on purpose: Docker and Kubernetes set these
//! for whatever runs beside a service of that name.

use std::ffi::OsString;
use std::path::Path;

use super::file::contents;
use super::sources::{Layer, Source};
use super::words::split;
use crate::failure::Failure;

/// The variables that are set to something, the weaker before the stronger. `variable` looks one
/// up.
///
/// # Errors
///
/// The first one that cannot be understood, with its name.
pub(super) fn read(variable: impl Fn(&str) -> Option<OsString>) -> Result<Vec<Source>, Failure> {
    let value = |name: &str| value(name, &variable);
    if value(PASSWORD)?.is_some() {
        // Going on without would let everybody in where somebody meant not to.
        let complaint = "passwords are taken from a file alone, by -Y or -S";
        return Err(Failure::usage(complaint).at(PASSWORD));
    }
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

/// What `name` is set to, or what is in the file that `name` with `_FILE` behind it names. Empty is
/// not set.
fn value(
    name: &str,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Option<String>, Failure> {
    let bytes = match variable(&format!("{name}_FILE")).filter(|path| !path.is_empty()) {
        Some(path) => contents(Path::new(&path)).map_err(|failure| failure.at(name))?,
        None => variable(name).unwrap_or_default().into_encoded_bytes(),
    };
    let text = String::from_utf8(bytes).map_err(|_| Failure::usage("not UTF-8").at(name))?;
    Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
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
const PASSWORD: &str = "MEMCACHED_PASSWORD";
