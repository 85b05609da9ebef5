//! The figures that `stats` shows, under the names that memcached's tools look for.
//!
//! Tools count on every name being there. What has no counterpart in this engine, such as slabs and
//! their movements, is shown as 0.

mod classes;
mod settings;

use super::stream::{Purpose, Sizes, Stream, Walk};
use super::{CLASS, CLASSES, Context};
use crate::protocol::number::strict_u32;
use crate::protocol::text::Tokens;
use crate::protocol::{COMPATIBLE_VERSION, Encode, Fault, Outcome};
use crate::shared::{Baseline, Shared, WorkerFigures};
use crate::stats::{Count, Sums};
use crate::store::Totals;
use crate::stream::Endpoint;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use std::sync::atomic::Ordering;

/// Writes the figures of a topic, or what became of the request. What is too long for one turn
/// comes as a stream.
pub(super) fn report(
    context: &Context<'_>,
    topic: &[u8],
    arguments: &[u8],
    encoder: &mut impl Encode,
) -> Option<Stream> {
    match reported(context, topic, arguments, encoder) {
        Ok(Report::Figures) => encoder.end(),
        Ok(Report::Done(outcome)) => encoder.outcome(outcome),
        Ok(Report::Stream(stream)) => return Some(stream),
        Err(fault) => encoder.fault(fault),
    }
    None
}

/// How a report ends.
enum Report {
    /// It is a list, which has an end.
    Figures,
    /// Something was done.
    Done(Outcome),
    /// It has not begun yet.
    Stream(Stream),
}

/// Topics can be abbreviated, as far as memcached allows it, and the first that fits is meant.
/// Resetting destroys, so it takes the whole word here.
fn reported(
    context: &Context<'_>,
    topic: &[u8],
    arguments: &[u8],
    encoder: &mut impl Encode,
) -> Result<Report, Fault> {
    let shared = context.shared;
    match topic {
        b"" => general(context, encoder),
        b"items" => classes::items(context, encoder),
        b"slabs" => classes::slabs(context, encoder),
        b"sizes" if shared.config.track_sizes => {
            return Ok(Report::Stream(Stream::Sizes(Sizes::default())));
        }
        b"sizes" => encoder.stat("sizes_status", "disabled"),
        b"larder" => own(context, encoder),
        b"reset" => {
            shared.reset();
            return Ok(Report::Done(Outcome::Reset));
        }
        _ if b"detail".starts_with(topic) => return detail(context, arguments),
        _ if b"settings".starts_with(topic) => settings::settings(shared, encoder),
        _ if b"cachedump".starts_with(topic) => return dump(context, arguments),
        _ if b"conns".starts_with(topic) => connections(context, encoder),
        // What is not there has no figures.
        _ if ABSENT.iter().any(|absent| absent.starts_with(topic)) => {}
        _ => return Err(Fault::UnknownCommand),
    }
    Ok(Report::Figures)
}

/// `detail on|off|dump`
fn detail(context: &Context<'_>, arguments: &[u8]) -> Result<Report, Fault> {
    if !context.shared.config.dump_allowed {
        return Err(Fault::DetailNotAllowed);
    }
    let word = Tokens::new(arguments).next().ok_or(Fault::DetailUsage)?;
    let prefixes = &context.shared.prefixes;
    if b"on".starts_with(word) {
        prefixes.enable(true);
    } else if b"off".starts_with(word) {
        prefixes.enable(false);
    } else if b"dump".starts_with(word) {
        return Ok(Report::Stream(Stream::Prefixes(0)));
    } else {
        return Err(Fault::DetailUsage);
    }
    Ok(Report::Done(Outcome::Ok))
}

fn general(context: &Context<'_>, encoder: &mut impl Encode) {
    // In this order nothing is less than it was when counting started over.
    let baseline = context.shared.baseline();
    let counted = context.shared.counted();
    process(context, encoder);
    traffic(context, &counted, &baseline, encoder);
    let sums = counted.sums.since(&baseline.sums);
    let hits = sums.get(Count::GetHits) + sums.get(Count::GetMisses);
    let touches = sums.get(Count::TouchHits) + sums.get(Count::TouchMisses);
    encoder.stat("cmd_get", hits);
    encoder.stat("cmd_set", sums.get(Count::CmdSet));
    encoder.stat("cmd_flush", sums.get(Count::CmdFlush));
    encoder.stat("cmd_touch", touches);
    encoder.stat("cmd_meta", sums.get(Count::CmdMeta));
    for (name, count) in COMMAND_COUNTS {
        encoder.stat(name, sums.get(*count));
    }
    encoder.stat("auth_cmds", sums.get(Count::AuthCmds));
    encoder.stat("auth_errors", sums.get(Count::AuthErrors));
    if context.shared.config.idle_timeout_seconds > 0 {
        encoder.stat("idle_kicks", sums.get(Count::IdleKicks));
    }
    encoder.stat("bytes_read", sums.get(Count::BytesRead));
    encoder.stat("bytes_written", sums.get(Count::BytesWritten));
    threads(context, &counted, &baseline, encoder);
    encoder.stat("conn_yields", sums.get(Count::ConnYields));
    engine(context.shared, &counted, &baseline, encoder);
}

