//! `-o name[=value],...`: memcached's extended options.
//!
//! Nearly all of them tune slabs, LRU lists and threads that larder does not have. They are
//! accepted where memcached accepts them, since they stand in unit files everywhere, and handed
//! back so that the log can name them. What would change what clients see is refused instead.

use std::borrow::Cow;

use super::shown::{Shown, shown};
use super::{KIB, MIB};
use crate::failure::Failure;

/// What the lists say.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Suboptions {
    /// Connections over the limit are told so and closed, and not left to wait.
    pub(super) refuse_over_limit: bool,
    /// Seconds after which an idle connection is closed; 0 for never.
    pub(super) idle_timeout_seconds: u32,
    /// Items are shown by size.
    pub(super) track_sizes: bool,
    /// Everything that is stored may be walked over.
    pub(super) crawl: bool,
    /// How many bytes of lines may wait for a client that watches.
    pub(super) watcher_buffer_bytes: usize,
    /// How many bytes the buffers of all connections may take, if that was said.
    pub(super) buffer_bytes_max: Option<usize>,
    /// The names of the options that have no effect, in their order.
    pub(super) without_effect: Vec<String>,
    /// What they set all the same, as it is to be shown.
    pub(super) shown: Shown,
}

/// Reads the lists as typed.
///
/// # Errors
///
/// The first option that memcached would not take (exit code 1), or that cannot be served (64).
pub(super) fn read(lists: &[String]) -> Result<Suboptions, Failure> {
    let mut read = Suboptions {
        refuse_over_limit: true,
        idle_timeout_seconds: 0,
        track_sizes: false,
        crawl: true,
        watcher_buffer_bytes: WATCHER_BUFFER_KIB_DEFAULT * KIB,
        buffer_bytes_max: None,
        without_effect: Vec::new(),
        shown: Vec::new(),
    };
    for typed in lists.iter().flat_map(|list| list.split(',')).filter(|typed| !typed.is_empty()) {
        let (name, value) = match typed.split_once('=') {
            Some((name, value)) => (name.trim(), Some(value.trim())),
            None => (typed.trim(), None),
        };
        if REFUSED.contains(&name) {
            return Err(Failure::usage(format!("-o {name} is not supported by this version")));
        }
        let Some((_, grammar)) = KNOWN.iter().find(|(known, _)| *known == name) else {
            return Err(Failure::value(format!("Illegal suboption \"{typed}\"")));
        };
        let read_value = grammar.read(value);
        let value = read_value.as_deref();
        if !grammar.takes(value) {
            let expected = grammar.describe();
            return Err(Failure::value(format!("-o {name} takes {expected}: \"{typed}\"")));
        }
        match name {
            "maxconns_fast" => read.refuse_over_limit = true,
            "no_maxconns_fast" => read.refuse_over_limit = false,
            "lru_crawler" | "no_lru_crawler" => read.crawl = name == "lru_crawler",
            "track_sizes" => read.track_sizes = true,
            "watcher_logbuf_size" => {
                let kib = value.and_then(|value| value.parse().ok());
                read.watcher_buffer_bytes = kib.unwrap_or(WATCHER_BUFFER_KIB_DEFAULT) * KIB;
            }
            "idle_timeout" => {
                // To memcached less than nothing is never, as 0 is.
                let seconds = value.and_then(number).unwrap_or_default().max(0);
                read.idle_timeout_seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
            }
            "read_buf_mem_limit" => {
                let mib = value.and_then(|value| value.parse::<usize>().ok());
                read.buffer_bytes_max = mib.filter(|mib| *mib > 0).map(|mib| mib * MIB);
                read.shown.extend(shown(name, value));
            }
            name => {
                if name == "no_modern" {
                    // The defaults of 1.4, of which these mean something here.
                    (read.refuse_over_limit, read.crawl) = (false, false);
                }
                read.shown.extend(shown(name, value));
                read.without_effect.push(format!("-o {name}"));
            }
        }
    }
    Ok(read)
}

/// What may follow a name.
#[derive(Clone, Copy, Debug)]
enum Grammar {
    /// Nothing that would be looked at.
    Flag,
    /// Something.
    Text,
    /// A number between these, both included.
    Number(i64, i64),
    /// What C makes a number of, between these.
    Leading(i64, i64),
    /// Such a number, or nothing.
    LeadingOrNone(i64, i64),
    /// A number above 0, and not above this.
    Factor(f64),
    /// One of these.
    Name(&'static [&'static str]),
}

