//! Whether two answers say the same, and what their unique numbers have in common.

use crate::answer::{Part, parts};
use crate::sequence::Wire;
use crate::session::{Answer, End};

/// The unique numbers that both servers sent in the same places, in order.
///
/// They count separately, so the numbers are not equal. But two of one server must be equal, or
/// one greater than the other, exactly where those of the other server are.
#[derive(Clone, Debug)]
pub(crate) struct Correspondence {
    /// What the generators send as numbers of their own choice, at the front.
    chosen: usize,
    pairs: Vec<[u64; 2]>,
}

impl Correspondence {
    /// Nothing was seen yet. What is `chosen` by the client means the same to both.
    pub(crate) fn new(chosen: &[u64]) -> Self {
        Self { chosen: chosen.len(), pairs: chosen.iter().map(|&cas| [cas, cas]).collect() }
    }

    /// How many numbers were sent so far.
    pub(crate) fn count(&self) -> usize {
        self.pairs.len() - self.chosen
    }

    /// The last of the first `count` numbers of a server, or so many before it; one that never
    /// was, if there were not so many.
    pub(crate) fn number(&self, count: usize, back: usize, side: usize) -> u64 {
        let seen = &self.pairs[self.chosen..][..count];
        seen.iter().rev().nth(back).map_or(NEVER_USED, |pair| pair[side])
    }

    /// The places at which this number was sent first, counted over all distinct numbers.
    pub(crate) fn name(&self, cas: u64, side: usize) -> usize {
        let mut distinct: Vec<u64> = Vec::new();
        for pair in &self.pairs[self.chosen..] {
            if !distinct.contains(&pair[side]) {
                distinct.push(pair[side]);
            }
        }
        distinct.iter().position(|&seen| seen == cas).unwrap_or(distinct.len())
    }

    fn add(&mut self, ours: u64, theirs: u64) -> bool {
        let corresponds = self.pairs.iter().all(|pair| ours.cmp(&pair[0]) == theirs.cmp(&pair[1]));
        self.pairs.push([ours, theirs]);
        corresponds
    }
}

/// Whether both answers say the same; if not, why not.
pub(crate) fn compare(
    wire: Wire,
    ours: &Answer,
    theirs: &Answer,
    numbers: &mut Correspondence,
) -> Result<(), &'static str> {
    let mut our_parts = parts(wire, &ours.bytes).into_iter();
    let mut their_parts = parts(wire, &theirs.bytes).into_iter();
    loop {
        match (our_parts.next(), their_parts.next()) {
            (None, None) => break,
            (Some(Part::Cas(ours)), Some(Part::Cas(theirs))) => {
                if !numbers.add(ours, theirs) {
                    return Err("unique numbers that do not correspond");
                }
            }
            (Some(Part::Seconds(ours)), Some(Part::Seconds(theirs))) => {
                if !are_about_equal(ours, theirs) {
                    return Err("times that differ");
                }
            }
            (ours, theirs) if ours == theirs => {}
            _ => return Err("other bytes"),
        }
    }
    match (ours.end, theirs.end) {
        (End::Stalled, End::Stalled) => Err("neither answers"),
        (ours, theirs) if ours == theirs => Ok(()),
        (End::Closed, _) | (_, End::Closed) => Err("only one closes"),
        _ => Err("only one answers"),
    }
}

/// Both were asked at about the same time, and neither clock is finer than a second. What does
/// not pass, -1 for "never", is equal.
fn are_about_equal(ours: i64, theirs: i64) -> bool {
    ours == theirs || (ours >= 0 && theirs >= 0 && ours.abs_diff(theirs) <= SECONDS_APART_MAX)
}

const SECONDS_APART_MAX: u64 = 2;
const NEVER_USED: u64 = 987_654_321_987_654_321;

#[test]
fn unique_numbers_must_be_equal_and_grow_in_the_same_places() {
    let mut numbers = Correspondence::new(&[1 << 60]);
    assert!(numbers.add(5, 100) && numbers.add(7, 103) && numbers.add(5, 100));
    assert_eq!((numbers.number(3, 1, 0), numbers.number(3, 1, 1)), (7, 103));
    assert!(!numbers.clone().add(5, 101), "the same here, another one there");
    assert!(!numbers.clone().add(6, 104), "in between here, last there");
    assert!(!numbers.clone().add(1 << 60, 105), "what the client chose is the same for both");
    assert!(numbers.add(1 << 60, 1 << 60));
}

#[test]
fn times_may_be_some_seconds_apart_but_never_is_never() {
    let answer = |text: &str| Answer { bytes: text.into(), end: End::Whole };
    let are_equal = |ours: &str, theirs: &str| {
        let mut numbers = Correspondence::new(&[]);
        compare(Wire::Text, &answer(ours), &answer(theirs), &mut numbers).is_ok()
    };
    assert!(are_equal("HD t100\r\n", "HD t98\r\n"));
    assert!(!are_equal("HD t100\r\n", "HD t97\r\n"));
    assert!(!are_equal("HD t0\r\n", "HD t-1\r\n"));
    assert!(!are_equal("HD s100\r\n", "HD s99\r\n"));
}
