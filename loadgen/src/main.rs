//! The load generator's command line: one workload against running servers.

use std::error::Error;
use std::io::{self, BufWriter, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser as _;
use loadgen::args::{Cli, Command, RunArgs, SynthesiseArgs};
use loadgen::debug_build;
use loadgen::engine::run;
use loadgen::output::json;
use loadgen::output::plain::Plain;
use loadgen::synthesise::synthesise;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.command {
        None => load(&cli.run),
        Some(Command::Synthesise(args)) => write_trace(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loadgen: {error}");
            ExitCode::FAILURE
        }
    }
}

fn load(args: &RunArgs) -> Result<(), Box<dyn Error>> {
    let plan = Arc::new(args.plan()?);
    for server in &plan.servers {
        debug_build::warn(server);
    }
    if args.preload {
        run::preload(&plan)?;
    }
    let (warm_up, limit) = (args.warm_up_requests, args.limit());
    let report = run::run(&plan, warm_up, limit, INTERVAL, &mut |_, _| {})?;
    match args.json {
        true => println!("{:#}", json::report(&plan, &report)),
        false => print!("{}", Plain { plan: &plan, report: &report }),
    }
    Ok(())
}

fn write_trace(args: &SynthesiseArgs) -> Result<(), Box<dyn Error>> {
    let workload = Arc::new(args.workload.workload()?);
    let mut output = BufWriter::new(io::stdout().lock());
    synthesise(&workload, args.requests, args.rate, &mut output)?;
    Ok(output.flush()?)
}

const INTERVAL: Duration = Duration::from_secs(1);
