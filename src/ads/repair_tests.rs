//! Clients that come back, answer late, or not at all: R-C17 and R-D22 beyond one response.

use super::*;

/// A client with what an earlier stream brought it, which it names with these versions.
fn back(store: Store, clusters: &[(&str, &str)]) -> Client {
    let mut client =
        Client { machine: DeltaMachine::new(Scope::Aggregated, &[]), store, now: Instant::now() };
    let request = DeltaDiscoveryRequest {
        type_url: CDS.type_url().to_owned(),
        initial_resource_versions: claims(clusters),
        ..Default::default()
    };
    client.machine.on_request(&request, |_| Vec::new()).unwrap();
    client
}

fn claims(versions: &[(&str, &str)]) -> BTreeMap<String, String> {
    versions.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned())).collect()
}

fn claim_routes(client: &mut Client) {
    let request = DeltaDiscoveryRequest {
        type_url: RDS.type_url().to_owned(),
        resource_names_subscribe: vec!["r".to_owned()],
        initial_resource_versions: claims(&[("r", "old")]),
        ..Default::default()
    };
    client.machine.on_request(&request, |_| Vec::new()).unwrap();
}

#[test]
fn d22_a_later_response_that_is_accepted_settles_a_rejection() {
    let mut client = Client::settled(&[(CDS, "a", "1"), (CDS, "b", "1"), (RDS, "r", "1")]);
    client.edit(&[(CDS, "a", "1"), (CDS, "b", "1"), (RDS, "r", "2")], Urgency::Additions);
    assert_eq!(client.next(), got(RDS, 1, &[]));
    let first = client.machine.newest[&RDS].to_string();
    client.edit(&[(CDS, "a", "1"), (RDS, "r", "3")], Urgency::Tightening);
    assert_eq!(client.next(), got(RDS, 1, &[]), "it overtakes what is not answered");
    client.ask(RDS, &[], &first, true);
    assert_eq!(client.next(), None);
    client.ack(RDS);
    assert_eq!(client.next(), got(CDS, 0, &["b"]), "the client is known to have the new routes");
    client.ack(CDS);
    assert!(client.machine.in_sync());
}

#[test]
fn d22_asking_again_settles_a_rejection() {
    let mut client = Client::settled(&[(CDS, "a", "1"), (CDS, "b", "1"), (RDS, "r", "1")]);
    client.edit(&[(CDS, "a", "1"), (RDS, "r", "2")], Urgency::Additions);
    assert_eq!(client.next(), got(RDS, 1, &[]));
    client.nack(RDS);
    client.ask(RDS, &["r"], "", false);
    assert_eq!(client.next(), got(RDS, 1, &[]));
    client.ack(RDS);
    assert_eq!(client.next(), got(CDS, 0, &["b"]));
}

#[test]
fn c17_a_client_that_comes_back_is_led_by_the_same_order() {
    let store = Store::new();
    store.publish(snapshot(&[(CDS, "a", "1"), (CDS, "c", "1"), (RDS, "r", "c")]), Urgency::Additions);
    let a = store.current().unwrap().snapshot.set(CDS).unwrap().get("a").unwrap().version().to_string();
    let mut client = back(store, &[("a", &a), ("b", "old")]);
    claim_routes(&mut client);
    assert_eq!(client.next(), got(CDS, 1, &[]), "its routes may lead to b");
    assert_eq!(client.next(), None, "c is not warm yet");
    client.ack(CDS);
    assert_eq!(client.next(), got(RDS, 1, &[]));
    assert_eq!(client.next(), None);
    client.ack(RDS);
    assert_eq!(client.next(), got(CDS, 0, &["b"]));
}

#[test]
fn c17b_a_client_that_never_says_what_leads_to_its_clusters_is_waited_for_once() {
    let store = Store::new();
    store.publish(snapshot(&[(CDS, "a", "1"), (RDS, "r", "a")]), Urgency::Additions);
    let mut client = back(store, &[("b", "old")]);
    assert_eq!(client.next(), got(CDS, 1, &[]));
    client.ack(CDS);
    assert_eq!(client.next(), None);
    client.now += WARMING_GRACE;
    assert_eq!(client.next(), got(CDS, 0, &["b"]));
}

