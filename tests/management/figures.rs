//! What `stats` shows: the same names in the same order as memcached, and readable by its tools.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Client, programs};
use crate::support::Server;

#[test]
fn fields_are_memcacheds() {
    let topics = ["", " settings", " items", " slabs", " conns", " sizes", " extstore"];
    let shown: Vec<_> = programs()
        .iter()
        .map(|program| {
            let server = Server::start(program, &[]);
            let mut client = Client::new(&server);
            client.ask("set a 0 0 1\r\n1\r\n", "STORED\r\n");
            topics.map(|topic| names(&client.ask(format!("stats{topic}\r\n"), "END\r\n")))
        })
        .collect();
    assert!(shown[0][0].len() > 90 && shown[0][1].len() > 70, "{shown:?}");
    for program in &shown {
        for (topic, (names, expected)) in topics.iter().zip(program.iter().zip(&shown[0])) {
            assert_eq!(names, expected, "stats{topic}");
        }
    }
}

/// What the command line sets is shown, and what it switches off is not counted.
#[test]
fn settings_are_memcacheds_whatever_the_command_line() {
    for line in COMMAND_LINES {
        let flags: Vec<&str> = line.split_whitespace().collect();
        let shown: Vec<_> = programs()
            .iter()
            .map(|program| {
                let server = Server::start(program, &flags);
                let mut client = Client::new(&server);
                client.ask("set a 0 0 1\r\n1\r\n", "STORED\r\n");
                let settings = client.ask("stats settings\r\n", "END\r\n");
                let topics = ["", " items", " slabs"]
                    .map(|topic| names(&client.ask(format!("stats{topic}\r\n"), "END\r\n")));
                // One worker serves a UDP socket here, and several do there.
                let is_equal = |setting: &String| !setting.contains(" num_threads_per_udp ");
                (settings.into_iter().filter(is_equal).collect::<Vec<_>>(), topics)
            })
            .collect();
        for (settings, topics) in &shown {
            assert!(settings.len() > 70);
            assert_eq!((settings, topics), (&shown[0].0, &shown[0].1), "{line}");
        }
    }
}

const COMMAND_LINES: [&str; 11] = [
    "-t 4",
    "-t 4 -U -1",
    "-t 4 -o no_modern",
    "-t 4 -o modern,lru_maintainer,slab_reassign,slab_automove",
    "-t 4 -o no_lru_crawler,no_lru_maintainer,no_slab_reassign,no_slab_automove",
    "-t 4 -o no_lru_crawler,lru_crawler,no_lru_maintainer,lru_maintainer,hash_algorithm=xxh3",
    "-t 4 -o hash_algorithm=jenkins,hashpower=20,slab_automove=2,slab_automove_ratio=0.5 \
     -o slab_automove_window=20,slab_automove_freeratio=0.02,slab_chunk_max=256 \
     -o lru_crawler_sleep=200,lru_crawler_tocrawl=9,tail_repair_time=20,temporary_ttl=30 \
     -o hot_lru_pct=10,warm_lru_pct=30,hot_max_factor=0.5,warm_max_factor=3 \
     -o worker_logbuf_size=128,watcher_logbuf_size=64,read_buf_mem_limit=8,idle_timeout=9",
    "-t 4 -o ext_item_size=100,ext_item_age=9,ext_low_ttl=2,ext_recache_rate=7,ext_max_frag=0.5 \
     -o ext_wbuf_size=8,ext_compact_under=3,ext_drop_under=2,ext_max_sleep=9,ext_drop_unread",
    "-t 4 -o no_chunked_items,no_maxconns_fast,inline_ascii_resp,track_sizes",
    "-f 1.5 -n 64 -t 3 -R 7 -b 99 -c 77 -I 2m -M -C -F -X -A -v -D . -B ascii",
    "-t 4 -m 100 -a 777 -W",
];

/// What one of the two starts over with, the other does not keep.
#[test]
fn a_reset_starts_over_what_memcacheds_does() {
    let shown: Vec<_> = programs()
        .iter()
        .map(|program| {
            let server = Server::start(program, &["-m", "8", "-I", "512k", "-M"]);
            use_everything(&server);
            let mut client = Client::new(&server);
            let used = noughts(&mut client);
            client.ask("stats reset\r\n", "RESET\r\n");
            let noughts = noughts(&mut client);
            let reset: Vec<_> =
                noughts.iter().filter(|name| !used.contains(name)).cloned().collect();
            (reset, noughts)
        })
        .collect();
    for (reset, _) in &shown {
        // Some six are the work of memcached's threads, which may not have run yet.
        assert!(reset.len() > 20, "{reset:?}");
        for (_, noughts) in &shown {
            let kept: Vec<_> = reset.iter().filter(|name| !noughts.contains(name)).collect();
            assert!(kept.is_empty(), "{kept:?}");
        }
    }
}

