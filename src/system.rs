//! What the program asks of the operating system besides sockets: limits, locked pages, another
//! user, the background, and the two files that tell others where it is.

use std::ffi::{CString, OsStr};
use std::fs;
use std::io::{self, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr as SocketAddrUnix, UnixDatagram};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, rlim_t, setrlimit};
use nix::unistd::{self, User};

use crate::failure::Failure;
use crate::stream::Endpoint;

/// Makes room for `connections` sockets and `others` descriptors, raising the limit on open files
/// where it may.
///
/// Returns how many connections there is room for: `connections`, or fewer where the limit holds
/// that many files but not the server's own as well, which memcached is content with.
///
/// # Errors
///
/// Where not even `connections` files may be open.
pub fn reserve_descriptors(connections: usize, others: usize) -> Result<usize, Failure> {
    let wanted = rlim_t::try_from(connections.saturating_add(others)).unwrap_or(RLIM_INFINITY);
    let limit = raise_limit(Resource::RLIMIT_NOFILE, wanted).map_err(|errno| {
        Failure::system(format!("failed to getrlimit number of files: {errno}"))
    })?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    connections_within(limit, connections, others).ok_or_else(|| {
        Failure::system(format!(
            "failed to set rlimit for open files: {connections} connections asked for, \
             {limit} files allowed. Try starting as root or requesting smaller maxconns value."
        ))
    })
}

/// Allows core files as large as may be.
///
/// # Errors
///
/// Where none at all would be written.
pub fn allow_core_files() -> Result<(), Failure> {
    match raise_limit(Resource::RLIMIT_CORE, RLIM_INFINITY) {
        Ok(bytes) if bytes > 0 => Ok(()),
        _ => Err(Failure::system("failed to ensure corefile creation")),
    }
}

/// Locks the pages in use now, and those to come where no limit could later turn an allocation into
/// a failure. They are locked when they are used, for more addresses are mapped than memory wanted.
///
/// # Errors
///
/// Where the system refuses; the server can go on without.
pub fn lock_memory() -> nix::Result<()> {
    let unlimited = raise_limit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY)? == RLIM_INFINITY;
    let future = if unlimited { MlockAllFlags::MCL_FUTURE } else { MlockAllFlags::empty() };
    let on_use = MlockAllFlags::from_bits_retain(nix::libc::MCL_ONFAULT);
    mlockall(MlockAllFlags::MCL_CURRENT | future | on_use)
}

/// The user to become: nobody unless root, and somebody then.
///
/// # Errors
///
/// For root, where no user was given (exit code 64) or there is none of that name (67).
pub fn user_to_become(name: Option<&str>, is_root: bool) -> Result<Option<User>, Failure> {
    if !is_root {
        return Ok(None);
    }
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return Err(Failure::usage("must add '-u root' to start as root"));
    };
    match User::from_name(name) {
        Ok(Some(user)) => Ok(Some(user)),
        _ => Err(Failure::no_user(format!("can't find the user {name} to switch to"))),
    }
}

/// Gives up root's rights in every thread of the process.
///
/// # Errors
///
/// Where the system refuses.
pub fn become_user(user: &User) -> Result<(), Failure> {
    let name = user.name.as_str();
    let assume = || -> nix::Result<()> {
        let groups_of = CString::new(name).map_err(|_| Errno::EINVAL)?;
        match unistd::initgroups(&groups_of, user.gid) {
            // A sandbox may already have taken the right to have groups at all.
            Ok(()) | Err(Errno::EPERM) => {}
            Err(errno) => return Err(errno),
        }
        unistd::setgid(user.gid)?;
        unistd::setuid(user.uid)
    };
    assume().map_err(|errno| {
        Failure::system(format!("failed to assume identity of user {name}: {}", errno.desc()))
    })
}

/// Gives a file to the user that the server will become, who could otherwise neither use nor remove
/// it.
///
/// # Errors
///
/// Where the system refuses.
pub fn give_to(user: &User, path: &Path) -> Result<(), Failure> {
    unistd::chown(path, Some(user.uid), Some(user.gid)).map_err(|errno| {
        let (path, name) = (path.display(), &user.name);
        Failure::system(format!("failed to give {path} to user {name}: {}", errno.desc()))
    })
}

/// Goes into the background. To be called before there are threads, which a fork would leave
/// behind.
///
/// # Errors
///
/// Where the system refuses.
pub fn daemonize(stay_in_directory: bool, keep_stderr: bool) -> Result<(), Failure> {
    unistd::daemon(stay_in_directory, keep_stderr).map_err(|errno| {
        Failure::value(format!("failed to daemon() in order to daemonize: {}", errno.desc()))
    })
}

