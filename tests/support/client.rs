//! A client of the text protocol, who reads what he is told line by line.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

/// One connection. Whatever fails on it fails the test.
pub(crate) struct Client(pub(crate) BufReader<TcpStream>);

impl Client {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self(BufReader::new(stream))
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).expect("the server reads");
    }

    /// The next line, without its end.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        let bytes = self.0.read_line(&mut line).expect("the server answers");
        assert!(bytes > 0, "the server closes instead of answering");
        line.trim_end().to_owned()
    }

    /// Sends a line and reads one.
    pub(crate) fn ask(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n"));
        self.line()
    }

    /// Everything until the server closes.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).expect("the server closes in order");
        rest
    }

    /// The lines that answer a request, up to `END`.
    pub(crate) fn list(&mut self, request: &str) -> Vec<String> {
        self.send(format!("{request}\r\n"));
        std::iter::from_fn(|| Some(self.line()).filter(|line| line != "END")).collect()
    }

    /// A figure among those that answer a request: `stats`, or with a topic.
    pub(crate) fn figure(&mut self, request: &str, name: &str) -> u64 {
        let prefix = format!("STAT {name} ");
        let lines = self.list(request);
        let value = lines.iter().find_map(|line| line.strip_prefix(&prefix)).expect(name);
        value.parse().expect("a number")
    }
}
