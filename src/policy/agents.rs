//! The policies of all groups of sidecars.

use super::{DenyRule, Origin, Policy, PolicyDiff, Selector, Timestamp, Who};
use std::{cmp::Ordering, collections::BTreeSet, sync::Arc};

/// A group of sidecars with a policy of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Its name in files, status and logs.
    pub name: Arc<str>,
    /// Which sidecars.
    pub selector: Selector,
    /// What is said of them alone.
    pub own: Policy,
    /// Whether what is allowed to everybody is allowed to them.
    pub inherit: bool,
    /// What they may reach, with what they inherit.
    pub policy: Policy,
    /// Where it was written.
    pub origin: Origin,
}

/// The policy of each agent, and the common one for sidecars that are none. The default value denies everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicySet {
    common: Policy,
    agents: Vec<Agent>,
}

impl PolicySet {
    /// Puts policies together. Agents are sorted by name.
    #[must_use]
    pub fn new(common: Policy, mut agents: Vec<Agent>) -> Self {
        agents.sort_by(|a, b| a.name.cmp(&b.name));
        Self { common, agents }
    }

    /// The policy of sidecars that are no agent.
    #[must_use]
    pub const fn common(&self) -> &Policy {
        &self.common
    }

    /// The agents, sorted by name.
    #[must_use]
    pub fn agents(&self) -> &[Agent] {
        &self.agents
    }

    /// The policy of an agent, or the common one.
    #[must_use]
    pub fn policy(&self, agent: Option<&str>) -> Option<&Policy> {
        let Some(name) = agent else { return Some(&self.common) };
        self.agents.iter().find(|agent| *agent.name == *name).map(|agent| &agent.policy)
    }

    /// What an edit changes for each agent, and for sidecars that are none (without a name). What an agent inherits is worked
    /// out once.
    #[must_use]
    pub fn differences(&self, new: &Self) -> Vec<(Option<Arc<str>>, PolicyDiff)> {
        let common = PolicyDiff::between(&self.common, &new.common);
        let nothing = Policy::default();
        let agents = new.agents.iter().map(|agent| {
            let old = self.agents.iter().find(|old| old.name == agent.name);
            let alike =
                |old: &&Agent| old.inherit && agent.inherit && old.policy.mode() == agent.policy.mode();
            let diff = match old.filter(alike) {
                Some(old) => common.clone().and(&PolicyDiff::between(&old.own, &agent.own)),
                None => PolicyDiff::between(old.map_or(&nothing, |old| &old.policy), &agent.policy),
            };
            (Some(Arc::clone(&agent.name)), diff)
        });
        let agents: Vec<_> = agents.collect();
        std::iter::once((None, common)).chain(agents).collect()
    }

    /// Which agent a sidecar is: the one that names it most closely. An error names two that do so equally; files with such
    /// a tie are not read.
    pub fn select(&self, who: &Who<'_>) -> Result<Option<&Agent>, [Arc<str>; 2]> {
        let mut best: Option<&Agent> = None;
        let mut tie = None;
        for agent in self.agents.iter().filter(|agent| agent.selector.matches(who)) {
            let order = best.map(|best| agent.selector.closeness().cmp(&best.selector.closeness()));
            match (order, best) {
                (Some(Ordering::Less), _) => {}
                (Some(Ordering::Equal), Some(best)) => tie = Some([&best.name, &agent.name].map(Arc::clone)),
                _ => (best, tie) = (Some(agent), None),
            }
        }
        tie.map_or(Ok(best), Err)
    }

    /// All policies: the common one without a name.
    pub fn policies(&self) -> impl Iterator<Item = (Option<&Arc<str>>, &Policy)> {
        let agents = self.agents.iter().map(|agent| (Some(&agent.name), &agent.policy));
        std::iter::once((None, &self.common)).chain(agents)
    }

    /// How many entries there are: what stands in several places, or is inherited, counts once.
    #[must_use]
    pub fn entries(&self) -> usize {
        let mut allowed = BTreeSet::new();
        let mut denied = BTreeSet::new();
        for policy in std::iter::once(&self.common).chain(self.agents.iter().map(|agent| &agent.own)) {
            allowed.extend(policy.rules().iter().map(|rule| (&rule.target, &rule.ports, &rule.grant)));
            denied.extend(policy.denied().iter().map(|rule| (&rule.target, &rule.ports)));
        }
        allowed.len() + denied.len()
    }

    /// The policies at an instant: without what has expired by then.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> Self {
        let at =
            |agent: &Agent| Agent { own: agent.own.at(now), policy: agent.policy.at(now), ..agent.clone() };
        let agents = self.agents.iter().map(at);
        Self { common: self.common.at(now), agents: agents.collect() }
    }

    /// The same with further denials, which are asked for each policy.
    #[must_use]
    pub fn also_denying(&self, mut denials: impl FnMut(&Policy) -> Vec<Arc<DenyRule>>) -> Self {
        let mut and = |policy: &Policy| policy.also_denying(denials(policy));
        let common = and(&self.common);
        let agent =
            |agent: &Agent| Agent { own: and(&agent.own), policy: and(&agent.policy), ..agent.clone() };
        Self { common, agents: self.agents.iter().map(agent).collect() }
    }

    /// The next instant at which something expires.
    #[must_use]
    pub fn next_end(&self, now: Timestamp) -> Option<Timestamp> {
        let own = self.agents.iter().map(|agent| &agent.own);
        std::iter::once(&self.common).chain(own).flat_map(Policy::ends).filter(|end| *end > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Glob, HostName, HostPattern, Ports, Rule};

    #[test]
    fn the_closest_agent_counts_and_time_passes() {
        let time = |text: &str| Timestamp::parse(text).unwrap();
        let rule = |until: Option<&str>| Rule {
            until: until.map(time),
            ..Rule::plain(
                HostPattern::Exact(HostName::parse("a.test").unwrap()),
                Ports::default(),
                Origin { file: "f".into(), line: 1 },
            )
        };
        let agent = |name: &str, id: &str| Agent {
            name: name.into(),
            selector: Selector { node_id: Glob::new(id), ..Selector::default() },
            own: Policy::new(vec![rule(Some("2026-12-31"))]),
            inherit: false,
            policy: Policy::new(vec![rule(Some("2026-12-31"))]),
            origin: Origin { file: "f".into(), line: 2 },
        };
        let set = PolicySet::new(Policy::new(vec![rule(None)]), vec![agent("x", "a-*"), agent("b", "a-1")]);
        let select = |node_id| {
            let agent = set.select(&Who { node_id, ..Who::default() });
            agent.unwrap().map(|agent| agent.name.to_string())
        };
        assert_eq!(select("a-1").as_deref(), Some("b"));
        assert_eq!(select("a-2").as_deref(), Some("x"));
        assert_eq!(select("c"), None);
        let end = set.next_end(time("2026-12-30")).unwrap();
        assert_eq!(end, time("2026-12-31"));
        assert!(set.at(end).policy(Some("x")).unwrap().rules().is_empty());
        assert_eq!(set.at(end).common().rules().len(), 1);
        assert_eq!(set.next_end(end), None);
    }
}
