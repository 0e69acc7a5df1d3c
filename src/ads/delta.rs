//! Incremental xDS (xDS protocol, "Incremental xDS").

use super::{
    Event, Protocol, Response, frame,
    machine::{ByKind, InFlight, KindMachine, Turn, bounded_message},
    subscription::{Subscription, WILDCARD},
    wire::{DeltaDiscoveryRequest, DeltaHead, WireNode},
};
use crate::snapshot::{Encoded, ResourceKind, ResourceSet, Version};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

/// Unanswered responses of a type that are remembered.
const MAX_IN_FLIGHT: usize = 8;

/// One client's stream.
pub type DeltaMachine = ByKind<DeltaKind>;

/// One resource type of a stream.
#[derive(Debug, Default)]
pub struct DeltaKind {
    subscription: Subscription,
    /// Every response is settled by its own nonce (R-D24); normally there is one.
    in_flight: Vec<InFlight>,
    /// What the client has or may have: sent on this stream, or claimed in the first request. A NACK changes nothing
    /// here, because parts of the response may be in force.
    sent: BTreeMap<Arc<str>, Version>,
    /// Names to send although the client may have them: it asked again ("must still provide").
    asked: BTreeSet<String>,
    /// An answer is due even if it is empty.
    due: bool,
    started: bool,
    rejected: bool,
    /// Whether the last poll found anything unsent.
    behind: bool,
}

impl KindMachine for DeltaKind {
    type Request = DeltaDiscoveryRequest;
    const PROTOCOL: Protocol = Protocol::Delta;

    fn node(request: &mut DeltaDiscoveryRequest) -> &mut Option<WireNode> {
        &mut request.node
    }

    fn type_url(request: &DeltaDiscoveryRequest) -> &str {
        &request.type_url
    }

    fn on_request(&mut self, kind: ResourceKind, request: &DeltaDiscoveryRequest) -> Option<Event> {
        let DeltaDiscoveryRequest { resource_names_subscribe, resource_names_unsubscribe, .. } = request;
        // What a client that comes back has already is not sent again while its version is current.
        let claimed = if self.started { &BTreeMap::new() } else { &request.initial_resource_versions };
        let first = !self.started;
        if first {
            self.started = true;
            self.subscription.begin_delta(
                resource_names_subscribe,
                resource_names_unsubscribe,
                kind.is_full_state(),
            );
            // R-D29: meaningful in the first request of a type only.
            self.sent = request
                .initial_resource_versions
                .iter()
                .map(|(name, version)| (name.as_str().into(), version.as_str().into()))
                .collect();
            // R-D3: a wildcard is answered even if there is nothing, or Envoy waits 15 s. A client that came back
            // with everything has been answered before.
            self.due = self.subscription.is_wildcard() && self.sent.is_empty();
        }
        // R-D12: subscribing is applied before unsubscribing.
        for name in resource_names_subscribe {
            self.subscription.add(name);
            if name == WILDCARD {
                // R-D9: the wildcard again means everything again. The names stay: one that is gone must be told.
                if !first {
                    self.sent.values_mut().for_each(|version| *version = "".into());
                }
                self.due |= !first || self.sent.is_empty();
            } else if !claimed.contains_key(name) {
                // R-D8: subscribing again to what is subscribed means sending it again.
                self.asked.insert(name.clone());
            }
        }
        for name in resource_names_unsubscribe {
            if !self.subscription.remove(name) {
                continue;
            }
            self.asked.remove(name);
            if self.subscription.is_wildcard() {
                // "Unsubscribing from resources": still covered by the wildcard, so it is sent, or reported missing.
                self.asked.insert(name.clone());
            }
        }
        let subscription = &self.subscription;
        self.due &= subscription.is_wildcard();
        // R-D10: what is not subscribed is the client's own business.
        self.sent.retain(|name, _| subscription.covers(name));
        self.settle(kind, request)
    }

    fn poll(&mut self, kind: ResourceKind, set: &ResourceSet, now: Instant) -> Turn {
        let Self { subscription, sent, asked, .. } = self;
        let resources: Vec<&Encoded> = subscription
            .view(set)
            .filter(|one| sent.get(one.name()) != Some(one.version()) || asked.contains(&**one.name()))
            .collect();
        let mut removed: BTreeSet<String> =
            sent.keys().filter(|name| set.get(name).is_none()).map(ToString::to_string).collect();
        // "Knowing When a Requested Resource Does Not Exist". Not for routes: Envoy 1.40 then never gets ready.
        if kind != ResourceKind::RouteConfiguration {
            let absent = asked.iter().filter(|name| set.get(name).is_none()).cloned();
            removed.extend(absent);
        }
        self.behind = self.due || !resources.is_empty() || !removed.is_empty();
        if !self.behind {
            // Nothing is left of what was rejected.
            self.rejected &= !sent.is_empty();
            self.asked.clear();
            return Turn::Nothing;
        }
        let blocking = self.in_flight.iter().map(InFlight::grace_ends).max().filter(|until| now < *until);
        if let Some(until) = blocking {
            return Turn::Blocked(until);
        }
        sent.extend(resources.iter().map(|one| (Arc::clone(one.name()), Arc::clone(one.version()))));
        sent.retain(|name, _| !removed.contains(&**name));
        let resources = resources.into_iter().map(|one| one.delta().clone()).collect();
        self.asked.clear();
        self.due = false;
        self.behind = false;
        Turn::Send { resources, removed: removed.into_iter().collect() }
    }

    fn sent(&mut self, in_flight: InFlight) {
        self.in_flight.push(in_flight);
        // A client that reads and never answers must not cost memory.
        if self.in_flight.len() > MAX_IN_FLIGHT {
            self.in_flight.remove(0);
        }
    }

    fn is_settled(&self) -> bool {
        !self.behind && !self.rejected && self.in_flight.is_empty()
    }

    fn encode(response: Response) -> Vec<Bytes> {
        let head = DeltaHead {
            system_version_info: response.version.to_string(),
            type_url: response.kind.type_url().to_owned(),
            nonce: response.nonce,
            removed_resources: response.removed,
            control_plane: Some(frame::control_plane()),
        };
        frame::message(&head, &response.resources)
    }
}

impl DeltaKind {
    /// "ACK and NACK": a nonce settles its own response; requests without one are spontaneous.
    fn settle(&mut self, kind: ResourceKind, request: &DeltaDiscoveryRequest) -> Option<Event> {
        let index = self.in_flight.iter().position(|one| one.nonce == request.response_nonce)?;
        let version = self.in_flight.remove(index).version;
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
#[path = "delta_tests.rs"]
mod tests;
