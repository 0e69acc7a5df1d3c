//! The internal listeners behind the egress listener, and the clusters that lead to them.
//!
//! Knows nothing of rules: it is told which chains there are.

use super::{
    access_log,
    any::{duration, network_filter, number, pack},
    carry::CHAIN,
    chain::{Chain, Exit, Inner},
    cluster::{CONNECT_TIMEOUT, unbounded},
    dns, limits,
    listener::BUFFER,
    profile::Profile,
    server_names::{DomainMatcher, ServerNameMatcher},
};
use crate::policy::Port;
use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::{
                Cluster,
                cluster::{ClusterDiscoveryType, DiscoveryType},
            },
            core::v3::{
                Address, EnvoyInternalAddress, TransportSocket, address,
                envoy_internal_address::AddressNameSpecifier, transport_socket,
            },
            endpoint::v3::{
                ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
            },
            listener::v3::{
                FilterChain, Listener,
                listener::{InternalListenerConfig, ListenerSpecifier},
            },
        },
        extensions::{
            filters::network::{
                sni_dynamic_forward_proxy::v3::FilterConfig as Resolve,
                sni_dynamic_forward_proxy::v3::filter_config::PortSpecifier,
                tcp_proxy::v3::{TcpProxy, tcp_proxy::ClusterSpecifier},
            },
            matching::common_inputs::network::v3::FilterStateInput,
            transport_sockets::{
                internal_upstream::v3::InternalUpstreamTransport, raw_buffer::v3::RawBuffer,
            },
            upstreams::tcp::v3::TcpProtocolOptions,
        },
    },
    google::protobuf::StringValue,
    xds::r#type::matcher::v3::{
        Matcher,
        matcher::{MatcherTree, MatcherType, OnMatch, matcher_tree::TreeType, on_match},
    },
};
use prost::Name;
use std::{collections::BTreeMap, time::Duration};

/// How often, and after how long, a chain is looked for again.
pub(super) const AGAIN: u32 = 3;
pub(super) const AGAIN_AFTER: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(20));
/// A chain, and a cluster that does not exist.
const NOWHERE: &str = "nowhere";

/// What all internal listeners are.
pub(super) fn listener(name: &str) -> Listener {
    Listener {
        name: name.to_owned(),
        per_connection_buffer_limit_bytes: number(BUFFER),
        listener_specifier: Some(ListenerSpecifier::InternalListener(InternalListenerConfig {})),
        ..Default::default()
    }
}

/// The listener of some chains. A connection whose key leads to none of them is closed.
pub(super) fn of_chains(inner: Inner, chains: BTreeMap<String, Chain>, profile: &Profile) -> Listener {
    let filter_chains = chains.iter().map(|(name, chain)| filter_chain(name, inner, chain, profile));
    // A listener must have one. Nothing leads there, and it leads nowhere.
    let nowhere = network_filter("envoy.filters.network.tcp_proxy", pack(&tcp_proxy(NOWHERE)));
    let nowhere = FilterChain { name: NOWHERE.to_owned(), filters: vec![nowhere], ..Default::default() };
    let filter_chains = filter_chains.chain([nowhere]).collect();
    let keyed = chains.into_iter().filter(|(_, chain)| !chain.keys.is_empty());
    let domain_matchers: Vec<DomainMatcher> =
        keyed.map(|(name, chain)| DomainMatcher { domains: chain.keys, on_match: Some(to(&name)) }).collect();
    Listener {
        filter_chains,
        filter_chain_matcher: Some(by_key(domain_matchers)),
        access_log: access_log::of_chains(inner),
        ..listener(inner.name())
    }
}

/// Exact keys first, then the longest wildcard that has them.
fn by_key(domain_matchers: Vec<DomainMatcher>) -> Matcher {
    let tree = MatcherTree {
        input: Some(typed("filter-state", &FilterStateInput { key: CHAIN.to_owned(), ..Default::default() })),
        tree_type: Some(TreeType::CustomMatch(typed("domains", &ServerNameMatcher { domain_matchers }))),
    };
    Matcher { matcher_type: Some(MatcherType::MatcherTree(tree)), on_no_match: None }
}

