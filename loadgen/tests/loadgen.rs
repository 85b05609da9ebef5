//! The load generator against the null server, each as a program of its own.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Output};

use loadgen::process::Server;

fn null_server() -> Server {
    let program = Path::new(env!("CARGO_BIN_EXE_null-server"));
    Server::start(program, &["--listen", "127.0.0.1:0"], None).unwrap()
}

fn loadgen(server: SocketAddr, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(["--server", &server.to_string(), "--keys", "1000"]).args(args);
    command.output().unwrap()
}

#[track_caller]
fn assert_succeeds(output: &Output, line: &str) {
    let (stdout, stderr) = texts(output);
    assert!(output.status.success(), "{stdout}{stderr}");
    assert!(stdout.lines().any(|found| found == line), "no `{line}` in:\n{stdout}");
}

#[track_caller]
fn assert_fails(output: &Output, message: &str) {
    let (stdout, stderr) = texts(output);
    assert!(!output.status.success(), "{stdout}");
    assert!(stderr.contains(message), "no `{message}` in:\n{stderr}");
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn every_shape_of_load_is_answered_in_full() {
    let server = null_server();
    let shapes: [&[&str]; 5] = [
        &[],
        &["--pipeline", "16"],
        &["--keys-per-get", "100"],
        &["--connections", "7", "--threads", "3", "--pipeline", "4"],
        &["--pipeline", "2000", "--keys-per-get", "50", "--connections", "1"],
    ];
    for shape in shapes {
        let common = ["--values", "constant", "--requests", "6000", "--preload"];
        let output = loadgen(server.address, &[&common, shape].concat());
        let keys = if shape.contains(&"100") {
            600_000
        } else if shape.contains(&"50") {
            300_000
        } else {
            6_000
        };
        assert_succeeds(&output, &format!("keys found     {keys} of {keys} (100.00 %)"));
    }
}

#[test]
fn sets_are_answered_too() {
    let args = ["--mix", "set", "--requests", "1000", "--pipeline", "10"];
    assert_succeeds(&loadgen(null_server().address, &args), "keys found     0 of 0 (0.00 %)");
}

#[test]
fn a_debug_build_says_that_its_numbers_mean_nothing() {
    let args = ["--values", "constant", "--requests", "1"];
    let (_, stderr) = texts(&loadgen(null_server().address, &args));
    assert_eq!(stderr.contains("debug build"), cfg!(debug_assertions), "{stderr}");
}

#[test]
fn a_server_that_lies_is_caught() {
    // The null server has one value for every key, which no server that stores values has.
    let output = loadgen(null_server().address, &["--seconds", "5"]);
    assert_fails(&output, "wrong reply: a torn value: for key:");
}

#[test]
fn a_server_that_hangs_up_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        // The first connections ask for the build and for figures, the third is the load.
        for _ in 0..3 {
            let (mut socket, _) = listener.accept().unwrap();
            let mut request = [0; 64];
            let bytes = socket.read(&mut request).unwrap();
            assert!(bytes > 0);
            socket.write_all(b"E").unwrap();
        }
    });
    let output = loadgen(address, &["--connections", "1", "--seconds", "5", "--timeout", "0.2"]);
    server.join().unwrap();
    assert_fails(&output, "closed");
}