#[test]
fn c17c_after_a_revocation_a_client_that_comes_back_waits_for_nothing() {
    let store = Store::new();
    store.publish(snapshot(&[(CDS, "a", "1"), (RDS, "r", "ab")]), Urgency::Additions);
    store.publish(snapshot(&[(CDS, "c", "1"), (RDS, "r", "c")]), Urgency::Tightening);
    let mut client = back(store, &[("a", "old")]);
    claim_routes(&mut client);
    assert_eq!(client.next(), got(CDS, 1, &[]));
    assert_eq!(client.next(), got(RDS, 1, &[]), "it may be what was taken away");
}

#[test]
fn d22_what_is_no_longer_waited_for_is_in_doubt() {
    let mut client = Client::settled(&[(CDS, "a", "1"), (CDS, "b", "0")]);
    client.edit(&[(CDS, "a", "2"), (CDS, "b", "0")], Urgency::Additions);
    assert_eq!(client.next(), got(CDS, 1, &[]));
    for revision in ["1", "2", "3", "4", "5", "6", "7", "8"] {
        client.now += Duration::from_secs(3);
        client.edit(&[(CDS, "a", "2"), (CDS, "b", revision)], Urgency::Additions);
        assert_eq!(client.next(), got(CDS, 1, &[]));
    }
    client.ack(CDS);
    client.now += Duration::from_secs(3);
    client.edit(&[(CDS, "a", "2"), (CDS, "b", "9")], Urgency::Additions);
    assert_eq!(client.next(), got(CDS, 2, &[]), "whether it took a is not known");
}

#[test]
fn names_that_do_not_exist_are_all_answered_in_turn() {
    fn deny(name: &str) -> Any {
        Any { type_url: RDS.type_url().to_owned(), value: format!("deny {name}").into_bytes() }
    }
    let fallbacks: Fallbacks = [(RDS, deny as fn(&str) -> Any)].into();
    let published = Published::first(Snapshot::new(Vec::new(), &fallbacks, None));
    let mut machine = DeltaMachine::new(Scope::Aggregated, &[]);
    let names: Vec<String> = (0..600).map(|n| format!("n{n}")).collect();
    let mut request = DeltaDiscoveryRequest {
        type_url: RDS.type_url().to_owned(),
        resource_names_subscribe: names,
        ..Default::default()
    };
    machine.on_request(&request, |_| Vec::new()).unwrap();
    request.resource_names_subscribe.clear();
    let mut counts = Vec::new();
    while let Step::Send(response) = machine.poll(&published, Instant::now()) {
        counts.push(response.count);
        request.response_nonce = response.nonce.to_string();
        machine.on_request(&request, |_| Vec::new()).unwrap();
    }
    assert_eq!(counts, [256, 256, 88]);
    assert!(machine.in_sync());
}

#[test]
fn d22_what_a_stream_left_unanswered_is_in_doubt() {
    let mut client = Client::settled(&[(CDS, "a", "1")]);
    assert!(client.machine.unanswered().is_empty());
    client.edit(&[(CDS, "a", "2"), (CDS, "b", "1")], Urgency::Additions);
    client.next();
    let unanswered = client.machine.unanswered();
    let [(CDS, names)] = unanswered.as_slice() else { panic!("one response") };
    assert_eq!(names.iter().map(|name| &**name).collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn l12_names_cost_more_than_an_answer() {
    let mut client = Client::settled(&[(RDS, "r", "1")]);
    let names: Vec<String> = (0..20_000).map(|n| n.to_string()).collect();
    let mut request = DeltaDiscoveryRequest {
        type_url: RDS.type_url().to_owned(),
        resource_names_subscribe: names,
        ..Default::default()
    };
    client.machine.on_request(&request, |_| Vec::new()).unwrap();
    assert_eq!(client.machine.cost(&request), 41);
    request.resource_names_subscribe.truncate(1);
    assert_eq!(client.machine.cost(&request), 21, "it is looked up among the others");
    request.resource_names_subscribe.clear();
    assert_eq!(client.machine.cost(&request), 1);
}
