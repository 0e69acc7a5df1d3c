//! From policy to Envoy resources: a pure function, equal output for equal input, to the byte.
//!
//! Knows nothing of files, YAML, streams, versions or clocks.
//!
//! ```text
//!  client ─► egress: routes decide; filters resolve names ─┬─► sni: is it TLS for its host? ─► tls ──┐
//!                                                          ├─► tcp ──────────────────────────────────┤ one chain for each
//!                                                          ├─► http ─────────────────────────────────┤ entry, host form
//!                                                          └─► originate (TLS from here on) ─────────┴─ and port ─► upstream
//! ```
//!
//! | resource | depends on | changed by an edit |
//! |---|---|---|
//! | listener [`EGRESS_LISTENER`] | [`Profile`], an agent's `max_connections` | only by that: it drains every connection on it |
//! | internal listener `sni`, clusters to the internal listeners, clusters that resolve | [`Profile`] | never |
//! | routes [`EGRESS_ROUTES`] | [`Policy`] | always; Envoy swaps the table and drops nothing |
//! | internal listeners `tls tcp http originate` | [`Policy`], [`Profile`] | chains come and go, and with each its connections |
//! | clusters `private/HOST:PORT` | [`Policy`], [`Profile`] | where an address or a name with `addresses` comes or goes |
//!
//! Replicas must agree on bytes, because versions are hashes of them. Protobuf maps encode in random order, so no
//! message built here has a map of more than one entry; JSON formats and routes, which need more, go through `format` and
//! `table`.

mod access_log;
mod answer;
mod any;
mod bootstrap;
mod bootstrap_tls;
mod carry;
mod chain;
mod chain_name;
mod chains;
mod cluster;
mod deny;
mod dns;
mod domain;
mod format;
mod hcm;
mod inner;
mod json;
mod kind;
mod limits;
mod listener;
mod matching;
mod private;
mod profile;
mod route;
mod server_names;
mod sni;
mod table;
mod unnamed;
mod validate;

pub use bootstrap::{Bootstrap, LATE_REVOCATION, REVOCATION, XdsEndpoint};
pub use bootstrap_tls::BootstrapTls;
pub use chain::MAX_CHAINS;
pub use deny::{DENY_ACTION, DENY_REASON_HEADER, WOULD_DENY_ACTION};
pub use json::json;
pub use kind::ResourceKind;
pub use profile::Profile;
pub use route::RULES_WITH_LINE;
pub use validate::static_bootstrap;

use crate::policy::Policy;
use envoy_types::pb::google::protobuf::Any;
use std::collections::BTreeMap;

/// The cluster that everything leaves by that is not private.
pub const FORWARD_CLUSTER: &str = "forward";
/// The explicit proxy's listener.
pub const EGRESS_LISTENER: &str = "egress";
/// The route table of the egress listener.
pub const EGRESS_ROUTES: &str = "egress";
/// The oldest Envoy that knows `resolved_address_filter`, without which private addresses would be reachable.
pub const MINIMUM_VERSION: (u32, u32) = (1, 40);

