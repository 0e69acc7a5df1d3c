//! What holds between types, and between streams: R-C17, R-C18, R-D22, the scope of a stream, names that do not exist.

use super::*;
use crate::ads::testing::{CDS, EDS, LDS, RDS, World, snapshot};
use crate::{
    ads::{DeltaDiscoveryRequest, DeltaMachine, DiscoveryRequest, ErrorDetail, SotwMachine},
    snapshot::{Fallbacks, Resource, Store, Urgency},
};
use envoy_types::pb::google::protobuf::Any;

#[path = "repair_tests.rs"]
mod repair;

/// A delta client that answers when it is told to.
struct Client {
    machine: DeltaMachine,
    store: Store,
    now: Instant,
}

/// Type, names sent, names removed.
type Got = Option<(ResourceKind, usize, Vec<String>)>;

impl Client {
    /// Has everything of the world that these types hold, and has accepted it.
    fn settled(world: World<'_>) -> Self {
        let mut client = Self {
            machine: DeltaMachine::new(Scope::Aggregated, &[]),
            store: Store::new(),
            now: Instant::now(),
        };
        client.edit(world, Urgency::Additions);
        for kind in ResourceKind::ALL {
            let names: Vec<&str> =
                world.iter().filter(|one| one.0 == kind && !kind.is_full_state()).map(|one| one.1).collect();
            if kind.is_full_state() || !names.is_empty() {
                client.ask(kind, &names, "", false);
            }
        }
        while let Some((kind, ..)) = client.next() {
            client.ack(kind);
        }
        assert!(client.machine.in_sync());
        client
    }

    fn edit(&self, world: World<'_>, urgency: Urgency) {
        self.store.publish(snapshot(world), urgency);
    }

    fn ask(&mut self, kind: ResourceKind, names: &[&str], nonce: &str, nack: bool) {
        let request = DeltaDiscoveryRequest {
            type_url: kind.type_url().to_owned(),
            resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
            response_nonce: nonce.to_owned(),
            error_detail: nack.then(|| ErrorDetail { code: 13, message: "no".into() }),
            ..Default::default()
        };
        self.machine.on_request(&request, |_| Vec::new()).unwrap();
    }

    fn next(&mut self) -> Got {
        match self.machine.poll(&self.store.current().unwrap(), self.now) {
            Step::Send(response) => {
                let removed = response.removed.iter().map(ToString::to_string).collect();
                Some((response.kind, response.count, removed))
            }
            Step::Wait(_) => None,
        }
    }

    /// Answers the newest response of a type.
    fn ack(&mut self, kind: ResourceKind) {
        let nonce = self.machine.newest[&kind].to_string();
        self.ask(kind, &[], &nonce, false);
    }

    fn nack(&mut self, kind: ResourceKind) {
        let nonce = self.machine.newest[&kind].to_string();
        self.ask(kind, &[], &nonce, true);
    }
}

fn got(kind: ResourceKind, count: usize, removed: &[&str]) -> Got {
    Some((kind, count, removed.iter().map(|name| (*name).to_owned()).collect()))
}

#[test]
fn c17c_routes_wait_for_their_clusters_but_not_for_ever() {
    let mut client = Client::settled(&[(CDS, "a", "1"), (LDS, "l", "1"), (RDS, "r", "a")]);
    client.edit(&[(CDS, "a", "1"), (CDS, "b", "1"), (LDS, "l", "1"), (RDS, "r", "ab")], Urgency::Additions);
    assert_eq!(client.next(), got(CDS, 1, &[]));
    assert_eq!(client.next(), None, "the clusters are not warm yet");
    client.ack(CDS);
    assert_eq!(client.next(), got(RDS, 1, &[]));
    client.ack(RDS);
    client.edit(&[(CDS, "a", "1"), (CDS, "b", "2"), (LDS, "l", "1"), (RDS, "r", "ab2")], Urgency::Additions);
    assert_eq!(client.next(), got(CDS, 1, &[]));
    assert_eq!(client.next(), None);
    client.now += WARMING_GRACE;
    assert_eq!(client.next(), got(RDS, 1, &[]), "one dead name holds back nothing for ever");
    client.ack(RDS);
    // Long after: the answer is still missing, and an edit of routes alone has nothing to wait for.
    client.now += WARMING_GRACE;
    client.edit(&[(CDS, "a", "1"), (CDS, "b", "2"), (LDS, "l", "1"), (RDS, "r", "ab3")], Urgency::Additions);
    assert_eq!(client.next(), got(RDS, 1, &[]));
}

