//! The DNS cache: who resolves, how, and which addresses are dropped from every answer.
//!
//! The same message goes to everything that resolves. Envoy refuses two that share a name and differ.
//!
//! Knows nothing of the policy but the addresses that an entry names.

use super::{
    any::{address, duration, extension, number},
    cluster::UNBOUNDED,
    profile::Profile,
};
use crate::policy::AddressGuard;
use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::{cluster::DnsLookupFamily, cluster::RefreshRate},
            core::v3::{DnsResolverOptions, TypedExtensionConfig},
        },
        extensions::{
            common::dynamic_forward_proxy::v3::{DnsCacheCircuitBreakers, DnsCacheConfig},
            network::dns_resolver::cares::v3::CaresDnsResolverConfig,
        },
        r#type::matcher::v3::AddressMatcher,
    },
    xds::core::v3::CidrRange,
};
use ipnet::IpNet;
use prost::Message;
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_64;

/// A name that nobody asked for leaves the cache after this.
const HOST_TTL: Duration = Duration::from_secs(60);
/// A lookup may take this long.
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);
/// A failed lookup is repeated after the first, later after the second. Envoy's default keeps a failure for a minute.
const FAILURE_REFRESH: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(2));

/// Who resolves, and how.
pub(super) fn resolver(profile: &Profile) -> TypedExtensionConfig {
    let resolver = CaresDnsResolverConfig {
        resolvers: profile.resolvers.iter().map(|socket| address(*socket)).collect(),
        // A search domain would turn an allowed name into another one.
        dns_resolver_options: Some(DnsResolverOptions {
            no_default_search_domain: true,
            ..Default::default()
        }),
        ..Default::default()
    };
    extension("envoy.network.dns_resolver.cares", &resolver)
}

/// When a failed lookup is repeated.
pub(super) fn failure_refresh() -> RefreshRate {
    let (base, max) = FAILURE_REFRESH;
    RefreshRate { base_interval: duration(base), max_interval: duration(max) }
}

/// The cache of public names.
pub(super) fn cache(profile: &Profile) -> DnsCacheConfig {
    // Sound against [dead public, private] answers, unlike RBAC on the upstream address.
    filtered(profile, profile.guard.refused(), false)
}

/// The cache of private names: only what is never meant is dropped.
pub(super) fn private_cache(profile: &Profile) -> DnsCacheConfig {
    filtered(profile, &AddressGuard::never_meant(), false)
}

/// The cache of private names whose addresses are compared elsewhere.
pub(super) fn any_cache(profile: &Profile) -> DnsCacheConfig {
    filtered(profile, &[], false)
}

/// The cache of names that may lead to these addresses only.
pub(super) fn listed_cache(profile: &Profile, ranges: &[IpNet]) -> DnsCacheConfig {
    filtered(profile, ranges, true)
}

/// A cache that drops addresses in these ranges, or all others.
fn filtered(profile: &Profile, ranges: &[IpNet], invert_match: bool) -> DnsCacheConfig {
    let ranges: Vec<CidrRange> = ranges
        .iter()
        .map(|range| CidrRange {
            address_prefix: range.network().to_string(),
            prefix_len: number(range.prefix_len().into()),
        })
        .collect();
    let mut cache = DnsCacheConfig {
        dns_lookup_family: DnsLookupFamily::V4Preferred.into(),
        max_hosts: number(profile.dns_cache_size),
        host_ttl: duration(HOST_TTL),
        dns_query_timeout: duration(QUERY_TIMEOUT),
        // With Envoy's default of 1,024 a name that nobody answers for holds up all others.
        dns_cache_circuit_breaker: Some(DnsCacheCircuitBreakers { max_pending_requests: number(UNBOUNDED) }),
        dns_failure_refresh_rate: Some(failure_refresh()),
        typed_dns_resolver_config: Some(resolver(profile)),
        resolved_address_filter: (!ranges.is_empty()).then_some(AddressMatcher { ranges, invert_match }),
        ..Default::default()
    };
    // Envoy refuses a cache whose name is in use with other settings: changed flags would never arrive.
    cache.name = format!("exeat-{:016x}", xxh3_64(&cache.encode_to_vec()));
    cache
}
