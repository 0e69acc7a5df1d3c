//! `exeat diff`: what an edit opens and closes.

use super::{FAILED, FINDINGS};
use crate::{
    allowlist::{OneLine, Severity},
    cli::DiffArgs,
    policy::{Change, Policy, PolicySet, Timestamp, Widening},
    server,
};
use serde::Serialize;
use std::{collections::BTreeSet, path::PathBuf, process::ExitCode, sync::Arc, time::SystemTime};

pub(super) fn diff(args: &DiffArgs) -> anyhow::Result<ExitCode> {
    let now = Timestamp::of(SystemTime::now());
    let read = |path: &PathBuf| {
        let loaded = server::read(std::slice::from_ref(path), true);
        if loaded.policies.is_none() {
            let errors = loaded.files.iter().flat_map(|file| &file.diagnostics);
            let first = errors
                .into_iter()
                .find(|found| found.severity == Severity::Error)
                .map(|found| OneLine(found).to_string());
            eprintln!("exeat: {} is not valid: {}", path.display(), first.unwrap_or_default());
        }
        loaded.policies.map(|policies| policies.at(now))
    };
    let (Some(old), Some(new)) = (read(&args.old), read(&args.new)) else {
        return Ok(ExitCode::from(FAILED));
    };
    let groups = compare(&old, &new);
    if args.json {
        println!("{}", serde_json::to_string(&groups)?);
    } else {
        print!("{}", text(&groups));
    }
    let same = groups.iter().all(|group| group.changes.is_empty() && group.is_new.is_none());
    Ok(if same { ExitCode::SUCCESS } else { ExitCode::from(FINDINGS) })
}

/// What changes for one group of sidecars.
#[derive(Debug, Serialize)]
struct Group {
    /// Nothing for sidecars that are no agent.
    agent: Option<String>,
    /// Whether the agent itself came or went.
    is_new: Option<bool>,
    changes: Vec<Line>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Line {
    /// Whether more gets through.
    opens: bool,
    entry: String,
    place: String,
    /// Why a person should look twice.
    widening: Option<&'static str>,
}

impl From<Change> for Line {
    fn from(change: Change) -> Self {
        match change {
            Change::Opens { entry, origin, widening } => {
                Self { opens: true, entry, place: origin, widening: widening.map(Widening::as_str) }
            }
            Change::Closes { entry, origin } => Self { opens: false, entry, place: origin, widening: None },
        }
    }
}

/// A sidecar that stops being an agent, or becomes one, goes from one policy to the other.
fn compare(old: &PolicySet, new: &PolicySet) -> Vec<Group> {
    let names: BTreeSet<&Arc<str>> =
        old.agents().iter().chain(new.agents()).map(|agent| &agent.name).collect();
    let lines = |old: &Policy, new: &Policy| old.changes(new).into_iter().map(Line::from).collect::<Vec<_>>();
    let common = Group { agent: None, is_new: None, changes: lines(old.common(), new.common()) };
    let selector = |set: &PolicySet, name: &str| {
        set.agents().iter().find(|agent| *agent.name == *name).map(|agent| agent.selector.clone())
    };
    let agents = names.into_iter().map(|name| {
        let (before, after) = (old.policy(Some(name)), new.policy(Some(name)));
        let is_new = (before.is_none() || after.is_none()).then_some(before.is_none());
        let (before, after) = (before.unwrap_or_else(|| old.common()), after.unwrap_or_else(|| new.common()));
        let mut changes: Vec<Line> = lines(before, after);
        if is_new.is_none() && selector(old, name) != selector(new, name) {
            let (entry, place) = ("match".to_owned(), String::new());
            changes.push(Line { opens: true, entry, place, widening: Some(Widening::Match.as_str()) });
        }
        Group { agent: Some(name.to_string()), is_new, changes }
    });
    std::iter::once(common).chain(agents.collect::<Vec<_>>()).collect()
}

fn text(groups: &[Group]) -> String {
    let mut text = String::new();
    let common = groups.first().map(|group| group.changes.as_slice()).unwrap_or_default();
    for group in groups {
        // What an agent inherits is said once.
        let inherited = |line: &&Line| group.agent.is_none() || !common.contains(line);
        let lines: Vec<&Line> = group.changes.iter().filter(inherited).collect();
        match (&group.agent, group.is_new) {
            (Some(name), Some(true)) => {
                text.push_str(&format!("agent {name} is new, against the common policy:\n"))
            }
            (Some(name), Some(false)) => {
                text.push_str(&format!("agent {name} is gone, its sidecars get the common policy:\n"))
            }
            (Some(name), None) if !lines.is_empty() => text.push_str(&format!("agent {name}:\n")),
            _ => {}
        }
        for Line { opens, entry, place, widening } in lines {
            let word = if *opens { "opens" } else { "closes" };
            let entry = entry.strip_prefix("deny ").unwrap_or(entry);
            let place = if place.is_empty() { String::new() } else { format!(" ({place})") };
            let widening = widening.map(|what| format!("  <- look twice: {what}")).unwrap_or_default();
            text.push_str(&format!("{word:>6} {entry}{place}{widening}\n"));
        }
    }
    if text.is_empty() { "nothing changes\n".to_owned() } else { text }
}