fn process(context: &Context<'_>, encoder: &mut impl Encode) {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok();
    let seconds = |time: Option<TimeVal>| {
        time.map_or_else(
            || "0.000000".to_owned(),
            |time| format!("{}.{:06}", time.tv_sec(), time.tv_usec()),
        )
    };
    encoder.stat("pid", std::process::id());
    encoder.stat("uptime", context.shared.clock.uptime().as_secs());
    encoder.stat("time", context.batch.now());
    encoder.stat("version", COMPATIBLE_VERSION);
    encoder.stat("libevent", 0);
    encoder.stat("pointer_size", usize::BITS);
    encoder.stat("rusage_user", seconds(usage.map(|usage| usage.user_time())));
    encoder.stat("rusage_system", seconds(usage.map(|usage| usage.system_time())));
}

fn traffic(
    context: &Context<'_>,
    counted: &Baseline,
    baseline: &Baseline,
    encoder: &mut impl Encode,
) {
    let config = &context.shared.config;
    let connections = context.shared.connections();
    let buffers_bytes = config.threads.saturating_mul(config.input_buffer_bytes);
    encoder.stat("max_connections", config.connections_max);
    encoder.stat("curr_connections", connections);
    encoder.stat("total_connections", counted.accepted.wrapping_sub(baseline.accepted));
    if config.refuse_over_limit {
        encoder.stat("rejected_connections", counted.rejected.wrapping_sub(baseline.rejected));
    }
    encoder.stat("connection_structures", connections);
    zeros(&["response_obj_oom", "response_obj_count", "response_obj_bytes"], encoder);
    encoder.stat("read_buf_count", config.threads);
    encoder.stat("read_buf_bytes", buffers_bytes);
    encoder.stat("read_buf_bytes_free", buffers_bytes);
    zeros(&["read_buf_oom", "reserved_fds"], encoder);
}

fn threads(
    context: &Context<'_>,
    counted: &Baseline,
    baseline: &Baseline,
    encoder: &mut impl Encode,
) {
    let acceptor = &context.shared.acceptor;
    let accepting = u8::from(!acceptor.paused.load(Ordering::Relaxed));
    encoder.stat("limit_maxbytes", context.shared.store.memory_bytes());
    encoder.stat("accepting_conns", accepting);
    encoder.stat("listen_disabled_num", counted.pauses.wrapping_sub(baseline.pauses));
    let pause_micros = counted.pause_micros.wrapping_sub(baseline.pause_micros);
    encoder.stat("time_in_listen_disabled_us", pause_micros);
    encoder.stat("threads", context.shared.config.threads);
}

fn engine(shared: &Shared, counted: &Baseline, baseline: &Baseline, encoder: &mut impl Encode) {
    let totals = &counted.totals;
    encoder.stat("hash_power_level", totals.index_power);
    encoder.stat("hash_bytes", totals.index_bytes);
    zeros(&["hash_is_expanding"], encoder);
    if !shared.tuning.is_off("slab_reassign") {
        zeros(REASSIGN_NAMES, encoder);
        encoder.stat("slab_reassign_last_busy_status", "none");
        zeros(&["slab_reassign_running", "slabs_moved"], encoder);
    }
    maintenance(shared, counted, baseline, encoder);
    encoder.stat("bytes", totals.items_bytes);
    encoder.stat("curr_items", totals.items);
    let stored = totals.stored.wrapping_sub(baseline.totals.stored);
    let in_place = counted.sums.since(&baseline.sums).get(Count::ChangedInPlace);
    encoder.stat("total_items", stored.saturating_sub(in_place));
    zeros(&["slab_global_page_pool"], encoder);
    let maintained = is_maintained(shared);
    for (name, count) in losses(totals, &baseline.totals) {
        if maintained || !MAINTAINED_NAMES.contains(&name) {
            encoder.stat(name, count);
        }
    }
    let (crawls, earlier) = (&counted.crawls, &baseline.crawls);
    let swept = totals.swept.wrapping_sub(baseline.totals.swept);
    let crawled = crawls.reclaimed.wrapping_sub(earlier.reclaimed);
    encoder.stat("crawler_reclaimed", swept + crawled);
    encoder.stat("crawler_items_checked", crawls.checked.wrapping_sub(earlier.checked));
    zeros(&["lrutail_reflocked"], encoder);
    if maintained {
        zeros(LRU_NAMES, encoder);
    }
}

