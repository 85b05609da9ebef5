//! What a run costs a server on the same machine, read from `/proc`, and what the server says of
//! itself in `stats`; and how quiet the machine was meanwhile.

pub mod machine;
pub mod stats;
pub mod watch;

use std::fs;
use std::io;
use std::iter::Sum;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;

use crate::engine::address::{Address, Endpoint};

/// A process that is watched.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    pid: i32,
    cpu_clock: ClockId,
}

/// A process's use of the machine so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Processor time of all its threads, user and system.
    pub cpu: Duration,
    /// Memory in use, in bytes.
    pub resident_bytes: u64,
    /// Context switches of all its threads, voluntary and not.
    pub switches: u64,
}

/// What a run cost the servers, all together.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Cost {
    /// The processes.
    pub pids: Vec<i32>,
    /// Processor time, in microseconds.
    pub cpu_micros: f64,
    /// Context switches.
    pub switches: u64,
    /// Memory at the end, in bytes.
    pub resident_bytes: u64,
    /// Items at the end, as the servers say.
    pub items: Option<u64>,
    /// Memory at the end of each interval, in bytes.
    pub resident_bytes_by_interval: Vec<u64>,
}

impl Process {
    /// A process by its number.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn new(pid: i32) -> io::Result<Self> {
        let cpu_clock = clock_getcpuclockid(Pid::from_raw(pid))?;
        Ok(Self { pid, cpu_clock })
    }

    /// The process on this machine that listens at `address`; `None` where none is seen.
    #[must_use]
    pub fn listening(address: &Address) -> Option<Self> {
        let inode = match address.endpoint() {
            Endpoint::Tcp(address) => listening_inode(*address)?,
            Endpoint::Unix(path) => unix_inode(path)?,
        };
        Self::new(owner(inode)?).ok()
    }

    /// Its number.
    #[must_use]
    pub fn pid(self) -> i32 {
        self.pid
    }

    /// What it has used so far.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub fn usage(self) -> io::Result<Usage> {
        Ok(Usage {
            cpu: self.cpu_clock.now()?.into(),
            resident_bytes: self.resident_bytes()?,
            switches: self.switches()?,
        })
    }

    /// Memory in use, in bytes.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub fn resident_bytes(self) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        Ok(field(&status, "VmRSS:").unwrap_or(0) * 1024)
    }

    fn switches(self) -> io::Result<u64> {
        let mut switches = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.pid))? {
            // A thread may end meanwhile.
            let status = fs::read_to_string(task?.path().join("status")).unwrap_or_default();
            let of = |name| field(&status, name).unwrap_or(0);
            switches += of("voluntary_ctxt_switches:") + of("nonvoluntary_ctxt_switches:");
        }
        Ok(switches)
    }
}

impl Cost {
    /// Between two moments of processes.
    #[must_use]
    pub fn between(processes: &[Process], before: Usage, after: Usage, items: Option<u64>) -> Self {
        Self {
            pids: processes.iter().map(|process| process.pid).collect(),
            cpu_micros: (after.cpu.saturating_sub(before.cpu)).as_secs_f64() * 1e6,
            switches: after.switches.saturating_sub(before.switches),
            resident_bytes: after.resident_bytes,
            items,
            resident_bytes_by_interval: Vec::new(),
        }
    }

    /// Items in a mebibyte of memory.
    #[must_use]
    pub fn items_per_mebibyte(&self) -> Option<f64> {
        Some(self.items? as f64 / (self.resident_bytes.max(1) as f64 / 1_048_576.0))
    }
}

impl Sum for Usage {
    fn sum<I: Iterator<Item = Self>>(usages: I) -> Self {
        usages.fold(Self::default(), |sum, usage| Self {
            cpu: sum.cpu + usage.cpu,
            resident_bytes: sum.resident_bytes + usage.resident_bytes,
            switches: sum.switches + usage.switches,
        })
    }
}

/// The first number in the line that begins with `name`.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Of the socket that listens on the port of a local address.
fn listening_inode(address: SocketAddr) -> Option<u64> {
    if !address.ip().is_loopback() && std::net::UdpSocket::bind((address.ip(), 0)).is_err() {
        return None;
    }
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .find_map(|table| inode_in(&fs::read_to_string(table).ok()?, address.port()))
}

fn inode_in(table: &str, port: u16) -> Option<u64> {
    let local_end = format!(":{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let listens = fields.get(1)?.ends_with(&local_end) && *fields.get(3)? == LISTEN;
        if listens { fields.get(9)?.parse().ok() } else { None }
    })
}

fn unix_inode(path: &Path) -> Option<u64> {
    let table = fs::read_to_string("/proc/net/unix").ok()?;
    table.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let here = fields.get(7).is_some_and(|found| Path::new(found) == path);
        if here { fields.get(6)?.parse().ok() } else { None }
    })
}

/// The process that holds the socket of this number, among those that may be looked at.
fn owner(inode: u64) -> Option<i32> {
    let holds = |pid: i32| {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        descriptors.flatten().any(|descriptor| {
            fs::metadata(descriptor.path()).is_ok_and(|metadata| metadata.ino() == inode)
        })
    };
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .find(|&pid: &i32| holds(pid))
}

/// The state of a socket in the tables.
const LISTEN: &str = "0A";

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn the_process_behind_a_port_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::from(listener.local_addr().unwrap());
        let process = Process::listening(&address).unwrap();
        assert_eq!(u32::try_from(process.pid()).unwrap(), std::process::id());
        let usage = process.usage().unwrap();
        assert!(usage.resident_bytes > 100_000 && usage.switches > 0, "{usage:?}");
        // The other end has a port of its own, at which nobody listens.
        let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(Process::listening(&connected.local_addr().unwrap().into()).is_none());
    }

    #[test]
    fn the_process_behind_a_unix_socket_is_found() {
        let path = std::env::temp_dir().join(format!("loadgen-cost-{}", std::process::id()));
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let process = Process::listening(&path.to_str().unwrap().parse().unwrap()).unwrap();
        std::fs::remove_file(&path).unwrap();
        drop(listener);
        assert_eq!(u32::try_from(process.pid()).unwrap(), std::process::id());
    }

    #[test]
    fn a_cost_is_a_difference() {
        let process = Process::new(i32::try_from(std::process::id()).unwrap()).unwrap();
        let usage = |millis, switches, resident_bytes| Usage {
            cpu: Duration::from_millis(millis),
            resident_bytes,
            switches,
        };
        let cost = Cost::between(&[process], usage(5, 10, 1), usage(8, 30, 2 << 20), Some(100));
        assert_eq!((cost.switches, cost.items_per_mebibyte()), (20, Some(50.0)));
        assert!((cost.cpu_micros - 3000.0).abs() < 1e-6);
    }
}
