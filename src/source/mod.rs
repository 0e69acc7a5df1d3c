//! From disk to bytes: which files there are and what they hold, now and after every edit.
//!
//! Knows nothing of YAML or policy.
//!
//! The scheme is level-triggered. File events are hints that say when to look; the bytes found by a scan are the
//! truth; a tick looks even without a hint, because some edits cause no event (overlay file systems, bind-mounted
//! files, a swapped symlink above the watched directory).

mod exposure;
mod hints;
mod rescan;
mod scan;
mod watch;

pub use exposure::Exposure;
pub use rescan::Rescan;
pub use scan::{Bundle, File, Place, Root, RootState, Unreadable, scan};
pub use watch::{Change, Watcher};

/// Endings of the files that a directory contributes.
pub const EXTENSIONS: [&str; 2] = ["yaml", "yml"];
