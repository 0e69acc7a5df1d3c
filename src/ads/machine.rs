//! What the two protocol variants have in common.

use super::{Node, wire::WireNode};
use crate::snapshot::{ResourceKind, ResourceSet, Snapshot, Version};
use bytes::Bytes;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long a response may stay unanswered before the next one of its type goes out all the same. Envoy holds an ACK
/// back while clusters warm, which may take for ever (R-S18).
pub(super) const IN_FLIGHT_GRACE: Duration = Duration::from_secs(2);

/// The protocol variant of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Each response of a full-state type holds everything.
    Sotw,
    /// Responses hold what changed.
    Delta,
}

impl Protocol {
    /// As shown in status and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sotw => "sotw",
            Self::Delta => "delta",
        }
    }
}

/// What a request tells about an earlier response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The client accepted it.
    Acked {
        /// Its type.
        kind: ResourceKind,
        /// The version of the type that was sent.
        version: Version,
    },
    /// The client rejected it. Parts of it may be in force all the same.
    Nacked {
        /// Its type.
        kind: ResourceKind,
        /// The version of the type that was sent.
        version: Version,
        /// The client's words, bounded.
        message: String,
    },
}

/// A request that ends the stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// R-C4: ADS multiplexes types, so each request must name one.
    #[error("the request has no type_url, which an aggregated stream requires")]
    NoTypeUrl,
}

/// One response to send.
#[derive(Clone, Debug)]
pub struct Response {
    /// The type.
    pub kind: ResourceKind,
    /// Unique on the stream.
    pub nonce: String,
    /// Version of the whole type.
    pub version: Version,
    /// Encoded `resources` fields of the response message.
    pub resources: Vec<Bytes>,
    /// Names that the client has and should not (delta).
    pub removed: Vec<String>,
}

/// What there is to do.
#[derive(Debug)]
pub enum Step {
    /// Send this, then ask again.
    Send(Response),
    /// Nothing until a request or a new snapshot arrives, or the instant passes.
    Wait(Option<Instant>),
}

/// The state of one client's stream. Pure: time is an argument, and nothing is sent from inside.
pub trait Machine: Default + Send + 'static {
    /// The request message.
    type Request: prost::Message + Default + 'static;
    /// The variant.
    const PROTOCOL: Protocol;

    /// Takes the node out of a request. Guaranteed in the first one only ("Basic Protocol Overview").
    fn node(request: &mut Self::Request) -> Option<Node>;

    /// Takes a request in.
    fn on_request(&mut self, request: &Self::Request) -> Result<Option<Event>, Refusal>;

    /// Gives the next response, if one is due and may be sent.
    fn poll(&mut self, snapshot: &Snapshot, now: Instant) -> Step;

    /// Whether the client has accepted everything that it is subscribed to in the snapshot last polled with.
    fn in_sync(&self) -> bool;

    /// Whether the client has asked for every type of which there is anything. Envoy asks for one after the other.
    fn has_asked(&self, snapshot: &Snapshot) -> bool;

    /// Encodes a response: a head for this stream, the resources shared.
    fn encode(response: Response) -> Vec<Bytes>;
}

/// One resource type of a stream, in one protocol variant.
pub trait KindMachine: Default + Send + 'static {
    /// The request message.
    type Request: prost::Message + Default + 'static;
    /// The variant.
    const PROTOCOL: Protocol;

    /// Where a request carries the node.
    fn node(request: &mut Self::Request) -> &mut Option<WireNode>;

    /// Which type a request is about.
    fn type_url(request: &Self::Request) -> &str;

    /// Takes a request of this type in.
    fn on_request(&mut self, kind: ResourceKind, request: &Self::Request) -> Option<Event>;

    /// Gives what is due.
    fn poll(&mut self, kind: ResourceKind, set: &ResourceSet, now: Instant) -> Turn;

    /// What `poll` gave is on its way.
    fn sent(&mut self, in_flight: InFlight);

    /// Whether the client has accepted all that the last `poll` knew.
    fn is_settled(&self) -> bool;

    /// Encodes a response.
    fn encode(response: Response) -> Vec<Bytes>;
}

