//! What file events say about when to look.

use super::scan::is_allowlist_name;
use notify::{
    Event, EventKind,
    event::{AccessKind, AccessMode, ModifyKind},
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// A new name may be a file whose writer has just begun; a symlink has no writer.
const AFTER_CREATE: Duration = Duration::from_millis(20);
/// A writer that pauses longer, with the file open, is taken to have finished.
const WRITER_QUIET: Duration = Duration::from_secs(5);
/// A writer that never pauses and never closes is taken to have finished after this.
const WRITER_LIMIT: Duration = Duration::from_secs(30);

/// Somebody writes to a file and has not closed it.
#[derive(Clone, Copy, Debug)]
struct Writer {
    first: Instant,
    last: Instant,
}

impl Writer {
    fn deadline(&self) -> Instant {
        (self.last + WRITER_QUIET).min(self.first + WRITER_LIMIT)
    }
}

/// What the events so far add up to. Pure.
#[derive(Debug, Default)]
pub(super) struct Hints {
    look_at: Option<Instant>,
    writers: BTreeMap<PathBuf, Writer>,
    /// Something that is no allowlist file came or went: watches may be on directories that are gone.
    pub(super) rearm: bool,
}

impl Hints {
    pub(super) fn on_event(&mut self, event: &Event, now: Instant) {
        let moves_directories = event.paths.iter().any(|path| !is_allowlist_name(path));
        match event.kind {
            // The writer is done.
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => {
                for path in &event.paths {
                    self.writers.remove(path);
                }
                self.look(now);
            }
            EventKind::Access(_) => {}
            // A rename is whole at once.
            EventKind::Modify(ModifyKind::Name(_)) | EventKind::Remove(_) => {
                for path in &event.paths {
                    self.writers.remove(path);
                }
                self.rearm |= moves_directories;
                self.look(now);
            }
            EventKind::Create(_) => {
                self.rearm |= moves_directories;
                self.look(now + AFTER_CREATE);
            }
            EventKind::Modify(ModifyKind::Metadata(_)) => self.look(now + AFTER_CREATE),
            EventKind::Modify(_) | EventKind::Any | EventKind::Other => {
                // Files that cannot be allowlists cannot be half-written ones.
                for path in event.paths.iter().filter(|path| is_allowlist_name(path)) {
                    let first = self.writers.get(path).map_or(now, |writer| writer.first);
                    self.writers.insert(path.clone(), Writer { first, last: now });
                }
            }
        }
    }

    /// Asks for a look at an instant.
    pub(super) fn look(&mut self, at: Instant) {
        self.look_at = Some(self.look_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// When to look next, if anything says so.
    pub(super) fn due(&self) -> Option<Instant> {
        let writers = self.writers.values().map(Writer::deadline).min();
        [self.look_at, writers].into_iter().flatten().min()
    }

    /// Looking now: forgets what led to it. Files that are still being written stay.
    pub(super) fn looked(&mut self, now: Instant) {
        self.look_at = self.look_at.filter(|at| *at > now);
        self.writers.retain(|_, writer| writer.deadline() > now);
    }

    /// Whether a file is half-written, as far as events tell.
    pub(super) fn is_open(&self, path: &Path) -> bool {
        if self.writers.is_empty() {
            return false;
        }
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let file = real(path);
        self.writers.keys().any(|open| real(open) == file)
    }
}

/// Hints shared with the thread on which events arrive.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedHints {
    hints: Arc<Mutex<Hints>>,
    news: Arc<Notify>,
}

impl SharedHints {
    pub(super) fn lock(&self) -> MutexGuard<'_, Hints> {
        self.hints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn on_event(&self, event: &Event) {
        if matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write)) {
            return;
        }
        self.lock().on_event(event, Instant::now());
        self.news.notify_one();
    }

    /// Ends when a hint is due.
    pub(super) async fn due(&self) {
        loop {
            let due = self.lock().due();
            match due {
                Some(at) if at <= Instant::now() => return,
                Some(at) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(at.into()) => return,
                        () = self.news.notified() => {}
                    }
                }
                None => self.news.notified().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{CreateKind, DataChange, RenameMode};

    fn event(kind: EventKind, path: &str) -> Event {
        Event::new(kind).add_path(path.into())
    }

    #[test]
    fn a_writer_holds_its_file_back_until_it_closes() {
        let mut hints = Hints::default();
        let start = Instant::now();
        let modify = event(EventKind::Modify(ModifyKind::Data(DataChange::Any)), "d/a.yaml");
        hints.on_event(&modify, start);
        assert!(hints.is_open(Path::new("d/a.yaml")));
        assert_eq!(hints.due(), Some(start + WRITER_QUIET));
        let close = event(EventKind::Access(AccessKind::Close(AccessMode::Write)), "d/a.yaml");
        hints.on_event(&close, start);
        assert!(!hints.is_open(Path::new("d/a.yaml")));
        assert_eq!(hints.due(), Some(start));
    }

    #[test]
    fn a_writer_that_never_closes_is_not_waited_for_for_ever() {
        let mut hints = Hints::default();
        let start = Instant::now();
        let modify = event(EventKind::Modify(ModifyKind::Data(DataChange::Any)), "d/a.yaml");
        for second in 0..60 {
            hints.on_event(&modify, start + Duration::from_secs(second));
        }
        assert_eq!(hints.due(), Some(start + WRITER_LIMIT));
        hints.looked(start + WRITER_LIMIT);
        assert!(!hints.is_open(Path::new("d/a.yaml")));
    }

    #[test]
    fn a_rename_is_looked_at_without_delay() {
        let mut hints = Hints::default();
        let start = Instant::now();
        hints.on_event(&event(EventKind::Create(CreateKind::File), "d/tmp"), start);
        assert_eq!(hints.due(), Some(start + AFTER_CREATE));
        hints.on_event(&event(EventKind::Modify(ModifyKind::Name(RenameMode::To)), "d/a.yaml"), start);
        assert_eq!(hints.due(), Some(start));
    }
}
