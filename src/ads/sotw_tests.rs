//! R-S… of the protocol requirements, on the machine alone.

use super::*;
use crate::ads::outstanding::IN_FLIGHT_GRACE;
use crate::ads::testing::{CDS, RDS, snapshot};
use crate::ads::wire::ErrorDetail;
use crate::ads::{Machine, Refusal, Step};
use crate::snapshot::{Published, Snapshot};

struct Client {
    machine: SotwMachine,
    now: Instant,
}

impl Client {
    fn new() -> Self {
        Self { machine: SotwMachine::default(), now: Instant::now() }
    }

    fn ask(&mut self, kind: ResourceKind, names: &[&str], nonce: &str) -> Option<Event> {
        self.request(kind, names, nonce, None)
    }

    fn nack(&mut self, kind: ResourceKind, names: &[&str], nonce: &str) -> Option<Event> {
        self.request(kind, names, nonce, Some(ErrorDetail { code: 13, message: "no".into() }))
    }

    fn request(
        &mut self,
        kind: ResourceKind,
        names: &[&str],
        nonce: &str,
        error_detail: Option<ErrorDetail>,
    ) -> Option<Event> {
        let request = DiscoveryRequest {
            type_url: kind.type_url().to_owned(),
            resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
            response_nonce: nonce.to_owned(),
            error_detail,
            ..Default::default()
        };
        self.machine.on_request(&request, |_| Vec::new()).unwrap()
    }

    /// The next response: type, nonce, number of resources.
    fn next(&mut self, snapshot: &Snapshot) -> Option<(ResourceKind, String, usize)> {
        match self.machine.poll(&Published::first(snapshot.clone()), self.now) {
            Step::Send(response) => Some((response.kind, response.nonce.to_string(), response.count)),
            Step::Wait(_) => None,
        }
    }
}

#[test]
fn c4_a_request_without_type_is_refused() {
    let refused = SotwMachine::default().on_request(&DiscoveryRequest::default(), |_| Vec::new());
    assert_eq!(refused.unwrap_err(), Refusal::NoTypeUrl);
}

#[test]
fn c5_an_unknown_type_is_ignored() {
    let request = DiscoveryRequest { type_url: "type.googleapis.com/x".into(), ..Default::default() };
    let mut machine = SotwMachine::default();
    assert!(machine.on_request(&request, |_| Vec::new()).unwrap().is_none());
    assert!(matches!(
        machine.poll(&Published::first(snapshot(&[(CDS, "A", "1")])), Instant::now()),
        Step::Wait(None)
    ));
}

#[test]
fn c6_c19_types_are_walled_off_and_only_what_was_asked_is_sent() {
    let mut client = Client::new();
    let one = snapshot(&[(CDS, "A", "1"), (RDS, "R", "1")]);
    client.ask(CDS, &[], "");
    assert_eq!(client.next(&one), Some((CDS, "1".into(), 1)));
    assert_eq!(client.next(&one), None, "nobody asked for routes");
    client.ask(CDS, &[], "1");
    let two = snapshot(&[(CDS, "A", "1"), (RDS, "R", "2")]);
    assert_eq!(client.next(&two), None, "a change of routes is no change of clusters");
}

#[test]
fn c20_s13_an_empty_wildcard_and_a_full_deletion_are_answered() {
    let mut client = Client::new();
    client.ask(CDS, &[], "");
    assert_eq!(client.next(&snapshot(&[])), Some((CDS, "1".into(), 0)));
    client.ask(CDS, &[], "1");
    assert_eq!(client.next(&snapshot(&[(CDS, "A", "1")])), Some((CDS, "2".into(), 1)));
    client.ask(CDS, &[], "2");
    assert_eq!(client.next(&snapshot(&[])), Some((CDS, "3".into(), 0)));
}

#[test]
fn c21_c22_routes_have_no_wildcard_and_no_empty_response() {
    let mut client = Client::new();
    client.ask(RDS, &[], "");
    assert_eq!(client.next(&snapshot(&[(RDS, "R", "1")])), None);
    client.ask(RDS, &["missing"], "");
    assert_eq!(client.next(&snapshot(&[(RDS, "R", "1")])), None);
    assert_eq!(
        client.next(&snapshot(&[(RDS, "missing", "1")])),
        Some((RDS, "1".into(), 1)),
        "S12: remembered"
    );
}

