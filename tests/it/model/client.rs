//! Clients as Envoy is one: a rejected response is applied in part, and a new stream says only what was accepted.

use envoy_types::pb::{
    envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse},
    google::protobuf::Any,
};
use exeat::{
    ads::{
        DeltaDiscoveryRequest, DeltaMachine, DiscoveryRequest, ErrorDetail, Event, Machine, Scope,
        SotwMachine, Step,
    },
    envoy::ResourceKind,
    snapshot::Published,
};
use prost::Message;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

/// A client of one type: what it wants, what it has, and which responses it has not answered.
pub trait Client {
    /// Whether the protocol tells of deletions of every type.
    const TELLS_DELETIONS: bool;
    fn new(kind: ResourceKind) -> Self;
    fn subscribe(&mut self, names: Vec<&'static str>, wildcard: bool);
    fn poll(&mut self, published: &Published, now: Instant) -> bool;
    /// Answers the oldest response; with a mask, rejects it after taking that part of it.
    fn answer(&mut self, taken: Option<u8>) -> bool;
    fn stale(&mut self);
    fn reconnect(&mut self);
    fn wants(&self, name: &str) -> bool;
    fn has(&self) -> BTreeMap<String, String>;
    fn in_sync(&self) -> bool;
    fn has_asked(&self) -> bool;
}

pub fn message<M: Message + Default>(chunks: &[bytes::Bytes]) -> M {
    M::decode(&chunks.concat()[5..]).unwrap()
}

pub fn text(body: &Any) -> String {
    String::from_utf8(body.value.clone()).unwrap()
}

fn name_of(body: &Any) -> String {
    text(body)[..1].to_owned()
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Names in doubt, as the server keeps them beyond a stream.
#[derive(Default)]
struct Doubts(BTreeSet<Arc<str>>);

impl Doubts {
    fn hear(&mut self, event: Option<Event>) {
        match event {
            Some(Event::Acked { response, .. }) => response.names.iter().for_each(|name| {
                self.0.remove(name);
            }),
            Some(Event::Nacked { response, .. }) => self.0.extend(response.names.iter().cloned()),
            None => {}
        }
    }
}

/// Whether part number `index` of a rejected response is applied.
fn is_taken(mask: Option<u8>, index: usize) -> bool {
    mask.is_none_or(|mask| mask & (1 << (index % 8)) != 0)
}

#[derive(Default)]
struct Wish {
    names: Vec<&'static str>,
    wildcard: bool,
}

impl Wish {
    fn covers(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(&name)
    }

    fn spelled(&self) -> Vec<String> {
        let mut names = owned(&self.names);
        if self.wildcard {
            names.push("*".to_owned());
        }
        names
    }
}

pub struct Sotw {
    kind: ResourceKind,
    machine: SotwMachine,
    doubts: Doubts,
    wish: Wish,
    has: BTreeMap<String, String>,
    unanswered: Vec<(String, Vec<Any>)>,
    newest: String,
}

impl Sotw {
    fn send(&mut self, nonce: String, nack: bool) {
        let request = DiscoveryRequest {
            type_url: self.kind.type_url().to_owned(),
            resource_names: self.wish.spelled(),
            response_nonce: nonce,
            error_detail: nack.then(|| ErrorDetail { code: 13, message: "no".into() }),
            ..Default::default()
        };
        let doubts = &self.doubts.0;
        let event = self.machine.on_request(&request, |_| doubts.iter().cloned().collect()).unwrap();
        self.doubts.hear(event);
    }

    fn take(&mut self, resources: Vec<Any>, mask: Option<u8>) {
        if self.kind.is_full_state() {
            let kept: Vec<String> = resources.iter().map(name_of).collect();
            let mut index = 100;
            self.has.retain(|name, _| {
                index += 1;
                kept.contains(name) || !is_taken(mask, index)
            });
        }
        for (index, body) in resources.into_iter().enumerate() {
            if is_taken(mask, index) && self.wish.covers(&name_of(&body)) {
                self.has.insert(name_of(&body), text(&body));
            }
        }
    }
}

impl Client for Sotw {
    const TELLS_DELETIONS: bool = false;

    fn new(kind: ResourceKind) -> Self {
        Self {
            kind,
            machine: SotwMachine::new(Scope::Aggregated, &[]),
            doubts: Doubts::default(),
            wish: Wish::default(),
            has: BTreeMap::new(),
            unanswered: Vec::new(),
            newest: String::new(),
        }
    }

    fn subscribe(&mut self, names: Vec<&'static str>, wildcard: bool) {
        // The newest nonce in a request answers that response.
        while !self.unanswered.is_empty() {
            let (_, resources) = self.unanswered.remove(0);
            self.take(resources, None);
        }
        // Before the first name, an empty list would be a wildcard.
        if names.is_empty() && !wildcard && self.wish.spelled().is_empty() {
            return;
        }
        self.wish = Wish { names, wildcard };
        let wish = &self.wish;
        self.has.retain(|name, _| wish.covers(name));
        self.send(self.newest.clone(), false);
    }

    fn poll(&mut self, published: &Published, now: Instant) -> bool {
        let Step::Send(response) = self.machine.poll(published, now) else { return false };
        let count = response.count;
        let message: DiscoveryResponse = message(&SotwMachine::encode(response));
        assert_eq!(message.resources.len(), count);
        let mut names: Vec<String> = message.resources.iter().map(name_of).collect();
        assert!(names.iter().all(|name| self.wish.covers(name)), "{names:?} was not asked for");
        names.dedup();
        assert_eq!(names.len(), count, "a name twice");
        assert!(count > 0 || self.kind.is_full_state(), "an empty response of a type without full state");
        assert!(!message.nonce.is_empty() && message.nonce != self.newest);
        self.newest = message.nonce.clone();
        self.unanswered.push((message.nonce, message.resources));
        true
    }

    fn answer(&mut self, taken: Option<u8>) -> bool {
        if self.unanswered.is_empty() {
            return false;
        }
        let (nonce, resources) = self.unanswered.remove(0);
        self.take(resources, taken);
        self.send(nonce, taken.is_some());
        true
    }

    fn stale(&mut self) {
        if !self.newest.is_empty() {
            self.send("0".to_owned(), false);
        }
    }

    fn reconnect(&mut self) {
        let Self { kind, doubts, wish, has, .. } = std::mem::replace(self, Self::new(self.kind));
        *self = Self { doubts, wish, has, ..Self::new(kind) };
        if !self.wish.spelled().is_empty() {
            self.send(String::new(), false);
        }
    }

    fn wants(&self, name: &str) -> bool {
        self.wish.covers(name)
    }

    fn has(&self) -> BTreeMap<String, String> {
        self.has.clone()
    }

    fn in_sync(&self) -> bool {
        self.machine.in_sync()
    }

    fn has_asked(&self) -> bool {
        !self.wish.spelled().is_empty()
    }
}

pub struct Delta {
    kind: ResourceKind,
    machine: DeltaMachine,
    doubts: Doubts,
    wish: Wish,
    /// What is really there.
    has: BTreeMap<String, String>,
    /// What a new stream says: what accepted responses brought.
    accepted: BTreeMap<String, String>,
    unanswered: Vec<DeltaDiscoveryResponse>,
    started: bool,
}

impl Delta {
    fn send(&mut self, request: DeltaDiscoveryRequest) {
        self.started = true;
        let request = DeltaDiscoveryRequest { type_url: self.kind.type_url().to_owned(), ..request };
        let doubts = &self.doubts.0;
        let event = self.machine.on_request(&request, |_| doubts.iter().cloned().collect()).unwrap();
        self.doubts.hear(event);
    }

    fn forget_unwanted(&mut self) {
        let wish = &self.wish;
        self.has.retain(|name, _| wish.covers(name));
        self.accepted.retain(|name, _| wish.covers(name));
    }
}

impl Client for Delta {
    const TELLS_DELETIONS: bool = true;

    fn new(kind: ResourceKind) -> Self {
        Self {
            kind,
            machine: DeltaMachine::new(Scope::Aggregated, &[]),
            doubts: Doubts::default(),
            wish: Wish::default(),
            has: BTreeMap::new(),
            accepted: BTreeMap::new(),
            unanswered: Vec::new(),
            started: false,
        }
    }

    fn subscribe(&mut self, names: Vec<&'static str>, wildcard: bool) {
        let old = self.wish.spelled();
        let new = Wish { names, wildcard };
        let request = DeltaDiscoveryRequest {
            resource_names_subscribe: new.spelled().into_iter().filter(|name| !old.contains(name)).collect(),
            resource_names_unsubscribe: old
                .into_iter()
                .filter(|name| !new.spelled().contains(name))
                .collect(),
            ..Default::default()
        };
        // A first request without names would be a wildcard.
        if !self.started && request.resource_names_subscribe.is_empty() {
            return;
        }
        self.wish = new;
        self.forget_unwanted();
        self.send(request);
    }

    fn poll(&mut self, published: &Published, now: Instant) -> bool {
        let Step::Send(response) = self.machine.poll(published, now) else { return false };
        let message: DeltaDiscoveryResponse = message(&DeltaMachine::encode(response));
        let mut names: Vec<&String> = message.resources.iter().map(|one| &one.name).collect();
        for name in &names {
            assert!(self.wish.covers(name), "{name} was not asked for");
        }
        names.extend(&message.removed_resources);
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count, "a name twice in {message:?}");
        self.unanswered.push(message);
        true
    }

    fn answer(&mut self, taken: Option<u8>) -> bool {
        if self.unanswered.is_empty() {
            return false;
        }
        let response = self.unanswered.remove(0);
        let mut index = 0;
        for resource in response.resources {
            index += 1;
            if !self.wish.covers(&resource.name) {
                continue;
            }
            if is_taken(taken, index) {
                self.has.insert(resource.name.clone(), text(&resource.resource.unwrap()));
            }
            if taken.is_none() {
                self.accepted.insert(resource.name, resource.version);
            }
        }
        for name in response.removed_resources {
            index += 1;
            if is_taken(taken, index) {
                self.has.remove(&name);
            }
            if taken.is_none() {
                self.accepted.remove(&name);
            }
        }
        let error_detail = taken.map(|_| ErrorDetail { code: 13, message: "no".into() });
        self.send(DeltaDiscoveryRequest {
            response_nonce: response.nonce,
            error_detail,
            ..Default::default()
        });
        true
    }

    fn stale(&mut self) {
        if self.started {
            self.send(DeltaDiscoveryRequest { response_nonce: "0".to_owned(), ..Default::default() });
        }
    }

    fn reconnect(&mut self) {
        let Self { kind, doubts, wish, has, accepted, started, .. } =
            std::mem::replace(self, Self::new(self.kind));
        *self = Self { doubts, wish, has, accepted, ..Self::new(kind) };
        if started && !self.wish.spelled().is_empty() {
            self.send(DeltaDiscoveryRequest {
                resource_names_subscribe: self.wish.spelled(),
                initial_resource_versions: self.accepted.clone(),
                ..Default::default()
            });
        }
    }

    fn wants(&self, name: &str) -> bool {
        self.wish.covers(name)
    }

    fn has(&self) -> BTreeMap<String, String> {
        self.has.clone()
    }

    fn in_sync(&self) -> bool {
        self.machine.in_sync()
    }

    fn has_asked(&self) -> bool {
        self.started
    }
}

/// For tests of several types: what one poll of a machine gives, decoded.
pub fn poll_once(
    machine: &mut DeltaMachine,
    published: &Published,
    now: Instant,
) -> Option<DeltaDiscoveryResponse> {
    match machine.poll(published, now) {
        Step::Send(response) => Some(message(&DeltaMachine::encode(response))),
        Step::Wait(_) => None,
    }
}
