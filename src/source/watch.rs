//! The loop that looks: on hints at once, on ticks in any case.

use super::{
    Rescan,
    hints::{Finish, Finished, SharedHints},
    scan::{Bundle, File, Place, RootState, Unreadable, is_allowlist_name, scan},
};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How often to look without a hint.
const TICK: Duration = Duration::from_secs(1);
/// A change that no event announced counts if it is still the same after this.
const SETTLE_UNANNOUNCED: Duration = Duration::from_millis(100);
/// A file that its writer closed counts if nobody has begun to write it again: events of that are on their way for less.
const SETTLE_CLOSED: Duration = Duration::from_micros(500);
/// A file that is gone counts as removed if it stays away this long: editors move files aside while they save.
const SETTLE_REMOVED: Duration = Duration::from_millis(500);
/// A disk that never comes to rest is taken as it is after this.
const SETTLE_AT_MOST: Duration = Duration::from_secs(2);

/// A change of what is on disk.
#[derive(Clone, Debug)]
pub struct Change {
    /// Everything, as it is now.
    pub bundle: Bundle,
    /// When the change was first noticed.
    pub noticed: Instant,
}

/// Looks at paths for as long as it lives.
#[derive(Debug)]
pub struct Watcher {
    /// What the operator named...
    paths: Vec<Place>,
    /// ...and what is read besides.
    included: Vec<Place>,
    max_bytes: usize,
    hints: SharedHints,
    events: Option<RecommendedWatcher>,
    /// Watched directories by identity: two paths to one directory share a watch, and one that was replaced is watched
    /// anew.
    armed: BTreeMap<Identity, PathBuf>,
    rearm: bool,
    rescan: Rescan,
    current: Bundle,
}

/// A change that may not be all of it yet.
#[derive(Debug)]
struct Settling {
    found: Bundle,
    noticed: Instant,
    until: Instant,
}

/// What it takes to believe a change.
enum Settle {
    /// Nothing.
    Not,
    /// That another look, so much later, finds the same.
    Look(Duration),
    /// That every look for so long finds the same.
    Wait(Duration),
}

/// Device and inode.
type Identity = (u64, u64);

impl Watcher {
    /// Looks once, and begins to watch. Where the system offers no file events, ticks find every change.
    #[must_use]
    pub fn new(paths: Vec<PathBuf>, max_bytes: usize) -> Self {
        let hints = SharedHints::default();
        let sink = hints.clone();
        let events = notify::recommended_watcher(move |event: notify::Result<notify::Event>| match event {
            Ok(event) => sink.on_event(&event),
            Err(error) => tracing::warn!("a file event was lost: {error}"),
        })
        .inspect_err(|error| {
            tracing::warn!("no file events: {error}; edits are noticed within {} s", TICK.as_secs());
        })
        .ok();
        let mut watcher = Self {
            paths: paths.into_iter().map(Place::Path).collect(),
            included: Vec::new(),
            max_bytes,
            hints,
            events,
            armed: BTreeMap::new(),
            rearm: false,
            rescan: Rescan::new(),
            current: Bundle::default(),
        };
        watcher.arm(false);
        watcher.current = scan(&watcher.places(), max_bytes);
        watcher
    }

    /// Looks elsewhere, too, from now on: at the files that fit these patterns. Where that is new, it looks at once.
    pub fn include(&mut self, patterns: impl IntoIterator<Item = PathBuf>) {
        let included: Vec<Place> = patterns.into_iter().map(Place::Pattern).collect();
        if included == self.included {
            return;
        }
        self.included = included;
        self.arm(false);
        self.current = scan(&self.places(), self.max_bytes);
    }

    fn places(&self) -> Vec<Place> {
        self.paths.iter().chain(&self.included).cloned().collect()
    }

    /// What the last look found.
    #[must_use]
    pub const fn current(&self) -> &Bundle {
        &self.current
    }

    /// Asks for a look from elsewhere.
    #[must_use]
    pub fn rescan(&self) -> Rescan {
        self.rescan.clone()
    }

    /// Ends with the next change.
    pub async fn changed(&mut self) -> Change {
        let mut settling: Option<Settling> = None;
        // How files were finished since they last were as `current` has them.
        let mut finished = Finished::default();
        loop {
            let announced = self.wait(settling.as_ref()).await;
            let now = Instant::now();
            {
                let mut hints = self.hints.lock();
                self.rearm = std::mem::take(&mut hints.rearm);
                finished.extend(hints.looked(now));
            }
            if !announced {
                self.arm(false);
            }
            let found = self.scan(Duration::ZERO).await;
            if found == self.current {
                settling = None;
                finished = Finished::default();
                if !self.hints.lock().any_open() {
                    self.rescan.rested.send_replace(Some(now));
                }
                continue;
            }
            let noticed = settling.as_ref().map_or(now, |settling| settling.noticed);
            let settled = match self.settle_time(&found, &finished) {
                Settle::Not => true,
                // Too short for a timer.
                Settle::Look(after) => self.scan(after).await == found,
                Settle::Wait(settle) => match &mut settling {
                    Some(settling) if settling.found == found => {
                        settling.until = settling.until.min(now + settle);
                        now >= settling.until
                    }
                    _ => {
                        // One busy file must not hold back a removal in another one for ever.
                        let until = (now + settle).min(noticed + SETTLE_AT_MOST);
                        settling = Some(Settling { found: found.clone(), noticed, until });
                        now >= until
                    }
                },
            };
            if settled {
                self.current = found.clone();
                return Change { bundle: found, noticed };
            }
        }
    }

