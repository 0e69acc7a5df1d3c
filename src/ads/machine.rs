//! What a machine is: the words in which the protocol and its two variants speak to the stream.

use super::{
    Node,
    node::bounded,
    outstanding::{InFlight, Names, Outstanding},
    tracker::{Pass, Tracker},
    wire::WireNode,
};
use crate::snapshot::{Published, ResourceKind, ResourceSet, Snapshot, Version};
use bytes::Bytes;
use std::{sync::Arc, time::Instant};

/// Most names in one subscription. A client that comes back lists them twice, so requests are bounded by their bytes.
pub const MAX_NAMES: usize = 100_000;
/// Longest name of a resource, in bytes.
pub(super) const MAX_NAME_BYTES: usize = 2048;
/// Most bytes of all names in one subscription.
pub(super) const MAX_SUBSCRIPTION_BYTES: usize = 16 * 1024 * 1024;

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

/// What may be asked for on a stream (xDS protocol, "RPC Services and Methods").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Every type: ADS.
    #[default]
    Aggregated,
    /// One type, which requests need not name.
    Only(ResourceKind),
}

/// Types of which a client that names a resource on a new delta stream, and claims to have its current version, is
/// believed. Of others it is sent all the same (R-D19): Envoy's clusters stay warming until their endpoints come.
/// Envoy 1.40 lets nothing wait for a route table that it has.
pub type Trusted = &'static [ResourceKind];

/// What a machine cannot know of a request by itself.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// Since the last response of this type a response of the type above it was sent, so that asking again is meant
    /// (R-C18).
    pub warming: bool,
    /// Whether the client's claims are believed: see [`Trusted`].
    pub trusted: bool,
}

/// What a request tells about an earlier response.
#[derive(Clone, Debug)]
pub enum Event {
    /// The client accepted it.
    Acked {
        /// Its type.
        kind: ResourceKind,
        /// What was sent.
        response: InFlight,
        /// Whether the client now has everything of the response's version, and nothing of it is in doubt.
        settled: bool,
        /// Since when another response of the type is unanswered.
        waiting: Option<Instant>,
    },
    /// The client rejected it. Parts of it may be in force all the same.
    Nacked {
        /// Its type.
        kind: ResourceKind,
        /// What was sent.
        response: InFlight,
        /// The client's words, bounded.
        message: String,
        /// Since when another response of the type is unanswered.
        waiting: Option<Instant>,
    },
}

impl Event {
    pub(super) fn nacked(
        kind: ResourceKind,
        response: InFlight,
        message: &str,
        waiting: Option<Instant>,
    ) -> Self {
        Self::Nacked { kind, response, message: bounded_message(message), waiting }
    }
}

/// A request that ends the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// R-C4: ADS multiplexes types, so each request must name one.
    #[error("the request has no type_url, which an aggregated stream requires")]
    NoTypeUrl,
    /// R-N2: a stream of one type serves no other.
    #[error("this stream serves {} only", .0.type_url())]
    ForeignType(ResourceKind),
    /// More names than [`MAX_NAMES`], or more bytes of them than a request may have.
    #[error("a client may name at most {MAX_NAMES} resources of a type, with {MAX_SUBSCRIPTION_BYTES} bytes")]
    TooManyNames,
    /// A name of more than 2 KiB.
    #[error("the name of a resource may have at most {MAX_NAME_BYTES} bytes")]
    NameTooLong,
}

/// One response to send.
#[derive(Clone, Debug)]
pub struct Response {
    /// The type.
    pub kind: ResourceKind,
    /// Unique on the stream.
    pub nonce: u64,
    /// Version of the whole type.
    pub version: Version,
    /// Encoded `resources` fields of the response message, in any number of pieces.
    pub resources: Vec<Bytes>,
    /// How many resources that are.
    pub count: usize,
    /// Names that the client has and should not (delta).
    pub removed: Vec<Arc<str>>,
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
pub trait Machine: Send + 'static {
    /// The request message.
    type Request: prost::Message + Default + 'static;
    /// The variant.
    const PROTOCOL: Protocol;

