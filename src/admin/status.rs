//! The one view that `/status`, the gRPC service and the metrics show.

use super::proto;
use crate::{
    allowlist::{FileState, OneLine},
    fleet::{Fleet, Sidecar},
    snapshot::Store,
};
use std::{sync::Arc, time::SystemTime};
use tokio::sync::watch;

/// What the pipeline tells about the files.
#[derive(Clone, Debug, Default)]
pub struct AllowlistState {
    /// Every file.
    pub files: Vec<FileState>,
    /// Entries in force.
    pub entries: usize,
    /// When the newest edit came into force.
    pub applied_at: Option<SystemTime>,
}

/// Where the view is read from. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StatusSource {
    /// What is served.
    pub store: Arc<Store>,
    /// To whom.
    pub fleet: Fleet,
    /// From which files.
    pub files: watch::Receiver<AllowlistState>,
}

impl StatusSource {
    /// The state now.
    #[must_use]
    pub fn view(&self) -> proto::StatusResponse {
        let published = self.store.current();
        let files = self.files.borrow().clone();
        let edit = published.as_ref().map(|published| published.edit.number());
        proto::StatusResponse {
            exeat_version: env!("CARGO_PKG_VERSION").to_owned(),
            ready: published.is_some(),
            version: published.map(|published| published.snapshot.version().to_string()).unwrap_or_default(),
            entries: u32::try_from(files.entries).unwrap_or(u32::MAX),
            files: files.files.iter().map(file).collect(),
            sidecars: self.fleet.sidecars().iter().map(|(_, one)| sidecar(one, edit)).collect(),
        }
    }

    /// The allowlist files.
    #[must_use]
    pub fn allowlist(&self) -> AllowlistState {
        self.files.borrow().clone()
    }
}

fn file(state: &FileState) -> proto::AllowlistFile {
    proto::AllowlistFile {
        path: state.path.to_string(),
        in_force: state.in_force,
        diagnostics: state.diagnostics.iter().map(|found| OneLine(found).to_string()).collect(),
    }
}

fn sidecar(sidecar: &Sidecar, edit: Option<u64>) -> proto::Sidecar {
    let text = |version: &Option<Arc<str>>| version.as_deref().unwrap_or_default().to_owned();
    proto::Sidecar {
        node_id: sidecar.info.node_id.clone(),
        node_cluster: sidecar.info.node_cluster.clone(),
        envoy_version: sidecar.info.version.clone().unwrap_or_default(),
        protocol: sidecar.info.protocol.to_owned(),
        peer: sidecar.info.peer.clone(),
        connected_at: rfc3339(sidecar.connected_at),
        in_sync: in_sync(sidecar, edit),
        resources: sidecar
            .kinds
            .iter()
            .map(|(kind, state)| proto::ResourceState {
                r#type: (*kind).to_owned(),
                sent_version: text(&state.sent),
                acked_version: text(&state.acked),
                nack: state.nack.as_ref().map(|nack| nack.message.clone()).unwrap_or_default(),
            })
            .collect(),
    }
}

pub(super) fn in_sync(sidecar: &Sidecar, edit: Option<u64>) -> bool {
    edit.is_some() && sidecar.live.map(|(live, _)| live) == edit
}

/// UTC with whole seconds.
fn rfc3339(time: SystemTime) -> String {
    prost_types::Timestamp { nanos: 0, ..prost_types::Timestamp::from(time) }.to_string()
}
