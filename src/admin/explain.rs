//! Whether a request would pass, which line decides, and what to write: the answer of `why`, on files and by gRPC.

use super::proto::{ExplainResponse, Line};
use crate::{
    allowlist::{Preset, nearest},
    policy::{
        AddressGuard, AnyRule, DenyReason, Explanation, HostName, NearMiss, Policy, PolicySet, Port,
        Question, Request, Timestamp, Verdict, Via, literal,
    },
};
use std::{collections::BTreeMap, sync::Arc};

/// The texts of files by their labels, to quote lines of.
pub type Texts = BTreeMap<Arc<str>, Arc<str>>;

/// Explains. Nothing if there is no such agent.
#[must_use]
pub fn explain(
    policies: &PolicySet,
    agent: Option<&str>,
    question: &Question,
    now: Timestamp,
    texts: &Texts,
) -> Option<ExplainResponse> {
    let policy = policies.policy(agent)?;
    let request = &question.request;
    let Explanation { verdict, covering, near } = policy.explain(request, now);
    let (word, reason, rule) = match verdict {
        Verdict::Allow(rule) => ("allow", None, Some(AnyRule::Allow(rule))),
        Verdict::WouldDeny { reason, rule } => ("would-deny", Some(reason), rule),
        Verdict::Deny { reason, rule } => ("deny", Some(reason), rule),
    };
    let line = |rule: AnyRule<'_>, why: String| line(rule, why, texts);
    let mut near: Vec<Line> = near
        .into_iter()
        .map(|near| {
            let (rule, why) = miss(near, request);
            line(AnyRule::Allow(rule), why)
        })
        .collect();
    if reason.is_some() && near.is_empty() {
        near.extend(similar(policy, &request.host).map(|(rule, why)| line(AnyRule::Allow(rule), why)));
    }
    Some(ExplainResponse {
        target: question.text.clone(),
        host: request.host.clone(),
        port: request.port.number().into(),
        agent: agent.unwrap_or_default().to_owned(),
        verdict: word.to_owned(),
        reason: reason.map_or("", DenyReason::as_str).to_owned(),
        hint: reason.map_or("", DenyReason::hint).to_owned(),
        rule: rule.map(|rule| line(rule, String::new())),
        covered_by: covering.into_iter().map(|rule| line(rule, String::new())).collect(),
        near,
        add: reason.and_then(|reason| addition(reason, request, rule)).unwrap_or_default(),
    })
}

fn line(rule: AnyRule<'_>, why: String, texts: &Texts) -> Line {
    let origin = rule.origin();
    let preset = || Preset::find(origin.file.strip_prefix("preset/")?).map(|preset| preset.text);
    let text = texts.get(&origin.file).map(|text| &**text).or_else(preset);
    let index = usize::try_from(origin.line).unwrap_or_default().saturating_sub(1);
    let note = rule.note().cloned().unwrap_or_default();
    Line {
        place: origin.to_string(),
        entry: rule.spelling(),
        text: text.and_then(|text| text.lines().nth(index)).unwrap_or_default().trim().to_owned(),
        why,
        owner: note.owner.unwrap_or_default(),
        reason: note.reason.unwrap_or_default(),
        ticket: note.ticket.unwrap_or_default(),
    }
}

fn miss<'a>(near: NearMiss<'a>, request: &Request) -> (&'a crate::policy::Rule, String) {
    let (host, port) = (&request.host, request.port);
    match near {
        NearMiss::OtherPort(rule) => (rule, format!("the host is covered, port {port} is not")),
        NearMiss::OnlyBelow(rule) => {
            (rule, format!("it covers what is below {host}, not {host} itself; .{host} is both"))
        }
        NearMiss::NotBelow(rule) => {
            let name = rule.target.name().map(HostName::as_str).unwrap_or_default();
            (rule, format!("it covers {name} only, not what is below; .{name} is both"))
        }
        NearMiss::Expired(rule, until) => (rule, format!("it expired at {until}")),
    }
}

/// What to write. Nothing where another entry would not help.
fn addition(reason: DenyReason, request: &Request, by: Option<AnyRule<'_>>) -> Option<String> {
    let originates = matches!(by, Some(AnyRule::Allow(rule)) if matches!(rule.grant.traffic, crate::policy::Traffic::Originate(_)));
    let Request { host, port, via, method, path, opening: _ } = request;
    let guarded = literal(host).is_some_and(|address| AddressGuard::default().refuses(address));
    let private = !host.contains('.') || guarded;
    match reason {
        DenyReason::NotListed | DenyReason::PortNotListed | DenyReason::PrivateAddress if private => {
            let quoted = if host.starts_with('[') { format!("\"{host}\"") } else { host.clone() };
            Some(format!("{{host: {quoted}, ports: [{port}], private: true}}"))
        }
        DenyReason::NotListed if [Port::HTTP, Port::HTTPS].contains(port) => Some(host.clone()),
        DenyReason::NotListed | DenyReason::PortNotListed => Some(format!("{host}:{port}")),
        DenyReason::MethodNotAllowed | DenyReason::PathNotAllowed if *via == Via::PlainHttp && originates => {
            let ports = if *port == Port::HTTP { String::new() } else { format!(", ports: [{port}]") };
            Some(format!("{{host: {host}, tls: originate{ports}, methods: [{method}], paths: [{path}]}}"))
        }
        DenyReason::MethodNotAllowed | DenyReason::PathNotAllowed if *via == Via::PlainHttp => Some(format!(
            "{{host: {host}, ports: [{port}], protocol: http, methods: [{method}], paths: [{path}]}}"
        )),
        DenyReason::MethodNotAllowed if *port == Port::HTTP => {
            Some(format!("{{host: {host}, ports: [80], protocol: tcp}}"))
        }
        DenyReason::MethodNotAllowed => Some(format!("{host}:{port}")),
        _ => None,
    }
}

/// Two short names are always nearly alike.
const LONG_ENOUGH: usize = 8;

/// A mistyped host, in the request or in the file.
fn similar<'a>(policy: &'a Policy, host: &str) -> Option<(&'a crate::policy::Rule, String)> {
    let named = || policy.rules().iter().filter_map(|rule| Some((rule, rule.target.name()?.as_str())));
    let names: Vec<&str> =
        named().map(|(_, name)| name).filter(|name| *name != host && name.len() >= LONG_ENOUGH).collect();
    let name = nearest(host, &names)?;
    let (rule, _) = named().find(|(_, known)| *known == name)?;
    Some((rule, format!("{name} is spelled nearly like {host}")))
}
