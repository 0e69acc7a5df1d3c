//! `exeat check`: what is wrong with allowlist files, without a control plane.

use super::{FAILED, FINDINGS};
use crate::{
    allowlist::{Diagnostic, FileState, Severity, Snippet, codes, explain},
    cli::{CheckArgs, CheckFormat},
    envoy::{Profile, static_bootstrap},
    policy::{PolicySet, Timestamp},
    server,
};
use anyhow::{Context, bail};
use serde::Serialize;
use std::{
    fmt::Write,
    io::{self, IsTerminal},
    path::Path,
    process::{Command, ExitCode},
    time::SystemTime,
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
    let loaded = server::read(&args.paths, args.accept_exposed_files);
    let entries = loaded.policies.as_ref().map(PolicySet::entries);
    let mut report = Report::new(&loaded.files, entries);
    if let (Some(envoy), Some(policies)) = (&args.envoy, &loaded.policies) {
        report.refused = validate(envoy, policies, &args.profile.profile()?)?;
    }
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
    /// What Envoy says against the resources.
    refused: Vec<String>,
}

impl<'a> Report<'a> {
    fn new(files: &'a [FileState], entries: Option<usize>) -> Self {
        let findings = files.iter().flat_map(|file| &file.diagnostics).collect();
        Self { findings, files: files.len(), entries, refused: Vec::new() }
    }

    fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|found| found.severity == severity).count()
    }

    fn exit_code(&self, strict: bool) -> ExitCode {
        if self.findings.iter().any(|found| found.code == UNREADABLE) {
            return ExitCode::from(FAILED);
        }
        let wrong = self.count(Severity::Error) > 0
            || !self.refused.is_empty()
            || (strict && !self.findings.is_empty());
        if wrong { ExitCode::from(FINDINGS) } else { ExitCode::SUCCESS }
    }

    /// As rustc prints it, and a line that sums up.
    fn text(&self, colour: bool) -> String {
        let mut text = String::new();
        for diagnostic in &self.findings {
            text.push_str(&format!("{}\n\n", Snippet { diagnostic, colour }));
        }
        for refused in &self.refused {
            text.push_str(&format!("error: Envoy refuses the resources: {refused}\n\n"));
        }
        let [errors, warnings] = [Severity::Error, Severity::Warning].map(|severity| self.count(severity));
        text.push_str(&plural(self.files, "file", "files"));
        if let Some(entries) = self.entries {
            text.push_str(&format!(", {}", plural(entries, "entry", "entries")));
        }
        match (errors, warnings) {
            (0, 0) if !self.refused.is_empty() => text.push_str(": 1 error\n"),
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
        Json { files: self.files, entries: self.entries, findings: findings.collect(), envoy: &self.refused }
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
        for refused in &self.refused {
            let _ = writeln!(text, "::error title=envoy::{}", data(refused));
        }
        text
    }
}

/// Loads what each group of sidecars would get into the real Envoy. Gives what it says if it refuses.
fn validate(envoy: &Path, policies: &PolicySet, profile: &Profile) -> anyhow::Result<Vec<String>> {
    let policies = policies.at(Timestamp::of(SystemTime::now()));
    let directory = tempfile::tempdir().context("cannot make a directory for the configuration")?;
    let mut refused = Vec::new();
    for (agent, policy) in policies.policies() {
        let file = directory.path().join("bootstrap.pb");
        std::fs::write(&file, static_bootstrap(policy, profile)?)?;
        let output = Command::new(envoy)
            .args(["--mode", "validate", "--log-level", "error", "-c"])
            .arg(&file)
            .output()
            .with_context(|| format!("cannot run {}", envoy.display()))?;
        if !output.status.success() {
            let all = String::from_utf8_lossy(&output.stderr).into_owned();
            let said = all.lines().find(|line| line.contains("rror")).unwrap_or(&all).trim();
            let agent = agent.map_or_else(String::new, |name| format!("agent {name}: "));
            refused.push(format!("{agent}{said}"));
        }
    }
    Ok(refused)
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
    /// What Envoy says against the resources, if it was asked.
    envoy: &'a [String],
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
