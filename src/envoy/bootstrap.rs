//! The static configuration with which a sidecar starts.
//!
//! It holds no policy: a sidecar that has not heard from the control plane listens nowhere.

use super::{BootstrapTls, listener::BUFFER};
use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr};

/// Where a sidecar finds the xDS server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum XdsEndpoint {
    /// An IP address and port.
    Address(SocketAddr),
    /// A host name and port, resolved by the sidecar.
    Name(String, u16),
    /// A unix socket.
    Unix(PathBuf),
}

impl XdsEndpoint {
    /// The host that a certificate there names.
    #[must_use]
    pub fn host(&self) -> Option<String> {
        match self {
            Self::Address(address) => Some(address.ip().to_string()),
            Self::Name(name, _) => Some(name.clone()),
            Self::Unix(_) => None,
        }
    }
}

impl FromStr for XdsEndpoint {
    type Err = String;

    /// Reads `IP:PORT`, `NAME:PORT` or `unix:/path`.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() {
                return Err("nothing stands after `unix:`; write unix:/path/to/socket".to_owned());
            }
            return Ok(Self::Unix(path.into()));
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        let expected = || format!("`{text}` is no address; write HOST:PORT or unix:/path/to/socket");
        let (name, port) = text.rsplit_once(':').ok_or_else(expected)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(expected)?;
        let plausible = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if name.is_empty() || !name.chars().all(plausible) {
            return Err(expected());
        }
        Ok(Self::Name(name.to_owned(), port))
    }
}

impl fmt::Display for XdsEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Everything that differs between two sidecars' bootstraps. Displays as YAML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    /// The sidecar's name, shown in logs and status.
    pub node_id: String,
    /// The group the sidecar belongs to.
    pub node_cluster: String,
    /// The xDS server.
    pub xds: XdsEndpoint,
    /// TLS to it.
    pub tls: Option<BootstrapTls>,
    /// Envoy's admin interface: a unix socket, so that an agent in the same network namespace cannot reach it.
    pub admin_socket: PathBuf,
    /// Most connections of clients at a time; further ones are closed.
    pub max_connections: u32,
    /// For how many seconds Envoy keeps the connections of what an edit closes. It is a flag of Envoy's, so the file can
    /// only name it.
    pub drain_time: u32,
}

/// What a sidecar's metadata says that has the internal listeners' extension and drops connections with their chains.
pub const REVOCATION: &str = "immediate_revocation";
/// The same where connections have Envoy's drain time to end: by choice, because that is one flag for all that this Envoy
/// does.
pub const LATE_REVOCATION: &str = "late_revocation";

impl Bootstrap {
    /// Default of [`Self::max_connections`].
    pub const MAX_CONNECTIONS: u32 = 50_000;

    /// Default path of the admin socket.
    pub const ADMIN_SOCKET: &'static str = "/tmp/envoy-admin.sock";
}

/// A JSON string is a YAML scalar that needs no further thought about quoting.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl fmt::Display for Bootstrap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (discovery, address) = match &self.xds {
            XdsEndpoint::Address(address) => (
                "STATIC",
                format!(
                    "socket_address: {{address: {}, port_value: {}}}",
                    quoted(&address.ip().to_string()),
                    address.port()
                ),
            ),
            XdsEndpoint::Name(name, port) => {
                ("STRICT_DNS", format!("socket_address: {{address: {}, port_value: {port}}}", quoted(name)))
            }
            XdsEndpoint::Unix(path) => {
                ("STATIC", format!("pipe: {{path: {}}}", quoted(&path.to_string_lossy())))
            }
        };
        write!(
            f,
            include_str!("bootstrap.yaml"),
            node_id = quoted(&self.node_id),
            node_cluster = quoted(&self.node_cluster),
            admin_socket = quoted(&self.admin_socket.to_string_lossy()),
            discovery = discovery,
            address = address,
            revocation = if self.drain_time == 0 { REVOCATION } else { LATE_REVOCATION },
            drain_time = self.drain_time,
            buffer = BUFFER >> 10,
            max_connections = self.max_connections,
            transport_socket = self.tls.as_ref().map(BootstrapTls::transport_socket).unwrap_or_default(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_and_written_alike() {
        for text in ["127.0.0.1:18000", "[::1]:18000", "control-plane:18000", "unix:/run/exeat/xds.sock"] {
            assert_eq!(text.parse::<XdsEndpoint>().unwrap().to_string(), text);
        }
        for text in ["", "host", "host:", "host:0", "host:70000", "a b:1", "unix:", "http://host:1"] {
            assert!(text.parse::<XdsEndpoint>().is_err(), "{text}");
        }
    }

    #[test]
    fn node_names_cannot_break_out_of_the_yaml() {
        let text = Bootstrap {
            node_id: "a\"}\nadmin: {x".into(),
            node_cluster: "c".into(),
            xds: "127.0.0.1:1".parse().unwrap(),
            tls: None,
            admin_socket: "/tmp/a.sock".into(),
            max_connections: 1,
            drain_time: 0,
        }
        .to_string();
        assert!(text.contains(r#"id: "a\"}\nadmin: {x""#), "{text}");
    }
}
