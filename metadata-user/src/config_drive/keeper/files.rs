//! The directory of images.
//!
//! Promises: the directory is the daemon's own, and nobody else can put a file or a link there; an image that is current is not written
//! again, also where libvirt has given it to QEMU's user and the daemon cannot read it any more.
//!
//! What an image was made of is noted in a file beside it, its *mark*: the SHA-256 of the image as it would be with constant seeds. The mark
//! is there before the image, empty, and is removed after it: what has no mark is not the daemon's, and stays; an image with an empty one,
//! as after a crash, is written once more.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::{Gid, Group, geteuid};
use tracing::warn;

use crate::api::DriveFile;
use crate::config::{ConfigDrive, DriveFormat};
use crate::config_drive::{DRAFT, TreeError, WriteError, image, put};
use crate::durable::{PRIVATE, beside};
use crate::record::InstanceId;
use crate::secret::{digest, hex};

/// Mode of the directory: whoever may read an image can reach it by its name, and nobody else lists the names.
const DIRECTORY: u32 = 0o711;

/// What is at the end of the name of a mark.
const MARK: &str = ".mark";

/// A directory that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum DirectoryError {
    /// It is not there and cannot be made, or is no directory.
    #[error("it cannot be opened")]
    Open(#[from] io::Error),
    /// Its owner could put other files in it.
    #[error("it belongs to user {0}, not to the daemon's: change its owner, or name another")]
    Owner(u32),
    /// Others could put files in it.
    #[error("others may write to it (mode {0:o}): take that from them (`chmod go-w`), or name another")]
    Mode(u32),
}

/// What an image was made of, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark(String);

/// A directory of images.
#[derive(Debug)]
pub(super) struct Images {
    directory: PathBuf,
    format: DriveFormat,
    group: Option<Gid>,
    /// Why images are for nobody but their owner, and the remedy.
    problem: Option<String>,
}

impl Images {
    /// Makes the directory if just it is missing, and looks up the group.
    pub(super) fn open(settings: &ConfigDrive) -> Result<Self, DirectoryError> {
        let ConfigDrive { directory, format, group, .. } = settings;
        prepare(directory)?;
        let (mut gid, mut problem) = (None, None);
        if !group.is_empty() {
            gid = Group::from_name(group).ok().flatten().map(|group| group.gid);
            problem = gid.is_none().then(|| {
                format!(
                    "there is no group {group} (configdrive.group), so images are for root alone: create it, or name another, and \
                     restart metadatad"
                )
            });
        }
        if let Some(problem) = &problem {
            warn!("{problem}");
        }
        Ok(Self { directory: directory.clone(), format: *format, group: gid, problem })
    }

    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the mark of an image of these files, which have constant seeds.
    pub(super) fn mark(&self, files: &[DriveFile]) -> Result<Mark, TreeError> {
        let image = image(files, self.format)?;
        let sum = hex(&digest::sha256(&image));
        let group = self.group.map_or_else(|| "-".to_owned(), |group| group.to_string());
        Ok(Mark(format!("{sum} {group}\n")))
    }

    /// Tells whether the instance has an image with this mark.
    pub(super) fn has(&self, id: InstanceId, mark: &Mark) -> bool {
        let path = self.path(id, self.format);
        fs::symlink_metadata(&path).is_ok_and(|found| found.is_file())
            && fs::read_to_string(beside(&path, MARK)).is_ok_and(|found| found == mark.0)
    }

    /// Writes an instance's image, and its mark.
    pub(super) fn write(&self, id: InstanceId, files: &[DriveFile], mark: &Mark) -> Result<(), WriteError> {
        let (path, image) = (self.path(id, self.format), image(files, self.format)?);
        let write = || {
            note(&beside(&path, MARK), "")?;
            put(&image, &path, self.group)?;
            note(&beside(&path, MARK), &mark.0)
        };
        write().map_err(|source| WriteError::Io { path: path.clone(), source })?;
        // Of the other format, from before the configuration was changed.
        remove_all(&self.path(id, other(self.format)))
    }

