//! The configuration as packages and containers bring it: a file, variables, the command line; and
//! the man page and completions that come with it.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[test]
fn debians_file_is_taken_as_it_is() {
    let file = File::new("debian", DEBIAN);
    let printed = print(&["--config", file.path()], &[]);
    assert_has(
        &printed,
        &[
            "--memory-limit=64",
            "--port=11211",
            "--user=memcache",
            "--listen=127.0.0.1",
            "--pidfile=/var/run/memcached/memcached.pid",
        ],
    );
    assert!(!printed.contains("--daemon"), "{printed}");
}

#[test]
fn red_hats_file_is_taken_as_it_is() {
    let file = File::new("red_hat", RED_HAT);
    assert_has(
        &print(&["--config", file.path()], &[]),
        &[
            "--port=11211",
            "--user=nobody",
            "--conn-limit=1024",
            "--memory-limit=64",
            "--listen=127.0.0.1,::1",
        ],
    );
}

#[test]
fn stronger_places_override_weaker_ones() {
    let file = File::new("weakest", "-m 100\n-c 100\n-t 3\n");
    let variables = [("MEMCACHED_MAX_CONNECTIONS", "200"), ("MEMCACHED_THREADS", "4")];
    let printed = print(&["-t", "5", "--config", file.path()], &variables);
    assert_has(&printed, &["--memory-limit=100", "--conn-limit=200", "--threads=5"]);
}

#[test]
fn variables_of_container_images_are_understood() {
    let secret = File::new("cache_size", "128\n");
    let variables = [
        ("MEMCACHED_LISTEN_ADDRESS", "127.0.0.1"),
        ("MEMCACHED_PORT_NUMBER", "11311"),
        ("MEMCACHED_CACHE_SIZE_FILE", secret.path()),
        ("MEMCACHED_CACHE_SIZE", "64"),
        ("MEMCACHED_MAX_CONNECTIONS", "2048"),
        ("MEMCACHED_THREADS", ""),
        ("MEMCACHED_MAX_ITEM_SIZE", "2097152"),
        ("MEMCACHED_EXTRA_FLAGS", "-t 3 -o modern --disable-flush-all"),
        ("LARDER_USER", "nobody"),
        // What Docker and Kubernetes set beside a service of that name.
        ("MEMCACHED_PORT", "tcp://10.0.0.1:11211"),
    ];
    assert_has(
        &print(&[], &variables),
        &[
            "--port=11311",
            "--listen=127.0.0.1",
            "--conn-limit=2048",
            "--memory-limit=128",
            "--max-item-size=2097152",
            "--threads=3",
            "--disable-flush-all",
            "--user=nobody",
            "--extended=modern",
        ],
    );
}

#[test]
fn a_password_is_never_printed() {
    let file = File::new("password", "hidden\n");
    let said =
        "# Clients authenticate by SASL, as a user from the environment (MEMCACHED_PASSWORD).";
    for variables in [
        &[("MEMCACHED_PASSWORD", "hidden")][..],
        &[("MEMCACHED_USERNAME", "alice"), ("MEMCACHED_PASSWORD_FILE", file.path())],
        &[("MEMCACHED_PASSWORD", "hidden"), ("MEMCACHED_EXTRA_FLAGS", "-S")],
    ] {
        let printed = print(&[], variables);
        assert_has(&printed, &[said]);
        assert!(!printed.contains("hidden") && !printed.contains("alice"), "{printed}");
        assert_eq!(check(&[], variables), (0, String::new(), String::new()));
    }
    assert!(!print(&[], &[]).contains("authenticate"));
}

#[test]
fn who_cannot_be_a_user_is_refused_unseen() {
    let long = "hidden".repeat(42);
    let empty = File::new("no_password", "\n");
    let junk = File::new("junk_password", "");
    fs::write(&junk.0, b"hidden\xff").unwrap();
    let no_password = "MEMCACHED_USERNAME: a user needs a password, MEMCACHED_PASSWORD\n";
    let too_long = "MEMCACHED_PASSWORD: name and password have more than 254 bytes together\n";
    let table = [
        (("MEMCACHED_USERNAME", "alice"), ("MEMCACHED_PASSWORD", ""), no_password),
        (("MEMCACHED_USERNAME", "abc"), ("MEMCACHED_PASSWORD", &long), too_long),
        (
            ("MEMCACHED_USERNAME", ""),
            ("MEMCACHED_PASSWORD_FILE", empty.path()),
            "MEMCACHED_PASSWORD: a password cannot be empty\n",
        ),
        (
            ("MEMCACHED_PASSWORD", "hidden"),
            ("MEMCACHED_PASSWORD_FILE", junk.path()),
            "MEMCACHED_PASSWORD: not UTF-8\n",
        ),
    ];
    for (user, password, complaint) in table {
        assert_refused(&[], &[user, password], complaint);
    }
}

