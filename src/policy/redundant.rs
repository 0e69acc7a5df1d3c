//! Rules by what they are built on, so that many rules cost little: which another one makes superfluous or ineffective, and
//! which can decide about a host.

use super::{AnyRule, DenyRule, HostName, Policy, Rule, Target, literal};
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

/// The rules of a policy by what they are built on.
#[derive(Debug)]
pub struct Index<'a> {
    policy: &'a Policy,
    expired: ByTarget<'a, Rule>,
    allowed: ByTarget<'a, Rule>,
    denied: ByTarget<'a, DenyRule>,
}

#[derive(Debug)]
struct ByTarget<'a, R> {
    names: BTreeMap<&'a str, Vec<&'a Arc<R>>>,
    addresses: BTreeMap<IpAddr, Vec<&'a Arc<R>>>,
    ranges: Vec<&'a Arc<R>>,
}

impl<'a, R> ByTarget<'a, R> {
    fn of(rules: &'a [Arc<R>], target: impl Fn(&'a R) -> &'a Target) -> Self {
        let mut index = Self { names: BTreeMap::new(), addresses: BTreeMap::new(), ranges: Vec::new() };
        for rule in rules {
            match target(rule) {
                Target::Host(pattern) => {
                    index.names.entry(pattern.name().as_str()).or_default().push(rule);
                }
                Target::Address(address) => index.addresses.entry(*address).or_default().push(rule),
                Target::Range(_) => index.ranges.push(rule),
            }
        }
        index
    }

    /// The rules that may include a target.
    fn about<'b>(&'b self, target: &'b Target) -> impl Iterator<Item = &'a Arc<R>> + 'b {
        let address = match target {
            Target::Address(address) => Some(*address),
            Target::Host(_) | Target::Range(_) => None,
        };
        let ranges = self.ranges.iter().filter(move |_| target.name().is_none());
        let name = target.name().map(HostName::as_str).unwrap_or_default();
        self.named(name, address).chain(ranges.copied())
    }

    /// The rules that may cover a host, as it is asked for.
    fn of_host<'b>(&'b self, host: &'b str) -> impl Iterator<Item = &'a Arc<R>> + 'b {
        self.named(host, literal(host)).chain(self.ranges.iter().copied())
    }

    /// What is built on a name or one above it, or on an address.
    fn named<'b>(&'b self, name: &'b str, address: Option<IpAddr>) -> impl Iterator<Item = &'a Arc<R>> + 'b {
        let above = name.match_indices('.').filter_map(move |(at, _)| name.get(at + 1..));
        let names = std::iter::once(name).chain(above).filter_map(|name| self.names.get(name)).flatten();
        let address = address.and_then(|address| self.addresses.get(&address));
        names.chain(address.into_iter().flatten()).copied()
    }
}

impl<'a> Index<'a> {
    pub(super) fn of(policy: &'a Policy) -> Self {
        Self {
            policy,
            expired: ByTarget::of(&policy.expired, |rule| &rule.target),
            allowed: ByTarget::of(&policy.rules, |rule| &rule.target),
            denied: ByTarget::of(&policy.denied, |rule| &rule.target),
        }
    }

    /// As much of the policy as decides about a host, in any spelling of its letters: the answer is that of the whole.
    #[must_use]
    pub fn part_about(&self, host: &str) -> Policy {
        let host = host.to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        let rules = self.allowed.of_host(host).cloned().collect();
        let denied = self.denied.of_host(host).cloned().collect();
        let part = Policy::with(rules, denied, self.policy.mode);
        Policy { expired: self.expired.of_host(host).cloned().collect(), ..part }
    }

    /// Whether one of the rules is this one.
    pub(super) fn has(&self, rule: &Rule) -> bool {
        self.allowed.about(&rule.target).any(|other| **other == *rule)
    }

    /// Whether one of the rules lets through all that a rule does.
    #[must_use]
    pub fn includes(&self, rule: &Rule) -> bool {
        self.allowed.about(&rule.target).any(|other| other.includes(rule))
    }

    /// Whether one of the deny rules denies all that a deny rule does.
    #[must_use]
    pub fn denies(&self, rule: &DenyRule) -> bool {
        self.denied.about(&rule.target).any(|other| other.includes_denial(rule))
    }

    /// The other rule because of which a rule changes nothing: one that denies all of it, or that lets all of it through.
    /// Of two equal ones the later changes nothing.
    #[must_use]
    pub fn by(&self, rule: &Rule) -> Option<AnyRule<'a>> {
        let deny =
            self.denied.about(&rule.target).find(|deny| deny.includes(rule)).map(|deny| AnyRule::Deny(deny));
        let cover = || {
            let mut others = self.allowed.about(&rule.target);
            let other = others.find(|other| {
                !std::ptr::eq(&***other, rule)
                    && other.includes(rule)
                    && (!rule.includes(other) || other.origin < rule.origin)
            });
            other.map(|other| AnyRule::Allow(other))
        };
        deny.or_else(cover)
    }

    /// The rules of a policy that change nothing, each with the other rule.
    #[must_use]
    pub fn redundant<'b>(&self, policy: &'b Policy) -> Vec<(&'b Rule, AnyRule<'a>)> {
        policy.rules().iter().filter_map(|rule| Some((&**rule, self.by(rule)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{HostName, HostPattern, Mode, Origin, Ports};
    use std::sync::Arc;

    #[test]
    fn shadowed_and_denied_rules_are_found() {
        let rule = |pattern: fn(HostName) -> HostPattern, name: &str, line| {
            let pattern = pattern(HostName::parse(name).unwrap());
            Arc::new(Rule::plain(pattern, Ports::default(), Origin { file: "f".into(), line }))
        };
        let deny = DenyRule {
            target: Target::Host(HostPattern::Tree(HostName::parse("bad.test").unwrap())),
            ports: None,
            mode: Mode::Enforce,
            until: None,
            note: None,
            origin: Origin { file: "f".into(), line: 9 },
        };
        let rules = vec![
            rule(HostPattern::Exact, "api.a.test", 1),
            rule(HostPattern::Tree, "a.test", 2),
            rule(HostPattern::Tree, "a.test", 3),
            rule(HostPattern::Exact, "x.bad.test", 4),
            rule(HostPattern::Exact, "b.test", 5),
        ];
        let policy = Policy::with(rules, vec![Arc::new(deny)], Mode::Enforce);
        let found: Vec<(u32, u32)> = policy
            .index()
            .redundant(&policy)
            .iter()
            .map(|(rule, by)| (rule.origin.line, by.origin().line))
            .collect();
        assert_eq!(found, [(1, 2), (3, 2), (4, 9)]);
    }
}
