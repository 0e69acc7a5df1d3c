//! A whole configuration with the policy in it, for `envoy --mode validate`.
//!
//! Knows nothing of what a policy means: it takes what it compiles to.

use super::{EGRESS_LISTENER, ResourceKind, any, compile, profile::Profile};
use crate::policy::Policy;
use envoy_types::pb::envoy::{
    config::{
        bootstrap::v3::{Bootstrap, bootstrap::StaticResources},
        cluster::v3::Cluster,
        core::v3::Node,
        listener::v3::{Listener, filter::ConfigType},
        route::v3::RouteConfiguration,
    },
    extensions::{
        bootstrap::internal_listener::v3::InternalListener,
        filters::network::http_connection_manager::v3::{
            HttpConnectionManager, http_connection_manager::RouteSpecifier,
        },
    },
};
use prost::{DecodeError, Message, Name};

/// The encoded bootstrap: what a sidecar with this policy gets, as static resources.
pub fn static_bootstrap(policy: &Policy, profile: &Profile) -> Result<Vec<u8>, DecodeError> {
    let mut resources = StaticResources::default();
    let mut routes = RouteConfiguration::default();
    for resource in compile(policy, profile) {
        let bytes = resource.body.value.as_slice();
        match resource.kind {
            ResourceKind::Cluster => resources.clusters.push(Cluster::decode(bytes)?),
            ResourceKind::Listener => resources.listeners.push(Listener::decode(bytes)?),
            ResourceKind::RouteConfiguration => routes = RouteConfiguration::decode(bytes)?,
            _ => {}
        }
    }
    let egress = resources.listeners.iter_mut().filter(|listener| listener.name == EGRESS_LISTENER);
    let filters = egress.flat_map(|listener| &mut listener.filter_chains);
    for filter in filters.flat_map(|chain| &mut chain.filters) {
        let Some(ConfigType::TypedConfig(config)) = &mut filter.config_type else { continue };
        if config.type_url != HttpConnectionManager::type_url() {
            continue;
        }
        let mut manager = HttpConnectionManager::decode(config.value.as_slice())?;
        manager.route_specifier = Some(RouteSpecifier::RouteConfig(routes.clone()));
        config.value = manager.encode_to_vec();
    }
    let node = Node { id: "validate".to_owned(), cluster: "validate".to_owned(), ..Default::default() };
    let bootstrap = Bootstrap {
        node: Some(node),
        static_resources: Some(resources),
        bootstrap_extensions: vec![any::extension(
            "envoy.bootstrap.internal_listener",
            &InternalListener::default(),
        )],
        ..Default::default()
    };
    Ok(bootstrap.encode_to_vec())
}
