//! From the egress listener to the chains behind it: the filters that resolve a request's name and write down for the internal
//! listeners what they need to know, and what routes say to them.
//!
//! A request that passes meets its routes twice. The first one leads to a cluster of the dynamic forward proxy, for which a
//! filter resolves the name: one that leads nowhere good is refused here, with a reason. Then a filter marks the request as
//! resolved, and the route is chosen again: now it leads to an internal listener, whose chain dials what was resolved. No
//! header takes part in this, so no client can.
//!
//! Knows nothing of rules: routes name the key of a chain, and the reasons.

use super::{
    FORWARD_CLUSTER,
    answer::{Key, Reach, Way},
    any::{extension, pack},
    chain::Inner,
    chain_name::key_of,
    deny, dns,
    private::{ANY_CLUSTER, PRIVATE_CLUSTER, only},
    profile::Profile,
};
use envoy_types::pb::{
    envoy::{
        config::{
            core::v3::{
                CelExpressionConfig, DataSource, SubstitutionFormatString, data_source::Specifier,
                substitution_format_string::Format,
            },
            route::v3::FilterConfig as Switch,
        },
        extensions::{
            filters::{
                common::set_filter_state::v3::{
                    FilterStateValue,
                    filter_state_value::{Key as ObjectKey, SharedWithUpstream, Value},
                },
                http::{
                    dynamic_forward_proxy::v3::{
                        FilterConfig, PerRouteConfig, filter_config::ImplementationSpecifier,
                    },
                    rbac::v3::{Rbac, RbacPerRoute},
                    set_filter_state::v3::Config,
                },
                network::http_connection_manager::v3::{HttpFilter, http_filter::ConfigType},
            },
            formatter::cel::v3::Cel,
        },
        r#type::matcher::v3::{
            FilterStateMatcher, StringMatcher, filter_state_matcher::Matcher, string_matcher::MatchPattern,
        },
    },
    google::protobuf::Any,
};

/// Sets the key of the chain where a route says it.
pub(super) const KEY_FILTER: &str = "exeat.chain";
/// Says what is to be resolved and dialled.
const HOST_FILTER: &str = "exeat.host";
/// Resolves public names.
const RESOLVE_FILTER: &str = "exeat.resolve";
/// Resolves private names.
const PRIVATE_FILTER: &str = "exeat.resolve-private";
/// Resolves private names whose addresses an entry lists.
const ANY_FILTER: &str = "exeat.resolve-any";
/// Compares what was resolved with the addresses that an entry lists.
const ADDRESSES_FILTER: &str = "exeat.addresses";
/// Marks a request as resolved, and writes down what chains need to know.
const RESOLVED_FILTER: &str = "exeat.resolved";

/// The authority in lower case, which virtual-host domains ignore and chains do not.
pub(super) const AUTHORITY: &str = "exeat.authority";
/// What the chain is found by: the authority, or a key.
pub(super) const CHAIN: &str = "exeat.chain";
/// The request id of a tunnel.
pub(super) const REQUEST: &str = "exeat.request";
/// The rule that a tunnel passes by.
pub(super) const RULE: &str = "exeat.rule";
/// The client of a tunnel.
pub(super) const CLIENT: &str = "exeat.client";
/// Whether a tunnel passes in earnest.
pub(super) const ACTION: &str = "exeat.action";
/// Why it would be denied if not.
pub(super) const REASON: &str = "exeat.reason";
/// Why a tunnel is refused that finds no chain, or one without room.
pub(super) const REFUSED: &str = "exeat.refused";
/// The request id, which is taken from requests that go on.
pub(super) const ID: &str = "exeat.id";
/// Where the dynamic forward proxy's cluster is to go, in place of a host header or an SNI.
const DYNAMIC_HOST: &str = "envoy.upstream.dynamic_host";
const RESOLVED: &str = "exeat.resolved";
const YES: &str = "yes";

/// The cluster that leads to an internal listener. What must be TLS is checked on its way.
pub(super) const fn entrance(inner: Inner) -> &'static str {
    match inner {
        Inner::Tls => super::sni::NAME,
        Inner::Tcp | Inner::Http | Inner::Originate => inner.name(),
    }
}

/// The filters in the order in which they must be.
pub(super) fn filters(profile: &Profile) -> Vec<HttpFilter> {
    let resolve = |name, cache| {
        let specifier = ImplementationSpecifier::DnsCacheConfig(cache);
        let config = FilterConfig {
            implementation_specifier: Some(specifier),
            // What the addresses of an entry are compared with.
            save_upstream_address: true,
            allow_dynamic_host_from_filter_state: true,
        };
        HttpFilter { disabled: true, ..filter(name, pack(&config)) }
    };
    let host = Config { on_request_headers: vec![dynamic_host(LOWER_AUTHORITY)], ..Default::default() };
    vec![
        filter(HOST_FILTER, pack(&host)),
        resolve(RESOLVE_FILTER, dns::cache(profile)),
        resolve(PRIVATE_FILTER, dns::private_cache(profile)),
        resolve(ANY_FILTER, dns::any_cache(profile)),
        filter(ADDRESSES_FILTER, pack(&Rbac::default())),
        filter(RESOLVED_FILTER, pack(&Config { on_request_headers: known(), clear_route_cache: true })),
        filter(KEY_FILTER, pack(&Config::default())),
    ]
}

