//! One module for each subcommand: it prints, and owns the exit code.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod bootstrap;
mod check;
mod diff;
mod dump;
mod proxy_env;
mod run;
mod serve;
mod shipped;
mod status;
mod wait;
mod why;

use crate::{
    admin::proto::admin_client::AdminClient,
    cli::{Cli, Command, ServeArgs},
    telemetry,
};
use anyhow::{Context, anyhow};
use std::{
    io::{self, Write},
    net::SocketAddr,
    process::ExitCode,
};
use tonic::transport::{Channel, Endpoint};

/// Something was found, or did not come true.
const FINDINGS: u8 = 1;
/// Usage or I/O.
const FAILED: u8 = 2;

/// Runs a command to its end.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    let result = match cli.command {
        Command::Serve(args) => blocking(&args, serve::serve(&args)),
        Command::Run(args) => blocking(&args.serve, run::run(&args)),
        Command::Why(args) => why::why(&args),
        Command::Check(args) => check::check(&args),
        Command::Diff(args) => diff::diff(&args),
        Command::Dump(args) => dump::dump(&args),
        Command::Presets(args) => shipped::presets_command(&args),
        Command::Env(args) => shipped::env(&args),
        Command::Schema(_) => shipped::schema(),
        Command::Completions(args) => shipped::completions(&args),
        Command::Bootstrap(args) => bootstrap::print(args),
        Command::Status(args) => asking(status::status(&args)),
        Command::Wait(args) => asking(wait::wait(&args)),
    };
    result.unwrap_or_else(|error| {
        eprintln!("exeat: {error:#}");
        ExitCode::from(FAILED)
    })
}

/// Commands that only ask a running control plane.
fn asking<T>(command: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}

/// Writes to standard output, whose reader may have seen enough.
fn print(text: &str) -> anyhow::Result<ExitCode> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        result => Ok(result.map(|()| ExitCode::SUCCESS)?),
    }
}

/// A gRPC status in its own words alone.
fn words(error: anyhow::Error) -> anyhow::Error {
    match error.downcast::<tonic::Status>() {
        Ok(status) => anyhow!(status.message().to_owned()),
        Err(other) => other,
    }
}

async fn connect(admin: SocketAddr) -> anyhow::Result<AdminClient<Channel>> {
    let channel = Endpoint::from_shared(format!("http://{admin}"))?.connect().await.with_context(|| {
        format!("no control plane answers on {admin}, where its --admin-listen should be")
    })?;
    Ok(AdminClient::new(channel).max_decoding_message_size(usize::MAX))
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