#[test]
fn c17b_clusters_go_when_no_route_leads_to_them() {
    let mut client = Client::settled(&[(CDS, "a", "1"), (CDS, "b", "1"), (RDS, "r", "ab")]);
    client.edit(&[(CDS, "a", "1"), (CDS, "c", "1"), (RDS, "r", "ac")], Urgency::Additions);
    assert_eq!(client.next(), got(CDS, 1, &[]), "the new one, and the old one stays");
    client.ack(CDS);
    assert_eq!(client.next(), got(RDS, 1, &[]));
    assert_eq!(client.next(), None);
    assert!(!client.machine.in_sync());
    client.nack(RDS);
    assert_eq!(client.next(), None, "the old routes may be in force");
    client.edit(&[(CDS, "a", "1"), (CDS, "c", "1"), (RDS, "r", "ac2")], Urgency::Additions);
    assert_eq!(client.next(), got(RDS, 1, &[]));
    client.ack(RDS);
    assert_eq!(client.next(), got(CDS, 0, &["b"]));
    client.ack(CDS);
    assert!(client.machine.in_sync());
    // Nothing leads anywhere else: one response says it all.
    client.edit(&[(CDS, "c", "2"), (RDS, "r", "ac2")], Urgency::Additions);
    assert_eq!(client.next(), got(CDS, 1, &["a"]));
}

#[test]
fn c17c_what_takes_something_away_waits_for_nothing() {
    let mut client = Client::settled(&[(CDS, "a", "1"), (LDS, "l", "1"), (RDS, "r", "a")]);
    client.edit(&[(CDS, "a", "1"), (CDS, "b", "1"), (LDS, "l", "1"), (RDS, "r", "ab")], Urgency::Additions);
    assert_eq!(client.next(), got(CDS, 1, &[]));
    assert_eq!(client.next(), None, "an addition waits");
    // A mixed edit: what is taken away goes at once, what is added waits on.
    let first = Box::new(snapshot(&[(CDS, "a", "1"), (LDS, "l", "1"), (RDS, "r", "")]));
    client.edit(&[(CDS, "a", "1"), (CDS, "b", "1"), (LDS, "l", "1"), (RDS, "r", "b")], Urgency::Split(first));
    assert_eq!(client.next(), got(RDS, 1, &[]));
    assert_eq!(client.next(), None);
    // The next one does not even wait for the answer to the one before.
    client.edit(&[(CDS, "a", "1"), (CDS, "b", "1"), (LDS, "l", "2"), (RDS, "r", "")], Urgency::Tightening);
    assert_eq!(client.next(), got(LDS, 1, &[]), "the routes are there already");
    // A stream that missed the publication is told all the same.
    client.edit(&[(CDS, "a", "1"), (CDS, "b", "1"), (LDS, "l", "3"), (RDS, "r", "-")], Urgency::Tightening);
    client.edit(&[(CDS, "a", "1"), (CDS, "b", "2"), (LDS, "l", "3"), (RDS, "r", "-+")], Urgency::Additions);
    assert_eq!(client.next(), got(RDS, 1, &[]));
    assert_eq!(client.next(), got(LDS, 1, &[]));
    assert_eq!(client.next(), None);
}

