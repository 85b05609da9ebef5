//! A store that is found again in its file. A kill is a copy of the file, taken while the store is
//! in use: that is what a process leaves that ends at this moment.

#[path = "support/store.rs"]
mod store;
#[path = "support/random.rs"]
mod random;
#[path = "support/scratch.rs"]
mod scratch;

use larder::clock::Seconds;
use larder::store::{Chores, Cursor, Expiry, Handle, MemoryFileOptions, Options, Store};
use random::Random;
use scratch::Scratch;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::{Hit, Op, Reply, When, apply};

#[test]
fn all_is_there_again_after_a_stop_and_after_a_kill() {
    let scratch = Scratch::new();
    for is_killed in [false, true] {
        let file = scratch.file("memory");
        let _first = fs::remove_file(&file);
        let store = open(&file, MEMORY_BYTES, NOW).expect("a new file");
        assert_eq!(store.recovery().map(|found| found.items), Some(0));
        let mut handle = store.register();
        let ops: Vec<Op> = (0..300).map(varied).collect();
        ops.iter().for_each(|op| assert!(is_stored(&apply(&mut handle, NOW, op)), "{op:?}"));
        // Some twice, some not any more; some asked for, some marked.
        for number in (0..300).step_by(3) {
            apply(&mut handle, NOW, &varied(number));
        }
        for number in (0..290).step_by(7) {
            apply(&mut handle, NOW, &Op::Delete { key: key_of(number) });
            apply(&mut handle, NOW, &Op::Get { key: key_of(number + 1) });
            apply(&mut handle, NOW, &Op::Touch { key: key_of(number + 2), expiry: NOW + 99 });
            let touch = Op::GetAndTouch { key: key_of(number + 1), expiry: NOW + 98 };
            apply(&mut handle, NOW, &touch);
            apply(&mut handle, NOW, &Op::Invalidate { key: key_of(number + 3), cas: Some(77) });
            apply(&mut handle, NOW, &Op::Lease { key: key_of(number + 4) });
            apply(&mut handle, NOW, &Op::Abandon { key: key_of(number), value: vec![1; 5000] });
            for op in changes(number) {
                assert!(is_stored(&apply(&mut handle, NOW, &op)), "{:?}", op.key());
            }
        }
        let before = everything(&mut handle, NOW);
        assert!(before.values().filter(|hit| hit.value.len() > 3 * SEGMENT_BYTES).count() > 5);
        assert_eq!(store.totals().evictions, 0);
        let file = if is_killed { kill(store, handle, &file) } else { stop(store, handle, file) };
        let store = open(&file, MEMORY_BYTES, NOW).expect("the same again");
        store.check();
        let found = store.recovery().expect("there is a file").clone();
        assert_eq!((found.discarded, found.items), (None, before.len() as u64));
        assert_eq!((found.segments_damaged, found.incomplete, found.evicted), (0, 0, 0));
        let mut handle = store.register();
        assert_eq!(everything(&mut handle, NOW), before);
        let totals = store.totals();
        assert_eq!((totals.items, totals.items_bytes), (found.items, found.items_bytes));
        let newest = before.values().map(|hit| hit.cas).max();
        let Reply::Stored { cas } = apply(&mut handle, NOW, &varied(0)) else { panic!("no room") };
        assert!(Some(cas) > newest, "a cas is not given twice");
    }
}

/// A file that goes through many hands at random, stops and kills, under limits that change.
#[test]
fn versions_grow_over_restarts() {
    let scratch = Scratch::new();
    let mut file = scratch.file("memory");
    let mut newest = 0;
    for round in 0..12_u32 {
        let store = open(&file, MEMORY_BYTES, NOW).expect("found");
        let mut handle = store.register();
        for number in 0..round {
            let Reply::Stored { cas } = apply(&mut handle, NOW, &varied(number)) else {
                panic!("no room")
            };
            assert!(cas > newest, "{cas} after {newest} in round {round}");
            newest = cas;
        }
        file = if round % 3 == 0 { stop(store, handle, file) } else { kill(store, handle, &file) };
    }
}

