//! Upstream clusters.

use super::{
    FORWARD_CLUSTER,
    any::{duration, pack},
    dns,
    profile::Profile,
};
use envoy_types::pb::envoy::{
    config::cluster::v3::{
        Cluster,
        cluster::{ClusterDiscoveryType, CustomClusterType, LbPolicy},
    },
    extensions::clusters::dynamic_forward_proxy::v3::{
        ClusterConfig, cluster_config::ClusterImplementationSpecifier,
    },
};
use std::time::Duration;

pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The dynamic forward proxy: one cluster for every allowed name, so that an edit needs no cluster and no warming.
pub(super) fn forward(profile: &Profile) -> Cluster {
    let config = ClusterConfig {
        cluster_implementation_specifier: Some(ClusterImplementationSpecifier::DnsCacheConfig(dns::cache(
            profile,
        ))),
        ..Default::default()
    };
    Cluster {
        name: FORWARD_CLUSTER.to_owned(),
        connect_timeout: duration(CONNECT_TIMEOUT),
        lb_policy: LbPolicy::ClusterProvided.into(),
        cluster_discovery_type: Some(ClusterDiscoveryType::ClusterType(CustomClusterType {
            name: "envoy.clusters.dynamic_forward_proxy".to_owned(),
            typed_config: Some(pack(&config)),
        })),
        ..Default::default()
    }
}
