//! Settings of the server.
//!
//! Knows nothing of command lines or the environment.

use crate::{envoy::Profile, telemetry::LogFormat};
use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

/// Where the xDS server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum XdsListen {
    /// TCP.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl XdsListen {
    /// Whether only this machine reaches it.
    #[must_use]
    pub const fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl FromStr for XdsListen {
    type Err = String;

    /// Reads `IP:PORT` or `unix:/path`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("nothing stands after `unix:`; write unix:/path/to/socket".to_owned()),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text
                .parse()
                .map(Self::Tcp)
                .map_err(|_| format!("`{text}` is no address; write IP:PORT or unix:/path/to/socket")),
        }
    }
}

impl fmt::Display for XdsListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Loopback port 18000.
impl Default for XdsListen {
    fn default() -> Self {
        Self::Tcp((Ipv4Addr::LOCALHOST, 18000).into())
    }
}

/// The PEM files of TLS on the TCP listeners. They are read again whenever they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, and those that lead from it to its authority.
    pub cert: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
    /// Authorities of client certificates. Without them anybody may connect.
    pub client_ca: Option<PathBuf>,
}

/// Everything that flags and environment say.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Files and directories.
    pub allowlists: Vec<PathBuf>,
    /// xDS and gRPC health, on each of these.
    pub xds: Vec<XdsListen>,
    /// TLS on those of them that are TCP.
    pub tls: Option<TlsFiles>,
    /// Admin HTTP.
    pub admin: SocketAddr,
    /// What every sidecar is told besides the policy.
    pub profile: Profile,
    /// Whether it is known that others can change the files, and no warning is wanted.
    pub accept_exposed_files: bool,
    /// Where the last good contents are kept over restarts.
    pub state_dir: Option<PathBuf>,
    /// How to log.
    pub log_format: LogFormat,
}