impl Grammar {
    /// A value as memcached reads it.
    fn read(self, value: Option<&str>) -> Option<Cow<'_, str>> {
        match self {
            Self::Leading(..) | Self::LeadingOrNone(..) => {
                value.map(|value| leading(value).to_string().into())
            }
            _ => value.map(Cow::Borrowed),
        }
    }

    fn takes(self, value: Option<&str>) -> bool {
        let Some(value) = value else {
            return matches!(self, Self::Flag | Self::LeadingOrNone(..));
        };
        match self {
            Self::Flag | Self::Text => true,
            Self::Number(least, most)
            | Self::Leading(least, most)
            | Self::LeadingOrNone(least, most) => {
                number(value).is_some_and(|number| (least..=most).contains(&number))
            }
            Self::Factor(most) => {
                value.parse::<f64>().is_ok_and(|factor| factor > 0.0 && factor <= most)
            }
            Self::Name(names) => names.contains(&value),
        }
    }

    fn describe(self) -> String {
        match self {
            Self::Flag => "no value".to_owned(),
            Self::Text => "a value".to_owned(),
            Self::Number(i64::MIN, _) => "a number".to_owned(),
            Self::Number(least, MOST) | Self::Leading(least, MOST) => {
                format!("a number of at least {least}")
            }
            Self::Number(least, most)
            | Self::Leading(least, most)
            | Self::LeadingOrNone(least, most) => format!("a number from {least} to {most}"),
            Self::Factor(f64::MAX) => "a number above 0".to_owned(),
            Self::Factor(most) => format!("a number above 0, at most {most}"),
            Self::Name(names) => format!("one of {}", names.join(", ")),
        }
    }
}

fn number(value: &str) -> Option<i64> {
    value.parse().ok()
}

/// A number as C's `atoi` reads it: what follows it is passed over, and no number at all is 0.
fn leading(value: &str) -> i64 {
    let unsigned = value.strip_prefix(['-', '+']).unwrap_or(value);
    let rest = unsigned.trim_start_matches(|next: char| next.is_ascii_digit());
    number(&value[..value.len() - rest.len()]).unwrap_or(0)
}

const WATCHER_BUFFER_KIB_DEFAULT: usize = 256;

const REFUSED: &[&str] = &["ext_path", "proxy_config"];

const MOST: i64 = u32::MAX as i64;
const ANY: Grammar = Grammar::Number(0, MOST);

