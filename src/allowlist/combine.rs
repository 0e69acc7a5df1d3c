//! From the rules of all files to one set of policies, and what stands in the way.
//!
//! Knows nothing of where files come from, or of what was in force before.

use super::{
    agent::Test,
    diagnostic::{Diagnostic, Findings},
    resolve::{Placed, Resolved, ResolvedAgent, Rules},
};
use crate::policy::{Agent, DenyRule, Index, Mode, Policy, PolicySet, Rule, Verdict};
use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

/// What keeps a file from being added to others.
pub(super) fn conflicts(added: &Resolved, others: &[&Resolved]) -> Findings {
    let mut found = Findings::default();
    if let Some((mode, span)) = &added.mode {
        let other = others.iter().find_map(|file| match &file.mode {
            Some((other, _)) if other != mode => Some((file, other)),
            _ => None,
        });
        if let Some((file, other)) = other {
            let message =
                format!("`mode: {}` here, `mode: {}` in {}", mode.as_str(), other.as_str(), file.source.path);
            let error = Diagnostic::error(&added.source, "mode-conflict", span.clone(), message);
            found.push(error.help("all files make one policy: write `mode` in one of them"));
        }
    }
    let mut known: Vec<(&ResolvedAgent, &Resolved)> =
        others.iter().flat_map(|file| file.agents.iter().map(move |agent| (agent, *file))).collect();
    for agent in &added.agents {
        for (other, file) in &known {
            let place = format!("{}:{}", file.source.path, other.span.line);
            let error = if other.name == agent.name {
                let message = format!("agent `{}` is also in {place}", agent.name);
                Some(("agent-duplicate", message, "write everything about an agent in one place"))
            } else if other.selector.ties_with(&agent.selector) {
                let message = format!(
                    "a sidecar can be agent `{}` and agent `{}` ({place}), and neither names it more closely",
                    agent.name, other.name
                );
                Some(("agent-tie", message, "let one `match` say more: a longer name, or a second key"))
            } else {
                None
            };
            if let Some((code, message, help)) = error {
                found.push(Diagnostic::error(&added.source, code, agent.span.clone(), message).help(help));
            }
        }
        known.push((agent, added));
    }
    found
}

/// One policy for everybody, and one for each agent. Files that have no conflicts are meant.
pub(super) fn combine(files: &[&Resolved]) -> PolicySet {
    let mode = files.iter().find_map(|file| file.mode.as_ref()).map_or(Mode::Enforce, |(mode, _)| *mode);
    let common = |rules: fn(&Resolved) -> &Rules| files.iter().map(move |file| rules(file));
    let allow = common(|file| &file.common).flat_map(|rules| unplaced(&rules.allow)).collect::<Vec<_>>();
    let deny = common(|file| &file.common).flat_map(|rules| unplaced(&rules.deny)).collect::<Vec<_>>();
    let agents = files.iter().flat_map(|file| &file.agents).map(|agent| {
        let mode = agent.mode.unwrap_or(mode);
        let mut all: Vec<Arc<Rule>> = unplaced(&agent.rules.allow).collect();
        let mut denied: Vec<Arc<DenyRule>> = unplaced(&agent.rules.deny).collect();
        let own = Policy::with(all.clone(), denied.clone(), mode).for_connections(agent.max_connections);
        if agent.inherit {
            all.extend(allow.iter().cloned());
        }
        // What everybody is denied no agent is allowed, whatever it inherits; on trial only where the agent is, too.
        let earnest = agent.mode == Some(Mode::Enforce);
        denied.extend(deny.iter().map(|rule| {
            let rule = Arc::clone(rule);
            if earnest && rule.mode == Mode::Report {
                return Arc::new(DenyRule { mode: Mode::Enforce, ..DenyRule::clone(&rule) });
            }
            rule
        }));
        Agent {
            name: Arc::clone(&agent.name),
            selector: agent.selector.clone(),
            own,
            inherit: agent.inherit,
            policy: Policy::with(all, denied, mode).for_connections(agent.max_connections),
            origin: agent.origin.clone(),
        }
    });
    let agents = agents.collect();
    PolicySet::new(Policy::with(allow, deny, mode), agents)
}

fn unplaced<R>(rules: &[Placed<R>]) -> impl Iterator<Item = Arc<R>> {
    rules.iter().map(|placed| Arc::clone(&placed.rule))
}

/// Asks what there is of a set of policies at an instant, and the whole set. Each question is about few of many rules.
pub(super) struct Tester<'a> {
    there: Policies<'a>,
    all: Policies<'a>,
}

impl<'a> Tester<'a> {
    pub(super) fn new(all: &'a PolicySet, there: &'a PolicySet) -> Self {
        let policies = |set| Policies { set, indexes: BTreeMap::new() };
        Self { there: policies(there), all: policies(all) }
    }

    /// The self-tests of a file that fail with what is there. One that fails only because an entry's time is over is a warning:
    /// else nothing could be edited any more once it is.
    pub(super) fn failing(&mut self, file: &'a Resolved) -> Findings {
        let mut failing = Findings::default();
        for test in &file.tests {
            let Some(found) = self.there.fails(test, file) else { continue };
            if self.all.fails(test, file).is_some() {
                failing.push(found);
                continue;
            }
            let found = Diagnostic { code: "test-expired", ..found }.warning();
            let help = "an entry that it rests on has expired: take the test out, or renew the entry";
            failing.push(found.help(help));
        }
        failing
    }
}

/// A set of policies, those that were asked for by their rules.
struct Policies<'a> {
    set: &'a PolicySet,
    indexes: BTreeMap<Option<&'a str>, Index<'a>>,
}

impl<'a> Policies<'a> {
    fn fails(&mut self, test: &'a Test, file: &Resolved) -> Option<Diagnostic> {
        let agent = test.agent.as_ref();
        let name = agent.map(|agent| agent.name.as_str());
        let index = match self.indexes.entry(name) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => match self.set.policy(name) {
                Some(policy) => new.insert(policy.index()),
                None => {
                    let agent = agent?;
                    let message = format!("there is no agent `{}`", agent.name);
                    let error = Diagnostic::error(&file.source, "test-agent", agent.span.clone(), message);
                    return Some(
                        error.help("write the name of an agent of these files, or leave `agent` out"),
                    );
                }
            },
        };
        let part = index.part_about(&test.question.request.host);
        let (passes, why) = match part.decide(&test.question.request) {
            Verdict::Allow(rule) => (true, format!("it passes by {} ({})", rule.origin, rule.spelling())),
            Verdict::WouldDeny { reason, .. } => {
                (true, format!("it passes, because report mode only flags it ({})", reason.as_str()))
            }
            Verdict::Deny { reason, rule: Some(rule) } => (
                false,
                format!("it is denied: {} by {} ({})", reason.as_str(), rule.origin(), rule.spelling()),
            ),
            Verdict::Deny { reason, rule: None } => (false, format!("it is denied: {}", reason.as_str())),
        };
        if passes == test.passes {
            return None;
        }
        let expected = if test.passes { "allowed" } else { "denied" };
        let message = format!("the test expects `{}` to be {expected}, and {why}", test.question.text);
        let error = Diagnostic::error(&file.source, "test-failed", test.span.clone(), message);
        Some(error.help("mend the entry, or the test if it is out of date"))
    }
}
