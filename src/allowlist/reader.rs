//! What the readers of all parts of a file share: shapes, keys, and the list of what is wrong.
//!
//! Knows nothing of the language.

use super::{
    diagnostic::{Diagnostic, Findings, Source, Span},
    suggest::nearest,
    yaml::{Node, Value},
};

/// Reads a file's tree, and goes on after a mistake to find them all.
pub(super) struct Reader<'a> {
    pub(super) source: &'a Source,
    pub(super) found: Findings,
}

/// A key with its value.
pub(super) struct Field<'a> {
    pub(super) name: &'a str,
    pub(super) value: &'a Node,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: &'a Source) -> Self {
        Self { source, found: Findings::default() }
    }

    pub(super) fn error(&self, code: &'static str, span: &Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(self.source, code, span.clone(), message)
    }

    /// Something is wrong.
    pub(super) fn refuse(
        &mut self,
        code: &'static str,
        span: &Span,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let found = self.error(code, span, message).help(help);
        self.found.push(found);
    }

    /// A value as it is written.
    pub(super) fn written(&self, node: &Node) -> &'a str {
        self.source.text.get(node.span.bytes.clone()).unwrap_or_default().trim()
    }

    pub(super) fn text<'n>(&mut self, node: &'n Node, example: &str) -> Option<&'n str> {
        if let Value::Text(text) = &node.value {
            return Some(text);
        }
        let found = format!("found {}, expected a text", node.value.kind());
        self.refuse("value-shape", &node.span, found, format!("write {example}"));
        None
    }

    pub(super) fn boolean(&mut self, node: &Node, key: &str) -> Option<bool> {
        if let Value::Bool(value) = node.value {
            return Some(value);
        }
        let found = format!("found {}, expected true or false", node.value.kind());
        self.refuse("value-shape", &node.span, found, format!("write `{key}: true` or `{key}: false`"));
        None
    }

    /// A list, which may be empty only if that is written.
    pub(super) fn list<'n>(&mut self, node: &'n Node, key: &str, what: &str) -> Option<&'n [Node]> {
        match &node.value {
            Value::List(items) => return Some(items),
            Value::Null => self.refuse(
                "list-empty",
                &node.span,
                format!("`{key}` has nothing behind it"),
                if key == "allow" {
                    "list hosts below it, or write `allow: []` to deny everything".to_owned()
                } else {
                    format!("list {what} below it, or take `{key}` out")
                },
            ),
            other => self.refuse(
                "list-shape",
                &node.span,
                format!("found {}, expected a list of {what}", other.kind()),
                format!("begin each line with a dash, or write `{key}: [...]`"),
            ),
        }
        None
    }

    pub(super) fn map<'n>(&mut self, node: &'n Node, key: &str) -> Option<&'n [(Node, Node)]> {
        match &node.value {
            Value::Map(pairs) => Some(pairs),
            other => {
                let found = format!("found {} behind `{key}`, expected keys with values", other.kind());
                self.refuse("value-shape", &node.span, found, "see the samples in the README");
                None
            }
        }
    }

    /// The fields of a map whose keys are known; the others are reported.
    pub(super) fn fields<'n>(&mut self, pairs: &'n [(Node, Node)], known: &[&str]) -> Vec<Field<'n>> {
        let mut fields = Vec::with_capacity(pairs.len());
        for (key, value) in pairs {
            match &key.value {
                Value::Text(name) if known.contains(&name.as_str()) => {
                    fields.push(Field { name, value });
                }
                Value::Text(name) => {
                    let found = self.unknown_key(&key.span, name, known);
                    self.found.push(found);
                }
                other => {
                    let found = self.error("unknown-key", &key.span, format!("{} is no key", other.kind()));
                    self.found.push(found);
                }
            }
        }
        fields
    }

    pub(super) fn unknown_key(&self, span: &Span, name: &str, known: &[&str]) -> Diagnostic {
        let found = self.error("unknown-key", span, format!("unknown key `{name}`"));
        found.help(match nearest(name, known) {
            Some(word) => format!("did you mean `{word}`?"),
            None => format!("known keys: {}", known.join(", ")),
        })
    }
}
