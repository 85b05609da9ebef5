//! What `stats settings` shows of options that only tune memcached's own engine: they change
//! nothing here, but who looks finds what was set.

/// Settings by the names and in the form that `stats settings` has for them.
pub(super) type Shown = Vec<(&'static str, String)>;

/// The settings that a suboption changes, whose value is one that it takes.
pub(super) fn shown(option: &str, value: Option<&str>) -> Shown {
    let rows = SHOWN.iter().filter(|(name, ..)| *name == option);
    // Only `slab_automove` can go without a value, and is switched on by that.
    let value = value.unwrap_or("1");
    rows.map(|&(_, setting, form)| (setting, form.of(value))).collect()
}

/// A number with so many places.
pub(super) fn decimal(value: &str, places: usize) -> String {
    value.trim().parse::<f64>().map_or_else(|_| value.to_owned(), |it| format!("{it:.places$}"))
}

/// How a setting is shown.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// As the word that was given.
    Word,
    /// As a number of such units.
    Number(u64),
    /// As a number without a sign.
    Unsigned,
    /// As a number with so many places.
    Decimal(usize),
    /// Whatever was given.
    Is(&'static str),
}

impl Form {
    fn of(self, value: &str) -> String {
        match self {
            Self::Word => value.to_owned(),
            Self::Number(unit) => value.parse::<u64>().map_or_else(
                |_| value.to_owned(),
                |number| number.saturating_mul(unit).to_string(),
            ),
            Self::Unsigned => value
                .parse::<i32>()
                .map_or_else(|_| value.to_owned(), |number| number.cast_unsigned().to_string()),
            Self::Decimal(places) => decimal(value, places),
            Self::Is(word) => word.to_owned(),
        }
    }
}

const KIB: Form = Form::Number(1 << 10);
const MIB: Form = Form::Number(1 << 20);
const PLAIN: Form = Form::Number(1);
const YES: Form = Form::Is("yes");
const NO: Form = Form::Is("no");

/// By suboption.
const SHOWN: &[(&str, &str, Form)] = &[
    ("ext_compact_under", "ext_compact_under", PLAIN),
    ("ext_drop_under", "ext_drop_under", PLAIN),
    ("ext_drop_unread", "ext_drop_unread", YES),
    ("ext_item_age", "ext_item_age", PLAIN),
    ("ext_item_size", "ext_item_size", PLAIN),
    ("ext_low_ttl", "ext_low_ttl", PLAIN),
    ("ext_max_frag", "ext_max_frag", Form::Decimal(2)),
    ("ext_max_sleep", "ext_max_sleep", PLAIN),
    ("ext_recache_rate", "ext_recache_rate", PLAIN),
    ("ext_wbuf_size", "ext_wbuf_size", MIB),
    ("hash_algorithm", "hash_algorithm", Form::Word),
    ("hashpower", "hashpower_init", PLAIN),
    ("hot_lru_pct", "hot_lru_pct", PLAIN),
    ("hot_max_factor", "hot_max_factor", Form::Decimal(2)),
    ("lru_crawler_sleep", "lru_crawler_sleep", PLAIN),
    ("lru_crawler_tocrawl", "lru_crawler_tocrawl", PLAIN),
    ("lru_maintainer", "lru_maintainer_thread", YES),
    ("lru_maintainer", "lru_segmented", YES),
    ("no_chunked_items", "slab_chunk_max", Form::Is("1048576")),
    ("no_lru_maintainer", "lru_maintainer_thread", NO),
    ("no_lru_maintainer", "lru_segmented", NO),
    ("no_modern", "hash_algorithm", Form::Is("jenkins")),
    ("no_modern", "lru_maintainer_thread", NO),
    ("no_modern", "lru_segmented", NO),
    ("no_modern", "slab_automove", Form::Is("0")),
    ("no_modern", "slab_chunk_max", Form::Is("1048576")),
    ("no_modern", "slab_reassign", NO),
    ("no_slab_automove", "slab_automove", Form::Is("0")),
    ("no_slab_reassign", "slab_reassign", NO),
    ("read_buf_mem_limit", "read_buf_mem_limit", MIB),
    ("slab_automove", "slab_automove", PLAIN),
    ("slab_automove_freeratio", "slab_automove_freeratio", Form::Decimal(3)),
    ("slab_automove_ratio", "slab_automove_ratio", Form::Decimal(2)),
    ("slab_automove_window", "slab_automove_window", PLAIN),
    ("slab_chunk_max", "slab_chunk_max", KIB),
    ("slab_reassign", "slab_reassign", YES),
    ("tail_repair_time", "tail_repair_time", PLAIN),
    ("temporary_ttl", "temp_lru", YES),
    ("temporary_ttl", "temporary_ttl", Form::Unsigned),
    ("warm_lru_pct", "warm_lru_pct", PLAIN),
    ("warm_max_factor", "warm_max_factor", Form::Decimal(2)),
    ("worker_logbuf_size", "worker_logbuf_size", KIB),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_shown_in_their_own_units() {
        let table = [
            ("slab_automove", None, "slab_automove 1"),
            ("slab_automove", Some("2"), "slab_automove 2"),
            ("hashpower", Some("020"), "hashpower_init 20"),
            ("slab_chunk_max", Some("256"), "slab_chunk_max 262144"),
            ("hot_max_factor", Some(".5"), "hot_max_factor 0.50"),
            ("no_lru_maintainer", None, "lru_maintainer_thread no, lru_segmented no"),
            ("slab_sizes", Some("100-200"), ""),
        ];
        for (option, value, expected) in table {
            let settings = shown(option, value);
            let settings = settings.iter().map(|(name, value)| format!("{name} {value}"));
            assert_eq!(settings.collect::<Vec<_>>().join(", "), expected, "{option}");
        }
    }
}