#[test]
fn runs_are_written_down_and_added_up() {
    let server = null_server();
    let folder = std::env::temp_dir().join(format!("loadgen-files-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (log, report) = (file("a.hlog"), file("a.html"));
    let common = ["--values", "constant", "--requests", "1000", "--log", &log];
    assert!(
        loadgen(server.address, &[&common[..], &["--report", &report]].concat()).status.success()
    );
    let merge = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_loadgen")).arg("merge").args(args).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", texts(&output).1);
        texts(&output).0
    };
    let hgrm = file("both.hgrm");
    let both = merge(&[&log, &log, "--json", "--hgrm", &hgrm]);
    let both: serde_json::Value = serde_json::from_str(&both).unwrap();
    assert_eq!(
        (both["requests"].as_u64(), both["latency"]["count"].as_u64()),
        (Some(2000), Some(2000))
    );
    assert!(std::fs::read_to_string(&hgrm).unwrap().contains("Total count    =         2000"));
    assert!(std::fs::read_to_string(&report).unwrap().contains("Latency by percentile"));
    assert!(merge(&[&log]).contains("requests       1000 in"));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn two_servers_are_compared_and_a_rate_is_found() {
    let null_server = concat!(env!("CARGO_BIN_EXE_null-server"), " --listen 127.0.0.1:0");
    let load = ["--values", "constant", "--requests", "500", "--connections", "5"];
    let output = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["compare", "--a", null_server, "--b", null_server, "--rounds", "3"])
        .args(load)
        .output()
        .unwrap();
    let (stdout, stderr) = texts(&output);
    assert!(output.status.success(), "{stderr}");
    for figure in ["requests/s", "latency p99, µs", "server CPU, µs a request", "server memory"] {
        assert!(stdout.contains(&format!("| {figure}")), "{stdout}");
    }
    let search =
        ["--values", "constant", "--find-slo", "p50=60s", "--rate", "60m", "--timeout", "0.05"];
    let output =
        loadgen(self::null_server().address, &[&search[..], &["--seconds", "0.02"]].concat());
    let (stdout, stderr) = texts(&output);
    assert!(stderr.contains("60000000/s: "), "{stdout}{stderr}");
}

#[test]
fn the_man_page_and_completions_are_there() {
    let print = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_loadgen")).args(args).output().unwrap();
        assert!(output.status.success());
        texts(&output).0
    };
    let page = print(&["man"]);
    assert!(page.contains(".TH loadgen 1"));
    // Every page that is referred to is there.
    let referred: Vec<_> = page.split("\nloadgen\\-").skip(1).collect();
    for rest in &referred {
        let command = rest.split('(').next().unwrap();
        let name = format!(".TH loadgen-{command} 1");
        assert!(print(&["man", command]).contains(&name), "{name}");
    }
    assert_eq!(referred.len(), 5);
    for shell in ["bash", "zsh", "fish"] {
        assert!(print(&["completions", shell]).contains("find-slo"), "{shell}");
    }
    assert!(print(&["--help"]).contains("Exit codes: 0 well"));
}

#[test]
fn what_cannot_be_is_named_before_the_run() {
    let server = null_server();
    let folder = std::env::temp_dir().join(format!("loadgen-none-{}", std::process::id()));
    let nowhere = folder.join("file").to_str().unwrap().to_owned();
    for option in ["--report", "--log", "--hgrm"] {
        // Longer than anyone would wait for a typing error.
        let args = ["--values", "constant", "--seconds", "86400", option, &nowhere];
        assert_fails(&loadgen(server.address, &args), &format!("{nowhere}: No such file"));
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    let output = command.args(["--server", &nowhere]).output().unwrap();
    assert_fails(&output, &format!("{nowhere}: No such file"));
}

#[test]
fn files_are_there_even_when_nobody_reads_the_summary() {
    let server = null_server();
    let report = std::env::temp_dir().join(format!("loadgen-unread-{}.html", std::process::id()));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(["--server", &server.address.to_string(), "--values", "constant"]);
    command.args(["--requests", "100", "--report"]).arg(&report).stdout(writer);
    command.output().unwrap();
    let page = std::fs::read_to_string(&report).unwrap();
    std::fs::remove_file(&report).unwrap();
    assert!(page.contains("Latency by percentile"));
}

#[test]
fn as_many_connections_as_the_system_allows_are_opened() {
    let server = null_server();
    let address = server.address.to_string();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -Sn 64 && exec \"$@\"", "sh", env!("CARGO_BIN_EXE_loadgen")]);
    command.args(["--server", &address, "--values", "constant", "--connections", "100"]);
    let output = command.args(["--requests", "500"]).output().unwrap();
    assert_succeeds(&output, "keys found     500 of 500 (100.00 %)");
}

#[test]
fn nobody_left_to_read_is_no_reason_to_panic() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    command.args(["synthesise", "--requests", "1000"]).stdout(writer);
    let output = command.output().unwrap();
    assert_eq!((output.status.code(), texts(&output).1.as_str()), (Some(1), ""));
}
