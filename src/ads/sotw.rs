//! State of the world (xDS protocol, "The Basic protocol: state of the world").

use super::{
    ByKind, Event, Protocol, Response,
    frame::{self, Head},
    machine::{Circumstances, KindMachine, Outgoing, Turn},
    outstanding::{InFlight, Names, Outstanding},
    tracker::{Pass, Plan, Tracker},
    wire::{DiscoveryRequest, WireNode},
};
use crate::snapshot::{Encoded, ResourceKind, ResourceSet, version_of_all};
use bytes::Bytes;
use std::{collections::BTreeMap, sync::Arc, time::Instant};

/// One client's stream.
pub type SotwMachine = ByKind<SotwKind>;

/// One resource type of a stream.
#[derive(Debug, Default)]
pub struct SotwKind {
    tracker: Tracker,
    outstanding: Outstanding,
    started: bool,
    /// The version that the client says it has from an earlier stream.
    brought: String,
    /// Whether responses are complete, so that each one tells all.
    full_state: bool,
    /// Nonce of the newest response; only a request that carries it speaks of it.
    newest_nonce: Option<u64>,
    /// The newest response of a full-state type that was rejected, until a later one is accepted. What it left behind is
    /// told by every later response, whatever that is.
    rejected: Option<u64>,
    /// Resources that are gone and still part of every response, until nothing leads to them (R-C17b).
    held: BTreeMap<Arc<str>, Encoded>,
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

    fn names(request: &DiscoveryRequest) -> impl Iterator<Item = &String> {
        request.resource_names.iter()
    }

    fn on_request(
        &mut self,
        kind: ResourceKind,
        request: &DiscoveryRequest,
        circumstances: Circumstances,
    ) -> Option<Event> {
        self.full_state = kind.is_full_state();
        let rejected = request.error_detail.is_some();
        // R-S20: the first request of a stream may carry the nonce of an earlier stream.
        let stale = self.newest_nonce.is_some_and(|newest| {
            !request.response_nonce.is_empty() && request.response_nonce != newest.to_string()
        });
        // "Resource updates": a request that answers an older response is followed by one that answers the newest
        // and repeats the whole subscription. That it was rejected is news all the same.
        if stale {
            let settled = rejected.then(|| self.outstanding.settle(&request.response_nonce))??;
            return Some(self.event(kind, settled, request));
        }
        let settled = self.outstanding.settle_through(&request.response_nonce);
        if !self.started {
            self.tracker.resumed = !request.version_info.is_empty();
            self.brought.clone_from(&request.version_info);
        }
        let before = self.tracker.subscription.clone();
        let added = self.tracker.subscription.replace(&request.resource_names, kind.is_full_state());
        let whole = self.tracker.subscription.is_wildcard() && !before.is_wildcard();
        if kind.is_full_state() {
            // R-S10, R-S11: a name that is added is answered, also one that was dropped before.
            self.tracker.due |= !self.started || whole || !added.is_empty();
        } else {
            if whole {
                self.tracker.forget(&before, self.outstanding.names());
            }
            self.tracker.ask(added);
        }
        self.started = true;
        self.tracker.drop_unsubscribed();
        if self.tracker.subscription.is_empty() {
            self.rejected = None;
        }
        if settled.is_none() && circumstances.warming {
            // R-C18: what was changed above it waits for an answer, even if nothing is new.
            self.tracker.ask_for_all_named();
        }
        settled.map(|settled| self.event(kind, settled, request))
    }

    fn doubt(&mut self, _: Vec<Arc<str>>) {
        // A new stream begins with everything, so nothing that was left behind stays.
    }

