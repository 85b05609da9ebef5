//! Who may use the server: users and their passwords, as a file lists them, or one that was given.
//!
//! A comparison must not tell how much of a guess was right, nor which user exists. Each user is
//! therefore kept as a record of one fixed size, and what a client presents is brought into the
//! same shape and compared with every record to its end, in time that depends on their number
//! alone.

use crate::failure::{Failure, describe};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{self, Path, PathBuf};
use std::sync::{PoisonError, RwLock};
use subtle::{Choice, ConstantTimeEq};
use tracing::{info, warn};

/// How clients authenticate, and what the file looks like that says who may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// `-Y`: the first thing a text client says is a `set` whose value is `user password`. Each
    /// line of the file is `user:password`.
    Token,
    /// `-S`: a binary client authenticates by SASL PLAIN. The file is that of MEMCACHED_SASL_PWDB:
    /// lines of `user:password`, behind which may stand more after a further colon. A user may be
    /// written with this realm, `user@realm`, both there and by clients.
    Sasl {
        /// The name of this host.
        realm: String,
    },
}

/// The users that may use the server now, and where they come from.
#[derive(Debug)]
pub struct Authentication {
    method: Method,
    /// `None` where they were given, and stay.
    file: Option<UserFile>,
    credentials: RwLock<Credentials>,
}

impl Authentication {
    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read, or is not of its method's format; exit code 1, as memcached has it.
    pub fn open(method: Method, path: &Path) -> Result<Self, Failure> {
        let name = path.display();
        let credentials = read(&method, path).map_err(|unusable| match unusable {
            Unusable::Unreadable(error) => Failure::value(format!(
                "Could not open authfile [{name}] for reading, error {}",
                describe(&error)
            )),
            unusable => Failure::value(format!("Authfile [{name}] {unusable}")),
        })?;
        let absolute_path = path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let file = UserFile { path: path.to_owned(), absolute_path };
        Ok(Self { method, file: Some(file), credentials: RwLock::new(credentials) })
    }

    /// Of one user, who stays the only one. `None` if name and password have more than
    /// [`USER_BYTES_MAX`] bytes together.
    #[must_use]
    pub fn of_user(method: Method, user: &[u8], password: &[u8]) -> Option<Self> {
        let record = Record::new(method.canonical(user), password)?;
        let credentials = RwLock::new(Credentials { records: vec![record] });
        Some(Self { method, file: None, credentials })
    }

    /// Of users as a file lists them.
    #[cfg(test)]
    pub(crate) fn of(method: Method, file: &[u8]) -> Self {
        let credentials = RwLock::new(method.credentials(file).expect("a good file"));
        Self { method, file: None, credentials }
    }

    /// How clients authenticate.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The file, as it was named, if there is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|file| file.path.as_path())
    }

    /// Whether this is the password of this user.
    #[must_use]
    pub fn check(&self, user: &[u8], password: &[u8]) -> bool {
        let credentials = self.credentials.read().unwrap_or_else(PoisonError::into_inner);
        credentials.check(self.method.canonical(user), password)
    }

    /// Reads the file again. Where it has become unusable, or there is none, those may go on who
    /// might before.
    pub fn reload(&self) {
        let Some(file) = &self.file else { return };
        let name = file.path.display();
        match read(&self.method, &file.absolute_path) {
            Ok(credentials) => {
                info!("{name} is read again: {} users", credentials.records.len());
                *self.credentials.write().unwrap_or_else(PoisonError::into_inner) = credentials;
            }
            Err(unusable) => warn!("{name} is left as it was read before: it {unusable}"),
        }
    }
}

/// Where a file of users is.
#[derive(Debug)]
struct UserFile {
    path: PathBuf,
    /// The same for a process that has gone elsewhere, as it does in the background.
    absolute_path: PathBuf,
}

impl Method {
    fn credentials(&self, file: &[u8]) -> Result<Credentials, Unusable> {
        match self {
            Self::Token => Credentials::from_token_file(file),
            Self::Sasl { .. } => Credentials::from_sasl_file(file, |user| self.canonical(user)),
        }
    }

    /// The user's name without this host's realm.
    fn canonical<'u>(&self, user: &'u [u8]) -> &'u [u8] {
        let without_realm = match self {
            Self::Token => None,
            Self::Sasl { realm } => {
                user.strip_suffix(realm.as_bytes()).and_then(|user| user.strip_suffix(b"@"))
            }
        };
        without_realm.unwrap_or(user)
    }
}

