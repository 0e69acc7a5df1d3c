//! Which of the files' newest contents can be in force together: a file that cannot keeps what it was before.
//!
//! Decides only; the ledger keeps the books.

use super::{
    Diagnostic, Severity,
    combine::{combine, conflicts, failing},
    file::Document,
    findings::findings,
    include,
    ledger::{Kept, Ledger},
    resolve::{Groups, Resolved, resolve},
};
use crate::policy::{PolicySet, Timestamp};
use std::{collections::BTreeMap, sync::Arc};

type ByPath<T> = BTreeMap<Arc<str>, T>;

/// What came of it.
pub(super) struct Outcome {
    /// Nothing if a self-test fails: then all stays as it was.
    pub(super) policies: Option<PolicySet>,
    /// The rules of files that are new or were looked up again.
    pub(super) resolved: ByPath<Resolved>,
    /// Errors of files whose newest content is not in force.
    pub(super) rejected: ByPath<Vec<Diagnostic>>,
    /// Warnings about files that are.
    pub(super) findings: ByPath<Vec<Diagnostic>>,
}

pub(super) fn settle(ledger: &mut Ledger, now: Timestamp) -> Outcome {
    let mut rejected = ByPath::new();
    loop {
        let (resolved, stale) = match attempt(ledger, &rejected) {
            Ok(done) => done,
            Err(more) => {
                for path in more.keys() {
                    ledger.restore(path);
                }
                rejected.extend(more);
                continue;
            }
        };
        let outcome = together(ledger, resolved, now);
        // At the start, files that fail a test fall back on what was in force before it.
        if outcome.policies.is_none() && ledger.is_new() {
            let restored: Vec<_> = outcome.rejected.iter().filter(|(path, _)| ledger.restore(path)).collect();
            if !restored.is_empty() {
                let errors = restored.into_iter().map(|(path, found)| (Arc::clone(path), found.clone()));
                rejected.extend(errors);
                continue;
            }
        }
        for (path, found) in stale {
            rejected.entry(path).or_insert(found);
        }
        let mut all = outcome.rejected;
        all.extend(rejected);
        return Outcome { rejected: all, ..outcome };
    }
}

/// Puts the rules of all files together, and tests the result.
fn together(ledger: &Ledger, resolved: ByPath<Resolved>, now: Timestamp) -> Outcome {
    let files: Vec<(&Arc<str>, &Resolved)> = ledger
        .kept
        .iter()
        .filter_map(|(path, kept)| Some((path, resolved.get(path).or(kept.good.as_ref())?)))
        .collect();
    let all: Vec<&Resolved> = files.iter().map(|(_, file)| *file).collect();
    let set = combine(&all);
    let tested = files.iter().map(|(path, file)| (Arc::clone(path), failing(file, &set, now)));
    let (failing, expired): (ByPath<_>, ByPath<_>) =
        tested.partition(|(_, found)| found.iter().any(|one| one.severity == Severity::Error));
    if let Some(first) = failing.values().next() {
        let place = first.first().map(Diagnostic::place).unwrap_or_default();
        let held = |path: &Arc<str>| {
            let message = format!("not applied, because a test fails: {place}");
            let found = Diagnostic::whole_file(Arc::clone(path), "held-back", message);
            vec![found.help("mend the entry or the test; until then all files stay as they were")]
        };
        let pending = ledger.kept.iter().filter(|(_, kept)| kept.pending.is_some());
        let mut rejected: ByPath<_> = pending.map(|(path, _)| (Arc::clone(path), held(path))).collect();
        rejected.extend(failing);
        return Outcome { policies: None, resolved: ByPath::new(), rejected, findings: ByPath::new() };
    }
    let found = findings(&all, &set.at(now), now);
    let mut findings: ByPath<Vec<Diagnostic>> =
        files.iter().map(|(path, _)| Arc::clone(path)).zip(found).collect();
    for (path, found) in expired {
        findings.entry(path).or_default().extend(found);
    }
    Outcome { policies: Some(set), resolved, rejected: ByPath::new(), findings }
}

