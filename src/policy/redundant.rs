//! Rules that another one makes superfluous or ineffective: looked up by name, so that many rules cost little.

use super::{AnyRule, DenyRule, Policy, Rule, Target};
use std::{collections::BTreeMap, net::IpAddr};

/// Rules by what they are built on.
struct Index<'a, R> {
    names: BTreeMap<&'a str, Vec<&'a R>>,
    addresses: BTreeMap<IpAddr, Vec<&'a R>>,
    ranges: Vec<&'a R>,
}

impl<'a, R> Index<'a, R> {
    fn of(rules: impl Iterator<Item = (&'a Target, &'a R)>) -> Self {
        let mut index = Self { names: BTreeMap::new(), addresses: BTreeMap::new(), ranges: Vec::new() };
        for (target, rule) in rules {
            match target {
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
    fn about<'b>(&'b self, target: &'b Target) -> impl Iterator<Item = &'a R> + 'b {
        let name = target.name().map(super::HostName::as_str).unwrap_or_default();
        let above = name.match_indices('.').filter_map(move |(at, _)| name.get(at + 1..));
        let names = std::iter::once(name).chain(above).filter_map(|name| self.names.get(name)).flatten();
        let address = match target {
            Target::Address(address) => self.addresses.get(address),
            Target::Host(_) | Target::Range(_) => None,
        };
        let ranges = self.ranges.iter().filter(move |_| target.name().is_none());
        names.chain(address.into_iter().flatten()).chain(ranges).copied()
    }
}

/// See [`Policy::redundant`].
pub(super) fn redundant(policy: &Policy) -> Vec<(&Rule, AnyRule<'_>)> {
    let allowed = Index::of(policy.rules().iter().map(|rule| (&rule.target, &**rule)));
    let denied: Index<'_, DenyRule> = Index::of(policy.denied().iter().map(|rule| (&rule.target, &**rule)));
    let mut found = Vec::new();
    for rule in policy.rules() {
        let deny = denied.about(&rule.target).find(|deny| deny.includes(rule)).map(AnyRule::Deny);
        let cover = || {
            let mut others = allowed.about(&rule.target);
            let other = others.find(|other| {
                !std::ptr::eq(*other, &raw const **rule)
                    && other.includes(rule)
                    // Of two equal ones the first stays.
                    && (!rule.includes(other) || other.origin < rule.origin)
            });
            other.map(AnyRule::Allow)
        };
        if let Some(by) = deny.or_else(cover) {
            found.push((&**rule, by));
        }
    }
    found
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
        let found: Vec<(u32, u32)> =
            policy.redundant().iter().map(|(rule, by)| (rule.origin.line, by.origin().line)).collect();
        assert_eq!(found, [(1, 2), (3, 2), (4, 9)]);
    }
}
