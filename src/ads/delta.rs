//! Incremental xDS (xDS protocol, "Incremental xDS").

use super::{
    ByKind, Event, Protocol, Response,
    frame::{self, Head},
    machine::{Circumstances, KindMachine, Outgoing, Turn},
    outstanding::{InFlight, Outstanding},
    subscription::WILDCARD,
    tracker::{Pass, Tracker},
    wire::{DeltaDiscoveryRequest, WireNode},
};
use crate::snapshot::{ResourceKind, ResourceSet};
use bytes::Bytes;
use std::{sync::Arc, time::Instant};

/// One client's stream.
pub type DeltaMachine = ByKind<DeltaKind>;

/// One resource type of a stream.
#[derive(Debug, Default)]
pub struct DeltaKind {
    tracker: Tracker,
    outstanding: Outstanding,
    started: bool,
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

    fn names(request: &DeltaDiscoveryRequest) -> impl Iterator<Item = &String> {
        let named = request.resource_names_subscribe.iter().chain(&request.resource_names_unsubscribe);
        named.chain(request.initial_resource_versions.keys())
    }

    fn on_request(
        &mut self,
        kind: ResourceKind,
        request: &DeltaDiscoveryRequest,
        circumstances: Circumstances,
    ) -> Option<Event> {
        let event = self.settle(kind, request);
        let DeltaDiscoveryRequest { resource_names_subscribe, resource_names_unsubscribe, .. } = request;
        let tracker = &mut self.tracker;
        let first = !std::mem::replace(&mut self.started, true);
        if first {
            tracker.subscription.begin_delta(
                resource_names_subscribe,
                resource_names_unsubscribe,
                kind.is_full_state(),
            );
            // R-D29: meaningful in the first request of a type only. What a client that comes back has already is
            // not sent again while its version is current.
            tracker.resumed = !request.initial_resource_versions.is_empty();
            tracker.claims(request.initial_resource_versions.iter());
        }
        // R-D12: subscribing is applied before unsubscribing.
        if !resource_names_subscribe.is_empty() {
            let again = !first && resource_names_subscribe.iter().any(|name| name == WILDCARD);
            let before = again.then(|| tracker.subscription.clone());
            tracker.subscription.add(resource_names_subscribe);
            if let Some(before) = before {
                // R-D9: the wildcard again means everything again.
                tracker.forget(&before, self.outstanding.names());
                tracker.due = true;
            }
            // R-D8, R-D19: what is named is sent, whatever the client has: something that is warming may wait for it.
            let believed = first && circumstances.trusted;
            let claimed = |name: &String| believed && request.initial_resource_versions.contains_key(name);
            let kept = |name: &String| tracker.subscription.find(name).filter(|_| !claimed(name)).cloned();
            let named: Vec<Arc<str>> = resource_names_subscribe.iter().filter_map(kept).collect();
            tracker.ask(named);
        }
        if first {
            // R-D3: a wildcard is answered even if there is nothing, or Envoy waits 15 s. A client that came back
            // with something has been answered before.
            tracker.due = tracker.subscription.is_wildcard() && request.initial_resource_versions.is_empty();
        }
        if !resource_names_unsubscribe.is_empty() {
            let gone = tracker.subscription.remove(resource_names_unsubscribe);
            if tracker.subscription.is_wildcard() {
                // "Unsubscribing from resources": still covered by the wildcard, so it is sent, or reported missing.
                tracker.ask(gone);
            }
            tracker.due &= tracker.subscription.is_wildcard();
            // R-D10: what is not subscribed is the client's own business.
            tracker.drop_unsubscribed();
        } else if first {
            tracker.drop_unsubscribed();
        }
        event
    }

    fn doubt(&mut self, names: Vec<Arc<str>>) {
        self.tracker.doubt(0, names);
        self.tracker.drop_unsubscribed();
    }

    fn poll(&mut self, kind: ResourceKind, set: &Arc<ResourceSet>, now: Instant, pass: Pass) -> Turn {
        let blocked = self.outstanding.blocks_until(now).filter(|_| !pass.urgent);
        if let Some(until) = blocked.filter(|_| !self.tracker.is_at(set)) {
            // Nothing is worked out before it can be sent.
            self.tracker.behind = true;
            return Turn::Blocked(until);
        }
        let mut plan = self.tracker.plan(kind, set, pass.removals);
        if plan.is_empty() && !self.tracker.due {
            self.tracker.commit(set, &plan);
            return Turn::Nothing;
        }
        self.tracker.behind = true;
        if let Some(gate) = pass.gate.filter(|_| self.tracker.may_wait()) {
            plan = self.tracker.plan_asked(kind, set);
            if plan.is_empty() || self.tracker.is_new() {
                return Turn::Blocked(gate);
            }
        }
        self.tracker.commit(set, &plan);
        let batch = &plan.batch;
        Turn::Send(Outgoing {
            version: Arc::clone(set.version()),
            resources: batch.delta(),
            count: batch.count(),
            removed: batch.removed().to_vec(),
            names: batch.names(),
            adds: batch.adds(),
            complete: plan.is_complete(),
        })
    }

    fn sent(&mut self, in_flight: InFlight) {
        if let Some(given_up) = self.outstanding.push(in_flight) {
            self.tracker.doubt(given_up.nonce, given_up.names.iter().cloned());
        }
    }

    fn tracker(&self) -> &Tracker {
        &self.tracker
    }

    fn outstanding(&self) -> &Outstanding {
        &self.outstanding
    }

    fn encode(response: Response) -> Vec<Bytes> {
        let head = Head {
            version: &response.version,
            kind: response.kind,
            nonce: response.nonce,
            removed: &response.removed,
            control_plane_tag: 7,
        };
        frame::message(&head, &response.resources)
    }
}

impl DeltaKind {
    /// "ACK and NACK": a nonce settles its own response; requests without one are spontaneous.
    fn settle(&mut self, kind: ResourceKind, request: &DeltaDiscoveryRequest) -> Option<Event> {
        let response = self.outstanding.settle(&request.response_nonce)?;
        let waiting = self.outstanding.oldest();
        let Some(error) = &request.error_detail else {
            self.tracker.accepted(response.nonce, &response.names);
            let settled = response.complete && !self.is_in_doubt();
            return Some(Event::Acked { kind, response, settled, waiting });
        };
        self.tracker.doubt(response.nonce, response.names.iter().cloned());
        self.tracker.drop_unsubscribed();
        Some(Event::nacked(kind, response, &error.message, waiting))
    }
}

#[cfg(test)]
#[path = "delta_tests.rs"]
mod tests;