const KNOWN: &[(&str, Grammar)] = &[
    ("drop_privileges", Grammar::Flag),
    ("ext_compact_under", ANY),
    ("ext_drop_under", ANY),
    ("ext_drop_unread", Grammar::Flag),
    ("ext_io_depth", ANY),
    ("ext_item_age", ANY),
    ("ext_item_size", ANY),
    ("ext_low_ttl", ANY),
    ("ext_max_frag", Grammar::Factor(f64::MAX)),
    ("ext_max_sleep", ANY),
    ("ext_page_size", ANY),
    ("ext_recache_rate", ANY),
    ("ext_threads", ANY),
    ("ext_wbuf_size", ANY),
    ("hash_algorithm", Grammar::Name(&["jenkins", "murmur3", "xxh3"])),
    ("hashpower", Grammar::Leading(12, 32)),
    ("hot_lru_pct", Grammar::Leading(1, 79)),
    ("hot_max_factor", Grammar::Factor(f64::MAX)),
    ("idle_timeout", Grammar::Number(i64::MIN, MOST)),
    ("inline_ascii_resp", Grammar::Flag),
    ("lru_crawler", Grammar::Flag),
    ("lru_crawler_sleep", Grammar::Leading(0, 1_000_000)),
    ("lru_crawler_tocrawl", ANY),
    ("lru_maintainer", Grammar::Flag),
    ("maxconns_fast", Grammar::Flag),
    ("modern", Grammar::Flag),
    ("no_chunked_items", Grammar::Flag),
    ("no_drop_privileges", Grammar::Flag),
    ("no_hashexpand", Grammar::Flag),
    ("no_inline_ascii_resp", Grammar::Flag),
    ("no_lru_crawler", Grammar::Flag),
    ("no_lru_maintainer", Grammar::Flag),
    ("no_maxconns_fast", Grammar::Flag),
    ("no_modern", Grammar::Flag),
    ("no_slab_automove", Grammar::Flag),
    ("no_slab_reassign", Grammar::Flag),
    ("proxy_arg", Grammar::Text),
    ("proxy_memprofile", Grammar::Flag),
    ("proxy_uring", Grammar::Flag),
    ("read_buf_mem_limit", ANY),
    ("resp_obj_mem_limit", Grammar::Flag),
    ("slab_automove", Grammar::LeadingOrNone(0, 2)),
    ("slab_automove_freeratio", Grammar::Factor(f64::MAX)),
    ("slab_automove_ratio", Grammar::Factor(1.0)),
    ("slab_automove_window", Grammar::Leading(3, 1800)),
    ("slab_chunk_max", Grammar::Number(1, 1024)),
    ("slab_reassign", Grammar::Flag),
    ("slab_sizes", Grammar::Text),
    ("sock_cookie_id", Grammar::Text),
    ("ssl_ca_cert", Grammar::Text),
    ("ssl_chain_cert", Grammar::Text),
    ("ssl_ciphers", Grammar::Text),
    ("ssl_kernel_tls", Grammar::Flag),
    ("ssl_key", Grammar::Text),
    ("ssl_keyformat", ANY),
    ("ssl_min_version", Grammar::Number(0, 3)),
    ("ssl_session_cache", Grammar::Flag),
    ("ssl_verify_mode", Grammar::Number(0, 3)),
    ("ssl_wbuf_size", ANY),
    ("tail_repair_time", Grammar::Leading(10, MOST)),
    ("temporary_ttl", Grammar::Leading(i64::MIN, i64::MAX)),
    ("track_sizes", Grammar::Flag),
    ("warm_lru_pct", Grammar::Leading(1, 79)),
    ("warm_max_factor", Grammar::Factor(f64::MAX)),
    ("watcher_logbuf_size", Grammar::Number(1, 1 << 20)),
    ("worker_logbuf_size", ANY),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(list: &str) -> Result<Suboptions, Failure> {
        read(&[list.to_owned()])
    }

    #[test]
    fn names_what_has_no_effect_once_per_option() {
        let read = check("modern,hash_algorithm=murmur3,maxconns_fast,").unwrap();
        assert_eq!(read.without_effect, ["-o modern", "-o hash_algorithm"]);
    }

    #[test]
    fn the_last_idle_timeout_counts() {
        let lists = ["idle_timeout=5,modern".to_owned(), "idle_timeout=60".to_owned()];
        let read = read(&lists).unwrap();
        assert_eq!(read.idle_timeout_seconds, 60);
        assert_eq!(read.without_effect, ["-o modern"]);
    }

    #[test]
    fn less_than_nothing_is_never() {
        assert_eq!(check("idle_timeout=-1").map(|read| read.idle_timeout_seconds), Ok(0));
    }

    #[test]
    fn what_has_no_effect_is_read_as_memcached_reads_it() {
        let table = [
            ("temporary_ttl=x", "0"),
            ("temporary_ttl=-1", "4294967295"),
            ("temporary_ttl=+61s", "61"),
            ("lru_crawler_sleep=x", "0"),
            ("hashpower=20x", "20"),
            ("slab_automove=", "0"),
        ];
        for (list, shown) in table {
            let read = check(list).unwrap_or_else(|failure| panic!("{list}: {failure}"));
            assert_eq!(read.shown.last().map(|(_, value)| value.as_str()), Some(shown), "{list}");
        }
    }

    #[test]
    fn the_last_word_on_connections_over_the_limit_counts() {
        for (list, refuse) in [
            ("modern", true),
            ("no_maxconns_fast", false),
            ("no_maxconns_fast,maxconns_fast", true),
            ("no_modern", false),
            ("no_modern,maxconns_fast", true),
        ] {
            assert_eq!(check(list).unwrap().refuse_over_limit, refuse, "{list}");
        }
    }

    #[test]
    fn what_is_shown_of_the_server_can_be_chosen() {
        let read = check("track_sizes,no_lru_crawler,watcher_logbuf_size=64").unwrap();
        assert!(read.track_sizes && !read.crawl && read.without_effect.is_empty());
        assert_eq!(read.watcher_buffer_bytes, 64 * KIB);
        assert!(check("no_lru_crawler,lru_crawler").unwrap().crawl);
    }

    #[test]
    fn the_limit_of_buffers_can_be_chosen() {
        let read = check("read_buf_mem_limit=3").unwrap();
        assert_eq!((read.buffer_bytes_max, read.without_effect.len()), (Some(3 * MIB), 0));
        assert_eq!(check("read_buf_mem_limit=0").unwrap().buffer_bytes_max, None);
    }

    #[test]
    fn quotes_an_unknown_option_as_typed() {
        assert_eq!(check("modern,x=3"), Err(Failure::value("Illegal suboption \"x=3\"")));
    }

    #[test]
    fn says_what_an_option_takes() {
        let table = [
            ("hashpower=33", "a number from 12 to 32"),
            ("hashpower", "a number from 12 to 32"),
            ("slab_automove=3", "a number from 0 to 2"),
            ("slab_automove_ratio=1.5", "a number above 0, at most 1"),
            ("hot_max_factor=nan", "a number above 0"),
            ("hash_algorithm=md5", "one of jenkins, murmur3, xxh3"),
            ("tail_repair_time=9", "a number of at least 10"),
            ("idle_timeout=x", "a number"),
            ("lru_crawler_sleep=-1", "a number from 0 to 1000000"),
            ("ext_item_age=-1", "a number of at least 0"),
            ("slab_sizes", "a value"),
        ];
        for (typed, expected) in table {
            let name = typed.split('=').next().unwrap();
            let message = format!("-o {name} takes {expected}: \"{typed}\"");
            assert_eq!(check(typed), Err(Failure::value(message)));
        }
        for typed in ["slab_automove", "slab_automove=2", "hashpower=32", "modern=5"] {
            assert!(check(typed).is_ok(), "{typed}");
        }
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
