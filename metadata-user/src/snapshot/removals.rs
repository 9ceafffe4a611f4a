//! Instances that were removed since the snapshot was written, beside it: recorded where a new snapshot cannot be, since
//! the disk is full.
//!
//! Promises:
//! - the file is as large as it can ever have to be from the moment the snapshot is written, so that recording a removal
//!   overwrites bytes and needs no space;
//! - where it cannot be overwritten either, the snapshot is removed as a whole: removed content never comes back,
//!   even at the cost of what is kept for other instances;
//! - it is of one snapshot, by its salt: one that was left by another is ignored.
//!
//! The file: a line that names it, a line with the salt, then 16 bytes for each instance that was removed, then zeros.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::config::snapshot::{DRAFT, REMOVED};
use crate::durable::{self, Draft};
use crate::record::InstanceId;

/// What the file begins with.
const MAGIC: &str = "metadatad removals 1\n";

/// Bytes of an instance.
const SLOT: usize = 16;

/// The most bytes that are read: a million removals.
const LIMIT: u64 = 16 << 20;

/// How removals were recorded.
#[derive(Debug)]
pub(super) enum Recorded {
    /// They are recorded.
    Beside,
    /// They could not be, for this reason, so there is no snapshot any more.
    Removed(io::Error),
}

/// The snapshot that is on the disk, as far as removals are concerned.
#[derive(Clone, Debug)]
pub(super) struct OnDisk {
    /// Identifies it: the random part of its key.
    pub(super) salt: String,
    /// Its instances.
    pub(super) instances: BTreeSet<InstanceId>,
    /// Those that were removed since, as recorded.
    pub(super) removed: BTreeSet<InstanceId>,
}

impl OnDisk {
    /// Records the removal of all instances but these. Returns how, or `None` if there was nothing to record.
    ///
    /// # Errors
    /// If they can neither be recorded, nor the snapshot be removed.
    pub(super) fn record(&mut self, path: &Path, left: &BTreeSet<InstanceId>) -> io::Result<Option<Recorded>> {
        let gone: Vec<_> = self.instances.difference(left).filter(|id| !self.removed.contains(id)).copied().collect();
        if gone.is_empty() {
            return Ok(None);
        }
        let removed = self.removed.iter().copied().chain(gone).collect();
        let recorded = record(path, &self.salt, self.instances.len(), &removed)?;
        self.removed = removed;
        Ok(Some(recorded))
    }
}

fn head(salt: &str) -> String {
    format!("{MAGIC}{salt}\n")
}

/// Makes room for the removal of as many instances as the snapshot of this salt holds. The caller renames the draft, and
/// syncs the directory.
pub(super) fn prepare(path: &Path, salt: &str, instances: usize, removed: &BTreeSet<InstanceId>) -> io::Result<Draft> {
    let draft = Draft::new(durable::beside(&durable::beside(path, REMOVED), DRAFT))?;
    let mut text = head(salt).into_bytes();
    let slots = text.len();
    removed.iter().for_each(|id| text.extend_from_slice(id.0.as_bytes()));
    text.resize(text.len().max(slots + instances * SLOT), 0);
    draft.file().write_all(&text)?;
    draft.file().sync_all()?;
    Ok(draft)
}

