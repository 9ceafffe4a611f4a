//! Documents in a directory, as the directory source reads them.
//!
//! Promises:
//! - whoever reads the directory sees a document as it was or as it is now, never a part: a hidden draft in the same directory,
//!   which the daemon ignores, is written, brought to the disk, and renamed; then the directory is brought to the disk;
//! - a changed file keeps its name, owner, group and mode. A new one is `<uuid>.json` with mode 0600, since user data
//!   may be secret;
//! - two of these commands never lose a change of each other: they take turns by a lock on the directory (`flock`). A
//!   program that takes no lock is noticed when it changed the file up to the moment of the rename; within that moment,
//!   some microseconds, the later of the two wins.
//!
//! Left out: access lists and other extended attributes of a file, which a rename does not carry over.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use super::change::{ATTEMPTS, Decide, Decision, Outcome, Stored, uuid_of};
use crate::cli::error::instance::InstanceError;
use crate::durable::{Draft, PRIVATE};
use crate::record::InstanceId;
use crate::source::directory;

/// A directory of documents.
#[derive(Debug)]
pub(super) struct DocumentDirectory {
    path: PathBuf,
}

impl DocumentDirectory {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns all documents, by file name.
    pub(super) fn list(&self) -> Result<Vec<Stored>, InstanceError> {
        let entries = fs::read_dir(&self.path).map_err(|source| self.refused("reading the directory", source))?;
        let mut documents = Vec::new();
        for entry in entries {
            let path = entry.map_err(|source| self.refused("reading the directory", source))?.path();
            let Some(name) = directory::document_name(&path) else { continue };
            documents.extend(self.read(name));
        }
        documents.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(documents)
    }

    /// Returns an instance's document: the one that says so, as the daemon goes by; else one that is too broken to say
    /// anything and has the instance's name.
    pub(super) fn find(&self, id: InstanceId) -> Result<Option<Stored>, InstanceError> {
        let mut found: Vec<Stored> = self.list()?.into_iter().filter(|document| document.id == Some(id)).collect();
        if found.len() > 1 {
            let says_so = |document: &Stored| document.bytes.as_deref().is_ok_and(|bytes| uuid_of(bytes) == Some(id));
            if found.iter().any(says_so) {
                found.retain(says_so);
            }
        }
        match found.as_slice() {
            [first, second, ..] => {
                Err(InstanceError::Twice { id, first: first.name.clone(), second: second.name.clone() })
            }
            _ => Ok(found.pop()),
        }
    }

    /// Changes an instance's document as `decide` says.
    pub(super) fn change(&self, id: InstanceId, decide: &mut Decide<'_>) -> Result<Outcome, InstanceError> {
        let directory = self.lock()?;
        for _ in 0..ATTEMPTS {
            let stored = self.find(id)?;
            let outcome = match (decide(stored.as_ref())?, &stored) {
                (Decision::Leave, _) | (Decision::Remove, None) => return Ok(Outcome::Unchanged),
                (Decision::Remove, Some(stored)) => {
                    let path = self.path.join(&stored.name);
                    fs::remove_file(&path).map_err(|source| InstanceError::Io { doing: "removing", path, source })?;
                    Outcome::Deleted
                }
                (Decision::Write(bytes), Some(stored)) => {
                    if stored.bytes.as_deref() == Ok(&bytes) {
                        return Ok(Outcome::Unchanged);
                    }
                    if !self.replace(stored, &bytes)? {
                        continue;
                    }
                    Outcome::Changed
                }
                (Decision::Write(bytes), None) => {
                    if !self.create(id, &bytes)? {
                        continue;
                    }
                    Outcome::Created
                }
            };
            directory.sync_all().map_err(|source| self.refused("bringing to the disk", source))?;
            return Ok(outcome);
        }
        Err(InstanceError::Raced { id, attempts: ATTEMPTS })
    }

    /// Waits for other commands on this directory to end.
    fn lock(&self) -> Result<Flock<File>, InstanceError> {
        let directory = File::open(&self.path).map_err(|source| self.refused("opening the directory", source))?;
        Flock::lock(directory, FlockArg::LockExclusive)
            .map_err(|(_, errno)| self.refused("locking the directory", errno.into()))
    }

    /// Reads a file; `None` if it is gone.
    fn read(&self, name: &str) -> Option<Stored> {
        let bytes = directory::read(&self.path.join(name)).map_err(|error| error.to_string()).transpose()?;
        let said = bytes.as_deref().ok().and_then(uuid_of);
        let id = said.or_else(|| name.strip_suffix(".json")?.parse().ok());
        Some(Stored { id, name: name.to_owned(), node: None, revision: None, bytes })
    }

    /// Puts another text in a file's place. Returns false if the file is not as it was read.
    fn replace(&self, stored: &Stored, bytes: &[u8]) -> Result<bool, InstanceError> {
        let target = self.path.join(&stored.name);
        let refused = |doing: &'static str| {
            let path = target.clone();
            move |source| InstanceError::Io { doing, path, source }
        };
        let metadata = match fs::symlink_metadata(&target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            metadata => metadata.map_err(refused("looking at"))?,
        };
        if metadata.is_symlink() {
            return Err(InstanceError::Link { name: stored.name.clone() });
        }
        let draft = draft(&target, bytes)?;
        let own = draft.file().metadata().map_err(refused("looking at the draft of"))?;
        if (own.uid(), own.gid()) != (metadata.uid(), metadata.gid()) {
            fchown(draft.file(), Some(metadata.uid()), Some(metadata.gid()))
                .map_err(refused("keeping the owner of"))?;
        }
        seal(&draft, metadata.mode())?;
        if self.read(&stored.name).as_ref() != Some(stored) {
            return Ok(false);
        }
        draft.replace(&target).map_err(refused("replacing"))?;
        Ok(true)
    }

    /// Writes a new file. Returns false if somebody just did.
    fn create(&self, id: InstanceId, bytes: &[u8]) -> Result<bool, InstanceError> {
        let name = format!("{id}.json");
        let target = self.path.join(&name);
        let draft = draft(&target, bytes)?;
        seal(&draft, PRIVATE)?;
        match draft.create(&target) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match self.read(&name) {
                Some(other) if other.id != Some(id) => Err(InstanceError::NameTaken { name }),
                _ => Ok(false),
            },
            Err(source) => Err(InstanceError::Io { doing: "creating", path: target, source }),
        }
    }

    fn refused(&self, doing: &'static str, source: io::Error) -> InstanceError {
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => InstanceError::NoDirectory(self.path.clone()),
            _ => InstanceError::Io { doing, path: self.path.clone(), source },
        }
    }
}

/// Writes a draft beside the target, under a name that the daemon ignores. Only one holds the lock.
fn draft(target: &Path, bytes: &[u8]) -> Result<Draft, InstanceError> {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let path = target.with_file_name(format!(".{name}.{}.draft", std::process::id()));
    let refused = |source| InstanceError::Io { doing: "writing", path: path.clone(), source };
    let draft = Draft::new(path.clone()).map_err(refused)?;
    draft.file().write_all(bytes).map_err(refused)?;
    Ok(draft)
}

/// Gives a draft its mode, and brings it to the disk.
fn seal(draft: &Draft, mode: u32) -> Result<(), InstanceError> {
    draft.seal(mode).map_err(|source| InstanceError::Io { doing: "finishing", path: draft.path().to_owned(), source })
}

#[cfg(test)]
mod tests;
