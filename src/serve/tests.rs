//! Requests in any pieces, their replies, and what is kept in between.

use super::*;
use crate::command::Observer;
use crate::config::{Config, Dialects};
use crate::protocol::text::LINE_BYTES_MAX;
use crate::shared::Shared;
use crate::store::Handle;

mod binary;
mod large;
mod login;

/// A server without sockets, and one connection to it.
struct Harness {
    shared: Shared,
    handle: Handle,
    session: Session,
    /// What could not be served yet.
    rest: Vec<u8>,
    scanned: usize,
    output: Vec<u8>,
    limits: Limits,
    now: u32,
    closed: Option<CloseReason>,
}

impl Harness {
    fn new() -> Self {
        Self::with(Config::tiny())
    }

    fn with(config: Config) -> Self {
        let shared = Shared::new(config, Vec::new()).expect("the store needs little");
        let handle = shared.store.register();
        let limits = Limits { requests: usize::MAX, output_bytes: usize::MAX };
        let session = Session::new(&shared.config, Dialects::Any);
        let (rest, output) = Default::default();
        let now = NOW;
        Self { shared, handle, session, rest, scanned: 0, output, limits, now, closed: None }
    }

    /// Lets a client begin anew. Returns what there was of the one before.
    fn reconnect(&mut self) -> Session {
        (self.rest, self.output, self.closed) = Default::default();
        let session = Session::new(&self.shared.config, self.session.dialects());
        std::mem::replace(&mut self.session, session)
    }

    fn feed(&mut self, input: &[u8]) -> Stop {
        if let Some(reason) = self.closed {
            return Stop::Close(reason);
        }
        self.rest.extend_from_slice(input);
        let mut context = Context {
            shared: &self.shared,
            counters: &self.shared.workers[0].counters,
            batch: self.handle.batch(self.now),
            observer: Observer::new(&self.shared),
        };
        let mut limits = self.limits;
        // What nobody has taken waits to be sent.
        limits.output_bytes = limits.output_bytes.saturating_sub(self.output.len());
        let mut output = Output::new(&self.shared.config);
        let served = serve(
            &mut context,
            &mut self.session,
            &self.rest,
            self.scanned,
            &mut output,
            &mut limits,
        );
        self.output.append(&mut output.take_bytes());
        self.rest.drain(..served.consumed);
        self.scanned = served.scanned;
        if let Stop::Close(reason) = served.stop {
            self.closed = Some(reason);
        }
        served.stop
    }

    fn answer(&mut self, input: &[u8]) -> String {
        self.feed(input);
        String::from_utf8(std::mem::take(&mut self.output)).expect("the replies are text")
    }
}

#[test]
fn a_request_may_arrive_in_any_pieces() {
    for (send, expect) in CASES {
        assert_eq!(Harness::new().answer(send.as_bytes()), *expect, "{send:?} whole");
        for size in 1..8 {
            let mut harness = Harness::new();
            send.as_bytes().chunks(size).for_each(|piece| {
                harness.feed(piece);
            });
            assert_eq!(harness.answer(b""), *expect, "{send:?} in pieces of {size}");
        }
    }
}

#[test]
fn a_turn_ends_when_its_requests_are_used_up() {
    let mut harness = Harness::new();
    harness.limits.requests = 2;
    assert_eq!(harness.feed(b"version\r\nversion\r\nversion\r\n"), Stop::Turn);
    assert_eq!(harness.rest, b"version\r\n");
    assert_eq!(harness.feed(b""), Stop::Input);
    assert_eq!(harness.feed(b"version\r\nversion\r\n"), Stop::Input, "nobody has to wait");
}

#[test]
fn a_retrieval_is_interrupted_by_its_output_and_goes_on() {
    let mut harness = Harness::new();
    harness.answer(b"set a 0 0 3\r\nabc\r\n");
    let line = format!("get{}\r\nversion\r\n", " a".repeat(100));
    let expect = harness.answer(line.as_bytes());
    harness.limits.output_bytes = 30;
    let mut stop = harness.feed(line.as_bytes());
    let mut answer = String::new();
    while stop == Stop::Output {
        assert!(harness.output.len() < 30 + 24, "{} bytes", harness.output.len());
        answer += &harness.answer(b"");
        stop = if harness.rest.is_empty() { Stop::Input } else { Stop::Output };
    }
    assert_eq!(answer, expect);
}

