//! One look at the disk.

use super::{EXTENSIONS, Exposure};
use bytes::Bytes;
use rustix::fs::OFlags;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Everything that was found. Two bundles are equal if nothing has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle {
    /// One for each path that the operator named, in that order.
    pub roots: Vec<Root>,
}

impl Bundle {
    /// All files of all roots.
    pub(super) fn files(&self) -> impl Iterator<Item = &File> {
        self.roots.iter().flat_map(|root| match &root.state {
            RootState::Files(files) => files.as_slice(),
            RootState::Unreadable(_) => &[],
        })
    }
}

/// A path that the operator named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// As named.
    pub path: PathBuf,
    /// What is there.
    pub state: RootState,
}

/// What a named path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootState {
    /// A file, or a directory with at least one allowlist file.
    Files(Vec<File>),
    /// Nothing usable. Whatever it held before stays in force.
    Unreadable(Unreadable),
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// The path for messages.
    pub path: PathBuf,
    /// The name in rules and logs: equal on replicas that keep the file elsewhere.
    pub label: Arc<str>,
    /// What it holds.
    pub content: Result<Bytes, Unreadable>,
    /// Who else can change it.
    pub exposed: Option<Exposure>,
}

/// Why something could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Nothing is there.
    #[error("there is no such file or directory")]
    Missing,
    /// A directory without a single allowlist file: more likely a failed mount than a wish to deny everything.
    #[error("the directory holds no *.yaml or *.yml file")]
    EmptyDirectory,
    /// No file has a name that fits.
    #[error("no file fits")]
    NothingFits,
    /// A pipe, device or socket.
    #[error("this is not a regular file")]
    NotAFile,
    /// A bind-mounted file that was replaced outside: it will never change again.
    #[error("the mounted file was replaced outside and is stale; mount its directory instead of the file")]
    StaleMount,
    /// The operating system's words.
    #[error("{0}")]
    Io(String),
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            _ => Self::Io(error.to_string()),
        }
    }
}

/// Where to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A file, or a directory of allowlist files.
    Path(PathBuf),
    /// The files of a directory whose name fits the last part, in which one `*` stands for any characters.
    Pattern(PathBuf),
}

impl Place {
    /// As named.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Path(path) | Self::Pattern(path) => path,
        }
    }

    /// What has to be watched for it.
    pub(super) fn watched(&self) -> &Path {
        match self {
            Self::Path(path) => path,
            Self::Pattern(path) => {
                path.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
            }
        }
    }
}

/// Reads every allowlist file at these places, of each at most `max_bytes` and one more, so that too large a file is
/// noticed and costs nothing.
#[must_use]
pub fn scan(places: &[Place], max_bytes: usize) -> Bundle {
    let root = |place: &Place| Root {
        path: place.path().to_owned(),
        state: match place {
            Place::Path(path) => scan_root(path, max_bytes),
            Place::Pattern(path) => scan_pattern(place.watched(), path, max_bytes),
        },
    };
    let mut bundle = Bundle { roots: places.iter().map(root).collect() };
    distinguish_labels(&mut bundle);
    bundle
}

fn scan_root(path: &Path, max_bytes: usize) -> RootState {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => match list(path) {
            Ok(paths) if paths.is_empty() => RootState::Unreadable(Unreadable::EmptyDirectory),
            Ok(paths) => RootState::Files(paths.into_iter().map(|path| read_file(path, max_bytes)).collect()),
            Err(error) => RootState::Unreadable(error.into()),
        },
        Ok(_) => RootState::Files(vec![read_file(path.to_owned(), max_bytes)]),
        Err(error) => RootState::Unreadable(error.into()),
    }
}

fn scan_pattern(directory: &Path, pattern: &Path, max_bytes: usize) -> RootState {
    let pattern = pattern.file_name().unwrap_or_default().to_string_lossy();
    let (start, end) = pattern.split_once('*').unwrap_or((&pattern, ""));
    let fits = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let star = pattern.contains('*') && name.len() >= start.len() + end.len();
        name == pattern || star && name.starts_with(start) && name.ends_with(end)
    };
    match list(directory) {
        Ok(mut paths) => {
            paths.retain(fits);
            if paths.is_empty() {
                return RootState::Unreadable(Unreadable::NothingFits);
            }
            RootState::Files(paths.into_iter().map(|path| read_file(path, max_bytes)).collect())
        }
        Err(error) => RootState::Unreadable(error.into()),
    }
}

/// The visible allowlist files of a directory, sorted. Editors' and mounts' hidden files do not count.
fn list(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        // A directory of such a name is an error, not a file that was removed.
        if !hidden && is_allowlist_name(&entry.path()) {
            let path = entry.path();
            // `./a.yaml` is the same file as `a.yaml`.
            paths.push(path.strip_prefix(".").map(Path::to_owned).unwrap_or(path));
        }
    }
    paths.sort();
    Ok(paths)
}

pub(super) fn is_allowlist_name(path: &Path) -> bool {
    path.extension().is_some_and(|ending| EXTENSIONS.iter().any(|known| ending == *known))
}

fn read_file(path: PathBuf, max_bytes: usize) -> File {
    let label = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let (content, exposed) = match read(&path, max_bytes) {
        Ok((content, metadata)) => (Ok(content), Exposure::of(&path, &metadata)),
        Err(why) => (Err(why), None),
    };
    File { label: label.into(), content, exposed, path }
}

/// The content of a file, and what else there is to know of it.
fn read(path: &Path, max_bytes: usize) -> Result<(Bytes, fs::Metadata), Unreadable> {
    // Opening a pipe must not wait for its writer, and what was opened is what is judged.
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = fs::OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(Unreadable::NotAFile);
    }
    if links(&metadata) == 0 {
        return Err(Unreadable::StaleMount);
    }
    let mut content = Vec::new();
    let limit = u64::try_from(max_bytes).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut content)?;
    Ok((content.into(), metadata))
}

#[cfg(unix)]
fn links(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(metadata)
}

/// Files of one name in several directories are shown by their paths.
fn distinguish_labels(bundle: &mut Bundle) {
    let mut uses: BTreeMap<Arc<str>, BTreeSet<PathBuf>> = BTreeMap::new();
    for file in bundle.files() {
        uses.entry(Arc::clone(&file.label)).or_default().insert(file.path.clone());
    }
    for root in &mut bundle.roots {
        let RootState::Files(files) = &mut root.state else { continue };
        for file in files {
            if uses.get(&file.label).is_some_and(|paths| paths.len() > 1) {
                file.label = file.path.to_string_lossy().into();
            }
        }
    }
}
