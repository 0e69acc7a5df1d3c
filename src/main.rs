//! The `exeat` command.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    exeat::cmd::run(exeat::cli::Cli::parse())
}
