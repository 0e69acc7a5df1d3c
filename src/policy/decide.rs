//! The reference decision: what Envoy must answer. `tests/it/oracle.rs` compares the two on the real thing.

use super::{
    AddressGuard, AnyRule, DenyReason, DenyRule, Grant, Mode, Policy, Port, Rule, literal, target::Closeness,
};
use std::{
    cmp::Reverse,
    sync::{Arc, LazyLock},
    time::Duration,
};

/// How a request asks for its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// `CONNECT host:port`.
    Tunnel,
    /// `GET http://host/` and the like.
    PlainHttp,
}

/// What a client sends first through a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// TLS, with the host name that its ClientHello asks for.
    Tls(Option<String>),
    /// Anything else, or nothing.
    Other,
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
    /// The method of a plain request.
    pub method: String,
    /// The path of a plain request, without its query.
    pub path: String,
    /// How a tunnel begins.
    pub opening: Opening,
}

impl Request {
    /// `CONNECT host:port`, and TLS for that host inside.
    #[must_use]
    pub fn tunnel(host: impl Into<String>, port: Port) -> Self {
        let host = host.into();
        let method = "CONNECT".to_owned();
        let mut this =
            Self { host, port, via: Via::Tunnel, method, path: String::new(), opening: Opening::Other };
        let host = this.normal_host();
        // Clients send no SNI for addresses (RFC 6066 section 3).
        this.opening = Opening::Tls(literal(&host).is_none().then_some(host));
        this
    }

    /// `GET http://host:port/`.
    #[must_use]
    pub fn plain(host: impl Into<String>, port: Port) -> Self {
        let (method, path) = ("GET".to_owned(), "/".to_owned());
        Self { host: host.into(), port, via: Via::PlainHttp, method, path, opening: Opening::Other }
    }

    /// The host as rules know it: lower case, without the root's dot.
    pub(super) fn normal_host(&self) -> String {
        let mut host = self.host.to_ascii_lowercase();
        if host.ends_with('.') {
            host.pop();
        }
        host
    }
}

/// The answer, with the rule it rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// Passes by this rule.
    Allow(&'a Rule),
    /// Passes, and is reported: in earnest it would be denied.
    WouldDeny {
        /// Why it would be.
        reason: DenyReason,
        /// The rule that says so or came closest, where there is one.
        rule: Option<AnyRule<'a>>,
    },
    /// 403.
    Deny {
        /// Why.
        reason: DenyReason,
        /// The rule that says so or came closest, where there is one.
        rule: Option<AnyRule<'a>>,
    },
}

impl Verdict<'_> {
    /// Whether the request gets through.
    #[must_use]
    pub const fn passes(&self) -> bool {
        !matches!(self, Self::Deny { .. })
    }
}

