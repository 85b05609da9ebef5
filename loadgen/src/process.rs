//! Servers as child processes: started on a free port and on chosen cores, measured from outside,
//! and gone when dropped.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;

use crate::clock;
use crate::engine::error::named;

/// The environment variable by which memcached is told to write down its ports; larder and the null
/// server follow it.
pub const PORT_FILE_VARIABLE: &str = "MEMCACHED_PORT_FILENAME";

/// A running server, killed when dropped.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    child: Child,
    cpu_clock: ClockId,
}

impl Server {
    /// Starts `program`, which `args` must send to a free port of 127.0.0.1, and waits until it
    /// listens. It and its threads run on those of this thread's cores that are in `cores`, or on
    /// all of them.
    ///
    /// # Errors
    ///
    /// When it cannot be started, ends, or names no port within ten seconds.
    pub fn start<S: AsRef<OsStr>>(
        program: &Path,
        args: &[S],
        cores: Option<&[usize]>,
    ) -> io::Result<Self> {
        let port_file = PortFile::new();
        let mut command = Command::new(program);
        command.args(args).env(PORT_FILE_VARIABLE, &port_file.0);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let spawned = match cores {
            Some(cores) => on_cores(cores, || command.spawn())?,
            None => command.spawn(),
        };
        let name = |error| named(program.display(), &error);
        let mut child = spawned.map_err(name)?;
        let address = match port_file.wait(&mut child) {
            Ok(port) => SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            Err(error) => {
                stop(&mut child);
                return Err(name(error));
            }
        };
        let cpu_clock = clock_getcpuclockid(pid(&child))?;
        Ok(Self { address, child, cpu_clock })
    }

    /// The number of its process.
    #[must_use]
    pub fn pid(&self) -> i32 {
        pid(&self.child).as_raw()
    }

    /// Processor time of all its threads so far, user and system.
    pub fn cpu_time(&self) -> io::Result<Duration> {
        Ok(self.cpu_clock.now()?.into())
    }

    /// Memory in use, in bytes.
    pub fn resident_bytes(&self) -> io::Result<u64> {
        let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id()))?;
        let kibibytes = rollup.lines().find_map(|line| {
            line.strip_prefix("Rss:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok()
        });
        kibibytes.map(|kibibytes| kibibytes * 1024).ok_or_else(|| ErrorKind::InvalidData.into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}

/// The cores this thread may run on.
pub fn allowed_cores() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count()).filter(|&core| set.is_set(core).unwrap_or(false)).collect())
}

/// Runs `work` with this thread on `cores` only, then lets it back to where it was. Processes and
/// threads started meanwhile stay.
pub fn on_cores<T>(cores: &[usize], work: impl FnOnce() -> T) -> io::Result<T> {
    let this_thread = Pid::from_raw(0);
    let before = sched_getaffinity(this_thread)?;
    let mut set = CpuSet::new();
    for &core in cores {
        set.set(core)?;
    }
    sched_setaffinity(this_thread, &set)?;
    let result = work();
    sched_setaffinity(this_thread, &before)?;
    Ok(result)
}

/// Lets this process, and those that it starts, open as many files as the system allows; returns
/// how many that are.
pub fn raise_file_limit() -> io::Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

/// A path where a server writes down its port; removed when dropped.
struct PortFile(PathBuf);

impl PortFile {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("loadgen-{}-{count}.ports", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn wait(&self, child: &mut Child) -> io::Result<u16> {
        let deadline = clock::now() + START_MAX;
        loop {
            let written = std::fs::read_to_string(&self.0).unwrap_or_default();
            if let Some(port) = port(&written) {
                return Ok(port);
            }
            if let Some(status) = child.try_wait()? {
                return Err(io::Error::other(format!("ended at start ({status})")));
            }
            if clock::now() > deadline {
                let message = format!("named no port within {} s", START_MAX.as_secs());
                return Err(io::Error::new(ErrorKind::TimedOut, message));
            }
            clock::pause();
        }
    }
}

impl Drop for PortFile {
    fn drop(&mut self) {
        // It is not there when the server never got as far as writing it.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The first TCP port in memcached's port file, once its line is complete.
fn port(written: &str) -> Option<u16> {
    let line = written.split_inclusive('\n').find(|line| line.starts_with("TCP"))?;
    line.strip_suffix('\n')?.rsplit(' ').next()?.parse().ok()
}

/// Kills and reaps; a child that has ended already is only reaped.
fn stop(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().try_into().expect("a process id fits in 31 bits"))
}

const START_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_read_only_when_its_line_is_complete() {
        assert_eq!(port("TCP INET: 11211\nUDP INET: 11212\n"), Some(11_211));
        assert_eq!(port("UDP INET: 11212\nTCP INET6: 11213\n"), Some(11_213));
        assert_eq!(port("TCP INET: 112"), None);
        assert_eq!(port(""), None);
    }

    #[test]
    fn a_server_that_ends_or_does_not_exist_is_told() {
        let none: [&str; 0] = [];
        assert!(Server::start(Path::new("/bin/false"), &none, None).is_err());
        assert!(Server::start(Path::new("/no/such/server"), &none, None).is_err());
    }

    #[test]
    fn a_thread_comes_back_from_its_core() {
        let before = allowed_cores().unwrap();
        let pinned = on_cores(&before[..1], || allowed_cores().unwrap()).unwrap();
        assert_eq!(pinned, before[..1]);
        assert_eq!(allowed_cores().unwrap(), before);
    }
}