#[test]
fn what_expires_meanwhile_is_gone_and_stays_so() {
    let scratch = Scratch::new();
    let file = scratch.file("memory");
    let store = open(&file, MEMORY_BYTES, NOW).expect("a new file");
    let mut handle = store.register();
    for (number, expiry) in [(0, NOW + 10), (1, NOW + 11), (2, 0), (3, NOW + 30)] {
        apply(&mut handle, NOW, &set(number, b"value", expiry));
    }
    let file = kill(store, handle, &file);
    let store = open(&file, MEMORY_BYTES, NOW + 10).expect("found");
    assert_eq!(store.recovery().map(|found| (found.items, found.over)), Some((3, 1)));
    let mut handle = store.register();
    let mut housekeeper = store.housekeeper();
    assert!(found(&mut handle, NOW + 10, 1).is_some());
    assert!(found(&mut handle, NOW + 11, 1).is_none());
    while housekeeper.step(NOW + 30) != Chores::None {}
    assert_eq!((store.totals().items, store.totals().swept), (1, 2), "the sweeper knows");
    drop(housekeeper);
    // The clock has gone back meanwhile: what is over stays over.
    let file = stop(store, handle, file);
    let store = open(&file, MEMORY_BYTES, NOW).expect("found");
    let mut handle = store.register();
    let there = [0, 1, 2, 3].map(|number| found(&mut handle, NOW, number).is_some());
    assert_eq!(there, [false, false, true, false]);
}

#[test]
fn what_was_flushed_or_deleted_does_not_come_back() {
    let scratch = Scratch::new();
    for is_killed in [false, true] {
        let file = scratch.file("memory");
        let _first = fs::remove_file(&file);
        let store = open(&file, MEMORY_BYTES, NOW).expect("a new file");
        let mut handle = store.register();
        (0..50).for_each(|number| drop(apply(&mut handle, NOW, &varied(number))));
        apply(&mut handle, NOW, &Op::Flush { at: 0 });
        (0..10).for_each(|number| drop(apply(&mut handle, NOW, &varied(number))));
        (0..5)
            .for_each(|number| drop(apply(&mut handle, NOW, &Op::Delete { key: key_of(number) })));
        apply(&mut handle, NOW, &Op::Flush { at: NOW + 20 });
        let file = if is_killed { kill(store, handle, &file) } else { stop(store, handle, file) };
        let store = open(&file, MEMORY_BYTES, NOW + 1).expect("found");
        assert_eq!(store.recovery().map(|found| found.items), Some(5));
        let mut handle = store.register();
        let there = everything(&mut handle, NOW + 1);
        let keys: Vec<_> = (5..10).map(key_of).collect();
        assert!(there.len() == 5 && keys.iter().all(|key| there.contains_key(key)));
        // The flush that was pending is still to come.
        let file = stop(store, handle, file);
        let store = open(&file, MEMORY_BYTES, NOW + 20).expect("found");
        let mut handle = store.register();
        assert!(everything(&mut handle, NOW + 20).is_empty());
        assert!(is_stored(&apply(&mut handle, NOW + 20, &varied(1))));
        store.check();
    }
}

#[test]
fn another_limit_keeps_what_fits() {
    let scratch = Scratch::new();
    let file = scratch.file("memory");
    let store = open(&file, 4 * MEMORY_BYTES, NOW).expect("a new file");
    let mut handle = store.register();
    let value = [7; 900];
    let count = 1500;
    (0..count).for_each(|number| drop(apply(&mut handle, NOW, &set(number, &value, 0))));
    assert_eq!(store.totals().evictions, 0);
    let all = everything(&mut handle, NOW);
    let file = stop(store, handle, file);
    for memory_bytes in [MEMORY_BYTES, 16 * MEMORY_BYTES, MEMORY_BYTES / 2] {
        let store = open(&file, memory_bytes, NOW).expect("found");
        let recovery = store.recovery().expect("a file").clone();
        let mut handle = store.register();
        let there = everything(&mut handle, NOW);
        assert_eq!(there.len() as u64, recovery.items);
        assert!(there.iter().all(|(key, hit)| all[key] == *hit));
        let kept_bytes = there.len() * 940;
        assert!(kept_bytes > MEMORY_BYTES / 3, "{kept_bytes} of {memory_bytes}: {recovery:?}");
        assert!(kept_bytes <= memory_bytes * 5 / 4, "{kept_bytes} of {memory_bytes}");
        // The rest of the way, as whoever stores goes it.
        let mut housekeeper = store.housekeeper();
        for number in 0..200 {
            apply(&mut handle, NOW, &set(count + number, &value, 0));
            housekeeper.step(NOW);
        }
        let totals = store.totals();
        assert!(totals.segments_in_use <= totals.segments + 4, "{totals:?}");
        store.check();
        (0..200).for_each(|number| {
            apply(&mut handle, NOW, &Op::Delete { key: key_of(count + number) });
        });
        drop(housekeeper);
        stop(store, handle, file.clone());
    }
}

