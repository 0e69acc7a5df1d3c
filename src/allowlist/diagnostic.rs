//! What is wrong with a file, where, and how to mend it.

use std::{ops::Range, sync::Arc};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The file is refused as a whole.
    Error,
    /// The file applies; a person should look.
    Warning,
}

impl Severity {
    /// The word that is shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// A file's name and text, shared by all its diagnostics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The path as the operator knows it.
    pub path: Arc<str>,
    /// The whole text.
    pub text: Arc<str>,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Bytes of the text.
    pub bytes: Range<usize>,
}

impl Span {
    /// The place of a byte range of `text`.
    #[must_use]
    pub fn of(text: &str, bytes: Range<usize>) -> Self {
        // Renderers cut the text here, which must not be inside a character.
        let start = text.floor_char_boundary(bytes.start);
        let end = text.ceil_char_boundary(bytes.end.max(start));
        let before = text.get(..start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self {
            line: count(before.matches('\n').count() + 1),
            column: count(before.get(line_start..).unwrap_or_default().chars().count() + 1),
            bytes: start..end,
        }
    }

    /// As it is, over `length` more bytes of `text`.
    pub(super) fn widened(self, text: &str, length: usize) -> Self {
        let start = text.floor_char_boundary(self.bytes.start);
        let end = text.ceil_char_boundary(start.saturating_add(length));
        Self { bytes: start..end, ..self }
    }
}

/// One finding about one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Stable identifier, such as `host-wildcard`.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// The file.
    pub source: Source,
    /// Where; nothing for the file as a whole.
    pub span: Option<Span>,
    /// What was found, and what was expected: lower case, no final point.
    pub message: String,
    /// What to type instead.
    pub help: Option<String>,
    /// Another place that belongs to it, with what it is.
    pub related: Option<(Span, &'static str)>,
}

impl Diagnostic {
    /// An error at a place.
    #[must_use]
    pub fn error(source: &Source, code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: Severity::Error,
            source: source.clone(),
            span: Some(span),
            message: printable(&message.into()),
            help: None,
            related: None,
        }
    }

    /// An error about the file as a whole.
    #[must_use]
    pub fn whole_file(path: Arc<str>, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: Severity::Error,
            source: Source { path, text: "".into() },
            span: None,
            message: printable(&message.into()),
            help: None,
            related: None,
        }
    }

    /// Adds what to type instead.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(printable(&help.into()));
        self
    }

    /// Points at a second place.
    #[must_use]
    pub fn related(mut self, span: Span, what: &'static str) -> Self {
        self.related = Some((span, what));
        self
    }

    /// Makes it a warning.
    #[must_use]
    pub fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// `allowlist.yaml:3:5`, or the path alone.
    #[must_use]
    pub fn place(&self) -> String {
        match &self.span {
            Some(span) => format!("{}:{}:{}", self.source.path, span.line, span.column),
            None => self.source.path.to_string(),
        }
    }
}

/// A file's content must not break a log line or steer a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
