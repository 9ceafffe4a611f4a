//! The file: a line with the version, a line with the header as JSON, both in the clear, then what they head, sealed.
//!
//! What is sealed is of [`super::entry`]. Version and header are its associated data, so they cannot be changed either.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read as _, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tracing::debug;
use zeroize::Zeroizing;

use super::entry::{self, Entry};
use super::removals;
use crate::config;
use crate::durable::{self, Draft};
use crate::record::InstanceId;
use crate::secret::seal::{self, OpenError, SealKey, Sealer};
use crate::store::Kept;

/// What the first line begins with.
const MAGIC: &str = "metadatad snapshot ";

/// Version of all that follows the first line. Raised when an older daemon would misread it.
const VERSION: u64 = 1;

/// The most bytes of a file: ten thousand instances with 64 KiB of user data each, and room. It is read into memory.
pub const LIMIT: u64 = 1 << 30;

/// The most bytes of the two lines in the clear.
const HEAD_LIMIT: usize = 64 << 10;

/// Where content is from. A snapshot of another origin is not this node's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Kind of source, as in the configuration.
    pub kind: String,
    /// Where it reads.
    pub place: String,
}

impl Origin {
    /// Returns the origin that the configuration names.
    #[must_use]
    pub fn of(source: &config::Source) -> Self {
        let (kind, place) = match source {
            config::Source::Directory { path } => ("directory", path.display().to_string()),
            // Not the endpoints: members come and go, and the cluster has an identity of its own.
            config::Source::Etcd(etcd) => ("etcd", etcd.node_prefix(&etcd.node)),
            // Nor here: an instance's UUID identifies its content, whichever endpoint it was read from.
            config::Source::Nova(_) => ("nova", String::new()),
        };
        Self { kind: kind.to_owned(), place }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind, self.place)
    }
}

/// The second line. Times are seconds of Unix time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    /// Fingerprint of the key.
    pub(super) key: String,
    /// Random part of this text's key, in hex digits.
    pub(super) salt: String,
    /// When it was written.
    pub(super) written_at: u64,
    /// When the source was last known to agree with it.
    pub(super) as_of: u64,
    /// Where the content is from.
    pub(super) source: Origin,
    /// Identity of the controller.
    pub(super) cluster: Option<String>,
    /// A state of the controller that the content is not older than.
    pub(super) revision: Option<i64>,
    /// Number of instances.
    pub(super) instances: usize,
}

/// A snapshot that was read.
#[derive(Debug)]
pub(super) struct FileContent {
    pub(super) header: Header,
    /// Instances that are served.
    pub(super) entries: Vec<Entry>,
    /// Instances that are in it, but were removed since.
    pub(super) removed: BTreeSet<InstanceId>,
    pub(super) bytes: u64,
}

/// Why a snapshot is not used.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It cannot be read.
    #[error("the snapshot {} cannot be read: correct the owner and mode of its directory", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is a directory, a link, a device.
    #[error("the snapshot {} is not a regular file: remove it, or correct snapshot.path", .0.display())]
    Kind(PathBuf),
    /// It belongs to another user.
    #[error(
        "the snapshot {} belongs to user {owner}: that user may have written it; remove it, or change its owner to \
         the daemon's user",
        path.display()
    )]
    Owner {
        /// The file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// Others may read or write it.
    #[error(
        "the snapshot {} is open to other users (mode {mode:04o}): set its mode to 0600 if its content can be trusted, else remove it",
        path.display()
    )]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is too large.
    #[error("the snapshot {} has {bytes} bytes, and at most {LIMIT} are read: check snapshot.path", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// It is not a snapshot.
    #[error("{} is not a snapshot of metadatad: correct snapshot.path", .0.display())]
    Foreign(PathBuf),
    /// A newer daemon wrote it.
    #[error(
        "the snapshot {} is of version {found}, from a newer metadatad, and this one knows {VERSION}: install that version again, \
         or let the source supply the content again",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
    },
    /// An older daemon wrote it.
    #[error(
        "the snapshot {} is of version {found}, from an older metadatad, and this one knows {VERSION}: the source supplies \
         the content again",
        path.display()
    )]
    Older {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
    },
    /// It ends too early.
    #[error("the snapshot {} is torn: it ends too early, as after a full disk; the source supplies the content again", .0.display())]
    Torn(PathBuf),
    /// It is not as it was written.
    #[error("the snapshot {} is damaged or was altered: check the disk; the source supplies the content again", .0.display())]
    Altered(PathBuf),
    /// It was sealed with another key.
    #[error(
        "the snapshot {} is sealed with the key {found}, and the key here is {expected}: bring the former key back, or let \
         the source supply the content again",
        path.display()
    )]
    Key {
        /// The file.
        path: PathBuf,
        /// Fingerprint of its key.
        found: String,
        /// Fingerprint of the key at hand.
        expected: String,
    },
    /// Its content is of another source.
    #[error(
        "the snapshot {} is of the source `{found}`, and the configuration names `{expected}`: that content is not served; \
         correct [source] if it should be",
        path.display()
    )]
    Origin {
        /// The file.
        path: PathBuf,
        /// Its source.
        found: Origin,
        /// The source of the configuration.
        expected: Origin,
    },
}

