//! Virtual-host domains: which authority is answered how.
//!
//! Envoy compares the authority with its port as text, ignoring case, and prefers an exact domain, then the longest
//! `*.suffix`, then the longest `prefix*`. Ports are enforced here and nowhere else. Since the one closest domain wins,
//! the answer of each is put together from every rule that covers it, whatever domain the rule itself makes.

use super::{
    answer::{Answer, Key, Label},
    chain::Inner,
    chain_name::ChainName,
    chains::{self, Chains},
};
use crate::policy::{DenyRule, HostName, HostPattern, Mode, Policy, Port, Ports, Rule, Target};
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

/// A host as the key of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Host<'a> {
    /// A name or address as itself.
    Name(&'a HostName),
    Address(IpAddr),
    /// Everything below a name.
    Below(&'a HostName),
}

impl Host<'_> {
    fn text(self) -> String {
        match self {
            Self::Name(name) => name.to_string(),
            Self::Address(address) => crate::policy::authority(address),
            Self::Below(name) => format!("*.{name}"),
        }
    }
}

/// The domains of a policy by their answers, in an order of their own, and the chains behind them. No domain is there twice,
/// which Envoy would refuse.
pub(super) fn domains(policy: &Policy, label: Label) -> (BTreeMap<Answer, Vec<String>>, Chains<'_>) {
    let index = Index::of(policy);
    let mut chains = Chains::of(policy, |target, form, port| index.denies(target, form, port));
    let report = chains.report();
    let report = report.as_ref();
    let mut keys: BTreeMap<Host<'_>, Vec<Port>> = BTreeMap::new();
    for rule in policy.rules() {
        for host in hosts(&rule.target) {
            keys.entry(host).or_default().extend(rule.ports.iter());
        }
    }
    for (host, port) in index.expired.keys() {
        if !index.covers(*host, *port) {
            keys.entry(*host).or_default().push(*port);
        }
    }
    for rule in policy.denied() {
        for host in hosts(&rule.target) {
            // Where an allowed wildcard lies above, its ports need a closer domain that denies.
            let ports: Vec<Port> = match &rule.ports {
                Some(ports) => ports.iter().collect(),
                None => [Port::HTTP, Port::HTTPS].into_iter().chain(index.ports_over(host)).collect(),
            };
            keys.entry(host).or_default().extend(ports);
        }
    }
    let mut domains = Domains::default();
    for (host, ports) in &mut keys {
        // What denies some of its ports for more than this host, or allows them for a range, would else be hidden by the
        // domains of this one, or be named in its place.
        ports.extend(index.denied_ports(*host));
        if matches!(host, Host::Address(_)) {
            ports.extend(index.ports_over(*host).collect::<Vec<_>>());
        }
        ports.sort_unstable();
        ports.dedup();
        let text = host.text();
        for port in &*ports {
            let mut leads = Vec::new();
            let answer = index.answer(*host, *port, (report, label), |rule, inner| {
                let chain = chains.name(rule, &chains::form(rule, &text), *port, inner);
                let key = Key::Authority(chain.mark());
                leads.push((inner, chain));
                key
            });
            let Some(answer) = answer else { continue };
            // A plain request to port 80 usually names no port.
            let mut own = vec![format!("{text}:{port}")];
            if *port == Port::HTTP {
                own.push(text.clone());
            }
            // Of several ways that are found alike the first counts, as it does in routes.
            for (at, (inner, chain)) in leads.iter().enumerate() {
                let is_alike =
                    |(other, before): &(Inner, ChainName)| other == inner && before.is_found_like(chain);
                if !leads.iter().take(at).any(is_alike) {
                    chains.lead(*inner, chain, own.iter().map(|domain| chain.key_of(domain)));
                }
            }
            own.into_iter().rev().for_each(|domain| domains.add(&answer, domain));
        }
        if !matches!(host, Host::Below(_)) {
            let Some(answer) = index.other_ports(*host, report, label) else { continue };
            // A portless domain would win over a wildcard that covers the same name.
            if !index.covers(*host, Port::HTTP) && !index.expired.contains_key(&(*host, Port::HTTP)) {
                domains.add(&answer, text.clone());
            }
            domains.add(&answer, format!("{text}:*"));
        }
    }
    (domains.0, chains)
}

/// Few answers for many domains.
#[derive(Default)]
struct Domains(BTreeMap<Answer, Vec<String>>);

impl Domains {
    fn add(&mut self, answer: &Answer, domain: String) {
        match self.0.get_mut(answer) {
            Some(domains) => domains.push(domain),
            None => drop(self.0.insert(answer.clone(), vec![domain])),
        }
    }
}

fn hosts(target: &Target) -> impl Iterator<Item = Host<'_>> {
    let (one, below) = match target {
        Target::Host(pattern) => (pattern.exact().map(Host::Name), pattern.above().map(Host::Below)),
        Target::Address(address) => (Some(Host::Address(*address)), None),
        Target::Range(_) => (None, None),
    };
    one.into_iter().chain(below)
}

/// The rules by the hosts that they are about.
struct Index<'a> {
    allowed: ByHost<'a, Rule>,
    denied: ByHost<'a, DenyRule>,
    /// The first that allowed it, by name and port.
    expired: BTreeMap<(Host<'a>, Port), &'a Rule>,
}

struct ByHost<'a, R> {
    names: BTreeMap<&'a str, Vec<&'a R>>,
    below: BTreeMap<&'a str, Vec<&'a R>>,
    addresses: BTreeMap<IpAddr, Vec<&'a R>>,
    ranges: Vec<(ipnet::Ipv4Net, &'a R)>,
}

