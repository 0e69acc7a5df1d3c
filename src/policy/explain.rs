//! Why a request passes or not, and what came near: for people, beside the decision itself.

use super::{Policy, Port, Request, Rule, Verdict};

/// The decision with everything that a person may want to know of it.
#[derive(Clone, Debug)]
pub struct Explanation<'a> {
    /// What [`Policy::decide`] says.
    pub verdict: Verdict<'a>,
    /// Every rule that covers host and port, in the order of the files.
    pub covering: Vec<&'a Rule>,
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
}

impl Policy {
    /// Decides as [`Self::decide`] does, and says what else there is to know.
    #[must_use]
    pub fn explain(&self, request: &Request) -> Explanation<'_> {
        let host = request.host.to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        let covering = self.rules().iter().filter(|rule| covers(rule, host, request.port));
        let near = self.rules().iter().filter_map(|rule| near(rule, host, request.port));
        Explanation { verdict: self.decide(request), covering: covering.collect(), near: near.collect() }
    }
}

fn covers(rule: &Rule, host: &str, port: Port) -> bool {
    rule.pattern.matches(host) && rule.ports.contains(port)
}

fn near<'a>(rule: &'a Rule, host: &str, port: Port) -> Option<NearMiss<'a>> {
    let name = rule.pattern.name();
    if rule.pattern.matches(host) {
        return (!rule.ports.contains(port)).then_some(NearMiss::OtherPort(rule));
    }
    if rule.pattern.above().is_some() && name.as_str() == host {
        return Some(NearMiss::OnlyBelow(rule));
    }
    (rule.pattern.above().is_none() && name.is_above(host)).then_some(NearMiss::NotBelow(rule))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{HostName, HostPattern, Origin, Ports, Via};

    #[test]
    fn what_comes_near_is_named() {
        let rule = |pattern: fn(HostName) -> HostPattern, name: &str, ports, line| Rule {
            pattern: pattern(HostName::parse(name).unwrap()),
            ports,
            origin: Origin { file: "f".into(), line },
        };
        let policy = Policy::new(vec![
            rule(HostPattern::Exact, "a.test", Ports::default(), 1),
            rule(HostPattern::Subdomains, "a.test", Ports::default(), 2),
            rule(HostPattern::Tree, "b.test", Ports::only(Port::HTTP), 3),
        ]);
        let explain = |host: &str, port: Port| {
            let request = Request { host: host.to_owned(), port, via: Via::Tunnel };
            let Explanation { covering, near, .. } = policy.explain(&request);
            let line = |rule: &Rule| rule.origin.line;
            let near = near.iter().map(|near| match near {
                NearMiss::OtherPort(rule) => ("port", line(rule)),
                NearMiss::OnlyBelow(rule) => ("only below", line(rule)),
                NearMiss::NotBelow(rule) => ("not below", line(rule)),
            });
            (covering.into_iter().map(line).collect::<Vec<_>>(), near.collect::<Vec<_>>())
        };
        assert_eq!(explain("A.test.", Port::HTTPS), (vec![1], vec![("only below", 2)]));
        assert_eq!(explain("x.a.test", Port::HTTPS), (vec![2], vec![("not below", 1)]));
        assert_eq!(explain("x.b.test", Port::HTTPS), (vec![], vec![("port", 3)]));
        assert_eq!(explain("c.test", Port::HTTPS), (vec![], vec![]));
    }
}
