//! `-o name[=value],...`: memcached's extended options.
//!
//! Nearly all of them tune slabs, LRU lists and threads that larder does not have. They are
//! accepted, since they stand in unit files everywhere, and handed back so that the log can name
//! them. What would change what clients see is refused instead.

use crate::failure::Failure;

/// Checks the lists as typed and returns the names of the options that have no effect, in their
/// order.
pub(super) fn without_effect(lists: &[String]) -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    for typed in lists.iter().flat_map(|list| list.split(',')).filter(|typed| !typed.is_empty()) {
        let name = typed.split('=').next().unwrap_or(typed).trim();
        if REFUSED.contains(&name) {
            return Err(Failure::usage(format!("-o {name} is not supported by this version")));
        }
        if name == IMPLIED || name == TRACK_SIZES {
            continue;
        }
        if !INERT.contains(&name) {
            return Err(Failure::value(format!("Illegal suboption \"{typed}\"")));
        }
        names.push(format!("-o {name}"));
    }
    Ok(names)
}

/// Whether sizes are to be shown.
pub(super) fn track_sizes(lists: &[String]) -> bool {
    lists.iter().flat_map(|list| list.split(',')).any(|typed| typed.trim() == TRACK_SIZES)
}

const TRACK_SIZES: &str = "track_sizes";

// Over the limit larder answers and closes: the option asks for what is done anyway.
const IMPLIED: &str = "maxconns_fast";

const REFUSED: &[&str] = &["ext_path", "proxy_config"];

const INERT: &[&str] = &[
    "drop_privileges",
    "ext_compact_under",
    "ext_drop_under",
    "ext_drop_unread",
    "ext_io_depth",
    "ext_item_age",
    "ext_item_size",
    "ext_low_ttl",
    "ext_max_frag",
    "ext_max_sleep",
    "ext_page_size",
    "ext_recache_rate",
    "ext_threads",
    "ext_wbuf_size",
    "hash_algorithm",
    "hashpower",
    "hot_lru_pct",
    "hot_max_factor",
    "idle_timeout",
    "inline_ascii_resp",
    "lru_crawler",
    "lru_crawler_sleep",
    "lru_crawler_tocrawl",
    "lru_maintainer",
    "modern",
    "no_chunked_items",
    "no_drop_privileges",
    "no_hashexpand",
    "no_inline_ascii_resp",
    "no_lru_crawler",
    "no_lru_maintainer",
    "no_maxconns_fast",
    "no_modern",
    "no_slab_automove",
    "no_slab_reassign",
    "proxy_arg",
    "proxy_memprofile",
    "proxy_uring",
    "read_buf_mem_limit",
    "resp_obj_mem_limit",
    "slab_automove",
    "slab_automove_freeratio",
    "slab_automove_ratio",
    "slab_automove_window",
    "slab_chunk_max",
    "slab_reassign",
    "slab_sizes",
    "sock_cookie_id",
    "ssl_ca_cert",
    "ssl_chain_cert",
    "ssl_ciphers",
    "ssl_kernel_tls",
    "ssl_key",
    "ssl_keyformat",
    "ssl_min_version",
    "ssl_session_cache",
    "ssl_verify_mode",
    "ssl_wbuf_size",
    "tail_repair_time",
    "temporary_ttl",
    "warm_lru_pct",
    "warm_max_factor",
    "watcher_logbuf_size",
    "worker_logbuf_size",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(list: &str) -> Result<Vec<String>, Failure> {
        without_effect(&[list.to_owned()])
    }

    #[test]
    fn names_what_has_no_effect_once_per_option() {
        let names = check("modern,hash_algorithm=murmur3,maxconns_fast,").unwrap();
        assert_eq!(names, ["-o modern", "-o hash_algorithm"]);
    }

    #[test]
    fn quotes_an_unknown_option_as_typed() {
        assert_eq!(check("modern,x=3"), Err(Failure::value("Illegal suboption \"x=3\"")));
    }

    #[test]
    fn refuses_what_it_cannot_do() {
        for list in ["ext_path=/tmp/x:1G", "proxy_config=routelib"] {
            let name = list.split('=').next().unwrap();
            let message = format!("-o {name} is not supported by this version");
            assert_eq!(check(list), Err(Failure::usage(message)));
        }
    }
}
