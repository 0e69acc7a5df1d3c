//! What an edit changes, in the words of the file.

use super::{AnyRule, DenyRule, Mode, Policy, Rule};
use std::{collections::BTreeSet, fmt};

/// The entries that an edit adds and removes. Moved lines and comments are no difference.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyDiff {
    /// Spellings that are new, sorted.
    pub added: Vec<String>,
    /// Spellings that are gone, sorted.
    pub removed: Vec<String>,
    /// Whether something may pass that did not.
    pub opens: bool,
    /// Whether something may not pass any more that did.
    pub closes: bool,
    /// What makes more possible than a host by its name, sorted.
    pub widening: Vec<(String, Widening)>,
}

impl PolicyDiff {
    /// Both together: what an agent inherits, and its own.
    #[must_use]
    pub fn and(mut self, own: &Self) -> Self {
        self.added.extend(own.added.iter().cloned());
        self.removed.extend(own.removed.iter().cloned());
        self.widening.extend(own.widening.iter().cloned());
        self.opens |= own.opens;
        self.closes |= own.closes;
        self
    }

    /// More entries than this are counted instead of named.
    const NAMED: usize = 8;

    /// Compares by meaning.
    #[must_use]
    pub fn between(old: &Policy, new: &Policy) -> Self {
        let (allowed, denied) = (spellings(old.rules()), deny_spellings(old));
        let (now_allowed, now_denied) = (spellings(new.rules()), deny_spellings(new));
        let without = |these: &BTreeSet<String>, those: &BTreeSet<String>| -> Vec<String> {
            these.difference(those).cloned().collect()
        };
        let mut added = without(&now_allowed, &allowed);
        let mut removed = without(&allowed, &now_allowed);
        let (closed, opened) = (without(&now_denied, &denied), without(&denied, &now_denied));
        let mode = (old.mode(), new.mode());
        let widening = widening(new, &added, &opened, old.mode() < new.mode());
        let opens = !added.is_empty() || !opened.is_empty() || mode.0 < mode.1;
        let closes = !removed.is_empty() || !closed.is_empty() || mode.0 > mode.1;
        added.extend(closed);
        removed.extend(opened);
        if mode.0 != mode.1 {
            added.push(format!("mode: {}", mode.1.as_str()));
            removed.push(format!("mode: {}", mode.0.as_str()));
        }
        let most = (old.max_connections(), new.max_connections());
        let words = |most: Option<u32>| most.map(|most| format!("max_connections: {most}"));
        if most.0 != most.1 {
            added.extend(words(most.1));
            removed.extend(words(most.0));
        }
        let (opens, closes) = (opens || is_fewer(most.1, most.0), closes || is_fewer(most.0, most.1));
        Self { added, removed, opens, closes, widening }
    }

    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }
}

/// Whether the second is less, or a number where there was none.
fn is_fewer(one: Option<u32>, other: Option<u32>) -> bool {
    other.is_some_and(|other| one.is_none_or(|one| other < one))
}

fn widening(new: &Policy, added: &[String], opened: &[String], report: bool) -> Vec<(String, Widening)> {
    let mut found: Vec<(String, Widening)> = Vec::new();
    if !added.is_empty() {
        let wide = new.rules().iter().filter_map(|rule| Some((rule.spelling(), of_rule(rule)?)));
        found.extend(wide.filter(|(spelling, _)| added.binary_search(spelling).is_ok()));
    }
    found.extend(opened.iter().map(|spelling| (spelling.clone(), Widening::DenyRemoved)));
    if report {
        found.push(("mode: report".to_owned(), Widening::ReportMode));
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// How a rule that is new widens a policy.
fn of_rule(rule: &Rule) -> Option<Widening> {
    if rule.grant.private.is_some() {
        return Some(Widening::Private);
    }
    rule.target.is_wide().then_some(Widening::Wildcard)
}

fn spellings(rules: &[std::sync::Arc<Rule>]) -> BTreeSet<String> {
    rules.iter().map(|rule| rule.spelling()).collect()
}

fn deny_spellings(policy: &Policy) -> BTreeSet<String> {
    policy.denied().iter().map(|rule| rule.spelling()).collect()
}

/// `+docs.example.com -old.example.com`; long lists end in a count.
impl fmt::Display for PolicyDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("no change in meaning");
        }
        let mut separator = "";
        for (sign, entries) in [('+', &self.added), ('-', &self.removed)] {
            for entry in entries.iter().take(Self::NAMED) {
                write!(f, "{separator}{sign}{entry}")?;
                separator = " ";
            }
            if let Some(more) = entries.len().checked_sub(Self::NAMED).filter(|more| *more > 0) {
                write!(f, " ({sign}{more} more)")?;
            }
        }
        Ok(())
    }
}