pub(super) fn filter(name: &str, config: Any) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(ConfigType::TypedConfig(config)),
        ..Default::default()
    }
}

/// What internal listeners know of a request. Values that connections share only with their like are hashable: others would
/// be those of whoever opened a connection first. A tunnel shares with nobody, because its request id is among them.
fn known() -> Vec<FilterStateValue> {
    let own = |value| FilterStateValue { shared_with_upstream: SharedWithUpstream::None.into(), ..value };
    let of_tunnels = |expression: &str| format!("%CEL(request.method == 'CONNECT' ? {expression} : '')%");
    vec![
        own(value(RESOLVED, YES)),
        own(value(ID, "%STREAM_ID%")),
        value(AUTHORITY, LOWER_AUTHORITY),
        value(CHAIN, LOWER_AUTHORITY),
        value(REQUEST, &of_tunnels("request.id")),
        value(RULE, &of_tunnels(&deny::rule_expression())),
        value(CLIENT, &of_tunnels("source.address")),
        value(ACTION, &of_tunnels(&deny::passing_action())),
        value(REASON, &of_tunnels(&deny::passing_reason())),
        value(REFUSED, &of_tunnels(&deny::refused_reason())),
    ]
}

/// What the filters resolve, and what the clusters behind the chains dial.
fn dynamic_host(format: &str) -> FilterStateValue {
    FilterStateValue { factory_key: String::new(), ..value(DYNAMIC_HOST, format) }
}

/// Shared with everything that the request passes.
fn value(key: &str, format: &str) -> FilterStateValue {
    let config = CelExpressionConfig { enable_string_functions: true, ..Default::default() };
    FilterStateValue {
        key: Some(ObjectKey::ObjectKey(key.to_owned())),
        value: Some(Value::FormatString(SubstitutionFormatString {
            format: Some(Format::TextFormatSource(DataSource {
                specifier: Some(Specifier::InlineString(format.to_owned())),
                ..Default::default()
            })),
            formatters: vec![extension("envoy.formatter.cel", &Cel { cel_config: Some(config) })],
            ..Default::default()
        })),
        factory_key: "envoy.hashable_string".to_owned(),
        shared_with_upstream: SharedWithUpstream::Transitive.into(),
        skip_if_empty: true,
        ..Default::default()
    }
}

/// What the route of a request says of it that the filter cannot know.
pub(super) fn told(way: &Way) -> Option<Any> {
    let key = match &way.key {
        Key::Authority(None) => None,
        Key::Authority(Some(mark)) => Some(key_of(LOWER_AUTHORITY, Some(mark))),
        Key::Own(key) => Some(key.to_string()),
    };
    let mut values: Vec<FilterStateValue> = key.iter().map(|key| value(CHAIN, key)).collect();
    if way.to_443 {
        values.push(dynamic_host("%CEL(request.headers[':authority'].lowerAscii().split(':')[0])%:443"));
    }
    (!values.is_empty()).then(|| pack(&Config { on_request_headers: values, ..Default::default() }))
}

/// Virtual-host domains ignore case, and chains and the DNS cache do not.
const LOWER_AUTHORITY: &str = "%CEL(request.headers[':authority'].lowerAscii())%";

/// Matches requests whose name has been resolved.
pub(super) fn resolved() -> FilterStateMatcher {
    let text =
        StringMatcher { match_pattern: Some(MatchPattern::Exact(YES.to_owned())), ..Default::default() };
    FilterStateMatcher { key: RESOLVED.to_owned(), matcher: Some(Matcher::StringMatch(text)) }
}

/// What a route says to have a name resolved: the cluster that it leads to for now, and the filters that are at work. Nothing
/// for an address that an entry names: there is nothing to resolve or guard.
pub(super) fn resolving(reach: &Reach) -> Option<(&'static str, Vec<(&'static str, Any)>)> {
    let on = || pack(&Switch { config: Some(pack(&PerRouteConfig::default())), ..Default::default() });
    match reach {
        Reach::Public => Some((FORWARD_CLUSTER, vec![(RESOLVE_FILTER, on())])),
        Reach::Private => Some((PRIVATE_CLUSTER, vec![(PRIVATE_FILTER, on())])),
        Reach::Listed(ranges) => {
            let rules = RbacPerRoute { rbac: Some(Rbac { rules: Some(only(ranges)), ..Default::default() }) };
            Some((ANY_CLUSTER, vec![(ANY_FILTER, on()), (ADDRESSES_FILTER, pack(&rules))]))
        }
        Reach::Itself => None,
    }
}
