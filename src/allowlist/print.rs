//! A policy as an allowlist file: one entry on each line, everything written out.
//!
//! Knows nothing of what was read: equal policies print alike.

use crate::policy::{DenyRule, Grant, Mode, Note, Policy, Port, Ports, Rule, Target, Timestamp, Traffic};
use serde_json::Value;
use std::collections::BTreeSet;

/// Prints a policy. Entries that stand in several places are printed once.
#[must_use]
pub fn print(policy: &Policy) -> String {
    let mut text = String::from("version: 1\n");
    if policy.mode() == Mode::Report {
        text.push_str("mode: report\n");
    }
    let allow: BTreeSet<String> = policy.rules().iter().map(|rule| allowed(rule)).collect();
    let deny: BTreeSet<String> = policy.denied().iter().map(|rule| denied(rule)).collect();
    for (key, entries) in [("allow", allow), ("deny", deny)] {
        if entries.is_empty() {
            text.push_str(&format!("{key}: []\n"));
            continue;
        }
        text.push_str(&format!("{key}:\n"));
        entries.iter().for_each(|entry| text.push_str(&format!("  - {{{entry}}}\n")));
    }
    text
}

/// A JSON string is a YAML scalar that needs no further thought about quoting.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn host(target: &Target) -> String {
    let text = match target {
        Target::Address(address) => address.to_string(),
        Target::Host(_) | Target::Range(_) => target.to_string(),
    };
    format!("host: {}", quoted(&text))
}

fn list<T: ToString>(key: &str, items: impl Iterator<Item = T>) -> String {
    format!("{key}: [{}]", items.map(|item| item.to_string()).collect::<Vec<_>>().join(", "))
}

fn ports(ports: &Ports) -> String {
    list("ports", ports.iter())
}

fn allowed(rule: &Rule) -> String {
    let Grant { traffic, mode, max_tunnel, private, limits } = &*rule.grant;
    let upstream = |port: Port| match traffic {
        Traffic::Originate(_) if port == Port::HTTP => Port::HTTPS,
        _ => port,
    };
    let mut parts = vec![host(&rule.target), list("ports", rule.ports.iter().map(upstream))];
    match traffic {
        Traffic::Any => {}
        Traffic::Tls => parts.push("protocol: tls".to_owned()),
        Traffic::Tcp => parts.push("protocol: tcp".to_owned()),
        Traffic::Http(requests) | Traffic::Originate(requests) => {
            let originate = matches!(traffic, Traffic::Originate(_));
            parts.push(if originate { "tls: originate" } else { "protocol: http" }.to_owned());
            if !requests.methods.is_empty() {
                parts.push(list("methods", requests.methods.iter().map(|method| method.as_str())));
            }
            if !requests.paths.is_empty() {
                parts.push(list("paths", requests.paths.iter().map(|path| quoted(&path.to_string()))));
            }
        }
    }
    if let Some(private) = private {
        parts.push("private: true".to_owned());
        if !private.addresses.is_empty() {
            parts.push(list("addresses", private.addresses.iter().map(|range| quoted(&range.to_string()))));
        }
    }
    if let Some(longest) = max_tunnel {
        parts.push(format!("max_tunnel: {}s", longest.as_secs()));
    }
    let limits = [
        limits.connections.map(|count| format!("connections: {count}")),
        limits.requests_per_minute.map(|count| format!("requests_per_minute: {count}")),
        limits.upload.map(|bytes| format!("upload: {bytes}B")),
        limits.idle.map(|idle| format!("idle: {}s", idle.as_secs())),
    ];
    let limits: Vec<String> = limits.into_iter().flatten().collect();
    if !limits.is_empty() {
        parts.push(format!("limits: {{{}}}", limits.join(", ")));
    }
    if *mode == Mode::Report {
        parts.push("mode: report".to_owned());
    }
    parts.extend(common(rule.until, rule.note.as_deref()));
    parts.join(", ")
}

fn denied(rule: &DenyRule) -> String {
    let mut parts = vec![host(&rule.target)];
    parts.extend(rule.ports.as_ref().map(ports));
    parts.extend(common(rule.until, rule.note.as_deref()));
    parts.join(", ")
}

fn common(until: Option<Timestamp>, note: Option<&Note>) -> Vec<String> {
    let mut parts: Vec<String> = until.iter().map(|until| format!("until: \"{until}\"")).collect();
    let note = note.cloned().unwrap_or_default();
    for (key, text) in [("owner", note.owner), ("reason", note.reason), ("ticket", note.ticket)] {
        parts.extend(text.map(|text| format!("{key}: {}", quoted(&text))));
    }
    parts
}