#[test]
fn c17b_in_state_of_the_world_the_old_clusters_stay_until_the_routes_are_accepted() {
    let mut machine = SotwMachine::new(Scope::Aggregated, &[]);
    let store = Store::new();
    let now = Instant::now();
    let ask = |machine: &mut SotwMachine, kind: ResourceKind, nonce: u64| {
        let names = if kind == RDS { vec!["r".to_owned()] } else { vec![] };
        let request = DiscoveryRequest {
            type_url: kind.type_url().to_owned(),
            resource_names: names,
            response_nonce: if nonce == 0 { String::new() } else { nonce.to_string() },
            ..Default::default()
        };
        machine.on_request(&request, |_| Vec::new()).unwrap();
    };
    let next = |machine: &mut SotwMachine| match machine.poll(&store.current().unwrap(), now) {
        Step::Send(response) => Some((response.kind, response.count, response.version)),
        Step::Wait(_) => None,
    };
    store.publish(snapshot(&[(CDS, "a", "1"), (RDS, "r", "a")]), Urgency::Additions);
    ask(&mut machine, CDS, 0);
    ask(&mut machine, RDS, 0);
    assert!(next(&mut machine).is_some() && next(&mut machine).is_some());
    ask(&mut machine, CDS, 1);
    ask(&mut machine, RDS, 2);
    store.publish(snapshot(&[(CDS, "b", "1"), (RDS, "r", "b")]), Urgency::Additions);
    let (kind, both, with_both) = next(&mut machine).unwrap();
    assert_eq!((kind, both), (CDS, 2));
    assert!(next(&mut machine).is_none());
    ask(&mut machine, CDS, 3);
    assert_eq!(next(&mut machine).unwrap().0, RDS);
    assert!(next(&mut machine).is_none());
    ask(&mut machine, RDS, 4);
    let (kind, one, with_one) = next(&mut machine).unwrap();
    assert_eq!((kind, one), (CDS, 1));
    assert_ne!(with_both, with_one, "other content is another version");
    ask(&mut machine, CDS, 5);
    assert!(machine.in_sync());
}

#[test]
fn c18_endpoints_are_sent_again_to_a_cluster_that_is_warming() {
    let mut machine = SotwMachine::new(Scope::Aggregated, &[]);
    let store = Store::new();
    let ask = |machine: &mut SotwMachine, kind: ResourceKind, nonce: &str| {
        let names = if kind == EDS { vec!["a".to_owned()] } else { vec![] };
        let request = DiscoveryRequest {
            type_url: kind.type_url().to_owned(),
            resource_names: names,
            response_nonce: nonce.to_owned(),
            ..Default::default()
        };
        machine.on_request(&request, |_| Vec::new()).unwrap();
    };
    let now = Instant::now();
    let next = |machine: &mut SotwMachine| match machine.poll(&store.current().unwrap(), now) {
        Step::Send(response) => Some((response.kind, response.count)),
        Step::Wait(_) => None,
    };
    store.publish(snapshot(&[(CDS, "a", "1"), (EDS, "a", "1")]), Urgency::Additions);
    ask(&mut machine, CDS, "");
    ask(&mut machine, EDS, "");
    assert_eq!((next(&mut machine), next(&mut machine)), (Some((CDS, 1)), Some((EDS, 1))));
    ask(&mut machine, CDS, "1");
    ask(&mut machine, EDS, "2");
    ask(&mut machine, EDS, "2");
    assert_eq!(next(&mut machine), None, "the same request again is not answered (R-S16)");
    store.publish(snapshot(&[(CDS, "a", "2"), (EDS, "a", "1")]), Urgency::Additions);
    assert_eq!(next(&mut machine), Some((CDS, 1)));
    ask(&mut machine, EDS, "2");
    assert_eq!(next(&mut machine), Some((EDS, 1)), "unless its cluster was changed");
    ask(&mut machine, EDS, "4");
    ask(&mut machine, EDS, "4");
    assert_eq!(next(&mut machine), None);
}

#[test]
fn d22_a_rejected_response_is_repaired_with_the_next_change() {
    let mut client = Client::settled(&[(CDS, "a", "1"), (CDS, "b", "1")]);
    client.edit(&[(CDS, "a", "2"), (CDS, "c", "bad"), (CDS, "d", "1")], Urgency::Additions);
    assert_eq!(client.next(), got(CDS, 3, &["b"]));
    client.nack(CDS);
    assert_eq!(client.next(), None, "no loop (R-C12)");
    // Only c is mended; the client may have taken a and d, and dropped b, or not.
    client.edit(&[(CDS, "a", "2"), (CDS, "c", "good"), (CDS, "d", "1")], Urgency::Additions);
    assert_eq!(client.next(), got(CDS, 3, &["b"]));
    client.ack(CDS);
    client.edit(&[(CDS, "a", "3"), (CDS, "c", "good"), (CDS, "d", "1")], Urgency::Additions);
    assert_eq!(client.next(), got(CDS, 1, &[]), "what was accepted is known again");
}

