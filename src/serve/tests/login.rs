//! Clients that must say who they are.

use super::*;
use crate::auth::{Authentication, Method};
use std::sync::Arc;

fn locked() -> Harness {
    let users = Authentication::of(Method::Token, b"alice:secret\n");
    let config = Config { authentication: Some(Arc::new(users)), ..Config::tiny() };
    let session = Session::new(&config, Dialects::Text);
    Harness { session, ..Harness::with(config) }
}

#[test]
fn a_login_may_arrive_in_any_pieces() {
    let send =
        "set x 0 0 11\r\nalice wrong\r\nget abc\r\nset x 0 0 12\r\nalice secret\r\nget abc\r\n";
    let expect = "CLIENT_ERROR authentication failure\r\nCLIENT_ERROR unauthenticated\r\n\
                  STORED\r\nEND\r\n";
    for size in 1..=send.len() {
        let mut harness = locked();
        send.as_bytes().chunks(size).for_each(|piece| {
            harness.feed(piece);
        });
        assert_eq!(harness.answer(b""), expect, "in pieces of {size}");
    }
}

/// CVE-2013-7239 and memcached's later ways round a login: no sequence of requests, whole, broken
/// off or wrong, in whatever dialect, lets a client in that has not said a right password.
#[test]
fn cve_2013_7239_nothing_but_a_right_password_lets_in() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |limit: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(random >> 33).expect("31 bits") % limit
    };
    for _ in 0..2_000 {
        let mut harness = locked();
        let mut answer = String::new();
        for _ in 0..below(12) {
            answer += &harness.answer(HOSTILE[below(HOSTILE.len())]);
        }
        assert!(!harness.session.authenticated && !harness.session.awaits_command());
        assert_eq!(harness.shared.store.totals().items, 0);
        for line in answer.lines() {
            assert!(REFUSALS.contains(&line), "{line}");
        }
    }
}

#[test]
fn what_an_unknown_client_sends_is_kept_within_a_limit() {
    let mut harness = locked();
    harness.feed(b"set x 0 0 16384\r\n");
    let kept = |harness: &Harness| harness.session.buffered_bytes() + harness.rest.len();
    assert_eq!(kept(&harness), 0, "to announce costs nothing");
    for _ in 0..16_385 {
        assert_eq!(harness.feed(b"a"), Stop::Input);
        assert!(kept(&harness) <= 2 * 16_386);
    }
    assert_eq!(harness.answer(b"a"), "CLIENT_ERROR bad command line termination\r\n");
    assert_eq!(kept(&harness), 0);
    assert_eq!(harness.feed(&[b'x'; LINE_BYTES_MAX]), Stop::Input);
    assert_eq!(harness.feed(b"x"), Stop::BROKEN);
}

#[test]
fn who_guesses_too_often_is_not_listened_to_any_more() {
    let mut harness = locked();
    let guess = b"set x 0 0 11\r\nalice wrong\r\n";
    for _ in 1..16 {
        assert_eq!(harness.feed(guess), Stop::Input);
        assert_eq!(harness.answer(b"get a\r\n").lines().count(), 2, "other faults do not count");
    }
    assert_eq!(harness.feed(guess), Stop::BROKEN);
    assert_eq!(harness.output, b"CLIENT_ERROR authentication failure\r\n");
}

#[test]
fn logins_are_counted() {
    let mut harness = locked();
    harness.answer(
        b"get abc\r\nset x 0 0 1\r\na\r\nset x 0 0 1\r\n \r\nset x 0 0 12\r\nalice secret\r\n",
    );
    let stats = harness.answer(b"stats\r\n");
    assert!(stats.contains("STAT auth_cmds 2\r\nSTAT auth_errors 1\r\n"), "{stats}");
    assert!(!stats.contains("alice") && !stats.contains("secret"));
}

#[test]
fn what_is_logged_of_a_connection_shows_no_secret() {
    let mut harness = locked();
    harness.feed(b"set x 0 0 12\r\nalice sec");
    let shown = format!("{:?}", harness.session);
    assert!(!shown.contains("97, 108, 105") && !shown.contains("alice"), "{shown}");
}

/// Requests and pieces of them, but never the right password.
const HOSTILE: &[&[u8]] = &[
    b"set x 0 0 11\r\nalice wrong\r\n",
    b"set x 0 0 12\r\n",
    b"set x 0 0 12\r\nalice secreT\r\n",
    b"alice secre\r\n",
    b"set x 0 0 12\r\nalice se",
    b"set x 0 0 2\r\nhi\r\n",
    b"set x 0 0 16384\r\n",
    b"set x 0 0 4294967295\r\n",
    b"set x 0 0 0\r\n\r\n",
    b"ms abc 2\r\nhi\r\n",
    b"mg abc v\r\n",
    b"add abcd 0 0 2 noreply\r\nhi\r\n",
    b"get abc\r\n",
    b"get abc",
    b"gets ",
    b"\r\n",
    b"version\r\n",
    b"stats\r\n",
    b"shutdown\r\n",
    b"flush_all\r\n",
    b"\x80\x01\x00\x01\x08\x00\x00\x00\x00\x00\x00\x0b\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0ahi",
    b"\x80\x21\x00\x05\x00\x00\x00\x00\x00\x00\x00\x0e\0\0\0\0\0\0\0\0\0\0\0\0PLAIN\0alice\0no",
    b"\x80\x0b\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\0\0\0\0\0\0\0\0\0\0\0\0",
    b"STORED\r\n",
];

const REFUSALS: &[&str] = &[
    "CLIENT_ERROR unauthenticated",
    "CLIENT_ERROR authentication failure",
    "CLIENT_ERROR auth token too long",
    "CLIENT_ERROR bad authentication token format",
    "CLIENT_ERROR bad command line termination",
];
