//! From the text of allowlist files to a [`PolicySet`](crate::policy::PolicySet), with every mistake at its line and column.
//!
//! Knows nothing of where files lie, of Envoy, sockets or clocks.
//!
//! A file is read ([`yaml`](self), `file`, `section`, `agent`) without stopping at the first mistake; its groups and
//! presets are looked up (`resolve`), all files are put together (`combine`), and a file that cannot be in force keeps
//! what it was before ([`Ledger`]). A file with an error yields no entries at all, so that a half-understood file is
//! never enforced.

mod agent;
mod bounds;
mod codes;
mod combine;
mod diagnostic;
mod entry;
mod file;
mod findings;
mod include;
mod ledger;
mod presets;
mod print;
mod reader;
mod render;
mod resolve;
mod section;
mod settle;
mod spec;
mod suggest;
mod values;
mod yaml;

pub use codes::{codes, explain};
pub use diagnostic::{Diagnostic, Severity, Source, Span};
pub use file::MAX_BYTES;
pub use include::{Include, MAX_INCLUDES};
pub use ledger::{Exposed, FileState, Found, FoundFile, Ledger, Loaded};
pub use presets::{PRESETS_VERSION, Preset, presets};
pub use print::print;
pub use render::{OneLine, Snippet};
pub use suggest::nearest;
pub use yaml::{from_yaml, to_yaml};

use crate::policy::Timestamp;
use std::sync::Arc;

/// Reads files that belong together, at an instant: for whoever has them already.
#[must_use]
pub fn read(files: &[FileText], now: Timestamp) -> Loaded {
    let found = files.iter().map(|file| FoundFile {
        path: Arc::clone(&file.path),
        label: Arc::clone(&file.label),
        content: Ok(file.bytes.clone()),
        exposed: None,
    });
    Ledger::default().apply(&[Found { path: "".into(), included: false, files: Ok(found.collect()) }], now)
}

/// A file's text with the two names it goes by.
#[derive(Clone, Debug)]
pub struct FileText {
    /// The path as the operator knows it, for messages.
    pub path: Arc<str>,
    /// The name in rules and logs, equal on every replica.
    pub label: Arc<str>,
    /// What the file holds.
    pub bytes: bytes::Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(bytes: Vec<u8>) -> FileText {
        FileText { path: "f".into(), label: "f".into(), bytes: bytes.into() }
    }

    /// Pieces that YAML and hosts are made of, so that random files come near to valid ones.
    fn pieces() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop::sample::select(vec![
            "- ",
            "\n",
            " ",
            "a.com",
            "*.b.com",
            ":",
            "443",
            "allow:",
            "version: 1",
            "[",
            "]",
            "{",
            "}",
            "&x",
            "*x",
            "<<",
            "\"",
            "'",
            "#",
            "|",
            ">",
            "é",
            "。",
            "\u{feff}",
            "\t",
            "---",
            "!!str",
            "?",
            "\\",
            "\u{0}",
            "\r",
            "%",
            "host",
            "0x1",
            "~",
            "@",
            "-",
        ]);
        prop_oneof![
            prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat().into_bytes()),
            prop::collection::vec(any::<u8>(), 0..60),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever a file holds, it is read or explained; and only a file without errors allows anything.
        #[test]
        fn any_file_is_read_or_explained(bytes in pieces()) {
            let loaded = read(&[file(bytes)], Timestamp::parse("2026-11-25").unwrap());
            for diagnostic in &loaded.files[0].diagnostics {
                let snippet = Snippet { diagnostic, colour: true };
                prop_assert!(!snippet.to_string().is_empty());
                let line = OneLine(diagnostic).to_string();
                prop_assert!(!line.contains(char::is_control), "{line:?}");
            }
            let failed = loaded.files[0].diagnostics.iter().any(|found| found.severity == Severity::Error);
            prop_assert_eq!(failed, loaded.policies.is_none());
        }
    }
}
