//! Packets in any pieces, their replies, and what is kept in between.

use super::{Harness, NOW};
use crate::auth::{Authentication, Method};
use crate::config::{Config, Dialects};
use crate::protocol::binary::HEADER_BYTES;
use crate::serve::{Session, Stop};
use crate::watch::CloseReason;
use std::sync::Arc;

/// A request.
#[derive(Clone, Copy, Default)]
struct Packet<'p> {
    opcode: u8,
    opaque: u8,
    cas: u64,
    extras: &'p [u8],
    key: &'p [u8],
    value: &'p [u8],
}

/// A reply, as far as the tests look at it.
#[derive(Debug, PartialEq, Eq)]
struct Reply {
    opcode: u8,
    status: u16,
    opaque: u8,
    body: Vec<u8>,
}

impl Packet<'_> {
    fn bytes(&self) -> Vec<u8> {
        let Self { opcode, opaque, cas, extras, key, value } = *self;
        let body = [extras, key, value].concat();
        let lengths = (length(key), length(extras), length(&body));
        let mut bytes = header(opcode, lengths);
        bytes[15] = opaque;
        bytes[16..].copy_from_slice(&cas.to_be_bytes());
        bytes.extend(body);
        bytes
    }
}

fn length<N: TryFrom<usize>>(bytes: &[u8]) -> N {
    N::try_from(bytes.len()).ok().expect("a short packet")
}

/// The header of a request with these lengths of key, extras and body.
fn header(opcode: u8, (key, extras, body): (u16, u8, u32)) -> Vec<u8> {
    let mut bytes = vec![0x80, opcode];
    bytes.extend(key.to_be_bytes());
    bytes.extend([extras, 0, 0, 0]);
    bytes.extend(body.to_be_bytes());
    bytes.resize(HEADER_BYTES, 0);
    bytes
}

fn stream(packets: &[Packet<'_>]) -> Vec<u8> {
    packets.iter().flat_map(Packet::bytes).collect()
}

fn set<'p>(key: &'p [u8], value: &'p [u8]) -> Packet<'p> {
    Packet { opcode: 0x01, extras: &[0; 8], key, value, ..Packet::default() }
}

fn get_quietly(key: &[u8], opaque: u8) -> Packet<'_> {
    Packet { opcode: 0x0d, key, opaque, ..Packet::default() }
}

const NOOP: Packet<'_> =
    Packet { opcode: 0x0a, opaque: 0, cas: 0, extras: &[], key: &[], value: &[] };

impl Harness {
    /// The replies to the requests, all of which have come.
    fn replies(&mut self, input: &[u8]) -> Vec<Reply> {
        self.feed(input);
        let output = std::mem::take(&mut self.output);
        let mut rest = output.as_slice();
        let mut replies = Vec::new();
        while let Some((header, after)) = rest.split_at_checked(HEADER_BYTES) {
            assert_eq!(header[0], 0x81, "{rest:?}");
            let body_bytes = u32::from_be_bytes(header[8..12].try_into().expect("4 bytes"));
            let (body, after) = after.split_at(body_bytes as usize);
            replies.push(Reply {
                opcode: header[1],
                status: u16::from_be_bytes([header[6], header[7]]),
                opaque: header[15],
                body: body.to_vec(),
            });
            rest = after;
        }
        assert_eq!(rest, b"", "half a reply");
        replies
    }
}

#[test]
fn packets_may_arrive_in_any_pieces() {
    let packets = [
        set(b"key", b"value"),
        set(b"empty", b""),
        get_quietly(b"key", 1),
        get_quietly(b"missing", 2),
        get_quietly(b"empty", 3),
        Packet { opcode: 0x0e, key: b"key", value: b" and more", ..Packet::default() },
        Packet { opcode: 0x77, extras: b"e", key: b"k", value: b"unknown", ..Packet::default() },
        Packet { opcode: 0x05, extras: &[1; 20], key: b"count", ..Packet::default() },
        Packet { opcode: 0x1d, extras: &[0; 4], key: b"key", ..Packet::default() },
        NOOP,
    ];
    let input = stream(&packets);
    let expect = Harness::new().replies(&input);
    let statuses: Vec<_> = expect.iter().map(|reply| (reply.opcode, reply.status)).collect();
    assert_eq!(
        statuses,
        [
            (0x01, 0),
            (0x01, 0),
            (0x0d, 0),
            (0x0d, 0),
            (0x0e, 0),
            (0x77, 0x81),
            (0x05, 0),
            (0x1d, 0),
            (0x0a, 0)
        ]
    );
    assert_eq!(expect[7].body, b"\0\0\0\0value and more");
    for size in 1..40 {
        let mut harness = Harness::new();
        for piece in input.chunks(size) {
            assert_eq!(harness.feed(piece), Stop::Input);
            assert!(harness.rest.len() < HEADER_BYTES + 20 + 250);
        }
        assert_eq!(harness.replies(b""), expect, "in pieces of {size}");
    }
}

