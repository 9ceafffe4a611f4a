//! A directory with the files of a drive, as cloud-init reads one below `/var/lib/cloud/seed/config_drive`.
//!
//! Promises: it is there with all files or not at all; a directory with something in it is left alone; files are for their owner only.

use std::fs::{self, DirBuilder};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::tree::Tree;
use super::{DRAFT, WriteError};
use crate::api::DriveFile;
use crate::durable::{self, PRIVATE};

/// Mode of directories.
const DIRECTORY: u32 = 0o700;

/// Writes a directory with these files: it is made, or there and empty.
pub(super) fn write(files: &[DriveFile], path: &Path) -> Result<(), WriteError> {
    Tree::of(files)?;
    let draft = durable::beside(path, DRAFT);
    let write = || {
        // What a killed process has left.
        match fs::remove_dir_all(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        make(&draft)?;
        for DriveFile { path, body } in files {
            let file = draft.join(path);
            make(file.parent().unwrap_or(&draft))?;
            fs::File::options().write(true).create_new(true).mode(PRIVATE).open(file)?.write_all(body)?;
        }
        // An empty directory is replaced by this, and no other.
        fs::rename(&draft, path)
    };
    write().map_err(|source| {
        // It is removed by the next attempt, if not here.
        let _ = fs::remove_dir_all(&draft);
        match source.kind() {
            io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
                WriteError::Taken(path.to_owned())
            }
            _ => WriteError::Io { path: path.to_owned(), source },
        }
    })
}

fn make(directory: &Path) -> io::Result<()> {
    DirBuilder::new().mode(DIRECTORY).recursive(true).create(directory)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::config_drive::tree::tests::file;

    #[test]
    fn it_is_whole_or_not_there() {
        let place = tempfile::tempdir().unwrap();
        let drive = place.path().join("drive");
        let files = [file("openstack/latest/user_data", b"x"), file("ec2/latest/meta-data.json", b"{}")];
        fs::create_dir(&drive).unwrap();
        write(&files, &drive).unwrap();
        let user_data = drive.join("openstack/latest/user_data");
        assert_eq!(fs::read(&user_data).unwrap(), b"x");
        assert_eq!(user_data.metadata().unwrap().permissions().mode() & 0o7777, PRIVATE);
        assert!(matches!(write(&files, &drive), Err(WriteError::Taken(_))));
        let wrong = write(&[file("../x", b"")], &place.path().join("other"));
        assert!(matches!(wrong, Err(WriteError::Tree(_))), "{wrong:?}");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "nothing else is left");
    }
}
