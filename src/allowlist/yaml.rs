//! YAML text to a tree of nodes with places. The only file that names the YAML crate.
//!
//! Knows nothing of allowlists: it knows documents. `serde_yaml` is deprecated and lets duplicate keys and null lists
//! pass in silence, which in an allowlist is a hole; `serde-saphyr` refuses the one and shows the other as
//! [`Value::Null`], bounds its work, and gives the place of every value.

use super::diagnostic::{Diagnostic, Source, Span};
use serde::{
    Serialize,
    de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::{Error, Spanned, budget::BudgetBreach};
use std::fmt;

/// Deepest nesting; an allowlist needs three.
const MAX_DEPTH: usize = 16;
/// Most nodes of one file: about 200,000 plain entries.
const MAX_NODES: usize = 250_000;

/// A value with its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// What it is.
    pub(super) value: Value,
    /// Where it is.
    pub(super) span: Span,
}

/// What YAML's core schema makes of a node. Unquoted numbers and booleans are told apart from strings, since neither
/// can be meant as a host.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number,
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

impl Value {
    /// What to call it in a message.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Number => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

/// Reads a list of texts and nothing more: what benchmarks compare with.
pub fn from_yaml(text: &str) -> Result<Vec<String>, fmt::Error> {
    serde_saphyr::from_str(text).map_err(|_| fmt::Error)
}

/// Writes a value as a document. It can fail only for values that are no documents.
pub fn to_yaml(value: &impl Serialize) -> Result<String, fmt::Error> {
    serde_saphyr::to_string(value).map_err(|_| fmt::Error)
}

/// Reads one document.
pub(super) fn read(source: &Source) -> Result<Node, Box<Diagnostic>> {
    if let Some(at) = tag(&source.text) {
        let span = Span::of(&source.text, at..at + 1);
        let found = Diagnostic::error(source, "yaml-tag", span, "YAML tags (`!name`) are not accepted");
        return Err(Box::new(found.help("take the `!` out; to deny a host, list it below `deny:`")));
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_anchors: 0,
            max_aliases: 0,
            max_documents: 1,
        },
        merge_keys: serde_saphyr::options::MergeKeyPolicy::Error,
    };
    serde_saphyr::from_str_with_options::<Spanned<Raw>>(&source.text, options)
        .map(|raw| raw_to_node(raw, &source.text))
        .map_err(|error| Box::new(explain(source, &error)))
}