#[test]
fn a_list_of_everything_comes_in_pieces_and_leaves_the_rest_of_the_input() {
    let mut harness = Harness::new();
    for number in 0..1000 {
        harness.answer(format!("set item{number} 0 0 1\r\nx\r\n").as_bytes());
    }
    harness.limits.output_bytes = 2000;
    let mut stop = harness.feed(b"lru_crawler mgdump all\r\nversion\r\nversion\r\n");
    let mut answer = String::new();
    let mut pieces = 0;
    while stop != Stop::Input {
        assert!(harness.output.len() < 2000 + 5000, "a shard more, {}", harness.output.len());
        answer += &String::from_utf8(std::mem::take(&mut harness.output)).expect("text");
        stop = harness.feed(b"");
        pieces += 1;
    }
    answer += &harness.answer(b"");
    assert!(pieces > 3, "{pieces}");
    assert_eq!(answer.matches("mg item").count(), 1000);
    assert!(answer.starts_with("OK\r\nmg "), "{answer}");
    assert!(answer.ends_with("\r\nEN\r\nVERSION 1.6.45\r\nVERSION 1.6.45\r\n"), "{answer}");
}

#[test]
fn who_watches_says_nothing_more_and_is_told() {
    let mut harness = Harness::new();
    assert_eq!(harness.answer(b"watch mutations\r\nversion\r\n"), "OK\r\n");
    assert_eq!(harness.rest.len(), 0, "what a watcher says is not kept");
    let watching = harness.reconnect();
    harness.answer(b"set a 0 0 1\r\nx\r\n");
    harness.session = watching;
    let told = harness.answer(b"get a\r\n");
    let expect = " type=item_store key=a status=stored cmd=set ttl=0 clsid=1 cfd=-1 size=1\n";
    assert!(told.ends_with(expect), "{told}");
    harness.reconnect();
    assert_eq!(harness.answer(b"get a\r\n"), "VALUE a 0 1\r\nx\r\nEND\r\n");
}

#[test]
fn a_retrieval_without_end_is_served_as_it_comes() {
    let mut harness = Harness::new();
    harness.answer(b"set a 0 0 1\r\nx\r\n");
    harness.feed(b"get ");
    for _ in 0..1000 {
        assert_eq!(harness.feed(b"a missing "), Stop::Input);
        assert!(harness.rest.len() <= LINE_BYTES_MAX);
    }
    let answer = harness.answer(b"a\r\nversion\r\n");
    assert_eq!(answer.matches("VALUE a 0 1\r\nx\r\n").count(), 1001);
    assert!(answer.ends_with("END\r\nVERSION 1.6.45\r\n"));
}

#[test]
fn a_key_that_is_too_long_takes_the_items_before_it_along() {
    let key = "k".repeat(251);
    for keys in [format!("a {key} a"), format!("{} {key} a", "a ".repeat(2000))] {
        let mut harness = Harness::new();
        harness.answer(b"set a 0 0 1\r\nx\r\n");
        let answer = harness.answer(format!("get {keys}\r\nversion\r\n").as_bytes());
        assert_eq!(answer, "CLIENT_ERROR bad command line format\r\nVERSION 1.6.45\r\n");
    }
    let mut harness = Harness::new();
    let endless = format!("get {}{}", "missing ".repeat(300), "k".repeat(10_000));
    assert_eq!(harness.feed(endless.as_bytes()), Stop::Input);
    assert_eq!(harness.rest.len(), 0, "nothing of it is kept");
    assert_eq!(harness.answer(b"\r\n"), "CLIENT_ERROR bad command line format\r\n");
}

#[test]
fn only_retrievals_may_be_long() {
    let long = "x".repeat(LINE_BYTES_MAX);
    assert_eq!(Harness::new().feed(long.as_bytes()), Stop::Input);
    assert_eq!(Harness::new().feed(format!("{long}x").as_bytes()), Stop::BROKEN);
    assert_eq!(Harness::new().feed(format!("gat 0 {long}").as_bytes()), Stop::BROKEN);
    let keys = "a ".repeat(LINE_BYTES_MAX);
    let indented = |blanks| format!("{}get {keys}", " ".repeat(blanks));
    assert_eq!(Harness::new().feed(indented(101).as_bytes()), Stop::BROKEN);
    let line = format!("{}\r\n", indented(100));
    let mut harness = Harness::new();
    harness.feed(indented(100).as_bytes());
    assert_eq!(harness.answer(b"\r\nversion\r\n"), "ERROR\r\nVERSION 1.6.45\r\n");
    assert_eq!(Harness::new().answer(line.as_bytes()), "ERROR\r\n");
}

