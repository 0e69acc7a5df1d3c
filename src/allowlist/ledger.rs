//! Which files are in force: the last good content of each file, and what is wrong with the newest.
//!
//! A file that turns bad keeps what it allowed before, whatever happens to the others. At the start there is no policy
//! until every file is good: serving the good part would deny what the bad part allowed before a restart. Afterwards a
//! new file that has never been good adds nothing, and holds nobody back.

use super::{
    Diagnostic, FileText,
    diagnostic::Findings,
    file::{Document, parse},
    include::{self, Include},
    resolve::Resolved,
    settle,
};
use crate::policy::{PolicySet, Timestamp};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// What one path that the operator or a file named leads to.
#[derive(Clone, Debug)]
pub struct Found {
    /// As named.
    pub path: Arc<str>,
    /// Whether a file names it, and not the operator.
    pub included: bool,
    /// Its files, or why there are none.
    pub files: Result<Vec<FoundFile>, String>,
}

/// One file.
#[derive(Clone, Debug)]
pub struct FoundFile {
    /// The path for messages.
    pub path: Arc<str>,
    /// The name in rules.
    pub label: Arc<str>,
    /// What it holds, or why it cannot be read.
    pub content: Result<Bytes, String>,
    /// Who else can change it, and what to do about that.
    pub exposed: Option<Exposed>,
}

/// Others than the operator can change a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposed {
    /// Who, and how.
    pub message: String,
    /// What to do about it.
    pub help: String,
}

/// The state of one file, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileState {
    /// The path for messages.
    pub path: Arc<str>,
    /// Whether what it holds now is in force.
    pub in_force: bool,
    /// Whether what is in force instead is from before the start.
    pub restored: bool,
    /// What is wrong with what it holds now.
    pub diagnostics: Vec<Diagnostic>,
}

/// What the files add up to.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The policies, with entries that have expired or will; nothing before all files were good at once.
    pub policies: Option<PolicySet>,
    /// Every file, sorted by path.
    pub files: Vec<FileState>,
    /// Whether that is what the files hold now, as far as they are valid: not if a self-test keeps an edit out.
    pub settled: bool,
    /// The texts in force by the files' labels, to quote lines of.
    pub texts: BTreeMap<Arc<str>, Arc<str>>,
}

/// Remembers each file's last good content.
#[derive(Debug, Default)]
pub struct Ledger {
    pub(super) kept: BTreeMap<Arc<str>, Kept>,
    /// Last good contents from before the start, by path.
    saved: BTreeMap<Arc<str>, Bytes>,
    /// What is in force.
    policies: Option<PolicySet>,
}

/// One file.
#[derive(Debug)]
pub(super) struct Kept {
    /// The paths that lead to it...
    pub(super) roots: BTreeSet<Arc<str>>,
    /// ...and whether the operator named one of them.
    pub(super) named: bool,
    seen: Option<Seen>,
    /// What it holds now, if that is not yet in force.
    pub(super) pending: Option<Document>,
    /// What of it is in force...
    pub(super) document: Option<Document>,
    /// ...the bytes of that...
    bytes: Option<Bytes>,
    /// ...and the rules that it makes.
    pub(super) good: Option<Resolved>,
    /// Whether they are in force with those of all others.
    pub(super) together: bool,
    /// What was noticed while reading.
    notes: Findings,
    exposed: Option<Exposed>,
    pub(super) state: FileState,
}

/// What a file held when it was last read.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    label: Arc<str>,
    bytes: Bytes,
}

impl Ledger {
    /// An empty ledger that falls back on what was good before a restart, where a file is not good now.
    #[must_use]
    pub fn restoring(saved: BTreeMap<Arc<str>, Bytes>) -> Self {
        Self { saved, ..Self::default() }
    }

    /// Takes in what is on disk now. Only files that changed are read again.
    pub fn apply(&mut self, found: &[Found], now: Timestamp) -> Loaded {
        self.read(found);
        self.settle(now)
    }