impl Policy {
    /// Decides by name, port and, where it can be seen, method and path. What only Envoy can know (the addresses behind
    /// the name) is not part of it.
    ///
    /// The most specific rule is named: an exact name before a wildcard, a longer wildcard before a shorter one,
    /// as Envoy chooses among virtual-host domains.
    #[must_use]
    pub fn decide(&self, request: &Request) -> Verdict<'_> {
        let host = request.normal_host();
        if let Some(rule) = self.denying(&host, request.port, Mode::Enforce) {
            return Verdict::Deny { reason: DenyReason::DeniedByRule, rule: Some(AnyRule::Deny(rule)) };
        }
        let covering = self.covering(&host, request.port);
        let Some(closest) = covering.first() else { return self.unlisted(request, &host) };
        let on_trial = self.denying(&host, request.port, Mode::Report);
        let named = Some(on_trial.map_or(AnyRule::Allow(closest), AnyRule::Deny));
        if request.via == Via::PlainHttp && request.port == Port::HTTPS {
            return Verdict::Deny { reason: DenyReason::NotTls, rule: named };
        }
        let passing = by_preference(&covering).into_iter().find(|rule| lets_through(rule, request));
        if let Some(rule) = passing {
            let named = Some(on_trial.map_or(AnyRule::Allow(rule), AnyRule::Deny));
            if let Some(reason) = not_inside(rule, request, &host) {
                return Verdict::Deny { reason, rule: named };
            }
            return match (on_trial, rule.grant.mode) {
                (Some(_), _) => Verdict::WouldDeny { reason: DenyReason::DeniedByRule, rule: named },
                (None, Mode::Enforce) => Verdict::Allow(rule),
                (None, Mode::Report) => Verdict::WouldDeny { reason: DenyReason::NotListed, rule: named },
            };
        }
        let reason = not_this_way(&covering, request);
        // What an entry does not let through is guarded, whatever it says of the rest.
        if self.mode == Mode::Report && is_guarded(&host) {
            return Verdict::Deny { reason: DenyReason::PrivateAddress, rule: named };
        }
        self.refusal(reason, named)
    }

    /// Every rule that covers host and port, the closest first.
    pub(super) fn covering(&self, host: &str, port: Port) -> Vec<&Rule> {
        let closeness = |rule: &Rule| rule.target.closeness(host);
        let rules = self.rules.iter().filter(|rule| rule.ports.contains(port));
        let mut found: Vec<(Closeness, &Rule)> =
            rules.filter_map(|rule| Some((closeness(rule)?, &**rule))).collect();
        // The rules are in the order of their origins, and stay so among equals.
        found.sort_by_key(|(closeness, _)| Reverse(*closeness));
        found.into_iter().map(|(_, rule)| rule).collect()
    }

    /// The closest deny rule of a mode.
    pub(super) fn denying(&self, host: &str, port: Port, mode: Mode) -> Option<&DenyRule> {
        let rules = self.denied.iter().filter(|rule| rule.mode == mode && rule.covers(host, port));
        let mut best: Option<(Closeness, &DenyRule)> = None;
        for rule in rules {
            let closeness = rule.target.closeness(host)?;
            if best.is_none_or(|(other, _)| closeness > other) {
                best = Some((closeness, rule));
            }
        }
        best.map(|(_, rule)| rule)
    }

    /// What no rule covers on this port.
    fn unlisted(&self, request: &Request, host: &str) -> Verdict<'_> {
        // Envoy's domains cannot say "below this name, on any port", so only exact names get the finer reasons.
        let is_exact = |rule: &&Arc<Rule>| rule.target.exact().as_deref() == Some(host);
        let expired = self.expired.iter().filter(|rule| rule.target.pattern().is_some());
        let expired = expired.filter(is_exact).find(|rule| rule.ports.contains(request.port));
        let naming = expired.or_else(|| self.rules.iter().find(is_exact));
        if self.mode == Mode::Report && request.via == Via::PlainHttp && request.port == Port::HTTPS {
            let rule = naming.map(|rule| AnyRule::Allow(rule));
            return Verdict::Deny { reason: DenyReason::NotTls, rule };
        }
        // Report mode leaves the guard of addresses on.
        if self.mode == Mode::Report && is_guarded(host) && !(naming.is_none() && host.starts_with('[')) {
            let rule = naming.map(|rule| AnyRule::Allow(rule));
            return Verdict::Deny { reason: DenyReason::PrivateAddress, rule };
        }
        // Other spellings of addresses lead to the same places, past what is said of them.
        let last = host.rsplit('.').next().unwrap_or(host);
        let named = host.starts_with('[') || last.bytes().any(|byte| byte.is_ascii_alphabetic());
        if self.mode == Mode::Report && !named && literal(host).is_none() {
            return Verdict::Deny { reason: DenyReason::BadHost, rule: None };
        }
        match naming {
            Some(rule) => {
                let reason = if expired.is_some() { DenyReason::Expired } else { DenyReason::PortNotListed };
                self.refusal(reason, Some(AnyRule::Allow(rule)))
            }
            // What is no host name with a port is refused in any mode.
            None if host.starts_with('[') => Verdict::Deny { reason: DenyReason::NotListed, rule: None },
            None => self.refusal(DenyReason::NotListed, None),
        }
    }

    const fn refusal<'a>(&self, reason: DenyReason, rule: Option<AnyRule<'a>>) -> Verdict<'a> {
        match self.mode {
            Mode::Enforce => Verdict::Deny { reason, rule },
            Mode::Report => Verdict::WouldDeny { reason, rule },
        }
    }
}