#[test]
fn what_is_swallowed_is_not_kept() {
    let mut harness = Harness::new();
    let answer = harness.answer(b"set a 0 0 2147483645\r\nbegin");
    assert_eq!(answer, "SERVER_ERROR object too large for cache\r\n");
    harness.answer(&[b'x'; 10_000]);
    assert_eq!(harness.session.buffered_bytes() + harness.rest.len(), 0);
}

#[test]
fn values_that_arrive_together_stay_within_the_limit_of_buffers() {
    let mut harness = Harness::with(Config { connections_max: 1 << 20, ..Config::tiny() });
    harness.answer(b"set a 0 0 1\r\nx\r\n");
    let buffers = |harness: &Harness, bytes| harness.shared.workers[1].buffered_bytes.set(bytes);
    let limit_bytes = (harness.shared.config.buffer_bytes_max / 4 * 3) as u64;
    let total_bytes = 1 + 10_000 + 2;
    for (room_bytes, answer) in [
        (total_bytes - 2, "SERVER_ERROR out of memory storing object\r\nEND\r\n"),
        (total_bytes - 1, "STORED\r\n"),
    ] {
        buffers(&harness, limit_bytes - room_bytes);
        harness.feed(b"set a 0 0 10000\r\n");
        harness.feed(&[b'v'; 6_000]);
        harness.feed(&[b'v'; 4_000]);
        assert!(harness.answer(b"\r\nget a\r\n").starts_with(answer), "{room_bytes}");
    }
}

#[test]
fn however_much_is_buffered_everybody_has_a_share() {
    let mut harness = Harness::new();
    let share_bytes = harness.shared.config.buffer_bytes_max / 4 / 64;
    harness.shared.workers[1].buffered_bytes.set(u64::MAX);
    for (value_bytes, answer) in [
        (share_bytes - 100, "STORED\r\n"),
        (share_bytes, "SERVER_ERROR out of memory storing object\r\n"),
    ] {
        // What is joined to another value is not received in its place.
        harness.feed(format!("set a 0 0 0\r\n\r\nappend a 0 0 {value_bytes}\r\n").as_bytes());
        for piece in vec![b'v'; value_bytes].chunks(1000) {
            harness.feed(piece);
        }
        assert_eq!(harness.answer(b"\r\n"), format!("STORED\r\n{answer}"), "{value_bytes}");
    }
}

#[test]
fn a_set_that_is_too_large_removes_and_others_do_not() {
    for (command, left) in [("set", ""), ("add", "VALUE a 0 1\r\nx\r\n")] {
        let mut harness = Harness::new();
        harness.answer(b"set a 0 0 1\r\nx\r\n");
        // 48 of header, 8 of cas, the key with its end, and the end of the value: 60 over the
        // value.
        let limit = harness.shared.config.item_bytes_max - 60;
        let value = "x".repeat(limit + 1);
        let request = format!("{command} a 0 0 {}\r\n{value}\r\n", value.len());
        let answer = harness.answer(request.as_bytes());
        assert_eq!(answer, "SERVER_ERROR object too large for cache\r\n");
        assert_eq!(harness.answer(b"get a\r\n"), format!("{left}END\r\n"));
        let request = format!("set a 0 0 {limit}\r\n{}\r\n", &value[1..]);
        assert_eq!(harness.answer(request.as_bytes()), "STORED\r\n");
    }
}

