//! The protocol machines against a model of a client, with random interleavings.
//!
//! Whatever happens, the client ends with exactly what is served and subscribed, gets no name twice in a response,
//! never something it did not ask for, and nothing once it has everything.

use envoy_types::pb::{
    envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse},
    google::protobuf::Any,
};
use exeat::{
    ads::{DeltaDiscoveryRequest, DeltaMachine, DiscoveryRequest, ErrorDetail, Machine, SotwMachine, Step},
    snapshot::{Resource, ResourceKind, Snapshot},
};
use proptest::prelude::*;
use prost::Message;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

const KIND: ResourceKind = ResourceKind::RouteConfiguration;
const NAMES: [&str; 4] = ["A", "B", "C", "D"];

/// Revision by name; what does not exist is absent.
type World = BTreeMap<&'static str, u8>;

#[derive(Debug, Clone)]
enum Action {
    Edit(World),
    Subscribe(Vec<bool>),
    /// The server's turn.
    Poll,
    /// The client answers the oldest response it has not answered.
    Ack,
    Nack,
    StaleNonce,
    Wait,
    Reconnect,
}

fn world() -> impl Strategy<Value = World> {
    prop::collection::vec(prop::option::of(0_u8..3), NAMES.len()).prop_map(|revisions| {
        NAMES.into_iter().zip(revisions).filter_map(|(name, revision)| Some((name, revision?))).collect()
    })
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        3 => world().prop_map(Action::Edit),
        2 => prop::collection::vec(any::<bool>(), NAMES.len()).prop_map(Action::Subscribe),
        6 => Just(Action::Poll),
        4 => Just(Action::Ack),
        1 => Just(Action::Nack),
        1 => Just(Action::StaleNonce),
        1 => Just(Action::Wait),
        1 => Just(Action::Reconnect),
    ]
}

fn snapshot(kind: ResourceKind, world: &World) -> Snapshot {
    let resources = world.iter().map(|(name, revision)| Resource {
        kind,
        name: (*name).to_owned(),
        body: Any { type_url: kind.type_url().to_owned(), value: format!("{name}{revision}").into_bytes() },
    });
    Snapshot::new(resources.collect(), None)
}

/// A client of one type: what it wants, what it has, and which responses it has not answered.
trait Client: Default {
    fn subscribe(&mut self, wanted: Vec<&'static str>);
    fn poll(&mut self, snapshot: &Snapshot, now: Instant) -> bool;
    fn answer(&mut self, nack: bool) -> bool;
    fn stale(&mut self);
    fn reconnect(&mut self);
    fn wanted(&self) -> Vec<&'static str>;
    fn has(&self) -> &BTreeMap<String, Vec<u8>>;
    fn in_sync(&self) -> bool;
}

fn chunks_to_message<M: Message + Default>(chunks: &[bytes::Bytes]) -> M {
    let all = chunks.concat();
    M::decode(&all[5..]).unwrap()
}

fn name_of(body: &Any) -> String {
    String::from_utf8_lossy(&body.value[..1]).into_owned()
}

#[derive(Default)]
struct Sotw {
    machine: SotwMachine,
    wanted: Vec<&'static str>,
    has: BTreeMap<String, Vec<u8>>,
    unanswered: Vec<String>,
    newest: String,
}

impl Sotw {
    fn send(&mut self, nonce: String, nack: bool) {
        let request = DiscoveryRequest {
            type_url: KIND.type_url().to_owned(),
            resource_names: self.wanted.iter().map(|name| (*name).to_owned()).collect(),
            response_nonce: nonce,
            error_detail: nack.then(|| ErrorDetail { code: 13, message: "no".into() }),
            ..Default::default()
        };
        self.machine.on_request(&request).unwrap();
    }
}

impl Client for Sotw {
    fn subscribe(&mut self, wanted: Vec<&'static str>) {
        self.has.retain(|name, _| wanted.contains(&name.as_str()));
        self.wanted = wanted;
        self.send(self.newest.clone(), false);
        // The newest nonce in a request answers that response.
        self.unanswered.clear();
    }

    fn poll(&mut self, snapshot: &Snapshot, now: Instant) -> bool {
        let Step::Send(response) = self.machine.poll(snapshot, now) else { return false };
        let message: DiscoveryResponse = chunks_to_message(&SotwMachine::encode(response));
        let mut names = Vec::new();
        for body in message.resources {
            let name = name_of(&body);
            assert!(self.wanted.contains(&name.as_str()), "{name} was not asked for");
            assert!(!names.contains(&name), "{name} twice");
            names.push(name.clone());
            self.has.insert(name, body.value);
        }
        assert!(!names.is_empty(), "an empty response of a type without full state");
        assert!(!message.nonce.is_empty() && message.nonce != self.newest);
        self.newest = message.nonce.clone();
        self.unanswered.push(message.nonce);
        true
    }

    fn answer(&mut self, nack: bool) -> bool {
        if self.unanswered.is_empty() {
            return false;
        }
        let nonce = self.unanswered.remove(0);
        self.send(nonce, nack);
        true
    }

    fn stale(&mut self) {
        self.send("0".to_owned(), false);
    }

    fn reconnect(&mut self) {
        let wanted = std::mem::take(&mut self.wanted);
        let has = std::mem::take(&mut self.has);
        *self = Self { wanted, has, ..Self::default() };
        self.send(String::new(), false);
    }

    fn wanted(&self) -> Vec<&'static str> {
        self.wanted.clone()
    }

    fn has(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.has
    }

    fn in_sync(&self) -> bool {
        self.machine.in_sync()
    }
}

