//! One module for each subcommand: it prints, and owns the exit code.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod bootstrap;
mod proxy_env;
mod run;
mod serve;

use crate::{
    cli::{Cli, Command, ServeArgs},
    telemetry,
};
use anyhow::anyhow;
use std::process::ExitCode;

/// Usage or I/O.
const FAILED: u8 = 2;

/// Runs a command to its end.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    let result = match cli.command {
        Command::Serve(args) => blocking(&args, serve::serve(&args)),
        Command::Run(args) => blocking(&args.serve, run::run(&args)),
        Command::Bootstrap(args) => bootstrap::print(args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("exeat: {error:#}");
        ExitCode::from(FAILED)
    })
}

fn blocking(
    args: &ServeArgs,
    command: impl Future<Output = anyhow::Result<ExitCode>>,
) -> anyhow::Result<ExitCode> {
    telemetry::init(args.log_format, &args.log).map_err(|error| anyhow!(error))?;
    let runtime = tokio::runtime::Runtime::new()?;
    let result = runtime.block_on(command);
    // A scan of a hanging file system must not hold the process.
    runtime.shutdown_background();
    result
}
