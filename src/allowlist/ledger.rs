//! Which files are in force: the last good content of each file, and what is wrong with the newest.
//!
//! A file that turns bad keeps what it allowed before, whatever happens to the others. At the start there is no policy
//! until every file is good: serving the good part would deny what the bad part allowed before a restart. Afterwards a
//! new file that has never been good adds nothing, and holds nobody back.

use super::{Diagnostic, FileEntries, FileText, combine, parse};
use crate::policy::Policy;
use std::{collections::BTreeMap, sync::Arc};

/// What one path that the operator named leads to.
#[derive(Clone, Debug)]
pub struct Found {
    /// As named.
    pub path: Arc<str>,
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
    pub content: Result<bytes::Bytes, String>,
}

/// The state of one file, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileState {
    /// The path for messages.
    pub path: Arc<str>,
    /// Whether what it holds now is in force.
    pub in_force: bool,
    /// What is wrong with what it holds now.
    pub diagnostics: Vec<Diagnostic>,
}

/// What the files add up to.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The policy; nothing before all files were good at once.
    pub policy: Option<Policy>,
    /// Every file, sorted by path.
    pub files: Vec<FileState>,
}

/// Remembers each file's last good content.
#[derive(Debug, Default)]
pub struct Ledger {
    kept: BTreeMap<Arc<str>, Kept>,
    /// There has been a policy.
    started: bool,
}

#[derive(Debug)]
struct Kept {
    root: Arc<str>,
    seen: Option<(Arc<str>, bytes::Bytes)>,
    good: Option<FileEntries>,
    state: FileState,
}

impl Ledger {
    /// Takes in what is on disk now. Only files that changed are read again.
    pub fn apply(&mut self, found: &[Found]) -> Loaded {
        for root in found {
            match &root.files {
                Ok(files) => {
                    // A file that is gone is an edit; so is a directory that came back in place of its error.
                    self.kept.retain(|path, kept| {
                        kept.root != root.path || files.iter().any(|file| file.path == *path)
                    });
                    for file in files {
                        self.take(&root.path, file);
                    }
                }
                Err(why) => self.lose(&root.path, why),
            }
        }
        self.started |= !self.kept.is_empty() && self.kept.values().all(|kept| kept.good.is_some());
        Loaded {
            policy: self.started.then(|| combine(self.kept.values().filter_map(|kept| kept.good.as_ref()))),
            files: self.kept.values().map(|kept| kept.state.clone()).collect(),
        }
    }

    fn take(&mut self, root: &Arc<str>, file: &FoundFile) {
        let kept = self.kept.entry(Arc::clone(&file.path)).or_insert_with(|| Kept {
            root: Arc::clone(root),
            seen: None,
            good: None,
            state: FileState { path: Arc::clone(&file.path), in_force: false, diagnostics: Vec::new() },
        });
        let bytes = match &file.content {
            Ok(bytes) => bytes,
            Err(why) => return kept.fail(why.clone()),
        };
        let seen = (Arc::clone(&file.label), bytes.clone());
        if kept.seen.as_ref() == Some(&seen) {
            return;
        }
        let parsed =
            parse(&FileText { path: Arc::clone(&file.path), label: seen.0.clone(), bytes: bytes.clone() });
        kept.seen = Some(seen);
        kept.state.diagnostics = parsed.diagnostics;
        kept.state.in_force = parsed.entries.is_some();
        if let Some(entries) = parsed.entries {
            kept.good = Some(entries);
        }
    }

    /// A root that cannot be read says nothing about its files: they stay in force.
    fn lose(&mut self, root: &Arc<str>, why: &str) {
        let mut known = false;
        for kept in self.kept.values_mut().filter(|kept| kept.root == *root) {
            known = true;
            kept.fail(format!("{root}: {why}"));
        }
        if !known {
            let state = FileState { path: Arc::clone(root), in_force: false, diagnostics: Vec::new() };
            let mut kept = Kept { root: Arc::clone(root), seen: None, good: None, state };
            kept.fail(why.to_owned());
            self.kept.insert(Arc::clone(root), kept);
        }
    }
}