#[test]
fn retrievals_are_interrupted_by_their_output_and_go_on() {
    let mut harness = Harness::new();
    harness.replies(&stream(&[set(b"a", b"abc")]));
    let gets: Vec<_> = (0..100)
        .map(|number| get_quietly(if number % 3 == 0 { b"b" } else { b"a" }, number))
        .collect();
    let input = stream(&gets);
    let expect = harness.replies(&input);
    assert_eq!(expect.len(), 66);
    assert!(expect.iter().all(|reply| reply.opaque % 3 != 0 && reply.body == b"\0\0\0\0aabc"));
    harness.limits.output_bytes = 30;
    let mut replies = Vec::new();
    let mut stop = harness.feed(&input);
    while stop == Stop::Output {
        assert!(harness.output.len() < 30 + HEADER_BYTES + 8, "{} bytes", harness.output.len());
        replies.extend(harness.replies(b""));
        stop = if harness.rest.is_empty() { Stop::Input } else { Stop::Output };
    }
    assert_eq!(replies, expect);
}

#[test]
fn a_turn_ends_when_its_requests_are_used_up() {
    let mut harness = Harness::new();
    harness.limits.requests = 3;
    let input = stream(&[get_quietly(b"a", 1), get_quietly(b"b", 2), NOOP, NOOP]);
    assert_eq!(harness.feed(&input), Stop::Turn);
    assert_eq!(harness.rest, NOOP.bytes());
    harness.limits.requests = 1;
    let input = stream(&[get_quietly(b"a", 1), get_quietly(b"b", 2)]);
    assert_eq!(harness.feed(&input), Stop::Turn);
    assert_eq!(harness.rest, input);
}

#[test]
fn the_first_byte_says_what_the_connection_speaks_for_ever() {
    let mut harness = Harness::new();
    assert_eq!(harness.answer(b"version\r\n"), "VERSION 1.6.45\r\n");
    let answer = harness.answer(&[&NOOP.bytes()[..], b"\r\n"].concat());
    assert_eq!(answer, "CLIENT_ERROR bad command line format\r\nERROR\r\n");
    let mut harness = Harness::new();
    assert_eq!(harness.replies(&NOOP.bytes()).len(), 1);
    assert_eq!(harness.feed(b"version\r\n"), Stop::Input);
    assert_eq!(harness.feed(b"version\r\nversion\r\n"), Stop::BROKEN);
    assert!(harness.output.is_empty(), "the close says nothing");
}

#[test]
fn what_is_swallowed_is_not_kept() {
    let mut harness = Harness::new();
    let announced = header(0x01, (1, 8, 1 << 30));
    let replies = harness.replies(&[announced.as_slice(), &[0; 8], b"k", b"begin"].concat());
    assert_eq!(replies[0].body, b"Too large.");
    assert_eq!(harness.feed(&[b'x'; 10_000]), Stop::Input);
    assert_eq!(harness.session.buffered_bytes() + harness.rest.len(), 0);
}

#[test]
fn a_large_value_is_received_in_its_place_in_any_pieces() {
    let config = Config { memory_bytes: 1 << 20, item_bytes_max: 128 << 10, ..Config::tiny() };
    let mut harness = Harness::with(config);
    // Around what fills one and two segments of 4032 bytes.
    for bytes in (3_900..4_100).chain(7_950..8_100).chain([50_000]) {
        let value: Vec<u8> = (0..bytes).map(|place: usize| place.to_le_bytes()[0]).collect();
        let packet = set(b"key", &value).bytes();
        let pieces = packet.chunks(1_000 + bytes % 4_000);
        let statuses: Vec<_> =
            pieces.flat_map(|piece| harness.replies(piece)).map(|reply| reply.status).collect();
        assert_eq!(statuses, [0], "{bytes} bytes");
        let get = Packet { opcode: 0x00, key: b"key", ..Packet::default() };
        let reply = harness.replies(&get.bytes()).remove(0);
        assert!(reply.body[4..] == value, "{bytes} bytes");
        harness.shared.store.check();
    }
}

