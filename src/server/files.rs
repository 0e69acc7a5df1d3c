//! What is on disk, in the ledger's terms.

use crate::{
    allowlist::{Found, FoundFile, Include, Ledger, Loaded, MAX_BYTES},
    policy::Timestamp,
    source::{Bundle, File, Place, RootState, scan},
};
use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::SystemTime};

/// Looks once at allowlist files and directories, and reads them as the server does at its start.
#[must_use]
pub fn read(paths: &[PathBuf]) -> Loaded {
    let mut ledger = Ledger::default();
    let mut included = BTreeSet::new();
    loop {
        let places = paths.iter().cloned().map(Place::Path).chain(patterns(&included).map(Place::Pattern));
        ledger.read(&found(&scan(&places.collect::<Vec<_>>(), MAX_BYTES)));
        // It ends: includes are followed to a depth.
        let wanted = ledger.includes();
        if wanted.is_subset(&included) {
            return ledger.settle(Timestamp::of(SystemTime::now()));
        }
        included.extend(wanted);
    }
}

/// The paths of includes, each once.
pub(super) fn patterns(includes: &BTreeSet<Include>) -> impl Iterator<Item = PathBuf> {
    let paths: BTreeSet<PathBuf> = includes.iter().map(|include| include.path().into()).collect();
    paths.into_iter()
}

/// The disk's terms in the ledger's terms.
pub(super) fn found(bundle: &Bundle) -> Vec<Found> {
    let file = |file: &File| FoundFile {
        path: printable(&file.path.to_string_lossy()),
        label: printable(&file.label),
        content: file.content.clone().map_err(|error| error.to_string()),
    };
    let roots = bundle.roots.iter().map(|root| Found {
        path: printable(&root.path.to_string_lossy()),
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
