//! The load generator's command line: one workload against one running server.

use std::io;
use std::process::ExitCode;

use clap::Parser as _;
use loadgen::args::Args;
use loadgen::{client, debug_build};

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loadgen: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> io::Result<()> {
    let workload = args.workload();
    debug_build::warn(args.server);
    if args.preload {
        client::preload(args.server, &workload)?;
    }
    print!("{}", client::run(args.server, &workload, args.threads(), args.limit())?);
    Ok(())
}
