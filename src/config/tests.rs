//! The command line from words to meaning, without a process.

use super::*;

fn config(line: &str) -> Result<Config, Failure> {
    Config::new(&args(line), None)
}

fn args(line: &str) -> Args {
    let words = std::iter::once("larder").chain(line.split_whitespace());
    Args::parse_words(words).unwrap_or_else(|error| panic!("{line}: {error}"))
}

/// Command lines as they stand in unit files, images and start scripts. `-l` is loopback where the
/// original names a host that the machine running this test does not know.
pub(super) const CARRIED_OVER: &[&str] = &[
    "",
    // Debian: /etc/memcached.conf as its start script passes it on.
    "-d -m 64 -p 11211 -u memcache -l 127.0.0.1 -P /var/run/memcached/memcached.pid",
    "-m 64 -p 11211 -u memcache -l 127.0.0.1 -l ::1 -P /var/run/memcached/memcached.pid",
    // Red Hat: PORT, USER, MAXCONN, CACHESIZE and OPTIONS of /etc/sysconfig/memcached.
    "-p 11211 -u memcached -m 64 -c 1024 -l 127.0.0.1,::1",
    "-u memcached -p 11211 -m 1024 -c 4096 -o modern,drop_privileges",
    // Container images and charts.
    "-m 64 -c 1024 -o modern -v -I 2m",
    "--memory-limit=64 --conn-limit=1024 --threads=4 --max-item-size=1m",
    "-u root -v --port=11211 --listen=0.0.0.0 -m 128 -c 1024 -t 4",
    "-m 64 -o modern -v",
    "-m=128 -I=4m -c=2048",
    "-m 1024 -I 5m -c 1024 -t 8 -R 200 -b 4096 -v",
    "--extended=modern,track_sizes --verbose",
    // Forms that getopt takes.
    "-vvp 11211",
    "-m64 -c512 -t2 -I4M",
    "-vvv -A -M -C -F -X -W -k -r -d",
    "-p -1 -l *",
    "-p 0 -U 0",
    "-B auto",
    "-B ascii --verbose=3 --max-item 8m",
    "-m 64 -m 128",
    "-o lru_maintainer,lru_crawler,hash_algorithm=murmur3 -o slab_reassign,slab_automove=2",
    "-o maxconns_fast,hashpower=20,hot_lru_pct=30,warm_lru_pct=30",
    "-o hot_max_factor=0.1,warm_max_factor=2.0",
    "-o no_modern,no_hashexpand,no_lru_crawler,temporary_ttl=60,idle_timeout=0,tail_repair_time=10",
    "-f 1.08 -n 72 -L -N 4 -t 4 -D : -a 0777",
    "-c 65536 -l 127.0.0.1:11212;[::1]:11213",
    // What memcached does not look at closely.
    "-N 4",
    "-m 64MB -I 1048576b -b 100000000000 -l proto[auto]:127.0.0.1",
    "-o temporary_ttl=-1,lru_crawler_sleep=x,hashpower=20x,idle_timeout=-1",
];

#[test]
fn takes_command_lines_written_for_memcached() {
    for line in CARRIED_OVER {
        if let Err(failure) = config(line) {
            panic!("{line}: {failure}");
        }
    }
}

#[test]
fn defaults_are_memcacheds_but_for_threads_and_loopback() {
    let config = config("").unwrap();
    assert_eq!(config.memory_bytes, 64 << 20);
    assert_eq!(config.item_bytes_max, 1 << 20);
    assert_eq!(config.connections_max, 1024);
    assert_eq!(config.backlog, 1024);
    assert_eq!(config.requests_per_turn, 20);
    assert_eq!(config.tcp_port, 11211);
    assert_eq!(config.listen_typed, None);
    assert_eq!(config.threads, thread::available_parallelism().unwrap().get());
    assert!(config.listen.iter().all(|listener| listener.address.ip().is_loopback()));
    assert!(config.evict && config.cas && config.flush_allowed && config.dump_allowed);
    assert!(!config.shutdown_allowed && !config.daemonize);
    assert_eq!(config.input_buffer_bytes, 65536);
    assert_eq!(config.output_limit_bytes, 256 << 10);
}

#[test]
fn every_option_reaches_its_field() {
    let config = config(
        "-p 5 -l 127.0.0.1 -l 127.0.0.2 -t 3 -m 100 -c 7 -b -2 -I 4k -R 9 -MCFXAdkr -u someone \
         -P file -vv --verbose",
    )
    .unwrap();
    let listen: Vec<SocketAddr> =
        vec!["127.0.0.1:5".parse().unwrap(), "127.0.0.2:5".parse().unwrap()];
    let addresses: Vec<_> = config.listen.iter().map(|listener| listener.address).collect();
    assert_eq!(addresses, listen);
    assert_eq!(config.tcp_port, 5);
    assert_eq!(config.listen_typed.as_deref(), Some("127.0.0.1,127.0.0.2"));
    assert_eq!((config.threads, config.memory_bytes), (3, 100 << 20));
    assert_eq!((config.connections_max, config.backlog), (7, -2));
    assert_eq!((config.item_bytes_max, config.requests_per_turn), (4096, 9));
    assert!(!config.evict && !config.cas && !config.flush_allowed && !config.dump_allowed);
    assert!(config.shutdown_allowed && config.daemonize && config.lock_memory);
    assert!(config.core_files);
    assert_eq!(config.user.as_deref(), Some("someone"));
    assert_eq!(config.pid_file, Some(PathBuf::from("file")));
    assert_eq!(config.verbosity, 3);
}