/// The configuration types of the extensions that resources may need, whatever the policy: an Envoy without one of them
/// would reject a whole listener or cluster when an edit first needs it.
pub const REQUIRED_EXTENSIONS: [&str; 27] = [
    "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
    "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
    "envoy.extensions.bootstrap.internal_listener.v3.InternalListener",
    "envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig",
    "envoy.extensions.filters.http.body_size_limit.v3.BodySizeLimit",
    "envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig",
    "envoy.extensions.filters.http.filter_chain.v3.FilterChainConfig",
    "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
    "envoy.extensions.filters.http.rbac.v3.RBAC",
    "envoy.extensions.filters.http.router.v3.Router",
    "envoy.extensions.filters.http.set_filter_state.v3.Config",
    "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
    "envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit",
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    "envoy.extensions.filters.network.rbac.v3.RBAC",
    "envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3.FilterConfig",
    "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
    "envoy.extensions.formatter.cel.v3.Cel",
    "envoy.extensions.matching.common_inputs.network.v3.FilterStateInput",
    "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
    "envoy.extensions.rbac.matchers.upstream_ip_port.v3.UpstreamIpPortMatcher",
    "envoy.extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport",
    "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer",
    "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
    "envoy.extensions.upstreams.tcp.v3.TcpProtocolOptions",
    "xds.type.matcher.v3.ServerNameMatcher",
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
    let (table, chains) = route::egress(policy);
    let clusters = cluster::fixed(profile).into_iter().chain(private::clusters(&chains, profile));
    let clusters = clusters.map(|cluster| Resource {
        kind: ResourceKind::Cluster,
        body: any::pack(&cluster),
        name: cluster.name,
    });
    let mut resources: Vec<Resource> = clusters.collect();
    let fixed = [listener::egress(policy, profile), sni::listener()];
    let changing = chains.finish().map(|(inner, chains)| inner::of_chains(inner, chains, profile));
    resources.extend(fixed.into_iter().chain(changing).map(|listener| Resource {
        kind: ResourceKind::Listener,
        body: any::pack(&listener),
        name: listener.name,
    }));
    resources.push(Resource {
        kind: ResourceKind::RouteConfiguration,
        name: EGRESS_ROUTES.to_owned(),
        body: table.pack(),
    });
    resources.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
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
    use crate::policy::{
        Grant, HostName, HostPattern, Limits, Origin, Ports, Private, Requests, Rule, Traffic,
    };

    /// A map anywhere would betray itself: each one iterates in its own random order.
    #[test]
    fn equal_input_gives_equal_bytes() {
        let rules = (1..=50).map(|line| {
            let pattern = HostPattern::Tree(HostName::parse(&format!("h{line}.test")).unwrap());
            Rule::plain(pattern, Ports::default(), Origin { file: "f".into(), line })
        });
        let policy = Policy::new(rules.chain(rich()).collect());
        let first = compile(&policy, &Profile::default());
        for _ in 0..50 {
            assert!(compile(&policy, &Profile::default()) == first);
        }
    }

    /// Rules that need nearly everything that there is.
    fn rich() -> Vec<Rule> {
        let rule = |name: &str, grant: Grant| Rule {
            grant: std::sync::Arc::new(grant),
            ..Rule::plain(
                HostPattern::Exact(HostName::parse(name).unwrap()),
                Ports::default(),
                Origin { file: "f".into(), line: 1 },
            )
        };
        let limits = Limits {
            connections: Some(1),
            requests_per_minute: Some(1),
            upload: Some(1),
            idle: Some(std::time::Duration::from_secs(1)),
        };
        let private = Private { addresses: vec!["10.0.0.0/8".parse().unwrap()] };
        vec![
            rule("db.test", Grant { private: Some(private), limits, ..Grant::default() }),
            rule("api.test", Grant { traffic: Traffic::Originate(Requests::default()), ..Grant::default() }),
        ]
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
        let mut found = std::collections::BTreeSet::new();
        for resource in compile(&Policy::new(rich()), &Profile::default()) {
            types(&json(&resource.body.type_url, &resource.body.value).unwrap(), false, &mut found);
        }
        // Routes' configuration of filters that are there, and names.
        for part in [
            "envoy.config.route.v3.FilterConfig",
            "envoy.extensions.filters.http.dynamic_forward_proxy.v3.PerRouteConfig",
            "envoy.extensions.filters.http.filter_chain.v3.FilterChainConfigPerRoute",
            "envoy.extensions.filters.http.rbac.v3.RBACPerRoute",
            "google.protobuf.StringValue",
        ] {
            assert!(found.remove(part), "{part}");
        }
        // In the bootstrap.
        found.insert("envoy.extensions.bootstrap.internal_listener.v3.InternalListener".to_owned());
        assert_eq!(found, REQUIRED_EXTENSIONS.map(str::to_owned).into());
    }
}
