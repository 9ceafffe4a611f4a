//! The documents of the directory, and which file serves which instance. No watching, no clock: the caller decides what
//! to read again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use tracing::{info, warn};

use super::Parse;
use crate::links::{self, Route};
use crate::record::InstanceId;
use crate::source::refusal::Refusal;
use crate::source::{SourceState, wire};
use crate::store::Store;

const MAX_DOCUMENT: u64 = wire::MAX_DOCUMENT as u64;

/// A file. Few are links or refused, and there may be thousands: so that is kept apart.
#[derive(Debug, Default)]
struct Document {
    /// The instance that this file's last good version is served for.
    serves: Option<InstanceId>,
    /// Where it led when it was last read, if it is a symbolic link.
    link: Option<Box<Link>>,
    refused: Option<Box<Refused>>,
}

/// Why a file is refused.
#[derive(Debug)]
struct Refused {
    refusal: Refusal,
    /// The instance that another file serves, if that is why.
    taken: Option<InstanceId>,
}

impl Document {
    /// Returns the instance that another file serves, if that is why this one is refused.
    fn taken(&self) -> Option<InstanceId> {
        self.refused.as_ref()?.taken
    }
}

/// A document that is a symbolic link.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Link {
    /// Its content.
    target: PathBuf,
    /// Where that leads, through further links.
    route: Route,
}

impl Link {
    /// Returns the link at this path; `None` if the path is not a link, or cannot be followed.
    fn of(path: &Path) -> Option<Self> {
        let target = fs::read_link(path).ok()?;
        Some(Self { target, route: links::follow(path).ok()? })
    }

    /// Returns whether its target was removed, now that it dangles. The target's directory must exist: the same as
    /// before, or another one that further links lead to now. Anything else may be a file system that is not mounted.
    fn has_lost(&self, now: &Self) -> bool {
        let is_reachable = now.route.parent.is_some();
        let is_same = now.route.parent == self.route.parent;
        is_reachable && self.target == now.target && (is_same || self.route.links != now.route.links)
    }
}

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("it is not a regular file; remove it or give it another suffix")]
    Kind,
    #[error("it is larger than {} MiB; make its user data smaller", MAX_DOCUMENT >> 20)]
    Size,
    #[error("its symbolic links form a loop; correct them")]
    Circle,
    #[error("it cannot be read: {0}; correct its owner and mode")]
    Io(#[from] io::Error),
}

#[derive(Debug)]
pub(super) struct DocumentDirectory {
    path: PathBuf,
    parse: Parse,
    store: Arc<Store>,
    documents: BTreeMap<Arc<str>, Document>,
    /// The file that serves each instance.
    owners: HashMap<InstanceId, Arc<str>>,
    synced_at: Option<SystemTime>,
    error: Option<String>,
    unavailable_since: Option<SystemTime>,
    changed_at: Option<SystemTime>,
    scans: u64,
    /// Whether every instance in the store has a document.
    swept: bool,
}

