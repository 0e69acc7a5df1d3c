//! What a sidecar answers at one host and port: put together from all rules that cover it.
//!
//! Knows nothing of protobuf. `Policy::decide` says the same for one request.

use super::chains::Inner;
use crate::policy::{
    DenyReason, DenyRule, Grant, Limits, Mode, Origin, Policy, Port, Requests, Rule, Target, Traffic,
    by_preference,
};
use ipnet::IpNet;
use std::{sync::Arc, time::Duration};

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
    /// What becomes of the rest.
    pub(super) mode: Mode,
}

/// How something passes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Way {
    pub(super) max_tunnel: Option<Duration>,
    /// The internal listener that carries it.
    pub(super) inner: Inner,
    /// What its name may lead to.
    pub(super) reach: Reach,
    /// The key of its chain there, where that is not the authority.
    pub(super) key: Option<Arc<str>>,
    /// It would be denied in earnest.
    pub(super) reported: Option<DenyReason>,
    /// Tunnels to port 80 do not pass.
    pub(super) not_80: bool,
    /// It goes to port 443 instead of 80.
    pub(super) to_443: bool,
    pub(super) limits: Limits,
}

const NO_LIMITS: Limits = Limits { connections: None, requests_per_minute: None, upload: None, idle: None };

impl Way {
    /// What passes only because nothing is denied in earnest.
    pub(super) const fn reported(reason: DenyReason, inner: Inner) -> Self {
        let (max_tunnel, reach, key) = (None, Reach::Public, None);
        Self {
            max_tunnel,
            inner,
            reach,
            key,
            reported: Some(reason),
            not_80: false,
            to_443: false,
            limits: NO_LIMITS,
        }
    }
}

/// Which addresses a name may lead to.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    /// Those that are not guarded.
    #[default]
    Public,
    /// All but those that are never meant.
    Private,
    /// These.
    Listed(Vec<IpNet>),
    /// It is an address, which an entry names.
    Itself,
}

impl Reach {
    /// Of one host and port, from all rules about it. Only exact targets can be private.
    pub(super) fn of<'a>(rules: impl Iterator<Item = &'a Rule>) -> Self {
        let mut all = Self::Public;
        for rule in rules {
            let Some(private) = &rule.grant.private else { continue };
            all = match (all, &rule.target) {
                (_, Target::Address(_)) => Self::Itself,
                _ if private.addresses.is_empty() => Self::Private,
                (Self::Private, _) => Self::Private,
                (Self::Listed(mut ranges), _) => {
                    ranges.extend(private.addresses.iter().copied());
                    ranges.sort_unstable();
                    ranges.dedup();
                    Self::Listed(ranges)
                }
                _ => Self::Listed(private.addresses.clone()),
            };
        }
        all
    }
}

impl Answer {
    pub(super) fn denied(rule: &DenyRule, label: Label) -> Self {
        Self { rule: label.of(&rule.origin), what: What::Denied }
    }

    pub(super) fn other_port(rule: &Rule, mode: Mode, label: Label) -> Self {
        let refusal = Refusal { reason: DenyReason::PortNotListed, mode };
        Self { rule: label.of(&rule.origin), what: What::OtherPort(refusal) }
    }

    /// From the rules that allow it, the closest first. Nothing if there is none. `key_of` gives the key of the chain of what
    /// passes by a rule, beside the first one of its listener or wherever the authority is no key.
    pub(super) fn allowed(
        covering: &[&Rule],
        on_trial: Option<&DenyRule>,
        port: Port,
        (mode, label): (Mode, Label),
        mut key_of: impl FnMut(&Rule, Inner, bool) -> Option<Arc<str>>,
    ) -> Option<Self> {
        let closest = covering.first()?;
        let reason = |mode: Mode| match (on_trial, mode) {
            (Some(_), _) => Some(DenyReason::DeniedByRule),
            (None, Mode::Enforce) => None,
            (None, Mode::Report) => Some(DenyReason::NotListed),
        };
        let ordered = by_preference(covering);
        let reach = Reach::of(covering.iter().copied());
        let mut way = |rule: &Rule, inner: Inner, first: bool, same: &dyn Fn(&Grant) -> bool| Way {
            max_tunnel: longest(rule, covering, same),
            inner,
            reach: if rule.grant.private.is_some() { reach.clone() } else { Reach::Public },
            key: key_of(rule, inner, first),
            reported: reason(rule.grant.mode),
            not_80: inner == Inner::Tls && rule.grant.traffic == Traffic::Any,
            to_443: inner == Inner::Originate && port == Port::HTTP,
            limits: rule.grant.limits.clone(),
        };
        let mut used: Vec<&Rule> = vec![closest];
        // What is only closed to tunnels on port 80 is so by a route, so that the answer is the same on each port.
        let tunnelling = ordered.iter().find(|rule| rule.grant.traffic.tunnels(port));
        let tunnelling =
            tunnelling.or_else(|| ordered.iter().find(|rule| rule.grant.traffic == Traffic::Any));
        let tunnels = match tunnelling {
            Some(rule) => {
                used.push(rule);
                let inner = Inner::of_tunnels(&rule.grant.traffic);
                let same = |other: &Grant| {
                    other.traffic.tunnels(Port::HTTPS) && Inner::of_tunnels(&other.traffic) == inner
                };
                Ok(way(rule, inner, true, &same))
            }
            None => Err(Refusal { reason: DenyReason::MethodNotAllowed, mode }),
        };
        let mut plain: Vec<(Requests, Way)> = Vec::new();
        // Those to port 443 never pass, which a route before these says: so that the answer is the same on each port.
        for rule in ordered {
            let Some(requests) = rule.grant.traffic.plain() else { continue };
            if plain.last().is_some_and(|(last, _)| last.is_all()) {
                break;
            }
            used.push(rule);
            let inner = Inner::of_requests(&rule.grant.traffic);
            let first = !plain.iter().any(|(_, way)| way.inner == inner);
            let same = |other: &Grant| {
                other.traffic.plain() == Some(requests) && Inner::of_requests(&other.traffic) == inner
            };
            plain.push((requests.clone(), way(rule, inner, first, &same)));
        }
        let ways = Ways { tunnels, other_plain: other_plain(&plain, mode), plain, mode };
        let rule = match on_trial {
            Some(deny) => label.of(&deny.origin),
            None => places(&used, label),
        };
        Some(Self { rule, what: What::Passes(ways) })
    }
}

/// Of several rules for the same target and traffic, the one that lets it live longest.
fn longest(rule: &Rule, covering: &[&Rule], same: &dyn Fn(&Grant) -> bool) -> Option<Duration> {
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
