//! The egress listener: one filter chain with the HTTP connection manager.

use super::{EGRESS_LISTENER, any::address, hcm, profile::Profile};
use envoy_types::pb::{
    envoy::config::{
        core::v3::TrafficDirection,
        listener::v3::{Filter, FilterChain, Listener, filter::ConfigType},
    },
    google::protobuf::BoolValue,
};

/// The explicit proxy. Nothing of the policy is in it, so that an edit never drains its connections.
pub(super) fn egress(profile: &Profile) -> Listener {
    Listener {
        name: EGRESS_LISTENER.to_owned(),
        address: Some(address(profile.egress)),
        // Two Envoys on one port would share its connections, each with a policy of its own; this way the second one fails.
        enable_reuse_port: Some(BoolValue { value: false }),
        traffic_direction: TrafficDirection::Outbound.into(),
        filter_chains: vec![FilterChain {
            filters: vec![Filter {
                name: "envoy.filters.network.http_connection_manager".to_owned(),
                config_type: Some(ConfigType::TypedConfig(hcm::egress(profile))),
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}
