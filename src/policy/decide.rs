//! The reference decision: what Envoy must answer. `tests/it/oracle.rs` compares the two on the real thing.

use super::{DenyReason, Policy, Port, Rule};

/// How a request asks for its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// `CONNECT host:port`.
    Tunnel,
    /// `GET http://host/` and the like.
    PlainHttp,
}

/// What a client asks of the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The host as sent.
    pub host: String,
    /// The port; 80 where a plain request names none.
    pub port: Port,
    /// Tunnel or plain.
    pub via: Via,
}

/// The answer, with the rule it rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// Passes by this rule.
    Allow(&'a Rule),
    /// 403.
    Deny {
        /// Why.
        reason: DenyReason,
        /// The rule that came closest, where there is one.
        rule: Option<&'a Rule>,
    },
}

impl Policy {
    /// Decides by name and port. What only Envoy can know (the addresses behind the name) is not part of it.
    ///
    /// The most specific rule is named: an exact name before a wildcard, a longer wildcard before a shorter one,
    /// as Envoy chooses among virtual-host domains.
    #[must_use]
    pub fn decide(&self, request: &Request) -> Verdict<'_> {
        let host = request.host.to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        let covering =
            self.rules.iter().filter(|rule| rule.pattern.matches(host) && rule.ports.contains(request.port));
        if let Some(rule) = most_specific(covering, host) {
            if request.via == Via::PlainHttp && request.port == Port::HTTPS {
                return Verdict::Deny { reason: DenyReason::NotTls, rule: Some(rule) };
            }
            return Verdict::Allow(rule);
        }
        // Envoy's domains cannot say "below this name, on any port", so only exact names get the finer reason.
        let naming =
            self.rules.iter().find(|rule| rule.pattern.exact().is_some_and(|name| name.as_str() == host));
        match naming {
            Some(rule) => Verdict::Deny { reason: DenyReason::PortNotListed, rule: Some(rule) },
            None => Verdict::Deny { reason: DenyReason::NotListed, rule: None },
        }
    }
}

/// The first of the rules that match `host` in the closest way.
fn most_specific<'a>(rules: impl Iterator<Item = &'a Rule>, host: &str) -> Option<&'a Rule> {
    let mut best: Option<(&Rule, (bool, usize))> = None;
    for rule in rules {
        let name = rule.pattern.name().as_str();
        let closeness = (rule.pattern.exact().is_some() && name == host, name.len());
        if best.is_none_or(|(_, other)| closeness > other) {
            best = Some((rule, closeness));
        }
    }
    best.map(|(rule, _)| rule)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{HostName, HostPattern, Origin, Ports};

    fn rule(pattern: fn(HostName) -> HostPattern, name: &str, ports: Ports, line: u32) -> Rule {
        Rule {
            pattern: pattern(HostName::parse(name).unwrap()),
            ports,
            origin: Origin { file: "f".into(), line },
        }
    }

    fn decide(policy: &Policy, host: &str, port: &str, via: Via) -> (Option<&'static str>, u32) {
        let request = Request { host: host.into(), port: Port::parse(port).unwrap(), via };
        match policy.decide(&request) {
            Verdict::Allow(rule) => (None, rule.origin.line),
            Verdict::Deny { reason, rule } => {
                (Some(reason.as_str()), rule.map_or(0, |rule| rule.origin.line))
            }
        }
    }

    #[test]
    fn names_ports_and_precedence() {
        let policy = Policy::new(vec![
            rule(HostPattern::Tree, "a.test", Ports::default(), 1),
            rule(HostPattern::Exact, "api.a.test", Ports::default(), 2),
            rule(HostPattern::Subdomains, "w.test", Ports::only(Port::HTTPS), 3),
        ]);
        for (host, port, via, expected) in [
            ("a.test", "443", Via::Tunnel, (None, 1)),
            ("API.a.test.", "443", Via::Tunnel, (None, 2)),
            ("x.y.a.test", "80", Via::PlainHttp, (None, 1)),
            ("w.test", "443", Via::Tunnel, (Some("not-listed"), 0)),
            ("x.w.test", "443", Via::Tunnel, (None, 3)),
            ("x.w.test", "80", Via::PlainHttp, (Some("not-listed"), 0)),
            ("api.a.test", "22", Via::Tunnel, (Some("port-not-listed"), 2)),
            ("api.a.test", "443", Via::PlainHttp, (Some("not-tls"), 2)),
            ("nota.test", "443", Via::Tunnel, (Some("not-listed"), 0)),
        ] {
            assert_eq!(decide(&policy, host, port, via), expected, "{host}:{port} {via:?}");
        }
    }
}