#[test]
fn d22_what_an_earlier_stream_left_in_doubt_is_not_believed() {
    let all = Published::first(snapshot(&[(CDS, "a", "1"), (CDS, "b", "1")]));
    let version = |name| all.snapshot.set(CDS).unwrap().get(name).unwrap().version().to_string();
    let request = DeltaDiscoveryRequest {
        type_url: CDS.type_url().to_owned(),
        initial_resource_versions: [("a", version("a")), ("b", version("b"))]
            .map(|(name, version)| (name.to_owned(), version))
            .into(),
        ..Default::default()
    };
    let mut machine = DeltaMachine::new(Scope::Aggregated, &[]);
    machine.on_request(&request, |_| vec!["a".into(), "d".into()]).unwrap();
    let Step::Send(response) = machine.poll(&all, Instant::now()) else { panic!("nothing is sent") };
    assert_eq!((response.count, response.removed), (1, vec!["d".into()]));
}

#[test]
fn n2_n3_a_stream_of_one_type_serves_no_other() {
    let published = Published::first(snapshot(&[(CDS, "a", "1"), (LDS, "l", "1")]));
    let mut machine = SotwMachine::new(Scope::Only(LDS), &[]);
    machine.on_request(&DiscoveryRequest::default(), |_| Vec::new()).unwrap();
    let Step::Send(response) = machine.poll(&published, Instant::now()) else { panic!("nothing is sent") };
    assert_eq!((response.kind, response.count), (LDS, 1));
    let foreign = DiscoveryRequest { type_url: CDS.type_url().to_owned(), ..Default::default() };
    assert_eq!(machine.on_request(&foreign, |_| Vec::new()).unwrap_err(), Refusal::ForeignType(LDS));
}

#[test]
fn names_are_bounded() {
    let names = (0..=MAX_NAMES).map(|n| n.to_string()).collect();
    let request =
        DiscoveryRequest { type_url: RDS.type_url().to_owned(), resource_names: names, ..Default::default() };
    let mut machine = SotwMachine::new(Scope::Aggregated, &[]);
    assert_eq!(machine.on_request(&request, |_| Vec::new()).unwrap_err(), Refusal::TooManyNames);
}

#[test]
fn a_name_that_does_not_exist_gets_the_fallback_and_never_a_removal() {
    fn deny(name: &str) -> Any {
        Any { type_url: RDS.type_url().to_owned(), value: format!("deny {name}").into_bytes() }
    }
    let fallbacks: Fallbacks = [(RDS, deny as fn(&str) -> Any)].into();
    let publish = |names: &[&str]| {
        let resources = names.iter().map(|name| Resource {
            kind: RDS,
            name: (*name).to_owned(),
            body: Any { type_url: RDS.type_url().to_owned(), value: b"allow".to_vec() },
        });
        Published::first(Snapshot::new(resources.collect(), &fallbacks, None))
    };
    let mut machine = DeltaMachine::new(Scope::Aggregated, &[]);
    let request = DeltaDiscoveryRequest {
        type_url: RDS.type_url().to_owned(),
        resource_names_subscribe: vec!["missing".to_owned(), "there".to_owned()],
        ..Default::default()
    };
    machine.on_request(&request, |_| Vec::new()).unwrap();
    let mut now = Instant::now();
    let mut next = |machine: &mut DeltaMachine, published: &Published| {
        now += Duration::from_secs(3);
        match machine.poll(published, now) {
            Step::Send(response) => {
                assert!(response.removed.is_empty());
                let bytes = response.resources.concat();
                Some((response.count, bytes.windows(5).filter(|text| text == b"deny ").count()))
            }
            Step::Wait(_) => None,
        }
    };
    assert_eq!(next(&mut machine, &publish(&["there"])), Some((2, 1)));
    assert_eq!(next(&mut machine, &publish(&["there", "other"])), None, "nothing it asked for has changed");
    assert_eq!(next(&mut machine, &publish(&[])), Some((1, 1)), "what is gone denies");
    assert_eq!(next(&mut machine, &publish(&["missing"])), Some((1, 0)));
}

