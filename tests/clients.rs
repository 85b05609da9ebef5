//! Real clients: the `memcache` crate, libmemcached's `memccapable`, pymemcache's own integration
//! tests, meta-memcache, and nutcracker in between.
//!
//! Each runs against larder and against memcached 1.6.45, which proves the test.
//! `scripts/setup-tests` installs those that are not Rust; without them the tests fail and say so.

#[path = "clients/binary.rs"]
mod binary;
#[path = "clients/nutcracker.rs"]
mod nutcracker;
mod support;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use memcache::{Client, CommandError, MemcacheError};
use support::Server;

#[test]
fn the_memcache_crate() {
    for server in servers() {
        let url = format!("memcache://127.0.0.1:{}?timeout=10&protocol=ascii", server.port());
        let client = Client::connect(url).expect("the client connects");
        stores(&client).expect("storing");
        counts(&client).expect("counting");
        compares_and_stores(&client).expect("comparing and storing");
        looks_after_itself(&client).expect("the rest");
    }
}

#[test]
fn memccapable() {
    for server in servers() {
        let (passed, failed, report) = capabilities(&server, "-a", "ascii");
        assert_eq!(failed, OUTDATED_EXPECTATIONS, "{report}");
        assert_eq!(passed, 25, "{report}");
        let (passed, failed, report) = capabilities(&server, "-b", "binary");
        assert!(failed.is_empty(), "{report}");
        assert_eq!(passed, 27, "{report}");
    }
}

#[test]
fn pymemcache() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients");
    for server in servers() {
        let output = run(Command::new(folder.join("venv/bin/python"))
            .current_dir(folder.join("pymemcache"))
            .args(["-m", "pytest", "-c", "/dev/null", "--rootdir", ".", "-p", "no:cacheprovider"])
            .args(["-q", "--disable-warnings", "-m", "integration", "--server", "127.0.0.1"])
            .args(["--port", &server.port().to_string(), "pymemcache/test/test_integration.py"]));
        let report = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{report}");
        // Its three tests over TLS skip themselves where no certificate is.
        assert!(report.contains("100 passed, 3 skipped"), "{report}");
    }
}

#[test]
fn meta_memcache() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for server in servers() {
        let output = run(Command::new(root.join("target/clients/venv/bin/python"))
            .current_dir(root.join("tests/clients"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("MEMCACHED_ADDRESS", format!("127.0.0.1:{}", server.port()))
            .args(["-m", "pytest", "-q", "-p", "no:cacheprovider", "test_meta_memcache.py"]));
        let report = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{report}");
        assert!(report.contains("20 passed"), "{report}");
    }
}

/// larder, and memcached where it can be had.
fn servers() -> impl Iterator<Item = Server> {
    let programs: Vec<PathBuf> =
        std::iter::once(support::larder()).chain(support::reference()).collect();
    programs.into_iter().map(|program| Server::start(&program, &[]))
}

/// Runs a client program to its end.
fn run(command: &mut Command) -> Output {
    let output = command.output();
    output.unwrap_or_else(|error| panic!("{command:?}: {error}; scripts/setup-tests installs it"))
}

/// How many of memccapable's tests of a protocol pass, which of them do not, and what it says.
fn capabilities(server: &Server, option: &str, protocol: &str) -> (usize, Vec<String>, String) {
    let port = server.port().to_string();
    let arguments = [option, "-t", "10", "-h", "127.0.0.1", "-p", &port];
    let output = run(Command::new("memccapable").args(arguments));
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    let fields: Vec<&str> = report.split([' ', '\n']).filter(|field| !field.is_empty()).collect();
    // Each test prints its name, of words, and the verdict if that is good.
    let verdicts = fields.join(" ").replace("[pass]", "[pass]\n");
    let verdicts = verdicts.replace(protocol, &format!("\n{protocol}"));
    let lines = verdicts.lines().map(|line| line.trim().to_owned());
    let (passed, failed): (Vec<String>, Vec<String>) =
        lines.filter(|line| line.starts_with(protocol)).partition(|line| line.ends_with("[pass]"));
    (passed.len(), failed, report)
}

fn stores(client: &Client) -> Result<(), MemcacheError> {
    client.flush()?;
    client.set("text", "value", 0)?;
    client.set("number", 42, 100)?;
    assert_eq!(client.get::<String>("text")?.as_deref(), Some("value"));
    assert_eq!(client.get::<i32>("number")?, Some(42));
    assert_eq!(client.get::<String>("missing")?, None);
    // The client does not tell its caller of NOT_STORED: only the values do.
    client.add("text", "other", 0)?;
    assert_eq!(client.get::<String>("text")?.as_deref(), Some("value"));
    client.replace("missing", "1", 0)?;
    assert_eq!(client.get::<String>("missing")?, None);
    client.add("new", "1", 0)?;
    client.replace("new", "2", 0)?;
    client.append("new", "3")?;
    client.prepend("new", "1")?;
    assert_eq!(client.get::<String>("new")?.as_deref(), Some("123"));
    let large = "v".repeat(900_000);
    client.set("large", large.as_str(), 0)?;
    assert!(client.get::<String>("large")?.is_some_and(|value| value == large));
    let too_large = client.set("large", "v".repeat(2_000_000).as_str(), 0);
    assert!(matches!(too_large, Err(MemcacheError::ServerError(_))), "{too_large:?}");
    assert_eq!(client.get::<String>("large")?, None);
    Ok(())
}

fn counts(client: &Client) -> Result<(), MemcacheError> {
    client.set("count", 10, 0)?;
    assert_eq!(client.increment("count", 90)?, 100);
    assert_eq!(client.decrement("count", 1)?, 99);
    assert_eq!(client.decrement("count", 1000)?, 0);
    let missing = client.increment("missing", 1);
    let not_found = CommandError::KeyNotFound;
    assert!(matches!(missing, Err(MemcacheError::CommandError(error)) if error == not_found));
    Ok(())
}

fn compares_and_stores(client: &Client) -> Result<(), MemcacheError> {
    type Item = (Vec<u8>, u32, Option<u64>);
    client.set("a", "1", 0)?;
    client.set("b", "2", 0)?;
    let items: HashMap<String, Item> = client.gets(&["a", "missing", "b"])?;
    assert_eq!(items.len(), 2);
    let (value, flags, cas) = &items["a"];
    assert_eq!((value.as_slice(), *flags), (&b"1"[..], 0));
    let cas = cas.expect("gets brings the unique number");
    assert!(client.cas("a", "3", 0, cas)?);
    assert!(!client.cas("a", "4", 0, cas)?);
    assert_eq!(client.get::<String>("a")?.as_deref(), Some("3"));
    Ok(())
}

fn looks_after_itself(client: &Client) -> Result<(), MemcacheError> {
    assert!(client.touch("a", 100)?);
    assert!(!client.touch("missing", 100)?);
    assert!(client.delete("a")?);
    assert!(!client.delete("a")?);
    assert_eq!(client.version()?[0].1.trim_end(), "1.6.45");
    // Not its stats(): it stops reading at the first line and takes the others for later answers.
    client.flush()?;
    assert_eq!(client.get::<String>("b")?, None);
    Ok(())
}

/// These want an error for a `delete` with a further argument, which memcached has come to ignore.
const OUTDATED_EXPECTATIONS: [&str; 2] = ["ascii delete", "ascii delete noreply"];
