//! What open connections hang on: a filter chain for each entry, form of its host, and port, in one of the internal listeners.
//!
//! When an edit takes a chain away or renames it, Envoy closes the connections on it, and no others. So a chain is named by
//! what its entry means, and by nothing that another edit may shift. Knows nothing of protobuf, only the names of clusters.

use super::{
    answer::Reach,
    chain::{Chain, Exit, Inner, MAX_CHAINS, bundled},
    chain_name::ChainName,
};
use crate::policy::{DenyRule, Grant, Limits, Mode, Policy, Port, Rule, Target};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// All chains of a policy.
#[derive(Debug)]
pub(super) struct Chains<'a> {
    sites: BTreeMap<(String, Port), Reach>,
    /// Rules for targets that have several.
    of_target: BTreeMap<&'a Target, Vec<&'a Rule>>,
    /// Deny rules by every name above them.
    denied_below: BTreeMap<&'a str, Vec<&'a DenyRule>>,
    denied_addresses: Vec<&'a DenyRule>,
    listeners: BTreeMap<Inner, BTreeMap<String, Chain>>,
    /// The chain of what is only let through to be reported.
    report: Option<ChainName>,
}

impl<'a> Chains<'a> {
    /// Those of all rules, as far as nothing denies all of what they allow on a port.
    pub(super) fn of(policy: &'a Policy, denied: impl Fn(&Target, &str, Port) -> bool) -> Self {
        let mut this = Self {
            sites: sites(policy),
            of_target: BTreeMap::new(),
            denied_below: BTreeMap::new(),
            denied_addresses: Vec::new(),
            listeners: Inner::ALL.into_iter().map(|inner| (inner, BTreeMap::new())).collect(),
            report: None,
        };
        for rule in policy.rules() {
            this.of_target.entry(&rule.target).or_default().push(rule);
        }
        this.of_target.retain(|_, rules| rules.len() > 1);
        let mut all = BTreeSet::new();
        for rule in policy.denied().iter().filter(|rule| rule.mode == Mode::Enforce) {
            match &rule.target {
                Target::Host(pattern) => {
                    let name = pattern.name().as_str();
                    for (at, _) in name.match_indices('.') {
                        this.denied_below
                            .entry(name.get(at + 1..).unwrap_or_default())
                            .or_default()
                            .push(rule);
                    }
                }
                Target::Address(_) | Target::Range(_) => this.denied_addresses.push(rule),
            }
            all.insert(words(rule));
        }
        this.report = (policy.mode() == Mode::Report)
            .then(|| ChainName::new("report".to_owned(), &all.into_iter().collect::<Vec<String>>()));
        for rule in policy.rules() {
            for host in hosts(&rule.target) {
                for port in rule.ports.iter().filter(|port| !denied(&rule.target, &host, *port)) {
                    for inner in Inner::of(&rule.grant.traffic, port) {
                        let name = this.name(rule, &host, port, inner).to_string();
                        let exit = this.exit(rule, &host, port);
                        let tunnels = matches!(inner, Inner::Tls | Inner::Tcp);
                        let connections = this.terms(rule, port, inner).1.connections.filter(|_| tunnels);
                        let chain = Chain { exit, connections, keys: Vec::new() };
                        this.listeners.entry(inner).or_default().entry(name).or_insert(chain);
                    }
                }
            }
        }
        this
    }

    /// The chain of what passes by a rule to a form of its host, and a port.
    pub(super) fn name(&self, rule: &Rule, host: &str, port: Port, inner: Inner) -> ChainName {
        let grant = &rule.grant;
        let mut marks: Vec<String> = Vec::new();
        if let (Inner::Http | Inner::Originate, Some(requests)) = (inner, grant.traffic.plain()) {
            marks.extend((!requests.is_all()).then(|| format!("requests{requests}")));
        }
        let (longest, limits) = self.terms(rule, port, inner);
        marks.extend((!limits.is_empty()).then(|| format!("limits {limits}")));
        marks.extend(longest.map(|longest| format!("seconds {}", longest.as_secs())));
        if grant.private.is_some() {
            marks.push(match self.sites.get(&(host.to_owned(), port)) {
                Some(Reach::Listed(ranges)) => {
                    let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
                    format!("private {}", ranges.join(" "))
                }
                _ => "private".to_owned(),
            });
        }
        let below = match &rule.target {
            Target::Host(_) => host.strip_prefix("*.").and_then(|name| self.denied_below.get(name)),
            Target::Range(_) => Some(&self.denied_addresses),
            Target::Address(_) => None,
        };
        let below = below.into_iter().flatten().filter(|deny| {
            deny.ports.as_ref().is_none_or(|ports| ports.contains(port))
                && (matches!(rule.target, Target::Host(_)) || meet(&rule.target, &deny.target))
        });
        marks.extend(below.map(|deny| words(deny)).collect::<BTreeSet<String>>());
        ChainName::new(format!("{host}:{port}"), &marks)
    }

