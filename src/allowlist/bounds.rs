//! How much files may ask for, counted in rules: what an entry costs in a table, and the most of it.
//!
//! Knows nothing of where entries stand.

use super::{
    diagnostic::Diagnostic,
    resolve::{Resolved, Rules},
};
use crate::policy::{DenyRule, Rule};
use std::sync::Arc;

/// Most rules that one file makes: groups and presets count wherever they are used.
pub(super) const MAX_RULES: usize = 200_000;
/// Most rules of all policies together, what agents inherit counted for each: each agent has a table of its own.
const MAX_OF_ALL: usize = 1_000_000;
/// Most ports and paths that the entries of one list name for the same host: they add up, and each is compared with the others.
pub(super) const MAX_SAME_HOST: usize = 1000;
/// How many rules a path counts for: it is a route of its own, and plain entries share theirs.
pub(super) const PATH: usize = 20;
/// Most address ranges of one file.
pub(super) const MAX_RANGES: usize = 64;
/// Most ports of an address range.
pub(super) const MAX_RANGE_PORTS: usize = 16;
/// Deepest nesting of groups.
pub(super) const MAX_NESTING: usize = 8;

/// How many rules one counts for.
pub(super) fn weight(rule: &Rule) -> usize {
    weight_of_ports(rule.ports.len()) + rule.ports.len() * paths(rule) * PATH
}

/// How many rules one that denies counts for.
pub(super) fn weight_of_denial(rule: &DenyRule) -> usize {
    weight_of_ports(ports_denied(rule))
}

/// How many ports and paths one names for its host, each path of each port counted.
pub(super) fn named(rule: &Rule) -> usize {
    rule.ports.len() * paths(rule).max(1)
}

/// How many ports one that denies names; all are one.
pub(super) fn ports_denied(rule: &DenyRule) -> usize {
    rule.ports.as_ref().map_or(1, |ports| ports.len())
}

fn paths(rule: &Rule) -> usize {
    rule.grant.traffic.plain().map_or(0, |requests| requests.paths.len())
}

/// Two ports are as usual as one.
fn weight_of_ports(ports: usize) -> usize {
    1 + ports.saturating_sub(2)
}

/// What all policies of some files cost together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Size {
    /// What everybody is allowed, and agents inherit.
    allowed: usize,
    /// What everybody is denied, agents whatever they inherit.
    denied: usize,
    agents: usize,
    inheriting: usize,
    /// What agents are allowed and denied by themselves.
    own: usize,
}

impl Size {
    /// With one more file.
    pub(super) fn with(self, file: &Resolved) -> Self {
        let allowed = |rules: &Rules| rules.allow.iter().map(|placed| weight(&placed.rule)).sum::<usize>();
        let denied =
            |rules: &Rules| rules.deny.iter().map(|placed| weight_of_denial(&placed.rule)).sum::<usize>();
        let own = file.agents.iter().map(|agent| allowed(&agent.rules) + denied(&agent.rules));
        Self {
            allowed: self.allowed + allowed(&file.common),
            denied: self.denied + denied(&file.common),
            agents: self.agents + file.agents.len(),
            inheriting: self.inheriting + file.agents.iter().filter(|agent| agent.inherit).count(),
            own: self.own + own.sum::<usize>(),
        }
    }

    fn all(self) -> usize {
        let common = self.allowed.saturating_mul(self.inheriting + 1);
        common.saturating_add(self.denied.saturating_mul(self.agents + 1)).saturating_add(self.own)
    }

    /// What to say where the last file that was added makes it too much.
    pub(super) fn excess(self, last: &Resolved) -> Option<Diagnostic> {
        let all = self.all();
        if all <= MAX_OF_ALL {
            return None;
        }
        let message = format!(
            "with this file there are {all} rules, those of everybody counted for each agent and each path {PATH} times, and at most {MAX_OF_ALL} are served"
        );
        let found = Diagnostic::whole_file(Arc::clone(&last.source.path), "too-many-entries", message);
        Some(found.help(
            "let one agent match several sidecars, let agents inherit less (`inherit: false`), or split the control plane",
        ))
    }
}
