//! Atomic, durable writes: a file is written beside its place, synced, and renamed.
//!
//! Promises: readers see either the old content or all of the new; once [`Draft::replace`] or [`Draft::create`] has
//! returned and the directory is synced, the new content survives a crash or a loss of power; a draft that is not put
//! in place is removed when dropped.
//!
//! A leaf: it uses nothing of this crate.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

/// Mode of a file that is for its owner only.
pub(crate) const PRIVATE: u32 = 0o600;

/// A file that is written beside its place.
#[derive(Debug)]
pub(crate) struct Draft {
    file: File,
    path: PathBuf,
}

impl Draft {
    /// Creates a draft at this path, readable by its owner only. A file left there by an earlier process is removed:
    /// only one process may use the path at a time.
    pub(crate) fn new(path: PathBuf) -> io::Result<Self> {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = File::options().write(true).create_new(true).mode(PRIVATE).open(&path)?;
        Ok(Self { file, path })
    }

    /// Returns the open file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Returns the draft's own path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Sets the file's mode, and syncs it to disk.
    pub(crate) fn seal(&self, mode: u32) -> io::Result<()> {
        self.file.set_permissions(Permissions::from_mode(mode & 0o7777))?;
        self.file.sync_all()
    }

    /// Renames the file to the target, and replaces an existing one. The caller syncs the directory.
    pub(crate) fn replace(self, target: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, target)
    }

    /// Renames the file to the target; fails if that exists. The caller syncs the directory.
    pub(crate) fn create(self, target: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        match renameat2(AT_FDCWD, &self.path, AT_FDCWD, target, RenameFlags::RENAME_NOREPLACE) {
            // The file system does not support the flag.
            Err(Errno::EINVAL | Errno::ENOSYS) => {
                if target.symlink_metadata().is_ok() {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                fs::rename(&self.path, target)
            }
            renamed => renamed.map_err(io::Error::from),
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // It is gone after the rename.
        let _ = fs::remove_file(&self.path);
    }
}

/// Returns the path with something at the end of its name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Syncs a file's directory, so that renames and removals in it survive a crash.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        None => Ok(()),
        Some(directory) if directory.as_os_str().is_empty() => File::open(".")?.sync_all(),
        Some(directory) => File::open(directory)?.sync_all(),
    }
}

/// Creates the directory of a file, with access for its owner only, if just this directory is missing.
pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() && !directory.exists() => {
            DirBuilder::new().mode(0o700).create(directory)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn draft(directory: &Path, text: &str) -> Draft {
        let draft = Draft::new(directory.join(".draft")).unwrap();
        draft.file().write_all(text.as_bytes()).unwrap();
        draft
    }

    #[test]
    fn a_file_is_replaced_and_created_and_nothing_else_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("file");
        fs::write(directory.path().join(".draft"), "of a process that was killed").unwrap();
        draft(directory.path(), "one").create(&target).unwrap();
        let taken = draft(directory.path(), "two").create(&target).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&target).unwrap(), "one");
        draft(directory.path(), "three").replace(&target).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "three");
        assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o7777, PRIVATE);
        let open = draft(directory.path(), "four");
        open.seal(0o640).unwrap();
        assert_eq!(fs::metadata(open.path()).unwrap().permissions().mode() & 0o7777, 0o640);
        drop(open);
        sync_directory(&target).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_is_made_if_only_it_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        make_directory(&directory.path().join("a/file")).unwrap();
        assert_eq!(fs::metadata(directory.path().join("a")).unwrap().permissions().mode() & 0o7777, 0o700);
        assert!(make_directory(&directory.path().join("b/c/file")).is_err());
        make_directory(Path::new("file")).unwrap();
        assert_eq!(beside(Path::new("/a/b"), ".c"), Path::new("/a/b.c"));
    }
}
