//! What is on disk, in the ledger's terms.

use crate::{
    allowlist::{Found, FoundFile, Ledger, Loaded, MAX_BYTES},
    source::{Bundle, File, RootState, scan},
};
use std::{path::PathBuf, sync::Arc};

/// Looks once at allowlist files and directories, and reads them as the server does at its start.
#[must_use]
pub fn read(paths: &[PathBuf]) -> Loaded {
    Ledger::default().apply(&found(&scan(paths, MAX_BYTES)))
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