#[test]
fn a_password_that_could_not_be_asked_for_is_refused_unseen() {
    let file = File::new("users", "alice:secret\n");
    let password = ("MEMCACHED_PASSWORD", "hidden");
    let text = "ERROR: You cannot allow the ASCII protocol while using SASL.\n";
    let udp = "ERROR: Cannot enable UDP while using binary SASL authentication.\n";
    let two_places = "users come from MEMCACHED_PASSWORD or from a file (-Y, --sasl-pwdb): choose \
                      one of them\n";
    assert_refused(&["-B", "ascii"], &[password], text);
    assert_refused(&["-U", "11211"], &[password], udp);
    assert_refused(&["-Y", file.path()], &[password], two_places);
    assert_refused(&["-S", "--sasl-pwdb", file.path()], &[password], two_places);
    let variables = [password, ("MEMCACHED_SASL_PWDB", file.path())];
    assert_refused(&["-S"], &variables, &format!("MEMCACHED_SASL_PWDB: {two_places}"));
}

#[test]
fn what_is_printed_is_read_to_the_same() {
    let line = ["-v", "-P", "/tmp/with a 'blank", "-D", "#", "-d", "-p", "0", "-o", "modern"];
    let (code, first, stderr) = larder(&[&line[..], &["--print-config"]].concat(), &[]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let file = File::new("printed", &first);
    let (_, second, _) = larder(&["--config", file.path(), "--print-config"], &[]);
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    assert_eq!(lines(&first), lines(&second));
    assert!(first.contains("--daemon\n") && first.contains("-D '#'\n"), "{first}");
}

#[test]
fn what_is_printed_leaves_room_for_stronger_places() {
    let file = File::new("printed_defaults", &print(&[], &[]));
    let printed = |arguments: &[&str], variables: &[_]| {
        assert_eq!(
            print(&[&["--config", file.path()], arguments].concat(), variables),
            print(arguments, variables),
            "{arguments:?} {variables:?}"
        );
    };
    printed(&[], &[]);
    printed(&["-p", "12077"], &[]);
    printed(&["-U", "12077"], &[]);
    printed(&["-l", "127.0.0.1"], &[]);
    printed(&[], &[("MEMCACHED_PORT_NUMBER", "12077")]);
    let default = "# --listen=127.0.0.1:12077";
    assert_has(&print(&["--config", file.path(), "-U", "12077"], &[]), &[default]);
}

#[test]
fn a_check_says_yes_or_names_the_line() {
    let table = [
        ("-m 64\n-p 11211 -l 127.0.0.1\n", 0, ""),
        ("# nothing\n\n", 0, ""),
        ("-m 64\n# a comment\n-t 0\n", 1, ":3: Number of threads must be greater than 0"),
        ("-m 64\n--bogus\n", 64, ":2: unexpected argument '--bogus' found"),
        ("-p\n", 64, ":1: a value is required for '--port <NUM>' but none was supplied"),
        ("maxmemory 64\n", 64, ":1: unknown directive \"maxmemory\""),
        ("-o modern,bogus=1\n", 1, ":1: Illegal suboption \"bogus=1\""),
        ("-P 'x\n", 64, ":1: a quotation without an end"),
        ("-l 127.0.0.1:x\n", 71, ":1: failed to listen on one of interface(s) 127.0.0.1:x"),
        ("--config=x\n", 64, ":1: --config belongs on the command line"),
        ("-V\n", 64, ":1: -h and -V belong on the command line"),
        ("-Z\n", 64, ":1: This server is not built with TLS support."),
    ];
    for (text, code, complaint) in table {
        let file = File::new("checked", text);
        let (actual, stdout, stderr) = check(&["--config", file.path()], &[]);
        assert_eq!((actual, stdout.as_str()), (code, ""), "{text}: {stderr}");
        let place = if code == 0 { "" } else { file.path() };
        assert!(stderr.starts_with(&format!("{place}{complaint}")), "{text}: {stderr}");
        assert_eq!(stderr.is_empty(), code == 0, "{text}: {stderr}");
    }
}

#[test]
fn the_packaged_file_is_sound() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/larder.conf");
    let outcome = check(&["--config", file], &[]);
    assert_eq!(outcome, (0, String::new(), String::new()));
}

#[test]
fn what_cannot_be_read_is_named() {
    let (code, _, stderr) = check(&["--config", "/nonexistent/larder.conf"], &[]);
    let complaint = "cannot read /nonexistent/larder.conf: No such file or directory\n";
    assert_eq!((code, stderr.as_str()), (64, complaint));
    let (code, _, stderr) = larder(&["--config", "/dev/zero"], &[]);
    let complaint = "/dev/zero is too long to be a configuration file\n";
    assert_eq!((code, stderr.as_str()), (64, complaint));
    let (code, _, stderr) = check(&[], &[("MEMCACHED_THREADS", "many")]);
    let complaint = "MEMCACHED_THREADS: Number of threads must be greater than 0\n";
    assert_eq!((code, stderr.as_str()), (1, complaint));
}

