//! The one view that `/status`, the gRPC service and the metrics show.

use super::{explain::Texts, proto};
use crate::{
    allowlist::{FileState, OneLine},
    fleet::{Fleet, Refusal, Sidecar},
    policy::PolicySet,
    snapshot::{ResourceKind, Stores, Version},
};
use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::sync::watch;

/// What the pipeline tells about the files.
#[derive(Clone, Debug, Default)]
pub struct AllowlistState {
    /// Every file.
    pub files: Vec<FileState>,
    /// Entries in force.
    pub entries: usize,
    /// The texts in force, to quote lines of.
    pub texts: Texts,
    /// When the newest edit came into force.
    pub applied_at: Option<SystemTime>,
}

/// Where the view is read from. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StatusSource {
    /// What is served, by group.
    pub stores: Arc<Stores>,
    /// What is allowed: the policies in force.
    pub policies: watch::Receiver<Option<Arc<PolicySet>>>,
    /// To whom.
    pub fleet: Fleet,
    /// From which files.
    pub files: watch::Receiver<AllowlistState>,
}

/// Has the files looked at, and ends when what they hold is served or rejected.
pub type Rescan = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

impl StatusSource {
    /// The state now.
    #[must_use]
    pub fn view(&self) -> proto::StatusResponse {
        let published = self.stores.all();
        let files = self.files.borrow().clone();
        let show = |one: &Sidecar| {
            let published = published.get(&one.info.group);
            let served = |kind: &str| {
                let kind = ResourceKind::ALL.into_iter().find(|known| known.as_str() == kind)?;
                Some(Arc::clone(published?.snapshot.set(kind)?.version()))
            };
            sidecar(one, published.map(|published| published.edit.number()), &served)
        };
        proto::StatusResponse {
            exeat_version: env!("CARGO_PKG_VERSION").to_owned(),
            ready: !published.is_empty(),
            // Of the same look: else an edit in between would seem to be live at once.
            version: Stores::version_of(&published).as_deref().unwrap_or_default().to_owned(),
            entries: u32::try_from(files.entries).unwrap_or(u32::MAX),
            files: files.files.iter().map(file).collect(),
            refused: self.fleet.refusals().into_iter().map(refusal).collect(),
            sidecars: self.fleet.sidecars().iter().map(|(_, one)| show(one)).collect(),
        }
    }

    /// The allowlist files.
    #[must_use]
    pub fn allowlist(&self) -> AllowlistState {
        self.files.borrow().clone()
    }
}

fn refusal(refusal: Refusal) -> proto::Refusal {
    let Refusal { node, peer, reason, at, times } = refusal;
    proto::Refusal { node_id: node, peer, reason, at: rfc3339(at), times }
}

fn file(state: &FileState) -> proto::AllowlistFile {
    proto::AllowlistFile {
        path: state.path.to_string(),
        in_force: state.in_force,
        restored: state.restored,
        diagnostics: state.diagnostics.iter().map(|found| OneLine(found).to_string()).collect(),
    }
}

fn sidecar(
    sidecar: &Sidecar,
    edit: Option<u64>,
    served: &impl Fn(&str) -> Option<Version>,
) -> proto::Sidecar {
    let text = |version: &Option<Arc<str>>| version.as_deref().unwrap_or_default().to_owned();
    proto::Sidecar {
        node_id: sidecar.info.node_id.clone(),
        node_cluster: sidecar.info.node_cluster.clone(),
        envoy_version: sidecar.info.version.clone().unwrap_or_default(),
        protocol: sidecar.info.protocol.to_owned(),
        peer: sidecar.info.peer.clone(),
        connected_at: rfc3339(sidecar.connected_at),
        in_sync: in_sync(sidecar, edit),
        group: sidecar.info.group.to_string(),
        identity: sidecar.info.identity.to_string(),
        late_revocation: sidecar.info.late_revocation,
        edits_behind: sidecar.live.and_then(|(live, _)| edit?.checked_sub(live)),
        resources: sidecar
            .kinds
            .iter()
            .map(|(kind, state)| proto::ResourceState {
                r#type: (*kind).to_owned(),
                sent_version: text(&state.sent),
                acked_version: text(&state.acked.as_ref().map(|accepted| Arc::clone(&accepted.version))),
                nack: state.nack.as_ref().map(|nack| nack.message.clone()).unwrap_or_default(),
                nack_is_current: state
                    .nack
                    .as_ref()
                    .is_some_and(|nack| served(kind).as_ref() == Some(&nack.version)),
                nack_origin: state.nack.as_ref().and_then(|nack| nack.origin.clone()).unwrap_or_default(),
                nacked_at: state.nack.as_ref().map(|nack| rfc3339(nack.at)).unwrap_or_default(),
                accepted_after_ms: state.took.map_or(0.0, milliseconds),
                unanswered_for_ms: state.unanswered_since.map_or(0.0, |since| milliseconds(since.elapsed())),
            })
            .collect(),
    }
}

pub(super) fn in_sync(sidecar: &Sidecar, edit: Option<u64>) -> bool {
    edit.is_some() && sidecar.in_sync_with() == edit
}

/// With one digit.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10_000.0).round() / 10.0
}

/// UTC with whole seconds.
fn rfc3339(time: SystemTime) -> String {
    prost_types::Timestamp { nanos: 0, ..prost_types::Timestamp::from(time) }.to_string()
}
