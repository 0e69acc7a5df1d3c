//! What is wrong with a file, where, and how to mend it.

use std::{ops::Range, sync::Arc};

/// Most findings of one file that are kept: each is rendered, logged and shown in the status.
const MAX_FINDINGS: usize = 20;
/// Longest text of a finding in characters: a file's content may be part of it.
const MAX_TEXT: usize = 1000;

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

/// A file's content must not break a log line, fill it, or steer a terminal.
fn printable(text: &str) -> String {
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    match text.char_indices().nth(MAX_TEXT) {
        None => text.chars().map(plain).collect(),
        Some((end, _)) => text.get(..end).unwrap_or_default().chars().map(plain).chain(['…']).collect(),
    }
}

/// What was found in one file: the first errors and warnings, and how many there are. A file that is one mistake from its
/// first line to its last costs no more than to read it.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings {
    /// As found; of each severity at most [`MAX_FINDINGS`].
    kept: Vec<Diagnostic>,
    errors: usize,
    warnings: usize,
}

impl Findings {
    pub(super) fn push(&mut self, found: Diagnostic) {
        let count = match found.severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        };
        *count += 1;
        if *count <= MAX_FINDINGS {
            self.kept.push(found);
        }
    }

    /// Those of another list behind these.
    pub(super) fn append(&mut self, other: Self) {
        let all = (self.errors + other.errors, self.warnings + other.warnings);
        other.kept.into_iter().for_each(|found| self.push(found));
        (self.errors, self.warnings) = all;
    }

    /// How many there are, kept or not.
    pub(super) const fn count(&self) -> usize {
        self.errors + self.warnings
    }

    /// Whether anything stops the file.
    pub(super) const fn stops(&self) -> bool {
        self.errors > 0
    }

    /// Whether one more error would only be counted.
    pub(super) const fn is_full(&self) -> bool {
        self.errors >= MAX_FINDINGS
    }

    /// Those that are kept.
    pub(super) fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.kept.iter()
    }

    /// The most important ones, with a count of the others.
    pub(super) fn most_important(&self) -> Vec<Diagnostic> {
        let mut shown = self.kept.clone();
        let more = self.count().saturating_sub(MAX_FINDINGS);
        if more > 0 {
            shown.sort_by_key(|found| found.severity == Severity::Warning);
            shown.truncate(MAX_FINDINGS);
            if let Some(last) = shown.last_mut() {
                last.message.push_str(&format!(" (and {more} more findings in this file)"));
            }
        }
        shown
    }
}

impl FromIterator<Diagnostic> for Findings {
    fn from_iter<I: IntoIterator<Item = Diagnostic>>(found: I) -> Self {
        let mut findings = Self::default();
        found.into_iter().for_each(|one| findings.push(one));
        findings
    }
}

impl From<Diagnostic> for Findings {
    fn from(found: Diagnostic) -> Self {
        Self::from_iter([found])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(message: &str) -> Diagnostic {
        Diagnostic::whole_file("f".into(), "code", message)
    }

    #[test]
    fn many_findings_cost_no_more_than_is_shown() {
        let warnings = (0..1000).map(|n| error(&format!("warning {n}")).warning());
        let mut all: Findings = warnings.chain((0..15).map(|n| error(&format!("error {n}")))).collect();
        all.append((15..500).map(|n| error(&format!("error {n}"))).collect());
        assert_eq!((all.count(), all.kept.len(), all.stops()), (1500, 2 * MAX_FINDINGS, true));
        let shown = all.most_important();
        assert_eq!(shown.len(), MAX_FINDINGS);
        assert!(shown.iter().all(|found| found.severity == Severity::Error), "errors first: {shown:?}");
        assert_eq!(shown[0].message, "error 0");
        assert_eq!(shown[19].message, "error 19 (and 1480 more findings in this file)");
    }

    #[test]
    fn a_text_is_as_long_as_a_person_reads() {
        let found = error(&"ö".repeat(4_000_000)).help("a\nb".repeat(4_000_000));
        assert_eq!(found.message.chars().count(), MAX_TEXT + 1);
        assert!(found.message.ends_with("ö…") && found.help.unwrap().starts_with("a\u{fffd}b"));
        assert_eq!(error(&"ö".repeat(MAX_TEXT)).message, "ö".repeat(MAX_TEXT), "not a character too few");
    }
}
