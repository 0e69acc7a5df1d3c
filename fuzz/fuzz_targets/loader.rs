//! Hostile allowlist files: whatever they hold, they are read or explained, in bounded time and memory.
#![no_main]

use exeat::{
    allowlist::{FileText, Severity, Snippet, read},
    envoy::{Profile, compile},
    policy::Timestamp,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let now = Timestamp::parse("2026-01-01").expect("a date");
    // Two files that may refer to each other.
    let at = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (first, second) = bytes.split_at(at);
    let files = [("a.yaml", first), ("b.yaml", second.get(1..).unwrap_or(b"- b.test"))].map(|(name, text)| FileText {
        path: name.into(),
        label: name.into(),
        bytes: text.to_vec().into(),
    });
    let loaded = read(&files, now);
    let mut failed = false;
    for diagnostic in loaded.files.iter().flat_map(|file| &file.diagnostics) {
        failed |= diagnostic.severity == Severity::Error;
        assert!(!Snippet { diagnostic, colour: false }.to_string().is_empty());
    }
    assert_eq!(failed, loaded.policies.is_none());
    for (_, policy) in loaded.policies.iter().flat_map(|policies| policies.policies()) {
        assert!(!compile(&policy.at(now), &Profile::default()).is_empty());
    }
});