/// Returns the instances that were removed since the snapshot of this salt was written.
pub(super) fn read(path: &Path, salt: &str) -> io::Result<BTreeSet<InstanceId>> {
    let nofollow = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK;
    let file = match File::options().read(true).custom_flags(nofollow.bits()).open(durable::beside(path, REMOVED)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.take(LIMIT).read_to_end(&mut bytes)?;
    Ok(parse(&bytes, salt))
}

/// Reads the file's bytes, as [`read`].
pub(super) fn parse(bytes: &[u8], salt: &str) -> BTreeSet<InstanceId> {
    let Some(slots) = bytes.strip_prefix(head(salt).as_bytes()) else { return BTreeSet::new() };
    let (slots, _) = slots.as_chunks::<SLOT>();
    slots.iter().map(|slot| uuid::Uuid::from_bytes(*slot)).filter(|id| !id.is_nil()).map(InstanceId).collect()
}

/// Records the removal of instances from the snapshot of this salt, so that it lasts.
///
/// # Errors
/// If they can neither be recorded, nor the snapshot be removed.
fn record(path: &Path, salt: &str, instances: usize, removed: &BTreeSet<InstanceId>) -> io::Result<Recorded> {
    let result = overwrite(path, salt, removed).or_else(|_| {
        prepare(path, salt, instances, removed)?.replace(&durable::beside(path, REMOVED))?;
        durable::sync_directory(path)
    });
    match result {
        Ok(()) => Ok(Recorded::Beside),
        Err(error) => remove(path).map(|()| Recorded::Removed(error)),
    }
}

fn overwrite(path: &Path, salt: &str, removed: &BTreeSet<InstanceId>) -> io::Result<()> {
    let nofollow = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK;
    let file =
        File::options().read(true).write(true).custom_flags(nofollow.bits()).open(durable::beside(path, REMOVED))?;
    let head = head(salt);
    let mut found = vec![0; head.len()];
    file.read_exact_at(&mut found, 0)?;
    let slots: Vec<u8> = removed.iter().flat_map(|id| id.0.into_bytes()).collect();
    let end = head.len() as u64 + slots.len() as u64;
    if found != head.as_bytes() || file.metadata()?.len() < end {
        return Err(io::ErrorKind::InvalidData.into());
    }
    file.write_all_at(&slots, head.len() as u64)?;
    file.sync_data()
}

/// Removes the snapshot by whatever works: by name, by its length, or by what it begins with.
fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => durable::sync_directory(path),
    };
    removed.or_else(|error| {
        let emptied = File::options().write(true).open(path).and_then(|file| {
            file.set_len(0).or_else(|_| file.write_all_at(&[0; 64], 0))?;
            file.sync_all()
        });
        emptied.map_err(|_| error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::id;

    fn ids(numbers: impl IntoIterator<Item = u128>) -> BTreeSet<InstanceId> {
        numbers.into_iter().map(id).collect()
    }

    #[test]
    fn removals_are_of_one_snapshot_and_take_no_space() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("snapshot");
        let beside = durable::beside(&path, REMOVED);
        assert_eq!(read(&path, "aa").unwrap(), ids([]));
        prepare(&path, "aa", 3, &ids([])).unwrap().replace(&beside).unwrap();
        let size = fs::metadata(&beside).unwrap().len();
        for removed in [ids([1]), ids([1, 3]), ids(1..=3)] {
            assert!(matches!(record(&path, "aa", 3, &removed), Ok(Recorded::Beside)));
            assert_eq!(read(&path, "aa").unwrap(), removed);
            assert_eq!(fs::metadata(&beside).unwrap().len(), size);
        }
        assert_eq!(read(&path, "ab").unwrap(), ids([]), "of another snapshot");
        // There is room on this disk for a new one.
        assert!(matches!(record(&path, "ab", 9, &ids([4])), Ok(Recorded::Beside)));
        assert_eq!(read(&path, "ab").unwrap(), ids([4]));
        fs::remove_file(&beside).unwrap();
        assert!(matches!(record(&path, "ab", 9, &ids([5])), Ok(Recorded::Beside)));
        assert_eq!(read(&path, "ab").unwrap(), ids([5]));
    }

    #[test]
    fn a_snapshot_beside_which_nothing_can_be_recorded_goes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("snapshot");
        fs::write(&path, "content").unwrap();
        fs::create_dir_all(durable::beside(&path, REMOVED).join("in/the/way")).unwrap();
        assert!(matches!(record(&path, "aa", 3, &ids([1])), Ok(Recorded::Removed(_))));
        assert!(!path.exists());
    }
}
