//! The route table: the policy as Envoy enforces it.
//!
//! One virtual host for each rule, so that logs and 403 bodies name file and line; from [`RULES_WITH_LINE`] rules on
//! one for each file, because Envoy's cost of an edit grows with the number of virtual hosts and hardly with domains.

use super::{
    EGRESS_ROUTES,
    answer::{Refusal, Ways, What, label_of},
    any::metadata,
    chains::Chains,
    deny::RULE_KEY,
    domain::domains,
    matching::{
        any_path, authority, connect, ends_in, forward, refuse, refuse_or_report, report, requests, scheme,
    },
    table::Table,
    unnamed,
};
use crate::policy::{DenyReason, Policy, Port};
use envoy_types::pb::envoy::config::route::v3::{HeaderMatcher, Route, RouteConfiguration, VirtualHost};
use std::{collections::BTreeMap, sync::Arc};

/// Up to this many rules, each rule has a virtual host of its own.
pub const RULES_WITH_LINE: usize = 256;

/// A name. Suffix domains match by text, so `evil@x.wild.test` would match `*.wild.test`: only names pass, and their last
/// label has a letter. (RE2 programs are bounded by Envoy, to a size of 100.)
macro_rules! name {
    () => {
        "([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\\.)*([0-9][0-9-]*)?[A-Za-z]([A-Za-z0-9-]*[A-Za-z0-9])?"
    };
}
/// A port as Envoy compares it: `0443` is another text than `443`, and leads to the same port.
macro_rules! port {
    () => {
        ":[1-9][0-9]*"
    };
}
/// The host of a domain that is listed: a name, or an address, which is listed as it is written.
macro_rules! host {
    () => {
        concat!("(", name!(), "|[0-9.]+|\\[[0-9A-Fa-f:.]+\\])")
    };
}
const HOST_WITH_PORT: &str = concat!(host!(), port!());
const HOST_WITH_OR_WITHOUT_PORT: &str = concat!(host!(), "(", port!(), ")?");
const NAME_WITH_PORT: &str = concat!(name!(), port!());
const NAME_WITH_OR_WITHOUT_PORT: &str = concat!(name!(), "(", port!(), ")?");
/// An IPv4 address in its one canonical spelling: `127.0.0.01` leads where `127.0.0.1` does, and no rule about that would
/// match it.
macro_rules! address {
    () => {
        "((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])\\.){3}(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
    };
}
const ADDRESS_WITH_PORT: &str = concat!(address!(), port!());
const ADDRESS_WITH_OR_WITHOUT_PORT: &str = concat!(address!(), "(", port!(), ")?");

/// Headers that would tell the upstream about the agent, carry the agent's proxy credentials to it, or ask for what the
/// request does not say.
const HEADERS_TO_REMOVE: [&str; 18] = [
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
    // Methods and paths are policy.
    "x-original-url",
    "x-rewrite-url",
    "x-forwarded-prefix",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
];

/// The table, and the chains that what it lets through hangs on.
pub(super) fn egress(policy: &Policy) -> (Table, Chains<'_>) {
    let label = label_of(policy);
    let (groups, mut chains) = domains(policy, label);
    let mut table = Table::new(RouteConfiguration {
        name: EGRESS_ROUTES.to_owned(),
        request_headers_to_remove: HEADERS_TO_REMOVE.map(str::to_owned).to_vec(),
        // An upstream must not lure clients to HTTP/3, which does not pass the proxy.
        response_headers_to_remove: vec!["alt-svc".to_owned()],
        ..Default::default()
    });
    let mut same: BTreeMap<String, u32> = BTreeMap::new();
    for (answer, domains) in groups {
        let (what, routes) = match &answer.what {
            What::Denied => ("denied", everything(DenyReason::DeniedByRule)),
            What::Unlisted(refusal) => {
                let what = if refusal.reason == DenyReason::Expired { "expired" } else { "other-port" };
                (what, unlisted_routes(refusal))
            }
            What::Passes(ways) => ("allow", allow_routes(ways)),
        };
        let mut name = format!("{what}/{}", answer.rule);
        // One rule has several answers where other rules cover some of it.
        let number = same.entry(name.clone()).and_modify(|number| *number += 1).or_insert(1);
        if *number > 1 {
            name.push_str(&format!("/{number}"));
        }
        let metadata = Some(metadata(RULE_KEY, &answer.rule));
        table.push(VirtualHost { name, domains, routes, metadata, ..Default::default() });
    }
    let mut rest = unnamed::routes(policy, label, &mut chains);
    rest.extend(match chains.report() {
        None => everything(DenyReason::NotListed),
        Some(chain) => report_routes(&chain),
    });
    table.push(everything_else("not-listed", rest));
    (table, chains)
}