#[test]
fn a_byte_order_mark_is_passed_over() {
    let file = File::new("byte_order_mark", "\u{feff}-m 100\n-c 100\n");
    let printed = print(&["--config", file.path()], &[]);
    assert_has(&printed, &["--memory-limit=100", "--conn-limit=100"]);
    let file = File::new("byte_order_mark_within", "-m 100\n\u{feff}-c 100\n");
    assert_eq!(check(&["--config", file.path()], &[]).0, 64);
}

#[test]
fn a_file_of_junk_is_refused_with_its_line() {
    let file = File::new("junk", "");
    fs::write(&file.0, b"-m 64\n\xff\xfe\x00\n").unwrap();
    let (code, _, stderr) = check(&["--config", file.path()], &[]);
    assert_eq!((code, stderr), (64, format!("{}:2: not UTF-8\n", file.path())));
}

#[test]
fn every_option_is_in_the_man_page_and_in_the_completions() {
    let options = options_in_help();
    assert!(options.len() > 30, "{options:?}");
    for kind in ["man", "bash", "zsh", "fish"] {
        let (code, text, stderr) = larder(&["--generate", kind], &[]);
        assert_eq!((code, stderr.as_str()), (0, ""), "{kind}");
        // The man page escapes hyphens, fish writes the names of options without theirs.
        let text = text.replace("\\-", "-").replace(" -l ", " --").replace(" -s ", " -");
        for option in &options {
            assert!(text.contains(option.as_str()), "{option} is not in {kind}");
        }
    }
}

#[test]
fn the_man_page_renders_without_a_warning() {
    let (_, page, _) = larder(&["--generate", "man"], &[]);
    let file = File::new("larder.1", &page);
    for (renderer, arguments) in [
        ("groff", &["-man", "-ww", "-Tutf8", "-z"][..]),
        ("mandoc", &["-T", "lint", "-W", "warning"]),
    ] {
        let output = Command::new(renderer).args(arguments).arg(file.path()).output();
        let output = output
            .unwrap_or_else(|error| panic!("{renderer}: {error}; scripts/setup-tests installs it"));
        let said = [output.stdout, output.stderr].concat();
        assert_eq!(String::from_utf8_lossy(&said), "", "{renderer}");
        assert!(output.status.success(), "{renderer}");
    }
}

#[test]
fn the_completions_are_what_their_shells_read() {
    for (kind, shell) in [("bash", "bash"), ("zsh", "zsh"), ("fish", "fish")] {
        let (_, script, _) = larder(&["--generate", kind], &[]);
        let mut child = Command::new(shell)
            .arg("-n")
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{shell}: {error}; scripts/setup-tests installs it"));
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{shell}: {said}");
    }
}

/// The long names in the help, and the short ones of options that have no long one.
fn options_in_help() -> BTreeSet<String> {
    let (_, help, _) = larder(&["--help"], &[]);
    let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    lines
        .map(|line| {
            let names = line.split([' ', ',', '=', '[']).filter(|word| word.starts_with('-'));
            let names: Vec<&str> = names.collect();
            let long = names.iter().find(|name| name.starts_with("--"));
            long.unwrap_or(&names[0]).trim_end_matches('.').to_owned()
        })
        .collect()
}

/// What `--print-config` prints with these arguments and variables.
fn print(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let arguments = [arguments, &["--print-config"]].concat();
    let (code, stdout, stderr) = larder(&arguments, variables);
    assert_eq!((code, stderr.as_str()), (0, ""), "{arguments:?}");
    stdout
}

/// Nothing but `complaint` is said, whether the configuration is checked, printed or used.
fn assert_refused(arguments: &[&str], variables: &[(&str, &str)], complaint: &str) {
    for purpose in [&["--check-config"][..], &["--print-config"], &[]] {
        let (code, stdout, stderr) = larder(&[arguments, purpose].concat(), variables);
        assert_eq!((code, stdout.as_str(), stderr.as_str()), (64, "", complaint), "{purpose:?}");
    }
}

fn assert_has(printed: &str, lines: &[&str]) {
    for expected in lines {
        assert!(printed.lines().any(|line| line == *expected), "{expected} in {printed}");
    }
}

/// What `--check-config` says to somebody who may be root.
fn check(arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
    larder(&[&["-u", "nobody", "--check-config"], arguments].concat(), variables)
}

/// Runs the program to its end, in an environment of `variables` alone.
fn larder(arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
    command.args(arguments).env_clear().envs(variables.iter().copied());
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// A file of one test's, removed at its end.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("configuration_{name}"));
        fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // What is left lies in the target folder.
        let _ = fs::remove_file(&self.0);
    }
}

/// Debian's file, less most of its comments.
const DEBIAN: &str = "\
# memcached default config file
-d

# Log memcached's output to /var/log/memcached
logfile /var/log/memcached.log

# Be verbose
# -v
-m 64
-p 11211
-u memcache   # as the package has it
-l 127.0.0.1
# -c 1024
-P /var/run/memcached/memcached.pid
";

/// Red Hat's file.
const RED_HAT: &str = "\
PORT=\"11211\"
USER=\"nobody\"
MAXCONN=\"1024\"
CACHESIZE=\"64\"
OPTIONS=\"-l 127.0.0.1,::1\"
";
