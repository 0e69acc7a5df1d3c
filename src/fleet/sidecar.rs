//! What is known of one sidecar.
//!
//! Knows nothing of streams or of what is served.

use super::Kind;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

/// What a sidecar says of itself when it connects, and what is made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SidecarInfo {
    /// `node.id`.
    pub node_id: String,
    /// `node.cluster`.
    pub node_cluster: String,
    /// Who it is: proven by a certificate, else its node id.
    pub identity: Arc<str>,
    /// The group it is served as.
    pub group: Arc<str>,
    /// Envoy's version.
    pub version: Option<String>,
    /// `sotw` or `delta`.
    pub protocol: &'static str,
    /// The address it connects from.
    pub peer: String,
    /// Whether what an edit closes goes on there until Envoy's drain time is over.
    pub late_revocation: bool,
}

/// A client that was not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `node.id`.
    pub node: String,
    /// The address it connected from, the last time.
    pub peer: String,
    /// What it was told.
    pub reason: String,
    /// When, the last time.
    pub at: SystemTime,
    /// How often in a row.
    pub times: u64,
}

/// Whether a sidecar is in the group that is meant for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It is.
    Certain,
    /// Groups have changed, and its stream has not looked at that yet.
    Asked,
    /// It is not, and its stream ends for that.
    Elsewhere,
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
    /// Whether it has accepted everything that it asked for since.
    pub in_sync: bool,
    /// Whether its group is the right one.
    pub(super) place: Place,
    /// State by resource type.
    pub kinds: BTreeMap<Kind, KindState>,
}

impl Sidecar {
    /// The publication that it has accepted in full, if it lacks nothing.
    #[must_use]
    pub fn in_sync_with(&self) -> Option<u64> {
        self.live.filter(|_| self.in_sync).map(|(edit, _)| edit)
    }
}

/// What a sidecar has accepted in full.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The version of the type.
    pub version: Arc<str>,
    /// When it was sent.
    pub sent: Instant,
}

/// What a sidecar has of one resource type.
#[derive(Clone, Debug, Default)]
pub struct KindState {
    /// The version sent last.
    pub sent: Option<Arc<str>>,
    /// What was accepted last.
    pub acked: Option<Accepted>,
    /// When it was accepted.
    pub acked_at: Option<Instant>,
    /// From sending to accepting.
    pub took: Option<Duration>,
    /// Since when there is something that it has not answered.
    pub unanswered_since: Option<Instant>,
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
    /// Where that comes from, as far as the words tell: `allowlist.yaml:3`.
    pub origin: Option<String>,
    /// When.
    pub at: SystemTime,
}
