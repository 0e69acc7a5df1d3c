//! R-D… of the protocol requirements, on the machine alone.

use super::*;
use crate::ads::outstanding::IN_FLIGHT_GRACE;
use crate::ads::testing::{CDS, EDS, RDS, snapshot};
use crate::ads::wire::ErrorDetail;
use crate::ads::{Machine, Step};
use crate::snapshot::{Published, Snapshot};

struct Client {
    machine: DeltaMachine,
    now: Instant,
}

#[derive(Default)]
struct Ask<'a> {
    add: &'a [&'a str],
    drop: &'a [&'a str],
    nonce: &'a str,
    nack: bool,
    initial: &'a [(&'a str, &'a str)],
}

type Sent = (String, usize, Vec<String>);

impl Client {
    fn new() -> Self {
        Self { machine: DeltaMachine::default(), now: Instant::now() }
    }

    fn ask(&mut self, kind: ResourceKind, ask: &Ask<'_>) -> Option<Event> {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let request = DeltaDiscoveryRequest {
            type_url: kind.type_url().to_owned(),
            resource_names_subscribe: owned(ask.add),
            resource_names_unsubscribe: owned(ask.drop),
            response_nonce: ask.nonce.to_owned(),
            error_detail: ask.nack.then(|| ErrorDetail { code: 13, message: "no".into() }),
            initial_resource_versions: ask
                .initial
                .iter()
                .map(|(name, version)| ((*name).to_owned(), (*version).to_owned()))
                .collect(),
            ..Default::default()
        };
        self.machine.on_request(&request, |_| Vec::new()).unwrap()
    }

    /// The next response: nonce, number of resources, removed names.
    fn next(&mut self, snapshot: &Snapshot) -> Option<Sent> {
        match self.machine.poll(&Published::first(snapshot.clone()), self.now) {
            Step::Send(response) => {
                let removed = response.removed.iter().map(ToString::to_string).collect();
                Some((response.nonce.to_string(), response.count, removed))
            }
            Step::Wait(_) => None,
        }
    }

    fn ack(&mut self, kind: ResourceKind, nonce: &str) {
        let event = self.ask(kind, &Ask { nonce, ..Ask::default() });
        assert!(matches!(event, Some(Event::Acked { .. })), "{event:?}");
    }
}

fn sent(nonce: &str, resources: usize, removed: &[&str]) -> Option<Sent> {
    Some((nonce.to_owned(), resources, removed.iter().map(|name| (*name).to_owned()).collect()))
}

#[test]
fn d1_d3_a_wildcard_is_answered_even_if_empty() {
    let mut client = Client::new();
    client.ask(CDS, &Ask::default());
    assert_eq!(client.next(&snapshot(&[])), sent("1", 0, &[]));
    client.ack(CDS, "1");
    assert_eq!(client.next(&snapshot(&[])), None);
    assert_eq!(client.next(&snapshot(&[(CDS, "A", "1")])), sent("2", 1, &[]));
}

#[test]
fn d6_d16_d17_d18_only_changes_of_what_was_asked() {
    let mut client = Client::new();
    client.ask(CDS, &Ask { add: &["A", "B"], ..Ask::default() });
    assert_eq!(
        client.next(&snapshot(&[(CDS, "A", "1"), (CDS, "B", "1"), (CDS, "C", "1")])),
        sent("1", 2, &[])
    );
    client.ack(CDS, "1");
    assert_eq!(client.next(&snapshot(&[(CDS, "A", "2"), (CDS, "B", "1")])), sent("2", 1, &[]));
    client.ack(CDS, "2");
    assert_eq!(client.next(&snapshot(&[(CDS, "A", "2")])), sent("3", 0, &["B"]));
    client.ack(CDS, "3");
    assert_eq!(client.next(&snapshot(&[(CDS, "A", "2"), (CDS, "B", "1")])), sent("4", 1, &[]));
}

#[test]
fn d7_missing_names_are_told_except_routes() {
    let mut client = Client::new();
    client.ask(EDS, &Ask { add: &["E"], ..Ask::default() });
    assert_eq!(client.next(&snapshot(&[])), sent("1", 0, &["E"]));
    client.ack(EDS, "1");
    assert_eq!(client.next(&snapshot(&[(EDS, "E", "1")])), sent("2", 1, &[]), "remembered");
    client.ask(RDS, &Ask { add: &["R"], ..Ask::default() });
    client.ack(EDS, "2");
    assert_eq!(client.next(&snapshot(&[(EDS, "E", "1")])), None, "Envoy 1.40 would never get ready");
    assert_eq!(client.next(&snapshot(&[(EDS, "E", "1"), (RDS, "R", "1")])), sent("3", 1, &[]));
}

#[test]
fn d8_d9_asking_again_means_sending_again() {
    let all = snapshot(&[(CDS, "A", "1"), (CDS, "B", "1")]);
    let mut client = Client::new();
    client.ask(CDS, &Ask { add: &["A"], ..Ask::default() });
    client.next(&all);
    client.ask(CDS, &Ask { add: &["A"], nonce: "1", ..Ask::default() });
    assert_eq!(client.next(&all), sent("2", 1, &[]));
    client.ask(CDS, &Ask { add: &["*"], nonce: "2", ..Ask::default() });
    assert_eq!(client.next(&all), sent("3", 2, &[]));
    client.ask(CDS, &Ask { add: &["*"], nonce: "3", ..Ask::default() });
    assert_eq!(client.next(&all), sent("4", 2, &[]));
}