/// Users with their passwords.
#[derive(Default)]
struct Credentials {
    records: Vec<Record>,
}

impl Credentials {
    fn check(&self, user: &[u8], password: &[u8]) -> bool {
        let Some(presented) = Record::new(user, password) else { return false };
        let none = Choice::from(0);
        self.records.iter().fold(none, |found, record| found | record.0.ct_eq(&presented.0)).into()
    }

    /// From lines of `user:password`, every one of them.
    fn from_token_file(file: &[u8]) -> Result<Self, Unusable> {
        if file.is_empty() {
            return Err(Unusable::Malformed);
        }
        let mut credentials = Self::default();
        for line in lines(file) {
            let (user, password) = split_at_colon(line).ok_or(Unusable::Malformed)?;
            credentials.add(user, password)?;
        }
        Ok(credentials)
    }

    /// From lines of `user:password`, more of which may follow after colons: the password may end
    /// at each. Lines without a colon say nothing.
    fn from_sasl_file<'f>(
        file: &'f [u8],
        canonical: impl Fn(&'f [u8]) -> &'f [u8],
    ) -> Result<Self, Unusable> {
        let mut credentials = Self::default();
        for (user, rest) in lines(file).filter_map(split_at_colon) {
            let colons = memchr::memchr_iter(b':', rest);
            for end in colons.chain([rest.len()]).filter(|&end| end > 0) {
                credentials.add(canonical(user), &rest[..end])?;
            }
        }
        Ok(credentials)
    }

    fn add(&mut self, user: &[u8], password: &[u8]) -> Result<(), Unusable> {
        if self.records.len() == RECORDS_MAX {
            return Err(Unusable::TooLarge);
        }
        self.records.push(Record::new(user, password).ok_or(Unusable::Malformed)?);
        Ok(())
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// The lengths of a user's name and password, both, and zeros.
struct Record([u64; RECORD_BYTES / 8]);

impl Record {
    /// `None` if they do not fit.
    fn new(user: &[u8], password: &[u8]) -> Option<Self> {
        let mut bytes = [0; RECORD_BYTES];
        let (lengths, rest) = bytes.split_at_mut(2);
        lengths[0] = u8::try_from(user.len()).ok()?;
        lengths[1] = u8::try_from(password.len()).ok()?;
        rest.get_mut(..user.len())?.copy_from_slice(user);
        rest.get_mut(user.len()..)?.get_mut(..password.len())?.copy_from_slice(password);
        let (words, _) = bytes.as_chunks();
        Some(Self(std::array::from_fn(|word| u64::from_ne_bytes(words[word]))))
    }
}

/// Why a file of users cannot be used. It says nothing of what the file holds.
#[derive(Debug)]
enum Unusable {
    Unreadable(io::Error),
    Malformed,
    TooLarge,
}

impl fmt::Display for Unusable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => write!(formatter, "cannot be read: {}", describe(error)),
            Self::Malformed => {
                write!(formatter, "has a malformed entry. Should be 'user:password'")
            }
            Self::TooLarge => write!(formatter, "has more than {RECORDS_MAX} entries"),
        }
    }
}

fn read(method: &Method, path: &Path) -> Result<Credentials, Unusable> {
    let mut file = Vec::new();
    let limit_bytes = FILE_BYTES_MAX + 1;
    File::open(path)
        .and_then(|opened| opened.take(limit_bytes as u64).read_to_end(&mut file))
        .map_err(Unusable::Unreadable)?;
    if file.len() == limit_bytes {
        return Err(Unusable::TooLarge);
    }
    method.credentials(&file)
}

/// The lines of a file, without their ends.
fn lines(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    file.split_inclusive(|&byte| byte == b'\n').map(|line| {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        line.strip_suffix(b"\r").unwrap_or(line)
    })
}

fn split_at_colon(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr::memchr(b':', line)?;
    Some((&line[..colon], &line[colon + 1..]))
}

/// What a user's name and password may have together.
pub const USER_BYTES_MAX: usize = RECORD_BYTES - 2;

/// Two lengths, and what memcached reads of a line.
const RECORD_BYTES: usize = 256;
/// To compare with so many takes less than a tenth of a millisecond, which is what a client can
/// make the server spend for a wrong guess.
const RECORDS_MAX: usize = 1024;
const FILE_BYTES_MAX: usize = RECORDS_MAX * RECORD_BYTES;

#[cfg(test)]
mod tests;