    /// Reads what is on disk now, and puts nothing in force yet: a file may include others.
    pub fn read(&mut self, found: &[Found]) {
        let roots: BTreeMap<&Arc<str>, bool> = found.iter().map(|root| (&root.path, root.included)).collect();
        // A path that nobody names any more leads nowhere.
        for kept in self.kept.values_mut() {
            kept.roots.retain(|root| roots.contains_key(root));
        }
        // What one path cannot show, another may.
        for root in found {
            if let Err(why) = &root.files {
                self.lose(&root.path, why);
            }
        }
        for root in found {
            let Ok(files) = &root.files else { continue };
            let there: BTreeSet<&Arc<str>> = files.iter().map(|file| &file.path).collect();
            // A file that is gone is an edit; so is a directory that came back in place of its error.
            for (path, kept) in &mut self.kept {
                if !there.contains(path) {
                    kept.roots.remove(&root.path);
                }
            }
            for file in files {
                self.take(&root.path, file);
            }
        }
        for kept in self.kept.values_mut() {
            kept.named = kept.roots.iter().any(|root| roots.get(root) == Some(&false));
        }
    }

    /// What the files include, or would if their newest contents were in force.
    #[must_use]
    pub fn includes(&self) -> BTreeSet<Include> {
        include::wanted(&self.kept)
    }

    /// Puts in force what can be, and says what cannot.
    pub fn settle(&mut self, now: Timestamp) -> Loaded {
        let mut known: BTreeMap<Arc<str>, Findings> = BTreeMap::new();
        for (path, kept) in &mut self.kept {
            let mut found = kept.notes.clone();
            kept.exposure().into_iter().for_each(|exposed| found.push(exposed));
            known.insert(Arc::clone(path), found);
            kept.state.in_force = kept.pending.is_some() || kept.is_sound() && kept.document.is_some();
        }
        let outcome = settle::settle(self, now);
        let mut settled = false;
        for (path, found) in outcome.rejected {
            if let Some(kept) = self.kept.get_mut(&path) {
                kept.state.in_force = false;
                known.entry(path).or_default().append(found);
            }
        }
        for (path, found) in outcome.findings {
            if self.kept.get(&path).is_some_and(|kept| kept.state.in_force) {
                known.entry(path).or_default().append(found);
            }
        }
        let has_rules = |path: &Arc<str>| {
            outcome.resolved.contains_key(path) || self.kept.get(path).is_some_and(|kept| kept.good.is_some())
        };
        let complete = !outcome.reached.is_empty() && outcome.reached.iter().all(has_rules);
        if let Some(policies) = outcome.policies.filter(|_| self.policies.is_some() || complete) {
            self.policies = Some(policies);
            settled = true;
            // From here on there is something to fall back on that is newer; what is gone is out of force.
            self.saved.clear();
            self.kept.retain(|_, kept| !kept.roots.is_empty());
            for (path, resolved) in outcome.resolved {
                if let Some(kept) = self.kept.get_mut(&path) {
                    kept.enforce(resolved);
                }
            }
            for (path, kept) in &mut self.kept {
                kept.together = kept.good.is_some() && outcome.reached.contains(path);
            }
        }
        for (path, kept) in &mut self.kept {
            kept.state.diagnostics = known.get(path).map(Findings::most_important).unwrap_or_default();
        }
        let files = outcome.reached.iter().filter_map(|path| self.kept.get(path));
        Loaded {
            policies: self.policies.clone(),
            files: files.map(|kept| kept.state.clone()).collect(),
            settled,
            texts: self.texts(),
        }
    }

    fn texts(&self) -> BTreeMap<Arc<str>, Arc<str>> {
        let documents = self.kept.values().filter_map(|kept| kept.document.as_ref());
        documents.map(|one| (Arc::clone(&one.label), Arc::clone(&one.source.text))).collect()
    }

    /// The content of each file that is in force.
    pub fn last_good(&self) -> impl Iterator<Item = (&Arc<str>, &Bytes)> {
        self.kept.iter().filter_map(|(path, kept)| Some((path, kept.bytes.as_ref()?)))
    }