/// Whether memcached would have a thread for its lists, and figures of it.
fn is_maintained(shared: &Shared) -> bool {
    !shared.tuning.is_off("lru_maintainer_thread")
}

fn maintenance(
    shared: &Shared,
    counted: &Baseline,
    baseline: &Baseline,
    encoder: &mut impl Encode,
) {
    let starts = counted.crawls.starts.wrapping_sub(baseline.crawls.starts);
    let (lines, earlier) = (&counted.lines, &baseline.lines);
    if shared.crawler.enabled() {
        encoder.stat("lru_crawler_running", u8::from(shared.crawler.running()));
        encoder.stat("lru_crawler_starts", starts);
    }
    if is_maintained(shared) {
        zeros(&["lru_maintainer_juggles"], encoder);
    }
    zeros(&["malloc_fails", "log_worker_dropped"], encoder);
    encoder.stat("log_worker_written", lines.written.wrapping_sub(earlier.written));
    encoder.stat("log_watcher_skipped", lines.skipped.wrapping_sub(earlier.skipped));
    encoder.stat("log_watcher_sent", lines.sent.wrapping_sub(earlier.sent));
    encoder.stat("log_watchers", shared.watchers.figures().1);
    zeros(&["unexpected_napi_ids", "round_robin_fallback"], encoder);
}

