//! Which of the files' newest contents can be in force together: a file that cannot keeps what it was before.
//!
//! Decides only; the ledger keeps the books.

use super::{
    Diagnostic,
    bounds::Size,
    combine::{Tester, combine, conflicts},
    diagnostic::Findings,
    file::Document,
    findings::findings,
    include::{self, Documents, Included},
    ledger::{Kept, Ledger},
    resolve::{Groups, Resolved, resolve},
};
use crate::policy::{PolicySet, Timestamp};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

type ByPath<T> = BTreeMap<Arc<str>, T>;

/// What came of it.
pub(super) struct Outcome {
    /// Nothing if a self-test fails: then all stays as it was.
    pub(super) policies: Option<PolicySet>,
    /// The files that belong to the allowlist.
    pub(super) reached: BTreeSet<Arc<str>>,
    /// The rules of files that are new or were looked up again.
    pub(super) resolved: ByPath<Resolved>,
    /// Errors of files whose newest content is not in force.
    pub(super) rejected: ByPath<Findings>,
    /// Warnings about files that are.
    pub(super) findings: ByPath<Findings>,
}

pub(super) fn settle(ledger: &mut Ledger, now: Timestamp) -> Outcome {
    let mut rejected = ByPath::new();
    loop {
        let Attempt { reached, resolved, stale } = match attempt(ledger, &rejected) {
            Ok(done) => done,
            Err(more) => {
                for path in more.keys() {
                    ledger.restore(path);
                }
                rejected.extend(more);
                continue;
            }
        };
        let outcome = together(ledger, reached, resolved, &rejected, now);
        // At the start, files that fail a test fall back on what was in force before it.
        if outcome.policies.is_none() && ledger.is_new() {
            let restored: Vec<_> = outcome.rejected.iter().filter(|(path, _)| ledger.restore(path)).collect();
            if !restored.is_empty() {
                let errors = restored.into_iter().map(|(path, found)| (Arc::clone(path), found.clone()));
                rejected.extend(errors);
                continue;
            }
        }
        for (path, found) in stale.into_iter().chain(outcome.rejected) {
            rejected.entry(path).or_default().append(found);
        }
        return Outcome { rejected, ..outcome };
    }
}

/// Puts the rules of all files together, and tests the result.
fn together(
    ledger: &Ledger,
    reached: BTreeSet<Arc<str>>,
    resolved: ByPath<Resolved>,
    rejected: &ByPath<Findings>,
    now: Timestamp,
) -> Outcome {
    let rules = |path| resolved.get(path).or_else(|| ledger.kept.get(path)?.good.as_ref());
    let files: Vec<(&Arc<str>, &Resolved)> =
        reached.iter().filter_map(|path| Some((path, rules(path)?))).collect();
    let all: Vec<&Resolved> = files.iter().map(|(_, file)| *file).collect();
    let set = combine(&all);
    let there = set.at(now);
    let mut tester = Tester::new(&set, &there);
    let tested = files.iter().map(|(path, file)| (Arc::clone(path), tester.failing(file)));
    let (failing, expired): (ByPath<_>, ByPath<_>) = tested.partition(|(_, found)| found.stops());
    if let Some(first) = failing.values().next() {
        let place = first.iter().next().map(Diagnostic::place).unwrap_or_default();
        let held = |path: &Arc<str>| {
            let message = format!("not applied, because a test fails: {place}");
            let found = Diagnostic::whole_file(Arc::clone(path), "held-back", message);
            found.help("mend the entry or the test; until then all files stay as they were").into()
        };
        let pending = ledger.kept.iter().filter(|(_, kept)| kept.pending.is_some());
        let pending = pending.map(|(path, _)| path).filter(|path| !rejected.contains_key(*path));
        let mut rejected: ByPath<_> = pending.map(|path| (Arc::clone(path), held(path))).collect();
        rejected.extend(failing);
        let (policies, resolved, findings) = (None, ByPath::new(), ByPath::new());
        return Outcome { policies, reached, resolved, rejected, findings };
    }
    let found = findings(&all, &there, now);
    let mut findings: ByPath<Findings> = files.iter().map(|(path, _)| Arc::clone(path)).zip(found).collect();
    for (path, found) in expired {
        findings.entry(path).or_default().append(found);
    }
    Outcome { policies: Some(set), reached, resolved, rejected: ByPath::new(), findings }
}

/// The newest content of a file, unless that is out of the question.
fn wanted<'a>(path: &Arc<str>, kept: &'a Kept, rejected: &ByPath<Findings>) -> Option<&'a Document> {
    kept.pending.as_ref().filter(|_| !rejected.contains_key(path)).or(kept.document.as_ref())
}

/// What could be looked up.
struct Attempt {
    /// The files that belong to the allowlist.
    reached: BTreeSet<Arc<str>>,
    /// New rules by file.
    resolved: ByPath<Resolved>,
    /// Files in force that could not be looked up again: their rules stay.
    stale: ByPath<Findings>,
}

/// A file with the content that counts.
struct File<'a> {
    path: &'a Arc<str>,
    kept: &'a Kept,
    document: &'a Document,
    is_new: bool,
}

