//! What a person should look at in files that are in force.
//!
//! Knows nothing of where files come from.

use super::{
    diagnostic::{Diagnostic, Findings, Source, Span},
    presets::{self, DENY_PRESETS},
    resolve::{Placed, Resolved, Rules},
    section::Item,
};
use crate::policy::{
    AddressGuard, AnyRule, Mode, PolicySet, Port, Rule, Target, Timestamp, Traffic, literal, overlaps,
};
use ipnet::IpNet;
use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

/// Entries that end within so many days are named.
const SOON_DAYS: i64 = 7;

/// The findings of each file, in the order of `files`.
pub(super) fn findings(files: &[&Resolved], set: &PolicySet, now: Timestamp) -> Vec<Findings> {
    let mut superfluous = superfluous(set);
    files.iter().map(|file| of_file(file, &mut superfluous, set, now)).collect()
}

/// Rules that change nothing, by their address in memory, with the rule that makes them so.
type Superfluous<'a> = BTreeMap<*const Rule, AnyRule<'a>>;

fn superfluous(set: &PolicySet) -> Superfluous<'_> {
    let common = set.common().index();
    let mut found: Superfluous<'_> =
        common.redundant(set.common()).into_iter().map(|(rule, by)| (std::ptr::from_ref(rule), by)).collect();
    for agent in set.agents() {
        // Its own entries, against themselves and against what it inherits.
        let own = agent.own.index();
        for rule in agent.own.rules() {
            let inherited = || common.by(rule).filter(|by| agent.inherit || matches!(by, AnyRule::Deny(_)));
            if let Some(by) = own.by(rule).or_else(inherited) {
                found.insert(Arc::as_ptr(rule), by);
            }
        }
    }
    found
}

fn of_file(file: &Resolved, superfluous: &mut Superfluous<'_>, set: &PolicySet, now: Timestamp) -> Findings {
    let mut list = List { source: &file.source, found: Findings::default() };
    if let Some((Mode::Report, span)) = &file.mode {
        list.warn(
            "report-mode",
            span,
            "`mode: report` lets everything pass and only flags what is not listed".to_owned(),
            "take it out once the log shows no more `would-deny` that is meant to pass",
        );
    }
    of_rules(&mut list, &file.common, superfluous, now);
    let report = file.mode.as_ref().is_some_and(|(mode, _)| *mode == Mode::Report);
    harmless(&mut list, &file.common, report, set.common().mode() == Mode::Report);
    for agent in &file.agents {
        of_rules(&mut list, &agent.rules, superfluous, now);
        let mode = |otherwise| agent.mode.map_or(otherwise, |mode| mode == Mode::Report);
        harmless(&mut list, &agent.rules, mode(report), mode(set.common().mode() == Mode::Report));
        let nothing = set.policy(Some(&agent.name)).is_some_and(|policy| policy.rules().is_empty());
        if nothing {
            let message = format!("agent `{}` may reach nothing", agent.name);
            list.warn("agent-empty", &agent.span, message, "give it `allow` or `use`, or let it inherit");
        }
    }
    list.found
}

struct List<'a> {
    source: &'a Source,
    found: Findings,
}

impl List<'_> {
    fn warn(&mut self, code: &'static str, span: &Span, message: String, help: impl Into<String>) {
        let found = Diagnostic::error(self.source, code, span.clone(), message);
        self.found.push(found.warning().help(help));
    }
}

fn of_rules(list: &mut List<'_>, rules: &Rules, superfluous: &mut Superfluous<'_>, now: Timestamp) {
    for Placed { rule, span } in &rules.allow {
        let Some(span) = span else { continue };
        expiry(list, rule.until, span, now);
        let by = superfluous.remove(&Arc::as_ptr(rule));
        if let Some(by) = by {
            overlap(list, rule, by, span);
        }
        if matches!(by, Some(AnyRule::Deny(_))) {
            continue;
        }
        if let Some(range) = metadata(rule) {
            let message =
                format!("{range} has link-local or metadata addresses, where a cloud hands out credentials");
            list.warn(
                "private-metadata",
                span,
                message,
                "take it out unless the agent is meant to have them",
            );
        }
        if let Some((code, what)) = doubtful(&rule.target) {
            let message = format!("`{}` is {what}", rule.target);
            list.warn(code, span, message, "data can leave by it unseen; take it out unless it is needed");
        }
        where_it_runs(list, rule, span);
        if let Some(port) = rule.ports.iter().find(|port| NOT_TLS.contains(&port.number()))
            && rule.grant.traffic == Traffic::Any
        {
            let message =
                format!("tunnels to port {port} must carry TLS, which what is usually there does not");
            let help = format!("write {{host: {}, ports: [{port}], protocol: tcp}}", quoted(&rule.target));
            list.warn("port-not-tls", span, message, help);
        }
        let plain = match rule.grant.traffic {
            Traffic::Http(_) => true,
            Traffic::Originate(_) => false,
            _ => rule.ports == Port::HTTP.into(),
        };
        if plain && rule.grant.private.is_none() {
            let message = format!("`{}` is reached without encryption only", rule.target);
            list.warn(
                "plain-http",
                span,
                message,
                "anybody on the way can read and change it; allow 443 if it has it",
            );
        }
    }
    for Placed { rule, span } in &rules.deny {
        if let Some(span) = span {
            expiry(list, rule.until, span, now);
        }
    }
}

