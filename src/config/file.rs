//! `/etc/memcached.conf` as Debian's scripts read it, and `/etc/sysconfig/memcached` of Red Hat's
//! unit.
//!
//! In the former a line is a piece of command line, `#` begins a comment, and `logfile` is passed
//! over, as Debian's unit does: the log goes to standard error. So are lines that begin with `-d`
//! or `-h`, for the file serves under a service manager as well, which must not lose sight of its
//! process; `--daemon` is obeyed. In the latter a line is one of five variables.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::sources::{Layer, Source};
use super::words::split;
use crate::failure::{Failure, describe};

/// The lines of the file at `path` that say something.
///
/// # Errors
///
/// A file that cannot be read; the first line that cannot be understood, with its number.
pub(super) fn read(path: &Path) -> Result<Vec<Source>, Failure> {
    let mut sources = Vec::new();
    let contents = contents(path)?;
    let text = contents.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&contents);
    for (number, line) in (1..).zip(text.split(|&byte| byte == b'\n')) {
        let origin = format!("{}:{number}", path.display());
        let words = std::str::from_utf8(line)
            .map_err(|_| "not UTF-8".to_owned())
            .and_then(options)
            .map_err(|reason| Failure::usage(reason).at(&origin))?;
        if !words.is_empty() {
            sources.push(Source::new(Layer::File, origin, &words)?);
        }
    }
    Ok(sources)
}

/// What is in the file at `path`.
///
/// # Errors
///
/// It cannot be read, or is longer than any configuration.
pub(super) fn contents(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = File::open(path)
        .and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| {
        Failure::usage(format!("cannot read {}: {}", path.display(), describe(&error)))
    })?;
    if read as u64 > BYTES_MAX {
        let path = path.display();
        return Err(Failure::usage(format!("{path} is too long to be a configuration file")));
    }
    Ok(bytes)
}

/// A line as words of the command line.
fn options(line: &str) -> Result<Vec<String>, String> {
    let line = line.trim();
    if line.starts_with("-d") || line.starts_with("-h") {
        return Ok(Vec::new());
    }
    let words = split(line)?;
    match words.first() {
        None => Ok(words),
        Some(first) if first.starts_with('-') => Ok(words),
        Some(first) if first == "logfile" => Ok(vec!["logfile".to_owned()]),
        Some(first) => match first.split_once('=') {
            Some((name, value)) if words.len() == 1 => assignment(name, value),
            _ => Err(format!("unknown directive \"{first}\": a line is an option, such as -m 64")),
        },
    }
}

/// A variable as Red Hat's unit puts it on the command line.
fn assignment(name: &str, value: &str) -> Result<Vec<String>, String> {
    let option = match name {
        "OPTIONS" => return Ok(split(value)?),
        "PORT" => "-p",
        "USER" => "-u",
        "MAXCONN" => "-c",
        "CACHESIZE" => "-m",
        _ => return Err(format!("unknown variable \"{name}\"")),
    };
    Ok(vec![option.to_owned(), value.to_owned()])
}

const BYTES_MAX: u64 = 64 << 10;
/// Some editors put it there, and nobody sees it.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_lines_as_debians_scripts_do() {
        let table: &[(&str, &[&str])] = &[
            ("", &[]),
            ("  # -m 64", &[]),
            ("-m 64\r", &["-m", "64"]),
            ("  -l 127.0.0.1 -l ::1  # both", &["-l", "127.0.0.1", "-l", "::1"]),
            ("--memory-limit=64", &["--memory-limit=64"]),
            ("-d", &[]),
            ("-h", &[]),
            ("--daemon", &["--daemon"]),
            ("-D :", &["-D", ":"]),
            ("logfile /var/log/memcached.log", &["logfile"]),
            ("PORT=\"11211\"", &["-p", "11211"]),
            ("OPTIONS=\"-l 127.0.0.1,::1 -t 2\"", &["-l", "127.0.0.1,::1", "-t", "2"]),
            ("OPTIONS=\"\"", &[]),
        ];
        for &(line, words) in table {
            let words = words.iter().map(|&word| word.to_owned()).collect();
            assert_eq!(options(line), Ok(words), "{line}");
        }
    }

    #[test]
    fn says_what_is_wrong_with_a_line() {
        let table = [
            ("maxmemory 64", "unknown directive \"maxmemory\""),
            ("memory-limit=64", "unknown variable \"memory-limit\""),
            ("-P '/run", "a quotation without an end"),
            ("OPTIONS=\"-P '\"", "a quotation without an end"),
        ];
        for (line, reason) in table {
            assert!(options(line).unwrap_err().starts_with(reason), "{line}");
        }
    }
}