/// A process may end before it marks as dead what it has replaced or moved. Here none of these
/// marks were made: of all versions and copies there are, the newest counts, and the others are
/// gone for good.
#[test]
fn of_several_versions_and_copies_the_newest_counts() {
    let scratch = Scratch::new();
    let (file, memory_bytes) = (scratch.file("memory"), 3 * MEMORY_BYTES / 8);
    let store = open(&file, memory_bytes, NOW).expect("a new file");
    let mut handle = store.register();
    let mut housekeeper = store.housekeeper();
    let mut random = Random(3);
    for step in 0..3000_u32 {
        let number = random.below(100);
        let bytes = random.below(900);
        let bytes = if number < 5 { 6 * SEGMENT_BYTES + bytes } else { bytes };
        let value: Vec<u8> = step.to_le_bytes().into_iter().cycle().take(bytes).collect();
        assert!(is_stored(&apply(&mut handle, NOW, &set(number, &value, 0))));
        housekeeper.step(NOW);
    }
    let before = everything(&mut handle, NOW);
    let totals = store.totals();
    assert!(totals.evictions == 0 && totals.moved > 40, "{totals:?}");
    drop(housekeeper);
    let file = kill(store, handle, &file);
    let mut bytes = fs::read(&file).expect("there");
    let revived = bytes[PAGE_BYTES..].chunks_mut(SEGMENT_BYTES).map(revive).sum::<u32>();
    assert!(revived > 60, "{revived}");
    write_anew(&file, &bytes);
    let store = open(&file, memory_bytes, NOW).expect("found");
    store.check();
    assert_eq!(store.recovery().map(|found| found.segments_damaged), Some(0));
    let mut handle = store.register();
    assert_eq!(everything(&mut handle, NOW), before);
    (0..100).for_each(|number| drop(apply(&mut handle, NOW, &Op::Delete { key: key_of(number) })));
    let file = kill(store, handle, &file);
    let store = open(&file, memory_bytes, NOW).expect("found");
    assert_eq!(store.recovery().map(|found| found.items), Some(0));
}

#[test]
fn a_smaller_limit_gives_room_back_to_the_file_system() {
    let scratch = Scratch::new();
    let file = scratch.file("memory");
    let store = open(&file, 4 * MEMORY_BYTES, NOW).expect("a new file");
    let mut handle = store.register();
    (0..3000).for_each(|number| drop(apply(&mut handle, NOW, &set(number, &[7; 1000], 0))));
    let allocated = || fs::metadata(&file).expect("there").blocks() * 512;
    assert!(allocated() > 3 * MEMORY_BYTES as u64, "{}", allocated());
    handle.batch(NOW).set_memory_bytes(MEMORY_BYTES).expect("less than before");
    assert!(allocated() < MEMORY_BYTES as u64 * 5 / 4, "{}", allocated());
    store.check();
    // What was given back is not taken again before it is needed.
    let before = everything(&mut handle, NOW);
    let file = stop(store, handle, file.clone());
    let store = open(&file, 4 * MEMORY_BYTES, NOW).expect("found");
    assert!(allocated() < MEMORY_BYTES as u64 * 5 / 4, "{}", allocated());
    let mut handle = store.register();
    assert_eq!(everything(&mut handle, NOW), before);
    (3000..4800).for_each(|number| drop(apply(&mut handle, NOW, &set(number, &[7; 1000], 0))));
    assert_eq!(store.totals().evictions, 0);
    store.check();
}

