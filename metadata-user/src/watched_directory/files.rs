//! What the files of the directory looked like, so that a change is seen without a watch.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::pending::LONGEST;
use crate::links;

/// How long ago a file must have been written to count as complete. Longer than the clock of any local file system takes
/// for a step, so that a later write shows.
const SETTLED: Duration = Duration::from_millis(50);

/// What a file looks like from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// Device, inode, size, times of the last change of content and of anything.
    Found([u64; 3], [(i64, i64); 2]),
    /// It is a link to nowhere.
    Missing,
    /// It cannot be looked at: this error.
    Refused(Option<i32>),
    /// It was written at the time of the look, so a later write might not show.
    Unknown,
}

#[derive(Debug)]
struct File {
    look: Look,
    /// What it looks like may change without an event of the directory: a link, another name elsewhere, a mount.
    linked: bool,
    /// The directories that a link leads through.
    directories: BTreeSet<PathBuf>,
    /// A change was seen first then, and may go on.
    unsettled: Option<Instant>,
}

/// All files, by name.
#[derive(Debug, Default)]
pub(super) struct Files {
    files: BTreeMap<String, File>,
    relinked: bool,
}

impl Files {
    pub(super) fn names(&self) -> BTreeSet<String> {
        self.files.keys().cloned().collect()
    }

    /// Tells whether a change was seen that may go on.
    pub(super) fn is_unsettled(&self) -> bool {
        self.files.values().any(|file| file.unsettled.is_some())
    }

    /// Tells whether links may lead elsewhere since this was last asked.
    pub(super) fn take_relinked(&mut self) -> bool {
        std::mem::take(&mut self.relinked)
    }

    /// Returns the directories that links lead through, but for the directory itself.
    pub(super) fn linked_directories(&self, directory: &Path) -> BTreeSet<PathBuf> {
        let mut all: BTreeSet<PathBuf> = self.files.values().flat_map(|file| &file.directories).cloned().collect();
        if let Ok(own) = fs::canonicalize(directory) {
            all.remove(&own);
        }
        all
    }

    /// Looks at files whose changes no event tells, or at all. Returns the names of those that have changed.
    pub(super) fn sweep(
        &mut self,
        directory: &Path,
        accepts: fn(&str) -> bool,
        everything: bool,
    ) -> io::Result<BTreeSet<String>> {
        let mut changed = BTreeSet::new();
        let names: BTreeSet<String> = if everything {
            let mut names = BTreeSet::new();
            for entry in fs::read_dir(directory)? {
                names.extend(entry?.file_name().into_string().ok().filter(|name| accepts(name)));
            }
            changed.extend(self.files.keys().filter(|name| !names.contains(*name)).cloned());
            self.files.retain(|name, _| names.contains(name));
            names
        } else {
            let suspects = self.files.iter().filter(|(_, file)| file.linked || file.unsettled.is_some());
            suspects.map(|(name, _)| name.clone()).collect()
        };
        let device = fs::metadata(directory)?.dev();
        for name in names {
            let path = directory.join(&name);
            let (look, wait) = look(&path);
            if let Some(file) = self.files.get_mut(&name) {
                if file.look == look {
                    file.unsettled = None;
                    continue;
                }
                if file.unsettled.get_or_insert_with(Instant::now).elapsed() < wait {
                    continue;
                }
            }
            self.insert(name.clone(), &path, device, look, wait);
            changed.insert(name);
        }
        Ok(changed)
    }

    /// Takes note that these are about to be read.
    pub(super) fn note(&mut self, directory: &Path, names: &BTreeSet<String>) {
        let Ok(device) = fs::metadata(directory).map(|found| found.dev()) else { return };
        for name in names {
            let path = directory.join(name);
            if fs::symlink_metadata(&path).is_ok() {
                let (look, wait) = look(&path);
                self.insert(name.clone(), &path, device, look, wait);
            } else if let Some(gone) = self.files.remove(name) {
                self.relinked |= !gone.directories.is_empty();
            }
        }
    }

    fn insert(&mut self, name: String, path: &Path, device: u64, look: Look, wait: Duration) {
        let is_link = fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
        let is_elsewhere = matches!(look, Look::Found([found, ..], _) if found != device);
        let has_names = fs::metadata(path).is_ok_and(|found| found.nlink() > 1);
        let directories = if is_link {
            links::follow(path).map(|route| route.directories).unwrap_or_default()
        } else {
            BTreeSet::new()
        };
        let before = self.files.get(&name).map(|file| &file.directories);
        self.relinked |= before.map_or(!directories.is_empty(), |before| *before != directories);
        let linked = is_link || is_elsewhere || has_names;
        let look = if wait == LONGEST { Look::Unknown } else { look };
        self.files.insert(name, File { look, linked, directories, unsettled: None });
    }
}

/// Returns what a file looks like, and how long to wait at most for it to stay so: it is being written now, or about to be
/// written again.
fn look(path: &Path) -> (Look, Duration) {
    match fs::metadata(path) {
        Ok(found) => (appearance(&found), if is_recent(&found) { LONGEST } else { Duration::ZERO }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (Look::Missing, SETTLED),
        Err(error) => (Look::Refused(error.raw_os_error()), SETTLED),
    }
}

fn appearance(found: &Metadata) -> Look {
    let times = [(found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec())];
    Look::Found([found.dev(), found.ino(), found.size()], times)
}

fn is_recent(found: &Metadata) -> bool {
    let age = found.modified().ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
    // A clock that is ahead proves nothing.
    age.is_none_or(|age| age < SETTLED)
}
