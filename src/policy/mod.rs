//! What is allowed: the meaning of the allowlists, and the reference decision.
//!
//! Knows nothing of YAML, files, Envoy, clocks or async; everything here is a value or a pure function.
//!
//! A [`Policy`] is a list of [`Rule`]s; a request passes if one of them matches its host and port
//! ([`Policy::decide`]), and nothing else can make it pass: an empty policy denies everything.

mod decide;
mod diff;
mod explain;
mod host;
mod origin;
mod port;
mod private;
mod question;
mod reason;
mod suffix;

pub use decide::{Request, Verdict, Via};
pub use diff::PolicyDiff;
pub use explain::{Explanation, NearMiss};
pub use host::{HostName, HostPattern, InvalidHost};
pub use origin::Origin;
pub use port::{InvalidPort, Port, Ports};
pub use private::AddressGuard;
pub use question::Question;
pub use reason::DenyReason;
pub use suffix::{Suffix, suffix_of};

/// One entry of an allowlist: hosts, ports, and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Which host names.
    pub pattern: HostPattern,
    /// Which ports of them.
    pub ports: Ports,
    /// The file and line to show to people.
    pub origin: Origin,
}

impl Rule {
    /// The rule as one would write it: `.a.com`, `a.com:8443`; default ports are left out.
    #[must_use]
    pub fn spelling(&self) -> String {
        match self.ports.suffix() {
            Some(ports) => format!("{}:{ports}", self.pattern),
            None => self.pattern.to_string(),
        }
    }

    /// Whether everything that `other` allows is allowed.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        self.pattern.includes(&other.pattern) && other.ports.iter().all(|port| self.ports.contains(port))
    }
}

/// Everything one group of sidecars may reach. The default value denies everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    rules: Vec<Rule>,
}

impl Policy {
    /// A policy that allows exactly what the rules name. Order carries no meaning: the rules are sorted by origin.
    #[must_use]
    pub fn new(mut rules: Vec<Rule>) -> Self {
        rules.sort_by(|a, b| a.origin.cmp(&b.origin));
        Self { rules }
    }

    /// What of this policy `old` allows already: the step between the two that only takes away. A rule counts as a
    /// whole, so one that no single old rule includes is left out.
    #[must_use]
    pub fn narrowed_to(&self, old: &Self) -> Self {
        let was_allowed = |rule: &&Rule| old.rules.iter().any(|old| old.includes(rule));
        Self { rules: self.rules.iter().filter(was_allowed).cloned().collect() }
    }

    /// The rules, sorted by file and line.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_policies_share_is_what_no_edit_may_interrupt() {
        type Pattern = fn(HostName) -> HostPattern;
        let policy = |patterns: &[(Pattern, &str)]| {
            let rule = |(line, (pattern, name)): (u32, &(Pattern, &str))| Rule {
                pattern: pattern(HostName::parse(name).unwrap()),
                ports: Ports::default(),
                origin: Origin { file: "f".into(), line },
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
        let shared: Vec<_> = shared.rules().iter().map(Rule::spelling).collect();
        assert_eq!(shared, ["a.test", "*.x.a.test"]);
    }
}