    /// A stream on which nothing was said yet.
    fn new(scope: Scope, trusted: Trusted) -> Self;

    /// Takes the node out of a request. Guaranteed in the first one only ("Basic Protocol Overview").
    fn node(request: &mut Self::Request) -> Option<Node>;

    /// Takes a request in. `doubts` gives the names of a type that an earlier stream of this client left in doubt
    /// (R-D22); it is asked once for each type.
    fn on_request(
        &mut self,
        request: &Self::Request,
        doubts: impl FnOnce(ResourceKind) -> Vec<Arc<str>>,
    ) -> Result<Option<Event>, Refusal>;

    /// How much work the request just taken in was, in those of a plain ACK: names are looked up among all others.
    fn cost(&self, request: &Self::Request) -> u32;

    /// Gives the next response, if one is due and may be sent.
    fn poll(&mut self, published: &Published, now: Instant) -> Step;

    /// Whether the client has accepted everything that it is subscribed to in the snapshot last polled with.
    fn in_sync(&self) -> bool;

    /// Whether the client has asked for every type of which there is anything. Envoy asks for one after the other.
    fn has_asked(&self, snapshot: &Snapshot) -> bool;

    /// What the client has not answered: nobody will know what became of it when the stream ends.
    fn unanswered(&self) -> Vec<(ResourceKind, Names)>;

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

    /// The names that a request carries.
    fn names(request: &Self::Request) -> impl Iterator<Item = &String>;

    /// Takes a request of this type in.
    fn on_request(
        &mut self,
        kind: ResourceKind,
        request: &Self::Request,
        circumstances: Circumstances,
    ) -> Option<Event>;

    /// An earlier stream left these names in doubt.
    fn doubt(&mut self, names: Vec<Arc<str>>);

    /// Gives what is due.
    fn poll(&mut self, kind: ResourceKind, set: &Arc<ResourceSet>, now: Instant, pass: Pass) -> Turn;

    /// What `poll` gave is on its way.
    fn sent(&mut self, in_flight: InFlight);

    /// What the client has.
    fn tracker(&self) -> &Tracker;

    /// What it has not answered.
    fn outstanding(&self) -> &Outstanding;

    /// Encodes a response.
    fn encode(response: Response) -> Vec<Bytes>;

    /// Whether the client has accepted all that the last `poll` knew.
    fn is_settled(&self) -> bool {
        !self.tracker().behind && !self.is_in_doubt() && self.outstanding().is_empty()
    }

    /// Whether a rejection left anything at the client that is not known.
    fn is_in_doubt(&self) -> bool {
        self.tracker().is_in_doubt()
    }
}

/// What there is to do for one type.
#[derive(Debug)]
pub enum Turn {
    /// Nothing is due.
    Nothing,
    /// Something is due and waits, at most until then.
    Blocked(Instant),
    /// This is due.
    Send(Outgoing),
}

/// What is to be sent of one type.
#[derive(Debug)]
pub struct Outgoing {
    /// Version of the content.
    pub version: Version,
    /// Encoded `resources` fields.
    pub resources: Vec<Bytes>,
    /// How many resources that are.
    pub count: usize,
    /// Names that the client has and should not (delta).
    pub removed: Vec<Arc<str>>,
    /// All names it is about.
    pub names: Names,
    /// Whether it adds or changes anything.
    pub adds: bool,
    /// Whether a client that accepts it has everything of this version.
    pub complete: bool,
}

/// Longest text of a NACK that is kept. Envoy may quote a whole route table.
const MAX_MESSAGE: usize = 1024;

fn bounded_message(message: &str) -> String {
    // Envoy ends some of its messages with a line break.
    let message = message.trim_end();
    let mut text = bounded(message, MAX_MESSAGE);
    if message.chars().nth(MAX_MESSAGE).is_some() {
        text.push('…');
    }
    text
}