    fn take(&mut self, root: &Arc<str>, file: &FoundFile) {
        let kept = self.kept.entry(Arc::clone(&file.path)).or_insert_with(|| Kept::new(&file.path));
        kept.roots.insert(Arc::clone(root));
        kept.exposed.clone_from(&file.exposed);
        match &file.content {
            Ok(bytes) => kept.read(file, bytes),
            Err(why) => kept.fail(why.clone()),
        }
        let good = kept.pending.is_some() || kept.document.is_some();
        if !good && let Some(bytes) = self.saved.get(&file.path) {
            let text = FileText { path: file.path.clone(), label: file.label.clone(), bytes: bytes.clone() };
            kept.document = parse(&text).0;
            kept.bytes = Some(bytes.clone()).filter(|_| kept.document.is_some());
            kept.state.restored = kept.document.is_some();
        }
    }

    /// A root that cannot be read says nothing about its files: they stay in force.
    fn lose(&mut self, root: &Arc<str>, why: &str) {
        let mut known = false;
        for kept in self.kept.values_mut().filter(|kept| kept.roots.contains(root)) {
            known = true;
            kept.fail(format!("{root}: {why}"));
        }
        if !known {
            let kept = self.kept.entry(Arc::clone(root)).or_insert_with(|| Kept::new(root));
            kept.roots.insert(Arc::clone(root));
            kept.fail(why.to_owned());
        }
    }

    /// Whether nothing has been in force yet.
    pub(super) const fn is_new(&self) -> bool {
        self.policies.is_none()
    }

    /// Where a file's newest content cannot be in force: what was good before the start, if that is known.
    pub(super) fn restore(&mut self, path: &Arc<str>) -> bool {
        let Some((bytes, kept)) = self.saved.get(path).zip(self.kept.get_mut(path)) else { return false };
        let Some(seen) = kept.seen.as_ref().filter(|_| kept.document.is_none()) else { return false };
        let (path, label) = (Arc::clone(path), Arc::clone(&seen.label));
        kept.document = parse(&FileText { path, label, bytes: bytes.clone() }).0;
        kept.bytes = Some(bytes.clone()).filter(|_| kept.document.is_some());
        kept.state.restored = kept.document.is_some();
        kept.state.restored
    }
}

impl Kept {
    fn new(path: &Arc<str>) -> Self {
        let path = Arc::clone(path);
        Self {
            roots: BTreeSet::new(),
            named: false,
            seen: None,
            pending: None,
            document: None,
            bytes: None,
            good: None,
            together: false,
            notes: Findings::default(),
            exposed: None,
            state: FileState { path, in_force: false, restored: false, diagnostics: Vec::new() },
        }
    }

    fn read(&mut self, file: &FoundFile, bytes: &Bytes) {
        let seen = Seen { label: Arc::clone(&file.label), bytes: bytes.clone() };
        if self.seen.as_ref() == Some(&seen) {
            return;
        }
        let text = FileText { path: Arc::clone(&file.path), label: seen.label.clone(), bytes: bytes.clone() };
        let (document, notes) = parse(&text);
        self.seen = Some(seen);
        self.notes = notes;
        // What has errors is not there; what it held before is.
        self.pending = document;
    }

    /// Whether its newest content could be read and has no errors of its own.
    const fn is_sound(&self) -> bool {
        self.seen.is_some() && !self.notes.stops()
    }

    /// Whoever can write the file decides what is allowed.
    fn exposure(&self) -> Option<Diagnostic> {
        let path = Arc::clone(&self.state.path);
        let Exposed { message, help } = self.exposed.as_ref()?;
        Some(Diagnostic::whole_file(path, "file-exposed", message).warning().help(help))
    }

    /// Its newest content is in force, if that has no errors, with these rules.
    fn enforce(&mut self, resolved: Resolved) {
        if self.state.in_force
            && let Some(mut document) = self.pending.take()
        {
            if !document.depends() {
                document.forget_entries();
            }
            self.document = Some(document);
            self.bytes = self.seen.as_ref().map(|seen| seen.bytes.clone());
            self.state.restored = false;
        }
        self.good = Some(resolved);
    }

    fn fail(&mut self, why: String) {
        // What comes back, even if unchanged, is read again and clears this.
        self.seen = None;
        self.pending = None;
        let found = Diagnostic::whole_file(
            Arc::clone(&self.state.path),
            "unreadable",
            format!("cannot be read: {why}"),
        );
        let help =
            "check that the path is right and readable; to deny everything, leave a file with `allow: []`";
        self.notes = found.help(help).into();
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