/// The table of a name that exeat does not know: a listener that asks for it denies everything, and says so.
pub(super) fn deny_all(name: &str) -> RouteConfiguration {
    RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts: vec![everything_else("no-policy", everything(DenyReason::NoPolicy))],
        ..Default::default()
    }
}

fn everything_else(name: &str, routes: Vec<Route>) -> VirtualHost {
    VirtualHost { name: name.to_owned(), domains: vec!["*".to_owned()], routes, ..Default::default() }
}

fn everything(reason: DenyReason) -> Vec<Route> {
    vec![refuse(reason, connect([])), refuse(reason, any_path([]))]
}

/// First match wins. `prefix` never matches CONNECT, and `connect_matcher` nothing else.
fn allow_routes(ways: &Ways) -> Vec<Route> {
    // The port must be there: over HTTP/2 a CONNECT without one would match the portless domain of port 80.
    let mut routes = tunnels(ways, authority(HOST_WITH_PORT));
    routes.push(refuse(DenyReason::BadHost, connect([])));
    routes.extend(refused_forms());
    routes.extend(plain(ways, &authority(HOST_WITH_OR_WITHOUT_PORT)));
    routes.push(refuse(DenyReason::BadHost, any_path([])));
    routes
}

/// The tunnels of authorities that match.
pub(super) fn tunnels(ways: &Ways, authority: HeaderMatcher) -> Vec<Route> {
    let way = match &ways.tunnels {
        Ok(way) => way,
        Err(refusal) => return refuse_or_report(refusal, connect([authority])),
    };
    let mut routes = Vec::new();
    if way.not_80 {
        let refusal = Refusal { reason: DenyReason::MethodNotAllowed, report: ways.report.clone() };
        routes.extend(refuse_or_report(&refusal, connect([authority.clone(), ends_in(Port::HTTP)])));
    }
    routes.extend(forward(connect([authority]), way));
    routes
}

/// The plain requests of authorities that match.
pub(super) fn plain(ways: &Ways, authority: &HeaderMatcher) -> Vec<Route> {
    let headers = [authority.clone(), scheme("http")];
    let pass = ways.plain.iter().flat_map(|(which, way)| {
        requests(which, &headers).into_iter().flat_map(move |matches| forward(matches, way))
    });
    let rest = ways.other_plain.iter().flat_map(|(which, refusal)| {
        requests(which, &headers).into_iter().flat_map(|matches| refuse_or_report(refusal, matches))
    });
    pass.chain(rest).collect()
}

/// Plain requests that are refused whatever the policy says.
pub(super) fn refused_forms() -> [Route; 2] {
    [
        // Over HTTP/2 the client chooses the scheme; Envoy would forward in clear to port 80.
        refuse(DenyReason::HttpsNeedsConnect, any_path([scheme("https")])),
        refuse(DenyReason::NotTls, any_path([ends_in(Port::HTTPS)])),
    ]
}

/// The domain `a.com:*` matches whatever stands behind the colon.
fn unlisted_routes(refusal: &Refusal) -> Vec<Route> {
    let host = || authority(HOST_WITH_OR_WITHOUT_PORT);
    let reports = refusal.report.is_some();
    let tunnel = if reports { authority(HOST_WITH_PORT) } else { host() };
    let mut routes = refuse_or_report(refusal, connect([tunnel]));
    routes.push(refuse(DenyReason::BadHost, connect([])));
    if reports {
        routes.extend(refused_forms());
    }
    routes.extend(refuse_or_report(refusal, any_path([host()])));
    routes.push(refuse(DenyReason::BadHost, any_path([])));
    routes
}

/// In report mode every name passes. Addresses in brackets have too many spellings to be told apart from guarded ones.
fn report_routes(chain: &Arc<str>) -> Vec<Route> {
    let brackets = || authority("\\[.*");
    let report = |matches| report(DenyReason::NotListed, chain, matches);
    let mut routes = report(connect([authority(NAME_WITH_PORT)]));
    routes.extend(report(connect([authority(ADDRESS_WITH_PORT)])));
    routes.push(refuse(DenyReason::NotListed, connect([brackets()])));
    routes.push(refuse(DenyReason::BadHost, connect([])));
    routes.extend(refused_forms());
    for host in [NAME_WITH_OR_WITHOUT_PORT, ADDRESS_WITH_OR_WITHOUT_PORT] {
        routes.extend(report(any_path([authority(host), scheme("http")])));
    }
    routes.push(refuse(DenyReason::NotListed, any_path([brackets()])));
    routes.push(refuse(DenyReason::BadHost, any_path([])));
    routes
}
