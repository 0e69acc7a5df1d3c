//! Who is connected, and what they have accepted.
//!
//! Knows nothing of gRPC, HTTP or policy. It is told by streams and read by status, metrics and the log; nothing that
//! is served depends on it.

mod progress;
mod sidecar;
mod state;

pub use progress::{Live, Progress};
use sidecar::Place;
pub use sidecar::{Accepted, KindState, Nack, Refusal, Sidecar, SidecarInfo};

use progress::TrackedEdit;
use state::State;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::{Notify, watch};

/// The abbreviation of a resource type: `cds`, `rds`.
pub type Kind = &'static str;

/// A publication: its group and its number there.
pub type EditKey = (Arc<str>, u64);

/// How long a sidecar that is sent away is waited for. It may go to another replica.
const BACK_WITHIN: Duration = Duration::from_secs(2);

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
        let late = if info.late_revocation {
            "; what an edit closes goes on there until its drain time is over"
        } else {
            ""
        };
        // What a log line announces is already to be seen in the status.
        let id = self.update(|state| state.open(info));
        tracing::info!(%node, peer, protocol, version, "sidecar {node} connected from {peer}, version {version}{late}");
        Session { fleet: self.clone(), id, node }
    }

    /// A client was not let in.
    pub fn refused(&self, node: &str, peer: &str, reason: &str) {
        self.update(|state| state.refused(node, peer, reason));
    }

    /// Clients that were not let in, the newest last.
    #[must_use]
    pub fn refusals(&self) -> Vec<Refusal> {
        self.lock().refusals.iter().cloned().collect()
    }

    /// All connected sidecars, and those that are about to come back in another group, in the order in which they connected.
    #[must_use]
    pub fn sidecars(&self) -> Vec<(SessionId, Sidecar)> {
        let state = self.lock();
        let mut all: Vec<_> =
            state.sidecars.iter().chain(&state.away).map(|(id, sidecar)| (*id, sidecar.clone())).collect();
        all.sort_by_key(|(id, _)| *id);
        all
    }

    /// Groups are about to change: nobody counts as in sync before their stream has looked whether they are to leave. To be
    /// called before streams are told.
    pub fn regroup(&self) {
        self.update(State::regroup);
    }

    /// Counts since the start, by type: responses, ACKs, NACKs.
    #[must_use]
    pub fn counts(&self, kind: Kind) -> Counts {
        self.lock().counts.get(kind).copied().unwrap_or_default()
    }

    /// How many publications came and went before a busy sidecar could be sent them, since the start.
    #[must_use]
    pub fn coalesced(&self) -> u64 {
        self.lock().coalesced
    }

    /// Follows a publication, which was made at that instant, on its way to all of its group that are connected now,
    /// until the result is dropped. `changed` are the resource types that it changed, with their new versions.
    #[must_use]
    pub fn track(&self, edit: EditKey, at: Instant, changed: Vec<(Kind, Arc<str>)>) -> Tracking {
        let (answered, looked) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let tracked = TrackedEdit::new(edit.clone(), at, changed, Arc::clone(&answered), Arc::clone(&looked));
        self.lock().track(tracked);
        Tracking { fleet: self.clone(), edit, answered, looked }
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
        self.wake();
        result
    }

    fn wake(&self) {
        // It takes locks to wake nobody. Who follows from here on reads what was changed.
        if self.shared.changes.receiver_count() > 0 {
            self.shared.changes.send_replace(());
        }
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
    /// Their bytes, gRPC framing included.
    pub bytes: u64,
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

    /// A response of so many bytes leaves.
    pub fn sent(&self, kind: Kind, version: &Arc<str>, bytes: usize) {
        self.fleet.update(|state| state.sent(self.id, kind, version, bytes));
    }

    /// The sidecar asks for a type.
    pub fn asked(&self, kind: Kind) {
        self.fleet.update(|state| state.asked(self.id, kind));
    }

    /// The sidecar accepted a response. `accepted`: what it has in full now. `waiting`: since when it owes an answer to
    /// another response of the type.
    pub fn acked(&self, kind: Kind, accepted: Option<Accepted>, waiting: Option<Instant>) {
        self.fleet.update(|state| state.acked(self.id, kind, accepted, waiting));
    }

    /// The sidecar answered something that is none of its resources. `waiting` is as for [`Self::acked`].
    pub fn answered(&self, kind: Kind, waiting: Option<Instant>) {
        self.fleet.update(|state| state.answered(self.id, kind, waiting, |_| {}));
    }

    /// The sidecar rejected a response.
    pub fn nacked(
        &self,
        kind: Kind,
        version: &Arc<str>,
        message: String,
        origin: Option<String>,
        waiting: Option<Instant>,
    ) {
        let nack = Nack { version: Arc::clone(version), message, origin, at: SystemTime::now() };
        self.fleet.update(|state| state.nacked(self.id, kind, nack, waiting));
    }

    /// So many publications were replaced before the sidecar could be sent them.
    pub fn coalesced(&self, publications: u64) {
        if publications > 0 {
            self.fleet.update(|state| state.coalesced += publications);
        }
    }

    /// Groups have changed, and the sidecar stays where it is.
    pub fn stays(&self) {
        self.fleet.update(|state| state.found_place(self.id, Place::Certain));
    }

    /// Groups have changed, and the sidecar's stream ends so that it comes back in another. Until then, for a while, it counts
    /// as not in sync.
    pub fn moves(&self) {
        self.fleet.update(|state| state.found_place(self.id, Place::Elsewhere));
    }

    /// Which publication the sidecar has accepted in full; nothing while it has not.
    pub fn live(&self, edit: Option<u64>) {
        let changed = self.fleet.lock().live(self.id, edit, Instant::now());
        if changed {
            self.fleet.wake();
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let (fleet, id) = (self.fleet.clone(), self.id);
        if fleet.update(|state| state.close(id)) {
            let forget = move || fleet.update(|state| drop(state.away.remove(&id)));
            match tokio::runtime::Handle::try_current() {
                Ok(runtime) => drop(runtime.spawn(async move {
                    tokio::time::sleep(BACK_WITHIN).await;
                    forget();
                })),
                Err(_) => forget(),
            }
        }
        let node = &self.node;
        tracing::info!(%node, "sidecar {node} disconnected");
    }
}

/// A publication on its way.
#[derive(Debug)]
pub struct Tracking {
    fleet: Fleet,
    edit: EditKey,
    answered: Arc<Notify>,
    looked: Arc<Notify>,
}

impl Tracking {
    /// Ends when every sidecar has answered or left, at the latest after `patience`. Whoever has not answered is in the
    /// result.
    pub async fn answered(&self, patience: Duration) -> Progress {
        drop(tokio::time::timeout(patience, self.answered.notified()).await);
        self.fleet.lock().progress(&self.edit)
    }

    /// Ends when every sidecar has accepted it or left, at the latest after `patience`.
    pub async fn live(&self, patience: Duration) -> Progress {
        let live = async {
            loop {
                let changed = self.looked.notified();
                let progress = self.fleet.lock().progress(&self.edit);
                if progress.is_over() {
                    return progress;
                }
                changed.await;
            }
        };
        match tokio::time::timeout(patience, live).await {
            Ok(progress) => progress,
            Err(_) => self.fleet.lock().progress(&self.edit),
        }
    }
}

impl Drop for Tracking {
    fn drop(&mut self) {
        self.fleet.lock().finish(&self.edit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = "rds";

    fn open(fleet: &Fleet, node: &str, late_revocation: bool) -> Session {
        let session = fleet.open(SidecarInfo {
            node_id: node.to_owned(),
            node_cluster: String::new(),
            identity: node.into(),
            group: "common".into(),
            version: None,
            protocol: "delta",
            peer: String::new(),
            late_revocation,
        });
        session.asked(KIND);
        session
    }

    #[tokio::test]
    async fn who_leaves_before_an_edit_is_followed_is_told_of() {
        let fleet = Fleet::new();
        let (earlier, leaves, accepts) =
            (open(&fleet, "earlier", false), open(&fleet, "leaves", false), open(&fleet, "accepts", true));
        drop(earlier);
        let published = Instant::now();
        let version: Arc<str> = "2".into();
        accepts.acked(KIND, Some(Accepted { version: Arc::clone(&version), sent: Instant::now() }), None);
        drop((leaves, accepts));
        let tracking = fleet.track(("common".into(), 2), published, vec![(KIND, version)]);
        let progress = tracking.answered(Duration::from_secs(20)).await;
        let live: Vec<_> = progress.live.iter().map(|live| live.late.as_deref()).collect();
        assert_eq!(
            (live, progress.left.as_slice()),
            (vec![Some("accepts")], ["leaves".to_owned()].as_slice())
        );
        assert!(progress.is_over());
    }

    #[tokio::test]
    async fn who_is_sent_to_another_group_is_not_in_sync_before_they_are_back() {
        let fleet = Fleet::new();
        let in_sync = || -> Vec<bool> { fleet.sidecars().iter().map(|(_, one)| one.in_sync).collect() };
        let (stays, goes) = (open(&fleet, "stays", false), open(&fleet, "goes", false));
        stays.live(Some(1));
        goes.live(Some(1));
        assert_eq!(in_sync(), [true, true]);
        fleet.regroup();
        goes.live(Some(1));
        assert_eq!(in_sync(), [false, false], "their streams have not looked");
        stays.stays();
        stays.live(Some(1));
        goes.moves();
        drop(goes);
        assert_eq!(in_sync(), [true, false], "it is expected back");
        let back = open(&fleet, "goes", false);
        assert_eq!(in_sync(), [true, false]);
        back.live(Some(7));
        assert_eq!(in_sync(), [true, true]);
        fleet.regroup();
        back.moves();
        drop((back, stays));
        assert_eq!(in_sync(), [false]);
        let mut changes = fleet.changes();
        let forgotten = async {
            while !in_sync().is_empty() {
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(10 * BACK_WITHIN, forgotten).await.expect("it is not waited for any more");
    }
}
