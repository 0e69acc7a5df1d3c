//! TLS from a sidecar to the xDS server, in its static configuration.
//!
//! Knows nothing of what the files of certificates hold: Envoy reads them.

use super::bootstrap::quoted;
use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

/// How a sidecar and the xDS server prove to each other who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootstrapTls {
    /// Authorities of the server's certificate.
    pub ca: PathBuf,
    /// The sidecar's own certificate and its private key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The host name, IP address or URI that the server's certificate must have. Never left out: the sidecars'
    /// certificates may be of the same authority, and none of them may pass for the server.
    pub server_name: String,
    /// Where [`Self::secret_files`] are. Without them Envoy reads the certificates once, when it starts: it follows
    /// files that are replaced only for secrets that a configuration source delivers.
    pub secrets: Option<PathBuf>,
}

/// Names of the secrets and, with `.yaml`, of their files: Envoy takes one secret from a file.
const AUTHORITY: &str = "exeat-authority";
const IDENTITY: &str = "exeat-identity";

impl BootstrapTls {
    /// What stands in the files that the sidecar needs beside its bootstrap.
    #[must_use]
    pub fn secret_files(&self) -> Vec<(PathBuf, String)> {
        let Some(directory) = &self.secrets else { return Vec::new() };
        let file = |name: &str, kind: &str, source: &Path, fields: String| {
            let text = format!(
                "resources:\n\
                 - \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret\n  \
                 name: {name}\n  \
                 {kind}: {{{fields}, watched_directory: {{path: {}}}}}\n",
                path(directory_of(source))
            );
            (secret_file(directory, name), text)
        };
        let mut files = vec![file(AUTHORITY, "validation_context", &self.ca, self.authority())];
        if let Some((cert, key)) = &self.identity {
            files.push(file(IDENTITY, "tls_certificate", cert, identity(cert, key)));
        }
        files
    }

    /// The part of the cluster `xds`.
    pub(super) fn transport_socket(&self) -> String {
        // Addresses and URIs are no host names, and only those are asked for.
        let sni = match self.san_type() {
            "DNS" => format!("        sni: {}\n", quoted(&self.server_name)),
            _ => String::new(),
        };
        let mut context = String::new();
        match &self.secrets {
            None => {
                if let Some((cert, key)) = &self.identity {
                    context += &format!("          tls_certificates: [{{{}}}]\n", identity(cert, key));
                }
                context += &format!("          validation_context: {{{}}}\n", self.authority());
            }
            Some(directory) => {
                let source = |name: &str| {
                    format!(
                        "{{name: {name}, sds_config: {{path_config_source: {{path: {}}}, resource_api_version: V3}}}}",
                        path(&secret_file(directory, name))
                    )
                };
                if self.identity.is_some() {
                    context +=
                        &format!("          tls_certificate_sds_secret_configs: [{}]\n", source(IDENTITY));
                }
                context +=
                    &format!("          validation_context_sds_secret_config: {}\n", source(AUTHORITY));
            }
        }
        format!(
            "    transport_socket:\n      \
             name: envoy.transport_sockets.tls\n      \
             typed_config:\n        \
             \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext\n\
             {sni}        \
             common_tls_context:\n          \
             alpn_protocols: [h2]\n\
             {context}"
        )
    }

    fn authority(&self) -> String {
        format!(
            "trusted_ca: {{filename: {}}}, match_typed_subject_alt_names: [{{san_type: {}, matcher: {{exact: {}}}}}]",
            path(&self.ca),
            self.san_type(),
            quoted(&self.server_name)
        )
    }

    fn san_type(&self) -> &'static str {
        if self.server_name.parse::<IpAddr>().is_ok() {
            "IP_ADDRESS"
        } else if self.server_name.contains("://") {
            "URI"
        } else {
            "DNS"
        }
    }
}

fn identity(cert: &Path, key: &Path) -> String {
    format!("certificate_chain: {{filename: {}}}, private_key: {{filename: {}}}", path(cert), path(key))
}

fn secret_file(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.yaml"))
}

fn path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

fn directory_of(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => file,
    }
}
