//! The table of sidecars as a plain value.

use super::{Counts, Kind, SessionId};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Instant, SystemTime},
};

/// What a sidecar says of itself when it connects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SidecarInfo {
    /// `node.id`.
    pub node_id: String,
    /// `node.cluster`.
    pub node_cluster: String,
    /// Envoy's version.
    pub version: Option<String>,
    /// `sotw` or `delta`.
    pub protocol: &'static str,
    /// The address it connects from.
    pub peer: String,
}

/// A connected sidecar.
#[derive(Clone, Debug)]
pub struct Sidecar {
    /// What it said of itself.
    pub info: SidecarInfo,
    /// Since when.
    pub connected_at: SystemTime,
    /// The newest publication it has accepted in full, and when it had.
    pub live: Option<(u64, Instant)>,
    /// State by resource type.
    pub kinds: BTreeMap<Kind, KindState>,
}

/// What a sidecar has of one resource type.
#[derive(Clone, Debug, Default)]
pub struct KindState {
    /// The version sent last.
    pub sent: Option<Arc<str>>,
    /// The version accepted last.
    pub acked: Option<Arc<str>>,
    /// When it was accepted.
    pub acked_at: Option<Instant>,
    /// The rejection that no later ACK has cleared.
    pub nack: Option<Nack>,
}

/// A rejected response.
#[derive(Clone, Debug)]
pub struct Nack {
    /// What was sent.
    pub version: Arc<str>,
    /// The sidecar's words, bounded.
    pub message: String,
    /// When.
    pub at: SystemTime,
}

/// All sidecars.
#[derive(Debug, Default)]
pub(super) struct State {
    next: u64,
    pub(super) sidecars: BTreeMap<u64, Sidecar>,
    pub(super) counts: BTreeMap<Kind, Counts>,
}

impl State {
    pub(super) fn open(&mut self, info: SidecarInfo) -> SessionId {
        self.next += 1;
        self.sidecars.insert(
            self.next,
            Sidecar { info, connected_at: SystemTime::now(), live: None, kinds: BTreeMap::new() },
        );
        SessionId(self.next)
    }

    pub(super) fn close(&mut self, id: SessionId) {
        self.sidecars.remove(&id.0);
    }

    pub(super) fn sent(&mut self, id: SessionId, kind: Kind, version: &Arc<str>) {
        self.counts.entry(kind).or_default().sent += 1;
        if let Some(state) = self.kind(id, kind) {
            state.sent = Some(Arc::clone(version));
        }
    }

    pub(super) fn acked(&mut self, id: SessionId, kind: Kind, version: &Arc<str>) {
        self.counts.entry(kind).or_default().acked += 1;
        if let Some(state) = self.kind(id, kind) {
            state.acked = Some(Arc::clone(version));
            state.acked_at = Some(Instant::now());
            state.nack = None;
        }
    }

    pub(super) fn nacked(&mut self, id: SessionId, kind: Kind, version: &Arc<str>, message: String) {
        self.counts.entry(kind).or_default().nacked += 1;
        if let Some(state) = self.kind(id, kind) {
            state.nack = Some(Nack { version: Arc::clone(version), message, at: SystemTime::now() });
        }
    }

    pub(super) fn live(&mut self, id: SessionId, edit: Option<u64>, at: Instant) {
        if let Some(sidecar) = self.sidecars.get_mut(&id.0) {
            sidecar.live = edit.map(|edit| (edit, at));
        }
    }

    pub(super) fn live_edit(&self, id: SessionId) -> Option<u64> {
        Some(self.sidecars.get(&id.0)?.live?.0)
    }

    fn kind(&mut self, id: SessionId, kind: Kind) -> Option<&mut KindState> {
        Some(self.sidecars.get_mut(&id.0)?.kinds.entry(kind).or_default())
    }
}
