//! Who is connected, and what they have accepted.
//!
//! Knows nothing of gRPC, HTTP or policy. It is told by streams and read by status, metrics and the log; nothing that
//! is served depends on it.

mod state;

pub use state::{KindState, Nack, Sidecar, SidecarInfo};

use state::State;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};
use tokio::sync::watch;

/// The abbreviation of a resource type: `cds`, `rds`.
pub type Kind = &'static str;

/// A shared handle to the one table of sidecars.
#[derive(Clone, Debug)]
pub struct Fleet {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changes: watch::Sender<()>,
}

/// Identifies a stream for the life of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId(u64);

impl Fleet {
    /// An empty fleet.
    #[must_use]
    pub fn new() -> Self {
        Self { shared: Arc::new(Shared { state: Mutex::default(), changes: watch::Sender::new(()) }) }
    }

    /// Adds a sidecar for as long as the result lives.
    #[must_use]
    pub fn open(&self, info: SidecarInfo) -> Session {
        let node: Arc<str> = info.node_id.as_str().into();
        let (peer, protocol) = (info.peer.clone(), info.protocol);
        let version = info.version.as_deref().unwrap_or("unknown").to_owned();
        tracing::info!(%node, peer, protocol, version, "sidecar {node} connected from {peer}, version {version}");
        let id = self.update(|state| state.open(info));
        Session { fleet: self.clone(), id, node }
    }

    /// All connected sidecars, in the order in which they connected.
    #[must_use]
    pub fn sidecars(&self) -> Vec<(SessionId, Sidecar)> {
        self.lock().sidecars.iter().map(|(id, sidecar)| (SessionId(*id), sidecar.clone())).collect()
    }

    /// Counts since the start, by type: responses, ACKs, NACKs.
    #[must_use]
    pub fn counts(&self, kind: Kind) -> Counts {
        self.lock().counts.get(kind).copied().unwrap_or_default()
    }

    /// Wakes after every change.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.shared.changes.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code inside the lock can leave the table half-changed.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.shared.changes.send_replace(());
        result
    }
}

impl Default for Fleet {
    fn default() -> Self {
        Self::new()
    }
}

/// What was exchanged with all sidecars since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Responses sent.
    pub sent: u64,
    /// Responses accepted.
    pub acked: u64,
    /// Responses rejected.
    pub nacked: u64,
}

/// One stream's place in the fleet. Dropping it takes the sidecar out.
#[derive(Debug)]
pub struct Session {
    fleet: Fleet,
    id: SessionId,
    node: Arc<str>,
}

impl Session {
    /// The sidecar's node id.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// A response leaves.
    pub fn sent(&self, kind: Kind, version: &Arc<str>) {
        self.fleet.update(|state| state.sent(self.id, kind, version));
    }

    /// The sidecar accepted a response.
    pub fn acked(&self, kind: Kind, version: &Arc<str>) {
        self.fleet.update(|state| state.acked(self.id, kind, version));
    }

    /// The sidecar rejected a response.
    pub fn nacked(&self, kind: Kind, version: &Arc<str>, message: String) {
        self.fleet.update(|state| state.nacked(self.id, kind, version, message));
    }

    /// Which publication the sidecar has accepted in full; nothing while it has not.
    pub fn live(&self, edit: Option<u64>) {
        if self.fleet.lock().live_edit(self.id) != edit {
            self.fleet.update(|state| state.live(self.id, edit, Instant::now()));
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.fleet.update(|state| state.close(self.id));
        let node = &self.node;
        tracing::info!(%node, "sidecar {node} disconnected");
    }
}