#[test]
fn sizes_take_units() {
    let table = [
        ("64", MIB, Some(64 << 20)),
        ("64m", MIB, Some(64 << 20)),
        ("4g", MIB, Some(4 << 30)),
        (" 4G", MIB, Some(4 << 30)),
        ("1500", 1, Some(1500)),
        ("2k", 1, Some(2048)),
        ("64MB", 1, Some(64 << 20)),
        ("64b", 1, Some(64)),
        ("", 1, None),
        ("b", 1, None),
        ("64bm", 1, None),
        ("m", 1, None),
        ("-1", 1, None),
        ("1.5g", 1, None),
        ("18446744073709551615g", 1, None),
    ];
    for (typed, bare_unit_bytes, expected) in table {
        assert_eq!(parse_size(typed, bare_unit_bytes), expected, "{typed:?}");
    }
}

#[test]
fn bad_values_earn_memcacheds_complaints() {
    let half = "Cannot set item size limit higher than 1/2 of memory max.";
    let usage: &[(&str, &str)] = &[
        ("-m 0", half),
        ("-m 1", half),
        ("-I 33m", half),
        ("-m 4096 -I 1025m", "Cannot set item size limit higher than a gigabyte."),
        ("-I 512", "Item max size cannot be less than 1024 bytes."),
        ("-p 65536", "ERROR: Invalid port number 65536."),
        ("-N 9 -t 2", "Number of napi_ids(9) cannot be greater than number of threads(2)"),
        ("-N 5", "Number of napi_ids(5) cannot be greater than number of threads(4)"),
        ("-m 1.5g", "-m takes megabytes, or a size such as 4g, not \"1.5g\""),
        ("-Z", "This server is not built with TLS support."),
        (
            "-B foo",
            "Invalid value for binding protocol: foo\n -- should be one of auto, binary, or ascii",
        ),
    ];
    for (line, complaint) in usage {
        assert_eq!(config(line).err(), Some(Failure::usage(*complaint)), "{line}");
    }
    let value: &[(&str, &str)] = &[
        ("-b x", "-b takes a number, not \"x\""),
        ("-t 0", THREADS_COMPLAINT),
        ("-t -1", THREADS_COMPLAINT),
        ("-t abc", THREADS_COMPLAINT),
        ("-c 0", CONNECTIONS_COMPLAINT),
        ("-c -5", CONNECTIONS_COMPLAINT),
        ("-R 0", REQUESTS_COMPLAINT),
        ("-f 1", "Factor must be greater than 1"),
        ("-f x", "Factor must be greater than 1"),
        ("-n 0", "Chunk size must be greater than 0"),
        ("-N 0", "Maximum number of NAPI IDs must be greater than 0"),
        ("-o modern,bogus", "Illegal suboption \"bogus\""),
    ];
    for (line, complaint) in value {
        assert_eq!(config(line).err(), Some(Failure::value(*complaint)), "{line}");
    }
}

#[test]
fn item_limits_are_inclusive() {
    assert_eq!(config("-m 4096 -I 1024m").unwrap().item_bytes_max, 1 << 30);
    assert_eq!(config("-m 2 -I 1m").unwrap().item_bytes_max, 1 << 20);
    assert_eq!(config("-I 1k").unwrap().item_bytes_max, 1024);
    assert_eq!(config("-I 1.5m").unwrap().item_bytes_max, 1 << 20);
}

#[test]
fn refuses_what_it_cannot_serve() {
    let failure = config("-Z").expect_err("there is no such thing yet");
    assert!(failure.to_string().contains("not built with TLS"), "{failure}");
}

#[test]
fn a_memory_file_may_be_too_old() {
    let memory_file = |line| config(line).map(|config| config.memory_file);
    assert!(memory_file("").unwrap().is_none());
    let file = memory_file("-e /dev/shm/larder").unwrap().expect("a file");
    assert_eq!(
        (file.path.to_str(), file.discard_older_than_seconds),
        (Some("/dev/shm/larder"), None)
    );
    let file = memory_file("--memory-file f --discard-older-than 60").unwrap().expect("a file");
    assert_eq!(file.discard_older_than_seconds, Some(60));
    let complaint = "--discard-older-than takes a number of seconds, not \"1h\"";
    assert_eq!(memory_file("-e f --discard-older-than 1h").err(), Some(Failure::value(complaint)));
    let complaint = "--discard-older-than goes with -e (--memory-file)";
    assert_eq!(memory_file("--discard-older-than 60").err(), Some(Failure::usage(complaint)));
}

#[test]
fn names_what_has_no_effect() {
    let config = config("-f 1.1 -L -o modern,maxconns_fast stray").unwrap();
    assert_eq!(config.without_effect, ["-f", "-L", "-o modern", "\"stray\""]);
}

#[test]
fn tcp_off_listens_nowhere() {
    assert!(config("-p 0 -l 127.0.0.1").unwrap().listen.is_empty());
    assert_eq!(config("-p -1 -l 127.0.0.1").unwrap().listen[0].address.port(), 0);
}

#[test]
fn tiny_keeps_the_relations() {
    Config::tiny().check();
}
