//! Records in a file, one JSON object per line, rotated by renaming.
//!
//! Promises: a line is whole or not there, also after a disk was full: what was written of a batch that failed is cut off
//! again. The files together never grow beyond their size times their number, and a batch. A file that another program has
//! renamed or removed (logrotate, without `copytruncate` or a signal) is made anew within [`LOOK`].
//!
//! Left out: syncing to disk, which would wait for it: a loss of power takes what the kernel has not written yet.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;

use super::line;
use super::record::Record;
use super::writer::{Failed, Sink};
use crate::durable;

/// Mode of the files: whoever reads them for the operator is in their group.
const MODE: u32 = 0o640;

/// Bytes that are gathered before they are written, while more records wait.
const BATCH: usize = 64 << 10;

/// How often it is looked whether the path still names the open file.
const LOOK: Duration = Duration::from_secs(1);

/// The sink.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    /// In bytes; 0: it is not rotated here.
    rotate_size: u64,
    rotate_keep: u32,
    open: Option<Open>,
    batch: Vec<u8>,
    /// Records in the batch.
    records: u64,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Its length, of whole lines.
    length: u64,
    looked: Instant,
}

impl LogFile {
    /// Nothing is opened yet.
    pub(super) fn new(path: &Path, rotate_size: u64, rotate_keep: u32) -> Self {
        let path = path.to_owned();
        Self { path, rotate_size, rotate_keep, open: None, batch: Vec::new(), records: 0 }
    }

    fn write(&mut self) -> io::Result<()> {
        let length = self.batch.len() as u64;
        let mut open = match self.open.take() {
            Some(open) if open.looked.elapsed() < LOOK => open,
            Some(open) if is_named(&open.file, &self.path) => Open::again(open.file)?,
            _ => Open::new(&self.path)?,
        };
        if self.rotate_size > 0 && open.length > 0 && open.length + length > self.rotate_size {
            rotate(&self.path, self.rotate_keep)?;
            open = Open::new(&self.path)?;
        }
        if let Err(error) = open.file.write_all(&self.batch) {
            // The next attempt opens it again, and begins a line of its own if this does not work either.
            let _ = open.file.set_len(open.length);
            return Err(error);
        }
        open.length += length;
        self.open = Some(open);
        Ok(())
    }
}

impl Sink for LogFile {
    fn add(&mut self, record: &Record) -> Result<u64, Failed> {
        line::json(record, &mut self.batch);
        self.records += 1;
        if self.batch.len() >= BATCH { self.flush() } else { Ok(0) }
    }

    fn flush(&mut self) -> Result<u64, Failed> {
        if self.records == 0 {
            return Ok(0);
        }
        let written = self.write();
        let records = std::mem::take(&mut self.records);
        self.batch.clear();
        match written {
            Ok(()) => Ok(records),
            Err(error) => Err(Failed { records, error }),
        }
    }
}

impl Open {
    /// Opens the file, or makes it.
    fn new(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        // Not a link, and nothing that waits for a reader.
        options.read(true).append(true).mode(MODE).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
        let file = match options.create_new(true).open(path) {
            Ok(file) => {
                // Whatever the umask is.
                file.set_permissions(Permissions::from_mode(MODE))?;
                file
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options.create_new(false).open(path)?,
            Err(error) => return Err(error),
        };
        Self::again(file)
    }

    /// Looks at a file that may have changed.
    fn again(mut file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let mut length = metadata.len();
        let mut last = [b'\n'];
        if length > 0 {
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
        }
        if last != [b'\n'] {
            // A line that an earlier process could not finish.
            file.write_all(b"\n")?;
            length += 1;
        }
        Ok(Self { file, length, looked: Instant::now() })
    }
}

/// Tells whether the path names this file.
fn is_named(file: &File, path: &Path) -> bool {
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let (open, named) = (file.metadata().map(identity), fs::symlink_metadata(path).map(identity));
    matches!((open, named), (Ok(open), Ok(named)) if open == named)
}

/// Renames the file to `.1`, that to `.2`, and so on; the last one goes.
fn rotate(path: &Path, keep: u32) -> io::Result<()> {
    let name = |number: u32| if number == 0 { path.to_owned() } else { durable::beside(path, &format!(".{number}")) };
    for number in (0..keep).rev() {
        match fs::rename(name(number), name(number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::line::tests::request;
    use super::*;

    fn lines(path: &Path) -> Vec<String> {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "{text}");
        let path_of =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["path"].as_str().map(str::to_owned);
        text.lines().map(|line| path_of(line).unwrap()).collect()
    }

    fn write(log: &mut LogFile, path: &str) -> Result<u64, Failed> {
        log.add(&request(path))?;
        log.flush()
    }

    #[test]
    fn the_file_is_for_owner_and_group_and_grows_by_whole_lines() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let mut log = LogFile::new(&path, 0, 1);
        assert_eq!(log.add(&request("/a")).unwrap(), 0);
        assert_eq!(log.add(&request("/b")).unwrap(), 0);
        assert_eq!((log.flush().unwrap(), log.flush().unwrap()), (2, 0));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, MODE);
        // A process that ended within a line.
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"path\":\"/torn\"}").unwrap();
        assert_eq!(write(&mut LogFile::new(&path, 0, 1), "/c").unwrap(), 1);
        assert_eq!(lines(&path), ["/a", "/b", "/torn", "/c"]);
    }

    #[test]
    fn it_is_rotated_by_size_and_so_many_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let size = {
            let mut line = Vec::new();
            line::json(&request("/1"), &mut line);
            line.len() as u64
        };
        let mut log = LogFile::new(&path, 2 * size, 2);
        for number in 1..=7 {
            write(&mut log, &format!("/{number}")).unwrap();
        }
        assert_eq!(lines(&path), ["/7"]);
        assert_eq!(lines(&durable::beside(&path, ".1")), ["/5", "/6"]);
        assert_eq!(lines(&durable::beside(&path, ".2")), ["/3", "/4"]);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_file_that_was_renamed_or_removed_is_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let mut log = LogFile::new(&path, 0, 1);
        write(&mut log, "/1").unwrap();
        let renamed = directory.path().join("audit.jsonl-20261126");
        fs::rename(&path, &renamed).unwrap();
        write(&mut log, "/2").unwrap();
        // As if a second had passed.
        let look = |log: &mut LogFile| log.open.as_mut().unwrap().looked -= LOOK;
        look(&mut log);
        write(&mut log, "/3").unwrap();
        assert_eq!((lines(&renamed), lines(&path)), (vec!["/1".to_owned(), "/2".to_owned()], vec!["/3".to_owned()]));
        fs::remove_file(&path).unwrap();
        look(&mut log);
        write(&mut log, "/4").unwrap();
        // Truncated in place, as `copytruncate` does.
        OpenOptions::new().write(true).truncate(true).open(&path).unwrap();
        look(&mut log);
        write(&mut log, "/5").unwrap();
        assert_eq!(lines(&path), ["/5"]);
    }

    #[test]
    fn what_is_no_file_of_ours_is_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let (link, fifo) = (directory.path().join("link"), directory.path().join("fifo"));
        std::os::unix::fs::symlink(directory.path().join("elsewhere"), &link).unwrap();
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR).unwrap();
        for path in [&link, &fifo, directory.path(), &directory.path().join("none/audit")] as [&Path; 4] {
            let failed = write(&mut LogFile::new(path, 0, 1), "/1").unwrap_err();
            assert_eq!(failed.records, 1, "{}", path.display());
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "nothing was made behind the link");
    }
}