/// Reads a snapshot; `None` if there is none.
pub(super) fn read(path: &Path, key: &SealKey, origin: &Origin) -> Result<Option<FileContent>, Refused> {
    let Some(text) = read_bytes(path)? else { return Ok(None) };
    let bytes = text.len() as u64;
    let (header, clear) = open(path, text, key, Some(origin))?;
    let removed = removed(path, &header)?;
    let mut entries = entry::read(&clear);
    entries.retain(|entry| !removed.contains(&entry.id()));
    Ok(Some(FileContent { entries, removed, header, bytes }))
}

/// Returns which of its instances were removed since it was written.
pub(super) fn removed(path: &Path, header: &Header) -> Result<BTreeSet<InstanceId>, Refused> {
    removals::read(path, &header.salt)
        .map_err(|source| Refused::Read { path: durable::beside(path, config::snapshot::REMOVED), source })
}

/// Opens a snapshot that was read from `path`. Returns its header, and what it heads in the clear. `origin`: where its content has
/// to be from.
pub(super) fn open(
    path: &Path,
    mut text: Zeroizing<Vec<u8>>,
    key: &SealKey,
    origin: Option<&Origin>,
) -> Result<(Header, Zeroizing<Vec<u8>>), Refused> {
    let (head, header) = head(path, &text, key, origin)?;
    let salt = salt(&header.salt).ok_or_else(|| Refused::Altered(path.to_owned()))?;
    let associated = text[..head].to_vec();
    let sealed = text.len() - head;
    text.copy_within(head.., 0);
    text.truncate(sealed);
    let clear = seal::open(key, &salt, &associated, text).map_err(|error| match error {
        OpenError::Torn => Refused::Torn(path.to_owned()),
        OpenError::Altered => Refused::Altered(path.to_owned()),
    })?;
    Ok((header, clear))
}

/// Reads the file's bytes, if it is the daemon's own.
pub(super) fn read_bytes(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, Refused> {
    use nix::fcntl::OFlag;
    let unreadable = |source| Refused::Read { path: path.to_owned(), source };
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW;
    let file = match File::options().read(true).custom_flags(flags.bits()).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // A link (ELOOP), or a socket (ENXIO).
        Err(_) if fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) => {
            return Err(Refused::Kind(path.to_owned()));
        }
        Err(error) => return Err(unreadable(error)),
    };
    let found = file.metadata().map_err(unreadable)?;
    if !found.is_file() {
        return Err(Refused::Kind(path.to_owned()));
    }
    if found.uid() != nix::unistd::geteuid().as_raw() && found.uid() != 0 {
        return Err(Refused::Owner { path: path.to_owned(), owner: found.uid() });
    }
    let mode = found.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(Refused::Mode { path: path.to_owned(), mode });
    }
    let too_large = |bytes| Refused::TooLarge { path: path.to_owned(), bytes };
    let size = usize::try_from(found.len()).map_err(|_| too_large(found.len()))?;
    if found.len() > LIMIT {
        return Err(too_large(found.len()));
    }
    // What is opened is opened in this memory, so it must not move.
    let mut text = Zeroizing::new(Vec::with_capacity(size + 1));
    file.take(found.len() + 1).read_to_end(&mut text).map_err(unreadable)?;
    Ok(Some(text))
}

