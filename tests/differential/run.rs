//! Sends a sequence to two servers at once and compares what they answer.

use std::time::Duration;

use crate::compare::{Correspondence, compare};
use crate::known_differences;
use crate::meta::CHOSEN_CAS;
use crate::sequence::{Company, Piece, Sequence, Step, Wire};
use crate::session::{Answer, Session};
use crate::support::Server;

/// The servers that are compared.
pub(crate) struct Pair<'s> {
    pub(crate) ours: &'s Server,
    pub(crate) theirs: &'s Server,
    /// What is known to be different is no difference.
    pub(crate) knows_differences: bool,
}

/// What was sent between two waits and what came back.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) wire: Wire,
    pub(crate) steps: Vec<Step>,
    /// How many unique numbers had been seen when they were sent.
    pub(crate) numbers_seen: usize,
    /// Theirs has been reconciled with what is known to be different.
    pub(crate) answers: [Answer; 2],
    /// Why the answers are not equal.
    pub(crate) fault: Option<&'static str>,
}

/// Everything up to the first difference, if there is one.
#[derive(Clone, Debug)]
pub(crate) struct Transcript {
    pub(crate) exchanges: Vec<Exchange>,
    pub(crate) numbers: Correspondence,
}

impl Transcript {
    pub(crate) fn fault(&self) -> Option<&'static str> {
        self.exchanges.last().and_then(|last| last.fault)
    }
}

/// Runs a sequence on connections of its own, from empty servers.
pub(crate) fn run(pair: &Pair<'_>, sequence: &Sequence, patience: Duration) -> Transcript {
    let mut sessions =
        [pair.ours, pair.theirs].map(|server| Session::new(server, sequence.wires, patience));
    sessions.iter_mut().for_each(Session::flush);
    let mut numbers = Correspondence::new(&CHOSEN_CAS);
    let mut exchanges: Vec<Exchange> = Vec::new();
    for steps in sequence.groups() {
        let connection = steps[0].connection;
        let wire = sequence.wires[connection];
        let numbers_seen = numbers.count();
        for (side, session) in sessions.iter_mut().enumerate() {
            send(session, wire, steps, |back| numbers.number(numbers_seen, back, side));
        }
        let [ours, mut theirs] = sessions.each_mut().map(|session| session.receive(connection));
        if pair.knows_differences {
            theirs = known_differences::reconcile(wire, theirs, &ours);
        }
        let fault = compare(wire, &ours, &theirs, &mut numbers).err();
        let (steps, answers) = (steps.to_vec(), [ours, theirs]);
        exchanges.push(Exchange { wire, steps, numbers_seen, answers, fault });
        if fault.is_some() {
            break;
        }
    }
    Transcript { exchanges, numbers }
}

/// Sends steps, and what makes the server say that it has answered them.
fn send(session: &mut Session<'_>, wire: Wire, steps: &[Step], cas: impl Fn(usize) -> u64) {
    let connection = steps[0].connection;
    let mut pending = Vec::new();
    for step in steps {
        let bytes = render(&step.command.pieces, wire, &cas);
        if let Some(write_bytes) = step.write_bytes {
            session.send(connection, &pending);
            pending.clear();
            bytes.chunks(write_bytes).for_each(|chunk| session.send(connection, chunk));
        } else {
            pending.extend(bytes);
        }
    }
    session.send(connection, &pending);
    match steps.last().map(|step| step.command.company) {
        Some(Company::Closes) => {}
        Some(Company::HangsUp) => session.hang_up(connection),
        _ => session.send_sentinel(connection),
    }
}

fn render(pieces: &[Piece], wire: Wire, cas: impl Fn(usize) -> u64) -> Vec<u8> {
    let render = |piece: &Piece| match piece {
        Piece::Bytes(bytes) => bytes.clone(),
        Piece::Cas { back } if wire.is_binary() => cas(*back).to_be_bytes().to_vec(),
        Piece::Cas { back } => cas(*back).to_string().into_bytes(),
    };
    pieces.iter().flat_map(render).collect()
}
