//! The last good content of each file on disk, so that a restart with a broken file serves what was enforced before.
//!
//! It is trusted like the allowlists themselves, so it is only believed if nobody else can write it.

use crate::allowlist::MAX_BYTES;
use anyhow::{Context, bail};
use bytes::Bytes;
use rustix::fs::OFlags;
use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    io::{ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};
use xxhash_rust::xxh3::xxh3_64;

/// Endings of its files.
const ENDING: &str = "last-good";
/// Longest path of an allowlist file.
const MAX_PATH: usize = 64 * 1024;

/// A directory of last good contents.
#[derive(Debug)]
pub(super) struct StateDir {
    path: PathBuf,
    /// What is saved, by the path of the allowlist file.
    saved: BTreeMap<Arc<str>, Bytes>,
}

impl StateDir {
    /// Opens it, and makes it if it is not there. Files that are damaged are passed over.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let what = || format!("cannot use --state-dir {}", path.display());
        if !path.exists() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(what)?;
        }
        let metadata = fs::metadata(path).with_context(what)?;
        if !is_ours(&metadata) {
            bail!("{}: others can write it, and what is in it is served; chown it and chmod go-w", what());
        }
        let mut saved = BTreeMap::new();
        for entry in fs::read_dir(path).with_context(what)? {
            let file = entry.with_context(what)?.path();
            if file.extension().is_some_and(|ending| ending == ENDING) {
                match load(&file).filter(|(name, _)| Some(file_name(name).as_os_str()) == file.file_name()) {
                    Some((name, content)) => drop(saved.insert(name, content)),
                    None => tracing::warn!(
                        "{} is damaged, or others can write it; it is not used",
                        file.display()
                    ),
                }
            }
        }
        Ok(Self { path: path.to_owned(), saved })
    }

    /// What was saved before the start.
    pub(super) fn saved(&self) -> BTreeMap<Arc<str>, Bytes> {
        self.saved.clone()
    }

    /// Saves what is in force now. What is unchanged is not written again.
    pub(super) fn save<'a>(&mut self, good: impl Iterator<Item = (&'a Arc<str>, &'a Bytes)>) {
        let good: BTreeMap<Arc<str>, Bytes> =
            good.map(|(path, content)| (Arc::clone(path), content.clone())).collect();
        if good == self.saved {
            return;
        }
        let gone: Vec<Arc<str>> =
            self.saved.keys().filter(|path| !good.contains_key(*path)).cloned().collect();
        for (path, content) in good {
            if self.saved.get(&path) == Some(&content) {
                continue;
            }
            match self.write(&path, &content) {
                Ok(()) => drop(self.saved.insert(path, content)),
                // It is tried again with the next edit.
                Err(error) => {
                    tracing::warn!("cannot save the last good content of {path} in --state-dir: {error}");
                }
            }
        }
        for path in gone {
            match fs::remove_file(self.file(&path)) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    tracing::warn!("cannot remove the saved content of {path}: {error}");
                }
                _ => drop(self.saved.remove(&path)),
            }
        }
    }

    fn file(&self, path: &str) -> PathBuf {
        self.path.join(file_name(path))
    }

    /// Whole or not at all; only for the owner's eyes, as temporary files are.
    fn write(&self, path: &str, content: &[u8]) -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.path)?;
        writeln!(file, "{}", serde_json::Value::from(path))?;
        writeln!(file, "{:016x}", xxh3_64(content))?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(self.file(path))?;
        // The name, too, must be there after a power cut.
        fs::File::open(&self.path)?.sync_all()
    }
}

fn file_name(path: &str) -> OsString {
    format!("{:016x}.{ENDING}", xxh3_64(path.as_bytes())).into()
}

/// Whether only this user, or the system's, can have written something.
fn is_ours(metadata: &fs::Metadata) -> bool {
    let user = rustix::process::geteuid().as_raw();
    metadata.mode() & 0o022 == 0 && (metadata.uid() == user || metadata.uid() == 0)
}

/// A line with the path, a line with a hash of the rest, and the rest.
fn load(file: &Path) -> Option<(Arc<str>, Bytes)> {
    let limit = u64::try_from(MAX_BYTES + MAX_PATH).ok()?;
    let mut text = Vec::new();
    // What is opened is what is judged; a link, or a pipe that waits for its writer, is none of ours.
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).ok()?;
    let opened = fs::OpenOptions::new().read(true).custom_flags(flags).open(file).ok()?;
    let metadata = opened.metadata().ok()?;
    if !metadata.is_file() || !is_ours(&metadata) {
        return None;
    }
    opened.take(limit).read_to_end(&mut text).ok()?;
    let mut parts = text.splitn(3, |byte| *byte == b'\n');
    let path: String = serde_json::from_slice(parts.next()?).ok()?;
    let hash = parts.next()?;
    let content = parts.next()?;
    (format!("{:016x}", xxh3_64(content)).as_bytes() == hash)
        .then(|| (path.into(), Bytes::copy_from_slice(content)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_saved_is_there_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let good = |content: &'static str| BTreeMap::from([(Arc::from("a/b.yaml"), Bytes::from(content))]);
        let mut state = StateDir::open(&path).unwrap();
        assert!(state.saved().is_empty());
        state.save(good("- a.com").iter());
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        let file = state.file("a/b.yaml");
        assert_eq!((mode(&path), mode(&file)), (0o700, 0o600));
        let mut state = StateDir::open(&path).unwrap();
        assert_eq!(state.saved(), good("- a.com"));
        fs::write(&file, fs::read_to_string(&file).unwrap().replace("a.com", "b.com")).unwrap();
        assert!(StateDir::open(&path).unwrap().saved().is_empty(), "a damaged file is not believed");
        state.save(BTreeMap::new().iter());
        assert!(!file.exists());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(StateDir::open(&path).unwrap_err().to_string().contains("chmod"));
    }
}
