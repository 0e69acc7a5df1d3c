//! Settings of a sidecar that are not policy.
//!
//! Knows nothing of Envoy's messages.

use crate::policy::AddressGuard;
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

/// What the server's flags say about every sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Where Envoy listens for proxy clients.
    pub egress: SocketAddr,
    /// Addresses that no name may lead to.
    pub guard: AddressGuard,
    /// DNS servers; the sidecar's own where empty.
    pub resolvers: Vec<SocketAddr>,
    /// The authorities that certificates of upstreams are checked against, as PEM; the sidecar's own where there are none.
    pub upstream_ca: Option<Arc<[u8]>>,
    /// Names in a sidecar's DNS cache.
    pub dns_cache_size: u32,
}

impl Profile {
    /// Port of the egress listener.
    pub const EGRESS_PORT: u16 = 10000;
    /// Names in the DNS cache. Envoy's default of 1,024 answers 503 to the next one.
    pub const DNS_CACHE_SIZE: u32 = 10_000;
}

/// Loopback port 10000, the whole guard, the sidecar's own DNS servers.
impl Default for Profile {
    fn default() -> Self {
        Self {
            egress: (Ipv4Addr::LOCALHOST, Self::EGRESS_PORT).into(),
            guard: AddressGuard::default(),
            resolvers: Vec::new(),
            upstream_ca: None,
            dns_cache_size: Self::DNS_CACHE_SIZE,
        }
    }
}
