//! The shape of an allowlist file: a bare list, or a map with the keys of the language.
//!
//! Knows nothing of YAML's syntax: it reads a tree of nodes. What names stand for (groups, presets) is looked up later.

use super::{
    FileText,
    agent::{AgentSection, Test},
    diagnostic::{Diagnostic, Findings, Source, Span},
    entry::Purpose,
    reader::{Field, Reader},
    section::Item,
    spec::Defaults,
    yaml::{self, Node, Value},
};
use crate::policy::Mode;
use std::{collections::BTreeMap, sync::Arc};

/// Largest file in bytes: about 100,000 plain entries.
pub const MAX_BYTES: usize = 4 * 1024 * 1024;

/// Keys of the top level.
pub(super) const KEYS: [&str; 10] =
    ["version", "mode", "use", "include", "allow", "deny", "groups", "defaults", "agents", "tests"];
/// Keys of `defaults`.
pub(super) const DEFAULT_KEYS: [&str; 3] = ["ports", "max_tunnel", "owner"];

/// A name that stands for something else, and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) span: Span,
}

/// What is allowed and denied at one place of a file: at its top, or by an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) uses: Vec<Named>,
    pub(super) allow: Vec<Item>,
    pub(super) deny: Vec<Item>,
}

/// A group of entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) items: Vec<Item>,
    pub(super) span: Span,
}

/// A file without mistakes of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Document {
    pub(super) source: Source,
    pub(super) label: Arc<str>,
    pub(super) mode: Option<(Mode, Span)>,
    pub(super) includes: Vec<Named>,
    pub(super) common: Section,
    pub(super) groups: BTreeMap<String, Group>,
    pub(super) defaults: Defaults,
    pub(super) agents: Vec<AgentSection>,
    pub(super) tests: Vec<Test>,
}

impl Document {
    /// Whether its rules can change without an edit of it, with the groups of other files.
    pub(super) fn depends(&self) -> bool {
        let group = |item: &Item| matches!(item, Item::Group { .. });
        let sections = std::iter::once(&self.common).chain(self.agents.iter().map(|agent| &agent.section));
        let items = sections.flat_map(|section| section.allow.iter().chain(&section.deny));
        !self.groups.is_empty() || items.into_iter().any(group)
    }

    /// Gives up what is known in the form of rules.
    pub(super) fn forget_entries(&mut self) {
        for section in
            std::iter::once(&mut self.common).chain(self.agents.iter_mut().map(|one| &mut one.section))
        {
            *section = Section::default();
        }
    }
}

/// Reads one file, and goes on after a mistake to find them all. A file with an error gives nothing, so that a
/// half-understood file is never enforced.
pub(super) fn parse(file: &FileText) -> (Option<Document>, Findings) {
    let source = match text(file) {
        Ok(source) => source,
        Err(found) => return (None, (*found).into()),
    };
    let root = match yaml::read(&source) {
        Ok(root) => root,
        Err(found) => return (None, (*found).into()),
    };
    let mut document = Document {
        source: source.clone(),
        label: Arc::clone(&file.label),
        mode: None,
        includes: Vec::new(),
        common: Section::default(),
        groups: BTreeMap::new(),
        defaults: Defaults::default(),
        agents: Vec::new(),
        tests: Vec::new(),
    };
    let mut reader = Reader::new(&source);
    reader.document(&root, &mut document);
    ((!reader.found.stops()).then_some(document), reader.found)
}

