//! The route table: the policy as Envoy enforces it.
//!
//! One virtual host for each rule, so that logs and 403 bodies name file and line; from [`RULES_WITH_LINE`] rules on
//! one for each file, because Envoy's cost of an edit grows with the number of virtual hosts and hardly with domains.

use super::{
    EGRESS_ROUTES, FORWARD_CLUSTER,
    any::{duration, metadata},
    deny::{REASON_KEY, ROUTE_PREFIX, RULE_KEY},
    domain::Domains,
};
use crate::policy::{DenyReason, Policy, Rule};
use envoy_types::pb::envoy::{
    config::route::v3::{
        DirectResponseAction, HeaderMatcher, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
        header_matcher::HeaderMatchSpecifier,
        route::Action,
        route_action::{ClusterSpecifier, UpgradeConfig, upgrade_config::ConnectConfig},
        route_match::{ConnectMatcher, PathSpecifier},
    },
    r#type::matcher::v3::{RegexMatcher, StringMatcher, string_matcher::MatchPattern},
};
use std::{collections::BTreeMap, time::Duration};

/// Up to this many rules, each rule has a virtual host of its own.
pub const RULES_WITH_LINE: usize = 256;

/// Suffix domains match by text, so `evil@x.wild.test` would match `*.wild.test`: only host names pass.
const HOST: &str = "[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*";

/// Headers that would tell the upstream about the agent, or carry the agent's proxy credentials to it.
const HEADERS_TO_REMOVE: [&str; 12] = [
    "proxy-authorization",
    "proxy-connection",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-attempt-count",
    "x-envoy-internal",
    "x-envoy-external-address",
    "x-envoy-original-dst-host",
];

pub(super) fn egress(policy: &Policy) -> RouteConfiguration {
    let domains = Domains::of(policy);
    let with_line = policy.rules().len() <= RULES_WITH_LINE;
    let label = |rule: &Rule| {
        if with_line { rule.origin.to_string() } else { rule.origin.file.to_string() }
    };
    let allowed = group(domains.allowed, label)
        .into_iter()
        .map(|(rule, domains)| virtual_host("allow", &rule, domains, allow_routes()));
    let other_ports = group(domains.other_ports, label)
        .into_iter()
        .map(|(rule, domains)| virtual_host("other-port", &rule, domains, other_port_routes()));
    let rest = everything_else("not-listed", DenyReason::NotListed);
    RouteConfiguration {
        name: EGRESS_ROUTES.to_owned(),
        virtual_hosts: allowed.chain(other_ports).chain([rest]).collect(),
        request_headers_to_remove: HEADERS_TO_REMOVE.map(str::to_owned).to_vec(),
        // An upstream must not lure clients to HTTP/3, which does not pass the proxy.
        response_headers_to_remove: vec!["alt-svc".to_owned()],
        ..Default::default()
    }
}

/// The table of a name that exeat does not know: a listener that asks for it denies everything, and says so.
pub(super) fn deny_all(name: &str) -> RouteConfiguration {
    RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts: vec![everything_else("no-policy", DenyReason::NoPolicy)],
        ..Default::default()
    }
}

fn everything_else(name: &str, reason: DenyReason) -> VirtualHost {
    VirtualHost {
        name: name.to_owned(),
        domains: vec!["*".to_owned()],
        routes: deny_routes(reason),
        ..Default::default()
    }
}

fn group(domains: BTreeMap<String, &Rule>, label: impl Fn(&Rule) -> String) -> BTreeMap<String, Vec<String>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (domain, rule) in domains {
        groups.entry(label(rule)).or_default().push(domain);
    }
    groups
}

fn virtual_host(what: &str, rule: &str, domains: Vec<String>, routes: Vec<Route>) -> VirtualHost {
    VirtualHost {
        name: format!("{what}/{rule}"),
        domains,
        routes,
        metadata: Some(metadata(RULE_KEY, rule)),
        ..Default::default()
    }
}

/// First match wins. `prefix` never matches CONNECT, and `connect_matcher` nothing else.
fn allow_routes() -> Vec<Route> {
    vec![
        // The port must be there: over HTTP/2 a CONNECT without one would match the portless domain of port 80.
        forward("allow/connect", connect([authority(&format!("{HOST}:[0-9]+"))])),
        refuse(DenyReason::BadHost, connect([])),
        // Over HTTP/2 the client chooses the scheme; Envoy would forward in clear to port 80.
        refuse(
            DenyReason::HttpsNeedsConnect,
            any_path([header(":scheme", MatchPattern::Exact("https".to_owned()))]),
        ),
        refuse(DenyReason::NotTls, any_path([header(":authority", MatchPattern::Suffix(":443".to_owned()))])),
        forward(
            "allow/http",
            any_path([
                authority(&format!("{HOST}(:[0-9]+)?")),
                header(":scheme", MatchPattern::Exact("http".to_owned())),
            ]),
        ),
        refuse(DenyReason::BadHost, any_path([])),
    ]
}

/// The domain `a.com:*` matches whatever stands behind the colon.
fn other_port_routes() -> Vec<Route> {
    let host = || [authority(&format!("{HOST}(:[0-9]+)?"))];
    vec![
        refuse(DenyReason::PortNotListed, connect(host())),
        refuse(DenyReason::BadHost, connect([])),
        refuse(DenyReason::PortNotListed, any_path(host())),
        refuse(DenyReason::BadHost, any_path([])),
    ]
}

fn deny_routes(reason: DenyReason) -> Vec<Route> {
    vec![refuse(reason, connect([])), refuse(reason, any_path([]))]
}

fn forward(name: &str, matches: RouteMatch) -> Route {
    let upgrade_configs = match matches.path_specifier {
        Some(PathSpecifier::ConnectMatcher(_)) => vec![UpgradeConfig {
            upgrade_type: "CONNECT".to_owned(),
            connect_config: Some(ConnectConfig::default()),
            ..Default::default()
        }],
        _ => Vec::new(),
    };
    Route {
        name: name.to_owned(),
        r#match: Some(matches),
        action: Some(Action::Route(RouteAction {
            cluster_specifier: Some(ClusterSpecifier::Cluster(FORWARD_CLUSTER.to_owned())),
            // The default of 15 s cuts streamed answers.
            timeout: duration(Duration::ZERO),
            upgrade_configs,
            ..Default::default()
        })),
        ..Default::default()
    }
}

fn refuse(reason: DenyReason, matches: RouteMatch) -> Route {
    Route {
        name: format!("{ROUTE_PREFIX}{}", reason.as_str()),
        r#match: Some(matches),
        metadata: Some(metadata(REASON_KEY, reason.as_str())),
        action: Some(Action::DirectResponse(DirectResponseAction { status: 403, ..Default::default() })),
        ..Default::default()
    }
}

fn connect<const N: usize>(headers: [HeaderMatcher; N]) -> RouteMatch {
    RouteMatch {
        path_specifier: Some(PathSpecifier::ConnectMatcher(ConnectMatcher {})),
        headers: headers.into(),
        ..Default::default()
    }
}

fn any_path<const N: usize>(headers: [HeaderMatcher; N]) -> RouteMatch {
    RouteMatch {
        path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
        headers: headers.into(),
        ..Default::default()
    }
}

fn authority(regex: &str) -> HeaderMatcher {
    let regex = RegexMatcher { regex: regex.to_owned(), ..Default::default() };
    header(":authority", MatchPattern::SafeRegex(regex))
}

fn header(name: &str, pattern: MatchPattern) -> HeaderMatcher {
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(StringMatcher {
            match_pattern: Some(pattern),
            ..Default::default()
        })),
        ..Default::default()
    }
}
