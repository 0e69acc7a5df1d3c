//! Incremental xDS (xDS protocol, "Incremental xDS").

use super::{
    Event, Machine, Node, Protocol, Refusal, Response, Step, frame,
    machine::{InFlight, Nonces, bounded_message, take_node},
    subscription::{Subscription, WILDCARD},
    wire::{DeltaDiscoveryRequest, DeltaHead},
};
use crate::snapshot::{Encoded, ResourceKind, ResourceSet, Snapshot, Version};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

/// One client's stream.
#[derive(Debug, Default)]
pub struct DeltaMachine {
    nonces: Nonces,
    kinds: BTreeMap<ResourceKind, KindState>,
}

/// Types are walled off from each other: nothing here is shared between them.
#[derive(Debug, Default)]
struct KindState {
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

impl Machine for DeltaMachine {
    type Request = DeltaDiscoveryRequest;
    const PROTOCOL: Protocol = Protocol::Delta;

    fn node(request: &mut DeltaDiscoveryRequest) -> Option<Node> {
        take_node(&mut request.node)
    }

    fn on_request(&mut self, request: &DeltaDiscoveryRequest) -> Result<Option<Event>, Refusal> {
        if request.type_url.is_empty() {
            return Err(Refusal::NoTypeUrl);
        }
        // R-C5: Envoy versions ask for types that are not served; the stream goes on.
        let Some(kind) = ResourceKind::from_type_url(&request.type_url) else { return Ok(None) };
        Ok(self.kinds.entry(kind).or_default().on_request(kind, request))
    }

    fn poll(&mut self, snapshot: &Snapshot, now: Instant) -> Step {
        let mut wake: Option<Instant> = None;
        for (kind, state) in &mut self.kinds {
            let Some(set) = snapshot.set(*kind) else { continue };
            match state.poll(*kind, set, now) {
                Poll::Nothing => {}
                Poll::Blocked(until) => wake = Some(wake.map_or(until, |wake| wake.min(until))),
                Poll::Send { resources, removed } => {
                    let nonce = self.nonces.next();
                    let version = Arc::clone(set.version());
                    state.in_flight.push(InFlight {
                        nonce: nonce.clone(),
                        version: Arc::clone(&version),
                        since: now,
                    });
                    return Step::Send(Response { kind: *kind, nonce, version, resources, removed });
                }
            }
        }
        Step::Wait(wake)
    }

    fn in_sync(&self) -> bool {
        self.kinds.values().all(|state| !state.behind && !state.rejected && state.in_flight.is_empty())
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

enum Poll {
    Nothing,
    Blocked(Instant),
    Send { resources: Vec<Bytes>, removed: Vec<String> },
}

impl KindState {
    fn on_request(&mut self, kind: ResourceKind, request: &DeltaDiscoveryRequest) -> Option<Event> {
        let DeltaDiscoveryRequest { resource_names_subscribe, resource_names_unsubscribe, .. } = request;
        // What a client that comes back has already is not sent again while its version is current.
        let claimed = if self.started { &BTreeMap::new() } else { &request.initial_resource_versions };
        if !self.started {
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
                // R-D9: the wildcard again means everything again.
                self.sent.clear();
                self.due = true;
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

    fn poll(&mut self, kind: ResourceKind, set: &ResourceSet, now: Instant) -> Poll {
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
            return Poll::Nothing;
        }
        let blocking = self.in_flight.iter().map(InFlight::grace_ends).max().filter(|until| now < *until);
        if let Some(until) = blocking {
            return Poll::Blocked(until);
        }
        sent.extend(resources.iter().map(|one| (Arc::clone(one.name()), Arc::clone(one.version()))));
        sent.retain(|name, _| !removed.contains(&**name));
        let resources = resources.into_iter().map(|one| one.delta().clone()).collect();
        self.asked.clear();
        self.due = false;
        self.behind = false;
        Poll::Send { resources, removed: removed.into_iter().collect() }
    }
}

#[cfg(test)]
#[path = "delta_tests.rs"]
mod tests;