    /// Waits for a reason to look. Gives whether it is more than the tick.
    async fn wait(&mut self, settling: Option<&Settling>) -> bool {
        if std::mem::take(&mut self.rearm) {
            // After the look that the event asked for, so that no edit waits for it; then another look.
            self.arm(true);
            return true;
        }
        let settled = async {
            match settling {
                Some(settling) => tokio::time::sleep_until(settling.until.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.hints.due() => true,
            () = settled => true,
            () = self.rescan.wanted.notified() => true,
            () = tokio::time::sleep(TICK) => false,
        }
    }

    /// What it takes to believe what was found.
    fn settle_time(&self, found: &Bundle, finished: &Finished) -> Settle {
        if lost_something(&self.current, found) {
            return Settle::Wait(SETTLE_REMOVED);
        }
        match changed_files(&self.current, found).map(|path| finished.of(path)).min() {
            Some(Finish::Whole) => Settle::Not,
            Some(Finish::Closed) if cut_something(&self.current, found) => Settle::Wait(SETTLE_UNANNOUNCED),
            Some(Finish::Closed) => Settle::Look(SETTLE_CLOSED),
            Some(Finish::Unknown) | None => Settle::Wait(SETTLE_UNANNOUNCED),
        }
    }

    /// What is there, with files that are being written as they were before.
    async fn scan(&self, after: Duration) -> Bundle {
        let (paths, max_bytes) = (self.places(), self.max_bytes);
        let look = move || {
            std::thread::sleep(after);
            scan(&paths, max_bytes)
        };
        let mut bundle = tokio::task::spawn_blocking(look).await.unwrap_or_else(|_| self.current.clone());
        let hints = self.hints.lock();
        for (root, before) in bundle.roots.iter_mut().zip(&self.current.roots) {
            let RootState::Files(files) = &mut root.state else { continue };
            let known = match &before.state {
                RootState::Files(known) => known.as_slice(),
                RootState::Unreadable(_) => &[],
            };
            files.retain_mut(|file| !hints.is_open(&file.path) || keep_content(file, known));
            if files.is_empty() {
                root.state = before.state.clone();
            }
        }
        bundle
    }

    /// Puts watches on everything whose change could matter: each path, its parent, and where symlinks lead. `anew`
    /// replaces watches that look right: a directory made again may have the inode of the one before.
    fn arm(&mut self, anew: bool) {
        let Some(events) = &mut self.events else { return };
        let places = self.paths.iter().chain(&self.included);
        let paths: Vec<PathBuf> = places.map(|place| place.watched().to_owned()).collect();
        let names = paths.iter().flat_map(|path| [Some(path.clone()), path.canonicalize().ok()]).flatten();
        self.hints.lock().named = names.filter_map(|path| Some(path.file_name()?.to_owned())).collect();
        let mut wanted: BTreeMap<Identity, PathBuf> = BTreeMap::new();
        for directory in paths.iter().flat_map(|path| directories(path)) {
            if let Some(identity) = identity(&directory) {
                wanted.entry(identity).or_insert(directory);
            }
        }
        let names = paths.iter().chain(wanted.values()).filter_map(|path| Some(path.file_name()?.to_owned()));
        self.hints.lock().directories = names.filter(|name| !is_allowlist_name(Path::new(name))).collect();
        self.armed.retain(|identity, path| {
            let keep = !anew && wanted.get(identity) == Some(path);
            if !keep {
                // It may be gone already.
                drop(events.unwatch(path));
            }
            keep
        });
        for (identity, path) in wanted {
            if !self.armed.contains_key(&identity) && events.watch(&path, RecursiveMode::NonRecursive).is_ok()
            {
                self.armed.insert(identity, path);
            }
        }
    }
}

/// The directories that hold a path, and those that its symlinks lead to.
fn directories(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in [Some(path.to_owned()), path.canonicalize().ok()].into_iter().flatten() {
        if path.is_dir() {
            found.push(path.clone());
        }
        match path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => found.push(PathBuf::from(".")),
            Some(parent) => found.push(parent.to_owned()),
            None => {}
        }
    }
    found
}

fn identity(path: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Puts back what a file held before. Gives whether it is known.
fn keep_content(file: &mut File, known: &[File]) -> bool {
    let old = known.iter().find(|old| old.path == file.path);
    old.inspect(|old| {
        file.content.clone_from(&old.content);
        file.exposed.clone_from(&old.exposed);
    })
    .is_some()
}

/// The files that are new or hold something else.
fn changed_files<'a>(before: &'a Bundle, after: &'a Bundle) -> impl Iterator<Item = &'a Path> {
    let known: Vec<&File> = before.files().collect();
    after.files().filter(move |file| !known.contains(file)).map(|file| file.path.as_path())
}

/// Whether a file or a root is gone, or not yet back.
fn lost_something(before: &Bundle, after: &Bundle) -> bool {
    before.roots.iter().zip(&after.roots).any(|(before, after)| match (&before.state, &after.state) {
        (RootState::Files(_), RootState::Unreadable(_)) => true,
        (RootState::Files(before), RootState::Files(after)) => {
            before.iter().any(|old| match after.iter().find(|new| new.path == old.path) {
                None => true,
                Some(new) => old.content.is_ok() && new.content == Err(Unreadable::Missing),
            })
        }
        // A directory that came back may not have all its files yet.
        (RootState::Unreadable(_), RootState::Files(_)) => true,
        (RootState::Unreadable(_), RootState::Unreadable(_)) => false,
    })
}

/// Whether a file holds only the beginning of what it held, as if somebody were about to write it again.
fn cut_something(before: &Bundle, after: &Bundle) -> bool {
    after.files().any(|new| {
        let old = before.files().find(|old| old.path == new.path);
        match (old.map(|old| &old.content), &new.content) {
            (Some(Ok(old)), Ok(new)) => new.len() < old.len() && old.starts_with(new),
            _ => false,
        }
    })
}
