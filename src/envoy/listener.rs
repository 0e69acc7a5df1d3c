//! The egress listener: one filter chain with the HTTP connection manager.

use super::{
    EGRESS_LISTENER,
    any::{address, network_filter, number},
    hcm, limits,
    profile::Profile,
};
use crate::policy::Policy;
use envoy_types::pb::{
    envoy::config::{
        core::v3::TrafficDirection,
        listener::v3::{FilterChain, Listener},
    },
    google::protobuf::BoolValue,
};

/// Bytes that one end of a connection may keep for the other before it stops reading. Who reads nothing costs its sidecar
/// several of these for each request, and 100 requests share a connection with HTTP/2; Envoy's default of a mebibyte would
/// be 300 MiB of memory for one such client. Sockets have buffers of their own for the way.
pub(super) const BUFFER: u32 = 64 << 10;

/// The explicit proxy. Nothing of the policy is in it but the limit of an agent's connections, so that no other edit drains
/// them.
pub(super) fn egress(policy: &Policy, profile: &Profile) -> Listener {
    let manager = network_filter("envoy.filters.network.http_connection_manager", hcm::egress(profile));
    Listener {
        per_connection_buffer_limit_bytes: number(BUFFER),
        name: EGRESS_LISTENER.to_owned(),
        address: Some(address(profile.egress)),
        // Two Envoys on one port would share its connections, each with a policy of its own; this way the second one fails.
        enable_reuse_port: Some(BoolValue { value: false }),
        traffic_direction: TrafficDirection::Outbound.into(),
        filter_chains: vec![FilterChain {
            filters: limits::of_chain(policy.max_connections()).into_iter().chain([manager]).collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}