#[test]
fn d10_d11_d12_d13_d14_unsubscribing() {
    let all = snapshot(&[(CDS, "A", "1"), (CDS, "B", "1")]);
    let changed = snapshot(&[(CDS, "A", "2"), (CDS, "B", "1")]);
    let mut client = Client::new();
    client.ask(CDS, &Ask { add: &["A", "B"], ..Ask::default() });
    client.next(&all);
    client.ask(CDS, &Ask { drop: &["A", "phantom"], nonce: "1", ..Ask::default() });
    assert_eq!(client.next(&changed), None, "no longer its business");

    let mut client = Client::new();
    client.ask(CDS, &Ask { add: &["*"], drop: &["*"], ..Ask::default() });
    assert_eq!(client.next(&all), None);

    let mut client = Client::new();
    client.ask(CDS, &Ask { add: &["*", "A", "gone"], ..Ask::default() });
    assert_eq!(client.next(&all), sent("1", 2, &["gone"]));
    client.ask(CDS, &Ask { drop: &["A", "gone"], nonce: "1", ..Ask::default() });
    assert_eq!(client.next(&all), sent("2", 1, &["gone"]), "the wildcard still covers A");
    client.ask(CDS, &Ask { add: &["B"], nonce: "2", ..Ask::default() });
    client.next(&all);
    client.ask(CDS, &Ask { drop: &["*"], nonce: "3", ..Ask::default() });
    assert_eq!(client.next(&changed), None);
    assert_eq!(
        client.next(&snapshot(&[(CDS, "B", "2")])),
        sent("4", 1, &[]),
        "names stay without the wildcard"
    );
}

#[test]
fn d19_what_a_client_brings_is_compared() {
    let all = snapshot(&[(CDS, "A", "1"), (CDS, "B", "2"), (RDS, "R", "1")]);
    let version = |kind, name| all.set(kind).unwrap().get(name).unwrap().version().to_string();
    let (a, r) = (version(CDS, "A"), version(RDS, "R"));
    let mut client = Client::new();
    client.ask(CDS, &Ask { initial: &[("A", &a), ("B", "old"), ("gone", "1")], ..Ask::default() });
    assert_eq!(client.next(&all), sent("1", 1, &[]), "its routes may lead to what is gone");
    client.ask(RDS, &Ask { add: &["R"], initial: &[("R", &r)], ..Ask::default() });
    assert_eq!(client.next(&all), None, "they may lead to a cluster that is not warm");
    client.ack(CDS, "1");
    // Something may be warming at the client until it gets what it names.
    assert_eq!(client.next(&all), sent("2", 1, &[]));
    client.ack(RDS, "2");
    assert_eq!(client.next(&all), sent("3", 0, &["gone"]));
    client.ack(CDS, "3");
    assert!(client.machine.in_sync());
    let b = version(CDS, "B");
    let mut back = Client::new();
    back.ask(CDS, &Ask { initial: &[("A", &a), ("B", &b)], ..Ask::default() });
    assert_eq!(back.next(&all), None, "a client that comes back with everything is sent nothing");
}

#[test]
fn d9_d19_a_wildcard_does_not_forget_what_is_gone() {
    let all = snapshot(&[(CDS, "A", "1")]);
    let mut client = Client::new();
    client.ask(CDS, &Ask { add: &["*"], initial: &[("gone", "1")], ..Ask::default() });
    assert_eq!(client.next(&all), sent("1", 1, &["gone"]));
    client.ask(CDS, &Ask { add: &["*"], nonce: "1", ..Ask::default() });
    assert_eq!(client.next(&snapshot(&[])), sent("2", 0, &["A"]));
}

#[test]
fn d22_a_rejection_is_not_repeated_and_a_rollback_is_sent() {
    let (good, bad) = (snapshot(&[(CDS, "A", "1")]), snapshot(&[(CDS, "A", "2"), (CDS, "D", "1")]));
    let mut client = Client::new();
    client.ask(CDS, &Ask::default());
    client.next(&good);
    client.ack(CDS, "1");
    client.next(&bad);
    let event = client.ask(CDS, &Ask { nonce: "2", nack: true, ..Ask::default() });
    assert!(matches!(event, Some(Event::Nacked { kind: CDS, .. })));
    assert_eq!(client.next(&bad), None, "no loop");
    assert!(!client.machine.in_sync());
    assert_eq!(client.next(&good), sent("3", 1, &["D"]), "parts of the rejected response may be in force");
}

#[test]
fn d23_d30_subscriptions_count_whatever_the_nonce() {
    let all = snapshot(&[(CDS, "A", "1"), (CDS, "B", "1")]);
    let mut client = Client::new();
    client.ask(CDS, &Ask { add: &["A"], ..Ask::default() });
    client.next(&all);
    assert!(client.ask(CDS, &Ask { add: &["B"], nonce: "unknown", ..Ask::default() }).is_none());
    client.now += IN_FLIGHT_GRACE;
    assert_eq!(client.next(&all), sent("2", 1, &[]));
    // D24: each nonce settles its own response.
    client.ack(CDS, "1");
    assert!(!client.machine.in_sync());
    client.ack(CDS, "2");
    assert!(client.machine.in_sync());
}

#[test]
fn one_in_flight_newest_wins() {
    let mut client = Client::new();
    client.ask(RDS, &Ask { add: &["A"], ..Ask::default() });
    assert!(client.next(&snapshot(&[(RDS, "A", "1")])).is_some());
    for revision in ["2", "3"] {
        assert_eq!(client.next(&snapshot(&[(RDS, "A", revision)])), None);
    }
    client.ack(RDS, "1");
    assert_eq!(client.next(&snapshot(&[(RDS, "A", "4")])), sent("2", 1, &[]));
}
