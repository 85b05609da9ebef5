//! The conformance table: exact bytes for every rule of the protocols.
//!
//! Every case runs whole, byte by byte, between other commands, and as part of one long pipeline,
//! against larder and against memcached 1.6.45 itself, so that the table is proven as well as the
//! server.

#[path = "conformance/expectation.rs"]
mod expectation;
#[path = "conformance/packet.rs"]
mod packet;
#[path = "conformance/runner.rs"]
mod runner;
mod support;
#[path = "conformance/table.rs"]
mod table;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::{fs, thread};

use runner::Delivery;
use support::Server;
use table::{Case, Peer, Proof, Table};

#[test]
fn larder_answers_the_table() {
    prove(Peer::Larder, &support::larder());
}

#[test]
fn memcached_answers_the_table() {
    if let Some(reference) = support::reference() {
        prove(Peer::Memcached, &reference);
    }
}

#[test]
fn shutdown_ends_the_program_in_order() {
    for command in ["shutdown\r\n", "shutdown graceful\r\n"] {
        let mut server = Server::start(&support::larder(), &["-A"]);
        server.connect().write_all(command.as_bytes()).expect("a fresh connection is writable");
        let mut status = None;
        support::await_true(
            || {
                status = server.process().try_wait().expect("a child can be asked");
                status.is_some()
            },
            "the server goes on",
        );
        assert_eq!(status.and_then(|status| status.code()), Some(0), "{command}");
    }
}

/// Runs every file of the table against one server and fails with all that went wrong.
fn prove(peer: Peer, program: &Path) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    let entries = fs::read_dir(folder).expect("the table is part of the project");
    let paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    let faults: Vec<String> = thread::scope(|scope| {
        let running: Vec<_> = paths
            .iter()
            .map(|path| scope.spawn(|| faults_of(peer, program, &Table::read(path))))
            .collect();
        let finished = running.into_iter().zip(&paths).map(|(thread, path)| (thread.join(), path));
        finished
            .flat_map(|(result, path)| {
                let name = path.file_stem().expect("a file has a name").display().to_string();
                let faults = result.unwrap_or_else(|_| vec!["panicked".to_owned()]);
                faults.into_iter().map(move |fault| format!("{name}: {fault}"))
            })
            .collect()
    });
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// Runs the whole table against one server and collects what went wrong.
fn faults_of(peer: Peer, program: &Path, table: &Table) -> Vec<String> {
    let flags: Vec<&str> = table.flags.iter().map(String::as_str).collect();
    let mut server = Server::start(program, &flags);
    let mut faults = Vec::new();
    for case in &table.cases {
        let deliveries = deliveries(peer, case).iter();
        for &delivery in deliveries.filter(|delivery| !table.alone || !delivery.needs_others()) {
            if let Err(fault) = runner::run(&server, peer, table, case, delivery) {
                faults.push(format!("{} ({delivery:?}): {fault}", case.name));
            }
            if table.restart {
                server = Server::start(program, &flags);
            }
        }
    }
    if !table.alone
        && let Err(fault) = runner::run_as_one(&server, peer, table)
    {
        faults.push(format!("all of them in one pipeline: {fault}"));
    }
    if let Some(status) = server.process().try_wait().expect("a child can be asked") {
        faults.push(format!("the server is gone: {status}"));
    }
    faults
}

/// The ways in which a case runs against a server.
fn deliveries(peer: Peer, case: &Case) -> &'static [Delivery] {
    match (peer, case.proof) {
        (Peer::Larder, _) | (Peer::Memcached, Proof::Full) => {
            &[Delivery::Lockstep, Delivery::Whole, Delivery::Bytewise, Delivery::BetweenOthers]
        }
        (Peer::Memcached, Proof::Lockstep) => &[Delivery::Lockstep],
        (Peer::Memcached, Proof::Skipped) => &[],
    }
}
