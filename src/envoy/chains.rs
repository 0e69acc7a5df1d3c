//! What open connections hang on: a filter chain for each entry, form of its host, and port, in one of the internal listeners.
//!
//! When an edit takes a chain away or renames it, Envoy closes the connections on it, and no others. So a chain is named by
//! what its entry means, and by nothing that another edit may shift. Knows nothing of protobuf.

use super::answer::Reach;
use crate::policy::{DenyRule, Mode, Policy, Port, Rule, Target, Traffic};
use ipnet::IpNet;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use xxhash_rust::xxh3::xxh3_64;

/// Chains of one listener. Beyond, entries share chains by a hash: Envoy's time for an edit grows with the number of chains.
pub const MAX_CHAINS: usize = 2048;

/// The internal listeners, by what they carry. One of the same name checks what goes into `tls`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Inner {
    /// Tunnels that were found to carry TLS for their host.
    Tls,
    /// Tunnels that carry anything.
    Tcp,
    /// Plain requests.
    Http,
    /// Requests that leave as TLS.
    Originate,
}

impl Inner {
    pub(super) const ALL: [Self; 4] = [Self::Tls, Self::Tcp, Self::Http, Self::Originate];

    /// The name of the listener, and of the cluster that leads to it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Tcp => "tcp",
            Self::Http => "http",
            Self::Originate => "originate",
        }
    }

    pub(super) const fn of_tunnels(traffic: &Traffic) -> Self {
        if traffic.is_opaque() { Self::Tcp } else { Self::Tls }
    }

    pub(super) const fn of_requests(traffic: &Traffic) -> Self {
        if matches!(traffic, Traffic::Originate(_)) { Self::Originate } else { Self::Http }
    }

    /// What a rule lets through on a port.
    fn of(traffic: &Traffic, port: Port) -> impl Iterator<Item = Self> {
        let tunnels = traffic.tunnels(port).then(|| Self::of_tunnels(traffic));
        let plain = traffic.plain().filter(|_| port != Port::HTTPS).map(|_| Self::of_requests(traffic));
        tunnels.into_iter().chain(plain)
    }
}

/// Where the connections of a chain go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Exit {
    /// To what the name leads to, if that is not guarded.
    Public,
    /// To nearly anything that the name leads to.
    Private,
    /// To these addresses, by a cluster of their own.
    Listed(String, Vec<IpNet>),
    /// To an address, by a cluster of their own.
    Itself(String),
}

#[derive(Clone, Debug)]
pub(super) struct Chain {
    pub(super) exit: Exit,
    /// Connections at a time.
    pub(super) connections: Option<u32>,
    /// What leads to it: authorities as virtual-host domains have them, and keys that routes give.
    pub(super) keys: BTreeSet<String>,
}

/// All chains of a policy.
#[derive(Debug)]
pub(super) struct Chains<'a> {
    sites: BTreeMap<(String, Port), Reach>,
    /// Deny rules by every name above them.
    denied_below: BTreeMap<&'a str, Vec<&'a DenyRule>>,
    denied_addresses: Vec<&'a DenyRule>,
    listeners: BTreeMap<Inner, BTreeMap<String, Chain>>,
    /// The chain of what is only let through to be reported.
    report: Option<String>,
}

impl<'a> Chains<'a> {
    /// Those of all rules, as far as nothing denies all of what they allow on a port.
    pub(super) fn of(policy: &'a Policy, denied: impl Fn(&Target, &str, Port) -> bool) -> Self {
        let mut this = Self {
            sites: sites(policy),
            denied_below: BTreeMap::new(),
            denied_addresses: Vec::new(),
            listeners: Inner::ALL.into_iter().map(|inner| (inner, BTreeMap::new())).collect(),
            report: None,
        };
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
        this.report =
            (policy.mode() == Mode::Report).then(|| named("report", &all.into_iter().collect::<String>()));
        for rule in policy.rules() {
            for host in hosts(&rule.target) {
                for port in rule.ports.iter().filter(|port| !denied(&rule.target, &host, *port)) {
                    for inner in Inner::of(&rule.grant.traffic, port) {
                        let (name, exit) =
                            (this.name(rule, &host, port, inner), this.exit(rule, &host, port));
                        let connections = rule.grant.limits.connections;
                        let chain = Chain { exit, connections, keys: BTreeSet::new() };
                        this.listeners.entry(inner).or_default().entry(name).or_insert(chain);
                    }
                }
            }
        }
        this
    }

