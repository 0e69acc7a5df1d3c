//! Which sidecars may have resources, and which.
//!
//! Knows nothing of resources: a group is a name and a store.

use crate::{
    ads::{Assignment, Groups, Node, Peer},
    envoy::{LATE_REVOCATION, MINIMUM_VERSION, REQUIRED_EXTENSIONS, REVOCATION},
    fleet::Fleet,
    policy::{Policy, PolicySet, Selector, Who},
    snapshot::{ResourceKind, Stores},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock, PoisonError, RwLock},
};
use tokio::sync::watch;

pub(super) use crate::admin::COMMON;

/// Sidecars are agents, or they get the common policy. A certificate proves who they are, for agents that match by it; the
/// xDS node is what they say of themselves, also with a certificate.
#[derive(Debug)]
pub(super) struct SidecarGroups {
    stores: Arc<Stores>,
    /// Who is which agent, and, for people, where a rejected resource comes from.
    policies: RwLock<Option<Arc<Places>>>,
    moves: watch::Sender<()>,
    fleet: Fleet,
}

/// Where the rules of policies were written, by what a rejection may say of them. Made when it is first needed.
#[derive(Debug)]
struct Places {
    policies: Arc<PolicySet>,
    /// Places and host names, each with its place.
    index: OnceLock<BTreeMap<String, String>>,
}

impl SidecarGroups {
    pub(super) fn new(stores: Arc<Stores>, fleet: Fleet) -> Self {
        Self { stores, policies: RwLock::new(None), moves: watch::Sender::new(()), fleet }
    }

    /// Who is which agent from now on. The stores of new agents are filled; those of agents that are gone go with their
    /// last sidecar.
    pub(super) fn set_policies(&self, policies: Arc<PolicySet>) {
        let places = Arc::new(Places { policies: Arc::clone(&policies), index: OnceLock::new() });
        let old = self.policies.write().unwrap_or_else(PoisonError::into_inner).replace(places);
        let selectors = |set: &PolicySet| -> Vec<(Arc<str>, Selector)> {
            set.agents().iter().map(|agent| (Arc::clone(&agent.name), agent.selector.clone())).collect()
        };
        if old.is_some_and(|old| selectors(&old.policies) != selectors(&policies)) {
            self.fleet.regroup();
            self.moves.send_replace(());
            self.stores.retain(|group| group == COMMON || policies.policy(Some(group)).is_some());
        }
    }

