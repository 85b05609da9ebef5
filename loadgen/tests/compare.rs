//! The comparison in a form too short for its figures to mean anything, so that it does not rot
//! between uses.

mod support;

use std::ffi::OsStr;
use std::process::{Command, Output};

use support::larder;

fn compare<S: AsRef<OsStr>>(args: &[S]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_compare"));
    command.args(["--rounds", "1", "--seconds", "0.05"]).args(args).output().unwrap()
}

#[test]
fn every_case_has_a_figure() {
    let larder = larder();
    let args = ["cpu", "--servers", "larder,null", "--larder"].map(OsStr::new);
    let output = compare(&[&args[..], &[larder.as_os_str()]].concat());
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    let figures: Vec<f64> = stdout
        .lines()
        .filter(|line| line.starts_with("| get") || line.starts_with("| set"))
        .flat_map(|line| line.split('|').skip(2).take(2))
        .map(|cell| cell.split(';').next().unwrap().trim().parse().unwrap())
        .collect();
    assert_eq!(figures.len(), 10, "{stdout}");
    assert!(figures.iter().all(|&micros| micros > 0.0), "{stdout}");
}

#[test]
fn full_caches_have_figures() {
    let larder = larder();
    let args = ["memory", "misses", "--servers", "larder", "--fill-megabytes", "8"];
    let args = [&args[..], &["--replay-requests", "2000", "--larder"]].concat();
    let args: Vec<_> = args.into_iter().map(OsStr::new).chain([larder.as_os_str()]).collect();
    let output = compare(&args);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    let of = |start: &str| -> Vec<f64> {
        let rows = stdout.lines().filter(|line| line.starts_with(start));
        rows.map(|row| row.split('|').nth(2).unwrap().trim().parse().unwrap()).collect()
    };
    let (shares, misses) = (of("| key "), of("| cluster"));
    assert_eq!((shares.len(), misses.len()), (4, 5), "{stdout}");
    assert!(shares.iter().all(|&share| share > 0.1 && share < 1.0), "{stdout}");
    assert!(misses.iter().all(|&percent| percent > 1.0 && percent < 100.0), "{stdout}");
}

#[test]
fn the_load_generator_has_figures_of_its_own() {
    let output = compare(&["loadgen", "--servers", "null"]);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    let rows: Vec<_> = stdout.lines().filter(|line| line.starts_with("| get")).collect();
    assert_eq!(rows.len(), 2, "{stdout}");
    for row in rows {
        for column in [2, 3, 6, 7] {
            let figure: f64 = row.split('|').nth(column).unwrap().trim().parse().unwrap();
            assert!(figure > 0.0, "{row}");
        }
    }
}

#[test]
fn a_server_that_cannot_be_started_is_named() {
    let output = compare(&["--servers", "memcached", "--memcached", "/no/such/memcached"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(stderr.contains("/no/such/memcached"), "{stderr}");
}
