//! Clusters of private targets: one for each host and port, so that the guard of addresses stays on for everything else.

use super::{
    any::{duration, extension, pack},
    cluster::CONNECT_TIMEOUT,
    dns,
    profile::Profile,
};
use crate::policy::{AddressGuard, Mode, Policy, Port, Target};
use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::{
                Cluster,
                cluster::{ClusterDiscoveryType, CustomClusterType, DiscoveryType},
            },
            core::v3::{CidrRange, Http1ProtocolOptions},
            endpoint::v3::{ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint},
            rbac::v3::{
                Permission, Policy as RbacPolicy, Principal, Rbac as Rules, permission, principal,
                rbac::Action,
            },
        },
        extensions::{
            clusters::{common::dns::v3::DnsLookupFamily, dns::v3::DnsCluster},
            filters::{
                http::{rbac::v3::Rbac, upstream_codec::v3::UpstreamCodec},
                network::http_connection_manager::v3::{HttpFilter, http_filter::ConfigType},
            },
            rbac::matchers::upstream_ip_port::v3::UpstreamIpPortMatcher,
            upstreams::http::v3::{
                HttpProtocolOptions,
                http_protocol_options::{
                    ExplicitHttpConfig, UpstreamProtocolOptions, explicit_http_config::ProtocolConfig,
                },
            },
        },
    },
    google::protobuf::BoolValue,
};
use ipnet::IpNet;
use prost::Name;
use std::collections::BTreeMap;

/// The cluster of a private target.
pub(super) fn name(host: &str, port: Port) -> String {
    format!("private/{host}:{port}")
}

/// One target, with all its entries.
struct Site<'a> {
    target: &'a Target,
    port: Port,
    /// The addresses that it may lead to; all but a few where an entry names none.
    addresses: Option<Vec<IpNet>>,
}

/// All private targets of a policy.
pub(super) fn clusters(policy: &Policy, profile: &Profile) -> Vec<Cluster> {
    let mut sites: BTreeMap<String, Site<'_>> = BTreeMap::new();
    for rule in policy.rules() {
        let (Some(private), Some(host)) = (&rule.grant.private, rule.target.exact()) else { continue };
        let passes = |port: &Port| {
            let mut denied = policy.denied().iter();
            !denied.any(|deny| deny.mode == Mode::Enforce && deny.covers(&host, *port))
        };
        for port in rule.ports.iter().filter(passes) {
            let own = (!private.addresses.is_empty()).then(|| private.addresses.clone());
            sites
                .entry(name(&host, port))
                .and_modify(|site| {
                    site.addresses = site.addresses.take().zip(own.clone()).map(|(mut all, own)| {
                        all.extend(own);
                        all.sort_unstable();
                        all.dedup();
                        all
                    });
                })
                .or_insert_with(|| Site { target: &rule.target, port, addresses: own });
        }
    }
    sites.into_iter().map(|(name, site)| cluster(name, &site, profile)).collect()
}

fn cluster(name: String, site: &Site<'_>, profile: &Profile) -> Cluster {
    let (is_name, host) = match site.target {
        Target::Address(address) => (false, address.to_string()),
        other => (true, other.exact().unwrap_or_default()),
    };
    let mut cluster = Cluster {
        connect_timeout: duration(CONNECT_TIMEOUT),
        cluster_discovery_type: Some(if is_name {
            resolving(profile)
        } else {
            ClusterDiscoveryType::Type(DiscoveryType::Static.into())
        }),
        load_assignment: Some(ClusterLoadAssignment {
            cluster_name: name.clone(),
            endpoints: vec![LocalityLbEndpoints {
                lb_endpoints: vec![LbEndpoint {
                    host_identifier: Some(lb_endpoint::HostIdentifier::Endpoint(Endpoint {
                        address: Some(super::any::host_address(&host, site.port)),
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
    };
    if is_name {
        // A silent DNS server must not keep the whole sidecar from starting.
        cluster.wait_for_warm_on_init = Some(BoolValue { value: false });
        cluster.typed_extension_protocol_options =
            [(HttpProtocolOptions::full_name(), pack(&guarded(site.addresses.as_deref())))].into();
    }
    cluster
}

/// Resolves by itself, one endpoint for each address: the guard sees each.
fn resolving(profile: &Profile) -> ClusterDiscoveryType {
    let config = DnsCluster {
        dns_failure_refresh_rate: Some(dns::cluster_failure_refresh()),
        respect_dns_ttl: true,
        typed_dns_resolver_config: Some(dns::resolver(profile)),
        dns_lookup_family: DnsLookupFamily::V4Preferred.into(),
        ..Default::default()
    };
    let name = "envoy.cluster.dns".to_owned();
    ClusterDiscoveryType::ClusterType(CustomClusterType { name, typed_config: Some(pack(&config)) })
}

/// The guard of one cluster, which sees each address before it is dialled.
fn guarded(addresses: Option<&[IpNet]>) -> HttpProtocolOptions {
    let (action, ranges) = match addresses {
        Some(addresses) => (Action::Allow, addresses.to_vec()),
        None => (Action::Deny, AddressGuard::never_meant()),
    };
    let matcher = |range: &IpNet| {
        let matcher = UpstreamIpPortMatcher {
            upstream_ip: Some(CidrRange {
                address_prefix: range.network().to_string(),
                prefix_len: super::any::number(range.prefix_len().into()),
            }),
            ..Default::default()
        };
        Permission {
            rule: Some(permission::Rule::Matcher(extension(
                "envoy.rbac.matchers.upstream_ip_port",
                &matcher,
            ))),
        }
    };
    let policy = RbacPolicy {
        permissions: ranges.iter().map(matcher).collect(),
        principals: vec![Principal { identifier: Some(principal::Identifier::Any(true)) }],
        ..Default::default()
    };
    let rules = Rules {
        action: action.into(),
        policies: [("addresses".to_owned(), policy)].into(),
        ..Default::default()
    };
    let filter = |name: &str, config| HttpFilter {
        name: name.to_owned(),
        config_type: Some(ConfigType::TypedConfig(config)),
        ..Default::default()
    };
    HttpProtocolOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(ProtocolConfig::HttpProtocolOptions(Http1ProtocolOptions::default())),
        })),
        http_filters: vec![
            filter(
                "envoy.filters.http.upstream_rbac",
                pack(&Rbac { rules: Some(rules), ..Default::default() }),
            ),
            filter("envoy.filters.http.upstream_codec", pack(&UpstreamCodec {})),
        ],
        ..Default::default()
    }
}
