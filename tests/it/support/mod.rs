//! What the tests are made of.

mod address;
pub mod allowlists;
mod control_plane;
mod dns;
pub mod evaluate;
pub mod frames;
mod generic;
mod http;
mod http2;
mod process;
mod sidecar;
mod tls;
mod tools;
mod upstream;

pub use address::Block;
pub use control_plane::ControlPlane;
pub use dns::Dns;
pub use generic::{GenericServer, resource};
pub use http::{Connection, Reply, deny_reason, get, request, secure_tunnel, tunnel};
pub use http2::{request_by_http2, tunnel_by_http2};
pub use process::{Process, exeat, finish, finish_within, soon, texts, wait_until};
pub use sidecar::{Sidecar, envoy_binary};
pub use tls::{client_hello, server_config};
pub use tools::{Authority, certificate, command, example, python_with};
pub use upstream::Upstream;

use std::{net::SocketAddr, path::PathBuf};

/// A control plane, an Envoy, a DNS server and an upstream, all of this test alone.
pub struct Stack {
    pub upstream: Upstream,
    pub dns: Dns,
    pub sidecar: Sidecar,
    pub control_plane: ControlPlane,
    pub block: Block,
}

impl Stack {
    /// Starts everything with an allowlist in which `{port}` stands for the upstream's port, and waits until the
    /// sidecar is live.
    pub fn start(allowlist: &str) -> Self {
        Self::with(allowlist, &[], |text| text)
    }

    /// As `start`, with an allowlist that depends on the addresses.
    pub fn start_where(allowlist: impl Fn(&Block) -> String) -> Self {
        let block = Block::claim();
        let allowlist = allowlist(&block);
        Self::on(block, &allowlist, &[], |text| text)
    }

    /// As `start`, with further flags of the server and a change of the sidecar's bootstrap.
    pub fn with(allowlist: &str, flags: &[&str], bootstrap: impl Fn(String) -> String) -> Self {
        Self::on(Block::claim(), allowlist, flags, bootstrap)
    }

    /// The same at addresses that are claimed already.
    pub fn on(block: Block, allowlist: &str, flags: &[&str], bootstrap: impl Fn(String) -> String) -> Self {
        let upstream = Upstream::start(block.host(2));
        let dns = Dns::start(block.host(3), block.host(2));
        let range = format!("{}/32", block.host(2));
        let resolver = dns.address().to_string();
        let mut all = vec!["--allow-range", &range, "--dns-resolver", &resolver];
        all.extend(flags);
        let text = allowlist.replace("{port}", &upstream.port().to_string());
        let control_plane = ControlPlane::start(&block, &text, &all);
        let sidecar = Sidecar::start(&control_plane, allowlists::NODE, bootstrap);
        control_plane.wait_in_sync(1);
        wait_until("the proxy is open", || std::net::TcpStream::connect(block.egress()).is_ok());
        Self { upstream, dns, sidecar, control_plane, block }
    }

    /// The proxy's address.
    pub fn proxy(&self) -> SocketAddr {
        self.block.egress()
    }

    /// `host:port` of the upstream under a name.
    pub fn at(&self, host: &str) -> String {
        format!("{host}:{}", self.upstream.port())
    }

    /// Replaces the allowlist by a rename and waits until the sidecar enforces it.
    pub fn edit(&self, allowlist: &str) {
        let text = allowlist.replace("{port}", &self.upstream.port().to_string());
        let before = self.control_plane.version();
        self.control_plane.write_by_rename(&text);
        wait_until("the edit is live", || {
            let status = self.control_plane.status();
            status["version"] != before.as_str() && in_sync(&status, 1)
        });
    }

    /// The allowlist file.
    pub fn allowlist(&self) -> PathBuf {
        self.control_plane.allowlist()
    }
}

/// Whether so many sidecars are connected, and all have what is served.
pub fn in_sync(status: &serde_json::Value, sidecars: usize) -> bool {
    let all = status["sidecars"].as_array().unwrap();
    all.len() == sidecars && all.iter().all(|one| one["in_sync"] == true)
}
