//! Why a request passes or not, and what came near: for people, beside the decision itself.

use super::{AnyRule, DenyReason, DenyRule, Policy, Request, Rule, Timestamp, Verdict};
use std::sync::Arc;

/// The decision with everything that a person may want to know of it.
#[derive(Clone, Debug)]
pub struct Explanation<'a> {
    /// What [`Policy::decide`] says.
    pub verdict: Verdict<'a>,
    /// Every rule that covers host and port, the closest first; deny rules before all others.
    pub covering: Vec<AnyRule<'a>>,
    /// Rules that do not, and nearly do.
    pub near: Vec<NearMiss<'a>>,
}

/// A rule that nearly covers a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NearMiss<'a> {
    /// It covers the host on other ports.
    OtherPort(&'a Rule),
    /// `*.a.com`, and the request is for `a.com` itself.
    OnlyBelow(&'a Rule),
    /// `a.com`, and the request is for a name below it.
    NotBelow(&'a Rule),
    /// It covered the request until then.
    Expired(&'a Rule, Timestamp),
}

impl Policy {
    /// Decides as [`Self::decide`] does at an instant, and says what else there is to know.
    #[must_use]
    pub fn explain(&self, request: &Request, now: Timestamp) -> Explanation<'_> {
        let host = request.normal_host();
        let is_there = |until: Option<Timestamp>| until.is_none_or(|until| now < until);
        // A view of the rules that are there, so that what is given points into this policy.
        let denied = self.denied().iter().filter(|rule| is_there(rule.until));
        let denied = denied.filter(|rule| rule.covers(&host, request.port));
        let denied: Vec<&DenyRule> = denied.map(|rule| &**rule).collect();
        let allowed = self.covering(&host, request.port).into_iter().filter(|rule| is_there(rule.until));
        let covering = denied.iter().map(|rule| AnyRule::Deny(rule)).chain(allowed.map(AnyRule::Allow));
        let covering: Vec<AnyRule<'_>> = covering.collect();
        let near = self.rules().iter().filter_map(|rule| near(rule, &host, request, now)).collect();
        Explanation { verdict: self.verdict_at(request, now), covering, near }
    }

    /// As [`Self::decide`] of the policy at that instant, with rules of this one: both share them.
    fn verdict_at(&self, request: &Request, now: Timestamp) -> Verdict<'_> {
        let there = self.at(now);
        let allowed = |rule: &Rule| self.rules().iter().find(|own| std::ptr::eq(Arc::as_ptr(own), rule));
        let denied = |rule: &DenyRule| self.denied().iter().find(|own| std::ptr::eq(Arc::as_ptr(own), rule));
        let own = |rule: AnyRule<'_>| match rule {
            AnyRule::Allow(rule) => allowed(rule).map(|own| AnyRule::Allow(own)),
            AnyRule::Deny(rule) => denied(rule).map(|own| AnyRule::Deny(own)),
        };
        match there.decide(request) {
            Verdict::Allow(rule) => allowed(rule)
                .map_or(Verdict::Deny { reason: DenyReason::NotListed, rule: None }, |own| {
                    Verdict::Allow(own)
                }),
            Verdict::WouldDeny { reason, rule } => Verdict::WouldDeny { reason, rule: rule.and_then(own) },
            Verdict::Deny { reason, rule } => Verdict::Deny { reason, rule: rule.and_then(own) },
        }
    }
}

fn near<'a>(rule: &'a Rule, host: &str, request: &Request, now: Timestamp) -> Option<NearMiss<'a>> {
    if let Some(until) = rule.until.filter(|until| *until <= now) {
        return rule.covers(host, request.port).then_some(NearMiss::Expired(rule, until));
    }
    if rule.target.matches(host) {
        return (!rule.ports.contains(request.port)).then_some(NearMiss::OtherPort(rule));
    }
    let pattern = rule.target.pattern()?;
    let name = pattern.name();
    if pattern.above().is_some() && name.as_str() == host {
        return Some(NearMiss::OnlyBelow(rule));
    }
    (pattern.above().is_none() && name.is_above(host)).then_some(NearMiss::NotBelow(rule))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{HostName, HostPattern, Origin, Port, Ports};

    #[test]
    fn what_comes_near_is_named() {
        let now = Timestamp::parse("2026-12-31T00:00:00Z").unwrap();
        let rule = |pattern: fn(HostName) -> HostPattern, name: &str, ports, line| {
            let pattern = pattern(HostName::parse(name).unwrap());
            Rule::plain(pattern, ports, Origin { file: "f".into(), line })
        };
        let expired = Rule { until: Some(now), ..rule(HostPattern::Exact, "c.test", Ports::default(), 4) };
        let policy = Policy::new(vec![
            rule(HostPattern::Exact, "a.test", Ports::default(), 1),
            rule(HostPattern::Subdomains, "a.test", Ports::default(), 2),
            rule(HostPattern::Tree, "b.test", Ports::only(Port::HTTP), 3),
            expired,
        ]);
        let explain = |host: &str, port: Port| {
            let Explanation { covering, near, verdict } = policy.explain(&Request::tunnel(host, port), now);
            let line = |rule: &Rule| rule.origin.line;
            let near = near.iter().map(|near| match near {
                NearMiss::OtherPort(rule) => ("port", line(rule)),
                NearMiss::OnlyBelow(rule) => ("only below", line(rule)),
                NearMiss::NotBelow(rule) => ("not below", line(rule)),
                NearMiss::Expired(rule, _) => ("expired", line(rule)),
            });
            let covering = covering.into_iter().map(|rule| rule.origin().line).collect::<Vec<_>>();
            (verdict.passes(), covering, near.collect::<Vec<_>>())
        };
        assert_eq!(explain("A.test.", Port::HTTPS), (true, vec![1], vec![("only below", 2)]));
        assert_eq!(explain("x.a.test", Port::HTTPS), (true, vec![2], vec![("not below", 1)]));
        assert_eq!(explain("x.b.test", Port::HTTPS), (false, vec![], vec![("port", 3)]));
        assert_eq!(explain("c.test", Port::HTTPS), (false, vec![], vec![("expired", 4)]));
    }
}
