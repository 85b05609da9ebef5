//! Tells a difference as a case of the conformance table.

use std::fmt::Write as _;

use crate::answer::{Part, parts};
use crate::run::{Exchange, Transcript};
use crate::sequence::{Company, Piece, Wire};
use crate::session::{Answer, End};

/// The case, its answers those of the reference, the last one's differing.
pub(crate) fn as_case(name: &str, transcript: &Transcript) -> String {
    let mut case = format!("case {name}\n");
    let mut connection = 0;
    for exchange in &transcript.exchanges {
        let sent_over = exchange.steps[0].connection;
        if sent_over != connection {
            connection = sent_over;
            let _ = writeln!(case, "# over connection {connection}");
        }
        write_sent(&mut case, exchange, transcript);
        match exchange.fault {
            None => write_answer(&mut case, "<", exchange, 1, transcript),
            Some(fault) => {
                let _ = writeln!(case, "! {fault}");
                write_answer(&mut case, "larder<", exchange, 0, transcript);
                write_answer(&mut case, "memcached<", exchange, 1, transcript);
            }
        }
    }
    case
}

fn write_sent(case: &mut String, exchange: &Exchange, transcript: &Transcript) {
    let mut text = String::new();
    for step in &exchange.steps {
        for piece in &step.command.pieces {
            match piece {
                Piece::Bytes(bytes) => text += &escaped(bytes),
                Piece::Cas { back } => {
                    let cas = transcript.numbers.number(exchange.numbers_seen, *back, 1);
                    let _ = write!(text, "{{cas:c{}}}", transcript.numbers.name(cas, 1));
                }
            }
        }
        if step.command.company == Company::HangsUp {
            text += "{hangs up}";
        }
    }
    write_lines(case, ">", &text);
}

fn write_answer(
    case: &mut String,
    mark: &str,
    exchange: &Exchange,
    side: usize,
    transcript: &Transcript,
) {
    let answer = &exchange.answers[side];
    let text = as_text(exchange.wire, answer, |cas| transcript.numbers.name(cas, side));
    if text.is_empty() {
        let _ = writeln!(case, "silent");
    }
    write_lines(case, mark, &text);
    match answer.end {
        End::Whole => {}
        End::Closed => case.push_str("closed\n"),
        End::Stalled => case.push_str("# and no more, however long one waits\n"),
    }
}

fn as_text(wire: Wire, answer: &Answer, name: impl Fn(u64) -> usize) -> String {
    let show = |part: Part<'_>| match part {
        Part::Bytes(bytes) => escaped(bytes),
        Part::Cas(0) if !wire.is_binary() => "0".to_owned(),
        Part::Cas(cas) => format!("{{cas:c{}}}", name(cas)),
        Part::Seconds(seconds) => seconds.to_string(),
    };
    parts(wire, &answer.bytes).into_iter().map(show).collect()
}

/// Ends a line of the case where the text has an end of line.
fn write_lines(case: &mut String, mark: &str, text: &str) {
    let mut rest = text;
    while let Some((line, after)) = rest.split_once("\\r\\n") {
        let _ = writeln!(case, "{mark} {line}");
        rest = after;
    }
    if !rest.is_empty() {
        let doubled = mark.chars().last().unwrap_or('>');
        let _ = writeln!(case, "{mark}{doubled} {rest}");
    }
}

fn escaped(bytes: &[u8]) -> String {
    let escape = |&byte: &u8| match byte {
        b'\r' => "\\r".to_owned(),
        b'\n' => "\\n".to_owned(),
        b'\\' | b'{' => format!("\\{}", char::from(byte)),
        b' '..=b'~' => char::from(byte).to_string(),
        _ => format!("\\x{byte:02x}"),
    };
    bytes.iter().map(escape).collect()
}
