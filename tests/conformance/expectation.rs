//! What must come back over a connection, and the comparison of it with what did.

use std::collections::HashMap;

use crate::table::Piece;

/// The pieces of all answers that are due, and the numbers that earlier ones bound.
#[derive(Default)]
pub(crate) struct Expectation {
    pieces: Vec<Piece>,
    bound: HashMap<String, Vec<u8>>,
}

/// How far received bytes agree with an expectation.
#[derive(Clone, Copy)]
pub(crate) enum Comparison {
    /// The expectation is met by this many bytes.
    Met(usize),
    /// Nothing is wrong so far.
    Incomplete(Place),
    Differs(Place),
}

/// Where a comparison ended: in this piece, at this byte of what was received.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    piece: usize,
    byte: usize,
}

/// What a piece makes of the bytes that follow.
enum Extent {
    Takes(usize),
    Incomplete,
    DiffersAfter(usize),
}

impl Expectation {
    pub(crate) fn add(&mut self, pieces: &[Piece]) {
        self.pieces.extend_from_slice(pieces);
    }

    /// The number that was received under this name.
    pub(crate) fn bound(&self, name: &str) -> Option<&[u8]> {
        self.bound.get(name).map(Vec::as_slice)
    }

    /// Compares the start of `received` with all that is expected, binding names on the way.
    pub(crate) fn compare(&mut self, received: &[u8]) -> Comparison {
        let mut byte = 0;
        for (index, piece) in self.pieces.iter().enumerate() {
            let place = Place { piece: index, byte };
            let rest = &received[byte..];
            match extent(piece, self.pieces.get(index + 1), rest) {
                Extent::Takes(length) => byte += length,
                Extent::Incomplete => return Comparison::Incomplete(place),
                Extent::DiffersAfter(length) => {
                    return Comparison::Differs(Place { byte: byte + length, ..place });
                }
            }
            let taken = &received[place.byte..byte];
            if let Piece::Bound(name) | Piece::Cas(name) = piece
                && name != "_"
                && *self.bound.entry(name.clone()).or_insert_with(|| taken.to_vec()) != taken
            {
                return Comparison::Differs(place);
            }
        }
        Comparison::Met(byte)
    }

    /// The neighbourhood of a place, as it should be and as it is.
    pub(crate) fn show(&self, place: Place, received: &[u8]) -> String {
        let expected: String =
            self.pieces[place.piece..].iter().take(SHOWN_PIECES).map(show).collect();
        let before = received[..place.byte].escape_ascii().to_string();
        let after = received[place.byte..].escape_ascii().to_string();
        let before: String = before.chars().skip(before.len().saturating_sub(SHOWN_LEN)).collect();
        let expected: String = expected.chars().take(2 * SHOWN_LEN).collect();
        let after: String = after.chars().take(SHOWN_LEN).collect();
        format!("expected  {expected}\n    received  {before} >>> {after}")
    }
}

fn extent(piece: &Piece, next: Option<&Piece>, rest: &[u8]) -> Extent {
    let length = match (piece, next) {
        (Piece::Bytes(bytes), _) => {
            let common = bytes.iter().zip(rest).take_while(|(a, b)| a == b).count();
            return if common == bytes.len() {
                Extent::Takes(common)
            } else if common == rest.len() {
                Extent::Incomplete
            } else {
                Extent::DiffersAfter(common)
            };
        }
        (Piece::Now(_), _) => panic!("a time in an answer cannot be compared exactly"),
        (Piece::Cas(_), _) if rest.len() < CAS_LEN => return Extent::Incomplete,
        (Piece::Cas(_), _) => return Extent::Takes(CAS_LEN),
        (Piece::Digits | Piece::Bound(_), _) => {
            match rest.iter().take_while(|byte| byte.is_ascii_digit()).count() {
                0 if !rest.is_empty() => return Extent::DiffersAfter(0),
                digits => digits,
            }
        }
        (Piece::Any, _) => rest.iter().take_while(|&&byte| byte != b'\r').count(),
        (Piece::Skip, Some(Piece::Bytes(text))) => {
            rest.windows(text.len()).position(|at| at == text).unwrap_or(rest.len())
        }
        (Piece::Skip, _) => panic!("a skip needs a text to stop at"),
    };
    // Only what follows tells that it is whole.
    if length < rest.len() { Extent::Takes(length) } else { Extent::Incomplete }
}

fn show(piece: &Piece) -> String {
    match piece {
        Piece::Bytes(bytes) => bytes.escape_ascii().to_string(),
        Piece::Bound(name) | Piece::Cas(name) => format!("{{cas:{name}}}"),
        Piece::Now(offset) => format!("{{now{offset:+}}}"),
        Piece::Digits => "{digits}".into(),
        Piece::Any => "{any}".into(),
        Piece::Skip => "{..}".into(),
    }
}

/// Of the binary protocol.
const CAS_LEN: usize = 8;
const SHOWN_PIECES: usize = 4;
const SHOWN_LEN: usize = 100;
