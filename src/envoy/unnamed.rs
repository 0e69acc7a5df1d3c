//! Rules that no virtual-host domain can express: address ranges, and denied wildcards on every port. They are regular
//! expressions over the authority, which only what no domain matches is compared with.
//!
//! Knows nothing of domains; `domain` has what they can express.

use super::{
    answer::{Answer, Key, Label, What},
    chains::Chains,
    matching::{any_path, by_rule, connect, large_authority, refuse},
    route::{plain, refused_forms, tunnels},
};
use crate::policy::{DenyReason, DenyRule, HostPattern, Mode, Origin, Policy, Port, Rule, Target};
use envoy_types::pb::envoy::config::route::v3::Route;
use ipnet::Ipv4Net;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

/// Names in one expression: RE2 compiles each of them for itself.
const NAMES_AT_ONCE: usize = 200;

pub(super) fn routes(policy: &Policy, label: Label, chains: &mut Chains<'_>) -> Vec<Route> {
    let mut routes = denied_names(policy, label);
    routes.extend(ranges(policy, label, chains));
    routes
}

/// `*.a.com` denied on ports that no domain names.
fn denied_names(policy: &Policy, label: Label) -> Vec<Route> {
    // Longer names first: the closest rule is the one that is named, and of several the first.
    let mut names: BTreeMap<(Reverse<usize>, &Origin), BTreeSet<String>> = BTreeMap::new();
    let mut firsts = BTreeMap::new();
    let denied = policy.denied().iter().filter(|rule| rule.ports.is_none() && rule.mode == Mode::Enforce);
    for rule in denied {
        let Some(name) = rule.target.pattern().and_then(HostPattern::above) else { continue };
        let origin = *firsts.entry(label.of(&rule.origin)).or_insert(&rule.origin);
        let key = (Reverse(name.as_str().len()), origin);
        names.entry(key).or_default().insert(name.as_str().replace('.', "\\."));
    }
    let mut routes = Vec::new();
    for ((_, origin), names) in names {
        let rule = label.of(origin);
        let names: Vec<String> = names.into_iter().collect();
        for names in names.chunks(NAMES_AT_ONCE) {
            let pattern = format!("(?i)[^:]*\\.({})(:.*)?", names.join("|"));
            for matches in [connect([large_authority(&pattern)]), any_path([large_authority(&pattern)])] {
                routes.push(by_rule(refuse(DenyReason::DeniedByRule, matches), &rule));
            }
        }
    }
    routes
}

/// Longer prefixes first, each with the answer of all ranges that contain it.
fn ranges(policy: &Policy, label: Label, chains: &mut Chains<'_>) -> Vec<Route> {
    let allowed: Vec<(Ipv4Net, &Rule)> =
        policy.rules().iter().filter_map(|rule| Some((range(&rule.target)?, &**rule))).collect();
    let denied: Vec<(Ipv4Net, &DenyRule)> =
        policy.denied().iter().filter_map(|rule| Some((range(&rule.target)?, &**rule))).collect();
    let mut all: Vec<Ipv4Net> =
        allowed.iter().map(|(range, _)| *range).chain(denied.iter().map(|(range, _)| *range)).collect();
    all.sort_by_key(|range| (Reverse(range.prefix_len()), *range));
    all.dedup();
    all.into_iter().flat_map(|range| one_range(range, &allowed, &denied, label, chains)).collect()
}

fn range(target: &Target) -> Option<Ipv4Net> {
    match target {
        Target::Range(range) => Some(*range),
        Target::Host(_) | Target::Address(_) => None,
    }
}