#[test]
fn what_is_switched_off_is_refused() {
    let mut harness = Harness::with(Config {
        cas: false,
        flush_allowed: false,
        shutdown_allowed: false,
        ..Config::tiny()
    });
    let answer = harness.answer(b"set a 0 0 1\r\nx\r\ngets a\r\ncas a 0 0 1 0\r\ny\r\n");
    assert_eq!(answer, "STORED\r\nVALUE a 0 1 0\r\nx\r\nEND\r\nEXISTS\r\n");
    assert_eq!(harness.answer(b"flush_all\r\n"), "CLIENT_ERROR flush_all not allowed\r\n");
    assert_eq!(harness.answer(b"flush_all noreply\r\nget a\r\n"), "VALUE a 0 1\r\nx\r\nEND\r\n");
    assert_eq!(harness.answer(b"shutdown\r\n"), "SERVER_ERROR: shutdown not enabled\r\n");
}

#[test]
fn figures_count_what_memcached_counts() {
    let mut harness = Harness::new();
    harness.answer(b"set a 0 0 1\r\n1\r\nget a b a\r\ngat 0 a b\r\ntouch a 0\r\nincr a 1\r\n");
    harness.answer(b"set e 0 -1 1\r\nx\r\nget e\r\ncas a 0 0 1 0\r\nx\r\ndelete b\r\n");
    let answer = harness.answer(b"stats\r\n");
    for figure in [
        "cmd_get 4",
        "get_hits 2",
        "get_misses 2",
        "get_expired 1",
        "cmd_touch 3",
        "touch_hits 2",
        "touch_misses 1",
        "cmd_set 3",
        "incr_hits 1",
        "cas_badval 1",
        "delete_misses 1",
    ] {
        assert!(answer.contains(&format!("STAT {figure}\r\n")), "{figure} in {answer}");
    }
    assert_eq!(answer.matches("STAT ").count(), 93);
    harness.answer(b"stats reset\r\n");
    assert!(harness.answer(b"stats\r\n").contains("STAT get_hits 0\r\n"));
    assert_eq!(harness.answer(b"stats set\r\n").matches("STAT ").count(), 79);
    for topic in ["items", "slabs", "sizes", "conns", "larder"] {
        assert!(harness.answer(format!("stats {topic}\r\n").as_bytes()).ends_with("END\r\n"));
    }
}

#[test]
fn meta_flags_tell_what_was_before() {
    let mut harness = Harness::new();
    assert_eq!(harness.answer(b"ms a 1 T100\r\nx\r\n"), "HD\r\n");
    harness.now += 7;
    assert_eq!(harness.answer(b"mg a u h l t\r\n"), "HD h0 l7 t93\r\n");
    harness.now += 1;
    assert_eq!(harness.answer(b"mg a h l t T50\r\n"), "HD h0 l8 t92\r\n");
    harness.now += 2;
    let pipeline = b"mg a h l t v\r\nmg a h l t\r\n";
    assert_eq!(harness.answer(pipeline), "VA 1 h1 l2 t48\r\nx\r\nHD h1 l0 t48\r\n");
    harness.now += 3;
    let inspected = harness.answer(b"me a\r\n");
    assert!(inspected.starts_with("ME a exp=45 la=3 cas=1 fetch=yes cls=1"), "{inspected}");
    assert_eq!(harness.answer(b"md a I\r\nmg a l t u\r\n"), "HD\r\nHD l3 t45 X W\r\n");
    harness.now += 45;
    assert_eq!(harness.answer(b"mg a v\r\n"), "EN\r\n");
}

#[test]
fn the_window_to_recache_opens_before_the_end() {
    let mut harness = Harness::new();
    harness.answer(b"ms a 1 T100\r\nx\r\n");
    harness.now += 70;
    assert_eq!(harness.answer(b"mg a R30 t\r\n"), "HD t30\r\n");
    harness.now += 1;
    assert_eq!(harness.answer(b"mg a R30 t\r\nmg a R30\r\n"), "HD t29 W\r\nHD Z\r\n");
    assert_eq!(harness.answer(b"ms a 1 T100\r\ny\r\nmg a R30\r\n"), "HD\r\nHD\r\n");
    assert_eq!(harness.answer(b"mg b N10\r\n"), "HD W\r\n");
    harness.now += 10;
    assert_eq!(harness.answer(b"mg b N10\r\n"), "HD W\r\n", "its time was over");
}

