//! What a sidecar answers at one host and port: put together from all rules that cover it.
//!
//! Knows nothing of protobuf. `Policy::decide` says the same for one request.

use crate::policy::{DenyReason, DenyRule, Grant, Mode, Origin, Policy, Port, Requests, Rule};
use std::time::Duration;

/// How much logs and 403 bodies tell of a rule's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Label {
    /// File and line.
    Line,
    /// The file alone: a table that does not change when lines move, and has few virtual hosts.
    File,
}

impl Label {
    pub(super) fn of(self, origin: &Origin) -> String {
        match self {
            Self::Line => origin.to_string(),
            Self::File => origin.file.to_string(),
        }
    }
}

/// The answer at one host and port. Ordered, so that equal ones share a virtual host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Answer {
    /// The places of the rules that it comes from.
    pub(super) rule: String,
    pub(super) what: What,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    /// 403 to everything.
    Denied,
    /// The host is listed, this port is not.
    OtherPort(Refusal),
    /// Some of it passes.
    Passes(Ways),
}

/// A reason not to let something pass, in earnest or to be reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Refusal {
    pub(super) reason: DenyReason,
    pub(super) mode: Mode,
}

/// What passes, and why the rest does not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ways {
    /// Tunnels.
    pub(super) tunnels: Result<Way, Refusal>,
    /// Plain requests; the first that matches counts.
    pub(super) plain: Vec<(Requests, Way)>,
    /// What becomes of plain requests that none of these matches, some of them for a closer reason.
    pub(super) other_plain: Vec<(Requests, Refusal)>,
    /// The cluster of the target where an entry makes it a private one.
    pub(super) private: Option<String>,
}

impl Ways {
    /// Where something leads that passes this way, if not where everything does.
    pub(super) fn cluster(&self, way: Way) -> Option<&str> {
        self.private.as_deref().filter(|_| way.private)
    }
}

/// How something passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Way {
    pub(super) max_tunnel: Option<Duration>,
    /// Only what this entry lets through may reach a private address.
    pub(super) private: bool,
    /// It would be denied in earnest.
    pub(super) reported: Option<DenyReason>,
}

impl Answer {
    pub(super) fn denied(rule: &DenyRule, label: Label) -> Self {
        Self { rule: label.of(&rule.origin), what: What::Denied }
    }

    pub(super) fn other_port(rule: &Rule, mode: Mode, label: Label) -> Self {
        let refusal = Refusal { reason: DenyReason::PortNotListed, mode };
        Self { rule: label.of(&rule.origin), what: What::OtherPort(refusal) }
    }

    /// From the rules that allow it, the closest first. Nothing if there is none.
    pub(super) fn allowed(
        covering: &[&Rule],
        on_trial: Option<&DenyRule>,
        (host, port): (&str, Port),
        mode: Mode,
        label: Label,
    ) -> Option<Self> {
        let closest = covering.first()?;
        let reason = |mode: Mode| match (on_trial, mode) {
            (Some(_), _) => Some(DenyReason::DeniedByRule),
            (None, Mode::Enforce) => None,
            (None, Mode::Report) => Some(DenyReason::NotListed),
        };
        // What is let through in earnest comes before what is reported.
        let ordered = || {
            [Mode::Enforce, Mode::Report]
                .into_iter()
                .flat_map(|mode| covering.iter().copied().filter(move |rule| rule.grant.mode == mode))
        };
        let mut used: Vec<&Rule> = vec![closest];
        let tunnelling = ordered().find(|rule| rule.grant.traffic.tunnels());
        let tunnels = match tunnelling {
            Some(rule) => {
                used.push(rule);
                let reported = reason(rule.grant.mode);
                let private = rule.grant.private.is_some();
                Ok(Way {
                    max_tunnel: longest(rule, covering, |other| other.traffic.tunnels()),
                    private,
                    reported,
                })
            }
            None => Err(Refusal { reason: DenyReason::MethodNotAllowed, mode }),
        };
        let mut plain: Vec<(Requests, Way)> = Vec::new();
        // Those to port 443 never pass, which a route before these says: so that the answer is the same on each port.
        for rule in ordered() {
            let Some(requests) = rule.grant.traffic.plain() else { continue };
            if plain.last().is_some_and(|(last, _)| last.is_all()) {
                break;
            }
            used.push(rule);
            let reported = reason(rule.grant.mode);
            let private = rule.grant.private.is_some();
            let same = |other: &Grant| other.traffic.plain() == Some(requests);
            plain.push((
                requests.clone(),
                Way { max_tunnel: longest(rule, covering, same), private, reported },
            ));
        }
        let private = covering.iter().any(|rule| rule.grant.private.is_some());
        let ways = Ways {
            tunnels,
            other_plain: other_plain(&plain, mode),
            plain,
            private: private.then(|| super::private::name(host, port)),
        };
        let rule = match on_trial {
            Some(deny) => label.of(&deny.origin),
            None => places(&used, label),
        };
        Some(Self { rule, what: What::Passes(ways) })
    }
}

/// Of several rules for the same target and traffic, the one that lets it live longest.
fn longest(rule: &Rule, covering: &[&Rule], same: impl Fn(&Grant) -> bool) -> Option<Duration> {
    let mut same = covering.iter().filter(|other| {
        other.target == rule.target && other.grant.mode == rule.grant.mode && same(&other.grant)
    });
    same.try_fold(Duration::ZERO, |longest, rule| Some(longest.max(rule.grant.max_tunnel?)))
}

/// Each place once, in the order of use.
fn places(rules: &[&Rule], label: Label) -> String {
    let mut places: Vec<String> = Vec::new();
    for rule in rules {
        let place = label.of(&rule.origin);
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places.join(", ")
}

/// Why plain requests that are not let through are not.
fn other_plain(plain: &[(Requests, Way)], mode: Mode) -> Vec<(Requests, Refusal)> {
    let refusal = |reason| Refusal { reason, mode };
    if plain.is_empty() {
        return vec![(Requests::default(), refusal(DenyReason::NotTls))];
    }
    if plain.iter().any(|(requests, _)| requests.is_all()) {
        return Vec::new();
    }
    // A path that is listed was asked for by another method.
    let listed = plain.iter().map(|(requests, _)| Requests { methods: Vec::new(), ..requests.clone() });
    let mut others: Vec<_> =
        listed.map(|requests| (requests, refusal(DenyReason::MethodNotAllowed))).collect();
    others.push((Requests::default(), refusal(DenyReason::PathNotAllowed)));
    others
}

/// With few rules logs name lines; with many, files.
pub(super) fn label_of(policy: &Policy) -> Label {
    let rules = policy.rules().len() + policy.denied().len();
    if rules <= super::RULES_WITH_LINE { Label::Line } else { Label::File }
}
