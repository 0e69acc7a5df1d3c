//! Flags of what serves.

use super::{address, range, resolver};
use crate::{
    envoy::Profile,
    policy::AddressGuard,
    server::{ServerConfig, TlsFiles, XdsListen},
    telemetry::LogFormat,
};
use anyhow::Context;
use clap::{Args, builder::FalseyValueParser};
use ipnet::IpNet;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use std::{
    ffi::OsString,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

/// Flags of everything that serves.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Allowlist file, or directory of *.yaml and *.yml files; several form one allowlist.
    #[arg(long = "allowlist", env = "EXEAT_ALLOWLIST", value_name = "PATH", value_delimiter = ',', default_value = Self::DEFAULT_ALLOWLIST)]
    pub allowlists: Vec<PathBuf>,
    /// Where sidecars connect: xDS and gRPC health. IP:PORT or unix:PATH; several are all served.
    #[arg(long, env = "EXEAT_XDS_LISTEN", value_name = "ADDRESS", value_delimiter = ',', default_values_t = [XdsListen::default()])]
    pub xds_listen: Vec<XdsListen>,
    /// Do not warn of allowlist files that others can change: by their mode, owner, directory, or a link that leaves it.
    #[arg(long, env = "EXEAT_ACCEPT_EXPOSED_FILES", value_parser = FalseyValueParser::new())]
    pub accept_exposed_files: bool,
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
    /// What every sidecar is told besides the policy.
    #[command(flatten)]
    pub profile: ProfileArgs,
    /// Keep the last good content of each file in this directory (made if it is not there): a restart with a broken
    /// file serves what was enforced before.
    #[arg(long, env = "EXEAT_STATE_DIR", value_name = "DIRECTORY")]
    pub state_dir: Option<PathBuf>,
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
            profile: self.profile.profile()?,
            accept_exposed_files: self.accept_exposed_files,
            state_dir: self.state_dir.clone(),
            log_format: self.log_format,
        })
    }
}

/// What every sidecar is told besides the policy.
#[derive(Debug, Args)]
pub struct ProfileArgs {
    /// Where every sidecar listens for proxy clients.
    #[arg(long, env = "EXEAT_EGRESS_LISTEN", value_name = "IP:PORT", default_value_t = Profile::default().egress, value_parser = address)]
    pub egress_listen: SocketAddr,
    /// Let allowed names lead to addresses in this private or reserved range. Applies to every name: keep it small.
    #[arg(long = "allow-range", env = "EXEAT_ALLOW_RANGE", value_name = "CIDR", value_delimiter = ',', value_parser = range)]
    pub allow_ranges: Vec<IpNet>,
    /// DNS server that the sidecars ask, instead of their machine's.
    #[arg(long = "dns-resolver", env = "EXEAT_DNS_RESOLVER", value_name = "IP:PORT", value_delimiter = ',', value_parser = resolver)]
    pub dns_resolvers: Vec<SocketAddr>,
    /// Names that a sidecar keeps resolved. With more at a time, further ones are answered 503.
    #[arg(long, env = "EXEAT_DNS_CACHE_SIZE", value_name = "COUNT", default_value_t = Profile::DNS_CACHE_SIZE, value_parser = clap::value_parser!(u32).range(1..))]
    pub dns_cache_size: u32,
    /// PEM authorities that upstreams' certificates are checked against for `tls: originate`, instead of the sidecar's own.
    /// Read once, when the server starts.
    #[arg(long, env = "EXEAT_UPSTREAM_CA", value_name = "PATH")]
    pub upstream_ca: Option<PathBuf>,
}

impl ProfileArgs {
    /// In Envoy's terms, or what cannot be read.
    pub fn profile(&self) -> anyhow::Result<Profile> {
        let read = |path: &PathBuf| -> anyhow::Result<Arc<[u8]>> {
            let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            let certificates = CertificateDer::pem_slice_iter(&bytes).filter(Result::is_ok).count();
            anyhow::ensure!(certificates > 0, "{} holds no PEM certificate", path.display());
            Ok(bytes.into())
        };
        Ok(Profile {
            egress: self.egress_listen,
            guard: AddressGuard::lifting(&self.allow_ranges),
            resolvers: self.dns_resolvers.clone(),
            upstream_ca: self.upstream_ca.as_ref().map(read).transpose()?,
            dns_cache_size: self.dns_cache_size,
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
