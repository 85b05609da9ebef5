//! What a server says of itself, asked over a connection of its own in the text protocol.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::engine::address::{Address, Endpoint};

/// Names with what they stand for.
pub type Stats = BTreeMap<String, String>;

/// The answer to `stats`, or to `stats` of one kind; empty where there is none.
///
/// # Errors
///
/// When the server cannot be reached or does not answer.
pub fn ask(server: &Address, kind: &str) -> io::Result<Stats> {
    match server.endpoint() {
        Endpoint::Tcp(address) => {
            let socket = TcpStream::connect(address)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            read(socket, kind)
        }
        Endpoint::Unix(path) => {
            let socket = UnixStream::connect(path)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            read(socket, kind)
        }
    }
}

/// What grew in between, all servers together, of the figures that tell about load; not those that
/// a server does not have.
#[must_use]
pub fn growth(before: &[Stats], after: &[Stats]) -> Vec<(&'static str, i64)> {
    let number = |stats: &Stats, name| stats.get(name)?.parse::<i64>().ok();
    let grown = |name| {
        let pairs = before.iter().zip(after);
        let grown = pairs
            .map(|(before, after)| Some(number(after, name)? - number(before, name).unwrap_or(0)));
        Some((name, grown.sum::<Option<i64>>()?))
    };
    FIGURES.into_iter().filter_map(grown).collect()
}

fn read(mut socket: impl Read + Write, kind: &str) -> io::Result<Stats> {
    let space = if kind.is_empty() { "" } else { " " };
    write!(socket, "stats{space}{kind}\r\n")?;
    let mut stats = Stats::new();
    for line in BufReader::new(socket).lines().take(LINES_MAX) {
        let line = line?;
        let Some((name, value)) = line.strip_prefix("STAT ").and_then(|rest| rest.split_once(' '))
        else {
            break;
        };
        stats.insert(name.to_owned(), value.to_owned());
    }
    Ok(stats)
}

const PATIENCE: Duration = Duration::from_secs(1);
const LINES_MAX: usize = 1000;
const FIGURES: [&str; 9] = [
    "cmd_get",
    "get_hits",
    "get_misses",
    "cmd_set",
    "evictions",
    "expired_unfetched",
    "curr_items",
    "bytes",
    "total_connections",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// A socket that answers whatever it is asked.
    struct Answer(&'static [u8]);

    impl Read for Answer {
        fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
            self.0.read(room)
        }
    }

    impl Write for Answer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn figures_are_read_and_compared() {
        let before = read(Answer(b"STAT cmd_get 5\r\nSTAT version 1.6\r\nEND\r\n"), "").unwrap();
        let after = read(Answer(b"STAT cmd_get 9\r\nSTAT evictions 2\r\nEND\r\n"), "").unwrap();
        let (before, after) = ([before.clone(), before], [after.clone(), after]);
        assert_eq!(growth(&before, &after), [("cmd_get", 8), ("evictions", 4)]);
        assert_eq!(growth(&before, &[after[0].clone(), Stats::new()]), []);
        let [before, _] = before;
        assert_eq!(before["version"], "1.6");
        assert!(read(Answer(b"ERROR\r\n"), "larder").unwrap().is_empty());
    }
}