/// The file that holds the process id while this value lives.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Writes this process's id to `path`.
    ///
    /// # Errors
    ///
    /// Where the file cannot be written.
    pub fn write(path: &Path) -> io::Result<Self> {
        replace(path, ".tmp", format!("{}\n", std::process::id()).as_bytes())?;
        Ok(Self { path: path.to_owned() })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!("could not remove the pid file {}: {error}", self.path.display());
        }
    }
}

/// Tells the service manager that listens on `socket` how the server stands, in the words of
/// sd_notify(3). A name that begins with `@` is not a file's.
///
/// # Errors
///
/// Where nobody listens there.
pub fn notify(socket: &OsStr, state: &str) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddrUnix::from_abstract_name(name)?,
        None => SocketAddrUnix::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}

/// Writes the ports bound to `path`, one `TCP INET: port` or `UDP INET6: port` a line, for scripts
/// that ask for any port.
///
/// # Errors
///
/// Where the file cannot be written.
pub fn write_port_file<'e>(
    path: &Path,
    endpoints: impl Iterator<Item = &'e Endpoint>,
) -> io::Result<()> {
    replace(path, ".lck", port_lines(endpoints).as_bytes())
}

fn port_lines<'e>(endpoints: impl Iterator<Item = &'e Endpoint>) -> String {
    let line = |endpoint: &Endpoint| {
        let (transport, address) = match endpoint {
            Endpoint::Tcp(address) => ("TCP", address),
            Endpoint::Udp(address) => ("UDP", address),
            Endpoint::Unix(_) | Endpoint::Unnamed => return None,
        };
        let family = if address.is_ipv4() { "INET" } else { "INET6" };
        Some(format!("{transport} {family}: {}\n", address.port()))
    };
    endpoints.filter_map(line).collect()
}

/// Writes beside `path` and renames, so that who waits for the file never reads half of it.
fn replace(path: &Path, suffix: &str, contents: &[u8]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(suffix);
    let mut file = fs::File::create(&beside)?;
    file.write_all(contents)?;
    fs::rename(&beside, path)
}

/// Raises a soft limit to `wanted`, or as near as the system lets it, and returns where it ended.
/// Never lowers one.
fn raise_limit(resource: Resource, wanted: rlim_t) -> nix::Result<rlim_t> {
    let (soft, hard) = getrlimit(resource)?;
    if soft >= wanted {
        return Ok(soft);
    }
    // Only root may pass the hard limit; everybody may go up to it.
    for (soft, hard) in [(wanted, wanted.max(hard)), (wanted.min(hard), hard)] {
        if setrlimit(resource, soft, hard).is_ok() {
            break;
        }
    }
    getrlimit(resource).map(|(soft, _)| soft)
}

/// How many connections fit `limit` descriptors, or `None` where the limit does not even hold those
/// asked for.
fn connections_within(limit: usize, connections: usize, others: usize) -> Option<usize> {
    let fits = limit.saturating_sub(others).min(connections);
    (limit >= connections && fits > 0).then_some(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_shrink_only_to_leave_the_server_its_own_descriptors() {
        assert_eq!(connections_within(2000, 1024, 40), Some(1024));
        assert_eq!(connections_within(1064, 1024, 40), Some(1024));
        assert_eq!(connections_within(1024, 1024, 40), Some(984));
        assert_eq!(connections_within(1023, 1024, 40), None);
        assert_eq!(connections_within(40, 30, 40), None);
    }

    #[test]
    fn more_files_than_any_system_allows_are_refused() {
        assert!(reserve_descriptors(usize::MAX, 40).is_err());
    }

    #[test]
    fn ports_are_written_as_memcached_writes_them() {
        let endpoints = [
            Endpoint::Tcp("127.0.0.1:5".parse().unwrap()),
            Endpoint::Tcp("[::1]:6".parse().unwrap()),
            Endpoint::Udp("127.0.0.1:7".parse().unwrap()),
        ];
        let lines = "TCP INET: 5\nTCP INET6: 6\nUDP INET: 7\n";
        assert_eq!(port_lines(endpoints.iter()), lines);
        assert_eq!(port_lines([].iter()), "");
    }

    #[test]
    fn only_root_must_name_a_user() {
        assert_eq!(user_to_become(None, false), Ok(None));
        let must_name = Failure::usage("must add '-u root' to start as root");
        assert_eq!(user_to_become(None, true), Err(must_name.clone()));
        assert_eq!(user_to_become(Some(""), true), Err(must_name));
        let unknown = Failure::no_user("can't find the user no-such-user to switch to");
        assert_eq!(user_to_become(Some("no-such-user"), true), Err(unknown));
        assert!(user_to_become(Some("root"), true).unwrap().is_some());
    }
}