/// Ports of protocols in which TLS comes later or not at all: ftp, ssh, telnet, smtp, pop3, imap, mysql, postgres, redis,
/// memcached, mongodb, irc, git.
const NOT_TLS: [u16; 15] = [21, 22, 23, 25, 110, 143, 587, 3306, 5432, 6379, 6667, 9418, 11211, 27017, 1433];

/// Some names mean another machine where the sidecar runs in a container.
fn where_it_runs(list: &mut List<'_>, rule: &Rule, span: &Span) {
    let Some(host) = rule.target.exact() else { return };
    let loopback = literal(&host).is_some_and(|address| address.is_loopback());
    if loopback || host == "localhost" || host.ends_with(".localhost") {
        let message = format!("`{host}` is the machine or container of the sidecar itself");
        let help =
            "from a container, the machine below is host.docker.internal, another one is its service's name";
        list.warn("host-self", span, message, help);
    } else if host == "host.docker.internal" {
        let message = "`host.docker.internal` has to be known to the sidecar's container".to_owned();
        let help = "under Linux, give that container extra_hosts: [\"host.docker.internal:host-gateway\"]";
        list.warn("host-docker", span, message, help);
    }
}

fn quoted(target: &Target) -> String {
    if target.is_wide() { format!("\"{target}\"") } else { target.to_string() }
}

/// The addresses of an entry among which are such that no private name leads to by itself.
fn metadata(rule: &Rule) -> Option<IpNet> {
    let never = AddressGuard::never_meant();
    let own = match &rule.target {
        Target::Address(address) => vec![IpNet::from(*address)],
        Target::Host(_) | Target::Range(_) => rule.grant.private.as_ref()?.addresses.clone(),
    };
    own.into_iter().find(|range| never.iter().any(|other| overlaps(other, range)))
}

fn expiry(list: &mut List<'_>, until: Option<Timestamp>, span: &Span, now: Timestamp) {
    let Some(until) = until else { return };
    if until <= now {
        let message = format!("the entry expired at {until}");
        list.warn("entry-expired", span, message, "take it out, or give it a later `until`");
    } else if until <= now.plus_days(SOON_DAYS) {
        let message = format!("the entry expires at {until}");
        list.warn("entry-expiring", span, message, "give it a later `until` if it is still needed then");
    }
}

fn overlap(list: &mut List<'_>, rule: &Rule, by: AnyRule<'_>, span: &Span) {
    let (place, entry) = (by.origin(), by.spelling());
    match by {
        AnyRule::Deny(_) => {
            let message = format!("the entry has no effect: {place} ({entry}) denies it");
            list.warn("entry-denied", span, message, "take one of the two out");
        }
        AnyRule::Allow(other) if other.target == rule.target && other.ports == rule.ports => {
            let message = format!("already listed by {place} ({entry})");
            let help =
                "take one of the two out: whoever removes one may believe that the host is denied then";
            list.warn("duplicate-entry", span, message, help);
        }
        AnyRule::Allow(_) => {
            let message = format!("already covered by {place} ({entry})");
            list.warn("entry-covered", span, message, "take it out, or narrow the other one");
        }
    }
}

/// Entries that do nothing because everything passes anyway.
fn harmless(list: &mut List<'_>, rules: &Rules, file: bool, all: bool) {
    for Placed { rule, span } in &rules.deny {
        let Some(span) = span.as_ref().filter(|_| file) else { continue };
        let message = format!("report mode lets `{}` pass and only flags it", rule.target);
        list.warn(
            "report-harmless",
            span,
            message,
            "move the entry to a file or agent without `mode: report`",
        );
    }
    for Placed { rule, span } in &rules.allow {
        let Some(span) = span.as_ref().filter(|_| all && rule.grant.mode == Mode::Report) else { continue };
        let message =
            format!("`mode: report` of `{}` does nothing here: everything is only reported", rule.target);
        list.warn("report-harmless", span, message, "take it out of the entry, or out of the file");
    }
}

/// Whether a host is on a list of those that carry data out.
fn doubtful(target: &Target) -> Option<(&'static str, &'static str)> {
    static KNOWN: LazyLock<BTreeMap<&str, (&Target, &str)>> = LazyLock::new(|| {
        let mut known = BTreeMap::new();
        for (name, code) in DENY_PRESETS {
            for item in presets::document(name).into_iter().flat_map(|preset| &preset.common.deny) {
                if let Item::Entry(spec) = item
                    && let Some(host) = spec.target.name()
                {
                    known.insert(host.as_str(), (&spec.target, code));
                }
            }
        }
        known
    });
    let name = target.name()?.as_str();
    let above = name.match_indices('.').filter_map(|(at, _)| name.get(at + 1..));
    let code = std::iter::once(name).chain(above).find_map(|name| {
        let (known, code) = KNOWN.get(name)?;
        (known.includes(target) || target.includes(known)).then_some(*code)
    })?;
    DENY_PRESETS.iter().find(|(_, known)| *known == code).map(|(preset, code)| {
        let what = match *preset {
            "doh" => "a DNS server over HTTPS, which can carry data in names",
            "relays" => "a tunnel or request catcher, which leads to anybody's machine",
            _ => "a place where anybody can leave data",
        };
        (*code, what)
    })
}