    fn poll(&mut self, kind: ResourceKind, set: &Arc<ResourceSet>, now: Instant, pass: Pass) -> Turn {
        let blocked = self.outstanding.blocks_until(now).filter(|_| !pass.urgent);
        if let Some(until) = blocked.filter(|_| !self.tracker.is_at(set)) {
            // Nothing is worked out before it can be sent.
            self.tracker.behind = true;
            return Turn::Blocked(until);
        }
        let full_state = kind.is_full_state();
        // "Deleting Resources": other types cannot be told of deletions, so there is nothing to hold.
        let mut plan = self.tracker.plan(kind, set, pass.removals || !full_state);
        // R-C21: an empty response of the other types would say nothing.
        let nothing = if full_state { plan.is_empty() && !self.tracker.due } else { plan.batch.count() == 0 };
        if nothing {
            if self.tracker.has_moved(set) && self.tracker.wants_nothing_of(set) {
                self.rejected = None;
            }
            self.commit(set, &plan);
            return Turn::Nothing;
        }
        self.tracker.behind = true;
        if let Some(gate) = pass.gate.filter(|_| self.tracker.may_wait()) {
            plan = self.tracker.plan_asked(kind, set);
            if plan.batch.count() == 0 || self.tracker.is_new() {
                return Turn::Blocked(gate);
            }
        }
        // What the client has already has nothing to get warm.
        let brought = self.tracker.is_new() && *self.brought == **set.version();
        let (adds, complete) = (plan.batch.adds() && !brought, plan.is_complete());
        let (resources, count, names) = if full_state {
            self.everything(set, &plan)
        } else {
            (plan.batch.sotw(), plan.batch.count(), plan.batch.names())
        };
        self.commit(set, &plan);
        let version = match self.held.len() {
            0 => Arc::clone(set.version()),
            // R-S21: other content is another version.
            _ => version_of_all([set.version()].into_iter().chain(self.held.values().map(Encoded::version))),
        };
        Turn::Send(Outgoing { version, resources, count, removed: Vec::new(), names, adds, complete })
    }

    fn sent(&mut self, in_flight: InFlight) {
        self.newest_nonce = Some(in_flight.nonce);
        let Some(given_up) = self.outstanding.push(in_flight) else { return };
        if self.full_state {
            self.rejected = self.rejected.max(Some(given_up.nonce));
        } else {
            self.tracker.doubt(given_up.nonce, given_up.names.iter().cloned());
        }
    }

    fn tracker(&self) -> &Tracker {
        &self.tracker
    }

    fn outstanding(&self) -> &Outstanding {
        &self.outstanding
    }

    fn is_in_doubt(&self) -> bool {
        self.rejected.is_some() || self.tracker.is_in_doubt()
    }

    fn encode(response: Response) -> Vec<Bytes> {
        let head = Head {
            version: &response.version,
            kind: response.kind,
            nonce: response.nonce,
            removed: &[],
            control_plane_tag: 6,
        };
        frame::message(&head, &response.resources)
    }
}

impl SotwKind {
    /// "Grouping Resources into Responses": CDS and LDS responses are complete, so a deletion is a response without the
    /// name.
    fn everything(&self, set: &Arc<ResourceSet>, plan: &Plan) -> (Vec<Bytes>, usize, Names) {
        let subscription = &self.tracker.subscription;
        if subscription.is_whole(set) && plan.held.is_empty() {
            return (vec![set.sotw()], set.len(), Names::Whole(Arc::clone(set)));
        }
        let held = plan.held.iter().filter_map(|name| self.last(name));
        let all: Vec<&Encoded> = subscription.view(set).chain(held).collect();
        let names = all.iter().map(|one| Arc::clone(one.name())).collect();
        (all.iter().map(|one| one.sotw().clone()).collect(), all.len(), Names::Listed(names))
    }

    /// What the client was last sent under this name.
    fn last(&self, name: &str) -> Option<&Encoded> {
        self.held.get(name).or_else(|| self.tracker.had(name))
    }

    fn commit(&mut self, set: &Arc<ResourceSet>, plan: &Plan) {
        let held = plan.held.iter().filter_map(|name| Some((Arc::clone(name), self.last(name)?.clone())));
        self.held = held.collect();
        self.tracker.commit(set, plan);
    }

    /// "ACK and NACK semantics": error_detail makes a NACK, not the version.
    fn event(&mut self, kind: ResourceKind, response: InFlight, request: &DiscoveryRequest) -> Event {
        let waiting = self.outstanding.oldest();
        let Some(error) = &request.error_detail else {
            self.rejected = self.rejected.filter(|rejected| *rejected > response.nonce);
            self.tracker.accepted(response.nonce, &response.names);
            let settled = response.complete && !self.is_in_doubt();
            return Event::Acked { kind, response, settled, waiting };
        };
        if kind.is_full_state() {
            self.rejected = self.rejected.max(Some(response.nonce));
        } else {
            self.tracker.doubt(response.nonce, response.names.iter().cloned());
            self.tracker.drop_unsubscribed();
        }
        Event::nacked(kind, response, &error.message, waiting)
    }
}

#[cfg(test)]
#[path = "sotw_tests.rs"]
mod tests;
