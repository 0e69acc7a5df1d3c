//! The shape of an allowlist file: a bare list, or a map with `version` and `allow`.
//!
//! Knows nothing of YAML's syntax: it reads a tree of nodes.

use super::{
    FileText, Parsed,
    diagnostic::{Diagnostic, Severity, Source, Span},
    entry,
    suggest::nearest,
    yaml::{self, Node, Value},
};
use crate::policy::{HostPattern, Origin, Ports, Rule};
use std::{collections::BTreeMap, sync::Arc};

/// Largest file in bytes: about 100,000 plain entries.
pub const MAX_BYTES: usize = 4 * 1024 * 1024;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Most findings of one file that are shown.
const MAX_DIAGNOSTICS: usize = 20;

/// Keys of the top level that this version enforces.
const KEYS: [&str; 2] = ["version", "allow"];
/// Keys of the language that a later version enforces; refused until then, never ignored.
const LATER_KEYS: [&str; 8] = ["mode", "use", "include", "deny", "groups", "defaults", "agents", "tests"];
/// Keys of an entry that a later version enforces.
const LATER_ENTRY_KEYS: [&str; 16] = [
    "host",
    "hosts",
    "ports",
    "protocol",
    "tls",
    "methods",
    "paths",
    "private",
    "addresses",
    "until",
    "mode",
    "max_tunnel",
    "limits",
    "owner",
    "reason",
    "ticket",
];

/// One entry and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it allows.
    pub rule: Rule,
    /// Where it stands.
    pub span: Span,
}

/// The entries of a file that has no errors. May be empty where the file says `allow: []`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntries {
    /// In the order of the file.
    pub entries: Vec<Entry>,
}

/// Reads one file, and goes on after a mistake to find them all.
#[must_use]
pub fn parse(file: &FileText) -> Parsed {
    let refused = |diagnostic| Parsed { entries: None, diagnostics: vec![diagnostic] };
    if file.bytes.len() > MAX_BYTES {
        return refused(
            Diagnostic::whole_file(
                Arc::clone(&file.path),
                "file-too-large",
                format!("the file has {} bytes, at most {MAX_BYTES} are read", file.bytes.len()),
            )
            .help("split it into several files"),
        );
    }
    let text = match std::str::from_utf8(&file.bytes) {
        Ok(text) => text,
        Err(error) => {
            let text: Arc<str> = String::from_utf8_lossy(&file.bytes).into();
            let at = error.valid_up_to();
            let source = Source { path: Arc::clone(&file.path), text };
            let span = Span::of(&source.text, at..at + 1);
            return refused(
                Diagnostic::error(&source, "not-utf8", span, "this is not UTF-8 text")
                    .help("save the file as UTF-8"),
            );
        }
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let source = Source { path: Arc::clone(&file.path), text: text.into() };
    let root = match yaml::read(&source) {
        Ok(root) => root,
        Err(diagnostic) => return refused(*diagnostic),
    };
    let mut reader = Reader { source: &source, label: &file.label, diagnostics: Vec::new() };
    let entries = reader.document(&root);
    let failed = reader.diagnostics.iter().any(|found| found.severity == Severity::Error);
    reader.summarize();
    Parsed {
        entries: entries.filter(|_| !failed).map(|entries| FileEntries { entries }),
        diagnostics: reader.diagnostics,
    }
}

struct Reader<'a> {
    source: &'a Source,
    label: &'a Arc<str>,
    diagnostics: Vec<Diagnostic>,
}

