//! Clients of the binary protocol: the `memcache` crate, and the tests that python-binary-memcached
//! brings along.

use std::fmt::Debug;
use std::fs;
use std::path::Path;
use std::process::Command;

use memcache::{Client, CommandError, MemcacheError};

use super::support::{self, Server};
use super::{compares_and_stores, run, servers};

#[test]
fn the_memcache_crate_in_binary() {
    for server in servers() {
        let url = format!("memcache://127.0.0.1:{}?timeout=10&protocol=binary", server.port());
        let client = Client::connect(url).expect("the client connects");
        stores(&client).expect("storing");
        counts_and_compares(&client).expect("counting and comparing");
        looks_after_itself(&client).expect("the rest");
    }
}

#[test]
fn python_binary_memcached() {
    for server in servers() {
        let report = python_tests("test_simple_functions.py", &server);
        assert!(report.contains("119 passed"), "{report}");
    }
}

/// The reference has no users: it asks cyrus-sasl's own database.
#[test]
fn clients_say_who_they_are() {
    let server = Server::start(&support::larder(), &["-S"]);
    let address = format!("alice:secret@127.0.0.1:{}", server.port());
    let url = format!("memcache://{address}?timeout=10&protocol=binary");
    let client = Client::connect(url).expect("the password is right");
    stores(&client).expect("storing");
    let report = python_tests("test_sasl_integration.py", &server);
    assert!(report.contains("3 passed"), "{report}");
}

/// Runs a file of python-binary-memcached's tests against a server, and says what it reports.
fn python_tests(name: &str, server: &Server) -> String {
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients");
    let original = clients.join("binary-memcached/test").join(name);
    let tests = fs::read_to_string(&original)
        .unwrap_or_else(|error| panic!("{}: {error}", original.display()));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("python-{}", server.port()));
    fs::create_dir_all(&folder).expect("the target folder is writable");
    let address = format!("127.0.0.1:{}", server.port());
    // They are written for a server of their own, and for a second one at the usual port.
    let port = server.port().to_string();
    let tests = tests.replace("/tmp/memcached.sock", &address).replace("11211", &port);
    fs::write(folder.join(name), tests).expect("the folder is writable");
    fs::write(
        folder.join("conftest.py"),
        format!("{FIXTURE}    return ({port}, 'alice', 'secret')\n"),
    )
    .expect("the folder is writable");
    let output = run(Command::new(clients.join("venv/bin/python"))
        .current_dir(&folder)
        .env("MEMCACHED_HOST", "127.0.0.1")
        .args(["-m", "pytest", "-c", "/dev/null", "--rootdir", ".", "-p", "no:cacheprovider"])
        .args(["-q", "--disable-warnings", name]));
    let _ = fs::remove_dir_all(&folder);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stores(client: &Client) -> Result<(), MemcacheError> {
    client.flush()?;
    client.set("text", "value", 0)?;
    client.set("number", 42, 100)?;
    assert_eq!(client.get::<String>("text")?.as_deref(), Some("value"));
    assert_eq!(client.get::<i32>("number")?, Some(42));
    assert_eq!(client.get::<String>("missing")?, None);
    assert_refused(&client.add("text", "other", 0), &CommandError::KeyExists);
    assert_refused(&client.replace("missing", "1", 0), &CommandError::KeyNotFound);
    client.add("new", "1", 0)?;
    client.replace("new", "2", 0)?;
    client.append("new", "3")?;
    client.prepend("new", "1")?;
    assert_eq!(client.get::<String>("new")?.as_deref(), Some("123"));
    let large = "v".repeat(900_000);
    client.set("large", large.as_str(), 0)?;
    assert!(client.get::<String>("large")?.is_some_and(|value| value == large));
    let too_large = client.set("large", "v".repeat(2_000_000).as_str(), 0);
    assert_refused(&too_large, &CommandError::ValueTooLarge);
    assert_eq!(client.get::<String>("large")?, None);
    Ok(())
}

fn counts_and_compares(client: &Client) -> Result<(), MemcacheError> {
    client.set("count", 10, 0)?;
    assert_eq!(client.increment("count", 90)?, 100);
    assert_eq!(client.decrement("count", 1000)?, 0);
    assert_eq!(client.increment("begins", 5)?, 0);
    assert_eq!(client.increment("begins", 5)?, 5);
    compares_and_stores(client)
}

fn looks_after_itself(client: &Client) -> Result<(), MemcacheError> {
    assert!(client.touch("a", 100)?);
    assert!(!client.touch("missing", 100)?);
    assert!(client.delete("a")?);
    assert!(!client.delete("a")?);
    assert_eq!(client.version()?[0].1, "1.6.45");
    let stats = client.stats()?;
    assert_eq!(stats[0].1["version"], "1.6.45");
    client.flush()?;
    assert_eq!(client.get::<String>("b")?, None);
    Ok(())
}

fn assert_refused<T: Debug>(result: &Result<T, MemcacheError>, expected: &CommandError) {
    assert!(
        matches!(result, Err(MemcacheError::CommandError(error)) if error == expected),
        "{result:?} rather than {expected:?}"
    );
}

/// What its tests of authentication are given: a port, a user, a password.
const FIXTURE: &str = "import pytest\n\n@pytest.fixture\ndef memcached_sasl():\n";