    /// The chain of what passes by a rule to a form of its host, and a port.
    pub(super) fn name(&self, rule: &Rule, host: &str, port: Port, inner: Inner) -> String {
        let grant = &rule.grant;
        let mut rest = String::new();
        if let (Inner::Http | Inner::Originate, Some(requests)) = (inner, grant.traffic.plain()) {
            rest.push_str(&requests.to_string());
        }
        rest.push_str(&grant.limits.to_string());
        if let Some(longest) = grant.max_tunnel {
            rest.push_str(&format!(" at most {longest:?}"));
        }
        if grant.private.is_some() {
            rest.push_str(&format!(" {:?}", self.sites.get(&(host.to_owned(), port))));
        }
        let below = match &rule.target {
            Target::Host(_) => host.strip_prefix("*.").and_then(|name| self.denied_below.get(name)),
            Target::Range(_) => Some(&self.denied_addresses),
            Target::Address(_) => None,
        };
        let below = below.into_iter().flatten();
        let below = below.filter(|deny| deny.ports.as_ref().is_none_or(|ports| ports.contains(port)));
        rest.extend(below.map(|deny| words(deny)).collect::<BTreeSet<String>>());
        named(&format!("{host}:{port}"), &rest)
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

    /// Leads what has this key to a chain, if that is there.
    pub(super) fn lead(&mut self, inner: Inner, chain: &str, key: String) {
        let chains = self.listeners.get_mut(&inner);
        if let Some(chain) = chains.and_then(|chains| chains.get_mut(chain)) {
            chain.keys.insert(key);
        }
    }

    /// The chains of each listener, and that of what has no key there.
    pub(super) fn finish(self) -> impl Iterator<Item = (Inner, BTreeMap<String, Chain>, Option<String>)> {
        let report = self.report;
        self.listeners.into_iter().map(move |(inner, chains)| {
            let report = report.clone().filter(|_| matches!(inner, Inner::Tcp | Inner::Http));
            (inner, if chains.len() > MAX_CHAINS { bundled(chains) } else { chains }, report)
        })
    }

    pub(super) const fn sites(&self) -> &BTreeMap<(String, Port), Reach> {
        &self.sites
    }
}

/// The key that stands for a chain where authorities do not lead to it.
pub(super) fn key(chain: &str) -> Arc<str> {
    format!("{:016x}.chain", xxh3_64(chain.as_bytes())).into()
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

/// A name with a mark of everything else that a chain stands for.
fn named(name: &str, rest: &str) -> String {
    if rest.is_empty() {
        return name.to_owned();
    }
    format!("{name}#{:08x}", xxh3_64(rest.as_bytes()) >> 32)
}

fn words(deny: &DenyRule) -> String {
    let until = DenyRule { until: None, ..deny.clone() };
    format!("; {}", until.spelling())
}

/// At most as many chains as one listener has: those to public addresses share some by a hash, each with a mark of all that it
/// holds. An edit closes the connections of everything in the bundles that it touches.
fn bundled(chains: BTreeMap<String, Chain>) -> BTreeMap<String, Chain> {
    let mut bundles: BTreeMap<u64, (String, BTreeSet<String>)> = BTreeMap::new();
    let mut all = BTreeMap::new();
    for (name, chain) in chains {
        if chain.exit != Exit::Public || chain.connections.is_some() {
            all.insert(name, chain);
            continue;
        }
        let most = u64::try_from(MAX_CHAINS).unwrap_or(u64::MAX);
        let (names, keys) = bundles.entry(xxh3_64(name.as_bytes()) % most).or_default();
        names.push_str(&name);
        names.push('\n');
        keys.extend(chain.keys);
    }
    for (number, (names, keys)) in bundles {
        all.insert(
            named(&format!("bundle-{number}"), &names),
            Chain { exit: Exit::Public, connections: None, keys },
        );
    }
    all
}
