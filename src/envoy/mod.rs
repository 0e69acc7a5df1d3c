//! From policy to Envoy resources: a pure function, equal output for equal input, to the byte.
//!
//! Knows nothing of files, YAML, streams, versions or clocks.
//!
//! | resource | depends on | changed by an edit |
//! |---|---|---|
//! | cluster [`FORWARD_CLUSTER`] | [`Profile`] | never |
//! | clusters `private/HOST:PORT` | [`Policy`], [`Profile`] | where an entry with `private: true` comes or goes |
//! | listener [`EGRESS_LISTENER`] | [`Profile`] | never: changing it would drain every connection on it |
//! | routes [`EGRESS_ROUTES`] | [`Policy`] | always; Envoy swaps the table and drops nothing |
//!
//! Replicas must agree on bytes, because versions are hashes of them. Protobuf maps encode in random order, so no
//! message built here has a map of more than one entry; JSON formats, which need more, go through [`format`](self).

mod access_log;
mod answer;
mod any;
mod bootstrap;
mod bootstrap_tls;
mod cluster;
mod deny;
mod dns;
mod domain;
mod format;
mod hcm;
mod json;
mod kind;
mod listener;
mod matching;
mod private;
mod profile;
mod route;
mod unnamed;
mod validate;

pub use bootstrap::{Bootstrap, XdsEndpoint};
pub use bootstrap_tls::BootstrapTls;
pub use deny::{DENY_ACTION, DENY_REASON_HEADER, WOULD_DENY_ACTION};
pub use json::json;
pub use kind::ResourceKind;
pub use profile::Profile;
pub use route::RULES_WITH_LINE;
pub use validate::static_bootstrap;

use crate::policy::Policy;
use envoy_types::pb::google::protobuf::Any;
use std::collections::BTreeMap;

/// The one cluster that all traffic leaves by.
pub const FORWARD_CLUSTER: &str = "forward";
/// The explicit proxy's listener.
pub const EGRESS_LISTENER: &str = "egress";
/// The route table of the egress listener.
pub const EGRESS_ROUTES: &str = "egress";
/// The oldest Envoy that knows `resolved_address_filter`, without which private addresses would be reachable.
pub const MINIMUM_VERSION: (u32, u32) = (1, 40);

/// The configuration types of the extensions that resources may need, whatever the policy: an Envoy without one of them
/// would reject a whole listener or cluster when an edit first needs it.
pub const REQUIRED_EXTENSIONS: [&str; 12] = [
    "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
    "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
    "envoy.extensions.clusters.dns.v3.DnsCluster",
    "envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig",
    "envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig",
    "envoy.extensions.filters.http.rbac.v3.RBAC",
    "envoy.extensions.filters.http.router.v3.Router",
    "envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec",
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
    "envoy.extensions.rbac.matchers.upstream_ip_port.v3.UpstreamIpPortMatcher",
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
];

/// One xDS resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// Its type.
    pub kind: ResourceKind,
    /// Its name, equal to the name inside.
    pub name: String,
    /// The encoded message with its type URL.
    pub body: Any,
}

/// Everything that a sidecar with this policy gets.
#[must_use]
pub fn compile(policy: &Policy, profile: &Profile) -> Vec<Resource> {
    let clusters = private::clusters(policy, profile).into_iter().map(|cluster| Resource {
        kind: ResourceKind::Cluster,
        body: any::pack(&cluster),
        name: cluster.name,
    });
    let mut resources = vec![
        Resource {
            kind: ResourceKind::Cluster,
            name: FORWARD_CLUSTER.to_owned(),
            body: any::pack(&cluster::forward(profile)),
        },
        Resource {
            kind: ResourceKind::Listener,
            name: EGRESS_LISTENER.to_owned(),
            body: any::pack(&listener::egress(profile)),
        },
        Resource {
            kind: ResourceKind::RouteConfiguration,
            name: EGRESS_ROUTES.to_owned(),
            body: any::pack(&route::egress(policy)),
        },
    ];
    resources.extend(clusters);
    resources
}

/// What a name gets that does not exist, by type. A route table that is missing would leave a listener without rules;
/// one that is reported as removed leaves Envoy 1.40 initialising for ever.
#[must_use]
pub fn fallbacks() -> BTreeMap<ResourceKind, fn(&str) -> Any> {
    [(ResourceKind::RouteConfiguration, deny_all as fn(&str) -> Any)].into()
}

fn deny_all(name: &str) -> Any {
    any::pack(&route::deny_all(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{HostName, HostPattern, Origin, Ports, Rule};

    /// A map anywhere would betray itself: each one iterates in its own random order.
    #[test]
    fn equal_input_gives_equal_bytes() {
        let rules = (1..=50).map(|line| {
            let pattern = HostPattern::Tree(HostName::parse(&format!("h{line}.test")).unwrap());
            Rule::plain(pattern, Ports::default(), Origin { file: "f".into(), line })
        });
        let policy = Policy::new(rules.collect());
        let first = compile(&policy, &Profile::default());
        for _ in 0..50 {
            assert!(compile(&policy, &Profile::default()) == first);
        }
    }

    /// Every message inside another one is of an extension that is required.
    #[test]
    fn what_resources_need_is_required() {
        fn types(value: &serde_json::Value, inside: bool, found: &mut std::collections::BTreeSet<String>) {
            match value {
                serde_json::Value::Object(fields) => {
                    let own = fields.get("@type").and_then(|name| name.as_str()).filter(|_| inside);
                    found.extend(own.and_then(|name| name.rsplit('/').next()).map(str::to_owned));
                    fields.values().for_each(|value| types(value, true, found));
                }
                serde_json::Value::Array(items) => items.iter().for_each(|item| types(item, inside, found)),
                _ => {}
            }
        }
        let private = Rule {
            grant: std::sync::Arc::new(crate::policy::Grant {
                private: Some(crate::policy::Private::default()),
                ..Default::default()
            }),
            ..Rule::plain(
                HostPattern::Exact(HostName::parse("db.test").unwrap()),
                Ports::default(),
                Origin { file: "f".into(), line: 1 },
            )
        };
        let mut found = std::collections::BTreeSet::new();
        for resource in compile(&Policy::new(vec![private]), &Profile::default()) {
            types(&json(&resource.body.type_url, &resource.body.value).unwrap(), false, &mut found);
        }
        assert_eq!(found, REQUIRED_EXTENSIONS.map(str::to_owned).into());
    }
}