#[test]
fn values_that_arrive_together_stay_within_the_limit_of_buffers() {
    let mut harness = Harness::with(Config { connections_max: 1 << 20, ..Config::tiny() });
    let limit_bytes = (harness.shared.config.buffer_bytes_max / 4 * 3) as u64;
    let packet = set(b"a", &[b'v'; 10_000]).bytes();
    // What is there of the key and the extras when the value begins to arrive takes no more.
    let body_bytes = (packet.len() - HEADER_BYTES) as u64;
    for (room_bytes, status) in [(body_bytes - 10, 0x82), (body_bytes, 0)] {
        harness.replies(&set(b"a", b"old").bytes());
        harness.shared.workers[1].buffered_bytes.set(limit_bytes - room_bytes);
        let mut replies: Vec<_> =
            packet.chunks(6_000).flat_map(|piece| harness.replies(piece)).collect();
        replies.extend(harness.replies(&NOOP.bytes()));
        let statuses: Vec<_> = replies.iter().map(|reply| reply.status).collect();
        assert_eq!(statuses, [status, 0], "{room_bytes}");
    }
}

/// CVE-2011-4971 (a body of a negative length), CVE-2016-8704 (append), CVE-2016-8705 (set) and
/// CVE-2016-8706 (SASL): lengths that contradict each other, or whose sums overflow.
#[test]
fn no_length_does_harm() {
    let opcodes = 0..=0x40;
    let keys = [0, 1, 2, 249, 250, 251, 0x7fff, 0x8000, 0xffff];
    let extras = [0, 1, 4, 8, 20, 21, 0xff];
    let around = |length: u32| [length.wrapping_sub(1), length, length.wrapping_add(1)];
    let mut harness = Harness::new();
    for opcode in opcodes {
        for (key, extras) in keys.iter().flat_map(|&key| extras.map(|extras| (key, extras))) {
            let fields = u32::from(key) + u32::from(extras);
            let bodies =
                [around(0), around(fields), around(1 << 30), around(1 << 31), around(0xffff)];
            for body in bodies.into_iter().flatten() {
                let what = format!("opcode {opcode:#x}, key {key}, extras {extras}, body {body}");
                harness.reconnect();
                let input = [header(opcode, (key, extras, body)), vec![0; 1000]].concat();
                let stop = harness.feed(&input);
                let is_sound = fields <= body && body <= 1 << 30;
                assert!(is_sound || stop == Stop::BROKEN && harness.output.len() > 24, "{what}");
                // What follows a packet that is all there is none.
                let is_over = harness.output.is_empty() && stop == Stop::BROKEN;
                assert!(!is_over || body <= 1000, "{what}");
                assert!(harness.session.buffered_bytes() <= 4_000, "{what}");
            }
        }
    }
}

#[test]
fn an_item_ends_when_it_is_to() {
    let mut harness = Harness::new();
    let expiring = |exptime: u32| [[0; 4], exptime.to_be_bytes()].concat();
    for (exptime, lives) in [(1, true), (NOW, false), (NOW + 1, true), (u32::MAX, true)] {
        let extras = expiring(exptime);
        let set = Packet { extras: &extras, ..set(b"a", b"v") };
        let get = Packet { opcode: 0x00, key: b"a", ..Packet::default() };
        let replies = harness.replies(&stream(&[set, get]));
        assert_eq!(replies[1].status == 0, lives, "{exptime}");
    }
}

#[test]
fn what_is_switched_off_is_refused() {
    let config = Config { cas: false, flush_allowed: false, ..Config::tiny() };
    let mut harness = Harness::with(config);
    let flush = Packet { opcode: 0x08, ..Packet::default() };
    let compared = Packet { cas: 1, ..set(b"a", b"w") };
    let replies = harness.replies(&stream(&[set(b"a", b"v"), flush, compared]));
    let statuses: Vec<_> = replies.iter().map(|reply| reply.status).collect();
    assert_eq!(statuses, [0, 0x20, 2]);
}

fn locked() -> Harness {
    let method = Method::Sasl { realm: "here".to_owned() };
    let users = Authentication::of(method, b"alice:secret\n");
    let config = Config { authentication: Some(Arc::new(users)), ..Config::tiny() };
    let session = Session::new(&config, Dialects::Binary);
    Harness { session, ..Harness::with(config) }
}

fn entry<'p>(opcode: u8, mechanism: &'p [u8], message: &'p [u8]) -> Packet<'p> {
    Packet { opcode, key: mechanism, value: message, ..Packet::default() }
}

const RIGHT: &[u8] = b"\0alice\0secret";

