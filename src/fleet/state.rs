//! The table of sidecars as a plain value.
//!
//! Knows nothing of locks, of who waits, or of what is served.

use super::{
    Accepted, Counts, EditKey, Kind, KindState, Nack, Place, Progress, Refusal, SessionId, Sidecar,
    SidecarInfo, progress::TrackedEdit,
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Instant, SystemTime},
};

/// All sidecars, and the edits that are on their way to them.
#[derive(Debug, Default)]
pub(super) struct State {
    next: u64,
    pub(super) sidecars: BTreeMap<SessionId, Sidecar>,
    /// Sidecars that were sent away to come back in another group, and have not yet.
    pub(super) away: BTreeMap<SessionId, Sidecar>,
    pub(super) counts: BTreeMap<Kind, Counts>,
    pub(super) coalesced: u64,
    edits: BTreeMap<EditKey, TrackedEdit>,
    /// Who left lately, and when: a publication is out before it is followed.
    departed: VecDeque<(Instant, SessionId, Sidecar)>,
    pub(super) refusals: VecDeque<Refusal>,
}

/// Refused clients that are remembered.
const MAX_REFUSALS: usize = 16;
/// Sidecars that are remembered when they have left.
const MAX_DEPARTED: usize = 64;

impl State {
    pub(super) fn open(&mut self, info: SidecarInfo) -> SessionId {
        self.next += 1;
        let id = SessionId(self.next);
        let is_it = |away: &Sidecar| away.info.identity == info.identity && away.info.node_id == info.node_id;
        self.away.retain(|_, away| !is_it(away));
        let sidecar = Sidecar {
            info,
            connected_at: SystemTime::now(),
            live: None,
            in_sync: false,
            place: Place::Certain,
            kinds: BTreeMap::new(),
        };
        self.sidecars.insert(id, sidecar);
        id
    }

    /// Who is refused comes again and again: told once, with a count.
    pub(super) fn refused(&mut self, node: &str, peer: &str, reason: &str) {
        let known = self.refusals.iter().position(|one| one.node == node && one.reason == reason);
        let times = known.and_then(|at| self.refusals.remove(at)).map_or(0, |one| one.times);
        let (node, peer, reason) = (node.to_owned(), peer.to_owned(), reason.to_owned());
        self.refusals.push_back(Refusal { node, peer, reason, at: SystemTime::now(), times: times + 1 });
        if self.refusals.len() > MAX_REFUSALS {
            self.refusals.pop_front();
        }
    }

    /// Says whether it was sent away and is expected back.
    pub(super) fn close(&mut self, id: SessionId) -> bool {
        let Some(sidecar) = self.sidecars.remove(&id) else { return false };
        self.edits.values_mut().for_each(|edit| edit.left(id, &sidecar.info.node_id));
        let returns = sidecar.place == Place::Elsewhere;
        if returns {
            self.away.insert(id, sidecar.clone());
        }
        self.departed.push_back((Instant::now(), id, sidecar));
        if self.departed.len() > MAX_DEPARTED {
            self.departed.pop_front();
        }
        returns
    }

    /// Nobody is known to be in the right group until they say so again.
    pub(super) fn regroup(&mut self) {
        for sidecar in self.sidecars.values_mut() {
            (sidecar.in_sync, sidecar.place) = (false, Place::Asked);
        }
    }

    pub(super) fn found_place(&mut self, id: SessionId, place: Place) {
        if let Some(sidecar) = self.sidecars.get_mut(&id) {
            sidecar.place = place;
        }
    }

    pub(super) fn sent(&mut self, id: SessionId, kind: Kind, version: &Arc<str>, bytes: usize) {
        let counts = self.counts.entry(kind).or_default();
        counts.sent += 1;
        counts.bytes += bytes as u64;
        if let Some(state) = self.sidecars.get_mut(&id).map(|one| one.kinds.entry(kind).or_default()) {
            state.sent = Some(Arc::clone(version));
            state.unanswered_since.get_or_insert_with(Instant::now);
        }
    }

    pub(super) fn asked(&mut self, id: SessionId, kind: Kind) {
        if let Some(sidecar) = self.sidecars.get_mut(&id) {
            sidecar.kinds.entry(kind).or_default();
        }
    }

    pub(super) fn acked(
        &mut self,
        id: SessionId,
        kind: Kind,
        accepted: Option<Accepted>,
        waiting: Option<Instant>,
    ) {
        self.counts.entry(kind).or_default().acked += 1;
        self.answered(id, kind, waiting, |state| {
            if let Some(accepted) = accepted {
                let now = Instant::now();
                state.took = Some(now.saturating_duration_since(accepted.sent));
                state.acked_at = Some(now);
                state.acked = Some(accepted);
                state.nack = None;
            }
        });
    }

    pub(super) fn nacked(&mut self, id: SessionId, kind: Kind, nack: Nack, waiting: Option<Instant>) {
        self.counts.entry(kind).or_default().nacked += 1;
        self.answered(id, kind, waiting, |state| state.nack = Some(nack));
    }

    pub(super) fn answered(
        &mut self,
        id: SessionId,
        kind: Kind,
        waiting: Option<Instant>,
        change: impl FnOnce(&mut KindState),
    ) {
        if let Some(sidecar) = self.sidecars.get_mut(&id) {
            let state = sidecar.kinds.entry(kind).or_default();
            state.unanswered_since = waiting;
            change(state);
            self.edits.values_mut().for_each(|edit| edit.look(id, sidecar));
        }
    }

    /// Says whether that is new.
    pub(super) fn live(&mut self, id: SessionId, edit: Option<u64>, at: Instant) -> bool {
        let Some(sidecar) = self.sidecars.get_mut(&id) else { return false };
        if sidecar.in_sync_with() == edit || sidecar.place != Place::Certain {
            return false;
        }
        sidecar.in_sync = edit.is_some();
        // While it lacks something it is still known how far it had come.
        sidecar.live = edit.map(|edit| (edit, at)).or(sidecar.live);
        self.edits.values_mut().for_each(|edit| edit.look(id, sidecar));
        true
    }

    pub(super) fn track(&mut self, mut edit: TrackedEdit) {
        // Publications are followed in their order: no later one can be about who left before this one.
        self.departed.retain(|(when, ..)| *when >= edit.at);
        edit.begin(&self.sidecars, &self.departed);
        self.edits.insert(edit.key.clone(), edit);
    }

    pub(super) fn progress(&self, key: &EditKey) -> Progress {
        self.edits.get(key).map(|edit| edit.progress(&self.sidecars)).unwrap_or_default()
    }

    /// Ends the tracking of an edit.
    pub(super) fn finish(&mut self, key: &EditKey) {
        self.edits.remove(key);
    }
}
