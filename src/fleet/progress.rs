//! How far an edit has come: looked at once for each answer, whatever the number of sidecars.
//!
//! Knows nothing of what an edit says.

use super::{EditKey, Kind, SessionId, Sidecar};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Instant,
};
use tokio::sync::Notify;

/// What became of an edit.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// The sidecars that have accepted it, in no order.
    pub live: Vec<Live>,
    /// Node ids of those that rejected it.
    pub rejected: Vec<String>,
    /// Node ids of those that have not answered.
    pub silent: Vec<String>,
    /// Node ids of those that disconnected first.
    pub left: Vec<String>,
}

/// A sidecar that has accepted an edit.
#[derive(Clone, Debug)]
pub struct Live {
    /// When it had.
    pub at: Instant,
    /// Its node id, if it ends what the edit closes only when its drain time is over.
    pub late: Option<String>,
}

impl Progress {
    /// Adds what became of the same edit elsewhere.
    pub fn add(&mut self, other: Self) {
        self.live.extend(other.live);
        self.rejected.extend(other.rejected);
        self.silent.extend(other.silent);
        self.left.extend(other.left);
    }

    /// Whether every sidecar has accepted it or left.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.rejected.is_empty() && self.silent.is_empty()
    }
}

/// An edit on its way to the sidecars that were connected when it was published.
#[derive(Debug)]
pub(super) struct TrackedEdit {
    pub(super) key: EditKey,
    /// When it was published: what was sent before is no answer to it.
    pub(super) at: Instant,
    /// The resource types that it changed, with their new versions.
    pub(super) changed: Vec<(Kind, Arc<str>)>,
    /// Told once, when nobody is waited for any more.
    answered: Arc<Notify>,
    /// Told of each answer after that.
    looked: Arc<Notify>,
    waiting: BTreeSet<SessionId>,
    /// With their node ids: they may disconnect.
    rejected: BTreeMap<SessionId, String>,
    live: BTreeMap<SessionId, Live>,
    left: Vec<String>,
}

impl TrackedEdit {
    pub(super) fn new(
        key: EditKey,
        at: Instant,
        changed: Vec<(Kind, Arc<str>)>,
        answered: Arc<Notify>,
        looked: Arc<Notify>,
    ) -> Self {
        Self {
            key,
            at,
            changed,
            answered,
            looked,
            waiting: BTreeSet::new(),
            rejected: BTreeMap::new(),
            live: BTreeMap::new(),
            left: Vec::new(),
        }
    }

    /// With all sidecars, and those that have left: what became of the edit before it was followed counts, too.
    pub(super) fn begin(
        &mut self,
        sidecars: &BTreeMap<SessionId, Sidecar>,
        departed: &VecDeque<(Instant, SessionId, Sidecar)>,
    ) {
        let is_meant = |one: &Sidecar| one.info.group == self.key.0 && !one.kinds.is_empty();
        let departed = departed.iter().filter(|(when, _, one)| *when >= self.at && is_meant(one));
        let departed: Vec<(SessionId, &Sidecar)> = departed.map(|(_, id, one)| (*id, one)).collect();
        let connected = sidecars.iter().filter(|(_, one)| is_meant(one)).map(|(id, _)| *id);
        self.waiting = connected.chain(departed.iter().map(|(id, _)| *id)).collect();
        if self.waiting.is_empty() {
            self.answered.notify_one();
        }
        for (id, sidecar) in sidecars {
            self.look(*id, sidecar);
        }
        for (id, sidecar) in departed {
            self.look(id, sidecar);
            self.left(id, &sidecar.info.node_id);
        }
    }

    /// A sidecar has answered something.
    pub(super) fn look(&mut self, id: SessionId, sidecar: &Sidecar) {
        if !self.waiting.contains(&id) && !self.rejected.contains_key(&id) {
            return;
        }
        if let Some(when) = self.live_since(sidecar) {
            let late = sidecar.info.late_revocation.then(|| sidecar.info.node_id.clone());
            self.live.insert(id, Live { at: when, late });
            self.rejected.remove(&id);
        } else if self.is_rejected_by(sidecar) {
            self.rejected.insert(id, sidecar.info.node_id.clone());
        } else {
            return;
        }
        self.waited_for(id);
        self.looked.notify_waiters();
    }

    pub(super) fn left(&mut self, id: SessionId, node: &str) {
        if self.waiting.contains(&id) || self.rejected.remove(&id).is_some() {
            self.left.push(node.to_owned());
            self.waited_for(id);
            self.looked.notify_waiters();
        }
    }

    fn waited_for(&mut self, id: SessionId) {
        if self.waiting.remove(&id) && self.waiting.is_empty() {
            self.answered.notify_one();
        }
    }

    /// When a sidecar had accepted what the edit changed, or a newer edit. What it thinks of other resources does not
    /// matter.
    fn live_since(&self, sidecar: &Sidecar) -> Option<Instant> {
        if let Some((_, when)) = sidecar.live.filter(|(live, _)| *live >= self.key.1) {
            return Some(when);
        }
        let accepted = |(kind, version): &(Kind, Arc<str>)| {
            let state = sidecar.kinds.get(kind)?;
            let accepted = state.acked.as_ref()?;
            state.acked_at.filter(|_| accepted.version == *version && accepted.sent >= self.at)
        };
        // What it does not ask for it does not use.
        let asked = self.changed.iter().filter(|(kind, _)| sidecar.kinds.contains_key(kind));
        let times: Option<Vec<Instant>> = asked.map(accepted).collect();
        times?.into_iter().max()
    }

    fn is_rejected_by(&self, sidecar: &Sidecar) -> bool {
        self.changed.iter().any(|(kind, version)| {
            let nack = sidecar.kinds.get(kind).and_then(|state| state.nack.as_ref());
            nack.is_some_and(|nack| nack.version == *version)
        })
    }

    pub(super) fn progress(&self, sidecars: &BTreeMap<SessionId, Sidecar>) -> Progress {
        let silent = self.waiting.iter().filter_map(|id| Some(sidecars.get(id)?.info.node_id.clone()));
        Progress {
            live: self.live.values().cloned().collect(),
            silent: silent.collect(),
            rejected: self.rejected.values().cloned().collect(),
            left: self.left.clone(),
        }
    }
}
