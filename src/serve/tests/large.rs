//! Values larger than a segment: received where they will lie, in whatever pieces they come.

use super::*;
use crate::store::Totals;

/// With segments of 4 KiB.
fn small() -> Harness {
    let config = Config { memory_bytes: 1 << 20, item_bytes_max: 128 << 10, ..Config::tiny() };
    Harness::with(config)
}

fn value(bytes: usize) -> String {
    let digits = (0..).flat_map(|number: usize| format!("{number},").into_bytes());
    String::from_utf8(digits.take(bytes).collect()).expect("digits")
}

fn totals(harness: &Harness) -> Totals {
    harness.shared.store.totals()
}

/// Feeds input piece by piece, and makes sure that what is large is not kept in a buffer.
fn feed_in_pieces(harness: &mut Harness, input: &[u8], piece_bytes: usize) {
    for piece in input.chunks(piece_bytes) {
        harness.feed(piece);
        let kept = harness.session.buffered_bytes();
        assert!(kept <= 2 * 4096 + 2 * piece_bytes, "{kept} bytes are kept");
    }
}

#[test]
fn a_large_value_is_received_in_its_place_in_any_pieces() {
    // Around what fills one, two and some segments of 4032 bytes, and the fragments in them.
    let sizes = (3_900..4_100).chain(7_950..8_100).chain([20_000, 100_000]);
    let mut harness = small();
    for (number, bytes) in sizes.enumerate() {
        let value = value(bytes);
        let piece_bytes = [500, 1_400, 4_096, 65_536][number % 4];
        let (set, got) = match number % 3 {
            0 => (format!("set key 7 0 {bytes}\r\n{value}\r\n"), "STORED\r\n"),
            1 => (format!("ms key {bytes} F7 E{number} s\r\n{value}\r\n"), "HD s"),
            _ => (format!("set key 7 0 {bytes} noreply\r\n{value}\r\n"), ""),
        };
        feed_in_pieces(&mut harness, set.as_bytes(), piece_bytes);
        assert!(harness.answer(b"").starts_with(got), "{bytes} bytes in {piece_bytes}");
        let expect = format!("VALUE key 7 {bytes}\r\n{value}\r\nEND\r\n");
        assert_eq!(harness.answer(b"get key\r\n"), expect, "{bytes} bytes in {piece_bytes}");
        assert_eq!(totals(&harness).segments_aside, 0);
        harness.shared.store.check();
    }
}

#[test]
fn the_socket_may_write_to_the_place_of_a_value() {
    let mut harness = small();
    let value = value(50_000);
    let request = format!("set key 0 0 {}\r\n{value}\r\nversion\r\n", value.len());
    let mut rest = request.as_bytes();
    let mut written = 0;
    while !rest.is_empty() {
        if let Some(room) = harness.session.room() {
            let (now, later) = rest.split_at(room.len().min(rest.len()));
            room[..now.len()].copy_from_slice(now);
            harness.session.advance(now.len());
            (rest, written) = (later, written + now.len());
        } else {
            let (now, later) = rest.split_at(rest.len().min(700));
            harness.feed(now);
            rest = later;
        }
    }
    assert!(written > 30_000, "{written} bytes");
    assert_eq!(harness.answer(b""), "STORED\r\nVERSION 1.6.45\r\n");
    assert_eq!(harness.answer(b"get key\r\n"), format!("VALUE key 0 50000\r\n{value}\r\nEND\r\n"));
}

