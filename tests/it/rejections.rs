//! What a real Envoy is left with after it rejected something, and that the server mends it.

use crate::support::{Block, GenericServer, Sidecar, get, resource, wait_until};
use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::{
                Cluster,
                cluster::{ClusterDiscoveryType, DiscoveryType},
            },
            core::v3::{
                Address, AggregatedConfigSource, ApiVersion, ConfigSource, SocketAddress,
                TypedExtensionConfig, address::Address as AddressKind, config_source::ConfigSourceSpecifier,
                socket_address::PortSpecifier,
            },
            endpoint::v3::{
                ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
            },
            listener::v3::{Filter, FilterChain, Listener, filter::ConfigType},
            route::v3::{
                DirectResponseAction, Route, RouteConfiguration, RouteMatch, VirtualHost, route::Action,
                route_match::PathSpecifier,
            },
        },
        extensions::{
            filters::{
                http::router::v3::Router,
                network::http_connection_manager::v3::{
                    HttpConnectionManager, HttpFilter, Rds, http_connection_manager::RouteSpecifier,
                    http_filter,
                },
            },
            network::dns_resolver::cares::v3::CaresDnsResolverConfig,
        },
    },
    google::protobuf::Any,
};
use exeat::{
    envoy::{ResourceKind, XdsEndpoint},
    snapshot::Resource,
};
use prost::{Message, Name};
use std::{
    collections::BTreeMap,
    net::{SocketAddr, UdpSocket},
};

const CDS: ResourceKind = ResourceKind::Cluster;
const LDS: ResourceKind = ResourceKind::Listener;
const RDS: ResourceKind = ResourceKind::RouteConfiguration;

fn address(host: &str, port: u16) -> Option<Address> {
    Some(Address {
        address: Some(AddressKind::SocketAddress(SocketAddress {
            address: host.to_owned(),
            port_specifier: Some(PortSpecifier::PortValue(port.into())),
            ..Default::default()
        })),
    })
}

