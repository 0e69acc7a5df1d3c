//! Files that files include: which, how deep, and never in a circle.
//!
//! Knows nothing of the disk: it names patterns, and is told what they lead to.

use super::{diagnostic::Diagnostic, file::Document, ledger::Kept};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Deepest chain of includes.
const MAX_DEPTH: usize = 4;

/// Files that a file includes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Include {
    /// The including file, as it was found.
    pub from: Arc<str>,
    /// Below its directory, with at most one star in the last part.
    pub pattern: String,
}

impl Include {
    /// What the pattern leads to is found under this path.
    #[must_use]
    pub fn path(&self) -> String {
        match self.from.rsplit_once('/') {
            Some((directory, _)) => format!("{directory}/{}", self.pattern),
            None => self.pattern.clone(),
        }
    }
}

fn newest(kept: &Kept) -> Option<&Document> {
    kept.pending.as_ref().or(kept.document.as_ref())
}

fn of<'a>(path: &'a Arc<str>, document: &'a Document) -> impl Iterator<Item = Include> + 'a {
    let include =
        |named: &super::file::Named| Include { from: Arc::clone(path), pattern: named.name.clone() };
    document.includes.iter().map(include)
}

/// How far each file is from those that the operator named.
fn depths(kept: &BTreeMap<Arc<str>, Kept>) -> BTreeMap<&Arc<str>, usize> {
    let all: BTreeSet<String> = kept
        .iter()
        .filter_map(|(path, kept)| Some((path, newest(kept)?)))
        .flat_map(|(path, document)| of(path, document).map(|include| include.path()))
        .collect();
    let named = |kept: &Kept| kept.roots.iter().any(|root| !all.contains(&**root));
    let mut depths: BTreeMap<&Arc<str>, usize> =
        kept.iter().filter(|(_, kept)| named(kept)).map(|(path, _)| (path, 0)).collect();
    for depth in 0..=MAX_DEPTH {
        let here: Vec<_> = depths.iter().filter(|(_, at)| **at == depth).map(|(path, _)| *path).collect();
        for path in here {
            let Some(document) = kept.get(path).and_then(newest) else { continue };
            for include in of(path, document) {
                let root = include.path();
                for (other, _) in kept.iter().filter(|(_, kept)| kept.roots.contains(root.as_str())) {
                    depths.entry(other).or_insert(depth + 1);
                }
            }
        }
    }
    depths
}

/// The includes of all files that are not too deep.
pub(super) fn wanted(kept: &BTreeMap<Arc<str>, Kept>) -> BTreeSet<Include> {
    let depths = depths(kept);
    let follow = |path: &Arc<str>| depths.get(path).is_some_and(|depth| *depth < MAX_DEPTH);
    kept.iter()
        .filter(|(path, _)| follow(path))
        .filter_map(|(path, kept)| Some((path, newest(kept)?)))
        .flat_map(|(path, document)| of(path, document))
        .collect()
}

/// What is wrong with the includes of a file.
pub(super) fn mistakes(
    path: &Arc<str>,
    document: &Document,
    kept: &BTreeMap<Arc<str>, Kept>,
) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    if document.includes.is_empty() {
        return found;
    }
    let too_deep = depths(kept).get(path).is_none_or(|depth| *depth >= MAX_DEPTH);
    for (named, include) in document.includes.iter().zip(of(path, document)) {
        let error =
            |code, message: String| Diagnostic::error(&document.source, code, named.span.clone(), message);
        if leads_to(&include, path, kept, &mut BTreeSet::new()) {
            let error = error("include-cycle", format!("`{}` leads back to this file", named.name));
            found.push(error.help("take the include out of one of the files"));
        } else if too_deep {
            let message = format!("files include each other deeper than {MAX_DEPTH}");
            found.push(error("include-depth", message).help("include the file from a file further up"));
        }
    }
    found
}

fn leads_to(
    include: &Include,
    target: &Arc<str>,
    kept: &BTreeMap<Arc<str>, Kept>,
    seen: &mut BTreeSet<String>,
) -> bool {
    let root = include.path();
    if !seen.insert(root.clone()) {
        return false;
    }
    for (path, one) in kept.iter().filter(|(_, one)| one.roots.contains(root.as_str())) {
        if path == target {
            return true;
        }
        let Some(document) = newest(one) else { continue };
        if of(path, document).any(|next| leads_to(&next, target, kept, seen)) {
            return true;
        }
    }
    false
}
