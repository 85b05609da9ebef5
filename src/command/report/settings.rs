//! `stats settings`: what the server runs with, under memcached's names.

use crate::auth::{Authentication, Method};
use crate::config::Dialects;
use crate::protocol::Encode;
use crate::shared::Shared;

/// Writes all settings, in memcached's order. What only tunes memcached's own engine is shown as
/// it was set, or at memcached's default, so that tools which compare the two find nothing amiss.
pub(super) fn settings(shared: &Shared, encoder: &mut impl Encode) {
    let config = &shared.config;
    let yes = |yes| if yes { "yes" } else { "no" };
    encoder.stat("maxbytes", shared.store.memory_bytes());
    encoder.stat("maxconns", config.connections_max);
    encoder.stat("tcpport", config.tcp_port);
    encoder.stat("udpport", config.udp_port);
    encoder.stat("inter", config.listen_typed.as_deref().unwrap_or("NULL"));
    encoder.stat("verbosity", shared.verbosity());
    encoder.stat("oldest", 0);
    encoder.stat("evictions", if config.evict { "on" } else { "off" });
    match &config.unix_socket {
        Some(path) => encoder.stat("domain_socket", path.display()),
        None => encoder.stat("domain_socket", "NULL"),
    }
    encoder.stat("umask", format_args!("{:o}", config.unix_mode));
    encoder.stat("shutdown_command", yes(config.shutdown_allowed));
    tunables(shared, &CHUNKS, encoder);
    encoder.stat("num_threads", config.threads);
    encoder.stat("num_threads_per_udp", 1);
    encoder.stat("stat_key_prefix", char::from(shared.prefixes.delimiter()));
    encoder.stat("detail_enabled", yes(shared.prefixes.enabled()));
    encoder.stat("reqs_per_event", config.requests_per_turn);
    encoder.stat("cas_enabled", yes(config.cas));
    encoder.stat("tcp_backlog", config.backlog);
    encoder.stat("binding_protocol", binding_protocol(config.dialects));
    let method = config.authentication.as_deref().map(Authentication::method);
    encoder.stat("auth_enabled_sasl", yes(matches!(method, Some(Method::Sasl { .. }))));
    match (method, config.authentication.as_deref().and_then(Authentication::path)) {
        (Some(Method::Token), Some(path)) => encoder.stat("auth_enabled_ascii", path.display()),
        _ => encoder.stat("auth_enabled_ascii", "no"),
    }
    encoder.stat("item_size_max", config.item_bytes_max);
    encoder.stat("maxconns_fast", yes(config.refuse_over_limit));
    tunables(shared, &SLABS, encoder);
    encoder.stat("lru_crawler", yes(shared.crawler.enabled()));
    tunables(shared, &CRAWLER, encoder);
    encoder.stat("flush_enabled", yes(config.flush_allowed));
    encoder.stat("dump_enabled", yes(config.dump_allowed));
    tunables(shared, &LISTS, encoder);
    encoder.stat("idle_timeout", config.idle_timeout_seconds);
    encoder.stat("watcher_logbuf_size", config.watcher_buffer_bytes);
    tunables(shared, &BUFFERS, encoder);
    encoder.stat("track_sizes", yes(config.track_sizes));
    tunables(shared, &THE_REST, encoder);
    match &config.memory_file {
        Some(file) => encoder.stat("memory_file", file.path.display()),
        None => encoder.stat("memory_file", "(null)"),
    }
    encoder.stat("client_flags_size", 4);
}

fn binding_protocol(dialects: Dialects) -> &'static str {
    match dialects {
        Dialects::Any => "auto-negotiate",
        Dialects::Text => "ascii",
        Dialects::Binary => "binary",
    }
}

fn tunables(shared: &Shared, settings: &[(&str, &str)], encoder: &mut impl Encode) {
    for (name, default) in settings {
        match shared.tuning.get(name) {
            Some(value) => encoder.stat(name, value),
            None => encoder.stat(name, default),
        }
    }
}

const CHUNKS: [(&str, &str); 2] = [("growth_factor", "1.25"), ("chunk_size", "48")];

const SLABS: [(&str, &str); 6] = [
    ("hashpower_init", "0"),
    ("slab_reassign", "yes"),
    ("slab_automove", "1"),
    ("slab_automove_ratio", "0.80"),
    ("slab_automove_window", "10"),
    ("slab_chunk_max", "524288"),
];

const CRAWLER: [(&str, &str); 3] =
    [("lru_crawler_sleep", "100"), ("lru_crawler_tocrawl", "0"), ("tail_repair_time", "0")];

const LISTS: [(&str, &str); 9] = [
    ("hash_algorithm", "murmur3"),
    ("lru_maintainer_thread", "yes"),
    ("lru_segmented", "yes"),
    ("hot_lru_pct", "20"),
    ("warm_lru_pct", "40"),
    ("hot_max_factor", "0.20"),
    ("warm_max_factor", "2.00"),
    ("temp_lru", "no"),
    ("temporary_ttl", "61"),
];

const BUFFERS: [(&str, &str); 2] = [("worker_logbuf_size", "65536"), ("read_buf_mem_limit", "0")];

const THE_REST: [(&str, &str); 26] = [
    ("inline_ascii_response", "no"),
    ("ext_item_size", "512"),
    ("ext_item_age", "4294967295"),
    ("ext_low_ttl", "0"),
    ("ext_recache_rate", "2000"),
    ("ext_wbuf_size", "4194304"),
    ("ext_compact_under", "0"),
    ("ext_drop_under", "0"),
    ("ext_max_sleep", "1000000"),
    ("ext_max_frag", "0.80"),
    ("slab_automove_freeratio", "0.010"),
    ("ext_drop_unread", "no"),
    ("ssl_enabled", "no"),
    ("ssl_chain_cert", "(null)"),
    ("ssl_key", "(null)"),
    ("ssl_verify_mode", "0"),
    ("ssl_keyformat", "1"),
    ("ssl_ciphers", "NULL"),
    ("ssl_ca_cert", "NULL"),
    ("ssl_wbuf_size", "16384"),
    ("ssl_session_cache", "no"),
    ("ssl_kernel_tls", "no"),
    ("ssl_min_version", "tlsv1.2"),
    ("proxy_enabled", "no"),
    ("proxy_uring_enabled", "no"),
    ("num_napi_ids", "0"),
];