/// A cluster with one endpoint, whose port is the revision. A host name makes a static cluster invalid.
fn endpoint_cluster(name: &str, host: &str, revision: u16) -> Cluster {
    let endpoint = Endpoint { address: address(host, revision), ..Default::default() };
    let endpoint =
        LbEndpoint { host_identifier: Some(HostIdentifier::Endpoint(endpoint)), ..Default::default() };
    Cluster {
        name: name.to_owned(),
        load_assignment: Some(ClusterLoadAssignment {
            cluster_name: name.to_owned(),
            endpoints: vec![LocalityLbEndpoints { lb_endpoints: vec![endpoint], ..Default::default() }],
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn cluster(name: &str, host: &str, revision: u16) -> Resource {
    resource(CDS, name, &endpoint_cluster(name, host, revision))
}

fn good(name: &str, revision: u16) -> Resource {
    cluster(name, "127.0.0.1", revision)
}

/// An Envoy whose admin interface shows everything, in either protocol variant.
fn envoy(server: &GenericServer, protocol: &str) -> Sidecar {
    Sidecar::at(&XdsEndpoint::Address(server.address), "n", &[], |text| {
        let all = text.lines().filter(|line| !line.contains("allow_paths")).collect::<Vec<_>>().join("\n");
        all.replace("DELTA_GRPC", protocol)
    })
}

/// Name and revision of each cluster that Envoy has.
fn clusters(envoy: &Sidecar) -> BTreeMap<String, u64> {
    let dump = envoy.admin("/clusters?format=json");
    let all = dump["cluster_statuses"].as_array().cloned().unwrap_or_default();
    all.iter()
        .filter(|one| one["name"] != "xds")
        .filter_map(|one| {
            let port = &one["host_statuses"][0]["address"]["socket_address"]["port_value"];
            Some((one["name"].as_str()?.to_owned(), port.as_u64()?))
        })
        .collect()
}

fn is(expected: &[(&str, u64)]) -> BTreeMap<String, u64> {
    expected.iter().map(|(name, revision)| ((*name).to_owned(), *revision)).collect()
}

/// The hole that every server has which believes what a client says after a NACK: Envoy takes the good part of a
/// rejected response, and reports none of it when it comes back.
fn a_rollback_after_a_rejection_is_enforced(protocol: &str, reconnect: bool) {
    let block = Block::claim();
    let mut server = GenericServer::start((block.host(9), 18_000).into());
    server.publish(vec![good("A", 1), good("B", 1)]);
    let envoy = envoy(&server, protocol);
    server.wait_live();
    assert_eq!(clusters(&envoy), is(&[("A", 1), ("B", 1)]));
    server.publish(vec![good("A", 2), cluster("C", "no-address", 1), good("D", 1)]);
    let words = server.wait_nack(CDS);
    assert!(words.contains("no-address"), "{words}");
    assert_eq!(clusters(&envoy), is(&[("A", 2), ("D", 1)]), "the good part is in force");
    let back = |server: &GenericServer| server.publish(vec![good("A", 1), good("B", 1)]);
    if reconnect {
        // Envoy cannot be told while it is away, and what it says when it comes back is wrong.
        server.cut_and(back);
    } else {
        back(&server);
    }
    wait_until("Envoy is what is served", || clusters(&envoy) == is(&[("A", 1), ("B", 1)]));
    server.wait_live();
    assert!(server.sidecar().unwrap().kinds["cds"].nack.is_none(), "an ACK clears it");
}

#[test]
fn delta_goes_back_after_a_rejection() {
    a_rollback_after_a_rejection_is_enforced("DELTA_GRPC", false);
}

#[test]
fn state_of_the_world_goes_back_after_a_rejection() {
    a_rollback_after_a_rejection_is_enforced("GRPC", false);
}

#[test]
fn delta_goes_back_after_a_rejection_and_a_new_stream() {
    a_rollback_after_a_rejection_is_enforced("DELTA_GRPC", true);
}

#[test]
fn state_of_the_world_goes_back_after_a_rejection_and_a_new_stream() {
    a_rollback_after_a_rejection_is_enforced("GRPC", true);
}

fn pack<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

fn listener(at: SocketAddr) -> Resource {
    let ads = ConfigSource {
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        resource_api_version: ApiVersion::V3.into(),
        ..Default::default()
    };
    let manager = HttpConnectionManager {
        stat_prefix: "t".to_owned(),
        route_specifier: Some(RouteSpecifier::Rds(Rds {
            config_source: Some(ads),
            route_config_name: "r".to_owned(),
        })),
        http_filters: vec![HttpFilter {
            name: "router".to_owned(),
            config_type: Some(http_filter::ConfigType::TypedConfig(pack(&Router::default()))),
            ..Default::default()
        }],
        ..Default::default()
    };
    let filter =
        Filter { name: "http".to_owned(), config_type: Some(ConfigType::TypedConfig(pack(&manager))) };
    let listener = Listener {
        name: "l".to_owned(),
        address: address(&at.ip().to_string(), at.port()),
        filter_chains: vec![FilterChain { filters: vec![filter], ..Default::default() }],
        ..Default::default()
    };
    resource(LDS, "l", &listener)
}

/// A table that answers everything with a status.
fn routes(status: u32) -> Resource {
    let route = Route {
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
            ..Default::default()
        }),
        action: Some(Action::DirectResponse(DirectResponseAction { status, ..Default::default() })),
        ..Default::default()
    };
    let host = VirtualHost {
        name: "all".to_owned(),
        domains: vec!["*".to_owned()],
        routes: vec![route],
        ..Default::default()
    };
    let table = RouteConfiguration { name: "r".to_owned(), virtual_hosts: vec![host], ..Default::default() };
    resource(RDS, "r", &table)
}

/// A cluster whose name a silent server is asked for: it stays warming, and its ACK stays away.
fn dead_cluster(dns: SocketAddr) -> Resource {
    let resolver = CaresDnsResolverConfig {
        resolvers: address(&dns.ip().to_string(), dns.port()).into_iter().collect(),
        ..Default::default()
    };
    let cluster = Cluster {
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::StrictDns.into())),
        typed_dns_resolver_config: Some(TypedExtensionConfig {
            name: "envoy.network.dns_resolver.cares".to_owned(),
            typed_config: Some(pack(&resolver)),
        }),
        ..endpoint_cluster("dead", "dead.test", 80)
    };
    resource(CDS, "dead", &cluster)
}

fn a_dead_name_holds_back_no_later_edit(protocol: &str) {
    let block = Block::claim();
    let silent = UdpSocket::bind((block.host(3), 0)).unwrap();
    let server = GenericServer::start((block.host(9), 18_000).into());
    let everything =
        |clusters: Vec<Resource>, status| [clusters, vec![listener(block.egress()), routes(status)]].concat();
    server.publish(everything(vec![good("A", 1)], 200));
    let _envoy = envoy(&server, protocol);
    server.wait_live();
    let code = || get(block.egress(), "http://a.test/").code;
    wait_until("the first table is in force", || code() == 200);
    let dead = || dead_cluster(silent.local_addr().unwrap());
    server.publish(everything(vec![good("A", 1), dead()], 201));
    wait_until("the routes of that edit come all the same", || code() == 201);
    assert!(server.sidecar().unwrap().kinds["cds"].unanswered_since.is_some(), "the clusters are not warm");
    server.publish(everything(vec![good("A", 1), dead()], 202));
    wait_until("and so do those of the next", || code() == 202);
    server.publish(everything(vec![good("A", 1)], 203));
    wait_until("the dead cluster goes", || code() == 203);
    server.wait_live();
}

#[test]
fn a_dead_name_holds_back_no_later_edit_in_delta() {
    a_dead_name_holds_back_no_later_edit("DELTA_GRPC");
}

#[test]
fn a_dead_name_holds_back_no_later_edit_in_state_of_the_world() {
    a_dead_name_holds_back_no_later_edit("GRPC");
}
