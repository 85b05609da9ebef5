//! Lines, and what they ask for; replies, and how they are written.

use super::*;
use crate::protocol::base64::NO_KEY;
use crate::protocol::{Attributes, Counted, Lease, Outcome, Stored};

/// Shows what a line asks for to `look`.
fn parsed<T>(line: &str, look: impl FnOnce(Line<'_>) -> T) -> T {
    look(parse(format!("{line}\r\n").as_bytes(), &mut NO_KEY.clone()))
}

fn fault(line: &str) -> (Fault, usize) {
    parsed(line, |line| match line.parsed {
        Parsed::Refused { fault, swallow_bytes } => (fault, swallow_bytes),
        other => panic!("it is {other:?}"),
    })
}

/// What the answer to a line looks like.
fn answer(line: &str, write: impl FnOnce(&mut Encoder<'_, '_>)) -> String {
    parsed(line, |line| {
        let mut output = Vec::new();
        write(&mut Encoder::new(&mut output, &line.reply, NOW));
        String::from_utf8(output).expect("the replies are text")
    })
}

#[test]
fn a_plain_fetch_is_understood_in_both_ways() {
    let lists =
        ["", " v", " v k O1", "  s  t", " vv k1 O q", " c f h k q s t l v L P9", " v ", " O"];
    for (flags, end) in lists.iter().flat_map(|flags| [(flags, "\r\n"), (flags, "\n")]) {
        let text = format!("mg key{flags}{end}rest");
        let (key, reply, rest) = lone_fetch(text.as_bytes()).expect("it is plain");
        assert_eq!((key, rest), (&b"key"[..], &b"rest"[..]), "{text}");
        parsed(&format!("mg key{flags}"), |line| {
            assert_eq!(line.parsed, Parsed::Fetch(Fetch::plain(b"key")), "{text}");
            assert_eq!(line.reply, reply, "{text}");
        });
    }
}

#[test]
fn what_is_not_plain_is_left_to_the_parser() {
    let long_key = format!("mg {}\r\n", "k".repeat(251));
    let long_opaque = format!("mg key O{}\r\n", "x".repeat(32));
    let many = format!("mg key{}\r\n", " v".repeat(19));
    for text in [
        "mg key",
        "mg \r\n",
        "mg  key\r\n",
        "mg key b\r\n",
        "mg key T5\r\n",
        "mg key C5 v\r\n",
        "mg key u\r\n",
        "mg key v v\r\n",
        "mg key v1 v\r\n",
        "mg key v O1 v\r\n",
        "mg key O1 O2\r\n",
        "mg key !\r\n",
        "mg key \u{80}\r\n",
        "ms key 1\r\n",
        &long_key,
        &long_opaque,
        &many,
    ] {
        assert_eq!(lone_fetch(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn a_fetch_is_read_flag_by_flag() {
    let plain = Fetch::plain(b"foo");
    let recache = |exptime, touched| Some(Recache { exptime, touched });
    for (line, fetch) in [
        ("mg foo u", Fetch { mark: false, ..plain }),
        ("mg Zm9v b", plain),
        ("mg foo T-1", Fetch { touch: Some(-1), ..plain }),
        ("mg foo R5 T9", Fetch { touch: Some(9), recache: recache(5, false), ..plain }),
        ("mg foo T9 R5", Fetch { touch: Some(9), recache: recache(5, true), ..plain }),
        ("mg foo N5 E7", Fetch { create: Some(5), cas: Some(7), ..plain }),
        ("mg foo N5 T9", Fetch { touch: Some(9), create: Some(9), ..plain }),
        ("mg foo T9 N5", Fetch { touch: Some(9), create: Some(5), ..plain }),
    ] {
        parsed(line, |parsed| assert_eq!(parsed.parsed, Parsed::Fetch(fetch), "{line}"));
    }
}

#[test]
fn a_storage_line_is_read_flag_by_flag() {
    let plain = Storage { replaces_or_removes: true, ..Storage::plain(Mode::Set, b"foo", 5) };
    for (line, storage) in [
        ("ms foo 5", plain),
        ("ms foo 5 T9 F7 C3 E4 I", {
            let (compare, cas) = (Some(3), Some(4));
            Storage { exptime: 9, flags: 7, compare, cas, accept_stale: true, ..plain }
        }),
        ("ms foo 5 E0 C0", Storage { compare: Some(0), ..plain }),
        ("ms foo 5 MA C0 N9 T5", {
            Storage { mode: Mode::Append, create: true, exptime: 9, ..plain }
        }),
        ("ms foo 5 MP T5", Storage { mode: Mode::Prepend, exptime: 5, ..plain }),
        ("ms foo 5 N9", plain),
    ] {
        parsed(line, |parsed| assert_eq!(parsed.parsed, Parsed::Store(storage), "{line}"));
    }
}

#[test]
fn a_deletion_keeps_what_it_is_told_to() {
    let keep = |emptied, stale, exptime, cas| Some(Keep { emptied, stale, exptime, cas });
    for (line, kept) in [
        ("md foo T5 E5 F5", None),
        ("md foo x", keep(Some(0), false, None, None)),
        ("md foo x F5 T6 E7", keep(Some(5), false, Some(6), Some(7))),
        ("md foo I T6", keep(None, true, Some(6), None)),
        ("md foo I x", keep(Some(0), true, None, None)),
    ] {
        let deletion = Deletion { key: b"foo", compare: None, keep: kept };
        parsed(line, |parsed| assert_eq!(parsed.parsed, Parsed::Delete(deletion), "{line}"));
    }
}

#[test]
fn faults_swallow_a_value_only_where_its_length_is_known() {
    assert_eq!(fault("ms foo 5 Z"), (Fault::InvalidFlag, 7));
    assert_eq!(fault("ms foo 5 MX"), (Fault::InvalidStorageMode, 7));
    assert_eq!(fault("ms foo 5 !"), (Fault::BadFormat, 0));
    assert_eq!(fault("ms foo -5"), (Fault::BadFormat, 0));
    assert_eq!(fault("ms foo 2147483646"), (Fault::BadFormat, 0));
    assert_eq!(fault("ms foo 2147483645 Z"), (Fault::InvalidFlag, 2_147_483_647));
    assert_eq!(fault("mg foo Z"), (Fault::InvalidFlag, 0));
    assert_eq!(fault("ma foo Tx"), (Fault::InvalidOrDuplicateFlag, 0));
}

#[test]
fn flags_come_back_in_the_order_of_the_request() {
    let write = |encoder: &mut Encoder<'_, '_>| {
        encoder.item(&ITEM, |output| output.extend_from_slice(b"abc"));
    };
    assert_eq!(answer("mg foo", write), "HD\r\n");
    assert_eq!(answer("mg foo v", write), "VA 3\r\nabc\r\n");
    assert_eq!(answer("mg foo s k t O1 h c l f", write), "HD s3 kfoo t50 O1 h1 c9 l20 f7\r\n");
    assert_eq!(answer("mg Zm9v k b", write), "HD kZm9v b\r\n");
    assert_eq!(answer("mg foo v C9", write), "HD\r\n");
    assert_eq!(answer("mg foo t T90", write), "HD t50\r\n");
    assert_eq!(answer("mg foo T90 t", write), "HD t90\r\n");
    assert_eq!(answer("mg foo N5 t", write), "HD t50\r\n", "it was not created");
}

#[test]
fn states_of_the_lease_follow_the_flags() {
    for (stale, lease, expect) in [
        (false, Lease::Free, "HD s3\r\n"),
        (false, Lease::Won, "HD s3 W\r\n"),
        (false, Lease::Taken, "HD s3 Z\r\n"),
        (true, Lease::Won, "HD s3 X W\r\n"),
        (true, Lease::Taken, "HD s3 Z X\r\n"),
    ] {
        let item = Attributes { stale, lease, ..ITEM };
        let reply = answer("mg foo s", |encoder| encoder.item(&item, |_| {}));
        assert_eq!(reply, expect);
    }
}

#[test]
fn only_what_went_well_is_kept_quiet() {
    let outcome = |line: &str, outcome| answer(line, |encoder| encoder.outcome(outcome));
    let stored = Outcome::Stored(Stored { cas: 9, value_bytes: 8 });
    assert_eq!(outcome("ms foo 5 c s k", stored), "HD c9 s8 kfoo\r\n");
    assert_eq!(outcome("ms foo 5 c q", stored), "");
    assert_eq!(outcome("ms foo 5 c s q", Outcome::NotStored), "NS c0 s5\r\n");
    assert_eq!(outcome("md foo q", Outcome::Deleted), "");
    assert_eq!(outcome("md foo q c O1", Outcome::NotFound), "NF O1\r\n");
    let counted = Counted { number: 10, cas: 9, expiry: NOW + 5, created: false };
    assert_eq!(outcome("ma foo v t c", Outcome::Counted(counted)), "VA 2 t5 c9\r\n10\r\n");
    assert_eq!(outcome("ma foo v q", Outcome::Counted(counted)), "");
    assert_eq!(outcome("ma foo v q k", Outcome::Exists), "EX kfoo\r\n");
    let miss = |line: &str| {
        answer(line, |encoder| {
            encoder.miss();
        })
    };
    assert_eq!((miss("mg foo k"), miss("mg foo k q")), ("EN kfoo\r\n".into(), String::new()));
}

const NOW: u32 = 1000;

const ITEM: Attributes = Attributes {
    flags: 7,
    cas: 9,
    value_bytes: 3,
    expiry: NOW + 50,
    last_access: NOW - 20,
    fetched: true,
    created: false,
    stale: false,
    lease: Lease::Free,
};
