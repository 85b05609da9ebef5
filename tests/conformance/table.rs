//! The table's plain-text format, read into cases.
//!
//! ```text
//! flags -m 64 -I 1m            what the servers of this file are started with
//! dialect binary               `>` and `<` are packets, see `packet.rs`
//! dialect binary limited       and nothing but the version may be asked without further ado
//! restart                      each run of a case gets a server of its own
//! alone                        no case runs between others, since none could without a login
//! case a name                  begins a case; `#` begins a comment line
//! > get a                      the client sends this line and \r\n
//! >> get a\n                   the client sends these bytes and nothing else
//! < END                        the server answers this line and \r\n
//! << EN                        the server answers these bytes
//! silent                       there is no answer
//! closed                       then the server closes (without this it must stay open, and silent)
//! ! reason                     a known difference, and why; the answers of each of the two follow:
//! larder< END
//! memcached< ERROR
//! memcached lockstep           or: memcached bears this case only when each answer is awaited
//! memcached skipped            or: memcached does not bear it at all
//! ```
//!
//! Within a line, `\r \n \t \0 \\ \{ \xHH` are bytes, `{250*k}` repeats, `{now+100}` is the Unix
//! time in seconds; in answers `{digits}` and `{any}` (to the end of the line) match, `{..}` skips
//! to where the line goes on, `{cas:a}` matches a number and binds it, and where the client sends
//! `{cas:a}` it sends what was bound.

use std::fs;
use std::path::Path;

use crate::packet::{Way, packet};

/// One file of the table.
pub(crate) struct Table {
    pub(crate) flags: Vec<String>,
    pub(crate) dialect: Dialect,
    pub(crate) restart: bool,
    pub(crate) alone: bool,
    pub(crate) cases: Vec<Case>,
}

/// What the clients of a file speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Text,
    Binary,
    /// Binary, on a server that refuses what the runner would like to ask.
    LimitedBinary,
}

/// What is sent and what must come back, from the first byte of a connection to its last.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) exchanges: Vec<Exchange>,
    /// The server must close the connection by itself.
    pub(crate) closed: bool,
    /// What of this case memcached can prove.
    pub(crate) proof: Proof,
}

/// How far a case can be proven against memcached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    Full,
    Lockstep,
    Skipped,
}

/// Bytes to send, then the answer to expect.
#[derive(Default)]
pub(crate) struct Exchange {
    pub(crate) send: Vec<Piece>,
    larder: Vec<Piece>,
    memcached: Vec<Piece>,
}

/// Which server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Larder,
    Memcached,
}

/// A part of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Bytes(Vec<u8>),
    /// A number that is bound to a name when received.
    Bound(String),
    /// Eight bytes that are bound to a name when received.
    Cas(String),
    /// The current Unix time, moved by this many seconds.
    Now(i64),
    /// One or more decimal digits.
    Digits,
    /// Anything up to the end of the line.
    Any,
    /// Anything up to the first place where the next piece matches.
    Skip,
}

impl Exchange {
    /// What `peer` must answer.
    pub(crate) fn expect(&self, peer: Peer) -> &[Piece] {
        match peer {
            Peer::Larder => &self.larder,
            Peer::Memcached => &self.memcached,
        }
    }
}

