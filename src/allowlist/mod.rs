//! From the text of allowlist files to a [`Policy`], with every mistake at its line and column.
//!
//! Knows nothing of where files lie, of Envoy, sockets or clocks.
//!
//! [`parse`] reads one file and never stops at the first mistake; [`combine`] makes one policy of several files.
//! A file with an error yields no entries at all, so that a half-understood file is never enforced.

mod codes;
mod diagnostic;
mod entry;
mod file;
mod ledger;
mod render;
mod suggest;
mod yaml;

pub use codes::{codes, explain};
pub use diagnostic::{Diagnostic, Severity, Source, Span};
pub use file::{Entry, FileEntries, MAX_BYTES, parse};
pub use ledger::{FileState, Found, FoundFile, Ledger, Loaded};
pub use render::{OneLine, Snippet};
pub use suggest::nearest;

use crate::policy::{HostPattern, Policy, Ports, Rule};
use std::{collections::BTreeMap, sync::Arc};

/// The result of reading one file.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The entries; none where a diagnostic is an error.
    pub entries: Option<FileEntries>,
    /// Errors and warnings, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
}

/// Makes one policy of all files. An entry that several files hold counts once, at its first place.
#[must_use]
pub fn combine<'a>(files: impl IntoIterator<Item = &'a FileEntries>) -> Policy {
    let mut rules: BTreeMap<(HostPattern, Ports), Rule> = BTreeMap::new();
    for entry in files.into_iter().flat_map(|file| file.entries.iter()) {
        let Entry { rule, .. } = entry;
        rules
            .entry((rule.pattern.clone(), rule.ports.clone()))
            .and_modify(|first| {
                if rule.origin < first.origin {
                    first.origin = rule.origin.clone();
                }
            })
            .or_insert_with(|| rule.clone());
    }
    Policy::new(rules.into_values().collect())
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
            let parsed = parse(&file(bytes));
            for diagnostic in &parsed.diagnostics {
                let snippet = Snippet { diagnostic, colour: true };
                prop_assert!(!snippet.to_string().is_empty());
                let line = OneLine(diagnostic).to_string();
                prop_assert!(!line.contains(char::is_control), "{line:?}");
            }
            let failed = parsed.diagnostics.iter().any(|found| found.severity == Severity::Error);
            prop_assert_eq!(failed, parsed.entries.is_none());
        }
    }
}