impl Kept {
    fn fail(&mut self, why: String) {
        // What comes back, even if unchanged, is read again and clears this.
        self.seen = None;
        self.state.in_force = false;
        let found = Diagnostic::whole_file(
            Arc::clone(&self.state.path),
            "unreadable",
            format!("cannot be read: {why}"),
        );
        self.state.diagnostics = vec![found.help(
            "check that the path is right and readable; to deny everything, leave a file with `allow: []`",
        )];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(files: &[(&str, Result<&'static str, &str>)]) -> Found {
        let files = files.iter().map(|(path, content)| FoundFile {
            path: (*path).into(),
            label: (*path).into(),
            content: content.map(Into::into).map_err(str::to_owned),
        });
        Found { path: "d".into(), files: Ok(files.collect()) }
    }

    fn rules(loaded: &Loaded) -> Vec<String> {
        let policy = loaded.policy.as_ref().unwrap();
        policy.rules().iter().map(|rule| format!("{}={}", rule.origin, rule.spelling())).collect()
    }

    #[test]
    fn a_bad_file_keeps_its_own_last_good_while_others_go_on() {
        let mut ledger = Ledger::default();
        let loaded = ledger.apply(&[root(&[("a", Ok("- a.com")), ("b", Ok("- b.com"))])]);
        assert_eq!(rules(&loaded), ["a:1=a.com", "b:1=b.com"]);
        let loaded = ledger.apply(&[root(&[("a", Ok("- *.a.com")), ("b", Ok("- c.com"))])]);
        assert_eq!(rules(&loaded), ["a:1=a.com", "b:1=c.com"]);
        assert!(!loaded.files[0].in_force && loaded.files[1].in_force);
        let loaded = ledger.apply(&[root(&[("a", Ok("- a.com")), ("b", Err("busy"))])]);
        assert_eq!(rules(&loaded), ["a:1=a.com", "b:1=c.com"]);
        assert!(loaded.files[0].in_force && !loaded.files[1].in_force);
    }

    #[test]
    fn nothing_is_served_before_every_file_was_good_once() {
        let mut ledger = Ledger::default();
        assert!(ledger.apply(&[]).policy.is_none());
        assert!(ledger.apply(&[root(&[("a", Ok("- a.com")), ("b", Ok(""))])]).policy.is_none());
        let loaded = ledger.apply(&[root(&[("a", Ok("- a.com")), ("b", Ok("allow: []"))])]);
        assert_eq!(rules(&loaded), ["a:1=a.com"]);
    }

    #[test]
    fn a_new_file_that_was_never_good_holds_nobody_back() {
        let mut ledger = Ledger::default();
        ledger.apply(&[root(&[("a", Ok("- a.com\n- b.com"))])]);
        let loaded = ledger.apply(&[root(&[("a", Ok("- a.com")), ("new", Ok("- *"))])]);
        assert_eq!(rules(&loaded), ["a:1=a.com"], "a removal is enforced at once");
        assert!(!loaded.files[1].in_force);
    }

    #[test]
    fn a_removed_file_is_an_edit_and_a_lost_directory_is_not() {
        let mut ledger = Ledger::default();
        ledger.apply(&[root(&[("a", Ok("- a.com")), ("b", Ok("- b.com"))])]);
        let loaded = ledger.apply(&[Found { path: "d".into(), files: Err("gone".into()) }]);
        assert_eq!(rules(&loaded), ["a:1=a.com", "b:1=b.com"]);
        assert!(loaded.files.iter().all(|file| !file.in_force));
        let loaded = ledger.apply(&[root(&[("b", Ok("- b.com"))])]);
        assert_eq!(rules(&loaded), ["b:1=b.com"]);
        assert!(loaded.files[0].in_force);
    }

    #[test]
    fn the_same_entry_in_two_files_counts_once() {
        let mut ledger = Ledger::default();
        let loaded = ledger.apply(&[root(&[("a", Ok("- a.com")), ("b", Ok("- a.com"))])]);
        assert_eq!(rules(&loaded), ["a:1=a.com"]);
    }
}
