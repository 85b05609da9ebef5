//! Managing the server: watching, crawling, and the commands that tune memcached's engine, which
//! are answered, remembered, and change nothing here.

use super::stream::{Purpose, Stream, Walk};
use super::{CLASS, CLASSES, Context};
use crate::protocol::manage::{Area, Refusal};
use crate::protocol::number::{lenient_u64, strict_i32, strict_u32};
use crate::protocol::text::Tokens;
use crate::protocol::{Encode, Fault, Outcome};
use crate::watch::{Kind, Kinds};

/// Carries out a management command and writes the reply, or its beginning: the rest of it is the
/// stream. `is_first` says that no other request came with it before it.
pub fn manage(
    context: &Context<'_>,
    area: Area,
    arguments: &[u8],
    is_first: bool,
    encoder: &mut impl Encode,
) -> Option<Stream> {
    let result = match area {
        Area::Watch => watch(context, arguments, is_first),
        Area::Crawler => crawler(context, arguments, is_first),
        Area::Slabs => slabs(context, arguments).map(|()| None),
        Area::Lru => lru(context, arguments).map(|()| None),
        Area::Extstore => extstore(context, arguments).map(|()| None),
        Area::RefreshCerts => Err(Fault::Management(Refusal::TlsNotEnabled)),
    };
    match result {
        Ok(stream) => {
            encoder.outcome(Outcome::Ok);
            stream
        }
        Err(fault) => {
            encoder.fault(fault);
            None
        }
    }
}

/// `watch [<kind>...]`
fn watch(context: &Context<'_>, arguments: &[u8], is_first: bool) -> Result<Option<Stream>, Fault> {
    if !context.shared.config.watch_allowed {
        return Err(Fault::Management(Refusal::WatchNotAllowed));
    }
    if !is_first {
        return Err(Fault::Management(Refusal::WatchPipelined));
    }
    let mut kinds = Kinds::default();
    for name in Tokens::new(arguments) {
        kinds = kinds.and(Kind::named(name).ok_or(Fault::UnknownCommand)?);
    }
    if kinds == Kinds::default() {
        kinds = kinds.and(Kind::Fetchers);
    }
    let watching = context.shared.watchers.watch(kinds);
    let watching = watching.map_err(|_| Fault::Management(Refusal::TooManyWatchers))?;
    Ok(Some(Stream::Watch { watching, waker: None }))
}

/// `lru_crawler <what> [<argument>]`
fn crawler(
    context: &Context<'_>,
    arguments: &[u8],
    is_first: bool,
) -> Result<Option<Stream>, Fault> {
    let shared = context.shared;
    match *tokens(arguments) {
        [what] if abbreviates(what, "enable") => {
            if !shared.crawler.enable(true) {
                return Err(Fault::Management(Refusal::CrawlerEnabled));
            }
        }
        [what] if abbreviates(what, "disable") => {
            shared.crawler.enable(false);
        }
        [what, classes] if abbreviates(what, "crawl") => {
            return crawl(context, classes, Purpose::Reclaim, None);
        }
        [what, classes] if abbreviates(what, "metadump") => {
            let refusal = dump_refusal(
                context,
                is_first,
                Refusal::MetadumpNotAllowed,
                Refusal::MetadumpPipelined,
            );
            return crawl(context, classes, Purpose::Metadump, refusal);
        }
        [what, classes] if abbreviates(what, "mgdump") => {
            let refusal = dump_refusal(
                context,
                is_first,
                Refusal::KeyDumpNotAllowed,
                Refusal::KeyDumpPipelined,
            );
            return crawl(context, classes, Purpose::KeyDump, refusal);
        }
        [what, items] if abbreviates(what, "tocrawl") => {
            let items = strict_u32(items).ok_or(Fault::BadFormat)?;
            shared.tuning.set("lru_crawler_tocrawl", items.to_string());
        }
        [what, micros] if abbreviates(what, "sleep") => {
            let micros = strict_u32(micros).ok_or(Fault::BadFormat)?;
            if micros > SLEEP_MICROS_MAX {
                return Err(Fault::Management(Refusal::SleepTooLong));
            }
            shared.tuning.set("lru_crawler_sleep", micros.to_string());
        }
        _ => return Err(Fault::UnknownCommand),
    }
    Ok(None)
}

/// Why items or keys are not listed.
fn dump_refusal(
    context: &Context<'_>,
    is_first: bool,
    not_allowed: Refusal,
    pipelined: Refusal,
) -> Option<Refusal> {
    if !context.shared.config.dump_allowed {
        return Some(not_allowed);
    }
    (!is_first).then_some(pipelined)
}

