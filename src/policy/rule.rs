//! The rules of a policy: what is allowed, and what is denied whatever is allowed.

use super::{Grant, HostPattern, Mode, Origin, Port, Ports, Target, Timestamp};
use std::sync::Arc;

/// What people want to know of an entry; never interpreted.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    /// Who answers for it.
    pub owner: Option<String>,
    /// Why it is there.
    pub reason: Option<String>,
    /// Where it was decided.
    pub ticket: Option<String>,
}

impl Note {
    /// Whether it says nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.owner.is_none() && self.reason.is_none() && self.ticket.is_none()
    }
}

/// An entry of an allowlist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Which hosts.
    pub target: Target,
    /// Which ports of them.
    pub ports: Ports,
    /// In which way. Nearly all rules share the default.
    pub grant: Arc<Grant>,
    /// The instant from which it is not there any more.
    pub until: Option<Timestamp>,
    /// For people.
    pub note: Option<Arc<Note>>,
    /// The file and line to show to people.
    pub origin: Origin,
}

impl Rule {
    /// A rule as a plain entry makes it.
    #[must_use]
    pub fn plain(pattern: HostPattern, ports: Ports, origin: Origin) -> Self {
        Self { target: Target::Host(pattern), ports, grant: Grant::shared(), until: None, note: None, origin }
    }

    /// Whether host (as in [`Target::matches`]) and port are covered.
    #[must_use]
    pub fn covers(&self, host: &str, port: Port) -> bool {
        self.ports.contains(port) && self.target.matches(host)
    }

    /// The rule in short: `.a.com`, `a.com:8443`, `a.com:80 (http GET)`; what is default is left out.
    #[must_use]
    pub fn spelling(&self) -> String {
        let mut text = spell(&self.target, Some(&self.ports));
        let grant = self.grant.to_string();
        if !grant.is_empty() {
            text.push_str(&format!(" ({grant})"));
        }
        if let Some(until) = self.until {
            text.push_str(&format!(" until {until}"));
        }
        text
    }

    /// Whether everything that `other` allows is allowed, for as long.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        let longer = self.until.is_none_or(|own| other.until.is_some_and(|other| own >= other));
        self.target.includes(&other.target)
            && other.ports.iter().all(|port| self.ports.contains(port))
            && longer
            && self.grant.includes(&other.grant, &other.ports)
    }
}

/// An entry of a deny list: it wins over every rule that allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DenyRule {
    /// Which hosts.
    pub target: Target,
    /// Which ports of them; all where nothing is said.
    pub ports: Option<Ports>,
    /// Whether it denies, or is only on trial.
    pub mode: Mode,
    /// The instant from which it is not there any more.
    pub until: Option<Timestamp>,
    /// For people.
    pub note: Option<Arc<Note>>,
    /// The file and line to show to people.
    pub origin: Origin,
}

impl DenyRule {
    /// Whether host (as in [`Target::matches`]) and port are covered.
    #[must_use]
    pub fn covers(&self, host: &str, port: Port) -> bool {
        self.ports.as_ref().is_none_or(|ports| ports.contains(port)) && self.target.matches(host)
    }

    /// Whether everything that a rule allows is denied.
    #[must_use]
    pub fn includes(&self, rule: &Rule) -> bool {
        let ports = self.ports.as_ref().is_none_or(|own| rule.ports.iter().all(|port| own.contains(port)));
        self.mode == Mode::Enforce && ports && self.target.includes(&rule.target)
    }

    /// Whether everything that another deny rule denies is denied, for as long.
    #[must_use]
    pub fn includes_denial(&self, other: &Self) -> bool {
        let ports = match (&self.ports, &other.ports) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(other)) => other.iter().all(|port| own.contains(port)),
        };
        let longer = self.until.is_none_or(|own| other.until.is_some_and(|other| own >= other));
        self.target.includes(&other.target) && ports && longer && self.mode <= other.mode
    }

    /// The rule in short: `deny .a.com`.
    #[must_use]
    pub fn spelling(&self) -> String {
        let mut text = format!("deny {}", spell(&self.target, self.ports.as_ref()));
        if self.mode == Mode::Report {
            text.push_str(" (report)");
        }
        if let Some(until) = self.until {
            text.push_str(&format!(" until {until}"));
        }
        text
    }
}

fn spell(target: &Target, ports: Option<&Ports>) -> String {
    match ports.and_then(Ports::suffix) {
        Some(ports) => format!("{target}:{ports}"),
        None => target.to_string(),
    }
}

/// A rule of either kind, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnyRule<'a> {
    /// It allows.
    Allow(&'a Rule),
    /// It denies.
    Deny(&'a DenyRule),
}

impl<'a> AnyRule<'a> {
    /// Where it was written.
    #[must_use]
    pub const fn origin(self) -> &'a Origin {
        match self {
            Self::Allow(rule) => &rule.origin,
            Self::Deny(rule) => &rule.origin,
        }
    }

    /// The rule in short.
    #[must_use]
    pub fn spelling(self) -> String {
        match self {
            Self::Allow(rule) => rule.spelling(),
            Self::Deny(rule) => rule.spelling(),
        }
    }

    /// What people say of it.
    #[must_use]
    pub fn note(self) -> Option<&'a Note> {
        match self {
            Self::Allow(rule) => rule.note.as_deref(),
            Self::Deny(rule) => rule.note.as_deref(),
        }
    }
}
