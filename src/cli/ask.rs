//! Flags of what asks: about files, or a running control plane.

use super::{ProfileArgs, ServeArgs, address, seconds};
use crate::policy::Question;
use clap::{Args, Subcommand, ValueEnum, builder::FalseyValueParser};
use std::{net::SocketAddr, path::PathBuf};

/// Flags of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Allowlist files, or directories of *.yaml and *.yml files, as for `serve --allowlist`.
    #[arg(env = "EXEAT_ALLOWLIST", value_name = "PATH", value_delimiter = ',', default_value = ServeArgs::DEFAULT_ALLOWLIST)]
    pub paths: Vec<PathBuf>,
    /// One JSON object; the same as --format json.
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
    /// For people, for programs, or as annotations of a GitHub workflow.
    #[arg(long, value_enum, default_value_t)]
    format: CheckFormat,
    /// Let warnings fail as well.
    #[arg(long)]
    pub strict: bool,
    /// Do not warn of files that others can change, as `serve --accept-exposed-files`.
    #[arg(long, env = "EXEAT_ACCEPT_EXPOSED_FILES", value_parser = FalseyValueParser::new())]
    pub accept_exposed_files: bool,
    /// Load what the files become into this Envoy as well (`--mode validate`): it starts nothing.
    #[arg(long, value_name = "PATH")]
    pub envoy: Option<PathBuf>,
    /// As for `serve`; for --envoy.
    #[command(flatten)]
    pub profile: ProfileArgs,
    /// Say more about a code, such as host-wildcard, and check nothing.
    #[arg(long, value_name = "CODE")]
    pub explain: Option<String>,
}

impl CheckArgs {
    /// How to print.
    #[must_use]
    pub const fn format(&self) -> CheckFormat {
        if self.json { CheckFormat::Json } else { self.format }
    }
}

/// Whose policy is asked for: from files, or from a running control plane.
#[derive(Debug, Args)]
pub struct OfArgs {
    /// An agent; without it, sidecars that are none.
    #[arg(long, value_name = "NAME")]
    pub agent: Option<String>,
    /// Ask a running control plane (its --admin-listen) instead of files.
    #[arg(long, value_name = "IP:PORT", conflicts_with = "allowlists", value_parser = address)]
    pub server: Option<SocketAddr>,
    /// Allowlist file, or directory of *.yaml and *.yml files; several form one allowlist.
    #[arg(long = "allowlist", env = "EXEAT_ALLOWLIST", value_name = "PATH", value_delimiter = ',', default_value = ServeArgs::DEFAULT_ALLOWLIST)]
    pub allowlists: Vec<PathBuf>,
}

/// Flags of `why`.
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// https://HOST/, http://HOST/, HOST or HOST:PORT; without a scheme, a tunnel (CONNECT), to port 443 if none is named.
    #[arg(value_name = "URL|HOST[:PORT]")]
    pub target: Question,
    /// The method of a plain request; GET without it.
    #[arg(long, value_name = "METHOD")]
    pub method: Option<String>,
    /// Whom it is asked of.
    #[command(flatten)]
    pub of: OfArgs,
    /// One JSON object.
    #[arg(long)]
    pub json: bool,
}

/// How `check` prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum CheckFormat {
    /// With the line and a caret.
    #[default]
    Text,
    /// One object.
    Json,
    /// Workflow commands.
    Github,
}

/// Flags of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The control plane's --admin-listen.
    #[arg(long, env = "EXEAT_ADMIN_LISTEN", value_name = "IP:PORT", default_value_t = ServeArgs::DEFAULT_ADMIN, value_parser = address)]
    pub admin: SocketAddr,
    /// Show it again after each change.
    #[arg(long)]
    pub watch: bool,
    /// One JSON object per line.
    #[arg(long)]
    pub json: bool,
}

/// Flags of `wait`.
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// The control plane's --admin-listen.
    #[arg(long, env = "EXEAT_ADMIN_LISTEN", value_name = "IP:PORT", default_value_t = ServeArgs::DEFAULT_ADMIN, value_parser = address)]
    pub admin: SocketAddr,
    /// What to wait for: that what is saved is enforced.
    #[arg(long, required = true)]
    pub live: bool,
    /// Give up after so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds)]
    pub timeout: f64,
    /// How many sidecars must be connected at least.
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub sidecars: usize,
}

/// Flags of `diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// Allowlist file or directory before the edit.
    #[arg(value_name = "OLD")]
    pub old: PathBuf,
    /// Allowlist file or directory after it.
    #[arg(value_name = "NEW")]
    pub new: PathBuf,
    /// One JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Flags of `dump`.
#[derive(Debug, Args)]
pub struct DumpArgs {
    /// Only one type.
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    pub kind: Option<DumpType>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub format: DumpFormat,
    /// Whose they are.
    #[command(flatten)]
    pub of: OfArgs,
    /// As for `serve`.
    #[command(flatten)]
    pub profile: ProfileArgs,
}

/// How `dump` prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DumpFormat {
    /// YAML.
    #[default]
    Yaml,
    /// Canonical protobuf JSON.
    Json,
}

/// A resource type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DumpType {
    /// Clusters.
    Cds,
    /// Listeners.
    Lds,
    /// Route tables.
    Rds,
}

impl DumpType {
    /// The abbreviation.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cds => "cds",
            Self::Lds => "lds",
            Self::Rds => "rds",
        }
    }
}

/// Flags of `presets`.
#[derive(Debug, Args)]
pub struct PresetsArgs {
    /// What to do; lists them without it.
    #[command(subcommand)]
    pub command: Option<PresetsCommand>,
}

/// What `presets` does.
#[derive(Debug, Subcommand)]
pub enum PresetsCommand {
    /// Print a preset, which is an allowlist file.
    Show {
        /// Its name.
        name: String,
    },
}

/// Flags of `env`.
#[derive(Debug, Args)]
pub struct EnvArgs {
    /// Where the sidecar listens: HOST:PORT. In containers the name of its service.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:10000", value_parser = proxy)]
    pub proxy: String,
    #[command(flatten)]
    format: EnvFormats,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
struct EnvFormats {
    /// `export` lines for a shell (the default).
    #[arg(long)]
    shell: bool,
    /// An `environment:` block for a compose file.
    #[arg(long)]
    compose: bool,
    /// `ENV` lines for a Dockerfile.
    #[arg(long)]
    dockerfile: bool,
}

/// How `env` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvFormat {
    /// `export` lines.
    Shell,
    /// A block of YAML.
    Compose,
    /// `ENV` lines.
    Dockerfile,
}

impl EnvArgs {
    /// How to print.
    #[must_use]
    pub const fn format(&self) -> EnvFormat {
        match &self.format {
            EnvFormats { compose: true, .. } => EnvFormat::Compose,
            EnvFormats { dockerfile: true, .. } => EnvFormat::Dockerfile,
            EnvFormats { .. } => EnvFormat::Shell,
        }
    }
}

fn proxy(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    let port =
        text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    if matches!(port, Some(Ok(port)) if port > 0) && text.chars().all(plain) {
        return Ok(text.to_owned());
    }
    Err(format!("`{text}` is no address; write HOST:PORT, such as egress:10000"))
}

/// Flags of `schema`.
#[derive(Debug, Args)]
pub struct SchemaArgs {}

/// Flags of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// bash, elvish, fish, powershell or zsh.
    #[arg(value_enum, value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}