fn one_range(
    range: Ipv4Net,
    allowed: &[(Ipv4Net, &Rule)],
    denied: &[(Ipv4Net, &DenyRule)],
    label: Label,
    chains: &mut Chains<'_>,
) -> Vec<Route> {
    let addresses = addresses(range);
    let report = chains.report();
    let mut denying: Vec<_> = denied.iter().filter(|(other, _)| other.contains(&range)).collect();
    denying.sort_by_key(|(other, _)| Reverse(other.prefix_len()));
    let find = |mode: Mode, port: Option<Port>| {
        denying.iter().map(|(_, rule)| *rule).find(|rule| {
            let ports = rule.ports.as_ref();
            rule.mode == mode && ports.is_none_or(|ports| port.is_some_and(|port| ports.contains(port)))
        })
    };
    let refused = |rule: &str, ports: &str| {
        let pattern = format!("{addresses}{ports}");
        [connect([large_authority(&pattern)]), any_path([large_authority(&pattern)])]
            .map(|matches| by_rule(refuse(DenyReason::DeniedByRule, matches), rule))
    };
    if let Some(all) = find(Mode::Enforce, None) {
        // A closer rule for some ports is the one that is named.
        let ports =
            denying.iter().filter_map(|(_, rule)| rule.ports.as_ref()).flat_map(crate::policy::Ports::iter);
        let mut routes = Vec::new();
        for port in ports.collect::<BTreeSet<Port>>() {
            if let Some(rule) = find(Mode::Enforce, Some(port)).filter(|rule| !std::ptr::eq(*rule, all)) {
                let written = if port == Port::HTTP { "(:80)?".to_owned() } else { format!(":{port}") };
                routes.extend(refused(&label.of(&rule.origin), &written));
            }
        }
        routes.extend(refused(&label.of(&all.origin), "(:.*)?"));
        return routes;
    }
    let mut covering: Vec<_> = allowed.iter().filter(|(other, _)| other.contains(&range)).collect();
    covering.sort_by_key(|(other, _)| Reverse(other.prefix_len()));
    let denied_ports = denying.iter().filter_map(|(_, rule)| rule.ports.as_ref());
    let ports: BTreeSet<Port> = covering
        .iter()
        .flat_map(|(_, rule)| rule.ports.iter())
        .chain(denied_ports.flat_map(crate::policy::Ports::iter))
        .collect();
    // One expression for all ports that are answered alike; those that pass have chains of their own.
    let mut answers: BTreeMap<Result<Answer, String>, Vec<Port>> = BTreeMap::new();
    for port in ports {
        if let Some(rule) = find(Mode::Enforce, Some(port)) {
            answers.entry(Err(label.of(&rule.origin))).or_default().push(port);
            continue;
        }
        let rules: Vec<&Rule> =
            covering.iter().map(|(_, rule)| *rule).filter(|rule| rule.ports.contains(port)).collect();
        let on_trial = find(Mode::Report, Some(port));
        let answer =
            Answer::allowed(&rules, on_trial, (&addresses, port), (report.as_ref(), label), |rule, inner| {
                let chain = chains.name(rule, &rule.target.to_string(), port, inner);
                let key = chain.key();
                chains.lead(inner, &chain, [key.to_string()]);
                Key::Own(key)
            });
        if let Some(answer) = answer {
            answers.entry(Ok(answer)).or_default().push(port);
        }
    }
    let mut routes = Vec::new();
    for (answer, ports) in answers {
        let all: Vec<String> = ports.iter().map(ToString::to_string).collect();
        let with_port = format!(":({})", all.join("|"));
        // A plain request to port 80 usually names no port.
        let plain_port =
            if ports.contains(&Port::HTTP) { format!("({with_port})?") } else { with_port.clone() };
        match answer {
            Err(rule) => routes.extend(refused(&rule, &plain_port)),
            Ok(Answer { rule, what: What::Passes(ways) }) => {
                let mut pass = tunnels(&ways, large_authority(&format!("{addresses}{with_port}")));
                if ports.contains(&Port::HTTPS) {
                    let matches = any_path([large_authority(&format!("{addresses}:443"))]);
                    pass.push(refuse(DenyReason::NotTls, matches));
                }
                pass.extend(plain(&ways, &large_authority(&format!("{addresses}{plain_port}"))));
                routes.extend(pass.into_iter().map(|route| by_rule(route, &rule)));
            }
            Ok(_) => {}
        }
    }
    if routes.is_empty() { routes } else { refused_scheme(&addresses).into_iter().chain(routes).collect() }
}

/// As for names: over HTTP/2 the client chooses the scheme.
fn refused_scheme(addresses: &str) -> Option<Route> {
    let [mut https, _] = refused_forms();
    let matches = https.r#match.as_mut()?;
    matches.headers.push(large_authority(&format!("{addresses}(:[0-9]+)?")));
    Some(https)
}

/// An expression for the canonical spellings of a range's addresses.
fn addresses(range: Ipv4Net) -> String {
    let (first, last) = (range.network().octets(), range.broadcast().octets());
    let parts = first.iter().zip(last).map(|(first, last)| octets(*first, last));
    format!("({})", parts.collect::<Vec<_>>().join("\\."))
}

fn octets(first: u8, last: u8) -> String {
    match (first, last) {
        (0, 255) => "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])".to_owned(),
        (first, last) if first == last => first.to_string(),
        (first, last) => {
            let all: Vec<String> = (first..=last).map(|octet| octet.to_string()).collect();
            format!("({})", all.join("|"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::HostName;
    use std::sync::Arc;

    #[test]
    fn of_rules_that_are_equally_close_the_first_is_named() {
        let deny = |pattern: fn(HostName) -> HostPattern, line| {
            let target = Target::Host(pattern(HostName::parse("a.test").unwrap()));
            let (until, note, origin) = (None, None, Origin { file: "f".into(), line });
            Arc::new(DenyRule { target, ports: None, mode: Mode::Enforce, until, note, origin })
        };
        // As text the tenth line comes first.
        let denied = vec![deny(HostPattern::Tree, 10), deny(HostPattern::Subdomains, 9)];
        let policy = Policy::with(Vec::new(), denied, Mode::Enforce);
        let routes = denied_names(&policy, Label::Line);
        let named: Vec<bool> = routes.iter().map(|route| format!("{route:?}").contains("f:9")).collect();
        assert_eq!(named, [true, true, false, false]);
    }

    #[test]
    fn a_range_is_an_expression() {
        let range = |text: &str| addresses(text.parse().unwrap());
        assert_eq!(range("10.0.5.7/32"), r"(10\.0\.5\.7)");
        assert_eq!(range("10.0.4.0/23"), format!(r"(10\.0\.(4|5)\.{})", octets(0, 255)));
        assert!(range("10.0.5.128/25").starts_with(r"(10\.0\.5\.(128|129|"));
    }
}
