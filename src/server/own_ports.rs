//! The ports of exeat and of the sidecar's proxy: no entry opens them to agents.
//!
//! Knows nothing of resources. A name that an entry makes private is not known to lead here: that is for whoever answers it.

use crate::policy::{DenyRule, Mode, Note, PolicySet, Ports, Rule, literal};
use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// Where exeat and its sidecars listen.
#[derive(Clone, Debug)]
pub(super) struct OwnPorts(Vec<SocketAddr>);

impl OwnPorts {
    pub(super) fn new(addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self(addresses.into_iter().collect())
    }

    /// Those that names may lead to because a range is lifted.
    pub(super) fn within(&self, range: &ipnet::IpNet) -> Vec<SocketAddr> {
        self.0.iter().copied().filter(|own| range.contains(&own.ip())).collect()
    }

    /// The same policies, in which what entries say of these ports is denied.
    pub(super) fn close(&self, policies: &PolicySet) -> PolicySet {
        // Agents inherit entries.
        let mut told = BTreeSet::new();
        policies.also_denying(|policy| {
            let denials = policy.rules().iter().filter_map(|rule| self.denial(rule));
            let denials: Vec<Arc<DenyRule>> = denials.map(Arc::new).collect();
            for denial in denials.iter().filter(|denial| told.insert(denial.origin.clone())) {
                let (origin, target) = (&denial.origin, &denial.target);
                tracing::warn!(%origin, "{origin}: exeat or its proxy listens at {target}; its ports stay closed");
            }
            denials
        })
    }

    /// What a rule says of them. Only single hosts can be private.
    fn denial(&self, rule: &Rule) -> Option<DenyRule> {
        rule.grant.private.as_ref()?;
        let host = rule.target.exact()?;
        let here = self.0.iter().filter(|own| leads_to(&host, own.ip()));
        let here: Vec<u16> = here.map(SocketAddr::port).collect();
        let ports = rule.ports.iter().filter(|port| here.contains(&port.number()));
        let note = Note { reason: Some("exeat or its proxy listens there".to_owned()), ..Note::default() };
        Some(DenyRule {
            target: rule.target.clone(),
            ports: Some(Ports::of(ports.collect())?),
            mode: Mode::Enforce,
            until: None,
            note: Some(Arc::new(note)),
            origin: rule.origin.clone(),
        })
    }
}

/// Whether this machine's own name or an address leads to what listens at `own`.
fn leads_to(host: &str, own: IpAddr) -> bool {
    match literal(host) {
        // What listens on all addresses does so on each that is local, and no address at all is the local one.
        Some(address) if own.is_unspecified() => address.is_loopback() || address.is_unspecified(),
        Some(address) => address == own || own.is_loopback() && address.is_unspecified(),
        None => {
            let is_local = host == "localhost" || host.ends_with(".localhost");
            is_local && (own.is_loopback() || own.is_unspecified())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        allowlist::{FileText, read},
        policy::{Port, Request, Timestamp},
    };

    #[test]
    fn what_entries_say_of_own_ports_is_denied() {
        let text = "allow:\n\
            - {host: localhost, ports: [18001, 18002], private: true}\n\
            - {host: 127.0.0.2, ports: [18001], private: true}\n\
            - {host: 10.1.2.3, ports: [10000, 18001], private: true}\n\
            - {host: 10.1.2.4, ports: [10000], private: true}\n";
        let file = FileText { path: "f".into(), label: "f".into(), bytes: text.as_bytes().to_vec().into() };
        let policies = read(&[file], Timestamp::parse("2026-01-01").unwrap()).policies.unwrap();
        let own = ["127.0.0.1:18001", "10.1.2.3:10000"].map(|address| address.parse().unwrap());
        let closed = OwnPorts::new(own).close(&policies);
        let passes = |host: &str, port: &str| {
            let request = Request::tunnel(host.to_owned(), Port::parse(port).unwrap());
            assert!(policies.common().decide(&request).passes(), "{host}:{port}");
            closed.common().decide(&request).passes()
        };
        assert!(!passes("localhost", "18001") && passes("localhost", "18002"));
        assert!(passes("127.0.0.2", "18001"), "somebody else may listen there");
        assert!(!passes("10.1.2.3", "10000") && passes("10.1.2.3", "18001"));
        assert!(passes("10.1.2.4", "10000"));
        let everywhere = OwnPorts::new(["0.0.0.0:18001".parse().unwrap()]).close(&policies);
        let lines: Vec<u32> = everywhere.common().denied().iter().map(|rule| rule.origin.line).collect();
        assert_eq!(lines, [2, 3], "who else listens on such a port is somebody else");
    }
}