#[test]
fn a_right_password_lets_in_at_once_or_in_a_further_step() {
    let in_two_steps = [entry(0x21, b"plain", b""), entry(0x22, b"PLAIN", RIGHT)];
    for attempt in [&[entry(0x21, b"PLAIN", RIGHT)][..], &in_two_steps] {
        let input = stream(&[attempt, &[NOOP]].concat());
        for size in [1, 7, input.len()] {
            let mut harness = locked();
            let replies: Vec<_> =
                input.chunks(size).flat_map(|piece| harness.replies(piece)).collect();
            let [.., entered, noop] = replies.as_slice() else { panic!("{replies:?}") };
            assert_eq!((entered.status, &entered.body[..]), (0, &b"Authenticated"[..]));
            assert_eq!(noop.status, 0);
            assert_eq!(replies.len(), attempt.len() + 1);
        }
    }
}

#[test]
fn who_guesses_too_often_is_not_listened_to_any_more() {
    let mut harness = locked();
    let wrong = entry(0x21, b"PLAIN", b"\0alice\0wrong");
    let replies = harness.replies(&stream(&[wrong; 20]));
    assert_eq!(replies.len(), 16);
    assert!(replies.iter().all(|reply| reply.status == 0x20) && harness.closed.is_some());
}

#[test]
fn whoever_tries_again_in_vain_is_out() {
    let mut harness = locked();
    let wrong = entry(0x21, b"PLAIN", b"\0alice\0wrong");
    let replies = harness.replies(&stream(&[entry(0x21, b"PLAIN", RIGHT), NOOP, wrong, NOOP]));
    let statuses: Vec<_> = replies.iter().map(|reply| reply.status).collect();
    assert_eq!(statuses, [0, 0, 0x20, 0x20]);
    assert_eq!(harness.closed, Some(CloseReason::Error));
}

/// CVE-2013-7239: after an attempt that failed, the next request was carried out. No sequence of
/// packets lets a client in that has not said a right password.
#[test]
fn cve_2013_7239_nothing_but_a_right_password_lets_in() {
    let attempts = [
        entry(0x20, b"", b""),
        entry(0x21, b"PLAIN", b""),
        entry(0x21, b"PLAIN", b"\0alice\0wrong"),
        entry(0x21, b"PLAIN", b"\0alice\0secre"),
        entry(0x21, b"PLAIN", b"\0alice\0secret\0"),
        entry(0x21, b"PLAIN", b"bob\0alice\0secret"),
        entry(0x21, b"CRAM-MD5", RIGHT),
        entry(0x21, &[b'm'; 33], RIGHT),
        entry(0x21, b"PLAIN", &[0; 20_000]),
        entry(0x22, b"PLAIN", b"\0\0"),
        Packet { opcode: 0x0b, ..Packet::default() },
    ];
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |limit: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(random >> 33).expect("31 bits") % limit
    };
    for _ in 0..500 {
        let mut harness = locked();
        for _ in 0..below(12) {
            harness.replies(&attempts[below(attempts.len())].bytes());
            assert!(harness.closed.is_none() && !harness.session.authenticated);
        }
        let replies = harness.replies(&stream(&[set(b"a", b"v"), NOOP]));
        let [refused] = replies.as_slice() else { panic!("{replies:?}") };
        assert_eq!((refused.status, &refused.body[..]), (0x20, &b"Auth failure."[..]));
        assert_eq!(harness.closed, Some(CloseReason::Error));
        assert_eq!(harness.shared.store.totals().items, 0);
    }
}

#[test]
fn figures_by_prefix_are_put_together_in_pieces_and_leave_the_rest_of_the_input() {
    let mut harness = Harness::new();
    let stat = |key| Packet { opcode: 0x10, key, ..Packet::default() };
    harness.replies(&stream(&[stat(b"detail on")]));
    for number in 0..5000 {
        let key = format!("a-prefix-of-some-length-{number}:key");
        harness.replies(&stream(&[get_quietly(key.as_bytes(), 0)]));
    }
    let mut stop = harness.feed(&stream(&[stat(b"detail dump"), NOOP, NOOP]));
    let mut pieces = 0;
    while stop == Stop::Turn {
        assert!(harness.output.is_empty(), "the length comes first");
        assert!(harness.session.buffered_bytes() > 0);
        stop = harness.feed(b"");
        pieces += 1;
    }
    assert!(pieces > 2, "{pieces}");
    let replies = harness.replies(b"");
    let [figure, end, noops @ ..] = &replies[..] else { panic!("{} replies", replies.len()) };
    let text = figure.body.strip_prefix(b"detailed").expect("the figure's name");
    assert_eq!(text.split(|&byte| byte == b'\n').count() - 1, 5000 + 1, "and the end");
    assert!(text.ends_with(b"\r\nEND\r\n"));
    assert_eq!((end.opcode, &end.body[..]), (0x10, &b""[..]));
    assert_eq!(noops.len(), 2);
    assert_eq!(harness.session.buffered_bytes(), 0);
}
