//! The comparison in a form too short for its figures to mean anything, so that it does not rot
//! between uses.

use std::process::{Command, Output};

fn compare(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_compare"));
    command.args(["--rounds", "1", "--seconds", "0.05"]).args(args).output().unwrap()
}

#[test]
fn every_case_has_a_figure() {
    let output = compare(&["cpu", "--servers", "null"]);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    let figures: Vec<f64> = stdout
        .lines()
        .filter(|line| line.starts_with("| get") || line.starts_with("| set"))
        .map(|line| line.split('|').nth(2).unwrap().split(';').next().unwrap().trim())
        .map(|figure| figure.parse().unwrap())
        .collect();
    assert_eq!(figures.len(), 5, "{stdout}");
    assert!(figures.iter().all(|&micros| micros > 0.0), "{stdout}");
}

#[test]
fn a_server_that_cannot_be_started_is_named() {
    let output = compare(&["--servers", "memcached", "--memcached", "/no/such/memcached"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(stderr.contains("/no/such/memcached"), "{stderr}");
}