#[derive(Default)]
struct Delta {
    machine: DeltaMachine,
    wanted: Vec<&'static str>,
    has: BTreeMap<String, (Vec<u8>, String)>,
    bodies: BTreeMap<String, Vec<u8>>,
    unanswered: Vec<String>,
}

impl Delta {
    fn send(&mut self, request: DeltaDiscoveryRequest) {
        let request = DeltaDiscoveryRequest { type_url: KIND.type_url().to_owned(), ..request };
        self.machine.on_request(&request).unwrap();
    }

    fn refresh(&mut self) {
        self.bodies = self.has.iter().map(|(name, (body, _))| (name.clone(), body.clone())).collect();
    }
}

impl Client for Delta {
    fn subscribe(&mut self, wanted: Vec<&'static str>) {
        let added = wanted.iter().filter(|name| !self.wanted.contains(name));
        let dropped = self.wanted.iter().filter(|name| !wanted.contains(name));
        let request = DeltaDiscoveryRequest {
            resource_names_subscribe: added.map(|name| (*name).to_owned()).collect(),
            resource_names_unsubscribe: dropped.map(|name| (*name).to_owned()).collect(),
            ..Default::default()
        };
        self.has.retain(|name, _| wanted.contains(&name.as_str()));
        self.refresh();
        self.wanted = wanted;
        self.send(request);
    }

    fn poll(&mut self, snapshot: &Snapshot, now: Instant) -> bool {
        let Step::Send(response) = self.machine.poll(snapshot, now) else { return false };
        let message: DeltaDiscoveryResponse = chunks_to_message(&DeltaMachine::encode(response));
        let mut names = Vec::new();
        for resource in message.resources {
            assert!(self.wanted.contains(&resource.name.as_str()), "{} was not asked for", resource.name);
            assert!(!names.contains(&resource.name), "{} twice", resource.name);
            names.push(resource.name.clone());
            let body = resource.resource.unwrap().value;
            self.has.insert(resource.name, (body, resource.version));
        }
        for name in message.removed_resources {
            assert!(!names.contains(&name), "{name} sent and removed");
            self.has.remove(&name);
        }
        self.refresh();
        self.unanswered.push(message.nonce);
        true
    }

    fn answer(&mut self, nack: bool) -> bool {
        if self.unanswered.is_empty() {
            return false;
        }
        let response_nonce = self.unanswered.remove(0);
        let error_detail = nack.then(|| ErrorDetail { code: 13, message: "no".into() });
        self.send(DeltaDiscoveryRequest { response_nonce, error_detail, ..Default::default() });
        true
    }

    fn stale(&mut self) {
        self.send(DeltaDiscoveryRequest { response_nonce: "0".to_owned(), ..Default::default() });
    }

    fn reconnect(&mut self) {
        let wanted = std::mem::take(&mut self.wanted);
        let has = std::mem::take(&mut self.has);
        *self = Self { wanted, has, ..Self::default() };
        self.refresh();
        let request = DeltaDiscoveryRequest {
            resource_names_subscribe: self.wanted.iter().map(|name| (*name).to_owned()).collect(),
            initial_resource_versions: self
                .has
                .iter()
                .map(|(name, (_, version))| (name.clone(), version.clone()))
                .collect(),
            ..Default::default()
        };
        self.send(request);
    }

    fn wanted(&self) -> Vec<&'static str> {
        self.wanted.clone()
    }

    fn has(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.bodies
    }

    fn in_sync(&self) -> bool {
        self.machine.in_sync()
    }
}

/// Plays the actions, lets everything settle, and looks at what the client has.
fn play<C: Client>(actions: Vec<Action>, deletions_are_told: bool) {
    let mut client = C::default();
    let mut world = World::new();
    let mut current = snapshot(KIND, &world);
    let mut now = Instant::now();
    for action in actions {
        match action {
            Action::Edit(next) => {
                world = next;
                current = snapshot(KIND, &world);
            }
            Action::Subscribe(which) => {
                let wanted = NAMES.into_iter().zip(which).filter_map(|(name, yes)| yes.then_some(name));
                client.subscribe(wanted.collect());
            }
            Action::Poll => drop(client.poll(&current, now)),
            Action::Ack => drop(client.answer(false)),
            Action::Nack => drop(client.answer(true)),
            Action::StaleNonce => client.stale(),
            Action::Wait => now += Duration::from_secs(3),
            Action::Reconnect => client.reconnect(),
        }
    }
    // A change after the last rejection, so that everything is due again; then it settles within a few turns.
    world.values_mut().for_each(|revision| *revision += 10);
    current = snapshot(KIND, &world);
    for turn in 0.. {
        assert!(turn < 20, "it does not settle");
        let polled = client.poll(&current, now);
        if !client.answer(false) && !polled {
            break;
        }
    }
    let mut has = client.has().clone();
    if !deletions_are_told {
        has.retain(|name, _| world.contains_key(name.as_str()));
    }
    let target: BTreeMap<String, Vec<u8>> = client
        .wanted()
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), format!("{name}{}", world.get(name)?).into_bytes())))
        .collect();
    assert_eq!(has, target);
    assert!(client.in_sync());
    assert!(
        !client.poll(&current, now + Duration::from_secs(60)),
        "something is sent although nothing changed"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn state_of_the_world_ends_at_the_target(actions in prop::collection::vec(action(), 0..40)) {
        play::<Sotw>(actions, false);
    }

    #[test]
    fn delta_ends_at_the_target(actions in prop::collection::vec(action(), 0..40)) {
        play::<Delta>(actions, true);
    }
}