#[test]
fn without_cas_all_of_them_are_nought() {
    let mut harness = Harness::with(Config { cas: false, ..Config::tiny() });
    assert_eq!(harness.answer(b"ms a 1 c E5\r\n1\r\nmg a c\r\n"), "HD c0\r\nHD c0\r\n");
    assert_eq!(harness.answer(b"ms a 1 C5\r\n2\r\nms a 1 C0\r\n2\r\n"), "EX\r\nEX\r\n");
    assert_eq!(harness.answer(b"ma a C5 v\r\nma a c v\r\n"), "EX\r\nVA 1 c0\r\n2\r\n");
    assert_eq!(harness.answer(b"md a C5\r\nmd a C0\r\n"), "EX\r\nHD\r\n");
}

#[test]
fn a_pipeline_of_fetches_ends_where_its_turn_or_its_output_does() {
    let mut harness = Harness::new();
    harness.answer(b"ms a 3\r\nabc\r\n");
    let pipeline = "mg a v\r\n".repeat(20);
    harness.limits.requests = 3;
    assert_eq!(harness.feed(pipeline.as_bytes()), Stop::Turn);
    assert_eq!(harness.rest.len(), 17 * 8);
    harness.limits = Limits { requests: usize::MAX, output_bytes: 20 };
    harness.output.clear();
    assert_eq!(harness.feed(b""), Stop::Output);
    assert_eq!(harness.answer(b""), "VA 3\r\nabc\r\n".repeat(2));
    assert_eq!(harness.rest.len(), 15 * 8);
}

#[test]
fn figures_count_meta_commands_as_memcached_does() {
    let mut harness = Harness::new();
    harness.answer(b"ms a 1\r\n1\r\nmg a v\r\nmg a k T0\r\nmg b T0\r\nmg b\r\nmg c N0\r\n");
    harness.answer(b"ma a\r\nma b\r\nma d N0\r\nma a MD\r\nma b MD\r\nma a C99\r\n");
    harness.answer(b"md b\r\nmd a C99\r\nmd a I\r\nmd a x\r\nmd a\r\nme a\r\nme c\r\n");
    harness.answer(b"ms a 1 C5\r\n1\r\nms c 1 C99\r\n1\r\nms c 1 C99 I\r\n1\r\n");
    let answer = harness.answer(b"stats\r\n");
    for figure in [
        "cmd_get 4",
        "get_hits 2",
        "get_misses 2",
        "cmd_touch 1",
        "touch_hits 1",
        "cmd_set 4",
        "cmd_meta 2",
        "incr_hits 1",
        "incr_misses 1",
        "decr_hits 1",
        "decr_misses 1",
        "delete_hits 2",
        "delete_misses 2",
        "cas_misses 1",
        "cas_badval 2",
    ] {
        assert!(answer.contains(&format!("STAT {figure}\r\n")), "{figure} in {answer}");
    }
}

const NOW: u32 = 1_800_000_000;