    /// How long, and how much, all rules about a rule's target let through.
    fn terms(&self, rule: &Rule, port: Port, inner: Inner) -> (Option<Duration>, Limits) {
        let same = self.of_target.get(&rule.target).into_iter().flatten().copied();
        widest(rule, same.filter(|other| other.ports.contains(port)), inner)
    }

    fn exit(&self, rule: &Rule, host: &str, port: Port) -> Exit {
        if rule.grant.private.is_none() {
            return Exit::Public;
        }
        match self.sites.get(&(host.to_owned(), port)) {
            Some(Reach::Listed(ranges)) => Exit::Listed(super::private::name(host, port), ranges.clone()),
            Some(Reach::Itself) => Exit::Itself(super::private::name(host, port)),
            _ => Exit::Private,
        }
    }

    /// Leads what has these keys to a chain, if that is there.
    pub(super) fn lead(&mut self, inner: Inner, chain: &ChainName, keys: impl IntoIterator<Item = String>) {
        let chains = self.listeners.get_mut(&inner);
        if let Some(chain) = chains.and_then(|chains| chains.get_mut(&chain.to_string())) {
            chain.keys.extend(keys);
        }
    }

    /// The key of what only passes to be reported, in report mode.
    pub(super) fn report(&self) -> Option<Arc<str>> {
        self.report.as_ref().map(ChainName::key)
    }

    /// The chains of each listener.
    pub(super) fn finish(self) -> impl Iterator<Item = (Inner, BTreeMap<String, Chain>)> {
        let report = self.report;
        self.listeners.into_iter().map(move |(inner, chains)| {
            let public = chains.values().filter(|chain| chain.is_public()).count();
            let mut chains = if public > MAX_CHAINS { bundled(chains) } else { chains };
            if let Some(report) = report.clone().filter(|_| matches!(inner, Inner::Tcp | Inner::Http)) {
                let keys = vec![report.key().to_string()];
                chains.insert(report.to_string(), Chain { exit: Exit::Public, connections: None, keys });
            }
            for chain in chains.values_mut() {
                chain.keys.sort_unstable();
                chain.keys.dedup();
            }
            (inner, chains)
        })
    }

    pub(super) const fn sites(&self) -> &BTreeMap<(String, Port), Reach> {
        &self.sites
    }
}

/// The form of a rule's host that covers another one: itself, or everything below it.
pub(super) fn form(rule: &Rule, host: &str) -> String {
    match &rule.target {
        Target::Host(pattern) if pattern.exact().is_some_and(|name| name.as_str() == host) => host.to_owned(),
        Target::Host(pattern) => format!("*.{}", pattern.name()),
        Target::Address(_) | Target::Range(_) => rule.target.to_string(),
    }
}

/// All forms of a target.
fn hosts(target: &Target) -> impl Iterator<Item = String> {
    let (one, below) = match target {
        Target::Host(pattern) => {
            (pattern.exact().map(ToString::to_string), pattern.above().map(|name| format!("*.{name}")))
        }
        Target::Address(_) | Target::Range(_) => (Some(target.to_string()), None),
    };
    one.into_iter().chain(below)
}

/// What the names of private targets may lead to.
fn sites(policy: &Policy) -> BTreeMap<(String, Port), Reach> {
    let mut rules: BTreeMap<(String, Port), Vec<&Rule>> = BTreeMap::new();
    for rule in policy.rules().iter().filter(|rule| rule.grant.private.is_some()) {
        let Some(host) = rule.target.exact() else { continue };
        for port in rule.ports.iter() {
            rules.entry((host.clone(), port)).or_default().push(rule);
        }
    }
    rules.into_iter().map(|(site, rules)| (site, Reach::of(rules.into_iter()))).collect()
}

/// A deny rule, whenever it ends.
fn words(deny: &DenyRule) -> String {
    DenyRule { until: None, ..deny.clone() }.spelling()
}

/// Whether a denied address or range is among those of a range.
fn meet(range: &Target, denied: &Target) -> bool {
    range.includes(denied) || denied.includes(range)
}