/// Errors of files, each on its own side: a new content with errors is out of the question, of what is in force it is only
/// noted.
#[derive(Default)]
struct Errors {
    new: ByPath<Findings>,
    old: ByPath<Findings>,
}

impl Errors {
    fn add(&mut self, file: &File<'_>, found: impl Into<Findings>) {
        let side = if file.is_new { &mut self.new } else { &mut self.old };
        side.entry(Arc::clone(file.path)).or_default().append(found.into());
    }
}

/// Looks everything up. An error names files whose newest content cannot be in force.
fn attempt(ledger: &Ledger, rejected: &ByPath<Findings>) -> Result<Attempt, ByPath<Findings>> {
    let documents: Documents<'_> =
        ledger.kept.iter().filter_map(|(path, kept)| Some((path, wanted(path, kept, rejected)?))).collect();
    let Included { reached, mut mistakes } = include::follow(&ledger.kept, &documents);
    let file = |path: &&Arc<str>| {
        let (path, kept) = ledger.kept.get_key_value(*path)?;
        let document = documents.get(path).copied()?;
        let is_new = kept.pending.as_ref().is_some_and(|pending| std::ptr::eq(pending, document));
        Some(File { path, kept, document, is_new })
    };
    // What has changed comes last, so that it is to blame for a conflict.
    let (new, old): (Vec<_>, Vec<_>) = reached.iter().filter_map(file).partition(|file| file.is_new);
    let files: Vec<File<'_>> = old.into_iter().chain(new).collect();
    let mut errors = Errors::default();
    for file in &files {
        if let Some(found) = mistakes.remove(file.path) {
            errors.add(file, found);
        }
    }
    let groups = groups(&files, &mut errors);
    let resolved = look_up(&files, &groups, &mut errors);
    let resolved = without_conflicts(&files, resolved, &mut errors);
    if !errors.new.is_empty() {
        return Err(errors.new);
    }
    let reached = reached.into_iter().cloned().collect();
    Ok(Attempt { reached, resolved, stale: errors.old })
}

/// The groups of all files.
fn groups<'a>(files: &[File<'a>], errors: &mut Errors) -> Groups<'a> {
    let mut groups = Groups::new();
    for file in files {
        for (name, group) in &file.document.groups {
            let Some((other, known)) = groups.insert(name, (file.document, group)) else { continue };
            let place = format!("{}:{}", other.source.path, known.span.line);
            let message = format!("group `{name}` is also in {place}");
            let error =
                Diagnostic::error(&file.document.source, "group-duplicate", group.span.clone(), message);
            errors.add(file, error.help("give one of the two another name"));
        }
    }
    groups
}

/// The rules of each file that is new, or that depends on groups. An edit that takes a group away from others is to blame.
fn look_up(files: &[File<'_>], groups: &Groups<'_>, errors: &mut Errors) -> ByPath<Resolved> {
    let mut resolved = ByPath::new();
    let mut lost: Option<String> = None;
    for file in files {
        if !file.is_new && file.kept.good.is_some() && !file.document.depends() {
            continue;
        }
        match resolve(file.document, groups) {
            Ok(rules) => drop(resolved.insert(Arc::clone(file.path), rules)),
            Err(found) => {
                if !file.is_new {
                    lost = lost.or_else(|| found.iter().next().map(Diagnostic::place));
                }
                errors.add(file, found);
            }
        }
    }
    let Some(place) = lost else { return resolved };
    for file in files.iter().filter(|file| changes_groups(file)) {
        let message = format!("a group is missing or does not fit any more where it is used: {place}");
        let found = Diagnostic::whole_file(Arc::clone(file.path), "group-in-use", message);
        errors.add(file, found.help("mend the place that uses it first, or leave the group as it was"));
    }
    resolved
}

fn changes_groups(file: &File<'_>) -> bool {
    let nothing = BTreeMap::new();
    let before = file.kept.document.as_ref().map_or(&nothing, |document| &document.groups);
    file.is_new && *before != file.document.groups
}

/// Without the rules of files that conflict with others. Files that are in force together do not.
fn without_conflicts(
    files: &[File<'_>],
    mut resolved: ByPath<Resolved>,
    errors: &mut Errors,
) -> ByPath<Resolved> {
    let mut known: Vec<&Resolved> = Vec::with_capacity(files.len());
    let mut fresh: Vec<&Resolved> = Vec::new();
    let mut size = Size::default();
    let mut conflicting = Vec::new();
    for file in files {
        let Some(rules) = resolved.get(file.path).or(file.kept.good.as_ref()) else { continue };
        let together = file.kept.together && !file.is_new;
        let mut found = match (together, fresh.is_empty()) {
            (true, true) => Findings::default(),
            (true, false) => conflicts(rules, &fresh),
            (false, _) => conflicts(rules, &known),
        };
        let larger = size.with(rules);
        larger.excess(rules).filter(|_| !together).into_iter().for_each(|excess| found.push(excess));
        if found.count() == 0 {
            size = larger;
            known.push(rules);
            fresh.extend(Some(rules).filter(|_| !together));
        } else {
            errors.add(file, found);
            conflicting.push(Arc::clone(file.path));
        }
    }
    conflicting.iter().for_each(|path| drop(resolved.remove(path)));
    resolved
}
