//! Virtual-host domains: which authority leads to which rule.
//!
//! Envoy compares the authority with its port as text, ignoring case, and prefers an exact domain, then the longest
//! `*.suffix`, then the longest `prefix*`. Ports are enforced here and nowhere else.

use crate::policy::{HostName, Policy, Port, Rule};
use std::collections::BTreeMap;

/// The domains of a policy, each with the rule it belongs to. Envoy refuses a table in which a domain stands twice.
#[derive(Debug, Default)]
pub(super) struct Domains<'a> {
    /// Authorities that pass.
    pub(super) allowed: BTreeMap<String, &'a Rule>,
    /// Authorities whose host is listed by its exact name, on other ports.
    pub(super) other_ports: BTreeMap<String, &'a Rule>,
}

impl<'a> Domains<'a> {
    pub(super) fn of(policy: &'a Policy) -> Self {
        let mut domains = Self::default();
        for rule in policy.rules() {
            for port in rule.ports.iter() {
                for host in patterns(rule) {
                    // A plain request to port 80 usually names no port.
                    if port == Port::HTTP {
                        domains.allowed.entry(host.clone()).or_insert(rule);
                    }
                    domains.allowed.entry(format!("{host}:{port}")).or_insert(rule);
                }
            }
        }
        for rule in policy.rules() {
            let Some(name) = rule.pattern.exact() else { continue };
            domains.other_ports.entry(format!("{name}:*")).or_insert(rule);
            // An exact domain would win over a wildcard that allows the same name.
            if !allows_plain(&domains.allowed, name) {
                domains.other_ports.entry(name.to_string()).or_insert(rule);
            }
        }
        domains
    }
}

fn patterns(rule: &Rule) -> impl Iterator<Item = String> + '_ {
    let exact = rule.pattern.exact().map(ToString::to_string);
    let below = rule.pattern.above().map(|name| format!("*.{name}"));
    exact.into_iter().chain(below)
}

/// Whether `http://name/` passes, by its own name or by a wildcard above it.
fn allows_plain(allowed: &BTreeMap<String, &Rule>, name: &HostName) -> bool {
    let mut above = name.as_str().match_indices('.').filter_map(|(at, _)| name.as_str().get(at..));
    allowed.contains_key(name.as_str()) || above.any(|suffix| allowed.contains_key(&format!("*{suffix}")))
}
