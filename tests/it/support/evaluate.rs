//! What Envoy makes of a route table, without Envoy: thousands of cases in the time of one. `tests/it/oracle.rs` shows
//! that Envoy agrees.

use envoy_types::pb::envoy::{
    config::route::v3::{
        HeaderMatcher, Route, RouteConfiguration, VirtualHost, header_matcher::HeaderMatchSpecifier,
        route_match::PathSpecifier,
    },
    r#type::matcher::v3::string_matcher::MatchPattern,
};
use exeat::{
    envoy::{Profile, ResourceKind, compile},
    policy::{Policy, Request, Via},
};
use prost::Message;
use regex::Regex;
use std::collections::BTreeMap;

/// A compiled policy.
pub struct Table {
    config: RouteConfiguration,
    regexes: BTreeMap<String, Regex>,
}

impl Table {
    pub fn of(policy: &Policy) -> Self {
        let resources = compile(policy, &Profile::default());
        let routes = resources.iter().find(|one| one.kind == ResourceKind::RouteConfiguration).unwrap();
        let config = RouteConfiguration::decode(routes.body.value.as_slice()).unwrap();
        let mut table = Self { config, regexes: BTreeMap::new() };
        let headers = table.config.virtual_hosts.iter().flat_map(|host| &host.routes);
        let headers = headers.flat_map(|route| &route.r#match.as_ref().unwrap().headers);
        for pattern in headers.filter_map(regex_of) {
            table
                .regexes
                .entry(pattern.to_owned())
                .or_insert_with(|| Regex::new(&format!("^(?:{pattern})$")).unwrap());
        }
        table
    }

    /// The name of the route that a request takes, with its authority as written.
    pub fn route(&self, authority: &str, request: &Request) -> &str {
        // `strip_trailing_host_dot`.
        let authority = match authority.rsplit_once(':') {
            Some((host, port)) if host.ends_with('.') => format!("{}:{port}", host.trim_end_matches('.')),
            _ => authority.strip_suffix('.').unwrap_or(authority).to_owned(),
        };
        let host = self.virtual_host(&authority.to_ascii_lowercase());
        let route = host.routes.iter().find(|route| self.matches(route, &authority, request));
        route.map_or("", |route| route.name.as_str())
    }

    /// Exact, longest suffix, longest prefix, everything ("VirtualHost.domains").
    fn virtual_host(&self, authority: &str) -> &VirtualHost {
        let mut best: Option<((u8, usize), &VirtualHost)> = None;
        for host in &self.config.virtual_hosts {
            for domain in &host.domains {
                let rank = if domain == authority {
                    (3, 0)
                } else if domain == "*" {
                    (0, 0)
                } else if domain
                    .strip_prefix('*')
                    .is_some_and(|end| authority.len() > end.len() && authority.ends_with(end))
                {
                    (2, domain.len())
                } else if domain
                    .strip_suffix('*')
                    .is_some_and(|start| authority.len() > start.len() && authority.starts_with(start))
                {
                    (1, domain.len())
                } else {
                    continue;
                };
                if best.is_none_or(|(other, _)| rank > other) {
                    best = Some((rank, host));
                }
            }
        }
        best.unwrap().1
    }

    fn matches(&self, route: &Route, authority: &str, request: &Request) -> bool {
        let matching = route.r#match.as_ref().unwrap();
        let connect = request.via == Via::Tunnel;
        let path = match matching.path_specifier.as_ref().unwrap() {
            PathSpecifier::ConnectMatcher(_) => connect,
            PathSpecifier::Prefix(prefix) => !connect && request.path.starts_with(prefix),
            PathSpecifier::Path(path) => !connect && request.path == *path,
            other => panic!("{other:?}"),
        };
        path && matching.headers.iter().all(|header| self.has(header, authority, request))
    }

    fn has(&self, header: &HeaderMatcher, authority: &str, request: &Request) -> bool {
        let value = match header.name.as_str() {
            ":authority" => authority,
            ":scheme" => "http",
            ":method" => &request.method,
            ":path" => &request.path,
            other => panic!("{other}"),
        };
        let matches = match pattern_of(header) {
            MatchPattern::Exact(text) => value == text,
            MatchPattern::Suffix(text) => value.ends_with(text),
            MatchPattern::SafeRegex(regex) => self.regexes[&regex.regex].is_match(value),
            other => panic!("{other:?}"),
        };
        matches != header.invert_match
    }
}

fn pattern_of(header: &HeaderMatcher) -> &MatchPattern {
    match header.header_match_specifier.as_ref().unwrap() {
        HeaderMatchSpecifier::StringMatch(text) => text.match_pattern.as_ref().unwrap(),
        other => panic!("{other:?}"),
    }
}

fn regex_of(header: &HeaderMatcher) -> Option<&str> {
    match pattern_of(header) {
        MatchPattern::SafeRegex(regex) => Some(&regex.regex),
        _ => None,
    }
}