#[test]
fn what_is_not_stored_in_the_end_leaves_nothing_behind() {
    let mut harness = small();
    let value = value(30_000);
    harness.answer(b"set key 0 0 3\r\nold\r\n");
    let before = totals(&harness).segments_in_use;
    for (line, end, answer) in [
        ("set key 0 0 30000", "xx", "CLIENT_ERROR bad data chunk\r\n"),
        ("add key 0 0 30000", "\r\n", "NOT_STORED\r\n"),
        ("replace missing 0 0 30000", "\r\n", "NOT_STORED\r\n"),
        ("cas key 0 0 30000 999999", "\r\n", "EXISTS\r\n"),
        ("cas missing 0 0 30000 1", "\r\n", "NOT_FOUND\r\n"),
    ] {
        feed_in_pieces(&mut harness, format!("{line}\r\n{value}").as_bytes(), 1_000);
        assert!(totals(&harness).segments_aside > 5, "it is in its place");
        assert_eq!(harness.answer(end.as_bytes()), answer, "{line}");
        assert_eq!(harness.answer(b"get key\r\n"), "VALUE key 0 3\r\nold\r\nEND\r\n");
        assert_eq!(totals(&harness).segments_aside, 0);
        harness.shared.store.check();
    }
    harness.feed(format!("set key 0 0 30000\r\n{value}").as_bytes());
    assert!(totals(&harness).segments_in_use > before + 5);
    drop(harness.reconnect());
    assert_eq!(totals(&harness).segments_aside, 0, "who left took it along");
    // What had a sealed segment of its own for a moment waits for its readers.
    assert!(totals(&harness).segments_in_use <= before + 60, "{:?}", totals(&harness));
    assert_eq!(harness.answer(b"get key\r\n"), "VALUE key 0 3\r\nold\r\nEND\r\n");
    harness.shared.store.check();
}

#[test]
fn values_on_their_way_in_take_half_of_the_memory_and_no_more() {
    let mut harness = small();
    let value = value(100_000);
    let halves: Vec<_> = (0..30)
        .map(|number| {
            let request = format!("set half{number} 0 0 100000\r\n{}", &value[..90_000]);
            assert_eq!(harness.answer(request.as_bytes()), "");
            let Totals { segments, segments_aside, .. } = totals(&harness);
            assert!(segments_aside <= segments / 2);
            harness.answer(b"");
            harness.reconnect()
        })
        .collect();
    let Totals { segments, segments_aside, .. } = totals(&harness);
    assert!(segments_aside > segments / 2 - 24, "{segments_aside} of {segments}");
    for number in 0..200 {
        let request = format!("set small{number} 0 0 1000\r\n{}\r\n", &value[..1000]);
        assert_eq!(harness.answer(request.as_bytes()), "STORED\r\n", "others are served");
    }
    for (number, half) in halves.into_iter().enumerate() {
        harness.session = half;
        let end = format!("{}\r\nget half{number}\r\n", &value[90_000..]);
        let expect = format!("STORED\r\nVALUE half{number} 0 100000\r\n{value}\r\nEND\r\n");
        assert!(harness.answer(end.as_bytes()) == expect, "half{number}");
    }
    assert_eq!(totals(&harness).segments_aside, 0);
    harness.shared.store.check();
}

#[test]
fn a_key_that_is_too_long_takes_what_was_lent_before_it_along() {
    let mut harness = small();
    let value = value(20_000);
    harness.answer(format!("set key 0 0 20000\r\n{value}\r\n").as_bytes());
    let line = format!("version\r\nget key key {}\r\nversion\r\n", "k".repeat(251));
    let expect = "VERSION 1.6.45\r\nCLIENT_ERROR bad command line format\r\nVERSION 1.6.45\r\n";
    assert_eq!(harness.answer(line.as_bytes()), expect);
    assert_eq!(totals(&harness).segments_aside, 0);
}

#[test]
fn what_is_lent_counts_as_output() {
    let mut harness = small();
    harness.answer(format!("set key 0 0 20000\r\n{}\r\n", value(20_000)).as_bytes());
    harness.limits.output_bytes = 10_000;
    for request in ["get missing key\r\n", "mg key v O1\r\n", "get key\r\n"] {
        let expect = harness.answer(request.as_bytes());
        assert_eq!(harness.feed(request.repeat(3).as_bytes()), Stop::Output);
        assert_eq!(harness.rest, request.repeat(2).as_bytes(), "{request}");
        let mut answer = harness.answer(b"");
        while !harness.rest.is_empty() {
            answer += &harness.answer(b"");
        }
        assert!(answer + &harness.answer(b"") == expect.repeat(3), "{request}");
    }
}
