//! Random sequences of a dialect, in the ways in which clients send.

use crate::sequence::{Command, Company, Sequence, Step, Wire};
use crate::support::Random;
use crate::words::once_in;
use crate::{binary, datagrams, login, meta, text};

/// The commands that a sequence consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Text,
    Meta,
    Binary,
    /// Text in datagrams.
    Datagrams,
    /// Text of clients that must log in.
    Login,
    /// Packets of clients that must authenticate.
    Sasl,
    /// Meta commands over one connection, the binary protocol over the other.
    Mixed,
}

/// How the commands of a sequence follow one another.
#[derive(Clone, Copy, Debug)]
struct Manner {
    /// One in so many commands is awaited.
    awaited_every: usize,
    /// One in so many goes over the second connection (0: none).
    second_every: usize,
    /// One in so many is not written whole (0: none).
    torn_every: usize,
}

/// A sequence that depends on the seed alone.
pub(crate) fn sequence(dialect: Dialect, seed: u64) -> Sequence {
    let mut random = Random(seed);
    let manner = match dialect {
        Dialect::Mixed => MIXED_MANNER,
        Dialect::Login => LOGIN_MANNER,
        Dialect::Datagrams => DATAGRAM_MANNER,
        _ => MANNERS[random.below(MANNERS.len())],
    };
    let dialects = match dialect {
        Dialect::Mixed => [Dialect::Meta, Dialect::Binary],
        _ => [dialect, dialect],
    };
    let mut steps = Vec::new();
    while steps.len() < dialect.commands() {
        let connection =
            usize::from(manner.second_every > 0 && once_in(&mut random, manner.second_every));
        let commands = dialects[connection].phrase(&mut random);
        steps.extend(
            commands.into_iter().map(|command| step(&mut random, manner, connection, command)),
        );
    }
    Sequence { wires: dialects.map(Dialect::wire), steps }
}

fn step(random: &mut Random, manner: Manner, connection: usize, command: Command) -> Step {
    let is_torn = command.company != Company::Closes
        && manner.torn_every > 0
        && once_in(random, manner.torn_every);
    Step {
        connection,
        command,
        awaited: once_in(random, manner.awaited_every),
        write_bytes: is_torn.then(|| 1 + random.below(TORN_BYTES_MAX)),
    }
}

impl Dialect {
    /// How many commands a sequence has. A client that guesses passwords is heard sixteen times.
    pub(crate) fn commands(self) -> usize {
        if matches!(self, Self::Login | Self::Sasl) { 12 } else { 100 }
    }

    fn wire(self) -> Wire {
        match self {
            Self::Text | Self::Meta => Wire::Text,
            Self::Binary | Self::Mixed => Wire::Binary,
            Self::Datagrams => Wire::Datagrams,
            Self::Login => Wire::Login,
            Self::Sasl => Wire::Sasl,
        }
    }

    fn phrase(self, random: &mut Random) -> Vec<Command> {
        match self {
            Self::Text => text::phrase(random),
            Self::Meta => meta::phrase(random),
            Self::Binary | Self::Mixed => binary::phrase(random),
            Self::Datagrams => datagrams::phrase(random),
            Self::Login => login::text_phrase(random),
            Self::Sasl => login::sasl_phrase(random),
        }
    }
}

const MANNERS: [Manner; 5] = [
    Manner { awaited_every: 1, second_every: 0, torn_every: 0 },
    Manner { awaited_every: 1, second_every: 2, torn_every: 20 },
    Manner { awaited_every: 30, second_every: 0, torn_every: 0 },
    Manner { awaited_every: 30, second_every: 0, torn_every: 10 },
    Manner { awaited_every: 10, second_every: 20, torn_every: 3 },
];
const MIXED_MANNER: Manner = Manner { awaited_every: 3, second_every: 2, torn_every: 10 };
const LOGIN_MANNER: Manner = Manner { awaited_every: 1, second_every: 2, torn_every: 10 };
const DATAGRAM_MANNER: Manner = Manner { awaited_every: 1, second_every: 2, torn_every: 0 };
const TORN_BYTES_MAX: usize = 40;
