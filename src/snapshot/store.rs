//! The current snapshot, and the signal that there is a newer one.

use super::Snapshot;
use std::{sync::Arc, time::Instant};
use tokio::sync::watch;

/// Numbers the publications of this process. Never on the wire: versions are hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct EditId(u64);

impl EditId {
    /// The number, for the fleet.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// A snapshot in force.
#[derive(Clone, Debug)]
pub struct Published {
    /// Which publication.
    pub edit: EditId,
    /// When.
    pub at: Instant,
    /// What.
    pub snapshot: Arc<Snapshot>,
}

/// Holds the current snapshot of one group of sidecars. Readers see the newest and may miss those in between.
#[derive(Debug)]
pub struct Store {
    sender: watch::Sender<Option<Published>>,
}

impl Store {
    /// Nothing is published yet: servers must answer UNAVAILABLE, because an empty set would delete everything.
    #[must_use]
    pub fn new() -> Self {
        Self { sender: watch::Sender::new(None) }
    }

    /// Puts a snapshot in force. Gives nothing if its content is what is already in force.
    pub fn publish(&self, snapshot: Snapshot) -> Option<Published> {
        let mut published = None;
        self.sender.send_if_modified(|current| {
            if current.as_ref().is_some_and(|current| current.snapshot.version() == snapshot.version()) {
                return false;
            }
            let edit = EditId(current.as_ref().map_or(0, |current| current.edit.0) + 1);
            published = Some(Published { edit, at: Instant::now(), snapshot: Arc::new(snapshot) });
            current.clone_from(&published);
            true
        });
        published
    }

    /// What is in force.
    #[must_use]
    pub fn current(&self) -> Option<Published> {
        self.sender.borrow().clone()
    }

    /// Follows what is in force.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Option<Published>> {
        self.sender.subscribe()
    }
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}