const CASES: &[(&str, &str)] = &[
    (
        "set a 7 0 3\r\nabc\r\nget a b a\r\n",
        "STORED\r\nVALUE a 7 3\r\nabc\r\nVALUE a 7 3\r\nabc\r\nEND\r\n",
    ),
    ("set a 0 0 0\r\n\r\nget  a \n", "STORED\r\nVALUE a 0 0\r\n\r\nEND\r\n"),
    (
        "set a 0 0 1\r\nabc\r\nversion\r\n",
        "CLIENT_ERROR bad data chunk\r\nCLIENT_ERROR bad command line format\r\nVERSION 1.6.45\r\n",
    ),
    ("set a 0 0 x\r\nabcd\r\n", "CLIENT_ERROR bad command line format\r\nERROR\r\n"),
    ("set a x 0 4\r\nabcd\r\n", "CLIENT_ERROR bad command line format\r\n"),
    ("set a 0 0 1 noreply\r\nx\r\nbogus noreply\r\ndelete a noreply\r\nget a\r\n", "END\r\n"),
    (
        "add a 0 0 1\r\nx\r\nadd a 0 0 1\r\ny\r\nreplace b 0 0 1\r\nz\r\n",
        "STORED\r\nNOT_STORED\r\nNOT_STORED\r\n",
    ),
    (
        "append a 0 0 1\r\nx\r\nset a 5 0 1\r\nb\r\nappend a 0 0 1\r\nc\r\nprepend a 0 0 1\r\na\r\nget a\r\n",
        "NOT_STORED\r\nSTORED\r\nSTORED\r\nSTORED\r\nVALUE a 5 3\r\nabc\r\nEND\r\n",
    ),
    (
        "cas a 0 0 1 1\r\nx\r\nset a 0 0 1\r\nx\r\ncas a 0 0 1 0\r\ny\r\ngets a\r\ncas a 0 0 1 1\r\ny\r\n",
        "NOT_FOUND\r\nSTORED\r\nEXISTS\r\nVALUE a 0 1 1\r\nx\r\nEND\r\nSTORED\r\n",
    ),
    (
        "set a 3 0 2\r\n10\r\ndecr a 1\r\nget a\r\nincr a 91\r\ndecr a 1000\r\n",
        "STORED\r\n9\r\nVALUE a 3 2\r\n9 \r\nEND\r\n100\r\n0\r\n",
    ),
    (
        "set a 0 0 20\r\n18446744073709551615\r\nincr a 2\r\nincr b 1\r\nincr a -1\r\n",
        "STORED\r\n1\r\nNOT_FOUND\r\nCLIENT_ERROR invalid numeric delta argument\r\n",
    ),
    (
        "set a 0 0 2\r\n-1\r\nincr a 1\r\n",
        "STORED\r\nCLIENT_ERROR cannot increment or decrement non-numeric value\r\n",
    ),
    (
        "set a 0 -1 1\r\nx\r\nget a\r\nset a 0 1800000000 1\r\nx\r\nget a\r\nset a 0 1 1\r\nx\r\nget a\r\n",
        "STORED\r\nEND\r\nSTORED\r\nEND\r\nSTORED\r\nVALUE a 0 1\r\nx\r\nEND\r\n",
    ),
    (
        "set a 0 0 1\r\nx\r\ngat 0 a b\r\ntouch a 5\r\ntouch b 5\r\ntouch a x\r\ntouch a -1\r\nget a\r\n",
        "STORED\r\nVALUE a 0 1\r\nx\r\nEND\r\nTOUCHED\r\nNOT_FOUND\r\nCLIENT_ERROR invalid exptime argument\r\nTOUCHED\r\nEND\r\n",
    ),
    (
        "set a 0 0 1\r\nx\r\nflush_all\r\nget a\r\nflush_all x\r\nflush_all noreply\r\n",
        "STORED\r\nOK\r\nEND\r\nCLIENT_ERROR invalid exptime argument\r\n",
    ),
    (
        "get\r\n\r\n get a\r\nGET a\r\ngat 0\r\ndelete\r\n",
        "CLIENT_ERROR bad command line format\r\nCLIENT_ERROR bad command line format\r\nERROR\r\nERROR\r\nCLIENT_ERROR bad command line format\r\nCLIENT_ERROR bad command line format\r\n",
    ),
    (
        "ms a 2 k O1 c E7\r\nhi\r\nmg a v k\r\nmg a v\r\nmg a v q\r\nmg b q\r\nmn\r\nget a\r\n",
        "HD ka O1 c7\r\nVA 2 ka\r\nhi\r\nVA 2\r\nhi\r\nVA 2\r\nhi\r\nMN\r\nVALUE a 0 2\r\nhi\r\nEND\r\n",
    ),
    (
        "ms Zm9v 2 b k s q\r\nhi\r\nms Zm9v 2 b ME k s\r\nho\r\nmg foo v\r\nms a 1\r\nabc\r\nmn\r\n",
        "NS kZm9v b s2\r\nVA 2\r\nhi\r\nCLIENT_ERROR bad data chunk\r\nCLIENT_ERROR bad command line format\r\nMN\r\n",
    ),
    (
        "ms a 4 Z\r\nabcd\r\nms a x\r\nabcd\r\n",
        "CLIENT_ERROR invalid flag\r\nCLIENT_ERROR bad command line format\r\nERROR\r\n",
    ),
    ("version\r\nquit\r\nversion\r\n", "VERSION 1.6.45\r\n"),
    ("version\r\nnothing here HTTP/1.1\r\nversion\r\n", "VERSION 1.6.45\r\n"),
    (
        "verbosity 1\r\nverbosity\r\nshutdown never\r\nstats r\r\nstats reset\r\n",
        "OK\r\nCLIENT_ERROR bad command line format\r\nCLIENT_ERROR invalid shutdown mode\r\nERROR\r\nRESET\r\n",
    ),
];
