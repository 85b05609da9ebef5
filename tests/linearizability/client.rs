//! A client that asks for one thing after the other and writes down what it was told.

use std::io::Read as _;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::history::{CasAnswer, Event, Operation};
use crate::support::{self, Random, Server};

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Texts, each of which is written once.
    Text,
    /// A number.
    Counter,
    /// A number whose cas nobody asks for.
    PlainCounter,
}

/// One connection.
pub(crate) struct Client {
    client: support::client::Client,
    /// Texts written so far.
    written: u64,
    /// The key that was asked for its cas last, and that.
    told: Option<(String, u64)>,
}

impl Client {
    pub(crate) fn connect(server: &Server) -> Self {
        Self { client: support::client::Client::new(server.connect()), written: 0, told: None }
    }

    /// One random request to a key, with the moments of its sending and its answer.
    pub(crate) fn ask(
        &mut self,
        number: usize,
        key: &str,
        role: Role,
        moment: &AtomicU64,
        random: &mut Random,
    ) -> [Event; 2] {
        let choice = random.below(100);
        let value = self.value(number, role, random);
        let sent = moment.fetch_add(1, Ordering::SeqCst);
        let operation = self.request(choice, key, role, value, random);
        let answered = moment.fetch_add(1, Ordering::SeqCst);
        [
            Event { moment: sent, client: number, begun: Some(operation) },
            Event { moment: answered, client: number, begun: None },
        ]
    }

    /// Stores something large under a key that nobody asks for.
    pub(crate) fn fill(&mut self, random: &mut Random) {
        let key = format!("fill-{}", random.below(FILLING_KEYS));
        let value = "f".repeat(random.below(FILLING_BYTES));
        assert_eq!(self.store("set", &key, &value, None), "STORED");
    }

    /// A figure that the server tells of itself.
    pub(crate) fn stat(&mut self, name: &str) -> u64 {
        self.client.figure("stats", name)
    }

    fn value(&mut self, number: usize, role: Role, random: &mut Random) -> String {
        self.written += 1;
        match role {
            Role::Counter | Role::PlainCounter => random.below(1000).to_string(),
            // Of many sizes, so that items take more room and less.
            Role::Text => {
                let filling = ".".repeat(random.below(300));
                format!("{number}:{};{filling}", self.written)
            }
        }
    }

    fn request(
        &mut self,
        choice: usize,
        key: &str,
        role: Role,
        value: String,
        random: &mut Random,
    ) -> Operation {
        match choice {
            0..20 => Operation::Get(self.get("get", key)),
            20..60 if role == Role::PlainCounter => Operation::Get(self.get("get", key)),
            20..40 => self.gets(key),
            40..60 if self.told.as_ref().is_some_and(|(asked, _)| asked == key) => {
                self.compare_and_set(key, value)
            }
            40..60 => self.gets(key),
            60..68 => {
                assert_eq!(self.store("set", key, &value, None), "STORED");
                Operation::Set(value)
            }
            68..74 => {
                let stored = self.is_stored("add", key, &value);
                Operation::Add(value, stored)
            }
            74..80 => {
                let stored = self.is_stored("replace", key, &value);
                Operation::Replace(value, stored)
            }
            80..90 if role != Role::Text => self.increment(key, random.below(9)),
            80..90 => {
                let more = format!("+{}", &value[..value.find(';').expect("a text has one")]);
                let stored = self.is_stored("append", key, &more);
                Operation::Append(more, stored)
            }
            90..95 => Operation::Touch(self.is_done(&format!("touch {key} 0\r\n"), "TOUCHED")),
            _ => Operation::Delete(self.is_done(&format!("delete {key}\r\n"), "DELETED")),
        }
    }

    fn gets(&mut self, key: &str) -> Operation {
        let found = self.get("gets", key);
        self.told = found.as_ref().and_then(|(_, cas)| Some((key.to_owned(), (*cas)?)));
        Operation::Get(found)
    }

    fn get(&mut self, command: &str, key: &str) -> Option<(String, Option<u64>)> {
        self.client.send(format!("{command} {key}\r\n"));
        let line = self.client.line();
        if line == "END" {
            return None;
        }
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(words[..3], ["VALUE", key, "0"], "{line}");
        let mut value = vec![0; words[3].parse::<usize>().expect("a length") + 2];
        self.client.0.read_exact(&mut value).expect("the value follows");
        assert_eq!(self.client.line(), "END");
        let value = String::from_utf8(value).expect("as stored").trim_end().to_owned();
        let cas = words.get(4).map(|cas| cas.parse().expect("a number"));
        Some((value, cas))
    }

    fn compare_and_set(&mut self, key: &str, value: String) -> Operation {
        let (_, token) = self.told.take().expect("the caller looked");
        let answer = match self.store("cas", key, &value, Some(token)).as_str() {
            "STORED" => CasAnswer::Stored,
            "EXISTS" => CasAnswer::Exists,
            "NOT_FOUND" => CasAnswer::NotFound,
            other => panic!("{other}"),
        };
        Operation::Cas(value, token, answer)
    }

    fn increment(&mut self, key: &str, by: u64) -> Operation {
        self.client.send(format!("incr {key} {by}\r\n"));
        let line = self.client.line();
        let count = match line.as_str() {
            "NOT_FOUND" => None,
            count => Some(count.parse().unwrap_or_else(|_| panic!("{line}"))),
        };
        Operation::Incr(by, count)
    }

    fn is_stored(&mut self, command: &str, key: &str, value: &str) -> bool {
        match self.store(command, key, value, None).as_str() {
            "STORED" => true,
            "NOT_STORED" => false,
            other => panic!("{other}"),
        }
    }

    fn store(&mut self, command: &str, key: &str, value: &str, cas: Option<u64>) -> String {
        let cas = cas.map(|cas| format!(" {cas}")).unwrap_or_default();
        self.client.send(format!("{command} {key} 0 0 {}{cas}\r\n{value}\r\n", value.len()));
        self.client.line()
    }

    fn is_done(&mut self, request: &str, done: &str) -> bool {
        self.client.send(request);
        let line = self.client.line();
        assert!(line == done || line == "NOT_FOUND", "{line}");
        line == done
    }
}

/// These, of this length at most, are several times what there is room for.
const FILLING_KEYS: usize = 20_000;
const FILLING_BYTES: usize = 4000;