/// Whether it is an address that is guarded. A literal shows where it leads; what a server lifts is not known.
fn is_guarded(host: &str) -> bool {
    static GUARD: LazyLock<AddressGuard> = LazyLock::new(AddressGuard::default);
    literal(host).is_some_and(|address| GUARD.refuses(address))
}

/// Rules that cover a host and port, the closest first, in the order in which requests pass by them: those that mean it before
/// those that report, of each those that look at nothing, or turn requests into TLS, before those that do not, and then those
/// without limits before those with some, and those that let live longer before others: entries add up.
#[must_use]
pub fn by_preference<'a>(covering: &[&'a Rule]) -> Vec<&'a Rule> {
    let mut rules = covering.to_vec();
    rules.sort_by_key(|rule| {
        let Grant { mode, traffic, limits, max_tunnel, .. } = &*rule.grant;
        let longest = Reverse(max_tunnel.unwrap_or(Duration::MAX));
        (*mode, !traffic.is_preferred(), !limits.is_empty(), longest)
    });
    rules
}

fn lets_through(rule: &Rule, request: &Request) -> bool {
    let traffic = &rule.grant.traffic;
    match request.via {
        Via::Tunnel => traffic.tunnels(request.port),
        Via::PlainHttp => traffic.plain().is_some_and(|plain| plain.matches(&request.method, &request.path)),
    }
}

/// Why a tunnel that is open ends at its first bytes.
fn not_inside(rule: &Rule, request: &Request, host: &str) -> Option<DenyReason> {
    if request.via == Via::PlainHttp || rule.grant.traffic.is_opaque() {
        return None;
    }
    let Opening::Tls(name) = &request.opening else { return Some(DenyReason::NotTls) };
    let same = match name.as_deref() {
        // Nobody else is meant by an address.
        None | Some("") => literal(host).is_some(),
        Some(name) => !host.starts_with('[') && name.eq_ignore_ascii_case(host),
    };
    (!same).then_some(DenyReason::SniMismatch)
}

