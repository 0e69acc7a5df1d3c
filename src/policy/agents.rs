//! The policies of all groups of sidecars.

use super::{Origin, Policy, Selector, Timestamp, Who};
use std::{collections::BTreeSet, sync::Arc};

/// A group of sidecars with a policy of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Its name in files, status and logs.
    pub name: Arc<str>,
    /// Which sidecars.
    pub selector: Selector,
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

    /// Which agent a sidecar is: the one that names it most closely.
    #[must_use]
    pub fn select(&self, who: &Who<'_>) -> Option<&Agent> {
        let matching = self.agents.iter().filter(|agent| agent.selector.matches(who));
        matching.max_by_key(|agent| agent.selector.closeness())
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
        for (_, policy) in self.policies() {
            allowed.extend(policy.rules().iter().map(|rule| (&rule.target, &rule.ports, &rule.grant)));
            denied.extend(policy.denied().iter().map(|rule| (&rule.target, &rule.ports)));
        }
        allowed.len() + denied.len()
    }

    /// The policies at an instant: without what has expired by then.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> Self {
        let agents = self.agents.iter().map(|agent| Agent { policy: agent.policy.at(now), ..agent.clone() });
        Self { common: self.common.at(now), agents: agents.collect() }
    }

    /// The next instant at which something expires.
    #[must_use]
    pub fn next_end(&self, now: Timestamp) -> Option<Timestamp> {
        self.policies().flat_map(|(_, policy)| policy.ends()).filter(|end| *end > now).min()
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
            policy: Policy::new(vec![rule(Some("2026-12-31"))]),
            origin: Origin { file: "f".into(), line: 2 },
        };
        let set = PolicySet::new(Policy::new(vec![rule(None)]), vec![agent("x", "a-*"), agent("b", "a-1")]);
        let select = |node_id| {
            let agent = set.select(&Who { node_id, ..Who::default() });
            agent.map(|agent| agent.name.to_string())
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
