//! Log output.

use std::{
    fmt,
    io::{self, IsTerminal},
};
use tracing::field::Field;
use tracing_subscriber::{
    EnvFilter,
    fmt::format::{Writer, debug_fn},
};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people; coloured on a terminal.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Sends logs to standard error. `filter` is a tracing filter such as `info` or `exeat=debug`.
pub fn init(format: LogFormat, filter: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        format!("`{filter}` is no log filter: {error}; write for example info or exeat=debug")
    })?;
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_writer(io::stderr);
    let result = match format {
        // Messages say everything; the fields beside them are for machines.
        LogFormat::Text => builder.with_ansi(colour()).fmt_fields(debug_fn(message_only)).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    result.map_err(|error| error.to_string())
}

fn message_only(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    if field.name() == "message" { write!(writer, "{value:?}") } else { Ok(()) }
}

/// Whether people are looking at standard error.
#[must_use]
pub fn colour() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}