/// Why none of the rules that cover a host lets this request through.
fn not_this_way(covering: &[&Rule], request: &Request) -> DenyReason {
    let mut plain = covering.iter().filter_map(|rule| rule.grant.traffic.plain()).peekable();
    match request.via {
        // Only plain HTTP passes.
        Via::Tunnel => DenyReason::MethodNotAllowed,
        // Only tunnels pass.
        Via::PlainHttp if plain.peek().is_none() => DenyReason::NotTls,
        Via::PlainHttp if plain.any(|requests| requests.has_path(&request.path)) => {
            DenyReason::MethodNotAllowed
        }
        Via::PlainHttp => DenyReason::PathNotAllowed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{
        HostName, HostPattern, Method, Origin, PathPattern, Ports, Requests, Target, Traffic,
    };
    use std::sync::Arc;

    fn rule(pattern: fn(HostName) -> HostPattern, name: &str, ports: Ports, line: u32) -> Rule {
        Rule::plain(pattern(HostName::parse(name).unwrap()), ports, Origin { file: "f".into(), line })
    }

    fn decide(policy: &Policy, host: &str, port: &str, via: Via) -> (Option<&'static str>, u32) {
        let port = Port::parse(port).unwrap();
        let request = match via {
            Via::Tunnel => Request::tunnel(host, port),
            Via::PlainHttp => Request::plain(host, port),
        };
        words(policy.decide(&request))
    }

    fn words(verdict: Verdict<'_>) -> (Option<&'static str>, u32) {
        match verdict {
            Verdict::Allow(rule) => (None, rule.origin.line),
            Verdict::Deny { reason, rule } => {
                (Some(reason.as_str()), rule.map_or(0, |rule| rule.origin().line))
            }
            Verdict::WouldDeny { reason, rule } => {
                assert_eq!(reason, DenyReason::DeniedByRule);
                (Some("would"), rule.map_or(0, |rule| rule.origin().line))
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

    #[test]
    fn deny_wins_on_every_port() {
        let deny = |pattern: fn(HostName) -> HostPattern, name: &str, mode, line| {
            Arc::new(DenyRule {
                target: Target::Host(pattern(HostName::parse(name).unwrap())),
                ports: None,
                mode,
                until: None,
                note: None,
                origin: Origin { file: "f".into(), line },
            })
        };
        let allow = [
            rule(HostPattern::Tree, "a.test", Ports::default(), 1),
            rule(HostPattern::Exact, "x.bad.a.test", Ports::only(Port::parse("22").unwrap()), 2),
        ];
        let deny = vec![
            deny(HostPattern::Tree, "bad.a.test", Mode::Enforce, 8),
            deny(HostPattern::Exact, "try.a.test", Mode::Report, 9),
        ];
        let policy = Policy::with(allow.map(Arc::new).to_vec(), deny, Mode::Enforce);
        for (host, port, expected) in [
            ("bad.a.test", "443", (Some("denied-by-rule"), 8)),
            ("bad.a.test", "5", (Some("denied-by-rule"), 8)),
            ("y.bad.a.test", "443", (Some("denied-by-rule"), 8)),
            ("y.bad.a.test", "5", (Some("denied-by-rule"), 8)),
            ("x.bad.a.test", "22", (Some("denied-by-rule"), 8)),
            ("try.a.test", "443", (Some("would"), 9)),
            ("try.a.test", "5", (Some("not-listed"), 0)),
        ] {
            assert_eq!(decide(&policy, host, port, Via::Tunnel), expected, "{host}:{port}");
        }
    }

    #[test]
    fn methods_and_paths_add_up() {
        let get = |path: &str, line| Rule {
            grant: Arc::new(Grant {
                traffic: Traffic::Http(Requests {
                    methods: vec![Method::parse("GET").unwrap()],
                    paths: vec![PathPattern::parse(path).unwrap()],
                }),
                ..Grant::default()
            }),
            ..rule(HostPattern::Exact, "a.test", Ports::only(Port::HTTP), line)
        };
        let policy = Policy::new(vec![get("/v1/*", 1), get("/v2", 2)]);
        let ask = |method: &str, path: &str| {
            let (method, path) = (method.to_owned(), path.to_owned());
            words(policy.decide(&Request { method, path, ..Request::plain("a.test", Port::HTTP) }))
        };
        assert_eq!(ask("GET", "/v1/x"), (None, 1));
        assert_eq!(ask("GET", "/v2"), (None, 2));
        assert_eq!(ask("POST", "/v2"), (Some("method-not-allowed"), 1));
        assert_eq!(ask("GET", "/v3"), (Some("path-not-allowed"), 1));
        assert_eq!(decide(&policy, "a.test", "80", Via::Tunnel), (Some("method-not-allowed"), 1));
    }

    #[test]
    fn a_tunnel_carries_tls_for_its_host() {
        let tcp = Rule {
            grant: Arc::new(Grant { traffic: Traffic::Tcp, ..Grant::default() }),
            ..rule(HostPattern::Exact, "db.test", Ports::only(Port::HTTP), 2)
        };
        let address = Rule {
            target: Target::Address("192.0.2.1".parse().unwrap()),
            ..rule(HostPattern::Exact, "a.test", Ports::default(), 3)
        };
        let policy = Policy::new(vec![rule(HostPattern::Tree, "a.test", Ports::default(), 1), tcp, address]);
        let ask = |host: &str, port: Port, opening: Opening| {
            words(policy.decide(&Request { opening, ..Request::tunnel(host, port) })).0
        };
        let tls = |name: &str| Opening::Tls(Some(name.to_owned()));
        assert_eq!(ask("x.A.test.", Port::HTTPS, tls("X.a.test")), None);
        assert_eq!(ask("x.a.test", Port::HTTPS, tls("y.a.test")), Some("sni-mismatch"));
        assert_eq!(ask("x.a.test", Port::HTTPS, Opening::Tls(None)), Some("sni-mismatch"));
        assert_eq!(ask("x.a.test", Port::HTTPS, Opening::Other), Some("not-tls"));
        assert_eq!(ask("a.test", Port::HTTP, tls("a.test")), Some("method-not-allowed"));
        assert_eq!(ask("db.test", Port::HTTP, Opening::Other), None);
        assert_eq!(ask("192.0.2.1", Port::HTTPS, Opening::Tls(None)), None);
        assert_eq!(ask("192.0.2.1", Port::HTTPS, tls("a.test")), Some("sni-mismatch"));
    }
}
