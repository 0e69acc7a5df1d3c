//! What a sidecar answers at one host and port: put together from all rules that cover it.
//!
//! Knows nothing of protobuf. `Policy::decide` says the same for one request.

use super::{chain::Inner, chains::widest};
use crate::policy::{
    DenyReason, DenyRule, Limits, Mode, Origin, Policy, Port, Requests, Rule, Target, Traffic, by_preference,
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
    /// The host is or was listed, and this port is not, or not any more.
    Unlisted(Refusal),
    /// Some of it passes.
    Passes(Ways),
}

/// A reason not to let something pass, in earnest or to be reported.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Refusal {
    pub(super) reason: DenyReason,
    /// In report mode, the key of the chain by which it passes all the same.
    pub(super) report: Option<Arc<str>>,
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
    /// As in [`Refusal`], for the rest.
    pub(super) report: Option<Arc<str>>,
}

/// How something passes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Way {
    pub(super) max_tunnel: Option<Duration>,
    /// The internal listener that carries it.
    pub(super) inner: Inner,
    /// What its name may lead to.
    pub(super) reach: Reach,
    /// How its chain there is found.
    pub(super) key: Key,
    /// It would be denied in earnest.
    pub(super) reported: Option<DenyReason>,
    /// Tunnels to port 80 do not pass.
    pub(super) not_80: bool,
    /// It goes to port 443 instead of 80.
    pub(super) to_443: bool,
    pub(super) limits: Limits,
    /// Whose requests are counted: those of each host for themselves.
    pub(super) counted: Option<String>,
}

/// How a chain is found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    /// By the authority, with a mark behind it where the chain has one.
    Authority(Option<Arc<str>>),
    /// By this.
    Own(Arc<str>),
}

impl Way {
    /// What passes only because nothing is denied in earnest, by the chain of that key.
    pub(super) fn reported(reason: DenyReason, inner: Inner, chain: Arc<str>) -> Self {
        Self {
            max_tunnel: None,
            inner,
            reach: Reach::Public,
            key: Key::Own(chain),
            reported: Some(reason),
            not_80: false,
            to_443: false,
            limits: Limits::default(),
            counted: None,
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

    pub(super) fn other_port(rule: &Rule, report: Option<&Arc<str>>, label: Label) -> Self {
        Self::unlisted(DenyReason::PortNotListed, rule, report, label)
    }

    pub(super) fn expired(rule: &Rule, report: Option<&Arc<str>>, label: Label) -> Self {
        Self::unlisted(DenyReason::Expired, rule, report, label)
    }

    fn unlisted(reason: DenyReason, rule: &Rule, report: Option<&Arc<str>>, label: Label) -> Self {
        let refusal = Refusal { reason, report: report.cloned() };
        Self { rule: label.of(&rule.origin), what: What::Unlisted(refusal) }
    }

    /// From the rules that allow it, the closest first. Nothing if there is none. `key_of` says how the chain of what passes by a
    /// rule is found.
    pub(super) fn allowed(
        covering: &[&Rule],
        on_trial: Option<&DenyRule>,
        (host, port): (&str, Port),
        (report, label): (Option<&Arc<str>>, Label),
        mut key_of: impl FnMut(&Rule, Inner) -> Key,
    ) -> Option<Self> {
        let closest = covering.first()?;
        let reason = |mode: Mode| match (on_trial, mode) {
            (Some(_), _) => Some(DenyReason::DeniedByRule),
            (None, Mode::Enforce) => None,
            (None, Mode::Report) => Some(DenyReason::NotListed),
        };
        let ordered = by_preference(covering);
        let reach = Reach::of(covering.iter().copied());
        let mut way = |rule: &Rule, inner: Inner| {
            let (max_tunnel, limits) = widest(rule, covering.iter().copied(), inner);
            Way {
                max_tunnel,
                inner,
                reach: if rule.grant.private.is_some() { reach.clone() } else { Reach::Public },
                key: key_of(rule, inner),
                reported: reason(rule.grant.mode),
                not_80: inner == Inner::Tls && rule.grant.traffic == Traffic::Any,
                to_443: inner == Inner::Originate && port == Port::HTTP,
                counted: limits.requests_per_minute.map(|_| host.to_owned()),
                limits,
            }
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
                Ok(way(rule, inner))
            }
            None => Err(Refusal { reason: DenyReason::MethodNotAllowed, report: report.cloned() }),
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
            plain.push((requests.clone(), way(rule, inner)));
        }
        let other_plain = other_plain(&plain, report);
        let ways = Ways { tunnels, other_plain, plain, report: report.cloned() };
        let rule = match on_trial {
            Some(deny) => label.of(&deny.origin),
            None => places(&used, label),
        };
        Some(Self { rule, what: What::Passes(ways) })
    }
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
fn other_plain(plain: &[(Requests, Way)], report: Option<&Arc<str>>) -> Vec<(Requests, Refusal)> {
    let refusal = |reason| Refusal { reason, report: report.cloned() };
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
    let rules = policy.rules().len() + policy.denied().len() + policy.expired().len();
    if rules <= super::RULES_WITH_LINE { Label::Line } else { Label::File }
}
