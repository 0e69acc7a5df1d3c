//! What an edit changes, in the words of the file.

use super::Policy;
use std::{collections::BTreeSet, fmt};

/// The entries that an edit adds and removes. Moved lines and comments are no difference.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyDiff {
    /// Spellings that are new, sorted.
    pub added: Vec<String>,
    /// Spellings that are gone, sorted.
    pub removed: Vec<String>,
}

impl PolicyDiff {
    /// More entries than this are counted instead of named.
    const NAMED: usize = 8;

    /// Compares by meaning.
    #[must_use]
    pub fn between(old: &Policy, new: &Policy) -> Self {
        let spellings = |policy: &Policy| -> BTreeSet<String> {
            policy.rules().iter().map(super::Rule::spelling).collect()
        };
        let (old, new) = (spellings(old), spellings(new));
        Self {
            added: new.difference(&old).cloned().collect(),
            removed: old.difference(&new).cloned().collect(),
        }
    }

    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }
}

/// `+docs.example.com -old.example.com`; long lists end in a count.
impl fmt::Display for PolicyDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("no change in meaning");
        }
        let mut separator = "";
        for (sign, entries) in [('+', &self.added), ('-', &self.removed)] {
            for entry in entries.iter().take(Self::NAMED) {
                write!(f, "{separator}{sign}{entry}")?;
                separator = " ";
            }
            if let Some(more) = entries.len().checked_sub(Self::NAMED).filter(|more| *more > 0) {
                write!(f, " ({sign}{more} more)")?;
            }
        }
        Ok(())
    }
}
