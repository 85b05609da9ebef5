//! The load generator's command line: one workload against running servers.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser as _;
use loadgen::args::Args;
use loadgen::debug_build;
use loadgen::engine::run;
use loadgen::output::plain::Plain;

fn main() -> ExitCode {
    match load(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loadgen: {error}");
            ExitCode::FAILURE
        }
    }
}

fn load(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let plan = Arc::new(args.plan()?);
    for server in &plan.servers {
        debug_build::warn(server);
    }
    if args.preload {
        run::preload(&plan)?;
    }
    let report = run::run(&plan, args.limit(), Duration::from_secs(1), &mut |_, _| {})?;
    print!("{}", Plain { plan: &plan, report: &report });
    Ok(())
}
