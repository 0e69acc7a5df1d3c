//! Which sidecars may have resources, and which.

use crate::{
    ads::{Assignment, Groups, Node, Peer},
    envoy::MINIMUM_VERSION,
    policy::Policy,
    snapshot::{ResourceKind, Store},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock, PoisonError, RwLock},
};

/// The name of the policy of every sidecar.
pub(super) const COMMON: &str = "common";

/// All sidecars have one policy. Their certificate says who they are, else they are what they say.
#[derive(Debug)]
pub(super) struct SidecarGroups {
    store: Arc<Store>,
    /// For people only: where a rejected resource comes from.
    policy: RwLock<Option<Arc<Places>>>,
}

/// Where the rules of a policy were written, by what a rejection may say of them. Made when it is first needed.
#[derive(Debug)]
struct Places {
    policy: Policy,
    /// Places and host names, each with its place.
    index: OnceLock<BTreeMap<String, String>>,
}

impl SidecarGroups {
    pub(super) const fn new(store: Arc<Store>) -> Self {
        Self { store, policy: RwLock::new(None) }
    }

    /// What explanations are looked up in from now on.
    pub(super) fn set_policy(&self, policy: Policy) {
        let places = Arc::new(Places { policy, index: OnceLock::new() });
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = Some(places);
    }
}

impl Groups for SidecarGroups {
    fn assign(&self, peer: &Peer, node: &Node) -> Result<Assignment, String> {
        admit(node)?;
        Ok(Assignment {
            group: COMMON.into(),
            store: Arc::clone(&self.store),
            identity: identity(peer, node)?,
        })
    }

    fn explain(&self, _: ResourceKind, message: &str) -> Option<String> {
        let places = self.policy.read().unwrap_or_else(PoisonError::into_inner).clone();
        places?.blame(message)
    }
}

/// R-L15: a certificate proves who a sidecar is; its node id is only a label. Who has a certificate is never believed
/// to be anybody else.
fn identity(peer: &Peer, node: &Node) -> Result<Arc<str>, String> {
    let Some(names) = &peer.certificate else { return Ok(node.id.as_str().into()) };
    match (&names.spiffe, names.dns.as_slice()) {
        (Some(name), _) | (None, [name]) => Ok(name.as_str().into()),
        (None, []) => Err("the client's certificate names nobody: issue one with a SPIFFE ID or a DNS name \
                           as its subject alternative name"
            .to_owned()),
        (None, _) => {
            Err("the client's certificate has several names: issue one with one SPIFFE ID or one DNS name"
                .to_owned())
        }
    }
}

impl Places {
    /// The rule that a rejection is about, as `file:line`: Envoy quotes the virtual host, which is named after the rule,
    /// or the domain.
    fn blame(&self, message: &str) -> Option<String> {
        let index = self.index.get_or_init(|| {
            let rules = || self.policy.rules().iter().map(|rule| (rule, rule.origin.to_string()));
            let hosts = rules().map(|(rule, place)| (rule.pattern.name().as_str().to_owned(), place));
            hosts.chain(rules().map(|(_, place)| (place.clone(), place))).collect()
        });
        let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | ':');
        message.split(|c| !part(c)).find_map(|word| {
            // `allow/allowlist.yaml:12` is a virtual host, `api.a.com:443` a domain.
            let ends = word.match_indices('/').filter_map(|(at, _)| word.get(at + 1..));
            let host = word.rsplit_once(':').map(|(host, _)| host.trim_start_matches('.'));
            let plain = word.trim_matches(|c| matches!(c, '.' | ':' | '/'));
            std::iter::once(word)
                .chain(ends)
                .chain([plain])
                .chain(host)
                .find_map(|word| index.get(word))
                .cloned()
        })
    }
}

/// Refuses Envoys that would ignore the guard of private addresses. Other xDS clients enforce nothing and may look.
fn admit(node: &Node) -> Result<(), String> {
    let (major, minor) = MINIMUM_VERSION;
    match node.version {
        Some(version)
            if node.user_agent.eq_ignore_ascii_case("envoy")
                && (version.major, version.minor) < MINIMUM_VERSION =>
        {
            Err(format!(
                "Envoy {version} would ignore the guard of private addresses; use Envoy {major}.{minor} or later"
            ))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ads::{CertificateNames, UserAgentVersion},
        policy::{HostName, HostPattern, Origin, Ports, Rule},
    };

    #[test]
    fn refuses_an_old_envoy_and_says_which_is_needed() {
        let envoy = |minor| Node {
            id: "n".into(),
            user_agent: "envoy".into(),
            version: Some(UserAgentVersion { major: 1, minor, patch: 0 }),
            ..Default::default()
        };
        assert!(admit(&envoy(40)).is_ok());
        assert!(admit(&envoy(39)).unwrap_err().contains("use Envoy 1.40 or later"));
        assert!(admit(&Node { id: "n".into(), ..Default::default() }).is_ok());
    }

    #[test]
    fn a_certificate_outweighs_what_a_node_says() {
        let node = Node { id: "claimed".into(), ..Default::default() };
        let peer = |spiffe: Option<&str>, dns: &[&str]| Peer {
            address: String::new(),
            certificate: Some(CertificateNames {
                spiffe: spiffe.map(str::to_owned),
                dns: dns.iter().map(|name| (*name).to_owned()).collect(),
            }),
        };
        let identity = |peer: &Peer| identity(peer, &node).map(|name| name.to_string());
        assert_eq!(
            identity(&peer(Some("spiffe://td/agent"), &["a.test"])).as_deref(),
            Ok("spiffe://td/agent")
        );
        assert_eq!(identity(&peer(None, &["a.test"])).as_deref(), Ok("a.test"));
        assert!(identity(&peer(None, &["a.test", "b.test"])).unwrap_err().contains("several names"));
        assert!(identity(&peer(None, &[])).unwrap_err().contains("names nobody"));
        assert_eq!(identity(&Peer::default()).as_deref(), Ok("claimed"));
    }

    #[test]
    fn a_rejection_leads_to_the_line() {
        let rule = |name: &str, line| Rule {
            pattern: HostPattern::Exact(HostName::parse(name).unwrap()),
            ports: Ports::default(),
            origin: Origin { file: "allowlist.yaml".into(), line },
        };
        let policy = Policy::new(vec![rule("a.test", 1), rule("api.a.test", 12)]);
        let places = Places { policy, index: OnceLock::new() };
        let place = |message| places.blame(message);
        assert_eq!(
            place("virtual host allow/allowlist.yaml:12 is bad").as_deref(),
            Some("allowlist.yaml:12")
        );
        assert_eq!(place("duplicate domain api.a.test:443").as_deref(), Some("allowlist.yaml:12"));
        assert_eq!(place("duplicate domain 'a.test'").as_deref(), Some("allowlist.yaml:1"));
        assert_eq!(place("cannot bind 127.0.0.1:10000"), None);
    }
}