fn text(file: &FileText) -> Result<Source, Box<Diagnostic>> {
    if file.bytes.len() > MAX_BYTES {
        let found = Diagnostic::whole_file(
            Arc::clone(&file.path),
            "file-too-large",
            format!("the file has {} bytes, at most {MAX_BYTES} are read", file.bytes.len()),
        );
        return Err(Box::new(found.help("split it into several files")));
    }
    let text = std::str::from_utf8(&file.bytes).map_err(|error| {
        let text: Arc<str> = String::from_utf8_lossy(&file.bytes).into();
        let at = error.valid_up_to();
        let source = Source { path: Arc::clone(&file.path), text };
        let span = Span::of(&source.text, at..at + 1);
        let found = Diagnostic::error(&source, "not-utf8", span, "this is not UTF-8 text");
        Box::new(found.help("save the file as UTF-8"))
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    Ok(Source { path: Arc::clone(&file.path), text: text.into() })
}

impl Reader<'_> {
    fn document(&mut self, root: &Node, document: &mut Document) {
        match &root.value {
            Value::List(items) if !items.is_empty() => {
                document.common.allow = self.items(items, Purpose::Allow);
            }
            Value::Map(pairs) if !pairs.is_empty() => self.top(root, pairs, document),
            Value::Null | Value::List(_) | Value::Map(_) => self.refuse(
                "file-empty",
                &root.span,
                "the file lists nothing",
                "to deny everything, write `allow: []`",
            ),
            Value::Bool(_) | Value::Number | Value::Text(_) => self.refuse(
                "file-shape",
                &root.span,
                format!("found {}, expected a list of hosts", root.value.kind()),
                "begin each line with a dash: `- a.com`",
            ),
        }
    }

    fn top(&mut self, root: &Node, pairs: &[(Node, Node)], document: &mut Document) {
        let mistakes = self.found.count();
        let mut says_something = false;
        for field in self.fields(pairs, &KEYS) {
            let value = field.value;
            says_something |=
                matches!(field.name, "allow" | "deny" | "use" | "include" | "groups" | "agents");
            match field.name {
                "version" => self.version(value),
                "mode" => document.mode = self.mode(value).map(|mode| (mode, value.span.clone())),
                "include" => document.includes = self.names(value, "include", "file names"),
                "groups" => document.groups = self.groups(value),
                "defaults" => document.defaults = self.defaults(value),
                "agents" => document.agents = self.agents(value),
                "tests" => document.tests = self.tests(value),
                _ => self.section_field(&field, &mut document.common),
            }
        }
        self.check_includes(&document.includes);
        if !says_something && self.found.count() == mistakes {
            self.refuse(
                "allow-missing",
                &root.span,
                "the file has no `allow`",
                "add `allow:` with a list of hosts; to deny everything, write `allow: []`",
            );
        }
    }

    /// `use`, `allow` or `deny`.
    pub(super) fn section_field(&mut self, field: &Field<'_>, section: &mut Section) {
        match field.name {
            "use" => section.uses = self.names(field.value, "use", "presets"),
            "allow" => section.allow = self.entries(field.value, "allow", Purpose::Allow),
            _ => section.deny = self.entries(field.value, "deny", Purpose::Deny),
        }
    }

    fn entries(&mut self, value: &Node, key: &str, purpose: Purpose) -> Vec<Item> {
        let items = self.list(value, key, "hosts").unwrap_or_default();
        self.items(items, purpose)
    }

    fn names(&mut self, value: &Node, key: &str, what: &str) -> Vec<Named> {
        let mut names = Vec::new();
        let items = self.list(value, key, what).unwrap_or_default();
        if self.bounded_list(value, items, "split the file").is_none() {
            return names;
        }
        for item in items {
            if let Some(name) = self.text(item, "a name") {
                names.push(Named { name: name.to_owned(), span: item.span.clone() });
            }
        }
        names
    }

    fn version(&mut self, value: &Node) {
        let written = self.written(value);
        if !matches!(value.value, Value::Number) || written != "1" {
            let found = format!("found version `{written}`, expected 1");
            self.refuse("version", &value.span, found, "write `version: 1`");
        }
    }

    fn groups(&mut self, value: &Node) -> BTreeMap<String, Group> {
        let mut groups = BTreeMap::new();
        for (key, value) in self.map(value, "groups").unwrap_or_default() {
            let Some(name) = self.name(key, "group") else { continue };
            let items = self.list(value, &name, "hosts").unwrap_or_default();
            let items = self.items(items, Purpose::Allow);
            groups.insert(name, Group { items, span: key.span.clone() });
        }
        groups
    }

    /// The name of a group or an agent.
    pub(super) fn name(&mut self, key: &Node, what: &str) -> Option<String> {
        const MAX: usize = 100;
        let text = self.text(key, "a name")?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if !text.is_empty() && text.len() <= MAX && text.chars().all(plain) {
            return Some(text.to_owned());
        }
        let found = format!("`{text}` is no name of {} {what}", if what == "agent" { "an" } else { "a" });
        self.refuse(
            "name",
            &key.span,
            found,
            format!("use letters, digits, `-`, `_` and `.`, at most {MAX}"),
        );
        None
    }

    fn defaults(&mut self, value: &Node) -> Defaults {
        let mut defaults = Defaults::default();
        let pairs = self.map(value, "defaults").unwrap_or_default();
        for field in self.fields(pairs, &DEFAULT_KEYS) {
            match field.name {
                "ports" => defaults.ports = self.ports(field.value),
                "max_tunnel" => defaults.max_tunnel = self.max_tunnel(field.value),
                _ => {
                    let mut note = crate::policy::Note::default();
                    self.note(&mut note, "owner", field.value);
                    defaults.owner = note.owner;
                }
            }
        }
        defaults
    }

    fn check_includes(&mut self, includes: &[Named]) {
        for Named { name, span } in includes {
            let parts: Vec<&str> = name.split('/').collect();
            let (file, directories) =
                parts.split_last().map_or(("", [].as_slice()), |(last, rest)| (*last, rest));
            let help = "write a path below the file's own directory, such as teams/*.yaml";
            let why = if name.starts_with('/') || name.contains('\\') {
                "is not relative"
            } else if parts.iter().any(|part| matches!(*part, "" | "." | "..")) {
                "has an empty part or dots"
            } else if directories.iter().any(|part| part.contains('*')) || file.matches('*').count() > 1 {
                "has a star elsewhere than once in the file's name"
            } else if !(file.ends_with(".yaml") || file.ends_with(".yml")) {
                "does not end in .yaml or .yml"
            } else {
                continue;
            };
            self.refuse("include-path", span, format!("`{name}` {why}"), help);
        }
    }
}