/// The tree as serde delivers it; places still in the YAML crate's terms.
enum Raw {
    Null,
    Bool(bool),
    Number,
    Text(String),
    List(Vec<Spanned<Self>>),
    Map(Vec<(Spanned<Self>, Spanned<Self>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Raw, E> {
        Ok(Raw::Number)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Raw, E> {
        Ok(Raw::Number)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Raw, E> {
        Ok(Raw::Number)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Raw, E> {
        Ok(Raw::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Raw, E> {
        Ok(Raw::Number)
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Raw, E> {
        Ok(Raw::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Raw::Map(pairs))
    }
}

fn raw_to_node(raw: Spanned<Raw>, text: &str) -> Node {
    let span = span_at(raw.referenced, text);
    let value = match raw.value {
        Raw::Null => Value::Null,
        Raw::Bool(value) => Value::Bool(value),
        Raw::Number => Value::Number,
        Raw::Text(content) => Value::Text(content),
        Raw::List(items) => Value::List(items.into_iter().map(|item| raw_to_node(item, text)).collect()),
        Raw::Map(pairs) => Value::Map(
            pairs
                .into_iter()
                .map(|(key, value)| (raw_to_node(key, text), raw_to_node(value, text)))
                .collect(),
        ),
    };
    Node { value, span }
}

/// The YAML crate's place in ours: lines are trusted, the rest is clamped to the text.
fn span_at(location: serde_saphyr::Location, text: &str) -> Span {
    let place = location.span();
    let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    match (place.byte_offset(), place.byte_len()) {
        (Some(offset), Some(length)) => {
            let start = count(offset);
            let clamp = |n: u64| u32::try_from(n).unwrap_or(u32::MAX).max(1);
            let span =
                Span { line: clamp(location.line()), column: clamp(location.column()), bytes: start..start };
            span.widened(text, count(length))
        }
        _ => Span::of(text, text.len()..text.len()),
    }
}

/// The parser's error in the words of someone who edits a list of hosts.
fn explain(source: &Source, error: &Error) -> Diagnostic {
    let error = error.without_snippet();
    let text = &*source.text;
    // The parser counts lines and columns of an error differently from those of a value: only its offset is taken, and
    // what it notices at the start of a line belongs to the end of the one before.
    let bytes = error.location().map_or(text.len()..text.len(), |location| span_at(location, text).bytes);
    let start = text.get(..bytes.start).map_or(bytes.start, |before| before.trim_end_matches('\n').len());
    let span = Span::of(text, if bytes.is_empty() { start..start } else { bytes });
    let line = line_of(text, span.line);
    if let Some(found) = unquoted_star(text, span.line) {
        let host = text.get(found.clone()).unwrap_or_default().to_owned();
        return Diagnostic::error(
            source,
            "yaml-unquoted-star",
            Span::of(text, found),
            format!("`{host}` without quotes is a YAML alias, not a host"),
        )
        .help(match host.strip_prefix("*.") {
            Some(name) => format!("write \"{host}\" with quotes, or .{name} if {name} itself is meant too"),
            None => format!("write \"{host}\" with quotes"),
        });
    }
    let message = error.to_string();
    let message = message.lines().next().unwrap_or_default();
    let message = message.split(" at line ").next().unwrap_or(message);
    let refused =
        |code, message: String, help: &str| Diagnostic::error(source, code, span.clone(), message).help(help);
    match error {
        Error::DuplicateMappingKey { key, .. } => refused(
            "yaml-duplicate-key",
            match key {
                Some(key) => format!("the key `{key}` stands here a second time"),
                None => "a key stands here a second time".to_owned(),
            },
            "merge the two into one",
        ),
        Error::MultipleDocuments { .. } | Error::Budget { breach: BudgetBreach::Documents { .. }, .. } => {
            refused(
                "yaml-documents",
                "a second document begins here".to_owned(),
                "write one document per file",
            )
        }
        Error::Budget { breach: BudgetBreach::Anchors { .. } | BudgetBreach::Aliases { .. }, .. } => {
            let at = text.get(..span.bytes.start).unwrap_or_default().rfind('&').unwrap_or(span.bytes.start);
            Diagnostic::error(
                source,
                "yaml-anchor",
                Span::of(text, at..at + 1),
                "anchors and aliases (`&name`, `*name`) are not accepted",
            )
            .help("write each entry out")
        }
        Error::Budget { .. } => refused(
            "yaml-too-large",
            format!("the file is too large or too deeply nested: {message}"),
            "split it into several files",
        ),
        Error::MergeKeyNotAllowed { .. } => {
            refused("yaml-merge-key", "merge keys (`<<`) are not accepted".to_owned(), "write each entry out")
        }
        _ if line.trim_start().trim_start_matches("- ").starts_with('[') => refused(
            "yaml-bracket",
            format!("`[` begins a YAML list: {message}"),
            "IPv6 addresses are written with quotes: \"[::1]:8080\"",
        ),
        _ if line.starts_with('\t') => {
            refused("yaml-tab", "YAML does not indent with tabs".to_owned(), "use spaces")
        }
        _ => Diagnostic::error(source, "yaml-syntax", span.clone(), format!("not valid YAML: {message}")),
    }
}

/// Where a tag begins. The parser drops tags: `- !deny a.com` would allow a.com. No host has a `!`, so every one outside
/// of comments is a tag or an error.
fn tag(text: &str) -> Option<usize> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let comment = if line.trim_start().starts_with('#') { Some(0) } else { line.find(" #") };
        let code = line.get(..comment.unwrap_or(line.len())).unwrap_or(line);
        if let Some(at) = code.find('!') {
            return Some(start + at);
        }
        start += line.len();
    }
    None
}

fn line_of(text: &str, line: u32) -> &str {
    let index = usize::try_from(line).unwrap_or(usize::MAX).saturating_sub(1);
    text.lines().nth(index).unwrap_or_default()
}

/// Where an unquoted `*` begins the value of a line, looking at the line of the error first, then at all lines before
/// it: the parser may notice an alias late.
fn unquoted_star(text: &str, line: u32) -> Option<std::ops::Range<usize>> {
    let upto = usize::try_from(line).unwrap_or(usize::MAX);
    let mut start = 0;
    let mut found = None;
    for content in text.split_inclusive('\n').take(upto) {
        let value = content.trim_start_matches([' ', '-', '\t', '[', ',']);
        let value = value.split_once(": ").map_or(value, |(_, behind)| behind.trim_start_matches(['[', ' ']));
        if value.starts_with('*') {
            let at = start + (content.len() - value.len());
            let length = value.find([' ', ',', ']', '\n', '\r', '#']).unwrap_or(value.len());
            found = Some(at..at + length);
        }
        start += content.len();
    }
    found
}
