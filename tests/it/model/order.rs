//! Whatever is edited and however late the client answers, no route it has ever leads to a cluster it lacks.

use super::{body, client::poll_once};
use exeat::{
    ads::{DeltaDiscoveryRequest, DeltaMachine, Machine, Scope},
    envoy::ResourceKind,
    snapshot::{Fallbacks, Resource, Snapshot, Store, Urgency},
};
use proptest::prelude::*;
use std::{collections::BTreeSet, time::Instant};

const CDS: ResourceKind = ResourceKind::Cluster;
const RDS: ResourceKind = ResourceKind::RouteConfiguration;

/// One route table that leads to these clusters.
fn snapshot(clusters: &BTreeSet<char>) -> Snapshot {
    let table = Resource { kind: RDS, name: "R".to_owned(), body: body(RDS, clusters.iter().collect()) };
    let clusters = clusters.iter().map(|name| Resource {
        kind: CDS,
        name: name.to_string(),
        body: body(CDS, format!("cluster {name}")),
    });
    Snapshot::new(clusters.chain([table]).collect(), &Fallbacks::new(), None)
}

#[derive(Debug, Clone)]
enum Action {
    Edit(BTreeSet<char>),
    Poll,
    /// Answers the oldest response of the type.
    Ack(bool),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        2 => prop::collection::btree_set(prop::sample::select(vec!['a', 'b', 'c', 'd']), 0..4)
            .prop_map(Action::Edit),
        4 => Just(Action::Poll),
        3 => any::<bool>().prop_map(Action::Ack),
    ]
}

#[derive(Default)]
struct Envoy {
    clusters: BTreeSet<char>,
    routes: BTreeSet<char>,
    unanswered: Vec<(ResourceKind, String)>,
}

fn request(kind: ResourceKind, names: &[&str], nonce: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: kind.type_url().to_owned(),
        resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
        response_nonce: nonce.to_owned(),
        ..Default::default()
    }
}

fn poll(machine: &mut DeltaMachine, store: &Store, now: Instant, envoy: &mut Envoy) -> bool {
    let Some(response) = poll_once(machine, &store.current().unwrap(), now) else { return false };
    let kind = ResourceKind::from_type_url(&response.type_url).unwrap();
    for resource in &response.resources {
        if kind == CDS {
            envoy.clusters.insert(resource.name.chars().next().unwrap());
        } else {
            envoy.routes = super::client::text(resource.resource.as_ref().unwrap()).chars().collect();
        }
    }
    for name in &response.removed_resources {
        envoy.clusters.remove(&name.chars().next().unwrap());
    }
    assert!(
        envoy.routes.is_subset(&envoy.clusters),
        "routes lead to {:?} of {:?}",
        envoy.routes,
        envoy.clusters
    );
    envoy.unanswered.push((kind, response.nonce));
    true
}

fn ack(machine: &mut DeltaMachine, envoy: &mut Envoy, kind: ResourceKind) -> bool {
    let Some(index) = envoy.unanswered.iter().position(|(of, _)| *of == kind) else { return false };
    let (kind, nonce) = envoy.unanswered.remove(index);
    machine.on_request(&request(kind, &[], &nonce), |_| Vec::new()).unwrap();
    true
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn routes_never_lead_nowhere(actions in prop::collection::vec(action(), 0..40)) {
        let store = Store::new();
        let mut clusters: BTreeSet<char> = ['a'].into();
        store.publish(snapshot(&clusters), Urgency::Additions);
        let mut machine = DeltaMachine::new(Scope::Aggregated, &[]);
        let (mut envoy, now) = (Envoy::default(), Instant::now());
        for (kind, names) in [(CDS, &[][..]), (RDS, &["R"][..])] {
            machine.on_request(&request(kind, names, ""), |_| Vec::new()).unwrap();
        }
        // At the start there is no traffic that could be lost.
        while poll(&mut machine, &store, now, &mut envoy) {}
        while ack(&mut machine, &mut envoy, CDS) | ack(&mut machine, &mut envoy, RDS) {}
        for action in actions {
            match action {
                Action::Edit(next) => {
                    let urgency = if clusters.is_subset(&next) {
                        Urgency::Additions
                    } else {
                        // Only what the client certainly has: the urgent part adds nothing.
                        let first = &next & &envoy.clusters;
                        Urgency::Split(Box::new(snapshot(&first)))
                    };
                    store.publish(snapshot(&next), urgency);
                    clusters = next;
                }
                Action::Poll => drop(poll(&mut machine, &store, now, &mut envoy)),
                Action::Ack(clusters) => drop(ack(&mut machine, &mut envoy, if clusters { CDS } else { RDS })),
            }
        }
        // No time passes, so no grace ends: only answers move it on.
        for turn in 0.. {
            prop_assert!(turn < 30, "it does not settle");
            let polled = poll(&mut machine, &store, now, &mut envoy);
            let acked = ack(&mut machine, &mut envoy, CDS) | ack(&mut machine, &mut envoy, RDS);
            if !polled && !acked {
                break;
            }
        }
        prop_assert_eq!(&envoy.clusters, &clusters);
        prop_assert_eq!(&envoy.routes, &clusters);
        prop_assert!(machine.in_sync());
    }
}