impl<'a, R> ByHost<'a, R> {
    fn of(rules: impl Iterator<Item = (&'a Target, &'a R)>) -> Self {
        let mut index = Self {
            names: BTreeMap::new(),
            below: BTreeMap::new(),
            addresses: BTreeMap::new(),
            ranges: Vec::new(),
        };
        for (target, rule) in rules {
            match target {
                Target::Host(pattern) => {
                    if let Some(name) = pattern.exact() {
                        index.names.entry(name.as_str()).or_default().push(rule);
                    }
                    if let Some(name) = pattern.above() {
                        index.below.entry(name.as_str()).or_default().push(rule);
                    }
                }
                Target::Address(address) => index.addresses.entry(*address).or_default().push(rule),
                Target::Range(range) => index.ranges.push((*range, rule)),
            }
        }
        index.ranges.sort_by_key(|(range, _)| std::cmp::Reverse(range.prefix_len()));
        index
    }

    fn is_empty(&self) -> bool {
        self.names.is_empty() && self.below.is_empty() && self.addresses.is_empty() && self.ranges.is_empty()
    }

    /// The rules that cover all of a host, the closest first.
    fn covering(&self, host: Host<'a>) -> impl Iterator<Item = &'a R> + '_ {
        let (names, above) = match host {
            Host::Name(name) => (self.names.get(name.as_str()), Some(name.as_str())),
            Host::Below(name) => (self.below.get(name.as_str()), Some(name.as_str())),
            Host::Address(address) => (self.addresses.get(&address), None),
        };
        let ends = above
            .into_iter()
            .flat_map(|name| name.match_indices('.').filter_map(move |(at, _)| name.get(at + 1..)));
        let wildcards = ends.filter_map(|name| self.below.get(name)).flatten();
        let ranges = self.ranges.iter().filter(move |(range, _)| match host {
            Host::Address(IpAddr::V4(address)) => range.contains(&address),
            _ => false,
        });
        names.into_iter().flatten().chain(wildcards).copied().chain(ranges.map(|(_, rule)| *rule))
    }
}

impl<'a> Index<'a> {
    fn of(policy: &'a Policy) -> Self {
        let mut expired = BTreeMap::new();
        for rule in policy.expired() {
            let Some(name) = rule.target.pattern().and_then(HostPattern::exact) else { continue };
            for port in rule.ports.iter() {
                expired.entry((Host::Name(name), port)).or_insert(&**rule);
            }
        }
        Self {
            expired,
            allowed: ByHost::of(policy.rules().iter().map(|rule| (&rule.target, &**rule))),
            denied: ByHost::of(policy.denied().iter().map(|rule| (&rule.target, &**rule))),
        }
    }

    fn ports_over(&self, host: Host<'a>) -> impl Iterator<Item = Port> + '_ {
        self.allowed.covering(host).flat_map(|rule| rule.ports.iter())
    }

    fn denied_ports(&self, host: Host<'a>) -> impl Iterator<Item = Port> + '_ {
        let denied = self.denied.covering(host).filter(|rule| rule.mode == Mode::Enforce);
        denied.filter_map(|rule| rule.ports.as_ref()).flat_map(Ports::iter)
    }

    fn denying(&self, host: Host<'a>, port: Option<Port>, mode: Mode) -> Option<&'a DenyRule> {
        self.denied.covering(host).find(|rule| {
            let ports = rule.ports.as_ref();
            rule.mode == mode && ports.is_none_or(|ports| port.is_some_and(|port| ports.contains(port)))
        })
    }

    /// Whether all of one form of a target is denied on a port.
    fn denies(&self, target: &'a Target, form: &str, port: Port) -> bool {
        if self.denied.is_empty() {
            return false;
        }
        if let Target::Range(range) = target {
            let mut denied = self.denied.ranges.iter().filter(|(_, rule)| rule.mode == Mode::Enforce);
            return denied.any(|(other, rule)| {
                other.contains(range) && rule.ports.as_ref().is_none_or(|ports| ports.contains(port))
            });
        }
        let host = hosts(target).find(|host| host.text() == form);
        host.is_some_and(|host| self.denying(host, Some(port), Mode::Enforce).is_some())
    }

    /// What becomes of a host on a port.
    fn answer(
        &self,
        host: Host<'a>,
        port: Port,
        (report, label): (Option<&Arc<str>>, Label),
        key_of: impl FnMut(&Rule, Inner) -> Key,
    ) -> Option<Answer> {
        if let Some(deny) = self.denying(host, Some(port), Mode::Enforce) {
            return Some(Answer::denied(deny, label));
        }
        let on_trial = self.denying(host, Some(port), Mode::Report);
        let covering: Vec<&Rule> =
            self.allowed.covering(host).filter(|rule| rule.ports.contains(port)).collect();
        Answer::allowed(&covering, on_trial, (&host.text(), port), (report, label), key_of).or_else(|| {
            let rule = self.expired.get(&(host, port))?;
            Some(Answer::expired(rule, report, label))
        })
    }

    /// What becomes of a host that is named, on ports that are not.
    fn other_ports(&self, host: Host<'a>, report: Option<&Arc<str>>, label: Label) -> Option<Answer> {
        if let Some(deny) = self.denying(host, None, Mode::Enforce) {
            return Some(Answer::denied(deny, label));
        }
        let naming = match host {
            Host::Name(name) => self.allowed.names.get(name.as_str()),
            Host::Address(address) => self.allowed.addresses.get(&address),
            Host::Below(_) => None,
        };
        naming?.first().map(|rule| Answer::other_port(rule, report, label))
    }

    /// Whether something is said of a host on a port.
    fn covers(&self, host: Host<'a>, port: Port) -> bool {
        self.allowed.covering(host).any(|rule| rule.ports.contains(port))
            || self.denying(host, Some(port), Mode::Enforce).is_some()
    }
}
