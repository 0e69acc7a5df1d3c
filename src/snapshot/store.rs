//! The current snapshot, and the signal that there is a newer one.

use super::Snapshot;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};
use tokio::sync::watch;

/// Numbers the publications of a store. Never on the wire: versions are hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct EditId(u64);

impl EditId {
    /// The number, for the fleet.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// How an edit relates to what was allowed before it.
#[derive(Clone, Debug)]
pub enum Urgency {
    /// It takes nothing away: routes may wait until the clusters they lead to are ready.
    Additions,
    /// It takes something away, and all of it may go out at once.
    Tightening,
    /// It takes something away and adds something that must wait: this first, which only takes away.
    Split(Box<Snapshot>),
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
    /// The newest publication that took something away. It stays until the next one, because a stream that was busy
    /// may have missed the publication itself.
    pub tightened: Option<Tightened>,
}

impl Published {
    /// A publication without history: the first of a store.
    #[must_use]
    pub fn first(snapshot: Snapshot) -> Self {
        Self { edit: EditId(1), at: Instant::now(), snapshot: Arc::new(snapshot), tightened: None }
    }
}

/// What a client must be told at once, ahead of everything that waits.
#[derive(Clone, Debug)]
pub struct Tightened {
    /// Since which publication.
    pub edit: EditId,
    /// Nothing that this or an earlier publication took away is in it.
    pub snapshot: Arc<Snapshot>,
}

/// Holds the current snapshot of one group of sidecars. Readers see the newest and may miss those in between.
#[derive(Debug)]
pub struct Store {
    sender: watch::Sender<Option<Published>>,
    /// What was in force before. It is given up with the next publication: else the last stream that leaves it would
    /// free thousands of resources before it sends anything.
    before: Mutex<Option<Published>>,
}

impl Store {
    /// Nothing is published yet: servers must answer UNAVAILABLE, because an empty set would delete everything.
    #[must_use]
    pub fn new() -> Self {
        Self { sender: watch::Sender::new(None), before: Mutex::default() }
    }

    /// Puts a snapshot in force. Gives nothing if its content is what is already in force.
    pub fn publish(&self, snapshot: Snapshot, urgency: Urgency) -> Option<Published> {
        let (mut published, mut before) = (None, None);
        self.sender.send_if_modified(|current| {
            if current.as_ref().is_some_and(|current| current.snapshot.version() == snapshot.version()) {
                return false;
            }
            let edit = EditId(current.as_ref().map_or(0, |current| current.edit.0) + 1);
            let snapshot = Arc::new(snapshot);
            let tightened = match urgency {
                Urgency::Additions => current.as_ref().and_then(|current| current.tightened.clone()),
                Urgency::Tightening => Some(Tightened { edit, snapshot: Arc::clone(&snapshot) }),
                Urgency::Split(first) => Some(Tightened { edit, snapshot: Arc::new(*first) }),
            };
            published = Some(Published { edit, at: Instant::now(), snapshot, tightened });
            before = std::mem::replace(current, published.clone());
            true
        });
        if published.is_some() {
            // What goes is freed after the lock.
            std::mem::swap(&mut *self.before.lock().unwrap_or_else(PoisonError::into_inner), &mut before);
        }
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
