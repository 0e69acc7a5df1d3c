//! What the two protocol variants have in common.

use super::{Node, wire::WireNode};
use crate::snapshot::{ResourceKind, Snapshot, Version};
use bytes::Bytes;
use std::time::{Duration, Instant};

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

    /// Encodes a response: a head for this stream, the resources shared.
    fn encode(response: Response) -> Vec<Bytes>;
}

/// The node of a request, if it names anything.
pub(super) fn take_node(node: &mut Option<WireNode>) -> Option<Node> {
    node.take().map(Node::from)
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

/// Counts responses of a stream. A nonce means nothing on another stream.
#[derive(Debug, Default)]
pub(super) struct Nonces(u64);

impl Nonces {
    pub(super) fn next(&mut self) -> String {
        self.0 += 1;
        self.0.to_string()
    }
}

/// The response that waits for its ACK.
#[derive(Clone, Debug)]
pub(super) struct InFlight {
    pub(super) nonce: String,
    pub(super) version: Version,
    pub(super) since: Instant,
}

impl InFlight {
    /// When the next response may go out although this one is unanswered.
    pub(super) fn grace_ends(&self) -> Instant {
        self.since + IN_FLIGHT_GRACE
    }
}
