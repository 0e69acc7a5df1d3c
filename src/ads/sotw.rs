//! State of the world (xDS protocol, "The Basic protocol: state of the world").

use super::{
    Event, Protocol, Response, frame,
    machine::{ByKind, InFlight, KindMachine, Turn, bounded_message},
    subscription::Subscription,
    wire::{DiscoveryRequest, SotwHead, WireNode},
};
use crate::snapshot::{Encoded, ResourceKind, ResourceSet, Version};
use bytes::Bytes;
use std::{collections::BTreeMap, sync::Arc, time::Instant};

/// One client's stream.
pub type SotwMachine = ByKind<SotwKind>;

/// One resource type of a stream.
#[derive(Debug, Default)]
pub struct SotwKind {
    subscription: Subscription,
    /// Nonce of the newest response; only a request that carries it speaks of it.
    newest_nonce: Option<String>,
    in_flight: Option<InFlight>,
    /// What the client was sent and still subscribes to. After a NACK it stays: parts of the response may be in
    /// force, so going back to the old content is a change.
    sent: BTreeMap<Arc<str>, Version>,
    /// An answer is due although nothing changed.
    due: bool,
    rejected: bool,
    /// Whether the last poll found anything unsent.
    behind: bool,
}

impl KindMachine for SotwKind {
    type Request = DiscoveryRequest;
    const PROTOCOL: Protocol = Protocol::Sotw;

    fn node(request: &mut DiscoveryRequest) -> &mut Option<WireNode> {
        &mut request.node
    }

    fn type_url(request: &DiscoveryRequest) -> &str {
        &request.type_url
    }

    fn on_request(&mut self, kind: ResourceKind, request: &DiscoveryRequest) -> Option<Event> {
        let first = self.newest_nonce.is_none() && self.subscription == Subscription::default();
        // R-S20: the first request of a stream may carry the nonce of an earlier stream.
        let stale = self
            .newest_nonce
            .as_ref()
            .is_some_and(|newest| !request.response_nonce.is_empty() && request.response_nonce != *newest);
        // "Resource updates": a request that answers an older response is followed by one that answers the newest
        // and repeats the whole subscription.
        if stale {
            return None;
        }
        let before = self.subscription.clone();
        self.subscription.replace(&request.resource_names, kind.is_full_state());
        let widened = (self.subscription.is_wildcard() && !before.is_wildcard())
            || self.subscription.names().iter().any(|name| !before.covers(name));
        // R-S10: a name that is added is answered. R-S11: one dropped and added again is sent again.
        self.due |= first || widened;
        let subscription = &self.subscription;
        self.sent.retain(|name, _| subscription.covers(name));
        self.settle(kind, request)
    }

    fn poll(&mut self, kind: ResourceKind, set: &ResourceSet, now: Instant) -> Turn {
        let Self { subscription, sent, .. } = self;
        let mut resources: Vec<&Encoded> = subscription.view(set).collect();
        let is_new = |one: &&Encoded| sent.get(one.name()) != Some(one.version());
        // "Grouping Resources into Responses": CDS and LDS responses are complete, so a deletion is a response without
        // the name. Of other types only what changed is sent; "Deleting Resources": their deletions cannot be told.
        if kind.is_full_state() {
            self.behind = self.due || resources.len() != sent.len() || resources.iter().any(is_new);
        } else {
            resources.retain(is_new);
            self.behind = !resources.is_empty();
            sent.retain(|name, _| set.get(name).is_some());
        }
        if !self.behind {
            // Nothing is left of what was rejected.
            self.rejected &= !sent.is_empty();
            return Turn::Nothing;
        }
        if let Some(in_flight) = self.in_flight.as_ref().filter(|one| now < one.grace_ends()) {
            return Turn::Blocked(in_flight.grace_ends());
        }
        if kind.is_full_state() {
            sent.clear();
        }
        sent.extend(resources.iter().map(|one| (Arc::clone(one.name()), Arc::clone(one.version()))));
        let resources = resources.into_iter().map(|one| one.sotw().clone()).collect();
        self.due = false;
        self.behind = false;
        Turn::Send { resources, removed: Vec::new() }
    }

    fn sent(&mut self, in_flight: InFlight) {
        self.newest_nonce = Some(in_flight.nonce.clone());
        self.in_flight = Some(in_flight);
    }

    fn is_settled(&self) -> bool {
        !self.behind && !self.rejected && self.in_flight.is_none()
    }

    fn encode(response: Response) -> Vec<Bytes> {
        let head = SotwHead {
            version_info: response.version.to_string(),
            type_url: response.kind.type_url().to_owned(),
            nonce: response.nonce,
            control_plane: Some(frame::control_plane()),
        };
        frame::message(&head, &response.resources)
    }
}

impl SotwKind {
    /// "ACK and NACK semantics": error_detail makes a NACK, not the version.
    fn settle(&mut self, kind: ResourceKind, request: &DiscoveryRequest) -> Option<Event> {
        let answered = self.in_flight.take_if(|in_flight| in_flight.nonce == request.response_nonce)?;
        let version = answered.version;
        Some(match &request.error_detail {
            Some(error) => {
                self.rejected = true;
                Event::Nacked { kind, version, message: bounded_message(&error.message) }
            }
            None => {
                self.rejected = false;
                Event::Acked { kind, version }
            }
        })
    }
}

#[cfg(test)]
#[path = "sotw_tests.rs"]
mod tests;
