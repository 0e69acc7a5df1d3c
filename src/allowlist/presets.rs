//! Lists of hosts that many need, shipped with exeat: allowlist files in the language, each entry with its reason.

use super::{FileText, file::Document, file::parse};
use std::{collections::BTreeMap, sync::LazyLock};

/// Of all presets together: it changes when one of them does.
pub const PRESETS_VERSION: u32 = 1;

/// A preset as it is shipped.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// What stands behind `use:`.
    pub name: &'static str,
    /// The file.
    pub text: &'static str,
}

macro_rules! presets {
    ($($name:literal),* $(,)?) => {
        [$(Preset { name: $name, text: include_str!(concat!("presets/", $name, ".yaml")) }),*]
    };
}

/// Sorted by name.
static PRESETS: [Preset; 30] = presets![
    "anthropic",
    "anthropic-telemetry",
    "atlassian",
    "bitbucket",
    "deepseek",
    "discord",
    "doh",
    "github",
    "github-api",
    "github-git",
    "github-read",
    "github-ssh",
    "gitlab",
    "google-ai",
    "groq",
    "huggingface",
    "matrix",
    "microsoft-graph",
    "mistral",
    "ollama-local",
    "openai",
    "openclaw",
    "openrouter",
    "paste",
    "relays",
    "slack",
    "telegram",
    "telemetry",
    "whatsapp",
    "xai",
];

/// Presets that only deny, and the code of the warning about a host of theirs that is allowed.
pub(super) const DENY_PRESETS: [(&str, &str); 3] =
    [("doh", "host-doh"), ("relays", "host-relay"), ("paste", "host-paste")];

/// All presets, sorted by name.
#[must_use]
pub fn presets() -> &'static [Preset] {
    &PRESETS
}

impl Preset {
    /// The preset of a name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        PRESETS.iter().find(|preset| preset.name == name)
    }

    /// What it is for, in a line.
    #[must_use]
    pub fn summary(&self) -> &'static str {
        let first = self.text.lines().next().unwrap_or_default();
        first.split_once(": ").map_or(first, |(_, summary)| summary)
    }
}

/// What the presets say, read once.
pub(super) fn document(name: &str) -> Option<&'static Document> {
    static DOCUMENTS: LazyLock<BTreeMap<&str, Document>> = LazyLock::new(|| {
        let read = |preset: &'static Preset| {
            let label = format!("preset/{}", preset.name);
            let bytes = preset.text.as_bytes().into();
            let (document, _) = parse(&FileText { path: label.as_str().into(), label: label.into(), bytes });
            Some((preset.name, document?))
        };
        PRESETS.iter().filter_map(read).collect()
    });
    DOCUMENTS.get(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allowlist::{Severity, section::Item};

    #[test]
    fn every_preset_is_sound_and_says_why() {
        let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/allowlist/presets")).unwrap();
        assert_eq!(files.count(), PRESETS.len());
        assert!(PRESETS.is_sorted_by_key(|preset| preset.name));
        for preset in presets() {
            let label: std::sync::Arc<str> = preset.name.into();
            let bytes = preset.text.as_bytes().into();
            let (document, found) = parse(&FileText { path: label.clone(), label, bytes });
            assert!(found.iter().all(|found| found.severity == Severity::Warning), "{found:?}");
            let document = document.unwrap();
            assert!(!preset.summary().is_empty() && preset.text.starts_with(&format!("# {}: ", preset.name)));
            for item in document.common.allow.iter().chain(&document.common.deny) {
                let Item::Entry(spec) = item else { panic!("{} uses a group", preset.name) };
                let options = spec.options.as_ref().unwrap_or_else(|| panic!("{spec:?}"));
                assert!(options.note.as_ref().is_some_and(|note| note.reason.is_some()), "{spec:?}");
                let denies = document.common.deny.contains(item);
                assert!(denies || options.ports.is_some(), "{spec:?} of {} has no ports", preset.name);
            }
            for named in &document.common.uses {
                assert!(Preset::find(&named.name).is_some());
            }
        }
        assert!(DENY_PRESETS.iter().all(|(name, _)| document(name).is_some()));
    }
}
