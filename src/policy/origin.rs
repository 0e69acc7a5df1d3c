//! Where a rule was written. Carried along for people, never interpreted.

use std::{fmt, sync::Arc};

/// A file and a line, shown as `allowlist.yaml:12` in logs, in 403 bodies and in answers to "why".
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The file's label: a name that is equal on every replica, so no absolute path.
    pub file: Arc<str>,
    /// Line in the file, from 1.
    pub line: u32,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}
