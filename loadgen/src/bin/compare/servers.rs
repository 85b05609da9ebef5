//! The servers that are compared, and how each is started.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;
use loadgen::cost::stats;
use loadgen::debug_build;
use loadgen::process::{Server, allowed_cores};
use loadgen::truth::value::Values;

/// A kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// The server this project makes
    Larder,
    /// The server it is measured against
    Memcached,
    /// One that looks nothing up: the floor
    Null,
}

/// A server that can be started.
#[derive(Debug)]
pub(crate) struct Contestant {
    pub(crate) kind: Kind,
    /// Its name and version.
    pub(crate) title: String,
    pub(crate) program: PathBuf,
}

impl Contestant {
    pub(crate) fn new(kind: Kind, larder: Option<&Path>, memcached: &Path) -> io::Result<Self> {
        let program = match (kind, larder) {
            (Kind::Larder, Some(path)) => path.to_owned(),
            (Kind::Larder, None) => beside_this_program("larder")?,
            (Kind::Memcached, _) => memcached.to_owned(),
            (Kind::Null, _) => beside_this_program("null-server")?,
        };
        let title = match kind {
            Kind::Null => "null server".to_owned(),
            Kind::Larder | Kind::Memcached => version(&program)?,
        };
        Ok(Self { kind, title, program })
    }

    /// What its values must be.
    pub(crate) fn values(&self) -> Values {
        match self.kind {
            Kind::Null => Values::Constant,
            Kind::Larder | Kind::Memcached => Values::Truthful,
        }
    }

    /// Starts it with this many workers on these cores, open to this many connections, and with
    /// room for all keys, so that nothing is evicted.
    pub(crate) fn start(
        &self,
        workers: usize,
        cores: &[usize],
        connections_max: usize,
    ) -> io::Result<Server> {
        self.start_with_memory(MEGABYTES, workers, cores, connections_max)
    }

    /// The same within so many MiB. The null server has no limit.
    pub(crate) fn start_with_memory(
        &self,
        megabytes: u64,
        workers: usize,
        cores: &[usize],
        connections_max: usize,
    ) -> io::Result<Server> {
        let (workers, connections) = (workers.to_string(), connections_max.to_string());
        let megabytes = megabytes.to_string();
        let mut args = match self.kind {
            Kind::Null => vec!["--listen", "127.0.0.1:0"],
            Kind::Larder | Kind::Memcached => {
                vec![
                    "-l",
                    "127.0.0.1",
                    "-p",
                    "-1",
                    "-m",
                    &megabytes,
                    "-c",
                    &connections,
                    "-t",
                    &workers,
                ]
            }
        };
        if self.kind != Kind::Null && nix::unistd::geteuid().is_root() {
            args.extend(["-u", "root"]);
        }
        let server = Server::start(&self.program, &args, Some(cores))?;
        debug_build::warn(&server.address.into());
        Ok(server)
    }
}

/// One line on what the figures were taken on, and on how much else it had to do.
pub(crate) fn machine() -> io::Result<String> {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let loads = std::fs::read_to_string("/proc/loadavg")?;
    let load = loads.split(' ').next().unwrap_or_default();
    let cores = allowed_cores()?.len();
    Ok(format!("{model}, {cores} cores, Linux {}; load average before: {load}", kernel.trim()))
}

/// What a server says that it has counted, under a name of memcached's.
pub(crate) fn stat(server: &Server, name: &str) -> io::Result<u64> {
    let told = stats::ask(&server.address.into(), "")?;
    let number = told.get(name).and_then(|text| text.parse().ok());
    number.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, format!("no `{name}` in stats")))
}

fn beside_this_program(name: &str) -> io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name(name))
}

/// The first line that the program says about its version.
fn version(program: &Path) -> io::Result<String> {
    let output = Command::new(program)
        .arg("-V")
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", program.display())))?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.lines().next() {
        Some(line) => Ok(line.to_owned()),
        None => {
            let message = format!("{}: -V names no version", program.display());
            Err(io::Error::new(ErrorKind::InvalidData, message))
        }
    }
}

/// Room for all keys of the figures that are no figures of memory.
const MEGABYTES: u64 = 256;