fn to(chain: &str) -> OnMatch {
    let name = StringValue { value: chain.to_owned() };
    OnMatch { on_match: Some(on_match::OnMatch::Action(typed("chain", &name))), ..Default::default() }
}

fn typed<M: prost::Message + Name>(
    name: &str,
    message: &M,
) -> envoy_types::pb::xds::core::v3::TypedExtensionConfig {
    envoy_types::pb::xds::core::v3::TypedExtensionConfig {
        name: name.to_owned(),
        typed_config: Some(pack(message)),
    }
}

fn filter_chain(name: &str, inner: Inner, chain: &Chain, profile: &Profile) -> FilterChain {
    let exit = &chain.exit;
    let cluster = match exit {
        Exit::Public => super::FORWARD_CLUSTER,
        Exit::Private => super::private::PRIVATE_CLUSTER,
        Exit::Listed(cluster, _) | Exit::Itself(cluster) => cluster,
    };
    // What was resolved on the way here is in the cache of its cluster, but for what goes to another port than was asked for,
    // and for listed addresses, which have a cache of their own.
    let cache = match (inner, exit) {
        (_, Exit::Listed(_, ranges)) => Some(dns::listed_cache(profile, ranges)),
        (Inner::Originate, Exit::Public) => Some(dns::cache(profile)),
        _ => None,
    };
    let resolve = cache.map(|cache| {
        let config = Resolve {
            dns_cache_config: Some(cache),
            port_specifier: Some(PortSpecifier::PortValue(Port::HTTP.number().into())),
            ..Default::default()
        };
        network_filter("envoy.filters.network.sni_dynamic_forward_proxy", pack(&config))
    });
    let go_on = network_filter("envoy.filters.network.tcp_proxy", pack(&tcp_proxy(cluster)));
    FilterChain {
        name: name.to_owned(),
        filters: limits::of_chain(chain.connections).into_iter().chain(resolve).chain([go_on]).collect(),
        ..Default::default()
    }
}

pub(super) fn tcp_proxy(cluster: &str) -> TcpProxy {
    TcpProxy {
        stat_prefix: "chains".to_owned(),
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        // The egress listener knows how long a connection may be idle.
        idle_timeout: duration(Duration::ZERO),
        ..Default::default()
    }
}

/// How long a connection to an internal listener lives without a client: one that was asked for by a client that had left before it
/// was there. Nobody else may have it. Envoy's default is ten minutes, in which it counts against limits.
const ABANDONED: Duration = Duration::from_secs(1);

/// Leads to an internal listener.
pub(super) fn cluster(name: &str, transport_socket: TransportSocket) -> Cluster {
    let tunnels = TcpProtocolOptions { idle_timeout: duration(ABANDONED) };
    Cluster {
        typed_extension_protocol_options: [(TcpProtocolOptions::full_name(), pack(&tunnels))].into(),
        name: name.to_owned(),
        connect_timeout: duration(CONNECT_TIMEOUT),
        circuit_breakers: unbounded(),
        per_connection_buffer_limit_bytes: number(BUFFER),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
        load_assignment: Some(ClusterLoadAssignment {
            cluster_name: name.to_owned(),
            endpoints: vec![LocalityLbEndpoints {
                lb_endpoints: vec![LbEndpoint {
                    host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
                        address: Some(Address {
                            address: Some(address::Address::EnvoyInternalAddress(EnvoyInternalAddress {
                                address_name_specifier: Some(AddressNameSpecifier::ServerListenerName(
                                    name.to_owned(),
                                )),
                                ..Default::default()
                            })),
                        }),
                        ..Default::default()
                    })),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        }),
        transport_socket: Some(passing_on(transport_socket)),
        ..Default::default()
    }
}

/// Hands on what is known of a request.
fn passing_on(inside: TransportSocket) -> TransportSocket {
    socket(
        "envoy.transport_sockets.internal_upstream",
        &InternalUpstreamTransport { transport_socket: Some(inside), ..Default::default() },
    )
}

pub(super) fn raw() -> TransportSocket {
    socket("envoy.transport_sockets.raw_buffer", &RawBuffer {})
}

pub(super) fn socket<M: prost::Message + Name>(name: &str, config: &M) -> TransportSocket {
    TransportSocket {
        name: name.to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(pack(config))),
    }
}