#[test]
fn d7_a_missing_name_is_told_although_routes_are_on_their_way() {
    let mut client = Client::settled(&[(CDS, "a", "1"), (RDS, "r", "a")]);
    client.edit(&[(CDS, "a", "1"), (RDS, "r", "a2")], Urgency::Additions);
    assert_eq!(client.next(), got(RDS, 1, &[]));
    client.ask(EDS, &["gone"], "", false);
    assert_eq!(client.next(), got(EDS, 0, &["gone"]), "nothing can lead to what was never there");
}

#[test]
fn d22_the_answer_to_something_else_settles_no_rejection() {
    let mut client = Client::settled(&[(RDS, "a", "1"), (RDS, "b", "1")]);
    client.edit(&[(RDS, "a", "2"), (RDS, "b", "1")], Urgency::Additions);
    assert_eq!(client.next(), got(RDS, 1, &[]));
    client.nack(RDS);
    client.ask(RDS, &["b"], "", false);
    assert_eq!(client.next(), got(RDS, 1, &[]), "b, which was asked for");
    client.ack(RDS);
    assert!(!client.machine.in_sync(), "a is not accepted");
    let unsubscribe = DeltaDiscoveryRequest {
        type_url: RDS.type_url().to_owned(),
        resource_names_unsubscribe: vec!["a".to_owned()],
        ..Default::default()
    };
    client.machine.on_request(&unsubscribe, |_| Vec::new()).unwrap();
    client.next();
    assert!(client.machine.in_sync(), "nothing is left of the rejection");
}

#[test]
fn c17b_a_rejected_removal_is_planned_again_and_still_waits_for_the_routes() {
    let mut client = Client::settled(&[(CDS, "a", "1"), (CDS, "b", "1"), (RDS, "r", "a")]);
    client.edit(&[(CDS, "a", "2"), (RDS, "r", "a")], Urgency::Additions);
    assert_eq!(client.next(), got(CDS, 1, &["b"]));
    client.nack(CDS);
    client.edit(&[(CDS, "a", "3"), (RDS, "r", "a3")], Urgency::Additions);
    assert_eq!(client.next(), got(CDS, 1, &[]));
    client.ack(CDS);
    assert_eq!(client.next(), got(RDS, 1, &[]));
    client.ack(RDS);
    assert_eq!(client.next(), got(CDS, 0, &["b"]), "the client may have it still");
}

#[test]
fn a_client_that_comes_back_may_list_its_names_twice() {
    let names: Vec<String> = (0..MAX_NAMES).map(|n| n.to_string()).collect();
    let request = DeltaDiscoveryRequest {
        type_url: RDS.type_url().to_owned(),
        initial_resource_versions: names.iter().map(|name| (name.clone(), "1".to_owned())).collect(),
        resource_names_subscribe: names,
        ..Default::default()
    };
    let mut machine = DeltaMachine::new(Scope::Aggregated, &[]);
    assert!(machine.on_request(&request, |_| Vec::new()).is_ok());
}

#[test]
fn names_are_bounded_in_bytes_too() {
    let ask = |machine: &mut DeltaMachine, names: Vec<String>| {
        let request = DeltaDiscoveryRequest {
            type_url: RDS.type_url().to_owned(),
            resource_names_subscribe: names,
            ..Default::default()
        };
        machine.on_request(&request, |_| Vec::new()).map(drop)
    };
    let mut machine = DeltaMachine::new(Scope::Aggregated, &[]);
    assert_eq!(ask(&mut machine, vec!["x".repeat(MAX_NAME_BYTES + 1)]), Err(Refusal::NameTooLong));
    // Request after request: it is the subscription that counts.
    let long = |from: usize| (from..from + 1000).map(|n| format!("{n:0>2000}")).collect();
    let refused = (0..).find(|round| ask(&mut machine, long(round * 1000)).is_err()).unwrap();
    assert!((8..=MAX_SUBSCRIPTION_BYTES / 2_000_000).contains(&refused), "{refused}");
}
