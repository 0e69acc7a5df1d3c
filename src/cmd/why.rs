//! `exeat why`: whether a request would pass, which line decides, and what to write.

use super::{FAILED, FINDINGS, asking, connect};
use crate::{
    admin::{
        self,
        proto::{ExplainRequest, ExplainResponse, Line},
    },
    allowlist::nearest,
    cli::WhyArgs,
    policy::{PolicySet, Timestamp},
    server,
};
use anyhow::anyhow;
use std::{process::ExitCode, time::SystemTime};

pub(super) fn why(args: &WhyArgs) -> anyhow::Result<ExitCode> {
    let question = match &args.method {
        Some(method) => args.target.clone().with_method(method).map_err(|error| anyhow!(error))?,
        None => args.target.clone(),
    };
    let answer = match args.of.server {
        Some(server) => {
            let request = ExplainRequest {
                target: question.text,
                method: args.method.clone().unwrap_or_default(),
                agent: args.of.agent.clone().unwrap_or_default(),
            };
            asking(async { Ok(connect(server).await?.explain(request).await?.into_inner()) })
                .map_err(super::words)?
        }
        None => {
            let loaded = server::read(&args.of.allowlists, true);
            let Some(policies) = loaded.policies else {
                eprintln!("exeat: a file is not valid, so it cannot be said; exeat check says what is wrong");
                return Ok(ExitCode::from(FAILED));
            };
            let now = Timestamp::of(SystemTime::now());
            let agent = args.of.agent.as_deref();
            admin::explain(&policies, agent, &question, now, &loaded.texts)
                .ok_or_else(|| no_agent(agent.unwrap_or_default(), &policies))?
        }
    };
    if args.json {
        println!("{}", serde_json::to_string(&answer)?);
    } else {
        print!("{}", text(&answer));
    }
    Ok(if answer.verdict == "deny" { ExitCode::from(FINDINGS) } else { ExitCode::SUCCESS })
}

/// There is no such agent.
pub(super) fn no_agent(name: &str, policies: &PolicySet) -> anyhow::Error {
    let names: Vec<&str> = policies.agents().iter().map(|agent| &*agent.name).collect();
    match nearest(name, &names) {
        Some(known) => anyhow!("there is no agent `{name}`; did you mean `{known}`?"),
        None if names.is_empty() => anyhow!("there is no agent `{name}`: the files have no agents"),
        None => anyhow!("there is no agent `{name}`; the agents are: {}", names.join(", ")),
    }
}

fn text(answer: &ExplainResponse) -> String {
    let ExplainResponse { target, host, port, reason, .. } = answer;
    let agent = if answer.agent.is_empty() { String::new() } else { format!(", agent {}", answer.agent) };
    let mut lines = vec![match answer.verdict.as_str() {
        "allow" => format!("allowed: {target} ({host} port {port}{agent})"),
        "deny" => format!("denied: {target} ({host} port {port}{agent}): {reason}"),
        _ => format!("reported: {target} ({host} port {port}{agent}) passes, and is flagged: {reason}"),
    }];
    if !answer.hint.is_empty() {
        lines.push(format!("  {}", answer.hint));
    }
    // What only came near is said below.
    let decides = |rule: &&Line| answer.near.iter().all(|near| near.place != rule.place);
    if let Some(rule) = answer.rule.as_ref().filter(decides) {
        lines.push(format!("  by {}: {}", rule.place, rule.entry));
        if !rule.text.is_empty() {
            lines.push(format!("    | {}", rule.text));
        }
        for (what, text) in [("reason", &rule.reason), ("owner", &rule.owner), ("ticket", &rule.ticket)] {
            if !text.is_empty() {
                lines.push(format!("    {what}: {text}"));
            }
        }
    }
    let decides = |line: &&Line| answer.rule.as_ref().is_none_or(|rule| rule.place != line.place);
    let also = answer.covered_by.iter().filter(decides);
    lines.extend(also.map(|line| format!("  also covered by {}: {}", line.place, line.entry)));
    if answer.verdict != "allow" {
        for Line { place, entry, why, .. } in &answer.near {
            lines.push(format!("  near: {place}: {entry}: {why}"));
        }
        if !answer.add.is_empty() {
            lines.push(format!("to allow it, add:\n  - {}", answer.add));
        }
    }
    lines.join("\n") + "\n"
}
