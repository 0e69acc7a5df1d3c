//! A machine for each type of a stream, and the order between them.

use super::{
    Node,
    machine::{
        Circumstances, Event, KindMachine, MAX_NAME_BYTES, MAX_NAMES, MAX_SUBSCRIPTION_BYTES, Machine,
        Outgoing, Protocol, Refusal, Response, Scope, Step, Trusted, Turn,
    },
    outstanding::{InFlight, Names},
    tracker::Pass,
};
use crate::snapshot::{EditId, Published, ResourceKind, ResourceSet, Snapshot};
use bytes::Bytes;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long routes wait for the ACK of the clusters they may lead to (R-C17c). One dead name keeps that ACK away for
/// ever, and must hold back nothing else.
pub(super) const WARMING_GRACE: Duration = Duration::from_millis(2500);
/// So many names are about as much work as a request.
const NAMES_AT_COST: usize = 1000;
/// Types that lead traffic to others: what takes something away goes out in this order.
const LEADING: [ResourceKind; 2] = [ResourceKind::RouteConfiguration, ResourceKind::Listener];
/// Types that are led to: they are removed in this order, when nothing leads to them any more.
const LED_TO: [ResourceKind; 3] = [ResourceKind::Cluster, ResourceKind::Endpoints, ResourceKind::Secret];

/// A machine for each type of a stream. Types are walled off from each other: only the order in which they are asked
/// and the count of nonces is common (R-C6).
#[derive(Debug, Default)]
pub struct ByKind<K> {
    scope: Scope,
    trusted: Trusted,
    nonces: u64,
    kinds: BTreeMap<ResourceKind, K>,
    /// The nonce of the newest response of each type.
    newest: BTreeMap<ResourceKind, u64>,
    /// The newest publication that took something away and went out on this stream. Nothing did before the first look.
    tightened: Option<EditId>,
    /// Since when listeners or routes wait for clusters.
    gated_since: Option<Instant>,
    /// The first look.
    begun: Option<Instant>,
}

impl<K: KindMachine> Machine for ByKind<K> {
    type Request = K::Request;
    const PROTOCOL: Protocol = K::PROTOCOL;

    fn new(scope: Scope, trusted: Trusted) -> Self {
        Self {
            scope,
            trusted,
            nonces: 0,
            kinds: BTreeMap::new(),
            newest: BTreeMap::new(),
            tightened: None,
            gated_since: None,
            begun: None,
        }
    }

    fn node(request: &mut K::Request) -> Option<Node> {
        K::node(request).take().map(Node::from)
    }

    fn on_request(
        &mut self,
        request: &K::Request,
        doubts: impl FnOnce(ResourceKind) -> Vec<Arc<str>>,
    ) -> Result<Option<Event>, Refusal> {
        if K::names(request).any(|name| name.len() > MAX_NAME_BYTES) {
            return Err(Refusal::NameTooLong);
        }
        let asked = match (self.scope, K::type_url(request)) {
            (Scope::Aggregated, "") => return Err(Refusal::NoTypeUrl),
            // R-C5: Envoy versions ask for types that are not served; the stream goes on.
            (Scope::Aggregated, url) => ResourceKind::from_type_url(url),
            // R-N3: the type goes without saying.
            (Scope::Only(kind), url) if url.is_empty() || url == kind.type_url() => Some(kind),
            (Scope::Only(kind), _) => return Err(Refusal::ForeignType(kind)),
        };
        let Some(kind) = asked else { return Ok(None) };
        // A client that comes back lists all it has, a wildcard's too.
        if K::names(request).count() > 4 * MAX_NAMES {
            return Err(Refusal::TooManyNames);
        }
        let newest = |kind| self.newest.get(&kind);
        let warming = kind.parent().is_some_and(|above| newest(above) > newest(kind));
        let is_new = !self.kinds.contains_key(&kind);
        let machine = self.kinds.entry(kind).or_default();
        let trusted = self.trusted.contains(&kind);
        let event = machine.on_request(kind, request, Circumstances { warming, trusted });
        if is_new {
            machine.doubt(doubts(kind));
        }
        let subscription = &machine.tracker().subscription;
        if subscription.len() > MAX_NAMES || subscription.bytes() > MAX_SUBSCRIPTION_BYTES {
            return Err(Refusal::TooManyNames);
        }
        Ok(event)
    }

