//! `exeat why`: whether a request would pass, which line decides, and what to write.

use super::{FAILED, FINDINGS};
use crate::{
    allowlist::nearest,
    cli::WhyArgs,
    policy::{DenyReason, Explanation, NearMiss, Policy, Port, Question, Request, Rule, Verdict},
    server,
};
use serde::Serialize;
use std::process::ExitCode;

pub(super) fn why(args: &WhyArgs) -> anyhow::Result<ExitCode> {
    let Some(policy) = server::read(&args.allowlists).policy else {
        eprintln!("exeat: a file is not valid, so it cannot be said; exeat check says what is wrong");
        return Ok(ExitCode::from(FAILED));
    };
    let answer = Answer::new(&args.target, &policy);
    if args.json {
        println!("{}", serde_json::to_string(&answer)?);
    } else {
        print!("{}", answer.text());
    }
    Ok(if answer.allowed { ExitCode::SUCCESS } else { ExitCode::from(FINDINGS) })
}

/// The stable shape of `--json`.
#[derive(Serialize)]
struct Answer {
    target: String,
    host: String,
    port: String,
    allowed: bool,
    reason: Option<&'static str>,
    hint: Option<&'static str>,
    /// The line that decides.
    rule: Option<Line>,
    /// All lines that cover it.
    covered_by: Vec<Line>,
    /// Lines that nearly do, and why they do not.
    near: Vec<Near>,
    /// What to add to the allowlist to let it pass.
    add: Option<String>,
}

#[derive(Serialize)]
struct Line {
    place: String,
    entry: String,
}

#[derive(Serialize)]
struct Near {
    #[serde(flatten)]
    line: Line,
    why: String,
}

impl Line {
    fn of(rule: &Rule) -> Self {
        Self { place: rule.origin.to_string(), entry: rule.spelling() }
    }
}

impl Near {
    fn of(near: NearMiss<'_>, request: &Request) -> Self {
        let (host, port) = (&request.host, request.port);
        let (rule, why) = match near {
            NearMiss::OtherPort(rule) => (rule, format!("the host is covered, port {port} is not")),
            NearMiss::OnlyBelow(rule) => {
                (rule, format!("it covers what is below {host}, not {host} itself; .{host} is both"))
            }
            NearMiss::NotBelow(rule) => {
                let name = rule.pattern.name();
                (rule, format!("it covers {name} only, not what is below; .{name} is both"))
            }
        };
        Self { line: Line::of(rule), why }
    }
}

impl Answer {
    fn new(asked: &Question, policy: &Policy) -> Self {
        let request = &asked.request;
        let Explanation { verdict, covering, near } = policy.explain(request);
        let (reason, rule) = match verdict {
            Verdict::Allow(rule) => (None, Some(rule)),
            Verdict::Deny { reason, rule } => (Some(reason), rule),
        };
        let mut near: Vec<Near> = near.into_iter().map(|near| Near::of(near, request)).collect();
        if reason.is_some() && near.is_empty() {
            near.extend(similar(policy, &request.host));
        }
        Self {
            target: asked.text.clone(),
            host: request.host.clone(),
            port: request.port.to_string(),
            allowed: reason.is_none(),
            reason: reason.map(DenyReason::as_str),
            hint: reason.map(DenyReason::hint),
            rule: rule.map(Line::of),
            covered_by: covering.into_iter().map(Line::of).collect(),
            near,
            add: reason.and_then(|reason| addition(reason, request)),
        }
    }

    fn text(&self) -> String {
        let (host, port) = (&self.host, &self.port);
        let mut lines = Vec::new();
        match (&self.rule, self.reason) {
            (Some(Line { place, entry }), None) => {
                lines.push(format!("allowed: {} ({host} port {port})", self.target));
                lines.push(format!("  by {place}: {entry}"));
            }
            (_, reason) => {
                let reason = reason.unwrap_or_default();
                lines.push(format!("denied: {} ({host} port {port}): {reason}", self.target));
                lines.extend(self.hint.map(|hint| format!("  {hint}")));
            }
        }
        let decides = |line: &&Line| self.rule.as_ref().is_none_or(|rule| rule.place != line.place);
        let also = self.covered_by.iter().filter(decides);
        lines.extend(also.map(|line| format!("  also covered by {}: {}", line.place, line.entry)));
        if !self.allowed {
            for Near { line: Line { place, entry }, why } in &self.near {
                lines.push(format!("  near: {place}: {entry}: {why}"));
            }
            lines.extend(self.add.as_ref().map(|entry| format!("to allow it, add:\n  - {entry}")));
        }
        lines.join("\n") + "\n"
    }
}

/// What to write. Nothing where another entry would not help.
fn addition(reason: DenyReason, request: &Request) -> Option<String> {
    let Request { host, port, .. } = request;
    match reason {
        DenyReason::NotListed if [Port::HTTP, Port::HTTPS].contains(port) => Some(host.clone()),
        DenyReason::NotListed | DenyReason::PortNotListed => Some(format!("{host}:{port}")),
        _ => None,
    }
}

/// A mistyped host, in the request or in the file.
fn similar(policy: &Policy, host: &str) -> Option<Near> {
    let names: Vec<&str> = policy.rules().iter().map(|rule| rule.pattern.name().as_str()).collect();
    let name = nearest(host, &names)?;
    let rule = policy.rules().iter().find(|rule| rule.pattern.name().as_str() == name)?;
    Some(Near { line: Line::of(rule), why: format!("{name} is spelled nearly like {host}") })
}
