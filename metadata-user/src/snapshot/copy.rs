//! Copies of a snapshot for operators: verified, exported for another place, imported from one.
//!
//! Promises: a file that was altered, is from a newer version, or is sealed with another key is refused by name, and nothing is
//! overwritten; a copy is complete or absent; clear text is written only if asked for, to a file that only its owner can read.
//!
//! A copy in clear text is a line with the version, the header as in a snapshot (its `salt` is the SHA-256 of what follows), and the
//! instances. A snapshot with an instance that this version cannot read is refused.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::file::{self, Header, Origin, Refused, WriteError};
use super::{entry, key};
use crate::api::Cloud;
use crate::config;
use crate::durable::{self, Draft};
use crate::secret;
use crate::secret::seal::SealKey;
use crate::store::Store;

pub use super::key::KeyError;

/// What the first line of a copy in the clear begins with.
pub(super) const CLEAR: &str = "metadatad snapshot in the clear ";

/// Version of copies in the clear.
const CLEAR_VERSION: u64 = 1;

/// Facts of a verified snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The file.
    pub path: PathBuf,
    /// Fingerprint of the key that it is sealed with; `None`: it is in the clear.
    pub key: Option<String>,
    /// Where its content is from.
    pub source: Origin,
    /// When it was written, in seconds of Unix time.
    pub written_at: u64,
    /// When its source was last known to agree with it, in seconds of Unix time.
    pub as_of: u64,
    /// The controller's state that it is not older than.
    pub revision: Option<i64>,
    /// Instances in it.
    pub instances: usize,
    /// Instances in it that were removed since, and are not served.
    pub removed: usize,
    /// Its size.
    pub bytes: u64,
}

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// There is no snapshot.
    #[error("there is no snapshot {}", .0.display())]
    Absent(PathBuf),
    /// It is not used.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// There is no key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Not all of its instances can be read.
    #[error("the snapshot {} has {expected} instances, of which {found} can be read: the log says why", path.display())]
    Incomplete {
        /// The file.
        path: PathBuf,
        /// By its header.
        expected: usize,
        /// Those that can be read.
        found: usize,
    },
    /// It cannot be written.
    #[error("writing {}", path.display())]
    Write {
        /// The copy.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A snapshot that was read whole.
#[derive(Debug)]
pub struct Copy {
    header: Header,
    store: Store,
    summary: Summary,
}

/// How a copy is written.
#[derive(Clone, Copy, Debug)]
pub enum Form<'a> {
    /// Sealed with this key.
    Sealed(&'a SealKey),
    /// In the clear, with every password and secret in it.
    Clear,
}

/// Returns the key of this file, else the one that the daemon of this node uses: of the credential, also of the running unit's, or
/// of the configuration's file.
///
/// # Errors
/// [`KeyError`] if it cannot be read. None is made.
pub fn existing_key(explicit: Option<&Path>, settings: &config::snapshot::Snapshot) -> Result<SealKey, KeyError> {
    key::existing(explicit, &settings.key_file)
}

/// Returns the key of this node, which is made if there is none yet.
///
/// # Errors
/// [`KeyError`].
pub fn own_key(settings: &config::snapshot::Snapshot) -> Result<SealKey, KeyError> {
    key::find(&settings.key_file)
}

impl Copy {
    /// Reads and verifies a snapshot or a copy. `key` is asked for only if it is sealed; `origin`: where its content has to be
    /// from.
    ///
    /// # Errors
    /// [`CopyError`].
    pub fn read(
        path: &Path,
        key: impl FnOnce() -> Result<SealKey, KeyError>,
        origin: Option<&Origin>,
    ) -> Result<Self, CopyError> {
        let text = file::read_bytes(path)?.ok_or_else(|| CopyError::Absent(path.to_owned()))?;
        let bytes = text.len() as u64;
        let is_clear = text.starts_with(CLEAR.as_bytes());
        let (header, clear) =
            if is_clear { open_clear(path, &text, origin)? } else { file::open(path, text, &key()?, origin)? };
        let removed = if is_clear { Default::default() } else { file::removed(path, &header)? };
        let mut entries = entry::read(&clear);
        if entries.len() != header.instances {
            let (expected, found) = (header.instances, entries.len());
            return Err(CopyError::Incomplete { path: path.to_owned(), expected, found });
        }
        entries.retain(|entry| !removed.contains(&entry.id()));
        let summary = Summary {
            path: path.to_owned(),
            key: (!is_clear).then(|| header.key.clone()),
            source: header.source.clone(),
            written_at: header.written_at,
            as_of: header.as_of,
            revision: header.revision,
            instances: entries.len(),
            removed: removed.len(),
            bytes,
        };
        let store = Store::new(Cloud::default());
        entries.into_iter().for_each(|entry| entry.put_into(&store));
        Ok(Self { header, store, summary })
    }

    /// Returns what is known of it.
    #[must_use]
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Writes a copy to a stream.
    ///
    /// # Errors
    /// Those of writing.
    pub fn write_to(&self, form: Form<'_>, out: &mut dyn Write) -> io::Result<()> {
        match form {
            Form::Sealed(key) => {
                let (salt, head) = file::head_of(key, self.header.clone(), self.summary.instances)?;
                file::seal_into(&mut *out, key, &salt, &head, &self.store.kept())?;
            }
            Form::Clear => {
                let mut clear = Zeroizing::new(Vec::new());
                self.store.kept().iter().try_for_each(|instance| entry::write(instance, &mut *clear))?;
                let salt = secret::hex(&secret::digest::sha256(&clear));
                let header =
                    Header { key: String::new(), salt, instances: self.summary.instances, ..self.header.clone() };
                writeln!(out, "{CLEAR}{CLEAR_VERSION}\n{}", serde_json::to_string(&header)?)?;
                out.write_all(&clear)?;
            }
        }
        out.flush()
    }

    /// Writes a copy to a file, in place of an earlier one.
    ///
    /// # Errors
    /// [`CopyError::Write`].
    pub fn export(&self, form: Form<'_>, path: &Path) -> Result<(), CopyError> {
        let write = || {
            let draft = Draft::new(durable::beside(path, config::snapshot::DRAFT))?;
            let mut out = BufWriter::new(draft.file());
            self.write_to(form, &mut out)?;
            File::sync_all(out.into_inner().map_err(io::IntoInnerError::into_error)?)?;
            draft.replace(path)?;
            durable::sync_directory(path)
        };
        write().map_err(|source| CopyError::Write { path: path.to_owned(), source })
    }

    /// Puts it in the place of this node's snapshot, sealed with its key, as content of its source.
    ///
    /// # Errors
    /// [`CopyError::Write`].
    pub fn import(&self, path: &Path, key: &SealKey, origin: &Origin) -> Result<(), CopyError> {
        let header = Header { source: origin.clone(), ..self.header.clone() };
        match file::write(path, key, header, &self.store.kept()) {
            Ok(_) => Ok(()),
            Err(WriteError { source, .. }) => Err(CopyError::Write { path: path.to_owned(), source }),
        }
    }
}

/// Reads a copy in the clear.
fn open_clear(path: &Path, text: &[u8], origin: Option<&Origin>) -> Result<(Header, Zeroizing<Vec<u8>>), Refused> {
    let altered = || Refused::Altered(path.to_owned());
    let mut lines = text.splitn(3, |byte| *byte == b'\n');
    let (Some(first), Some(second), Some(clear)) = (lines.next(), lines.next(), lines.next()) else {
        return Err(Refused::Torn(path.to_owned()));
    };
    let version = std::str::from_utf8(&first[CLEAR.len()..]).ok().and_then(|digits| digits.parse().ok());
    match version.ok_or_else(altered)? {
        CLEAR_VERSION => {}
        found if found > CLEAR_VERSION => return Err(Refused::Newer { path: path.to_owned(), found }),
        found => return Err(Refused::Older { path: path.to_owned(), found }),
    }
    let header: Header = serde_json::from_slice(second).map_err(|_| altered())?;
    if header.salt != secret::hex(&secret::digest::sha256(clear)) {
        return Err(altered());
    }
    file::check_origin(path, &header, origin)?;
    Ok((header, Zeroizing::new(clear.to_vec())))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::secret::Secret;
    use crate::store::tests::{id, record};

    fn key(letter: u8) -> SealKey {
        SealKey::new(Secret::new(vec![letter; 32])).expect("long enough")
    }

    fn origin(place: &str) -> Origin {
        Origin { kind: "directory".to_owned(), place: place.to_owned() }
    }

    /// A snapshot of two instances, one of them with a password that its guest posted.
    fn snapshot(path: &Path) {
        let store = Store::new(Cloud::default());
        for number in [1, 2] {
            let mut record = record(number, "p", &[&format!("tap{number}")]);
            record.user_data = Some("the-user-data".into());
            store.put(record);
        }
        store.restore_password(id(1), crate::api::Password::new("posted".to_owned()).expect("a password"));
        let header = Header {
            key: String::new(),
            salt: String::new(),
            written_at: 7,
            as_of: 6,
            source: origin("/a"),
            cluster: None,
            revision: Some(5),
            instances: 0,
        };
        file::write(path, &key(b'a'), header, &store.kept()).expect("written");
    }

    fn read(path: &Path, letter: u8) -> Result<Copy, CopyError> {
        Copy::read(path, || Ok(key(letter)), None)
    }

    #[test]
    fn a_copy_has_all_of_it_whatever_its_form() {
        let directory = tempfile::tempdir().expect("a directory");
        let [own, copy, other] = ["own", "copy", "other"].map(|name| directory.path().join(name));
        snapshot(&own);
        let original = read(&own, b'a').expect("read");
        assert_eq!((original.summary.instances, original.summary.as_of), (2, 6));
        for form in [Form::Sealed(&key(b'a')), Form::Sealed(&key(b'b')), Form::Clear] {
            original.export(form, &copy).expect("exported");
            assert_eq!(fs::metadata(&copy).expect("there").permissions().mode() & 0o7777, 0o600);
            let is_clear = matches!(form, Form::Clear);
            let bytes = fs::read(&copy).expect("read");
            assert_eq!(bytes.windows(6).any(|window| window == b"posted"), is_clear, "{form:?}");
            let letter =
                if matches!(form, Form::Sealed(key) if key.id() == self::key(b'b').id()) { b'b' } else { b'a' };
            let back = read(&copy, letter).expect("read");
            assert_eq!(back.summary.key.is_none(), is_clear);
            assert_eq!(back.store.served(id(1)).and_then(|content| content.password()).as_deref(), Some("posted"));
            back.import(&other, &key(b'c'), &origin("/c")).expect("imported");
            let imported = Copy::read(&other, || Ok(key(b'c')), Some(&origin("/c"))).expect("this node's");
            assert_eq!((imported.summary.instances, imported.summary.revision), (2, Some(5)));
        }
    }

    #[test]
    fn what_is_not_as_it_was_written_is_refused_by_name() {
        let directory = tempfile::tempdir().expect("a directory");
        let [own, copy] = ["own", "copy"].map(|name| directory.path().join(name));
        snapshot(&own);
        assert!(matches!(read(&own, b'b'), Err(CopyError::Refused(Refused::Key { .. }))));
        let elsewhere = Copy::read(&own, || Ok(key(b'a')), Some(&origin("/b")));
        assert!(matches!(elsewhere, Err(CopyError::Refused(Refused::Origin { .. }))));
        assert!(matches!(read(&directory.path().join("none"), b'a'), Err(CopyError::Absent(_))));
        let original = read(&own, b'a').expect("read");
        for form in [Form::Sealed(&key(b'a')), Form::Clear] {
            original.export(form, &copy).expect("exported");
            let whole = fs::read(&copy).expect("read");
            let put = |bytes: &[u8]| fs::write(&copy, bytes).expect("written");
            put(&whole[..whole.len() - 1]);
            let torn = read(&copy, b'a').map(drop).expect_err("torn");
            assert!(matches!(torn, CopyError::Refused(Refused::Torn(_) | Refused::Altered(_))), "{torn}");
            let mut altered = whole.clone();
            *altered.last_mut().expect("a byte") ^= 1;
            put(&altered);
            let altered = read(&copy, b'a').map(drop).expect_err("altered");
            assert!(matches!(altered, CopyError::Refused(Refused::Altered(_))), "{altered}");
            let text = String::from_utf8_lossy(&whole[..whole.iter().position(|byte| *byte == b'\n').expect("a line")]);
            let newer = [text.replace('1', "9").as_bytes(), &whole[text.len()..]].concat();
            put(&newer);
            let newer = read(&copy, b'a').map(drop).expect_err("newer");
            assert!(matches!(newer, CopyError::Refused(Refused::Newer { found: 9, .. })), "{newer}");
        }
    }
}