/// What there is to do for one type.
#[derive(Debug)]
pub enum Turn {
    /// Nothing is due.
    Nothing,
    /// Something is due and waits for an ACK, at most until then.
    Blocked(Instant),
    /// This is due.
    Send {
        /// Encoded `resources` fields.
        resources: Vec<Bytes>,
        /// Names that the client has and should not (delta).
        removed: Vec<String>,
    },
}

/// A machine for each type of a stream. Types are walled off from each other: only the order in which they are asked
/// and the count of nonces is common (R-C6).
#[derive(Debug, Default)]
pub struct ByKind<K> {
    nonces: u64,
    pub(super) kinds: BTreeMap<ResourceKind, K>,
}

impl<K: KindMachine> Machine for ByKind<K> {
    type Request = K::Request;
    const PROTOCOL: Protocol = K::PROTOCOL;

    fn node(request: &mut K::Request) -> Option<Node> {
        K::node(request).take().map(Node::from)
    }

    fn on_request(&mut self, request: &K::Request) -> Result<Option<Event>, Refusal> {
        let url = K::type_url(request);
        if url.is_empty() {
            return Err(Refusal::NoTypeUrl);
        }
        // R-C5: Envoy versions ask for types that are not served; the stream goes on.
        let Some(kind) = ResourceKind::from_type_url(url) else { return Ok(None) };
        Ok(self.kinds.entry(kind).or_default().on_request(kind, request))
    }

    fn poll(&mut self, snapshot: &Snapshot, now: Instant) -> Step {
        let mut wake: Option<Instant> = None;
        // Sorted in push order (R-C17); only types that were asked for are there (R-C19).
        for (kind, state) in &mut self.kinds {
            let Some(set) = snapshot.set(*kind) else { continue };
            match state.poll(*kind, set, now) {
                Turn::Nothing => {}
                Turn::Blocked(until) => wake = Some(wake.map_or(until, |wake| wake.min(until))),
                Turn::Send { resources, removed } => {
                    self.nonces += 1;
                    let nonce = self.nonces.to_string();
                    let version = Arc::clone(set.version());
                    state.sent(InFlight { nonce: nonce.clone(), version: Arc::clone(&version), since: now });
                    return Step::Send(Response { kind: *kind, nonce, version, resources, removed });
                }
            }
        }
        Step::Wait(wake)
    }

    fn in_sync(&self) -> bool {
        self.kinds.values().all(K::is_settled)
    }

    fn has_asked(&self, snapshot: &Snapshot) -> bool {
        let is_empty = |kind| snapshot.set(kind).is_none_or(|set| set.iter().next().is_none());
        ResourceKind::ALL.into_iter().all(|kind| self.kinds.contains_key(&kind) || is_empty(kind))
    }

    fn encode(response: Response) -> Vec<Bytes> {
        K::encode(response)
    }
}

/// Longest text of a NACK that is kept. Envoy may quote a whole route table.
const MAX_MESSAGE: usize = 1024;

pub(super) fn bounded_message(message: &str) -> String {
    let mut text: String =
        message.chars().take(MAX_MESSAGE).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if message.chars().nth(MAX_MESSAGE).is_some() {
        text.push('…');
    }
    text
}

/// A response that waits for its ACK.
#[derive(Clone, Debug)]
pub struct InFlight {
    /// Its nonce.
    pub nonce: String,
    /// The version of the type that it brings.
    pub version: Version,
    /// When it was sent.
    pub since: Instant,
}

impl InFlight {
    /// When the next response may go out although this one is unanswered.
    pub(super) fn grace_ends(&self) -> Instant {
        self.since + IN_FLIGHT_GRACE
    }
}
