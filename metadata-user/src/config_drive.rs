//! Config drives: the files that `api` gives, as an image or a directory, and images that are kept current.
//!
//! Promises:
//! - a drive has the label `config-2` and Nova's files, and equal files give equal bytes: nothing in an image says when or where it was
//!   made;
//! - whoever opens an image sees all of one drive, never parts of two.
//!
//! Left out: which files there are (`api`), and attaching a drive to a guest, which is for whoever starts it.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, fchown};

use crate::api::{Content, DriveFile, DriveParts, Incomplete};
use crate::clock;
use crate::durable::{self, Draft, PRIVATE};
use crate::policy::{Access, UserData};

mod directory;
mod iso9660;
mod keeper;
mod reach;
mod tree;
mod vfat;

pub use crate::config::DriveFormat as Format;
pub use keeper::{AccessOf, Keeper, KeeperState, Observed};
pub use tree::TreeError;

/// The label by which guests find a config drive, in either case.
pub const LABEL: &str = "config-2";

/// Returns an image with these files.
///
/// # Errors
/// [`TreeError`] if a file has a name or a place that a drive has not.
pub fn image(files: &[DriveFile], format: Format) -> Result<Vec<u8>, TreeError> {
    match format {
        Format::Iso9660 => iso9660::image(files),
        Format::Vfat => vfat::image(files),
    }
}

/// Why an instance has no config drive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DriveError {
    /// Its policy switches everything off.
    #[error("its policy switches metadata off (`access.metadata`, or the document's policy)")]
    MetadataOff,
    /// Not all of it is known.
    #[error("{0}: wait until `metadatad source` shows no error")]
    Incomplete(#[from] Incomplete),
}

/// Returns the files of an instance's drive. What `access` forbids over HTTP is not on the drive either, but user data that is for the
/// first boot only is, since a drive cannot tell boots apart.
///
/// # Errors
/// [`DriveError`].
pub fn files(content: &Content, access: &Access) -> Result<Vec<DriveFile>, DriveError> {
    files_with(content, access, &clock::seed)
}

/// As [`files`], with these seeds.
fn files_with(content: &Content, access: &Access, seed: &dyn Fn(&mut [u8; 512])) -> Result<Vec<DriveFile>, DriveError> {
    let Access { metadata, ec2, user_data, .. } = *access;
    if !metadata {
        return Err(DriveError::MetadataOff);
    }
    let parts = DriveParts { ec2, user_data: user_data != UserData::Never };
    Ok(content.drive_files(parts, clock::today, seed)?)
}

/// A drive that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The files are no drive.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// There is something already.
    #[error("{} is there and not empty: name another directory, or remove it", .0.display())]
    Taken(PathBuf),
    /// The disk refuses.
    #[error("writing the config drive {}", path.display())]
    Io {
        /// The image or the directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Images without an instance may be there.
    #[error("looking for config drives without an instance in {}", path.display())]
    List {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An image stays though its instance has none any more.
    #[error("removing the config drive {}", path.display())]
    Remove {
        /// The image.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl WriteError {
    /// Returns why the system refuses, if it does.
    fn kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Io { source, .. } | Self::List { source, .. } | Self::Remove { source, .. } => Some(source.kind()),
            Self::Tree(_) | Self::Taken(_) => None,
        }
    }
}

/// Writes an image, for its owner only. An earlier one is replaced as a whole: whoever has it open still reads that.
///
/// # Errors
/// [`WriteError`].
pub fn write_image(files: &[DriveFile], format: Format, path: &Path) -> Result<(), WriteError> {
    let image = image(files, format)?;
    put(&image, path, None).map_err(|source| WriteError::Io { path: path.to_owned(), source })
}

/// Writes an image beside its place, and renames it. It is for its owner, and this group, from its first byte on.
fn put(image: &[u8], path: &Path, group: Option<Gid>) -> io::Result<()> {
    let draft = Draft::new(durable::beside(path, DRAFT))?;
    if group.is_some() {
        fchown(draft.file().as_fd(), None, group)?;
    }
    write_sparsely(draft.file(), image)?;
    draft.seal(if group.is_some() { SHARED } else { PRIVATE })?;
    draft.replace(path)?;
    durable::sync_directory(path)
}

/// Writes what is not zero: most of an image in FAT is, and takes no space then.
fn write_sparsely(file: &File, image: &[u8]) -> io::Result<()> {
    const PAGE: usize = 4096;
    file.set_len(image.len() as u64)?;
    for (page, at) in image.chunks(PAGE).zip((0..).step_by(PAGE)) {
        if page.iter().any(|byte| *byte != 0) {
            file.write_all_at(page, at)?;
        }
    }
    Ok(())
}

/// Writes a directory with these files, for its owner only. It is made, or there and empty.
///
/// # Errors
/// [`WriteError`].
pub fn write_directory(files: &[DriveFile], path: &Path) -> Result<(), WriteError> {
    directory::write(files, path)
}

/// Mode of images that a group may read.
const SHARED: u32 = 0o640;

/// What is at the end of the name of an image or a directory that is being written.
const DRAFT: &str = ".new";