/// The newest content of a file, unless that is out of the question.
fn wanted<'a>(path: &Arc<str>, kept: &'a Kept, rejected: &ByPath<Vec<Diagnostic>>) -> Option<&'a Document> {
    kept.pending.as_ref().filter(|_| !rejected.contains_key(path)).or(kept.document.as_ref())
}

/// New rules by file, and files in force that could not be looked up again.
type Attempt = (ByPath<Resolved>, ByPath<Vec<Diagnostic>>);

/// Looks everything up. An error names files whose newest content cannot be in force.
fn attempt(ledger: &Ledger, rejected: &ByPath<Vec<Diagnostic>>) -> Result<Attempt, ByPath<Vec<Diagnostic>>> {
    // What has changed comes last, so that it is to blame for a conflict.
    let is_new = |(path, kept): &(&Arc<str>, &Kept)| kept.pending.is_some() && !rejected.contains_key(*path);
    let (new, old): (Vec<_>, Vec<_>) = ledger.kept.iter().partition(is_new);
    let files: Vec<(&Arc<str>, &Kept, &Document)> = old
        .iter()
        .chain(&new)
        .filter_map(|(path, kept)| Some((*path, *kept, wanted(path, kept, rejected)?)))
        .collect();
    let (mut out, mut stale) = (ByPath::new(), ByPath::new());
    let mut groups = Groups::new();
    for (path, _, document) in &files {
        let mut found = include::mistakes(path, document, &ledger.kept);
        for (name, group) in &document.groups {
            let other = groups.insert(name, (document, group));
            let Some((other, known)) = other.filter(|(other, _)| !std::ptr::eq(*other, *document)) else {
                continue;
            };
            let message = format!("group `{name}` is also in {}:{}", other.source.path, known.span.line);
            let error = Diagnostic::error(&document.source, "group-duplicate", group.span.clone(), message);
            found.push(error.help("give one of the two another name"));
        }
        if !found.is_empty() {
            out.insert(Arc::clone(path), found);
        }
    }
    reject(&mut out, &mut stale, &new)?;
    let moved = ledger.lost_some || files.iter().any(|(_, kept, _)| changes_groups(kept));
    let mut resolved = ByPath::new();
    for (path, kept, document) in &files {
        let pending = new.iter().any(|(other, _)| other == path);
        let again = (moved || !kept.state.in_force) && document.depends();
        let looks_up = pending || again || kept.good.is_none();
        if !looks_up || stale.contains_key(*path) {
            continue;
        }
        match resolve(document, &groups) {
            Ok(rules) => drop(resolved.insert(Arc::clone(path), rules)),
            Err(found) => drop(out.insert(Arc::clone(path), found)),
        }
    }
    reject(&mut out, &mut stale, &new)?;
    let mut known: Vec<&Resolved> = Vec::with_capacity(files.len());
    for (path, kept, _) in &files {
        let Some(rules) = resolved.get(*path).or(kept.good.as_ref()) else { continue };
        let found = conflicts(rules, &known);
        if found.is_empty() {
            known.push(rules);
        } else {
            out.insert(Arc::clone(path), found);
        }
    }
    let conflicting: Vec<Arc<str>> = out.keys().cloned().collect();
    reject(&mut out, &mut stale, &new)?;
    conflicting.iter().for_each(|path| drop(resolved.remove(path)));
    Ok((resolved, stale))
}

/// Whether other files may have to be looked up again.
fn changes_groups(kept: &Kept) -> bool {
    let groups = |document: &Option<Document>| document.as_ref().is_some_and(|one| !one.groups.is_empty());
    kept.pending.is_some() && (groups(&kept.pending) || groups(&kept.document))
}

/// New contents with errors are out of the question; of files in force it is only noted.
fn reject(
    out: &mut ByPath<Vec<Diagnostic>>,
    stale: &mut ByPath<Vec<Diagnostic>>,
    new: &[(&Arc<str>, &Kept)],
) -> Result<(), ByPath<Vec<Diagnostic>>> {
    let (rejected, noted): (ByPath<_>, ByPath<_>) =
        std::mem::take(out).into_iter().partition(|(path, _)| new.iter().any(|(other, _)| *other == path));
    stale.extend(noted);
    if rejected.is_empty() { Ok(()) } else { Err(rejected) }
}
