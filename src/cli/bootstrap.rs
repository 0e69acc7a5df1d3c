//! Flags of `bootstrap`.

use crate::envoy::{Bootstrap, BootstrapTls, XdsEndpoint};
use clap::Args;
use std::path::PathBuf;

/// Flags of `bootstrap`.
#[derive(Debug, Args)]
pub struct BootstrapArgs {
    /// The sidecar's name in logs and status, by which agents can be matched.
    #[arg(long, value_name = "ID")]
    pub node_id: String,
    /// Envoy's node.cluster, by which agents can be matched.
    #[arg(long, value_name = "NAME", default_value = "agents")]
    pub node_cluster: String,
    /// Where the control plane is: HOST:PORT or unix:PATH.
    #[arg(long, env = "EXEAT_XDS_ADDRESS", value_name = "ADDRESS", default_value = "127.0.0.1:18000")]
    pub xds_address: XdsEndpoint,
    /// Envoy's admin interface, a unix socket that only its own user can open.
    #[arg(long, value_name = "PATH", default_value = Bootstrap::ADMIN_SOCKET)]
    pub admin_socket: PathBuf,
    /// Most connections of clients at a time. Further ones are closed at once.
    #[arg(long, value_name = "COUNT", default_value_t = Bootstrap::MAX_CONNECTIONS, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: u32,
    /// The value of Envoy's own --drain-time-s: for so many seconds connections outlive the entry that an edit takes out. 0
    /// ends them at once. More is for an Envoy that has other work, too, and is then shown in the status.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub drain_time: u32,
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
            max_connections: self.max_connections,
            drain_time: self.drain_time,
        })
    }
}
