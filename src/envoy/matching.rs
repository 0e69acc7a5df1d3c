//! Routes and what they match: small builders.
//!
//! Knows nothing of rules or domains: it is told what passes and for which reason the rest does not.

use super::{
    answer::{Refusal, Way},
    any::{duration, metadata, number},
    carry,
    chain::Inner,
    deny::{self, RULE_KEY},
    inner, limits,
};
use crate::policy::{DenyReason, PathPattern, Port, Requests};
use envoy_types::pb::{
    envoy::{
        config::route::v3::{
            DirectResponseAction, HeaderMatcher, RetryPolicy, Route, RouteAction, RouteMatch,
            header_matcher::HeaderMatchSpecifier,
            retry_policy::RetryBackOff,
            route::Action,
            route_action::{
                ClusterSpecifier, MaxStreamDuration, UpgradeConfig, upgrade_config::ConnectConfig,
            },
            route_match::{ConnectMatcher, PathSpecifier},
        },
        r#type::matcher::v3::{
            RegexMatcher, StringMatcher,
            regex_matcher::{EngineType, GoogleRe2},
            string_matcher::MatchPattern,
        },
    },
    google::protobuf::{Any, BoolValue},
};
use std::{sync::Arc, time::Duration};

/// Lets matching requests through, in earnest or to be reported: once their name is resolved, to the chain that carries them;
/// before that to the cluster by which the filters see what is to be resolved, and refuse what leads nowhere good.
pub(super) fn forward(matches: RouteMatch, way: &Way) -> Vec<Route> {
    let tunnel = matches!(matches.path_specifier, Some(PathSpecifier::ConnectMatcher(_)));
    let upgrade = UpgradeConfig { upgrade_type: "CONNECT".to_owned(), ..Default::default() };
    let upgrade = if tunnel {
        UpgradeConfig { connect_config: Some(ConnectConfig::default()), ..upgrade }
    } else {
        // `Upgrade: CONNECT` is no CONNECT.
        UpgradeConfig { enabled: Some(BoolValue { value: false }), ..upgrade }
    };
    let name = match way.reported {
        Some(reason) => format!("{}{}", deny::WOULD_DENY_PREFIX, reason.as_str()),
        // Whose chain may have no room.
        None if tunnel && way.limits.connections.is_some() => deny::LIMITED.to_owned(),
        None if tunnel => "allow/connect".to_owned(),
        None => "allow/http".to_owned(),
    };
    let longest = way
        .max_tunnel
        .map(|longest| MaxStreamDuration { max_stream_duration: duration(longest), ..Default::default() });
    let route = |matches: RouteMatch, cluster: &str, retry_policy, filters: Vec<(&'static str, Any)>| Route {
        name: name.clone(),
        r#match: Some(matches),
        action: Some(Action::Route(RouteAction {
            cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
            // The default of 15 s cuts streamed answers.
            timeout: duration(Duration::ZERO),
            upgrade_configs: vec![upgrade.clone()],
            max_stream_duration: longest,
            idle_timeout: way.limits.idle.and_then(duration),
            retry_policy,
            ..Default::default()
        })),
        typed_per_filter_config: filters
            .into_iter()
            .map(|(name, config)| (name.to_owned(), config))
            .collect(),
        ..Default::default()
    };
    let carry = |matches, limits: Vec<(&'static str, Any)>| {
        let told = carry::told(way).map(|config| (carry::KEY_FILTER, config));
        route(matches, carry::entrance(way.inner), Some(again()), told.into_iter().chain(limits).collect())
    };
    // Where a request first comes to.
    let limits = limits::of_route(&way.limits);
    let Some((cluster, filters)) = carry::resolving(&way.reach) else {
        return vec![carry(matches, limits)];
    };
    let resolved = RouteMatch { filter_state: vec![carry::resolved()], ..matches.clone() };
    let first = route(matches, cluster, None, filters.into_iter().chain(limits).collect());
    vec![carry(resolved, Vec::new()), first]
}

/// An edit that renames a chain changes routes first: what comes between the two finds the chain a moment later. Nothing of a
/// request has been sent by then.
fn again() -> RetryPolicy {
    let (base, most) = inner::AGAIN_AFTER;
    RetryPolicy {
        retry_on: "connect-failure".to_owned(),
        num_retries: number(inner::AGAIN),
        retry_back_off: Some(RetryBackOff { base_interval: duration(base), max_interval: duration(most) }),
        ..Default::default()
    }
}

/// 403.
pub(super) fn refuse(reason: DenyReason, matches: RouteMatch) -> Route {
    Route {
        name: format!("{}{}", deny::DENY_PREFIX, reason.as_str()),
        r#match: Some(matches),
        action: Some(Action::DirectResponse(DirectResponseAction { status: 403, ..Default::default() })),
        ..Default::default()
    }
}

/// 403, or let through to be reported.
pub(super) fn refuse_or_report(refusal: &Refusal, matches: RouteMatch) -> Vec<Route> {
    match &refusal.report {
        None => vec![refuse(refusal.reason, matches)],
        Some(chain) => report(refusal.reason, chain, matches),
    }
}

