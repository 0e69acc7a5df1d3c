//! What is allowed: the meaning of the allowlists, and the reference decision.
//!
//! Knows nothing of YAML, files, Envoy, clocks or async; everything here is a value or a pure function.
//!
//! A [`Policy`] is what one group of sidecars may reach: [`Rule`]s that allow and [`DenyRule`]s that win over them. A
//! request passes if a rule covers it and no deny rule does ([`Policy::decide`]), and nothing else can make it pass: an
//! empty policy denies everything. A [`PolicySet`] is the policies of all groups: one for each [`Agent`], and the common
//! one for everybody else.

mod agents;
mod decide;
mod diff;
mod explain;
mod grant;
mod host;
mod limits;
mod origin;
mod port;
mod private;
mod question;
mod reason;
mod redundant;
mod rule;
mod selector;
mod suffix;
mod target;
mod timestamp;

pub use agents::{Agent, PolicySet};
pub use decide::{Opening, Request, Verdict, Via, by_preference};
pub use diff::{Change, PolicyDiff, Widening};
pub use explain::{Explanation, NearMiss};
pub use grant::{Grant, Method, Mode, PathPattern, Private, Requests, Traffic};
pub use host::{HostName, HostPattern, InvalidHost};
pub use limits::Limits;
pub use origin::Origin;
pub use port::{InvalidPort, Port, Ports};
pub use private::AddressGuard;
pub use question::Question;
pub use reason::DenyReason;
pub use redundant::Index;
pub use rule::{AnyRule, DenyRule, Note, Rule};
pub use selector::{Glob, Selector, Who};
pub use suffix::{Suffix, suffix_of};
pub use target::{Target, authority, literal, overlaps};
pub use timestamp::Timestamp;

use std::sync::Arc;

/// Everything one group of sidecars may reach. The default value denies everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Shared by all that is the same at another instant.
    rules: Arc<[Arc<Rule>]>,
    denied: Arc<[Arc<DenyRule>]>,
    /// Rules that allow nothing any more, for people.
    expired: Arc<[Arc<Rule>]>,
    mode: Mode,
    /// Most connections of clients at a time.
    max_connections: Option<u32>,
}

impl Policy {
    /// A policy that allows exactly what the rules name.
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Self {
        Self::with(rules.into_iter().map(Arc::new).collect(), Vec::new(), Mode::Enforce)
    }

    /// A policy that allows what the rules name and no deny rule does; in report mode, everything else passes and is
    /// reported. Order carries no meaning: the rules are sorted by origin.
    #[must_use]
    pub fn with(mut rules: Vec<Arc<Rule>>, mut denied: Vec<Arc<DenyRule>>, mode: Mode) -> Self {
        rules.sort_by(|a, b| (&a.origin, &a.target).cmp(&(&b.origin, &b.target)));
        denied.sort_by(|a, b| (&a.origin, &a.target).cmp(&(&b.origin, &b.target)));
        Self {
            rules: rules.into(),
            denied: denied.into(),
            expired: Arc::default(),
            mode,
            max_connections: None,
        }
    }

    /// The same for at most so many connections of clients at a time.
    #[must_use]
    pub fn for_connections(self, max_connections: Option<u32>) -> Self {
        Self { max_connections, ..self }
    }

    /// Most connections of clients at a time.
    #[must_use]
    pub const fn max_connections(&self) -> Option<u32> {
        self.max_connections
    }

    /// The same with further denials.
    #[must_use]
    pub fn also_denying(&self, more: Vec<Arc<DenyRule>>) -> Self {
        if more.is_empty() {
            return self.clone();
        }
        let denied = self.denied.iter().cloned().chain(more).collect();
        let all = Self::with(self.rules.to_vec(), denied, self.mode).for_connections(self.max_connections);
        Self { expired: Arc::clone(&self.expired), ..all }
    }

    /// What this policy and `old` both allow: the step between the two that only takes away. Rules count as a whole: those of
    /// each that a single one of the other includes.
    #[must_use]
    pub fn narrowed_to(&self, old: &Self) -> Self {
        let (before, now) = (old.index(), self.index());
        let mut rules: Vec<Arc<Rule>> =
            self.rules.iter().filter(|rule| before.includes(rule)).cloned().collect();
        // An entry that is made wider stays as narrow as it was for now.
        let narrow = old.rules.iter().filter(|rule| now.includes(rule) && !now.has(rule));
        rules.extend(narrow.cloned());
        let denied = self.denied.iter().chain(&*old.denied).cloned().collect();
        let most = self.max_connections.into_iter().chain(old.max_connections).min();
        let both = Self::with(rules, denied, self.mode.min(old.mode)).for_connections(most);
        Self { expired: Arc::clone(&self.expired), ..both }
    }

    /// Its rules by what they are built on.
    #[must_use]
    pub fn index(&self) -> Index<'_> {
        Index::of(self)
    }

    /// The rules that allow, sorted by file and line.
    #[must_use]
    pub fn rules(&self) -> &[Arc<Rule>] {
        &self.rules
    }

    /// The rules that deny, sorted by file and line.
    #[must_use]
    pub fn denied(&self) -> &[Arc<DenyRule>] {
        &self.denied
    }

    /// The rules that allowed something until they expired, sorted by file and line. They only say why it is denied.
    #[must_use]
    pub fn expired(&self) -> &[Arc<Rule>] {
        &self.expired
    }

    /// What becomes of what no rule covers.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// The policy at an instant: what has expired by then allows and denies nothing.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> Self {
        let there = |until: Option<Timestamp>| until.is_none_or(|until| now < until);
        if self.ends().all(|end| now < end) {
            return self.clone();
        }
        let (rules, expired): (Vec<_>, Vec<_>) =
            self.rules.iter().cloned().partition(|rule| there(rule.until));
        Self {
            rules: rules.into(),
            denied: self.denied.iter().filter(|rule| there(rule.until)).cloned().collect(),
            expired: expired.into(),
            mode: self.mode,
            max_connections: self.max_connections,
        }
    }

    /// All instants at which something expires.
    fn ends(&self) -> impl Iterator<Item = Timestamp> + '_ {
        let allowed = self.rules.iter().filter_map(|rule| rule.until);
        allowed.chain(self.denied.iter().filter_map(|rule| rule.until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_policies_share_is_what_no_edit_may_interrupt() {
        type Pattern = fn(HostName) -> HostPattern;
        let policy = |patterns: &[(Pattern, &str)]| {
            let rule = |(line, (pattern, name)): (u32, &(Pattern, &str))| {
                let pattern = pattern(HostName::parse(name).unwrap());
                Rule::plain(pattern, Ports::default(), Origin { file: "f".into(), line })
            };
            Policy::new((0..).zip(patterns).map(rule).collect())
        };
        let old = policy(&[(HostPattern::Tree, "a.test"), (HostPattern::Exact, "b.test")]);
        let new = policy(&[
            (HostPattern::Exact, "a.test"),
            (HostPattern::Subdomains, "x.a.test"),
            (HostPattern::Subdomains, "b.test"),
            (HostPattern::Tree, "b.test"),
            (HostPattern::Exact, "c.test"),
        ]);
        let shared = new.narrowed_to(&old);
        let shared: Vec<_> = shared.rules().iter().map(|rule| rule.spelling()).collect();
        assert_eq!(shared, ["a.test", "b.test", "*.x.a.test"]);
    }
}
