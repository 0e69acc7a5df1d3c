//! Diagnostics as text: one line for logs and status, a snippet with carets for people.

use super::diagnostic::{Diagnostic, Severity};
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet as Block};
use std::fmt;

/// `allowlist.yaml:3:5: message (help)`, on one line whatever the file holds.
#[derive(Debug)]
pub struct OneLine<'a>(pub &'a Diagnostic);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.place(), self.0.message)?;
        if let Some(help) = &self.0.help {
            write!(f, "; {help}")?;
        }
        Ok(())
    }
}

/// The message over the source line with a caret, as rustc prints it.
#[derive(Debug)]
pub struct Snippet<'a> {
    /// What to show.
    pub diagnostic: &'a Diagnostic,
    /// Whether to colour it.
    pub colour: bool,
}

impl fmt::Display for Snippet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { diagnostic, colour } = self;
        let level = match diagnostic.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = format!("[{}] {}", diagnostic.code, diagnostic.message);
        let title = level.primary_title(title.as_str());
        let group = match &diagnostic.span {
            Some(span) => {
                let mut block = Block::source(&*diagnostic.source.text)
                    .path(&*diagnostic.source.path)
                    .annotation(AnnotationKind::Primary.span(span.bytes.clone()));
                if let Some((other, what)) = &diagnostic.related {
                    block = block.annotation(AnnotationKind::Context.span(other.bytes.clone()).label(*what));
                }
                title.element(block)
            }
            None => title.element(Level::NOTE.message(diagnostic.source.path.to_string())),
        };
        let group = match &diagnostic.help {
            Some(help) => group.element(Level::HELP.message(help.as_str())),
            None => group,
        };
        let renderer = if *colour { Renderer::styled() } else { Renderer::plain() };
        f.write_str(&renderer.render(&[group]))
    }
}