/// Let through, whatever it is, to be reported.
pub(super) fn report(reason: DenyReason, chain: &Arc<str>, matches: RouteMatch) -> Vec<Route> {
    let tunnel = matches!(matches.path_specifier, Some(PathSpecifier::ConnectMatcher(_)));
    let inner = if tunnel { Inner::Tcp } else { Inner::Http };
    forward(matches, &Way::reported(reason, inner, Arc::clone(chain)))
}

/// The same route with its own rule in the log.
pub(super) fn by_rule(route: Route, rule: &str) -> Route {
    Route { metadata: Some(metadata(RULE_KEY, rule)), ..route }
}

pub(super) fn connect<const N: usize>(headers: [HeaderMatcher; N]) -> RouteMatch {
    RouteMatch {
        path_specifier: Some(PathSpecifier::ConnectMatcher(ConnectMatcher {})),
        headers: headers.into(),
        ..Default::default()
    }
}

pub(super) fn any_path<const N: usize>(headers: [HeaderMatcher; N]) -> RouteMatch {
    RouteMatch {
        path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
        headers: headers.into(),
        ..Default::default()
    }
}

/// A path whose escapes stand for one character each and nothing else: no `%25`, which an origin may decode a second time,
/// no overlong or broken UTF-8, no control characters, and no `;`, `.`, `/` or `\`, which mean something in paths.
const ESCAPED_ONCE: &str = concat!(
    "([^%?]",
    "|%(2[0-46-9A-DFa-df]|3[0-9ACDEFacdef]|[46][0-9A-Fa-f]|5[0-9ABDEFabdef]|7[0-9A-Ea-e])",
    "|%([Cc][2-9A-Fa-f]|[Dd][0-9A-Fa-f])%[89ABab][0-9A-Fa-f]",
    "|%([Ee][1-9A-Fa-f]%[89ABab]|[Ee]0%[ABab])[0-9A-Fa-f]%[89ABab][0-9A-Fa-f]",
    "|%([Ff][1-4]%[89ABab]|[Ff]0%[9ABab])[0-9A-Fa-f](%[89ABab][0-9A-Fa-f]){2}",
    ")*(\\?.*)?"
);

/// Envoy resolves `..`, and leaves `..;x`, in which some origins see it.
const DOTS_WITH_PARAMETERS: &str = "[^?]*/\\.\\.?;.*";

/// One match for each path.
pub(super) fn requests(requests: &Requests, headers: &[HeaderMatcher]) -> Vec<RouteMatch> {
    let mut headers = headers.to_vec();
    if !requests.methods.is_empty() {
        let methods: Vec<&str> = requests.methods.iter().map(crate::policy::Method::as_str).collect();
        headers.push(header(":method", large(&methods.join("|"))));
    }
    let with =
        |path| RouteMatch { path_specifier: Some(path), headers: headers.clone(), ..Default::default() };
    if requests.paths.is_empty() {
        // `OPTIONS *` has no path that begins with a slash.
        return vec![with(PathSpecifier::Prefix("/".to_owned()))];
    }
    // What an origin may decode a second time, or reads as another character, is under no path.
    headers.push(header(":path", large(ESCAPED_ONCE)));
    headers.push(HeaderMatcher { invert_match: true, ..header(":path", large(DOTS_WITH_PARAMETERS)) });
    let with =
        |path| RouteMatch { path_specifier: Some(path), headers: headers.clone(), ..Default::default() };
    let path = |pattern: &PathPattern| match pattern {
        PathPattern::Exact(path) => PathSpecifier::Path(path.clone()),
        PathPattern::Prefix(path) => PathSpecifier::Prefix(path.clone()),
    };
    requests.paths.iter().map(|pattern| with(path(pattern))).collect()
}

pub(super) fn authority(pattern: &str) -> HeaderMatcher {
    header(":authority", regex(pattern))
}

pub(super) fn scheme(scheme: &str) -> HeaderMatcher {
    header(":scheme", MatchPattern::Exact(scheme.to_owned()))
}

pub(super) fn ends_in(port: Port) -> HeaderMatcher {
    header(":authority", MatchPattern::Suffix(format!(":{port}")))
}

fn regex(regex: &str) -> MatchPattern {
    MatchPattern::SafeRegex(RegexMatcher { regex: regex.to_owned(), ..Default::default() })
}

pub(super) fn large_authority(pattern: &str) -> HeaderMatcher {
    header(":authority", large(pattern))
}

/// An expression that is larger than Envoy lets them be by default: those of exeat are made of bounded lists.
#[expect(deprecated, reason = "the alternative is a setting of each sidecar's bootstrap")]
fn large(pattern: &str) -> MatchPattern {
    let engine = GoogleRe2 { max_program_size: number(MAX_PROGRAM_SIZE) };
    let engine_type = Some(EngineType::GoogleRe2(engine));
    MatchPattern::SafeRegex(RegexMatcher { regex: pattern.to_owned(), engine_type })
}

const MAX_PROGRAM_SIZE: u32 = 100_000;

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