impl Reader<'_> {
    fn error(&self, code: &'static str, span: &Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(self.source, code, span.clone(), message)
    }

    /// Errors first, and not more than a person reads: each one is rendered, logged and shown in the status.
    fn summarize(&mut self) {
        let all = self.diagnostics.len();
        if all <= MAX_DIAGNOSTICS {
            return;
        }
        self.diagnostics.sort_by_key(|found| found.severity == Severity::Warning);
        self.diagnostics.truncate(MAX_DIAGNOSTICS);
        if let Some(last) = self.diagnostics.last_mut() {
            let more = all - MAX_DIAGNOSTICS;
            last.message.push_str(&format!(" (and {more} more findings in this file)"));
        }
    }

    fn document(&mut self, root: &Node) -> Option<Vec<Entry>> {
        match &root.value {
            Value::List(items) if !items.is_empty() => Some(self.list(items)),
            Value::Map(pairs) if !pairs.is_empty() => self.map(root, pairs),
            Value::Null | Value::List(_) | Value::Map(_) => {
                let found = self
                    .error("file-empty", &root.span, "the file lists nothing")
                    .help("to deny everything, write `allow: []`");
                self.diagnostics.push(found);
                None
            }
            Value::Bool | Value::Number | Value::Text(_) => {
                let found = self
                    .error(
                        "file-shape",
                        &root.span,
                        format!("found {}, expected a list of hosts", root.value.kind()),
                    )
                    .help("begin each line with a dash: `- a.com`");
                self.diagnostics.push(found);
                None
            }
        }
    }

    fn map(&mut self, root: &Node, pairs: &[(Node, Node)]) -> Option<Vec<Entry>> {
        let mut entries = None;
        for (key, value) in pairs {
            match &key.value {
                Value::Text(name) if name == "version" => self.version(value),
                Value::Text(name) if name == "allow" => entries = self.allow(value),
                Value::Text(name) => {
                    let found = self.unknown_key(&key.span, name, &KEYS, &LATER_KEYS);
                    self.diagnostics.push(found);
                }
                other => {
                    let found = self.error("unknown-key", &key.span, format!("{} is no key", other.kind()));
                    self.diagnostics.push(found);
                }
            }
        }
        let named = pairs.iter().any(|(key, _)| matches!(&key.value, Value::Text(name) if name == "allow"));
        if !named && self.diagnostics.is_empty() {
            let found = self
                .error("allow-missing", &root.span, "the file has no `allow`")
                .help("add `allow:` with a list of hosts; to deny everything, write `allow: []`");
            self.diagnostics.push(found);
        }
        entries
    }

    fn unknown_key(&self, span: &Span, name: &str, known: &[&str], later: &[&str]) -> Diagnostic {
        if later.contains(&name) {
            return self
                .error("key-not-supported", span, format!("`{name}` cannot be enforced by exeat {VERSION}"))
                .help("take it out; a later version will know it");
        }
        let found = self.error("unknown-key", span, format!("unknown key `{name}`"));
        let candidates: Vec<_> = known.iter().chain(later).copied().collect();
        found.help(match nearest(name, &candidates) {
            Some(word) => format!("did you mean `{word}`?"),
            None if known.is_empty() => "write the host alone, such as `- a.com:8443`".to_owned(),
            None => format!("known keys: {}", known.join(", ")),
        })
    }

    fn version(&mut self, value: &Node) {
        let written = self.source.text.get(value.span.bytes.clone()).unwrap_or_default();
        if matches!(value.value, Value::Number) && written.trim() == "1" {
            return;
        }
        let found = self
            .error("version", &value.span, format!("found version `{}`, expected 1", written.trim()))
            .help("write `version: 1`");
        self.diagnostics.push(found);
    }

    fn allow(&mut self, value: &Node) -> Option<Vec<Entry>> {
        match &value.value {
            Value::List(items) => Some(self.list(items)),
            Value::Null => {
                let found = self
                    .error("allow-empty", &value.span, "`allow` has nothing behind it")
                    .help("list hosts below it, or write `allow: []` to deny everything");
                self.diagnostics.push(found);
                None
            }
            other => {
                let found = self
                    .error(
                        "allow-shape",
                        &value.span,
                        format!("found {}, expected a list of hosts", other.kind()),
                    )
                    .help("begin each line with a dash: `- a.com`");
                self.diagnostics.push(found);
                None
            }
        }
    }

    fn list(&mut self, items: &[Node]) -> Vec<Entry> {
        let mut entries = Vec::with_capacity(items.len());
        let mut seen: BTreeMap<(HostPattern, Ports), Span> = BTreeMap::new();
        for item in items {
            let Some((pattern, ports)) = self.entry(item) else { continue };
            if let Some(first) = seen.get(&(pattern.clone(), ports.clone())) {
                let found = self
                    .error("duplicate-entry", &item.span, format!("already listed on line {}", first.line))
                    .help("take one of the two out")
                    .related(first.clone(), "first listed here");
                self.diagnostics.push(found);
                continue;
            }
            seen.insert((pattern.clone(), ports.clone()), item.span.clone());
            let origin = Origin { file: Arc::clone(self.label), line: item.span.line };
            entries.push(Entry { rule: Rule { pattern, ports, origin }, span: item.span.clone() });
        }
        entries
    }

    fn entry(&mut self, item: &Node) -> Option<(HostPattern, Ports)> {
        let written = self.source.text.get(item.span.bytes.clone()).unwrap_or_default().trim();
        let found = match &item.value {
            Value::Text(text) => match entry::parse(text) {
                Ok(parsed) => {
                    for note in parsed.notes {
                        let found = self.error(note.code, &item.span, note.message).warning().help(note.help);
                        self.diagnostics.push(found);
                    }
                    return Some((parsed.pattern, parsed.ports));
                }
                Err(problem) => {
                    let found = self.error(problem.code, &item.span, problem.message);
                    found.help(problem.help)
                }
            },
            Value::Number => self
                .error("entry-number", &item.span, format!("`{written}` is a number, expected a host"))
                .help(
                    "write a host name; addresses in short, decimal or hexadecimal spelling are not accepted",
                ),
            Value::Bool => self
                .error("entry-shape", &item.span, format!("`{written}` is a boolean, expected a host"))
                .help("write a host name such as a.com"),
            Value::Null => self
                .error("entry-shape", &item.span, "found an empty list item, expected a host")
                .help("write a host behind the dash, or take the line out"),
            Value::List(_) => self
                .error("entry-shape", &item.span, "found a list inside the list, expected a host")
                .help("one host per line; an IPv6 address needs quotes"),
            Value::Map(pairs) => {
                let found = self.map_entry(item, pairs);
                self.diagnostics.extend(found);
                return None;
            }
        };
        self.diagnostics.push(found);
        None
    }

    /// A colon makes a map of what was meant as a host, or a later version's entry stands here.
    fn map_entry(&self, item: &Node, pairs: &[(Node, Node)]) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        for (key, value) in pairs {
            let Value::Text(name) = &key.value else { continue };
            let port = self.source.text.get(value.span.bytes.clone()).unwrap_or_default().trim();
            found.push(match value.value {
                Value::Number if name.contains('.') => self
                    .error(
                        "entry-space",
                        &key.span,
                        format!("`{name}: {port}` with a space is a YAML map, not a host"),
                    )
                    .help(format!("write {name}:{port} without the space")),
                Value::Null if name.contains('.') => self
                    .error(
                        "entry-colon",
                        &key.span,
                        format!("`{name}:` ends in a colon, which makes it a YAML map"),
                    )
                    .help(format!("write {name}, or {name}:443 for one port")),
                _ if name == "host" => self
                    .error(
                        "key-not-supported",
                        &key.span,
                        format!("entries with keys cannot be enforced by exeat {VERSION}"),
                    )
                    .help("write the host alone, with the port behind it: `- a.com:8443`"),
                _ => self.unknown_key(&key.span, name, &[], &LATER_ENTRY_KEYS),
            });
        }
        if found.is_empty() {
            let error = self.error("entry-shape", &item.span, "found a map, expected a host");
            found.push(error.help("write the host alone, such as `- a.com:8443`"));
        }
        found
    }
}
