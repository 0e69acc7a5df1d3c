//! What a filter chain of the internal listeners is called, and the keys that lead to it.
//!
//! Knows nothing of rules: who makes a name says what its chain stands for.

use std::{fmt, sync::Arc};
use xxhash_rust::xxh3::xxh3_64;

/// What a chain is called, and found by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ChainName {
    /// A form of a host, and a port.
    site: String,
    /// A mark of everything else that the chain stands for.
    mark: Option<String>,
}

/// Keys have this that are no plain authorities: routes let no authority pass that has it.
const NO_AUTHORITY: char = '#';

impl ChainName {
    /// The chain of a site, with a mark of everything else that it stands for, if there is any.
    pub(super) fn new(site: String, marks: &[String]) -> Self {
        let mark = format!("{:08x}", xxh3_64(marks.join("\n").as_bytes()) >> 32);
        Self { site, mark: (!marks.is_empty()).then_some(mark) }
    }

    /// What a key for it has behind the authority: a request that was let through by what was in force before finds no chain
    /// any more that stands for less.
    pub(super) fn mark(&self) -> Option<Arc<str>> {
        self.mark.as_deref().map(Arc::from)
    }

    /// The key of an authority.
    pub(super) fn key_of(&self, authority: &str) -> String {
        key_of(authority, self.mark.as_deref())
    }

    /// Whether what has an authority finds both alike.
    pub(super) fn is_found_like(&self, other: &Self) -> bool {
        self.mark == other.mark
    }

    /// The key where no authority leads to it.
    pub(super) fn key(&self) -> Arc<str> {
        format!("{NO_AUTHORITY}{:016x}", xxh3_64(self.to_string().as_bytes())).into()
    }
}

/// The key of an authority, or of what Envoy puts in its place, and a mark.
pub(super) fn key_of(authority: &str, mark: Option<&str>) -> String {
    match mark {
        Some(mark) => format!("{authority}{NO_AUTHORITY}{mark}"),
        None => authority.to_owned(),
    }
}

impl fmt::Display for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key_of(&self.site))
    }
}