/// How an edit makes more possible than a host by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Widening {
    /// All names below another one, or a range of addresses.
    Wildcard,
    /// An address that is otherwise guarded.
    Private,
    /// An entry of a deny list is gone.
    DenyRemoved,
    /// What is not listed passes and is reported.
    ReportMode,
    /// Other sidecars may be the agent.
    Match,
}

impl Widening {
    /// In words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Wildcard => "a wildcard",
            Self::Private => "a private target",
            Self::DenyRemoved => "a deny entry is gone",
            Self::ReportMode => "everything else passes and is reported",
            Self::Match => "other sidecars may be the agent",
        }
    }
}

/// One effect of an edit on what gets through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// This may pass now.
    Opens {
        /// The entry in short.
        entry: String,
        /// The new place of an entry that was added, or the old place of one that is gone.
        origin: String,
        /// Why a person should look twice.
        widening: Option<Widening>,
    },
    /// This does not pass any more.
    Closes {
        /// The entry in short.
        entry: String,
        /// As above.
        origin: String,
    },
}

impl Policy {
    /// What an edit from `self` to `new` opens and closes. An entry that another one covers changes nothing, and is not
    /// named.
    #[must_use]
    pub fn changes(&self, new: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        if self.mode() != new.mode() {
            let entry = format!("mode: {}", new.mode().as_str());
            let origin = String::new();
            changes.push(match new.mode() {
                Mode::Report => Change::Opens { entry, origin, widening: Some(Widening::ReportMode) },
                Mode::Enforce => Change::Closes { entry, origin },
            });
        }
        let most = (self.max_connections(), new.max_connections());
        if most.0 != most.1 {
            let entry = most.1.map_or_else(
                || "max_connections: none".to_owned(),
                |most| format!("max_connections: {most}"),
            );
            let origin = String::new();
            changes.push(if is_fewer(most.0, most.1) {
                Change::Closes { entry, origin }
            } else {
                Change::Opens { entry, origin, widening: None }
            });
        }
        for rule in missing(new, self) {
            changes.push(opens(AnyRule::Allow(rule), of_rule(rule)));
        }
        for rule in missing_denials(self, new) {
            changes.push(opens(AnyRule::Deny(rule), Some(Widening::DenyRemoved)));
        }
        changes.extend(missing(self, new).into_iter().map(|rule| closes(AnyRule::Allow(rule))));
        changes.extend(missing_denials(new, self).into_iter().map(|rule| closes(AnyRule::Deny(rule))));
        changes
    }
}

fn opens(rule: AnyRule<'_>, widening: Option<Widening>) -> Change {
    Change::Opens { entry: rule.spelling(), origin: rule.origin().to_string(), widening }
}

fn closes(rule: AnyRule<'_>) -> Change {
    Change::Closes { entry: rule.spelling(), origin: rule.origin().to_string() }
}

/// Rules of one policy that none of another includes.
fn missing<'a>(of: &'a Policy, from: &Policy) -> Vec<&'a Rule> {
    let index = from.index();
    of.rules().iter().map(|rule| &**rule).filter(|rule| !index.includes(rule)).collect()
}

fn missing_denials<'a>(of: &'a Policy, from: &Policy) -> Vec<&'a DenyRule> {
    let index = from.index();
    of.denied().iter().map(|rule| &**rule).filter(|rule| !index.denies(rule)).collect()
}