/// Whatever bit of a file is turned: no panic, no broken invariant, and nothing but what was once
/// stored for a key.
#[test]
fn a_bit_that_turns_is_noticed() {
    let scratch = Scratch::new();
    let file = scratch.file("memory");
    let store = open(&file, MEMORY_BYTES / 4, NOW).expect("a new file");
    let mut handle = store.register();
    let mut stored: HashMap<Vec<u8>, Vec<Vec<u8>>> = HashMap::new();
    for number in (0..24).chain(0..8) {
        let op = varied(number * 5 + 7);
        apply(&mut handle, NOW, &op);
        let Op::Store { key, value, .. } = op else { panic!("varied stores") };
        stored.entry(key).or_default().push(value);
    }
    let before = everything(&mut handle, NOW).len();
    let file = kill(store, handle, &file);
    let bytes = fs::read(&file).expect("it is there");
    let (mut refused, mut unharmed, mut some) = (0, 0, 0);
    let mut random = Random(7);
    let interesting: Vec<usize> = (0..bytes.len())
        .filter(|&at| at < 640 || bytes[at] != 0)
        .filter(|at| at % SEGMENT_BYTES < 100 || at % 61 == 0)
        .collect();
    let flipped = scratch.file("flipped");
    for at in interesting {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1 << random.below(8);
        write_anew(&flipped, &bytes);
        let Ok(store) = open(&flipped, MEMORY_BYTES / 4, NOW) else {
            refused += 1;
            continue;
        };
        store.check();
        let mut handle = store.register();
        let there = everything(&mut handle, NOW);
        for (key, hit) in &there {
            let once = stored.get(key).is_some_and(|values| values.contains(&hit.value));
            assert!(once, "byte {at}: {key:?}");
        }
        unharmed += usize::from(there.len() == before);
        some += usize::from(!there.is_empty());
        (0..20).for_each(|number| drop(apply(&mut handle, NOW, &varied(number))));
        store.check();
    }
    assert!(refused > 0 && unharmed > 0 && some > unharmed, "{refused} {unharmed} {some}");
}

#[test]
fn a_file_may_end_anywhere() {
    let scratch = Scratch::new();
    let file = scratch.file("memory");
    let store = open(&file, MEMORY_BYTES / 4, NOW).expect("a new file");
    let mut handle = store.register();
    (0..40).for_each(|number| drop(apply(&mut handle, NOW, &varied(number))));
    let before = everything(&mut handle, NOW);
    let file = stop(store, handle, file);
    let bytes = fs::read(&file).expect("it is there");
    let short = scratch.file("short");
    for length in (0..bytes.len()).step_by(997).chain([1, 8, 511, 4096, 4097, bytes.len()]) {
        write_anew(&short, &bytes[..length]);
        let Ok(store) = open(&short, MEMORY_BYTES / 4, NOW) else {
            assert!(length < 8, "{length}: what can be told to be larder's is used");
            continue;
        };
        store.check();
        let mut handle = store.register();
        for (key, hit) in everything(&mut handle, NOW) {
            assert_eq!(before.get(&key), Some(&hit), "{length}");
        }
        (0..20).for_each(|number| drop(apply(&mut handle, NOW, &varied(number))));
        store.check();
    }
}