#[test]
fn s7_s8_s10_s11_names() {
    let all = snapshot(&[(RDS, "A", "1"), (RDS, "B", "1"), (CDS, "X", "1"), (CDS, "Y", "1")]);
    let mut client = Client::new();
    client.ask(RDS, &["A"], "");
    assert_eq!(client.next(&all), Some((RDS, "1".into(), 1)));
    client.ask(RDS, &["A", "B"], "1");
    assert_eq!(client.next(&all), Some((RDS, "2".into(), 1)), "only the added one");
    client.ask(RDS, &["A"], "2");
    assert_eq!(client.next(&all), None, "narrowing needs no answer");
    client.ask(RDS, &["A", "B"], "2");
    assert_eq!(client.next(&all), Some((RDS, "3".into(), 1)), "dropped and added again");
    client.ask(CDS, &["X"], "");
    assert_eq!(client.next(&all), Some((CDS, "4".into(), 1)));
    client.ask(CDS, &["X", "Y"], "4");
    assert_eq!(client.next(&all), Some((CDS, "5".into(), 2)), "full-state responses are complete");
    client.ask(CDS, &["*", "X"], "5");
    assert_eq!(client.next(&all), Some((CDS, "6".into(), 2)), "wildcard and name: each once");
}

#[test]
fn s15_s16_acks_and_repetitions_are_not_answered() {
    let all = snapshot(&[(CDS, "A", "1")]);
    let mut client = Client::new();
    client.ask(CDS, &[], "");
    client.next(&all);
    assert!(!client.machine.in_sync(), "not before the ACK");
    assert!(matches!(client.ask(CDS, &[], "1"), Some(Event::Acked { kind: CDS, .. })));
    assert_eq!(client.next(&all), None);
    assert!(client.machine.in_sync());
    assert!(client.ask(CDS, &[], "1").is_none());
    assert_eq!(client.next(&all), None);
}

#[test]
fn s17_stale_nonces_do_not_count() {
    let all = snapshot(&[(RDS, "A", "1"), (RDS, "B", "1")]);
    let mut client = Client::new();
    client.ask(RDS, &["A"], "");
    client.next(&all);
    client.ask(RDS, &["A", "B"], "1");
    client.next(&all);
    assert!(client.ask(RDS, &[], "1").is_none());
    assert_eq!(client.machine.names_of(RDS), 2);
    assert!(matches!(client.ask(RDS, &["A", "B"], "2"), Some(Event::Acked { .. })));
}

#[test]
fn s20_a_nonce_of_another_stream_makes_no_difference() {
    let mut client = Client::new();
    client.ask(CDS, &[], "from-before");
    assert_eq!(client.next(&snapshot(&[(CDS, "A", "1")])), Some((CDS, "1".into(), 1)));
}

#[test]
fn s18_s23_one_in_flight_newest_wins_with_a_way_out() {
    let mut client = Client::new();
    client.ask(RDS, &["A"], "");
    assert!(client.next(&snapshot(&[(RDS, "A", "1")])).is_some());
    for revision in ["2", "3", "4"] {
        assert_eq!(client.next(&snapshot(&[(RDS, "A", revision)])), None);
    }
    let newest = snapshot(&[(RDS, "A", "5")]);
    client.now += IN_FLIGHT_GRACE;
    assert_eq!(
        client.next(&newest),
        Some((RDS, "2".into(), 1)),
        "a silent client is not waited for for ever"
    );
    client.ask(RDS, &["A"], "2");
    assert_eq!(client.next(&newest), None);
}

#[test]
fn c12_c13_s24_a_rejection_is_not_repeated_and_a_rollback_is_sent() {
    let (good, bad) = (snapshot(&[(CDS, "A", "1")]), snapshot(&[(CDS, "A", "2")]));
    let mut client = Client::new();
    client.ask(CDS, &[], "");
    client.next(&good);
    client.ask(CDS, &[], "1");
    client.next(&bad);
    let Some(Event::Nacked { kind: CDS, message, .. }) = client.nack(CDS, &[], "2") else {
        panic!("no NACK")
    };
    assert_eq!(message, "no");
    assert_eq!(client.next(&bad), None, "no loop");
    assert!(!client.machine.in_sync());
    assert_eq!(
        client.next(&good),
        Some((CDS, "3".into(), 1)),
        "parts of the rejected response may be in force"
    );
    client.ask(CDS, &[], "3");
    assert!(client.machine.in_sync());
}

#[test]
fn c14_c15_a_rejection_holds_nothing_else_back() {
    let all = snapshot(&[(CDS, "A", "1"), (RDS, "R", "1"), (RDS, "S", "1")]);
    let mut client = Client::new();
    client.ask(CDS, &[], "");
    client.ask(RDS, &["R"], "");
    client.next(&all);
    client.next(&all);
    client.nack(CDS, &[], "1");
    client.nack(RDS, &["R", "S"], "2");
    assert_eq!(client.next(&all), Some((RDS, "3".into(), 1)), "the names in a NACK count");
}

#[test]
fn c17_types_go_out_in_order() {
    let all = snapshot(&[(CDS, "A", "1"), (RDS, "R", "1"), (ResourceKind::Listener, "L", "1")]);
    let mut client = Client::new();
    client.ask(RDS, &["R"], "");
    client.ask(ResourceKind::Listener, &[], "");
    client.ask(CDS, &[], "");
    let order: Vec<_> = std::iter::from_fn(|| client.next(&all)).map(|(kind, ..)| kind).collect();
    assert_eq!(order, [CDS, ResourceKind::Listener, RDS]);
}