impl Table {
    /// Reads the file; a line that breaks the format panics with its place.
    pub(crate) fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path)
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
        let mut table = Self {
            flags: Vec::new(),
            dialect: Dialect::Text,
            restart: false,
            alone: false,
            cases: Vec::new(),
        };
        let mut reason_given = false;
        for (number, line) in text.lines().enumerate() {
            table.take(line, &mut reason_given).unwrap_or_else(|fault| {
                panic!("{}:{}: {fault}: {line:?}", path.display(), number + 1)
            });
        }
        assert!(!table.cases.is_empty(), "{} holds no case", path.display());
        table
    }

    fn take(&mut self, line: &str, reason_given: &mut bool) -> Result<(), String> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "" | "#" => {}
            "flags" => self.flags = rest.split_whitespace().map(str::to_owned).collect(),
            "dialect" => {
                self.dialect = match rest {
                    "binary" => Dialect::Binary,
                    "binary limited" => Dialect::LimitedBinary,
                    _ => return Err("no such dialect".into()),
                };
            }
            "restart" => self.restart = true,
            "alone" => self.alone = true,
            "case" => {
                *reason_given = false;
                let name = rest.to_owned();
                let exchanges = Vec::new();
                self.cases.push(Case { name, exchanges, closed: false, proof: Proof::Full });
            }
            "!" => *reason_given = true,
            "silent" => {
                self.answered()?;
            }
            "memcached" if *reason_given => {
                self.case()?.proof = match rest {
                    "lockstep" => Proof::Lockstep,
                    "skipped" => Proof::Skipped,
                    _ => return Err("no such proof".into()),
                };
            }
            "closed" => self.case()?.closed = true,
            ">" => {
                let line = self.line(rest, Way::Request)?;
                self.sent()?.extend(line);
            }
            ">>" => self.sent()?.extend(pieces(rest, b"")?),
            "<" | "<<" => {
                let line =
                    if word == "<" { self.line(rest, Way::Reply)? } else { pieces(rest, b"")? };
                let exchange = self.answered()?;
                exchange.larder.extend_from_slice(&line);
                exchange.memcached.extend(line);
            }
            "larder<" if *reason_given => {
                let line = self.line(rest, Way::Reply)?;
                self.answered()?.larder.extend(line);
            }
            "memcached<" if *reason_given => {
                let line = self.line(rest, Way::Reply)?;
                self.answered()?.memcached.extend(line);
            }
            "memcached" | "larder<" | "memcached<" => {
                return Err("a difference without its reason".into());
            }
            _ => return Err("no such directive".into()),
        }
        Ok(())
    }

    /// What a line means in the file's dialect.
    fn line(&self, text: &str, way: Way) -> Result<Vec<Piece>, String> {
        match self.dialect {
            Dialect::Text => pieces(text, b"\r\n"),
            Dialect::Binary | Dialect::LimitedBinary => packet(text, way),
        }
    }

    fn case(&mut self) -> Result<&mut Case, String> {
        self.cases.last_mut().ok_or_else(|| "outside a case".into())
    }

    /// Where a sent line goes: the open exchange, or a new one once the last has its answer.
    fn sent(&mut self) -> Result<&mut Vec<Piece>, String> {
        let exchanges = &mut self.case()?.exchanges;
        if exchanges
            .last()
            .is_none_or(|last| !(last.larder.is_empty() && last.memcached.is_empty()))
        {
            exchanges.push(Exchange::default());
        }
        Ok(&mut exchanges.last_mut().expect("just pushed").send)
    }

    fn answered(&mut self) -> Result<&mut Exchange, String> {
        self.case()?.exchanges.last_mut().ok_or_else(|| "an answer to nothing".into())
    }
}

/// Reads one line's pieces and ends them with `line_end`.
fn pieces(text: &str, line_end: &[u8]) -> Result<Vec<Piece>, String> {
    let mut found = Vec::new();
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['\\', '{']) {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let (piece, length) = if rest[at..].starts_with('\\') {
            escape(&rest[at..])?
        } else {
            placeholder(&rest[at..])?
        };
        rest = &rest[at + length..];
        match piece {
            Piece::Bytes(more) => bytes.extend(more),
            other => {
                found.push(Piece::Bytes(std::mem::take(&mut bytes)));
                found.push(other);
            }
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes.extend_from_slice(line_end);
    found.push(Piece::Bytes(bytes));
    Ok(found)
}

/// Reads text that stands for the same bytes each time.
pub(crate) fn bytes(text: &str) -> Result<Vec<u8>, String> {
    match pieces(text, b"")?.as_slice() {
        [Piece::Bytes(bytes)] => Ok(bytes.clone()),
        _ => Err("not a fixed text".into()),
    }
}

/// Reads an escape such as `\r` or `\x00`; returns it with its length in the text.
fn escape(text: &str) -> Result<(Piece, usize), String> {
    let byte = match text.as_bytes().get(1) {
        Some(b'r') => b'\r',
        Some(b'n') => b'\n',
        Some(b't') => b'\t',
        Some(b'0') => 0,
        Some(&same @ (b'\\' | b'{')) => same,
        Some(b'x') => {
            let digits = text.get(2..4).ok_or("half an escape")?;
            let byte = u8::from_str_radix(digits, 16).map_err(|error| error.to_string())?;
            return Ok((Piece::Bytes(vec![byte]), 4));
        }
        _ => return Err("no such escape".into()),
    };
    Ok((Piece::Bytes(vec![byte]), 2))
}

/// Reads what stands in braces; returns it with its length in the text.
fn placeholder(text: &str) -> Result<(Piece, usize), String> {
    let close = text.find('}').ok_or("an open brace")?;
    let inner = &text[1..close];
    let piece = if inner == "digits" {
        Piece::Digits
    } else if inner == "any" {
        Piece::Any
    } else if inner == ".." {
        Piece::Skip
    } else if let Some(name) = inner.strip_prefix("cas:") {
        Piece::Bound(name.to_owned())
    } else if let Some(seconds) = inner.strip_prefix("now") {
        Piece::Now(seconds.parse().map_err(|_| "not a number of seconds")?)
    } else if let Some((count, what)) = inner.split_once('*') {
        let count = count.parse().map_err(|_| "not a count")?;
        Piece::Bytes(what.as_bytes().repeat(count))
    } else {
        return Err("no such placeholder".into());
    };
    Ok((piece, close + 1))
}