#[test]
fn a_value_that_was_half_received_is_not_found() {
    let scratch = Scratch::new();
    let file = scratch.file("memory");
    let store = open(&file, MEMORY_BYTES, NOW).expect("a new file");
    let (mut handle, mut other) = (store.register(), store.register());
    apply(&mut handle, NOW, &set(1, b"old", 0));
    let copied = scratch.file("copy");
    for value_bytes in [100, 5 * SEGMENT_BYTES] {
        let mut batch = handle.batch(NOW);
        let mut draft =
            batch.reserve(&key_of(1), value_bytes, 0, Expiry::At(0)).expect("there is room");
        batch.fill(&mut draft, &vec![9; value_bytes / 2]);
        apply(&mut other, NOW, &set(2, b"beside", 0));
        fs::copy(&file, &copied).expect("room");
        batch.discard(draft);
        let again = open(&copied, MEMORY_BYTES, NOW).expect("found");
        again.check();
        let mut handle = again.register();
        assert_eq!(found(&mut handle, NOW, 1).as_deref(), Some(&b"old"[..]));
        assert_eq!(found(&mut handle, NOW, 2).as_deref(), Some(&b"beside"[..]));
        assert_eq!(again.recovery().map(|found| found.items), Some(2));
    }
}

#[test]
fn who_may_not_use_a_file_is_told_why() {
    let scratch = Scratch::new();
    let file = scratch.file("memory");
    let refused = |file: &Path| open(file, MEMORY_BYTES, NOW).expect_err("refused").to_string();
    fs::write(&file, b"somebody's letters").expect("room");
    assert!(refused(&file).contains("it is not larder's"), "{}", refused(&file));
    assert_eq!(fs::read(&file).expect("there"), b"somebody's letters");
    fs::remove_file(&file).expect("there");
    assert!(refused(&scratch.file("")).contains("memory file"), "a folder");
    let store = open(&file, MEMORY_BYTES, NOW).expect("a new file");
    assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
    assert!(refused(&file).contains("in use by another process"), "{}", refused(&file));
    drop(store);
    open(&file, MEMORY_BYTES, NOW).expect("it is free again");
}

#[test]
fn what_cannot_be_used_is_discarded_and_said_so() {
    let scratch = Scratch::new();
    let file = scratch.file("memory");
    let fill = || {
        let _there = fs::remove_file(&file);
        let store = open(&file, MEMORY_BYTES, NOW).expect("a new file");
        let mut handle = store.register();
        apply(&mut handle, NOW, &set(1, b"value", 0));
        stop(store, handle, file.clone());
    };
    let discarded = |now, older_than| {
        let options =
            MemoryFileOptions { path: file.clone(), discard_older_than_seconds: older_than };
        let store = Store::open(&self::options(MEMORY_BYTES), &options, now).expect("opened");
        let found = store.recovery().expect("a file");
        (found.items, found.discarded.clone().unwrap_or_default())
    };
    fill();
    assert_eq!(discarded(NOW + 60, Some(60)), (1, String::new()));
    assert_eq!(discarded(NOW + 121, Some(60)), (0, "it was not used for 61 seconds".to_owned()));
    for (at, reason) in [(9, "damaged"), (513, "its state is damaged")] {
        fill();
        let mut bytes = fs::read(&file).expect("there");
        bytes[at] ^= 1;
        fs::write(&file, bytes).expect("room");
        assert!(discarded(NOW, None).1.contains(reason), "{at}");
        let next = discarded(NOW, None);
        assert_eq!(next, (0, String::new()), "the next start has nothing to complain of");
    }
}

fn open(file: &Path, memory_bytes: usize, now: Seconds) -> io::Result<Arc<Store>> {
    let file = MemoryFileOptions { path: file.to_owned(), discard_older_than_seconds: None };
    Store::open(&options(memory_bytes), &file, now)
}

fn options(memory_bytes: usize) -> Options {
    Options { memory_bytes, segment_bytes: SEGMENT_BYTES, shards_log2: 1, evict: true }
}

/// Takes the mark of the dead from all entries of a segment; as `store/item.rs` has them. Returns
/// how many there were.
fn revive(segment: &mut [u8]) -> u32 {
    let word = |bytes: &[u8], at: usize| {
        u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
    };
    let is_used = segment[..4] != [0; 4];
    let used_bytes = if is_used { word(segment, 24) as usize } else { 0 };
    let mut revived = 0;
    let mut at = 64;
    while at < used_bytes {
        let (bits, value_bytes) = (word(segment, at + 8), word(segment, at + 16) as usize);
        let (key_bytes, options_bytes) = ((bits >> 8 & 0xff) as usize, (bits & 12) as usize);
        let bytes = match bits >> 4 & 3 {
            0 => 20 + options_bytes + key_bytes + value_bytes,
            1 => 32 + options_bytes + key_bytes + word(segment, at + 20) as usize,
            _ => 40 + value_bytes,
        };
        revived += bits & 1;
        segment[at + 8] &= !1;
        at += bytes.next_multiple_of(8);
    }
    revived
}