/// Of several rules for one target and the same traffic: how long it may live, and the widest of each limit.
pub(super) fn widest<'a>(
    rule: &Rule,
    others: impl Iterator<Item = &'a Rule>,
    inner: Inner,
) -> (Option<Duration>, Limits) {
    let traffic = |grant: &Grant| match inner {
        Inner::Tls | Inner::Tcp => {
            grant.traffic.tunnels(Port::HTTPS) && Inner::of_tunnels(&grant.traffic) == inner
        }
        Inner::Http | Inner::Originate => {
            grant.traffic.plain() == rule.grant.traffic.plain()
                && grant.traffic.plain().is_some()
                && Inner::of_requests(&grant.traffic) == inner
        }
    };
    let same = others.filter(|other| {
        other.target == rule.target && other.grant.mode == rule.grant.mode && traffic(&other.grant)
    });
    let own = (rule.grant.max_tunnel, rule.grant.limits.clone());
    same.fold(own, |(longest, limits), other| {
        let longest = longest.zip(other.grant.max_tunnel).map(|(one, other)| one.max(other));
        (longest, limits.and(&other.grant.limits))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{HostName, HostPattern, Origin, Ports};

    fn rule(pattern: fn(HostName) -> HostPattern, name: &str, line: u32) -> Arc<Rule> {
        let pattern = pattern(HostName::parse(name).unwrap());
        Arc::new(Rule::plain(pattern, Ports::default(), Origin { file: "f".into(), line }))
    }

    fn deny(name: &str, line: u32) -> Arc<DenyRule> {
        let target = Target::Host(HostPattern::Exact(HostName::parse(name).unwrap()));
        let (until, note, origin) = (None, None, Origin { file: "f".into(), line });
        Arc::new(DenyRule { target, ports: None, mode: Mode::Enforce, until, note, origin })
    }

    fn names(rules: Vec<Arc<Rule>>, denied: Vec<Arc<DenyRule>>) -> BTreeSet<String> {
        let policy = Policy::with(rules, denied, Mode::Enforce);
        let (_, chains) = super::super::domain::domains(&policy, super::super::answer::Label::Line);
        let all = chains.finish().flat_map(|(inner, chains)| {
            chains.into_keys().map(move |name| format!("{} {name}", inner.name()))
        });
        all.collect()
    }

    #[test]
    fn an_edit_elsewhere_renames_nothing() {
        let before = names(vec![rule(HostPattern::Tree, "a.test", 1)], vec![deny("x.a.test", 2)]);
        let more = vec![
            rule(HostPattern::Exact, "b.test", 1),
            rule(HostPattern::Exact, "y.a.test", 2),
            rule(HostPattern::Tree, "a.test", 7),
        ];
        let after = names(more, vec![deny("b.test", 3), deny("x.a.test", 9), deny("z.test", 10)]);
        assert!(before.is_subset(&after), "{before:?} {after:?}");
        assert!(!after.iter().any(|name| name.contains("b.test")), "what is denied has no chain: {after:?}");
    }

    #[test]
    fn a_denial_below_a_wildcard_renames_the_wildcard_alone() {
        let rules = || vec![rule(HostPattern::Tree, "a.test", 1), rule(HostPattern::Exact, "b.test", 2)];
        let (before, after) = (names(rules(), Vec::new()), names(rules(), vec![deny("x.y.a.test", 3)]));
        let gone: Vec<&String> = before.difference(&after).collect();
        assert_eq!(gone, ["http *.a.test:80", "tls *.a.test:443"]);
        assert_eq!(before.len(), after.len());
    }

    #[test]
    fn what_a_connection_may_do_is_part_of_its_chain() {
        let with = |grant: Grant| {
            names(
                vec![Arc::new(Rule {
                    grant: Arc::new(grant),
                    ..Rule::clone(&rule(HostPattern::Exact, "a.test", 1))
                })],
                Vec::new(),
            )
        };
        let plain = with(Grant::default());
        let short = with(Grant { max_tunnel: Some(Duration::from_secs(9)), ..Grant::default() });
        let report = with(Grant { mode: Mode::Report, ..Grant::default() });
        assert!(plain.is_disjoint(&short));
        assert_eq!(plain, report, "whether it is reported does not matter to what is open");
    }

    #[test]
    fn many_entries_share_chains_and_an_edit_touches_one() {
        let many = u32::try_from(MAX_CHAINS).unwrap() + 500;
        let rules = |count| (0..count).map(|n| rule(HostPattern::Exact, &format!("h{n}.test"), n)).collect();
        let (before, after) = (names(rules(many), Vec::new()), names(rules(many + 1), Vec::new()));
        assert!(before.len() <= 2 * MAX_CHAINS, "{}", before.len());
        // Of tunnels and of plain requests.
        assert!(before.difference(&after).count() <= 2);
    }
}
