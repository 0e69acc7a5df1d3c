//! Private targets: a guard of their own, so that the one of addresses stays on for everything else.
//!
//! Knows nothing of routes.

use super::{
    answer::Reach,
    any::{duration, extension, host_address, number},
    chains::Chains,
    cluster::{CONNECT_TIMEOUT, dynamic, unbounded},
    dns,
    listener::BUFFER,
    profile::Profile,
};
use crate::policy::Port;
use envoy_types::pb::envoy::{
    config::{
        cluster::v3::{
            Cluster,
            cluster::{ClusterDiscoveryType, DiscoveryType},
        },
        core::v3::CidrRange,
        endpoint::v3::{ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint},
        rbac::v3::{
            Permission, Policy as RbacPolicy, Principal, Rbac as Rules, permission, principal, rbac::Action,
        },
    },
    extensions::rbac::matchers::upstream_ip_port::v3::UpstreamIpPortMatcher,
};
use ipnet::IpNet;

/// The cluster of names of which only what is never meant is guarded.
pub(super) const PRIVATE_CLUSTER: &str = "private";
/// The cluster for which names with listed addresses are resolved. Nothing is dialled by it.
pub(super) const ANY_CLUSTER: &str = "private-listed";

/// The cluster of a private target that has one of its own.
pub(super) fn name(host: &str, port: Port) -> String {
    format!("private/{host}:{port}")
}

/// Of names with listed addresses, and of addresses.
pub(super) fn clusters(chains: &Chains<'_>, profile: &Profile) -> Vec<Cluster> {
    let sites = chains.sites().iter();
    let clusters = sites.filter_map(|((host, port), reach)| match reach {
        Reach::Listed(ranges) => Some(dynamic(&name(host, *port), dns::listed_cache(profile, ranges))),
        Reach::Itself => Some(fixed(host, *port)),
        Reach::Public | Reach::Private => None,
    });
    clusters.collect()
}

fn fixed(host: &str, port: Port) -> Cluster {
    let name = name(host, port);
    let address = host.trim_matches(['[', ']']);
    Cluster {
        connect_timeout: duration(CONNECT_TIMEOUT),
        circuit_breakers: unbounded(),
        per_connection_buffer_limit_bytes: number(BUFFER),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
        load_assignment: Some(ClusterLoadAssignment {
            cluster_name: name.clone(),
            endpoints: vec![LocalityLbEndpoints {
                lb_endpoints: vec![LbEndpoint {
                    host_identifier: Some(lb_endpoint::HostIdentifier::Endpoint(Endpoint {
                        address: Some(host_address(address, port)),
                        ..Default::default()
                    })),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        }),
        name,
        ..Default::default()
    }
}

/// Lets through what leads to these addresses, as far as the first of them tells: for the answer that says why. What is
/// dialled is guarded by the cluster's own resolver, which sees all of them.
pub(super) fn only(ranges: &[IpNet]) -> Rules {
    let matcher = |range: &IpNet| {
        let matcher = UpstreamIpPortMatcher {
            upstream_ip: Some(CidrRange {
                address_prefix: range.network().to_string(),
                prefix_len: number(range.prefix_len().into()),
            }),
            ..Default::default()
        };
        let matcher = extension("envoy.rbac.matchers.upstream_ip_port", &matcher);
        Permission { rule: Some(permission::Rule::Matcher(matcher)) }
    };
    let policy = RbacPolicy {
        permissions: ranges.iter().map(matcher).collect(),
        principals: vec![Principal { identifier: Some(principal::Identifier::Any(true)) }],
        ..Default::default()
    };
    Rules {
        action: Action::Allow.into(),
        policies: [("addresses".to_owned(), policy)].into(),
        ..Default::default()
    }
}
