//! Route tables as bytes that are the same on each replica.
//!
//! A route's configuration of filters is a map, which prost encodes in random order. Here it is encoded by its keys, and appended
//! to the rest: concatenated protobuf messages merge (protobuf encoding, "Last One Wins").
//!
//! Knows nothing of what a table says.

use envoy_types::pb::{
    envoy::config::route::v3::{Route, RouteConfiguration, VirtualHost},
    google::protobuf::Any,
};
use prost::{Message, Name, bytes::Bytes};
use std::collections::BTreeMap;

/// The one field of `RouteConfiguration` that holds virtual hosts.
#[derive(Clone, PartialEq, prost::Message)]
struct VirtualHosts {
    #[prost(bytes = "bytes", repeated, tag = "2")]
    virtual_hosts: Vec<Bytes>,
}

/// The one field of `VirtualHost` that holds routes.
#[derive(Clone, PartialEq, prost::Message)]
struct Routes {
    #[prost(bytes = "bytes", repeated, tag = "3")]
    routes: Vec<Bytes>,
}

/// The one field of `Route` that holds the configuration of filters.
#[derive(Clone, PartialEq, prost::Message)]
struct Filters {
    #[prost(btree_map = "string, message", tag = "13")]
    typed_per_filter_config: BTreeMap<String, Any>,
}

/// A table that grows by virtual hosts. They are kept encoded: as values they would take ten times the memory.
pub(super) struct Table {
    /// Without virtual hosts.
    head: RouteConfiguration,
    virtual_hosts: Vec<Bytes>,
}

impl Table {
    pub(super) const fn new(head: RouteConfiguration) -> Self {
        Self { head, virtual_hosts: Vec::new() }
    }

    pub(super) fn push(&mut self, host: VirtualHost) {
        self.virtual_hosts.push(virtual_host(host));
    }

    pub(super) fn pack(self) -> Any {
        let Self { head, virtual_hosts } = self;
        let value = joined(&head, &VirtualHosts { virtual_hosts });
        Any { type_url: RouteConfiguration::type_url(), value }
    }
}

fn virtual_host(mut host: VirtualHost) -> Bytes {
    let routes = std::mem::take(&mut host.routes).into_iter().map(route).collect();
    joined(&host, &Routes { routes }).into()
}

fn route(mut route: Route) -> Bytes {
    let typed_per_filter_config = std::mem::take(&mut route.typed_per_filter_config).into_iter().collect();
    joined(&route, &Filters { typed_per_filter_config }).into()
}

fn joined(one: &impl Message, other: &impl Message) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(one.encoded_len() + other.encoded_len());
    // A vector has room for everything.
    let _ = one.encode(&mut bytes).and_then(|()| other.encode(&mut bytes));
    bytes
}
