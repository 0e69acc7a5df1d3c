//! `exeat check`: what is wrong with allowlist files, without a control plane.

use super::{FAILED, FINDINGS};
use crate::{
    allowlist::{Diagnostic, FileState, Severity, Snippet, codes, explain},
    cli::{CheckArgs, CheckFormat},
    server,
};
use anyhow::bail;
use serde::Serialize;
use std::{
    fmt::Write,
    io::{self, IsTerminal},
    process::ExitCode,
};

/// The code of what could not be read at all.
const UNREADABLE: &str = "unreadable";

pub(super) fn check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    if let Some(code) = &args.explain {
        let Some(text) = explain(code) else {
            bail!("`{code}` is no code; the codes are: {}", codes().collect::<Vec<_>>().join(", "));
        };
        println!("{code}: {text}");
        return Ok(ExitCode::SUCCESS);
    }
    let loaded = server::read(&args.paths);
    let report = Report::new(&loaded.files, loaded.policy.map(|policy| policy.rules().len()));
    let text = match args.format() {
        CheckFormat::Text => report.text(io::stdout().is_terminal()),
        CheckFormat::Json => format!("{}\n", serde_json::to_string(&report.json())?),
        CheckFormat::Github => report.github(),
    };
    print!("{text}");
    Ok(report.exit_code(args.strict))
}

/// All findings, in the order of files and lines.
struct Report<'a> {
    findings: Vec<&'a Diagnostic>,
    files: usize,
    /// How many entries are in force; none if a file is not valid.
    entries: Option<usize>,
}

impl<'a> Report<'a> {
    fn new(files: &'a [FileState], entries: Option<usize>) -> Self {
        let findings = files.iter().flat_map(|file| &file.diagnostics).collect();
        Self { findings, files: files.len(), entries }
    }

    fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|found| found.severity == severity).count()
    }

    fn exit_code(&self, strict: bool) -> ExitCode {
        if self.findings.iter().any(|found| found.code == UNREADABLE) {
            return ExitCode::from(FAILED);
        }
        let wrong = self.count(Severity::Error) > 0 || (strict && !self.findings.is_empty());
        if wrong { ExitCode::from(FINDINGS) } else { ExitCode::SUCCESS }
    }

    /// As rustc prints it, and a line that sums up.
    fn text(&self, colour: bool) -> String {
        let mut text = String::new();
        for diagnostic in &self.findings {
            text.push_str(&format!("{}\n\n", Snippet { diagnostic, colour }));
        }
        let [errors, warnings] = [Severity::Error, Severity::Warning].map(|severity| self.count(severity));
        text.push_str(&plural(self.files, "file", "files"));
        if let Some(entries) = self.entries {
            text.push_str(&format!(", {}", plural(entries, "entry", "entries")));
        }
        match (errors, warnings) {
            (0, 0) => text.push_str(": nothing to mend\n"),
            _ => text.push_str(&format!(
                ": {}, {} (exeat check --explain CODE says more)\n",
                plural(errors, "error", "errors"),
                plural(warnings, "warning", "warnings")
            )),
        }
        text
    }

    fn json(&self) -> Json<'_> {
        let findings = self.findings.iter().map(|found| Finding {
            path: &found.source.path,
            line: found.span.as_ref().map(|span| span.line),
            column: found.span.as_ref().map(|span| span.column),
            severity: found.severity.as_str(),
            code: found.code,
            message: &found.message,
            help: found.help.as_deref(),
        });
        Json { files: self.files, entries: self.entries, findings: findings.collect() }
    }

    /// Annotations of a GitHub workflow ("Workflow commands for GitHub Actions").
    fn github(&self) -> String {
        let mut text = String::new();
        for found in &self.findings {
            let mut message = found.message.clone();
            if let Some(help) = &found.help {
                message.push_str(&format!("; {help}"));
            }
            let place = found
                .span
                .as_ref()
                .map_or_else(String::new, |span| format!(",line={},col={}", span.line, span.column));
            // It cannot fail: it writes to a text.
            let _ = writeln!(
                text,
                "::{} file={}{place},title={}::{}",
                found.severity.as_str(),
                property(&found.source.path),
                found.code,
                data(&message)
            );
        }
        text
    }
}

fn plural(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// A workflow command's message.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// A workflow command's property.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// The stable shape of `--json`.
#[derive(Serialize)]
struct Json<'a> {
    files: usize,
    entries: Option<usize>,
    findings: Vec<Finding<'a>>,
}

#[derive(Serialize)]
struct Finding<'a> {
    path: &'a str,
    line: Option<u32>,
    column: Option<u32>,
    severity: &'static str,
    code: &'static str,
    message: &'a str,
    help: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_breaks_a_workflow_command() {
        assert_eq!(property("a,b:c%\n"), "a%2Cb%3Ac%25%0A");
        assert_eq!(data("a,b: 50%"), "a,b: 50%25");
    }
}