    fn cost(&self, request: &K::Request) -> u32 {
        let names = K::names(request).count();
        let of_kind = |one: &K| one.tracker().subscription.len();
        let known = if names == 0 { 0 } else { self.kinds.values().map(of_kind).max().unwrap_or(0) };
        1 + u32::try_from((names + known) / NAMES_AT_COST).unwrap_or(u32::MAX / 2)
    }

    /// 1. What an edit took away, past everything that waits (`tighten`).
    /// 2. Changes, in push order. Listeners and routes wait for clusters that are not warm yet (`gate`).
    /// 3. Clusters, endpoints and secrets that are gone, once the client has accepted listeners and routes without them.
    ///    Most of the time nothing leads to them, and step 2 says that they are gone, too (`unused`).
    fn poll(&mut self, published: &Published, now: Instant) -> Step {
        if let Some(response) = self.tighten(published, now) {
            return Step::Send(response);
        }
        let snapshot = &*published.snapshot;
        // Normally nothing leads to what goes, and one response says all of a type.
        let begun = *self.begun.get_or_insert(now);
        let asking = self.may_still_ask(snapshot, begun, now);
        let unused = asking.is_none() && self.nothing_leads_elsewhere(snapshot);
        let (mut wake, mut gate) = (asking, None);
        let mut gated = false;
        // In push order (R-C17); only types that were asked for are there (R-C19).
        for kind in ResourceKind::ALL {
            let Some(set) = snapshot.set(kind) else { continue };
            let leads = LEADING.contains(&kind);
            let pass = Pass {
                removals: unused || !LED_TO.contains(&kind),
                urgent: false,
                // A client that comes with nothing has no traffic to lose; and what one that comes back must no longer
                // allow cannot be told from the rest, so nothing of that waits once anything was taken away.
                gate: gate.filter(|_| {
                    let has_traffic = |one: &K| {
                        !one.tracker().is_new() || (one.tracker().resumed && published.tightened.is_none())
                    };
                    leads && self.kinds.get(&kind).is_some_and(has_traffic)
                }),
            };
            let mut blocked = false;
            match self.turn(kind, set, now, pass) {
                Turn::Nothing => {}
                Turn::Blocked(until) => {
                    blocked = true;
                    wake = Some(wake.map_or(until, |wake: Instant| wake.min(until)));
                    gated |= pass.gate == Some(until);
                }
                Turn::Send(outgoing) => return Step::Send(self.send(kind, outgoing, now)),
            }
            if kind == ResourceKind::Cluster {
                gate = self.gate(blocked, now);
            }
        }
        self.gated_since = gated.then(|| self.gated_since.unwrap_or(now));
        // R-C17b: removals are the mirror image of additions.
        if !unused && asking.is_none() && self.nothing_leads_elsewhere(snapshot) {
            for kind in LED_TO {
                let Some(set) = snapshot.set(kind) else { continue };
                match self.turn(kind, set, now, Pass { removals: true, urgent: false, gate: None }) {
                    Turn::Nothing => {}
                    Turn::Blocked(until) => wake = Some(wake.map_or(until, |wake| wake.min(until))),
                    Turn::Send(outgoing) => return Step::Send(self.send(kind, outgoing, now)),
                }
            }
        }
        Step::Wait(wake)
    }

    fn in_sync(&self) -> bool {
        self.kinds.values().all(K::is_settled)
    }

    fn has_asked(&self, snapshot: &Snapshot) -> bool {
        let is_empty = |kind| snapshot.set(kind).is_none_or(|set| set.is_empty());
        match self.scope {
            Scope::Only(kind) => self.kinds.contains_key(&kind),
            Scope::Aggregated => {
                ResourceKind::ALL.into_iter().all(|kind| self.kinds.contains_key(&kind) || is_empty(kind))
            }
        }
    }

