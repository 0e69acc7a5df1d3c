//! Files that files include: which, how deep, and never in a circle.
//!
//! Knows nothing of the disk: it names patterns, and is told what they lead to.

use super::{
    diagnostic::{Diagnostic, Findings},
    file::{Document, Named},
    ledger::Kept,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Deepest chain of includes.
pub const MAX_INCLUDES: usize = 4;

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

fn of<'a>(path: &'a Arc<str>, document: &'a Document) -> impl Iterator<Item = (&'a Named, Include)> + 'a {
    document
        .includes
        .iter()
        .map(|named| (named, Include { from: Arc::clone(path), pattern: named.name.clone() }))
}

/// What there is to look at: what files in force include, and what their newest contents would.
pub(super) fn wanted(kept: &BTreeMap<Arc<str>, Kept>) -> BTreeSet<Include> {
    let there = kept.iter().filter(|(_, kept)| !kept.roots.is_empty());
    let documents = there.flat_map(|(path, kept)| {
        kept.pending.iter().chain(&kept.document).map(move |document| (path, document))
    });
    documents.flat_map(|(path, document)| of(path, document).map(|(_, include)| include)).collect()
}

/// The content of each file that counts.
pub(super) type Documents<'a> = BTreeMap<&'a Arc<str>, &'a Document>;

/// Which files belong to the allowlist, and what is wrong with how they include each other.
pub(super) struct Included<'a> {
    /// Those that the operator named, and those that they include.
    pub(super) reached: BTreeSet<&'a Arc<str>>,
    /// Errors by file.
    pub(super) mistakes: BTreeMap<Arc<str>, Findings>,
}

/// Follows the includes from the files that the operator named.
pub(super) fn follow<'a>(kept: &'a BTreeMap<Arc<str>, Kept>, documents: &Documents<'a>) -> Included<'a> {
    let named = kept.iter().filter(|(_, kept)| kept.named).map(|(path, _)| path);
    let mut included = Included { reached: named.collect(), mistakes: BTreeMap::new() };
    let mut layer: Vec<&Arc<str>> = included.reached.iter().copied().collect();
    for depth in 0.. {
        let mut next = Vec::new();
        for path in layer {
            let Some(document) = documents.get(path) else { continue };
            for (name, include) in of(path, document) {
                let error = |code, message: String, help: &str| {
                    Diagnostic::error(&document.source, code, name.span.clone(), message).help(help)
                };
                // What is in force was sound: an edit closes a circle.
                let is_new = kept.get(path).and_then(|kept| kept.pending.as_ref());
                let is_new = is_new.is_some_and(|pending| std::ptr::eq(pending, *document));
                let found = if is_new && leads_to(&include, path, kept, documents, &mut BTreeSet::new()) {
                    let message = format!("`{}` leads back to this file", name.name);
                    Some(error("include-cycle", message, "take the include out of one of the files"))
                } else if depth == MAX_INCLUDES {
                    let message = format!("files include each other deeper than {MAX_INCLUDES}");
                    Some(error("include-depth", message, "include the file from a file further up"))
                } else {
                    None
                };
                if let Some(found) = found {
                    included.mistakes.entry(Arc::clone(path)).or_default().push(found);
                    continue;
                }
                next.extend(at(&include, kept).filter(|other| included.reached.insert(other)));
            }
        }
        if next.is_empty() {
            break;
        }
        layer = next;
    }
    included
}

/// The files that an include leads to.
fn at<'a>(include: &Include, kept: &'a BTreeMap<Arc<str>, Kept>) -> impl Iterator<Item = &'a Arc<str>> {
    let root = include.path();
    kept.iter().filter(move |(_, kept)| kept.roots.contains(root.as_str())).map(|(path, _)| path)
}

fn leads_to(
    include: &Include,
    target: &Arc<str>,
    kept: &BTreeMap<Arc<str>, Kept>,
    documents: &Documents<'_>,
    seen: &mut BTreeSet<String>,
) -> bool {
    if !seen.insert(include.path()) {
        return false;
    }
    for path in at(include, kept) {
        if path == target {
            return true;
        }
        let Some(document) = documents.get(path) else { continue };
        if of(path, document).any(|(_, next)| leads_to(&next, target, kept, documents, seen)) {
            return true;
        }
    }
    false
}