impl DocumentDirectory {
    pub(super) fn new(path: PathBuf, parse: Parse, store: Arc<Store>) -> Self {
        Self {
            path,
            parse,
            store,
            documents: BTreeMap::new(),
            owners: HashMap::new(),
            synced_at: None,
            error: None,
            unavailable_since: None,
            changed_at: None,
            scans: 0,
            swept: false,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn state(&self) -> SourceState {
        let broken = self.documents.iter().filter_map(|(name, document)| {
            Some(document.refused.as_ref()?.refusal.shown(name.to_string(), document.serves.is_some()))
        });
        // Before the first scan it is not known which instances lack a document.
        let mut unconfirmed = if self.swept || self.scans == 0 { Vec::new() } else { self.store.ids() };
        unconfirmed.retain(|id| !self.owners.contains_key(id));
        unconfirmed.sort_unstable();
        SourceState {
            synced_at: self.synced_at,
            instances: self.owners.len(),
            unconfirmed,
            broken: broken.collect(),
            error: self.error.clone(),
            lagging_since: self.unavailable_since,
            changed_at: self.changed_at,
            resyncs: self.scans.saturating_sub(1),
            ..SourceState::new("directory", self.path.display().to_string())
        }
    }

    /// Records that the directory cannot be read. Content stays.
    pub(super) fn unavailable(&mut self, error: &io::Error) {
        let path = self.path.display();
        self.fail(match error.kind() {
            io::ErrorKind::NotFound => {
                format!("the directory {path} does not exist; create it, or correct source.path")
            }
            io::ErrorKind::NotADirectory => format!("{path} is not a directory; correct source.path"),
            _ => format!("the directory {path} cannot be read: {error}; correct its owner and mode"),
        });
    }

    /// Records that the directory is read, but not watched, and why.
    pub(super) fn unwatched(&mut self, problem: String) {
        self.unavailable_since = None;
        if self.error.as_ref() != Some(&problem) {
            warn!("source: {problem}");
            self.error = Some(problem);
        }
    }

    pub(super) fn is_unavailable(&self) -> bool {
        self.unavailable_since.is_some()
    }

    fn fail(&mut self, problem: String) {
        self.unavailable_since.get_or_insert_with(SystemTime::now);
        if self.error.as_ref() != Some(&problem) {
            warn!(instances = self.owners.len(), "source: {problem}; the last content stays served");
            self.error = Some(problem);
        }
    }

    /// Adds the known documents to those that were found, so that removed ones are processed too.
    pub(super) fn known_and(&self, mut found: BTreeSet<String>) -> BTreeSet<String> {
        found.extend(self.documents.keys().map(|name| name.to_string()));
        found
    }

    /// Records that all documents were read.
    pub(super) fn scanned(&mut self) {
        self.synced_at = Some(SystemTime::now());
        self.scans += 1;
        self.sweep();
    }

    /// Removes, once, the instances that were in the store before the first scan and have no document. Waits while a
    /// document is broken, since any of these instances may be its last good version.
    fn sweep(&mut self) {
        // A second document of an instance does not count: another file describes the same instance.
        let unknown =
            |document: &Document| document.serves.is_none() && document.refused.is_some() && document.taken().is_none();
        if self.swept || self.scans == 0 || self.documents.values().any(unknown) {
            return;
        }
        self.swept = true;
        for id in self.store.keep_only(|id| self.owners.contains_key(&id)) {
            info!(instance = %id, "content removed: it has no document");
        }
    }

    /// Records that the directory is read and watched.
    pub(super) fn recovered(&mut self) {
        self.unavailable_since = None;
        if self.error.take().is_some() {
            info!(path = %self.path.display(), "source: the directory can be read and watched again");
        }
    }

    /// Returns the order in which to read documents: removed ones come last, so that an instance stays served while its
    /// file is renamed.
    pub(super) fn in_order(&self, names: BTreeSet<String>) -> Vec<String> {
        let (mut order, gone): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| self.path.join(name).exists());
        order.extend(gone);
        order
    }

    /// Reads a document again.
    pub(super) fn load(&mut self, name: &str) {
        self.read(name);
        self.sweep();
    }

    fn read(&mut self, name: &str) {
        let path = self.path.join(name);
        let link = Link::of(&path);
        let bytes = match read(&path) {
            Ok(Some(bytes)) => bytes,
            Ok(None) if path.is_symlink() => return self.dangles(name, link.as_ref()),
            Ok(None) => return self.gone(name),
            Err(error) => {
                let problem = error.to_string();
                return self.refuse(name, None, Refusal::new(problem.as_bytes(), None, problem.clone()));
            }
        };
        let record = match (self.parse)(&bytes) {
            Ok(record) => record,
            Err(error) => {
                let place = Some((error.line, error.column));
                return self.refuse(name, None, Refusal::new(&bytes, place, error.to_string()));
            }
        };
        let id = record.uuid;
        if let Some(owner) = self.owners.get(&id).filter(|owner| ***owner != *name).cloned() {
            if self.path.join(&*owner).exists() {
                let problem = format!(
                    "instance {id} is described by {owner} already, so {name} is not used; remove one of the two"
                );
                return self.refuse(name, Some(id), Refusal::new(&bytes, None, problem));
            }
            // The file was renamed: the instance stays served.
            if let Some(document) = self.documents.get_mut(&owner) {
                document.serves = None;
            }
        }
        let file = self.documents.get_key_value(name).map_or_else(|| name.into(), |(name, _)| Arc::clone(name));
        let document = self.documents.entry(Arc::clone(&file)).or_default();
        let before = document.serves.replace(id);
        document.link = link.map(Box::new);
        if document.refused.take().is_some() {
            info!(file = name, instance = %id, "the document is valid again");
        }
        self.owners.insert(id, file);
        if self.store.put(record) {
            self.changed_at = Some(SystemTime::now());
            info!(file = name, instance = %id, "content changed");
        }
        if let Some(before) = before.filter(|before| *before != id) {
            self.release(before);
        }
    }

    /// Handles a dangling link.
    fn dangles(&mut self, name: &str, now: Option<&Link>) {
        let document = self.documents.entry(name.into()).or_default();
        let has_lost = document.link.as_deref().zip(now).is_some_and(|(before, now)| before.has_lost(now));
        let ended = if has_lost { document.serves.take() } else { None };
        let target = now.map(|now| now.target.display().to_string()).unwrap_or_default();
        let problem =
            format!("it is a symbolic link to {target}, which does not exist; restore that file, or remove the link");
        if let Some(id) = ended {
            self.release(id);
        }
        self.refuse(name, None, Refusal::new(target.as_bytes(), None, problem));
    }

    fn gone(&mut self, name: &str) {
        if !self.path.is_dir() {
            // The whole directory is gone, which is no evidence that an instance was removed.
            return self.unavailable(&io::ErrorKind::NotFound.into());
        }
        if let Some(document) = self.documents.remove(name)
            && let Some(id) = document.serves
        {
            self.release(id);
        }
    }

    /// Ends an instance, unless another file describes it too.
    fn release(&mut self, id: InstanceId) {
        self.owners.remove(&id);
        let heir =
            self.documents.iter().find_map(|(name, document)| (document.taken() == Some(id)).then(|| Arc::clone(name)));
        if let Some(heir) = heir {
            self.read(&heir);
        }
        if !self.owners.contains_key(&id) && self.store.remove(id) {
            self.changed_at = Some(SystemTime::now());
            info!(instance = %id, "content removed");
        }
    }

    fn refuse(&mut self, name: &str, taken: Option<InstanceId>, refusal: Refusal) {
        let document = self.documents.entry(name.into()).or_default();
        if !refusal.repeats(document.refused.as_ref().map(|refused| &refused.refusal)) {
            let kept = document.serves.map(|id| id.to_string());
            let (line, column) = refusal.place.unzip();
            let problem = &refusal.problem;
            warn!(file = name, line, column, last_good_version_served_for = kept, "document refused: {problem}");
        }
        document.refused = Some(Box::new(Refused { refusal, taken }));
    }
}

/// Reads a file; `None` if there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, Unreadable> {
    // Non-blocking, so that opening a FIFO does not wait for a writer.
    let nonblocking = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let file = match File::options().read(true).custom_flags(nonblocking).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(nix::libc::ELOOP) => return Err(Unreadable::Circle),
        Err(error) => return Err(error.into()),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(Unreadable::Kind);
    }
    if metadata.len() > MAX_DOCUMENT {
        return Err(Unreadable::Size);
    }
    let mut bytes = Vec::new();
    file.take(MAX_DOCUMENT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_DOCUMENT {
        return Err(Unreadable::Size);
    }
    Ok(Some(bytes))
}