    fn unanswered(&self) -> Vec<(ResourceKind, Names)> {
        let mut all = Vec::new();
        for (kind, machine) in &self.kinds {
            all.extend(machine.outstanding().all_names().map(|names| (*kind, names.clone())));
        }
        all
    }

    fn encode(response: Response) -> Vec<Bytes> {
        K::encode(response)
    }
}

impl<K: KindMachine> ByKind<K> {
    #[cfg(test)]
    pub(super) fn names_of(&self, kind: ResourceKind) -> usize {
        self.kinds.get(&kind).map_or(0, |one| one.tracker().subscription.len())
    }

    /// What takes something away goes first, past everything that waits (R-C17c): routes, then listeners.
    fn tighten(&mut self, published: &Published, now: Instant) -> Option<Response> {
        let newest = published.tightened.as_ref().map(|tightened| tightened.edit);
        // Set before anything is sent, and back if something is: it is done when a look finds nothing more.
        let done = self.tightened.replace(newest.unwrap_or_default());
        let tightened =
            published.tightened.as_ref().filter(|one| done.is_some_and(|done| done < one.edit))?;
        for kind in LEADING {
            let Some(set) = tightened.snapshot.set(kind) else { continue };
            if self.kinds.get(&kind).is_none_or(|one| one.tracker().is_new()) {
                continue;
            }
            if let Turn::Send(outgoing) = self.turn(kind, set, now, Pass::URGENT) {
                // There may be more.
                self.tightened = done;
                return Some(self.send(kind, outgoing, now));
            }
        }
        None
    }

    /// Whether the client has accepted the listeners and routes of this snapshot, so that nothing it has leads to what
    /// is not in it.
    fn nothing_leads_elsewhere(&self, snapshot: &Snapshot) -> bool {
        LEADING.iter().all(|kind| match (self.kinds.get(kind), snapshot.set(*kind)) {
            (Some(machine), Some(set)) => machine.tracker().is_at(set) && machine.is_settled(),
            _ => true,
        })
    }

    /// Until when a client that came back with clusters may still say which listeners and routes it has: until then they
    /// may lead to any of its clusters.
    fn may_still_ask(&self, snapshot: &Snapshot, begun: Instant, now: Instant) -> Option<Instant> {
        let clusters = self.kinds.get(&ResourceKind::Cluster)?;
        let until = begun + WARMING_GRACE;
        let there_are = |kind| snapshot.set(kind).is_some_and(|set| !set.is_empty());
        let missing = LEADING.into_iter().any(|kind| there_are(kind) && !self.kinds.contains_key(&kind));
        (self.scope == Scope::Aggregated && clusters.tracker().resumed && missing && now < until)
            .then_some(until)
    }

    /// Until when listeners and routes wait for the clusters that were sent, or are about to be.
    fn gate(&self, blocked: bool, now: Instant) -> Option<Instant> {
        let clusters = self.kinds.get(&ResourceKind::Cluster)?;
        let since = clusters.outstanding().adding_since().or_else(|| blocked.then_some(now))?;
        let until = since.min(self.gated_since.unwrap_or(since)) + WARMING_GRACE;
        Some(until).filter(|until| now < *until)
    }

    fn turn(&mut self, kind: ResourceKind, set: &Arc<ResourceSet>, now: Instant, pass: Pass) -> Turn {
        self.kinds.get_mut(&kind).map_or(Turn::Nothing, |machine| machine.poll(kind, set, now, pass))
    }

    fn send(&mut self, kind: ResourceKind, outgoing: Outgoing, now: Instant) -> Response {
        let Outgoing { version, resources, count, removed, names, adds, complete } = outgoing;
        self.nonces += 1;
        let nonce = self.nonces;
        self.newest.insert(kind, nonce);
        if let Some(machine) = self.kinds.get_mut(&kind) {
            machine.sent(InFlight {
                nonce,
                version: Arc::clone(&version),
                since: now,
                names,
                adds,
                complete,
            });
        }
        Response { kind, nonce, version, resources, count, removed }
    }
}

#[cfg(test)]
#[path = "by_kind_tests.rs"]
mod tests;