/// Begins a walk over some classes, unless there is something to be said against it.
fn crawl(
    context: &Context<'_>,
    classes: &[u8],
    purpose: Purpose,
    refusal: Option<Refusal>,
) -> Result<Option<Stream>, Fault> {
    let crawler = &context.shared.crawler;
    if !crawler.enabled() {
        return Err(Fault::Management(Refusal::CrawlerDisabled));
    }
    if let Some(refusal) = refusal {
        return Err(Fault::Management(refusal));
    }
    let holds_items = match classes {
        b"all" => true,
        b"hash" if matches!(purpose, Purpose::Reclaim) => {
            return Err(Fault::Management(Refusal::NotCrawlable));
        }
        b"hash" => true,
        classes => names_class_with_items(classes).map_err(Fault::Management)?,
    };
    let turn = crawler.start(context.batch.now());
    let turn = turn.map_err(|_| Fault::Management(Refusal::CrawlerBusy))?;
    Ok(Some(Stream::Walk(Walk::new(purpose, holds_items, Some(turn)))))
}

/// Whether a list of classes, separated by commas, has the one in which all items are.
fn names_class_with_items(classes: &[u8]) -> Result<bool, Refusal> {
    let mut named = classes.split(|&byte| byte == b',').filter(|class| !class.is_empty());
    let mut classes = Vec::new();
    named.try_for_each(|class| match lenient_u64(class).map(u32::try_from) {
        Some(Ok(class @ 1..CLASSES)) => {
            classes.push(class);
            Ok(())
        }
        _ => Err(Refusal::NoSuchClass),
    })?;
    if classes.is_empty() { Err(Refusal::NoClasses) } else { Ok(classes.contains(&CLASS)) }
}

/// `slabs reassign <source> <destination>`, `slabs automove ...`
fn slabs(context: &Context<'_>, arguments: &[u8]) -> Result<(), Fault> {
    match *tokens(arguments) {
        [what, source, destination] if abbreviates(what, "reassign") => {
            let class = |token| strict_i32(token).ok_or(Fault::BadFormat);
            Err(Fault::Management(reassign(class(source)?, class(destination)?)))
        }
        [what, setting, ref values @ ..] if abbreviates(what, "automove") => {
            automove(context, setting, values.first().copied())
        }
        _ => Err(Fault::UnknownCommand),
    }
}

/// Why no memory moves from a class to another: there are none.
fn reassign(source: i32, destination: i32) -> Refusal {
    let exists = |class| (0..=LARGEST_SLAB_CLASS).contains(&class);
    if source == destination {
        Refusal::SameSlabClass
    } else if !exists(source) || !exists(destination) {
        Refusal::NoSuchSlabClass
    } else {
        Refusal::NoSparePages
    }
}

fn automove(context: &Context<'_>, setting: &[u8], value: Option<&[u8]>) -> Result<(), Fault> {
    let tuning = &context.shared.tuning;
    let ratio = || value.and_then(decimal).ok_or(Fault::UnknownCommand);
    if abbreviates(setting, "ratio") {
        tuning.set("slab_automove_ratio", format!("{:.2}", ratio()?));
    } else if abbreviates(setting, "freeratio") {
        tuning.set("slab_automove_freeratio", format!("{:.3}", ratio()?));
    } else if abbreviates(setting, "window") {
        let window = value.and_then(strict_u32).ok_or(Fault::BadFormat)?;
        if !(WINDOW_MIN..=WINDOW_MAX).contains(&window) {
            return Err(Fault::Management(Refusal::WindowOutOfBounds));
        }
        tuning.set("slab_automove_window", window.to_string());
    } else {
        match strict_u32(setting).ok_or(Fault::BadFormat)? {
            level @ 0..=2 => tuning.set("slab_automove", level.to_string()),
            _ => return Err(Fault::UnknownCommand),
        }
    }
    Ok(())
}

