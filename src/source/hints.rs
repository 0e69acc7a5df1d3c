//! What file events say about when to look.

use super::scan::is_allowlist_name;
use notify::{
    Event, EventKind,
    event::{AccessKind, AccessMode, ModifyKind, RenameMode},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
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

/// How an edit of a file was finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Finish {
    /// No event says that it was.
    Unknown,
    /// Its writer closed it. The next writer may have begun.
    Closed,
    /// It took its place whole: by a rename, or as a link that was swapped.
    Whole,
}

/// What the events so far add up to. Pure.
#[derive(Debug, Default)]
pub(super) struct Hints {
    look_at: Option<Instant>,
    writers: BTreeMap<PathBuf, Writer>,
    finished: Finished,
    /// Names of files that count although they do not end like an allowlist: named by the operator, or by a link.
    pub(super) named: BTreeSet<OsString>,
    /// Names of the directories that matter.
    pub(super) directories: BTreeSet<OsString>,
    /// A directory came or went: watches may be on one that is gone.
    pub(super) rearm: bool,
}

/// Which files were finished since the last look.
#[derive(Debug, Default)]
pub(super) struct Finished {
    files: BTreeMap<PathBuf, Finish>,
    /// A link or a directory took its place: everything below it is whole.
    all: bool,
}

impl Finished {
    /// Adds what came later.
    pub(super) fn extend(&mut self, later: Self) {
        self.files.extend(later.files);
        self.all |= later.all;
    }

