//! The load generator's command line.

use std::error::Error;
use std::io::{self, BufWriter, Write as _};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory as _, Parser as _};
use clap_complete::Shell;
use loadgen::args::{Cli, Command, CompareArgs, MergeArgs, SynthesiseArgs};
use loadgen::compare::{self, Table};
use loadgen::engine::error;
use loadgen::load::{self, Outcome};
use loadgen::output::html::comparison;
use loadgen::output::log;
use loadgen::synthesise::synthesise;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.command {
        None => load::load(&cli.run),
        Some(Command::Synthesise(args)) => write_trace(args),
        Some(Command::Merge(args)) => merge(args),
        Some(Command::Compare(args)) => compare(args),
        Some(Command::Man { command }) => write_man_page(command.as_deref()),
        Some(Command::Completions { shell }) => write_completions(*shell),
    };
    done.unwrap_or_else(|error| failed(error.as_ref()))
}

/// Says what went wrong, unless nobody is left to read on, as behind `| head`.
fn failed(error: &(dyn Error + 'static)) -> ExitCode {
    let kind = error.downcast_ref().map(io::Error::kind);
    if kind != Some(io::ErrorKind::BrokenPipe) {
        eprintln!("loadgen: {error}");
    }
    match error.downcast_ref() {
        Some(error::Error::Wrong(_)) => ExitCode::from(load::EXIT_WRONG),
        _ => ExitCode::FAILURE,
    }
}

fn write_trace(args: &SynthesiseArgs) -> Result<ExitCode, Box<dyn Error>> {
    let workload = Arc::new(args.workload.workload()?);
    let mut output = BufWriter::new(io::stdout().lock());
    synthesise(&workload, args.requests, args.rate, &mut output)?;
    output.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn merge(args: &MergeArgs) -> Result<ExitCode, Box<dyn Error>> {
    let mut sum = Outcome::default();
    for path in &args.logs {
        let named = |error| format!("{}: {error}", path.display());
        let (open, report) = std::fs::read(path).and_then(|log| log::read(&log)).map_err(named)?;
        sum.open |= open;
        sum.report.merge(&report);
    }
    load::tell(&sum, &args.output)
}

fn compare(args: &CompareArgs) -> Result<ExitCode, Box<dyn Error>> {
    let output = &args.run.output;
    output.try_files()?;
    let compared = compare::compare(args)?;
    load::write(output.report.as_deref(), |file| {
        let page = comparison::page(&compared, &output.title, &load::command_line());
        file.write_all(page.as_bytes())
    })?;
    match output.json {
        true => writeln!(io::stdout(), "{:#}", serde_json::json!(compared.figures))?,
        false => write!(io::stdout(), "{}", Table(&compared.figures))?,
    }
    for warning in compared.warnings() {
        eprintln!("warning: {warning}");
    }
    Ok(ExitCode::SUCCESS)
}

fn write_completions(shell: Shell) -> Result<ExitCode, Box<dyn Error>> {
    let mut completions = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "loadgen", &mut completions);
    io::stdout().write_all(&completions)?;
    Ok(ExitCode::SUCCESS)
}

/// Of the program, or of one of its commands.
fn write_man_page(command: Option<&str>) -> Result<ExitCode, Box<dyn Error>> {
    let mut page = Cli::command().disable_help_subcommand(true);
    page.build();
    if let Some(command) = command {
        let found = page.find_subcommand(command);
        page = found.ok_or_else(|| format!("there is no command `{command}`"))?.clone();
    }
    clap_mangen::Man::new(page).render(&mut io::stdout())?;
    Ok(ExitCode::SUCCESS)
}