/// `lru tune <hot> <warm> <hot factor> <warm factor>`, `lru mode flat|segmented`, `lru temp_ttl
/// <seconds>`
fn lru(context: &Context<'_>, arguments: &[u8]) -> Result<(), Fault> {
    let tuning = &context.shared.tuning;
    match *tokens(arguments) {
        [what, hot, warm, hot_factor, warm_factor, ..] if abbreviates(what, "tune") => {
            let share = |token| strict_u32(token).ok_or(Fault::UnknownCommand);
            let factor = |token| decimal(token).ok_or(Fault::UnknownCommand);
            let (hot, warm) = (share(hot)?, share(warm)?);
            let (hot_factor, warm_factor) = (factor(hot_factor)?, factor(warm_factor)?);
            if hot.saturating_add(warm) > SHARES_MAX {
                return Err(Fault::Management(Refusal::SharesTooLarge));
            }
            if hot_factor <= 0.0 || warm_factor <= 0.0 {
                return Err(Fault::Management(Refusal::FactorTooSmall));
            }
            tuning.set("hot_lru_pct", hot.to_string());
            tuning.set("warm_lru_pct", warm.to_string());
            tuning.set("hot_max_factor", format!("{hot_factor:.2}"));
            tuning.set("warm_max_factor", format!("{warm_factor:.2}"));
        }
        [what, mode, ..] if abbreviates(what, "mode") => match mode {
            b"flat" => tuning.set("lru_segmented", "no".to_owned()),
            b"segmented" => tuning.set("lru_segmented", "yes".to_owned()),
            _ => return Err(Fault::UnknownCommand),
        },
        [what, seconds, ..] if abbreviates(what, "temp_ttl") => {
            let seconds = strict_i32(seconds).ok_or(Fault::UnknownCommand)?;
            let temporary = if seconds < 0 { "no" } else { "yes" };
            tuning.set("temp_lru", temporary.to_owned());
            if seconds >= 0 {
                tuning.set("temporary_ttl", seconds.to_string());
            }
        }
        _ => return Err(Fault::UnknownCommand),
    }
    Ok(())
}

/// `extstore <setting> <value>`
fn extstore(context: &Context<'_>, arguments: &[u8]) -> Result<(), Fault> {
    let tuning = &context.shared.tuning;
    let tokens = tokens(arguments);
    let (&[what, value], rest) = tokens.split_first_chunk().ok_or(Fault::UnknownCommand)?;
    if let [limit, ..] = rest
        && abbreviates(what, "free_memchunks")
    {
        let is_class = strict_u32(value).is_some_and(|class| class < CLASSES);
        return if is_class && strict_u32(limit).is_some() {
            Ok(())
        } else {
            Err(Fault::UnknownCommand)
        };
    }
    let (_, setting) = EXTSTORE_SETTINGS
        .iter()
        .find(|(name, _)| abbreviates(what, name))
        .ok_or(Fault::UnknownCommand)?;
    if *setting == "ext_max_frag" {
        let fraction = decimal(value).ok_or(Fault::UnknownCommand)?;
        tuning.set(setting, format!("{fraction:.2}"));
        return Ok(());
    }
    let number = strict_u32(value).ok_or(Fault::UnknownCommand)?;
    if *setting == "ext_drop_unread" {
        let drop_unread = if number == 0 { "no" } else { "yes" };
        tuning.set(setting, drop_unread.to_owned());
    } else {
        tuning.set(setting, number.to_string());
    }
    Ok(())
}

fn tokens(arguments: &[u8]) -> Vec<&[u8]> {
    Tokens::new(arguments).collect()
}

/// Whether a word is the beginning of a name: memcached asks for no more.
fn abbreviates(word: &[u8], name: &str) -> bool {
    name.as_bytes().starts_with(word)
}

/// A number with a fraction.
fn decimal(token: &[u8]) -> Option<f64> {
    let number: f64 = std::str::from_utf8(token).ok()?.parse().ok()?;
    number.is_finite().then_some(number)
}

/// A second.
const SLEEP_MICROS_MAX: u32 = 1_000_000;

/// With memcached's factors between sizes.
const LARGEST_SLAB_CLASS: i32 = 39;

const WINDOW_MIN: u32 = 3;
const WINDOW_MAX: u32 = 1800;

/// Of a hundred.
const SHARES_MAX: u32 = 80;

/// What `extstore` calls its settings, in memcached's order, and `stats settings`.
const EXTSTORE_SETTINGS: [(&str, &str); 9] = [
    ("item_size", "ext_item_size"),
    ("item_age", "ext_item_age"),
    ("low_ttl", "ext_low_ttl"),
    ("recache_rate", "ext_recache_rate"),
    ("compact_under", "ext_compact_under"),
    ("drop_under", "ext_drop_under"),
    ("max_sleep", "ext_max_sleep"),
    ("max_frag", "ext_max_frag"),
    ("drop_unread", "ext_drop_unread"),
];
