//! What the tests start.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// larder's program, as its source is now: beside this package's programs, built if need be.
pub(crate) fn larder() -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_loadgen")).parent().unwrap();
    let profile = folder.file_name().and_then(OsStr::to_str).unwrap().replace("debug", "dev");
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--package", "larder", "--bin", "larder"]);
    build.args(["--profile", &profile, "--target-dir"]).arg(folder.parent().unwrap());
    assert!(build.status().unwrap().success(), "{build:?}");
    folder.join("larder")
}
