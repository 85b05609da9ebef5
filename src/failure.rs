//! Why the program does not start, with the exit code that scripts written for memcached expect.
//!
//! The codes are those of `sysexits.h` that memcached uses, 1 included: it stands for a value that
//! cannot be right, where 64 stands for a combination that cannot be served.

use std::fmt;
use std::io;
use std::process::ExitCode;

use nix::errno::Errno;

/// A message for the operator and the exit code that goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    exit_code: u8,
    message: String,
}

impl Failure {
    /// A value that cannot be right: exit code 1.
    pub fn value(message: impl Into<String>) -> Self {
        Self { exit_code: 1, message: message.into() }
    }

    /// An option that is not served, or that contradicts another: exit code 64.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { exit_code: 64, message: message.into() }
    }

    /// The user to become does not exist: exit code 67.
    pub fn no_user(message: impl Into<String>) -> Self {
        Self { exit_code: 67, message: message.into() }
    }

    /// The operating system refused: exit code 71.
    pub fn system(message: impl Into<String>) -> Self {
        Self { exit_code: 71, message: message.into() }
    }

    /// The same, saying `origin`, where it comes from, first.
    #[must_use]
    pub fn at(self, origin: &str) -> Self {
        Self { message: format!("{origin}: {}", self.message), ..self }
    }

    /// What the process exits with.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.exit_code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// The operating system's own words for `error`, as `strerror` gives them.
#[must_use]
pub fn describe(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => Errno::from_raw(code).desc().to_owned(),
        None => error.to_string(),
    }
}