    fn places(&self) -> Option<Arc<Places>> {
        self.policies.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Groups for SidecarGroups {
    fn assign(&self, peer: &Peer, node: &Node) -> Result<Assignment, String> {
        admit(node)?;
        let identity = identity(peer, node)?;
        let certificate = peer.certificate.as_ref();
        let who = Who {
            spiffe: certificate.and_then(|names| names.spiffe.as_deref()),
            dns: certificate.map(|names| names.dns.as_slice()).unwrap_or_default(),
            node_id: &node.id,
            node_cluster: &node.cluster,
        };
        let places = self.places();
        let agent = match places.as_ref().map(|places| places.policies.select(&who)) {
            Some(Err([one, other])) => {
                return Err(format!("agents {one} and {other} name this sidecar equally closely"));
            }
            Some(Ok(agent)) => agent,
            None => None,
        };
        let group = agent.map_or_else(|| COMMON.into(), |agent| Arc::clone(&agent.name));
        let store = self.stores.open(&group);
        let late_revocation = says(node, LATE_REVOCATION);
        Ok(Assignment { group, store, identity, late_revocation })
    }

    fn moves(&self) -> Option<watch::Receiver<()>> {
        Some(self.moves.subscribe())
    }

    fn explain(&self, _: ResourceKind, message: &str) -> Option<String> {
        self.places()?.blame(message)
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
            let policies = || self.policies.policies().map(|(_, policy)| policy);
            let rules = || policies().flat_map(Policy::rules).map(|rule| (rule, rule.origin.to_string()));
            let denied = policies().flat_map(Policy::denied).map(|rule| rule.origin.to_string());
            let hosts = rules().filter_map(|(rule, place)| Some((rule.target.name()?.to_string(), place)));
            let places = rules().map(|(_, place)| place).chain(denied);
            hosts.chain(places.map(|place| (place.clone(), place))).collect()
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

/// Whether a sidecar's bootstrap says that it has this.
fn says(node: &Node, ability: &str) -> bool {
    node.abilities.iter().any(|one| one == ability)
}

/// Refuses Envoys that would ignore the guard of private addresses, or that are built without what the resources need. Other
/// xDS clients enforce nothing and may look.
fn admit(node: &Node) -> Result<(), String> {
    if !node.user_agent.eq_ignore_ascii_case("envoy") {
        return Ok(());
    }
    let (major, minor) = MINIMUM_VERSION;
    let own = node.version.map_or_else(|| "of unknown version".to_owned(), |version| version.to_string());
    if node.version.is_none_or(|version| (version.major, version.minor) < MINIMUM_VERSION) {
        return Err(format!(
            "Envoy {own} would ignore the guard of private addresses; use Envoy {major}.{minor} or later"
        ));
    }
    if !says(node, REVOCATION) && !says(node, LATE_REVOCATION) {
        return Err(format!(
            "its bootstrap does not say `{REVOCATION}` or `{LATE_REVOCATION}`, so that tunnels could not be checked or would \
             outlive what allows them: print it anew with `exeat bootstrap`, and start Envoy with the flags that it names"
        ));
    }
    if node.extensions.is_empty() {
        return Err(
            "this Envoy does not say which extensions it is built with; use an official build".to_owned()
        );
    }
    let lacking = node.lacks(&REQUIRED_EXTENSIONS);
    if lacking.is_empty() {
        return Ok(());
    }
    let lacking = lacking.join(", ");
    Err(format!(
        "this Envoy cannot enforce the policy, because it is built without {lacking}; use an official build"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ads::{CertificateNames, UserAgentVersion},
        policy::{HostName, HostPattern, Origin, Ports, Rule},
    };
    use envoy_types::pb::envoy::config::core::v3::Extension;
    use prost::Message;

    #[test]
    fn refuses_envoys_that_cannot_enforce_a_policy_and_says_why() {
        let all =
            Extension { type_urls: REQUIRED_EXTENSIONS.map(str::to_owned).to_vec(), ..Default::default() };
        let envoy = |minor| Node {
            extensions: vec![all.encode_to_vec().into()],
            id: "n".into(),
            user_agent: "envoy".into(),
            version: Some(UserAgentVersion { major: 1, minor, patch: 0 }),
            abilities: vec![REVOCATION.to_owned()],
            ..Default::default()
        };
        assert!(admit(&envoy(40)).is_ok());
        let foreign = Node { abilities: Vec::new(), ..envoy(40) };
        assert!(admit(&foreign).unwrap_err().contains("exeat bootstrap"));
        assert!(admit(&Node { abilities: vec![LATE_REVOCATION.to_owned()], ..envoy(40) }).is_ok());
        assert!(admit(&envoy(39)).unwrap_err().contains("use Envoy 1.40 or later"));
        let unknown = Node { version: None, ..envoy(40) };
        assert!(admit(&unknown).unwrap_err().contains("use Envoy 1.40 or later"));
        let silent = Node { extensions: Vec::new(), ..envoy(40) };
        assert!(admit(&silent).unwrap_err().contains("does not say which extensions"));
        let poor = Node { extensions: vec![Extension::default().encode_to_vec().into()], ..envoy(40) };
        assert!(admit(&poor).unwrap_err().contains("built without envoy."));
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
        let rule = |name: &str, line| {
            let pattern = HostPattern::Exact(HostName::parse(name).unwrap());
            Rule::plain(pattern, Ports::default(), Origin { file: "allowlist.yaml".into(), line })
        };
        let common = Policy::new(vec![rule("a.test", 1), rule("api.a.test", 12)]);
        let policies = Arc::new(PolicySet::new(common, Vec::new()));
        let places = Places { policies, index: OnceLock::new() };
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
