//! `stats items` and `stats slabs`. This engine has no slab classes: all items are in the one class
//! 1, and what has no counterpart is 0.

use super::super::{CLASS, Context};
use super::{MAINTAINED_NAMES, is_maintained, losses, since_reset};
use crate::protocol::Encode;
use crate::stats::Count;

pub(super) fn items(context: &Context<'_>, encoder: &mut impl Encode) {
    // The order matters, as it does for the general figures.
    let baseline = context.shared.baseline();
    let counted = context.shared.counted();
    let totals = &counted.totals;
    if totals.items == 0 {
        return;
    }
    let no_memory = counted.sums.since(&baseline.sums).get(Count::StoreNoMemory);
    let losses = losses(totals, &baseline.totals);
    let maintained = is_maintained(context.shared);
    let temporary = context.shared.tuning.is_on("temp_lru");
    let is_shown = |name: &&str| match *name {
        "number_temp" => maintained && temporary,
        name => maintained || !MAINTAINED_NAMES.contains(&name),
    };
    for name in ITEMS_NAMES.iter().copied().filter(is_shown) {
        let value = match name {
            "number" | "number_cold" => totals.items,
            "age" => context.batch.oldest_age_seconds().into(),
            "mem_requested" => totals.items_bytes,
            "evicted" => totals.evictions.wrapping_sub(baseline.totals.evictions),
            "outofmemory" => no_memory,
            name => losses.iter().find(|(loss, _)| *loss == name).map_or(0, |(_, count)| *count),
        };
        encoder.stat(format_args!("items:{CLASS}:{name}"), value);
    }
}

pub(super) fn slabs(context: &Context<'_>, encoder: &mut impl Encode) {
    let totals = context.shared.store.totals();
    let sums = since_reset(context.shared);
    let memory_bytes = context.shared.store.memory_bytes();
    if totals.items > 0 {
        for name in SLABS_NAMES {
            let value = match *name {
                "chunk_size" | "chunks_per_page" | "total_pages" => 1,
                "total_chunks" | "used_chunks" => totals.items,
                _ => 0,
            };
            encoder.stat(format_args!("{CLASS}:{name}"), value);
        }
        for (name, count) in SLABS_COUNTS {
            encoder.stat(format_args!("{CLASS}:{name}"), sums.get(*count));
        }
    }
    encoder.stat("active_slabs", u8::from(totals.items > 0));
    encoder.stat("total_malloced", memory_bytes);
}

const ITEMS_NAMES: &[&str] = &[
    "number",
    "number_hot",
    "number_warm",
    "number_cold",
    "number_temp",
    "age_hot",
    "age_warm",
    "age",
    "mem_requested",
    "evicted",
    "evicted_nonzero",
    "evicted_time",
    "outofmemory",
    "tailrepairs",
    "reclaimed",
    "expired_unfetched",
    "evicted_unfetched",
    "evicted_active",
    "crawler_reclaimed",
    "crawler_items_checked",
    "lrutail_reflocked",
    "moves_to_cold",
    "moves_to_warm",
    "moves_within_lru",
    "direct_reclaims",
    "hits_to_hot",
    "hits_to_warm",
    "hits_to_cold",
    "hits_to_temp",
];

const SLABS_NAMES: &[&str] = &[
    "chunk_size",
    "chunks_per_page",
    "total_pages",
    "total_chunks",
    "used_chunks",
    "free_chunks",
    "free_chunks_end",
];

const SLABS_COUNTS: &[(&str, Count)] = &[
    ("get_hits", Count::GetHits),
    ("cmd_set", Count::CmdSet),
    ("delete_hits", Count::DeleteHits),
    ("incr_hits", Count::IncrHits),
    ("decr_hits", Count::DecrHits),
    ("cas_hits", Count::CasHits),
    ("cas_badval", Count::CasBadval),
    ("touch_hits", Count::TouchHits),
];
