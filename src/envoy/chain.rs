//! What a filter chain of the internal listeners is: what it carries, and where that goes; and how many entries share one.
//!
//! Knows nothing of rules but what traffic they are for: `chains` makes chains of them.

use super::chain_name::ChainName;
use crate::policy::{Port, Traffic};
use ipnet::IpNet;
use std::collections::BTreeMap;
use xxhash_rust::xxh3::xxh3_64;

/// Chains of one listener to public addresses. Beyond, some share one by a hash: Envoy's time for an edit grows with their
/// number.
pub const MAX_CHAINS: usize = 2048;

/// The internal listeners, by what they carry. One of the same name checks what goes into `tls`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Inner {
    /// Tunnels that were found to carry TLS for their host.
    Tls,
    /// Tunnels that carry anything.
    Tcp,
    /// Plain requests.
    Http,
    /// Requests that leave as TLS.
    Originate,
}

impl Inner {
    pub(super) const ALL: [Self; 4] = [Self::Tls, Self::Tcp, Self::Http, Self::Originate];

    /// The name of the listener, and of the cluster that leads to it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Tcp => "tcp",
            Self::Http => "http",
            Self::Originate => "originate",
        }
    }

    pub(super) const fn of_tunnels(traffic: &Traffic) -> Self {
        if traffic.is_opaque() { Self::Tcp } else { Self::Tls }
    }

    pub(super) const fn of_requests(traffic: &Traffic) -> Self {
        if matches!(traffic, Traffic::Originate(_)) { Self::Originate } else { Self::Http }
    }

    /// What a rule lets through on a port.
    pub(super) fn of(traffic: &Traffic, port: Port) -> impl Iterator<Item = Self> {
        let tunnels = traffic.tunnels(port).then(|| Self::of_tunnels(traffic));
        let plain = traffic.plain().filter(|_| port != Port::HTTPS).map(|_| Self::of_requests(traffic));
        tunnels.into_iter().chain(plain)
    }
}

/// Where the connections of a chain go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Exit {
    /// To what the name leads to, if that is not guarded.
    Public,
    /// To nearly anything that the name leads to.
    Private,
    /// To these addresses, by a cluster of their own.
    Listed(String, Vec<IpNet>),
    /// To an address, by a cluster of their own.
    Itself(String),
}

/// One chain.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    pub(super) exit: Exit,
    /// Connections at a time.
    pub(super) connections: Option<u32>,
    /// What leads to it: authorities as virtual-host domains have them, and keys that routes give.
    pub(super) keys: Vec<String>,
}

impl Chain {
    /// Whether it is like most others, but for its keys.
    pub(super) fn is_public(&self) -> bool {
        self.exit == Exit::Public && self.connections.is_none()
    }
}

/// At most so many chains to public addresses, and the others: where several have the same hash, they share one with a mark of
/// all that it holds. An edit closes the connections of everything in the bundles that it touches.
pub(super) fn bundled(chains: BTreeMap<String, Chain>) -> BTreeMap<String, Chain> {
    let most = u64::try_from(MAX_CHAINS).unwrap_or(u64::MAX);
    let mut all = BTreeMap::new();
    let mut bundles: BTreeMap<u64, Vec<(String, Chain)>> = BTreeMap::new();
    for (name, chain) in chains {
        if chain.is_public() {
            bundles.entry(xxh3_64(name.as_bytes()) % most).or_default().push((name, chain));
        } else {
            all.insert(name, chain);
        }
    }
    for (number, mut chains) in bundles {
        if chains.len() == 1 {
            all.extend(chains.pop());
            continue;
        }
        let (names, chains): (Vec<String>, Vec<Chain>) = chains.into_iter().unzip();
        let keys = chains.into_iter().flat_map(|chain| chain.keys).collect();
        let bundle = Chain { exit: Exit::Public, connections: None, keys };
        all.insert(ChainName::new(format!("bundle-{number}"), &names).to_string(), bundle);
    }
    all
}
