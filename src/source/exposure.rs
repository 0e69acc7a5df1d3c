//! Who else can change a file: whoever can write it decides what is allowed.

use rustix::fs::StatVfsMountFlags;
use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// How others than the operator can change a file. Of several, the one that opens most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// Everybody on the machine may write it.
    Everybody,
    /// Everybody may replace it, because everybody may write its directory.
    Directory(PathBuf),
    /// It or its directory belongs to a user that is neither root nor the server's.
    Owner(u32),
    /// A group may write it or its directory that is neither root's nor the server's.
    Group(u32),
    /// Its name is a link to a place outside its directory.
    Elsewhere(PathBuf),
}

const WRITTEN_BY_OTHERS: u32 = 0o002;
const WRITTEN_BY_GROUP: u32 = 0o020;
const STICKY: u32 = 0o1000;

impl Exposure {
    /// Of an open file and the name under which it was found.
    pub(super) fn of(path: &Path, file: &Metadata) -> Option<Self> {
        if file.mode() & WRITTEN_BY_OTHERS != 0 {
            return Some(Self::Everybody);
        }
        let parent =
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        // Whoever can write the directory can put another file in its place.
        let directory = fs::metadata(parent).ok().filter(|_| !is_read_only(parent));
        let open = |mode: u32| mode & WRITTEN_BY_OTHERS != 0 && mode & STICKY == 0;
        if directory.as_ref().is_some_and(|directory| open(directory.mode())) {
            return Some(Self::Directory(parent.to_owned()));
        }
        let both = || [Some(file), directory.as_ref()].into_iter().flatten();
        let user = rustix::process::geteuid().as_raw();
        if let Some(owner) = both().map(MetadataExt::uid).find(|owner| *owner != 0 && *owner != user) {
            return Some(Self::Owner(owner));
        }
        let own = rustix::process::getegid().as_raw();
        let written = both().filter(|one| one.mode() & WRITTEN_BY_GROUP != 0);
        if let Some(group) = written.map(MetadataExt::gid).find(|group| *group != 0 && *group != own) {
            return Some(Self::Group(group));
        }
        leads_out(path, parent).ok().flatten().map(Self::Elsewhere)
    }
}

/// Mounts of ConfigMaps let everybody write, and nobody can.
fn is_read_only(directory: &Path) -> bool {
    rustix::fs::statvfs(directory).is_ok_and(|mount| mount.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// Where a link leads, if that is not below the directory that it is in.
fn leads_out(path: &Path, parent: &Path) -> io::Result<Option<PathBuf>> {
    if !fs::symlink_metadata(path)?.is_symlink() {
        return Ok(None);
    }
    let target = fs::canonicalize(path)?;
    Ok((!target.starts_with(fs::canonicalize(parent)?)).then_some(target))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn what_others_can_write_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.yaml");
        fs::write(&path, "- a.test\n").unwrap();
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let seen = |path: &Path| Exposure::of(path, &fs::metadata(path).unwrap());
        set(&path, 0o664);
        // Its group is the server's own.
        assert_eq!(seen(&path), None);
        set(&path, 0o666);
        assert_eq!(seen(&path), Some(Exposure::Everybody));
        set(&path, 0o644);
        set(directory.path(), 0o777);
        assert_eq!(seen(&path), Some(Exposure::Directory(directory.path().to_owned())));
        set(directory.path(), 0o1777);
        assert_eq!(seen(&path), None);
        // As ConfigMaps are mounted, and not.
        let (inside, outside) = (directory.path().join("b.yaml"), directory.path().join("sub/c.yaml"));
        symlink("a.yaml", &inside).unwrap();
        fs::create_dir(directory.path().join("sub")).unwrap();
        symlink("../a.yaml", &outside).unwrap();
        assert_eq!(seen(&inside), None);
        assert_eq!(seen(&outside), Some(Exposure::Elsewhere(fs::canonicalize(&path).unwrap())));
    }
}