/// Has the server count whatever it can be made to count in no time.
fn use_everything(server: &Server) {
    let mut client = Client::new(server);
    // From now on memcached has room for small items, however large the others.
    client.ask("set a 0 0 1\r\n1\r\n", "STORED\r\n");
    let value = "v".repeat(400_000);
    for number in 0..30 {
        client.send(format!("set item{number} 0 0 400000 noreply\r\n{value}\r\n"));
    }
    client.send("flush_all noreply\r\nget item0\r\nset a 0 0 1\r\n1\r\nget a b\r\ngat 0 a b\r\n");
    client.send("incr a 1\r\nincr b 1\r\ndecr a 1\r\ndecr b 1\r\ncas a 0 0 1 1\r\n1\r\n");
    client.send("cas b 0 0 1 1\r\n1\r\nms a 1 T0\r\n1\r\nmg a v\r\nmg c N0 v\r\nme a\r\n");
    client.send("set old 0 -1 1\r\n1\r\nget old\r\nset x 0 0 9999999\r\n");
    client.send("y".repeat(9_999_999));
    client.send("\r\ngets a\r\ndelete b\r\ndelete c\r\nmn\r\n");
    client.ask("", "MN\r\n");
}

/// The names of the figures that are nought.
fn noughts(client: &mut Client) -> Vec<String> {
    let topics = ["", " items", " slabs"];
    let lines = topics.map(|topic| client.ask(format!("stats{topic}\r\n"), "END\r\n")).concat();
    let names = lines.iter().filter_map(|line| line.strip_suffix(" 0\r\n"));
    // A thread of memcached's moves items from list to list when it likes.
    names.map(without_class).filter(|name| !name.starts_with("items:number")).collect()
}

/// The two put items into classes as they like.
fn without_class(name: &str) -> String {
    let parts = name.split(':').map(|part| part.trim_start_matches("STAT "));
    parts.filter(|part| part.parse::<u8>().is_err()).collect::<Vec<_>>().join(":")
}

/// The perl script that comes with memcached.
#[test]
fn memcached_tool_reads_them() {
    let tool = "target/reference/root/usr/share/memcached/scripts/memcached-tool";
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join(tool);
    if !tool.exists() {
        return;
    }
    for server in servers() {
        let mut client = Client::new(&server);
        client.ask("set key 7 0 5\r\nhello\r\n", "STORED\r\n");
        let address = format!("127.0.0.1:{}", server.port());
        let run = |mode: &str| run(Command::new("perl").arg(&tool).args([address.as_str(), mode]));
        let display = run("display");
        assert!(display.contains("Item_Size") && display.lines().count() == 2, "{display}");
        assert!(run("stats").contains("limit_maxbytes"));
        assert!(run("settings").contains("maxbytes"));
        assert!(run("sizes").contains("disabled"));
        let dump = run("dump");
        assert!(dump.contains("add key 7 0 5\r\nhello"), "{dump}");
    }
}

/// libmemcached's programs.
#[test]
fn memcstat_and_memcdump_read_them() {
    for server in servers() {
        let mut client = Client::new(&server);
        client.ask("set key 7 0 5\r\nhello\r\n", "STORED\r\n");
        let address = format!("--servers=127.0.0.1:{}", server.port());
        let report = run(Command::new("memcstat").arg(&address));
        assert!(report.contains("curr_items: 1"), "{report}");
        assert_eq!(run(Command::new("memcdump").arg(&address)).trim(), "key");
    }
}

fn servers() -> impl Iterator<Item = Server> {
    let programs: Vec<PathBuf> = programs();
    programs.into_iter().map(|program| Server::start(&program, &[]))
}

/// The names of figures, numbers in them struck out.
fn names(lines: &[String]) -> Vec<String> {
    let name = |line: &String| {
        let name = line.strip_prefix("STAT ").and_then(|line| line.split(' ').next());
        let name = name.unwrap_or_else(|| panic!("{line}"));
        name.chars().map(|letter| if letter.is_ascii_digit() { '#' } else { letter }).collect()
    };
    let mut names: Vec<String> = lines.iter().map(name).collect();
    for name in &mut names {
        // A connection's number has one digit or several.
        while name.contains("##") {
            *name = name.replace("##", "#");
        }
    }
    if names.iter().any(|name| name.starts_with("#:")) {
        // Connections come in no particular order.
        names.sort();
    }
    names
}

/// Runs a program to its end and returns what it prints.
fn run(command: &mut Command) -> String {
    let output = command.output();
    let output = output
        .unwrap_or_else(|error| panic!("{command:?}: {error}; scripts/setup-tests installs it"));
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}
