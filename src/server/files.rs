//! What is on disk, in the ledger's terms.

use crate::{
    allowlist::{Found, FoundFile, Include, Ledger, Loaded, MAX_BYTES, MAX_INCLUDES},
    policy::Timestamp,
    source::{Bundle, File, Place, RootState, scan},
};
use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::SystemTime};

/// Looks once at allowlist files and directories, and reads them as the server does at its start.
#[must_use]
pub fn read(paths: &[PathBuf]) -> Loaded {
    let mut ledger = Ledger::default();
    let named = || paths.iter().cloned().map(Place::Path);
    ledger.read(&found(&scan(&named().collect::<Vec<_>>(), MAX_BYTES), paths.len()));
    follow_includes(&mut ledger, |included| {
        let places = named().chain(patterns(included).map(Place::Pattern));
        found(&scan(&places.collect::<Vec<_>>(), MAX_BYTES), paths.len())
    });
    ledger.settle(Timestamp::of(SystemTime::now()))
}

/// Reads what files include, and what that includes, as deep as it may be. `look` looks at the operator's paths and at these.
pub(super) fn follow_includes(ledger: &mut Ledger, mut look: impl FnMut(&BTreeSet<Include>) -> Vec<Found>) {
    let mut included = ledger.includes();
    // One more, so that what is too deep is seen.
    for _ in 0..=MAX_INCLUDES {
        ledger.read(&look(&included));
        let wanted = ledger.includes();
        if wanted.is_subset(&included) {
            return;
        }
        included.extend(wanted);
    }
}

/// The paths of includes, each once.
pub(super) fn patterns(includes: &BTreeSet<Include>) -> impl Iterator<Item = PathBuf> {
    let paths: BTreeSet<PathBuf> = includes.iter().map(|include| include.path().into()).collect();
    paths.into_iter()
}

/// The disk's terms in the ledger's terms. The first `named` paths are the operator's.
pub(super) fn found(bundle: &Bundle, named: usize) -> Vec<Found> {
    let file = |file: &File| FoundFile {
        path: printable(&file.path.to_string_lossy()),
        label: printable(&file.label),
        content: file.content.clone().map_err(|error| error.to_string()),
        exposed: file.exposed,
    };
    let roots = bundle.roots.iter().enumerate().map(|(index, root)| Found {
        path: printable(&root.path.to_string_lossy()),
        included: index >= named,
        files: match &root.state {
            RootState::Files(files) => Ok(files.iter().map(file).collect()),
            RootState::Unreadable(why) => Err(why.to_string()),
        },
    });
    roots.collect()
}

/// A file's name must not break a log line or steer a terminal.
fn printable(name: &str) -> Arc<str> {
    name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect::<String>().into()
}