/// Names and counts of items that are no more.
fn losses(totals: &Totals, baseline: &Totals) -> [(&'static str, u64); 5] {
    let since = |now: u64, earlier: u64| now.wrapping_sub(earlier);
    [
        ("expired_unfetched", since(totals.expired_unfetched, baseline.expired_unfetched)),
        ("evicted_unfetched", since(totals.evicted_unfetched, baseline.evicted_unfetched)),
        ("evicted_active", 0),
        ("evictions", since(totals.evictions, baseline.evictions)),
        ("reclaimed", since(totals.reclaimed, baseline.reclaimed)),
    ]
}

fn connections(context: &Context<'_>, encoder: &mut impl Encode) {
    let now = context.batch.now();
    for (fd, endpoint) in &context.shared.listening {
        let state = if let Endpoint::Udp(_) = endpoint {
            encoder.stat(format_args!("{fd}:UDP"), "UDP");
            "conn_read"
        } else {
            "conn_listening"
        };
        encoder.stat(format_args!("{fd}:addr"), endpoint);
        encoder.stat(format_args!("{fd}:state"), state);
        encoder.stat(
            format_args!("{fd}:secs_since_last_cmd"),
            context.shared.clock.uptime().as_secs(),
        );
    }
    for (fd, record) in context.shared.workers.iter().flat_map(WorkerFigures::records) {
        let idle_seconds = now.saturating_sub(record.last_request.load(Ordering::Relaxed));
        let state = usize::from(record.state.load(Ordering::Relaxed));
        let state = CONNECTION_STATES.get(state).copied().unwrap_or_default();
        encoder.stat(format_args!("{fd}:addr"), &record.peer);
        encoder.stat(format_args!("{fd}:listen_addr"), &record.local);
        encoder.stat(format_args!("{fd}:state"), state);
        encoder.stat(format_args!("{fd}:secs_since_last_cmd"), idle_seconds);
    }
}

/// `cachedump <class> <limit>`: some keys, with no limit (0) as many as fit.
fn dump(context: &Context<'_>, arguments: &[u8]) -> Result<Report, Fault> {
    if !context.shared.config.dump_allowed {
        return Err(Fault::DumpNotAllowed);
    }
    let mut tokens = Tokens::new(arguments);
    let (Some(class), Some(limit)) = (tokens.next(), tokens.next()) else {
        return Err(Fault::DumpArguments);
    };
    let number = |token| strict_u32(token).ok_or(Fault::BadFormat);
    let (class, limit) = (number(class)?, number(limit)?);
    if class >= CLASSES {
        return Err(Fault::IllegalClass);
    }
    let items_left = if limit == 0 { u32::MAX } else { limit };
    let purpose = Purpose::List { items_left, bytes_left: DUMP_BYTES_MAX };
    Ok(Report::Stream(Stream::Walk(Walk::new(purpose, class == CLASS, None))))
}

/// What memcached has no names for.
fn own(context: &Context<'_>, encoder: &mut impl Encode) {
    let shared = context.shared;
    let totals = shared.store.totals();
    encoder.stat("version", env!("CARGO_PKG_VERSION"));
    encoder.stat("build", if cfg!(debug_assertions) { "debug" } else { "release" });
    encoder.stat("index_bytes", totals.index_bytes);
    encoder.stat("items_bytes", totals.items_bytes);
    encoder.stat("items_moved", totals.moved);
    encoder.stat("segment_bytes", totals.segment_bytes);
    encoder.stat("segments", totals.segments);
    encoder.stat("segments_in_use", totals.segments_in_use);
    encoder.stat("dead_bytes", totals.dead_bytes);
    let sums = since_reset(shared);
    encoder.stat("segments_aside", totals.segments_aside);
    encoder.stat("connection_buffer_bytes", shared.buffered_bytes());
    encoder.stat("connection_buffer_bytes_max", shared.config.buffer_bytes_max);
    encoder.stat("connections_overdrawn", sums.get(Count::BuffersOverdrawn));
    encoder.stat("udp_dropped", sums.get(Count::UdpDropped));
    if let Some(found) = shared.store.recovery() {
        let state = match found.discarded {
            Some(_) => "discarded",
            None if found.is_new => "new",
            None => "resumed",
        };
        encoder.stat("restart_state", state);
        encoder.stat("restart_items", found.items);
        encoder.stat("restart_items_bytes", found.items_bytes);
        encoder.stat("restart_items_over", found.over);
        encoder.stat("restart_items_evicted", found.evicted);
        encoder.stat("restart_items_incomplete", found.incomplete);
        encoder.stat("restart_segments_damaged", found.segments_damaged);
        encoder.stat("restart_us", shared.opening.as_micros());
    }
    for (number, worker) in shared.workers.iter().enumerate() {
        let connections = worker.connections.load(Ordering::Relaxed);
        encoder.stat(format_args!("worker:{number}:connections"), connections);
    }
}

/// What the workers counted since counting last started over.
fn since_reset(shared: &Shared) -> Sums {
    // In this order nothing is less than it was then.
    let baseline = shared.baseline();
    shared.counted().sums.since(&baseline.sums)
}

fn zeros(names: &[&str], encoder: &mut impl Encode) {
    for name in names {
        encoder.stat(name, 0);
    }
}

/// How long a list of keys may get.
const DUMP_BYTES_MAX: usize = 2 << 20;

/// By [`crate::shared::ConnectionState`].
const CONNECTION_STATES: [&str; 6] =
    ["conn_read", "conn_parse_cmd", "conn_nread", "conn_swallow", "conn_mwrite", "conn_watch"];

/// Topics of what larder has not: memcached's disk and proxy.
const ABSENT: [&[u8]; 4] = [b"extstore", b"proxy", b"proxyfuncs", b"proxybe"];

const COMMAND_COUNTS: &[(&str, Count)] = &[
    ("get_hits", Count::GetHits),
    ("get_misses", Count::GetMisses),
    ("get_expired", Count::GetExpired),
    ("get_flushed", Count::GetFlushed),
    ("delete_misses", Count::DeleteMisses),
    ("delete_hits", Count::DeleteHits),
    ("incr_misses", Count::IncrMisses),
    ("incr_hits", Count::IncrHits),
    ("decr_misses", Count::DecrMisses),
    ("decr_hits", Count::DecrHits),
    ("cas_misses", Count::CasMisses),
    ("cas_hits", Count::CasHits),
    ("cas_badval", Count::CasBadval),
    ("touch_hits", Count::TouchHits),
    ("touch_misses", Count::TouchMisses),
    ("store_too_large", Count::StoreTooLarge),
    ("store_no_memory", Count::StoreNoMemory),
];

const REASSIGN_NAMES: &[&str] = &[
    "slab_reassign_rescues",
    "slab_reassign_chunk_rescues",
    "slab_reassign_inline_reclaim",
    "slab_reassign_busy_items",
    "slab_reassign_busy_deletes",
    "slab_reassign_busy_nomem",
];

const LRU_NAMES: &[&str] =
    &["moves_to_cold", "moves_to_warm", "moves_within_lru", "direct_reclaims", "lru_bumps_dropped"];

/// What memcached shows only if a thread looks after its lists.
const MAINTAINED_NAMES: &[&str] = &[
    "number_hot",
    "number_warm",
    "number_cold",
    "age_hot",
    "age_warm",
    "evicted_active",
    "moves_to_cold",
    "moves_to_warm",
    "moves_within_lru",
    "direct_reclaims",
    "hits_to_hot",
    "hits_to_warm",
    "hits_to_cold",
    "hits_to_temp",
];
