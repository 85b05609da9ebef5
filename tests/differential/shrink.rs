//! Makes a sequence that is answered differently as small as it gets.

use std::time::Duration;

use crate::run::{Pair, Transcript, run};
use crate::sequence::{Piece, Sequence, Step};

/// The smallest sequence found that is still answered differently, with what was answered; `None`
/// if the difference does not come up again.
pub(crate) fn shrink(pair: &Pair<'_>, sequence: &Sequence) -> Option<(Sequence, Transcript)> {
    let transcript = run(pair, sequence, PATIENCE);
    transcript.fault()?;
    let mut shrinking = Shrinking { pair, smallest: sequence.clone(), transcript, attempts: 0 };
    shrinking.drop_what_follows();
    loop {
        let before = weight(&shrinking.smallest);
        shrinking.drop_steps();
        shrinking.simplify_delivery();
        shrinking.drop_pieces();
        shrinking.shorten_pieces();
        if weight(&shrinking.smallest) == before {
            return Some((shrinking.smallest, shrinking.transcript));
        }
    }
}

struct Shrinking<'p, 's> {
    pair: &'p Pair<'s>,
    smallest: Sequence,
    transcript: Transcript,
    attempts: usize,
}

impl Shrinking<'_, '_> {
    /// Takes a candidate over if it is still answered differently, in the same way.
    fn try_candidate(&mut self, candidate: Sequence) -> bool {
        self.attempts += 1;
        if self.attempts > ATTEMPTS_MAX {
            return false;
        }
        let transcript = run(self.pair, &candidate, PATIENCE);
        let differs = transcript.fault().is_some() && transcript.fault() == self.transcript.fault();
        if differs {
            self.smallest = candidate;
            self.transcript = transcript;
        }
        differs
    }

    fn try_steps(&mut self, change: impl FnOnce(&mut Vec<Step>)) -> bool {
        let mut candidate = self.smallest.clone();
        change(&mut candidate.steps);
        self.try_candidate(candidate)
    }

    fn drop_what_follows(&mut self) {
        let reached = self.transcript.exchanges.iter().map(|exchange| exchange.steps.len()).sum();
        self.try_steps(|steps| steps.truncate(reached));
    }

    /// Leaves out runs of steps, long ones first.
    fn drop_steps(&mut self) {
        let mut run_steps = self.smallest.steps.len().div_ceil(2);
        while run_steps > 0 {
            let mut end = self.smallest.steps.len();
            while end > 0 {
                let start = end.saturating_sub(run_steps);
                self.try_steps(|steps| drop(steps.drain(start..end)));
                end = start.min(self.smallest.steps.len());
            }
            run_steps /= 2;
        }
    }

    /// One connection, whole writes, an answer to each command before the next.
    fn simplify_delivery(&mut self) {
        if self.smallest.wires[0] == self.smallest.wires[1] {
            self.try_steps(|steps| steps.iter_mut().for_each(|step| step.connection = 0));
        }
        self.try_steps(|steps| steps.iter_mut().for_each(|step| step.write_bytes = None));
        self.try_steps(|steps| steps.iter_mut().for_each(|step| step.awaited = true));
    }

    fn drop_pieces(&mut self) {
        for step in 0..self.smallest.steps.len() {
            for piece in (0..self.smallest.steps[step].command.pieces.len()).rev() {
                self.try_steps(|steps| drop(steps[step].command.pieces.remove(piece)));
            }
        }
    }

    /// Halves long pieces.
    fn shorten_pieces(&mut self) {
        for step in 0..self.smallest.steps.len() {
            for piece in 0..self.smallest.steps[step].command.pieces.len() {
                while let Piece::Bytes(bytes) = &self.smallest.steps[step].command.pieces[piece]
                    && bytes.len() > SHORT_BYTES
                {
                    let half = Piece::Bytes(bytes[bytes.len() / 2..].to_vec());
                    if !self.try_steps(|steps| steps[step].command.pieces[piece] = half) {
                        break;
                    }
                }
            }
        }
    }
}

/// What gets smaller as long as shrinking gets on.
fn weight(sequence: &Sequence) -> (usize, usize) {
    let pieces = sequence.steps.iter().flat_map(|step| &step.command.pieces);
    let bytes = |piece: &Piece| match piece {
        Piece::Bytes(bytes) => bytes.len(),
        Piece::Cas { .. } => 1,
    };
    (sequence.steps.len(), pieces.map(bytes).sum())
}

/// A candidate that lost the end of a value waits for it in vain.
const PATIENCE: Duration = Duration::from_millis(300);
const ATTEMPTS_MAX: usize = 2000;
const SHORT_BYTES: usize = 16;
