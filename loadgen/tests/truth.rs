//! What the load generator makes of a server that lies.

mod scripted;

use std::process::{Command, Output};

use scripted::{Answer, Script, serve};
use serde_json::Value;

fn loadgen(script: Script, args: &str) -> Output {
    let address = serve(script).to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(["--server", &address, "--json"]).args(args.split(' ')).output().unwrap()
}

#[track_caller]
fn found(output: &Output, code: i32) -> Value {
    let (stdout, stderr) = (&output.stdout, String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    serde_json::from_slice(stdout).unwrap_or_else(|_| panic!("{stderr}"))
}

/// The lie ends the run by its name; counted, it does not.
#[track_caller]
fn assert_caught(script: Script, kind: &str, words: &str) {
    let load = "--preload --keys 20 --mix get,set --requests 4000 --connections 3";
    let output = loadgen(script, load);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains(words), "{stderr}");
    let report = found(&loadgen(script, &format!("{load} --count-wrong")), 3);
    let wrong = report["wrong"][kind].as_u64().unwrap();
    assert!(wrong > 0, "{report}");
    assert!(report["requests"].as_u64().unwrap() > 3000, "{report}");
}

#[test]
fn an_honest_server_is_believed() {
    let load = "--preload --keys 20 --mix get,set --requests 4000 --connections 3";
    let report = found(&loadgen(|_, _| {}, load), 0);
    assert_eq!((report["requests"].as_u64(), report["misses"].as_u64()), (Some(4000), Some(0)));
    assert_eq!(
        report["wrong"],
        serde_json::json!({"torn": 0, "foreign": 0, "stale": 0, "violation": 0})
    );
}

#[test]
fn a_changed_byte_is_caught() {
    let lie = |get, answer: &mut Answer| {
        if get == 500 {
            answer.value[50] ^= 1;
        }
    };
    assert_caught(lie, "torn", "a torn value: for key:");
}

#[test]
fn a_value_put_together_from_two_is_caught() {
    let lie = |get, answer: &mut Answer| {
        if get >= 500 && answer.previous.len() == 100 {
            answer.value[60..].copy_from_slice(&answer.previous[60..]);
        }
    };
    assert_caught(lie, "torn", "a torn value: for key:");
}

#[test]
fn a_short_read_is_caught() {
    let lie = |get, answer: &mut Answer| {
        if get == 500 {
            answer.value.truncate(99);
        }
    };
    assert_caught(lie, "torn", "a torn value: for key:");
}

#[test]
fn an_old_version_is_caught() {
    let lie = |get, answer: &mut Answer| {
        if get >= 500 && answer.previous.len() == 100 {
            answer.value = std::mem::take(&mut answer.previous);
        }
    };
    assert_caught(lie, "stale", "was acknowledged");
}

#[test]
fn another_keys_answer_is_caught() {
    let lie = |get, answer: &mut Answer| {
        if get == 500 {
            answer.key = "key:00000000000x".to_owned();
        }
    };
    assert_caught(lie, "violation", "not next among those asked for");
}

#[test]
fn a_reply_that_never_comes_is_counted_as_a_timeout() {
    let drop_one = |get, answer: &mut Answer| answer.dropped = get == 500;
    // Longer than a busy machine keeps an honest answer.
    let load = "--preload --keys 20 --requests 2000 --connections 3 --timeout 3";
    let report = found(&loadgen(drop_one, load), 0);
    assert_eq!(report["timeouts"], 1, "{report}");
    let alone = "--preload --keys 20 --requests 700 --connections 1 --timeout 3";
    let report = found(&loadgen(drop_one, alone), 0);
    assert_eq!((&report["timeouts"], &report["reconnects"]), (&1.into(), &1.into()), "{report}");
    let broken = loadgen(drop_one, &format!("{load} --assert failures==0 --assert p50<2s"));
    assert_eq!(broken.status.code(), Some(4));
    let stderr = String::from_utf8_lossy(&broken.stderr);
    assert!(stderr.contains("not failures==0: 1") && !stderr.contains("p50"), "{stderr}");
}

#[test]
fn what_waits_for_a_closed_connection_is_not_the_load_generators_fault() {
    let hang_up = |get, answer: &mut Answer| answer.closed = get == 1;
    let load = "--preload --keys 20 --requests 150 --connections 1 --pipeline 4 --rate 1000";
    let mut last = Value::Null;
    // A hundred requests are due before the connection is tried again.
    for _ in 0..ATTEMPTS {
        last = found(&loadgen(hang_up, load), 0);
        assert_eq!(last["reconnects"], 1, "{last}");
        let [latency, late] = ["latency", "sent_late"].map(|of| last[of]["max_us"].as_f64());
        if latency > Some(90_000.0) && late < Some(50_000.0) {
            return;
        }
    }
    panic!("{last}");
}

/// Of which one must be undisturbed by what else the machine does.
const ATTEMPTS: u32 = 10;
