//! Asking for a look at the disk.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{Notify, watch};

/// A watcher that is busy with a change looks again soon.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// Has the watcher look, and knows when it has.
#[derive(Clone, Debug)]
pub struct Rescan {
    pub(super) wanted: Arc<Notify>,
    /// When the last look began that found nothing new, and nobody writing.
    pub(super) rested: watch::Sender<Option<Instant>>,
}

impl Rescan {
    pub(super) fn new() -> Self {
        Self { wanted: Arc::default(), rested: watch::Sender::new(None) }
    }

    /// Ends when everything that was on disk at the call has been given to whoever follows the watcher. Never ends if
    /// the watcher is gone.
    pub async fn now(&self) {
        let asked = Instant::now();
        let mut rested = self.rested.subscribe();
        loop {
            self.wanted.notify_one();
            let seen = rested.wait_for(|rested| rested.is_some_and(|rested| rested >= asked));
            if tokio::time::timeout(ASK_AGAIN, seen).await.is_ok() {
                return;
            }
        }
    }
}