/// Reads the lines in the clear. Returns where the sealed text begins.
fn head(path: &Path, text: &[u8], key: &SealKey, origin: Option<&Origin>) -> Result<(usize, Header), Refused> {
    let path = || path.to_owned();
    let start = &text[..text.len().min(HEAD_LIMIT)];
    let mut lines = start.splitn(3, |byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let (Some(second), Some(_)) = (lines.next(), lines.next()) else {
        let magic = MAGIC.as_bytes();
        let begins = text.starts_with(magic) || magic.starts_with(text);
        return Err(if begins && text.len() < HEAD_LIMIT { Refused::Torn(path()) } else { Refused::Foreign(path()) });
    };
    let version = first.strip_prefix(MAGIC.as_bytes()).ok_or_else(|| Refused::Foreign(path()))?;
    let version = std::str::from_utf8(version).ok().and_then(|digits| digits.parse().ok());
    match version.ok_or_else(|| Refused::Altered(path()))? {
        VERSION => {}
        found if found > VERSION => return Err(Refused::Newer { path: path(), found }),
        found => return Err(Refused::Older { path: path(), found }),
    }
    let header: Header = serde_json::from_slice(second).map_err(|_| Refused::Altered(path()))?;
    if header.key != key.id() {
        return Err(Refused::Key { path: path(), found: header.key, expected: key.id().to_owned() });
    }
    check_origin(&path(), &header, origin)?;
    Ok((first.len() + second.len() + 2, header))
}

/// Refuses content of another origin.
pub(super) fn check_origin(path: &Path, header: &Header, origin: Option<&Origin>) -> Result<(), Refused> {
    match origin.filter(|origin| **origin != header.source) {
        None => Ok(()),
        Some(origin) => {
            let (found, expected) = (header.source.clone(), origin.clone());
            Err(Refused::Origin { path: path.to_owned(), found, expected })
        }
    }
}

/// A snapshot that was written.
#[derive(Debug)]
pub(super) struct Saved {
    /// See [`Header::salt`].
    pub(super) salt: String,
    pub(super) bytes: u64,
}

/// Why a snapshot was not written.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub(super) struct WriteError {
    pub(super) source: io::Error,
    /// It is in place all the same, and may not last.
    pub(super) saved: Option<Saved>,
}

impl From<io::Error> for WriteError {
    fn from(source: io::Error) -> Self {
        Self { source, saved: None }
    }
}

/// Writes a snapshot in place of the former one.
pub(super) fn write(path: &Path, key: &SealKey, header: Header, instances: &[Kept]) -> Result<Saved, WriteError> {
    let (salt, head) = head_of(key, header, instances.len())?;
    let salt_text = crate::secret::hex(&salt);

    durable::make_directory(path)?;
    let draft = Draft::new(durable::beside(path, config::snapshot::DRAFT))?;
    let bytes = write_to(draft.file(), key, &salt, &head, instances)?;
    // Without room for it the snapshot is worth writing still: it lacks what was removed until now.
    let removals = removals::prepare(path, &salt_text, instances.len(), &BTreeSet::new());
    draft.replace(path)?;
    // Until this is done, removals that are recorded are of the former snapshot, and ignored.
    let removals = removals.and_then(|draft| draft.replace(&durable::beside(path, config::snapshot::REMOVED)));
    if let Err(error) = removals {
        debug!(%error, "no room for the removals that follow this snapshot");
    }
    let saved = Saved { salt: salt_text, bytes };
    match durable::sync_directory(path) {
        Ok(()) => Ok(saved),
        Err(source) => Err(WriteError { source, saved: Some(saved) }),
    }
}

/// Returns a new salt, and what comes before the text that is sealed with it.
pub(super) fn head_of(key: &SealKey, mut header: Header, instances: usize) -> io::Result<(seal::Salt, String)> {
    let salt = seal::random_salt().map_err(io::Error::other)?;
    header.salt = crate::secret::hex(&salt);
    header.key = key.id().to_owned();
    header.instances = instances;
    Ok((salt, lines_in_the_clear(&header)?))
}

/// Returns what comes before the sealed text.
pub(super) fn lines_in_the_clear(header: &Header) -> io::Result<String> {
    Ok(format!("{MAGIC}{VERSION}\n{}\n", serde_json::to_string(header).map_err(io::Error::from)?))
}

fn write_to(file: &File, key: &SealKey, salt: &seal::Salt, head: &str, instances: &[Kept]) -> io::Result<u64> {
    let out = seal_into(BufWriter::new(file), key, salt, head, instances)?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    let size = file.metadata()?.len();
    if size > LIMIT {
        let problem = format!("it would have {size} bytes, and at most {LIMIT} are read again");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
    }
    file.sync_all()?;
    Ok(size)
}

/// Writes the lines in the clear and the instances, sealed.
pub(super) fn seal_into<W: Write>(
    mut out: W,
    key: &SealKey,
    salt: &seal::Salt,
    head: &str,
    instances: &[Kept],
) -> io::Result<W> {
    out.write_all(head.as_bytes())?;
    let mut sealer = Sealer::new(key, salt, head.as_bytes(), out).map_err(io::Error::other)?;
    for instance in instances {
        entry::write(instance, &mut sealer)?;
    }
    sealer.finish()
}

/// Keeps a refused snapshot, in place of an earlier one. Returns its new name.
pub(super) fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let aside = durable::beside(path, config::snapshot::REFUSED);
    fs::rename(path, &aside)?;
    Ok(aside)
}

/// The earliest time there is, if the header's number is impossible.
pub(super) fn time(seconds: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH)
}

pub(super) fn salt(digits: &str) -> Option<seal::Salt> {
    let mut salt = seal::Salt::default();
    if digits.len() != 2 * salt.len() || !digits.is_ascii() {
        return None;
    }
    for (byte, place) in salt.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&digits[place..place + 2], 16).ok()?;
    }
    Some(salt)
}