    /// Removes an instance's image, if there is one.
    pub(super) fn remove(&self, id: InstanceId) -> Result<(), WriteError> {
        [self.format, other(self.format)].iter().try_for_each(|format| remove_all(&self.path(id, *format)))
    }

    /// Returns instances that there is an image of, but those given.
    pub(super) fn others(&self, known: &BTreeSet<InstanceId>) -> Result<BTreeSet<InstanceId>, WriteError> {
        let mut others = instances(&self.directory)?;
        others.retain(|id| !known.contains(id));
        Ok(others)
    }

    fn path(&self, id: InstanceId, format: DriveFormat) -> PathBuf {
        path(&self.directory, id, format)
    }
}

/// Removes all images of a directory that no images are kept in any more, and returns of how many instances. One that is missing has
/// none; of one that is not the daemon's nothing is removed.
pub(super) fn clear(directory: &Path) -> Result<usize, WriteError> {
    match fs::symlink_metadata(directory) {
        Ok(found) if found.is_dir() && found.uid() == geteuid().as_raw() => {}
        _ => return Ok(0),
    }
    let instances = instances(directory)?;
    for id in &instances {
        for format in [DriveFormat::Iso9660, DriveFormat::Vfat] {
            remove_all(&path(directory, *id, format))?;
        }
    }
    Ok(instances.len())
}

/// Makes the directory if just it is missing. One that is there is taken if nobody else can write to it.
fn prepare(directory: &Path) -> Result<(), DirectoryError> {
    let made = match DirBuilder::new().mode(DIRECTORY).create(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
        made => made.map(|()| true)?,
    };
    // Not where a symbolic link leads.
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    let open = File::options().read(true).custom_flags(flags.bits()).open(directory)?;
    let found = open.metadata()?;
    let (owner, mode) = (found.uid(), found.mode() & 0o7777);
    if owner != geteuid().as_raw() {
        return Err(DirectoryError::Owner(owner));
    }
    if made {
        // Whatever the umask is.
        open.set_permissions(Permissions::from_mode(DIRECTORY))?;
    } else if mode & 0o022 != 0 {
        return Err(DirectoryError::Mode(mode));
    }
    Ok(())
}

fn path(directory: &Path, id: InstanceId, format: DriveFormat) -> PathBuf {
    directory.join(format!("{id}{}", extension(format)))
}

const fn extension(format: DriveFormat) -> &'static str {
    match format {
        DriveFormat::Iso9660 => ".iso",
        DriveFormat::Vfat => ".img",
    }
}

const fn other(format: DriveFormat) -> DriveFormat {
    match format {
        DriveFormat::Iso9660 => DriveFormat::Vfat,
        DriveFormat::Vfat => DriveFormat::Iso9660,
    }
}

/// Returns the instances of all marks.
fn instances(directory: &Path) -> Result<BTreeSet<InstanceId>, WriteError> {
    let names = || fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>();
    let names = names().map_err(|source| WriteError::List { path: directory.to_owned(), source })?;
    Ok(names.iter().filter_map(|name| instance(name.to_str()?)).collect())
}

/// Returns the instance that a mark of this name is of.
fn instance(name: &str) -> Option<InstanceId> {
    let image = name.strip_suffix(MARK)?;
    let id = [DriveFormat::Iso9660, DriveFormat::Vfat].into_iter().find_map(|of| image.strip_suffix(extension(of)))?;
    // As it is written here, and in no other spelling.
    id.parse().ok().filter(|parsed: &InstanceId| parsed.to_string() == id)
}

/// Writes a mark.
fn note(path: &Path, mark: &str) -> io::Result<()> {
    let mut file = File::options().write(true).create(true).truncate(true).mode(PRIVATE).open(path)?;
    file.write_all(mark.as_bytes())
}

/// Removes an image with its draft and its mark, if there is a mark.
fn remove_all(image: &Path) -> Result<(), WriteError> {
    let mark = beside(image, MARK);
    if fs::symlink_metadata(&mark).is_err() {
        return Ok(());
    }
    for path in [beside(image, DRAFT), image.to_owned(), mark] {
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(WriteError::Remove { path, source }),
            _ => {}
        }
    }
    Ok(())
}