    /// How the edit of a file was finished.
    pub(super) fn of(&self, path: &Path) -> Finish {
        if self.all {
            return Finish::Whole;
        }
        let file = real(path);
        let finish = |(finished, how): (&PathBuf, &Finish)| (real(finished) == file).then_some(*how);
        self.files.iter().filter_map(finish).max().unwrap_or(Finish::Unknown)
    }
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

impl Hints {
    /// `swaps`: the event put a link or a directory in its place.
    pub(super) fn on_event(&mut self, event: &Event, swaps: bool, now: Instant) {
        let counts = |path: &&PathBuf| {
            is_allowlist_name(path) || path.file_name().is_some_and(|name| self.named.contains(name))
        };
        let files: Vec<PathBuf> = event.paths.iter().filter(counts).cloned().collect();
        // The noise of other programs in the directory must cost nothing.
        let is_directory =
            |path: &PathBuf| path.file_name().is_some_and(|name| self.directories.contains(name));
        let moved = swaps || event.paths.iter().any(is_directory);
        match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => {
                for path in files {
                    self.writers.remove(&path);
                    self.finished.files.insert(path, Finish::Closed);
                    self.look(now);
                }
            }
            EventKind::Access(_) => {}
            EventKind::Modify(ModifyKind::Name(_)) | EventKind::Remove(_) => {
                let arrived = matches!(
                    event.kind,
                    EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both))
                );
                for path in files {
                    self.writers.remove(&path);
                    // Of the two names of a rename, the last is the new one.
                    if arrived && event.paths.last() == Some(&path) {
                        self.finished.files.insert(path, Finish::Whole);
                    }
                }
                self.finished.all |= swaps;
                self.rearm |= moved;
                self.look(now);
            }
            EventKind::Create(_) => {
                self.finished.all |= swaps;
                self.rearm |= moved;
                self.look(now + AFTER_CREATE);
            }
            EventKind::Modify(ModifyKind::Metadata(_)) => self.look(now + AFTER_CREATE),
            EventKind::Modify(_) | EventKind::Any | EventKind::Other => {
                for path in files {
                    let first = self.writers.get(&path).map_or(now, |writer| writer.first);
                    self.writers.insert(path, Writer { first, last: now });
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

    /// Looking now: gives and forgets what led to it. Files that are still being written stay.
    pub(super) fn looked(&mut self, now: Instant) -> Finished {
        self.look_at = self.look_at.filter(|at| *at > now);
        self.writers.retain(|_, writer| writer.deadline() > now);
        std::mem::take(&mut self.finished)
    }

    /// Whether somebody is writing, as far as events tell.
    pub(super) fn any_open(&self) -> bool {
        !self.writers.is_empty()
    }

    /// Whether a file is half-written, as far as events tell.
    pub(super) fn is_open(&self, path: &Path) -> bool {
        if self.writers.is_empty() {
            return false;
        }
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
        let arrives = matches!(
            event.kind,
            EventKind::Create(_) | EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both))
        );
        let swaps = arrives
            && event
                .paths
                .last()
                .and_then(|path| path.symlink_metadata().ok())
                // A directory that is made is filled afterwards; one that is moved here is whole.
                .is_some_and(|found| {
                    found.is_symlink() || (found.is_dir() && !matches!(event.kind, EventKind::Create(_)))
                });
        self.lock().on_event(event, swaps, Instant::now());
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
    use notify::event::{CreateKind, DataChange};

    fn event(kind: EventKind, path: &str) -> Event {
        Event::new(kind).add_path(path.into())
    }

    #[test]
    fn a_writer_holds_its_file_back_until_it_closes() {
        let mut hints = Hints::default();
        let start = Instant::now();
        let modify = event(EventKind::Modify(ModifyKind::Data(DataChange::Any)), "d/a.yaml");
        hints.on_event(&modify, false, start);
        assert!(hints.is_open(Path::new("d/a.yaml")));
        assert_eq!(hints.due(), Some(start + WRITER_QUIET));
        let close = event(EventKind::Access(AccessKind::Close(AccessMode::Write)), "d/a.yaml");
        hints.on_event(&close, false, start);
        assert!(!hints.is_open(Path::new("d/a.yaml")));
        assert_eq!(hints.due(), Some(start));
    }

    #[test]
    fn a_writer_that_never_closes_is_not_waited_for_for_ever() {
        let mut hints = Hints::default();
        let start = Instant::now();
        let modify = event(EventKind::Modify(ModifyKind::Data(DataChange::Any)), "d/a.yaml");
        for second in 0..60 {
            hints.on_event(&modify, false, start + Duration::from_secs(second));
        }
        assert_eq!(hints.due(), Some(start + WRITER_LIMIT));
        hints.looked(start + WRITER_LIMIT);
        assert!(!hints.is_open(Path::new("d/a.yaml")));
    }

    #[test]
    fn a_rename_is_looked_at_without_delay() {
        let mut hints = Hints::default();
        let start = Instant::now();
        hints.on_event(&event(EventKind::Create(CreateKind::File), "d/tmp"), false, start);
        assert_eq!(hints.due(), Some(start + AFTER_CREATE));
        hints.on_event(&event(EventKind::Modify(ModifyKind::Name(RenameMode::To)), "d/a.yaml"), false, start);
        assert_eq!(hints.due(), Some(start));
    }

    /// What real vim does while it saves: it renames its backup, and truncates the file an instant later.
    #[test]
    fn only_events_of_the_file_itself_say_that_it_is_whole() {
        let mut hints = Hints::default();
        let start = Instant::now();
        let rename = EventKind::Modify(ModifyKind::Name(RenameMode::To));
        let close = EventKind::Access(AccessKind::Close(AccessMode::Write));
        hints.on_event(&event(rename, "d/a.yaml~"), false, start);
        hints.on_event(&event(close, "d/a.yaml.bak"), false, start);
        assert_eq!(hints.looked(start).of(Path::new("d/a.yaml")), Finish::Unknown);
        hints.on_event(&event(close, "d/a.yaml"), false, start);
        assert_eq!(hints.looked(start).of(Path::new("d/a.yaml")), Finish::Closed);
        hints.on_event(&event(rename, "d/a.yaml"), false, start);
        hints.on_event(&event(close, "d/b.yaml"), false, start);
        assert_eq!(hints.looked(start).of(Path::new("d/a.yaml")), Finish::Whole);
        hints.on_event(&event(rename, "d/..data"), true, start);
        assert_eq!(hints.looked(start).of(Path::new("d/a.yaml")), Finish::Whole);
        assert_eq!(hints.looked(start).of(Path::new("d/a.yaml")), Finish::Unknown, "until the next event");
    }

    #[test]
    fn a_file_that_the_operator_named_counts_whatever_its_ending() {
        let mut hints = Hints { named: [OsString::from("hosts")].into(), ..Hints::default() };
        let start = Instant::now();
        let modify = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        hints.on_event(&event(modify, "d/hosts"), false, start);
        hints.on_event(&event(modify, "d/other"), false, start);
        assert!(hints.is_open(Path::new("d/hosts")) && !hints.is_open(Path::new("d/other")));
    }
}
