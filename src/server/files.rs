//! What is on disk, in the ledger's terms.
//!
//! Knows nothing of what files say, but which others they include.

use crate::{
    allowlist::{Exposed, Found, FoundFile, Include, Ledger, Loaded, MAX_BYTES, MAX_INCLUDES},
    policy::Timestamp,
    source::{Bundle, Exposure, File, Place, RootState, scan},
};
use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::SystemTime};

/// Looks once at allowlist files and directories, and reads them as the server does at its start, with or without findings
/// about who can change them.
#[must_use]
pub fn read(paths: &[PathBuf], accept_exposed: bool) -> Loaded {
    let mut ledger = Ledger::default();
    let named = || paths.iter().cloned().map(Place::Path);
    ledger.read(&found(&scan(&named().collect::<Vec<_>>(), MAX_BYTES), paths.len(), accept_exposed));
    follow_includes(&mut ledger, |included| {
        let places = named().chain(patterns(included).map(Place::Pattern));
        found(&scan(&places.collect::<Vec<_>>(), MAX_BYTES), paths.len(), accept_exposed)
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
pub(super) fn found(bundle: &Bundle, named: usize, accept_exposed: bool) -> Vec<Found> {
    let file = |file: &File| FoundFile {
        path: printable(&file.path.to_string_lossy()),
        label: printable(&file.label),
        content: file.content.clone().map_err(|error| error.to_string()),
        exposed: file.exposed.as_ref().filter(|_| !accept_exposed).map(exposed),
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

/// Who can change a file, in words.
fn exposed(exposure: &Exposure) -> Exposed {
    let (message, help) = match exposure {
        Exposure::Everybody => {
            ("everybody on the machine may write the file".to_owned(), "take that away: chmod o-w")
        }
        Exposure::Directory(path) => (
            format!(
                "everybody on the machine may replace the file: the directory {} is writable",
                path.display()
            ),
            "take that away: chmod o-w, or set its sticky bit",
        ),
        Exposure::Group(group) => (
            format!("the group {group} may write the file or its directory"),
            "take that away: chmod g-w; or say --accept-exposed-files",
        ),
        Exposure::Owner(user) => (
            format!(
                "the file or its directory belongs to user {user}, who is neither root nor the one that exeat runs as"
            ),
            "give it to root; or, if that user is trusted with the policy, say --accept-exposed-files",
        ),
        Exposure::Elsewhere(path) => (
            format!("the file is a link that leaves its directory, to {}", path.display()),
            "name that file itself; or say --accept-exposed-files",
        ),
    };
    Exposed { message: printable(&message).to_string(), help: help.to_owned() }
}

/// A file's name must not break a log line or steer a terminal.
fn printable(name: &str) -> Arc<str> {
    name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect::<String>().into()
}