/// A file in the place of another. (One that is written over may be waited for by the disk.)
fn write_anew(file: &Path, bytes: &[u8]) {
    let _first = fs::remove_file(file);
    fs::write(file, bytes).expect("room");
}

/// Ends the use of a store in order.
fn stop(store: Arc<Store>, handle: Handle, file: PathBuf) -> PathBuf {
    drop(handle);
    store.close().expect("the disk takes it");
    drop(store);
    file
}

/// What a process leaves that ends now: another file.
fn kill(store: Arc<Store>, handle: Handle, file: &Path) -> PathBuf {
    let killed = file.with_extension("killed");
    let copy = file.with_extension("copy");
    fs::copy(file, &copy).expect("room");
    fs::rename(&copy, &killed).expect("the same folder");
    drop((store, handle));
    killed
}

/// All that there is.
fn everything(handle: &mut Handle, now: Seconds) -> HashMap<Vec<u8>, Hit> {
    let mut keys = Vec::new();
    let mut cursor = Cursor::default();
    while handle.batch(now).visit_next(&mut cursor, |item| keys.push(item.key().to_vec())) {}
    let mut hit = |key: &[u8]| match store::seen(&handle.batch(now).peek(key)) {
        Reply::Hit(hit) => hit,
        other => panic!("{other:?} where there is an item"),
    };
    keys.into_iter().map(|key| (key.clone(), hit(&key))).collect()
}

fn found(handle: &mut Handle, now: Seconds, number: u32) -> Option<Vec<u8>> {
    match store::seen(&handle.batch(now).peek(&key_of(number))) {
        Reply::Hit(hit) => Some(hit.value),
        _ => None,
    }
}

fn is_stored(reply: &Reply) -> bool {
    matches!(reply, Reply::Stored { .. })
}

/// An item that tells its number, of any size, with or without flags and an end.
fn varied(number: u32) -> Op {
    let bytes = match number % 20 {
        0 => 0,
        1 => 4 * SEGMENT_BYTES + number as usize,
        2 => SEGMENT_BYTES / 2 + number as usize,
        rest => rest as usize * 9,
    };
    let value = number.to_le_bytes().into_iter().cycle().take(bytes).collect();
    let expiry = if number.is_multiple_of(4) { NOW + 1000 } else { 0 };
    let flags = if number.is_multiple_of(5) { number } else { 0 };
    Op::Store { when: When::Always, key: key_of(number), value, flags, expiry }
}

/// Some of all the ways to change what is there.
fn changes(number: u32) -> [Op; 6] {
    let key = |away| key_of(number + away);
    let store = |when, away, value: &[u8]| {
        let value = value.to_vec();
        Op::Store { when, key: key(away), value, flags: 3, expiry: 0 }
    };
    [
        store(When::Absent, 3000, b"41"),
        Op::Increment { key: key(3000), by: 1 },
        store(When::Cas(77), 3, b"compared"),
        store(When::Present, 4, b"replaced"),
        Op::Append { key: key(5), value: b"behind".to_vec() },
        Op::Prepend { key: key(6), value: b"before".to_vec() },
    ]
}

fn set(number: u32, value: &[u8], expiry: Seconds) -> Op {
    let (key, value) = (key_of(number), value.to_vec());
    Op::Store { when: When::Always, key, value, flags: 0, expiry }
}

fn key_of(number: u32) -> Vec<u8> {
    format!("key {number}").into_bytes()
}

const NOW: Seconds = 1_800_000_000;
const MEMORY_BYTES: usize = 1 << 20;
const SEGMENT_BYTES: usize = 4096;
/// What is before the segments.
const PAGE_BYTES: usize = 4096;
