//! The embedded source: a directory of `*.json`, one document per instance, watched.
//!
//! Promises:
//! - a file counts when it is complete: [`QUIET`] after it was closed or renamed into place, so a half-written one
//!   neither replaces good content nor stays reported as broken;
//! - a file that cannot be used is reported once per content, by name, line and column, with the remedy, and the last
//!   good version of its instance stays served;
//! - the second file that names an instance is refused, and both are named;
//! - while the directory is missing the content stays; when it is back, it is read again as a whole.
//!
//! Left out: sub-directories; hidden files, and names that do not end in `.json`; documents over
//! 16 MiB. Where inotify reports nothing (network file systems), changes are seen only
//! when the directory itself is replaced or the daemon starts.
//!
//! It runs on a thread of its own, since reading files blocks.

mod documents;
mod pending;

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tracing::{info, warn};

use super::SourceView;
use super::wire::DocumentError;
use crate::readiness::Blocker;
use crate::record::InstanceRecord;
use crate::state_view::StateView;
use crate::store::Store;
use documents::DocumentDirectory;
pub(crate) use documents::read;
use pending::Pending;

/// How long a file must be left alone, once it was closed or renamed, before it is read. Editors and `cp` are done
/// within a few milliseconds; a guest does not notice it.
pub const QUIET: Duration = Duration::from_millis(50);

/// How often it is checked that the directory is still the one that is watched.
const CHECK: Duration = Duration::from_secs(1);

/// Reads a document. A parameter so that this module knows no format.
pub type Parse = fn(&[u8]) -> Result<InstanceRecord, DocumentError>;

/// The running source. Dropping it ends the thread.
#[derive(Debug)]
pub struct Directory {
    state: SourceView,
    inbox: Arc<Inbox>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Inbox {
    mail: Mutex<Mail>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct Mail {
    pending: Pending,
    rescan: bool,
    stop: bool,
}

impl Directory {
    /// Starts to read and watch the directory. `first_scan` is dropped when the directory was read once, or found missing.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(path: PathBuf, parse: Parse, store: Arc<Store>, first_scan: Blocker) -> io::Result<Self> {
        let inbox = Arc::new(Inbox::default());
        let directory = DocumentDirectory::new(path, parse, store);
        let state = StateView::new(directory.state());
        let task = Task { directory, state: state.clone(), inbox: Arc::clone(&inbox), watched: None };
        let thread = std::thread::Builder::new().name("source".to_owned()).spawn(move || task.run(first_scan))?;
        Ok(Self { state, inbox, thread: Some(thread) })
    }

    /// Returns a view of its state.
    #[must_use]
    pub fn state(&self) -> SourceView {
        self.state.clone()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        self.inbox.lock().stop = true;
        self.inbox.arrived.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported by itself.
            let _ = thread.join();
        }
    }
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called on the watcher's thread: must not block.
    fn receive(&self, event: notify::Result<notify::Event>) {
        let mut mail = self.lock();
        match event {
            Ok(event) if !event.need_rescan() => {
                let Some(settled) = settles(event.kind) else {
                    return;
                };
                let now = Instant::now();
                let names = event.paths.iter().filter_map(|path| document_name(path));
                for name in names {
                    mail.pending.touched(name, now, settled);
                }
            }
            // Events were lost.
            Ok(_) | Err(_) => mail.rescan = true,
        }
        self.arrived.notify_all();
    }
}

/// Whether an event may change a document, and if so whether it also completes one.
fn settles(kind: EventKind) -> Option<bool> {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(true),
        EventKind::Access(_) => None,
        EventKind::Create(_) | EventKind::Modify(ModifyKind::Data(_)) => Some(false),
        _ => Some(true),
    }
}

/// Returns the file's name if it is one of a document.
pub(crate) fn document_name(path: &Path) -> Option<&str> {
    let name = path.file_name().and_then(OsStr::to_str)?;
    (name.ends_with(".json") && !name.starts_with('.')).then_some(name)
}

struct Task {
    directory: DocumentDirectory,
    state: SourceView,
    inbox: Arc<Inbox>,
    /// The watch, and device and inode of the directory that it is on.
    watched: Option<(RecommendedWatcher, (u64, u64))>,
}

impl Task {
    fn run(mut self, first_scan: Blocker) {
        self.check_directory();
        self.state.publish(self.directory.state());
        drop(first_scan);
        while let Some((due, rescan)) = self.wait() {
            if rescan {
                info!(
                    path = %self.directory.path().display(),
                    "events of the source were lost: reading all of it"
                );
                self.scan();
            }
            self.directory.load_all(&due);
            self.check_directory();
            self.state.publish(self.directory.state());
        }
    }

    /// Waits for documents that are due; `None` at the end.
    fn wait(&self) -> Option<(Vec<String>, bool)> {
        let started = Instant::now();
        let mut mail = self.inbox.lock();
        loop {
            let now = Instant::now();
            let due = mail.pending.take_due(now);
            let rescan = std::mem::take(&mut mail.rescan);
            if mail.stop {
                return None;
            }
            if rescan || !due.is_empty() || now.duration_since(started) >= CHECK {
                return Some((due, rescan));
            }
            let until = mail.pending.next_due().map_or(started + CHECK, |due| due.min(started + CHECK));
            mail = self
                .inbox
                .arrived
                .wait_timeout(mail, until.saturating_duration_since(now))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Watches and reads the directory, unless it is the one that is watched already.
    fn check_directory(&mut self) {
        let found = match identity(self.directory.path()) {
            Ok(found) => found,
            Err(error) => {
                self.watched = None;
                self.directory.unavailable(&error);
                return;
            }
        };
        if matches!(&self.watched, Some((_, watched)) if *watched == found) {
            if self.directory.is_unavailable() && self.scan() {
                self.directory.recovered();
            }
            return;
        }
        let first = self.watched.is_none();
        // The watch comes first, so that nothing that changes during the scan is missed.
        match self.watch() {
            Ok(watcher) => self.watched = Some((watcher, found)),
            Err(error) => {
                self.watched = None;
                // Without a watch, every check reads everything.
                if self.scan() {
                    self.directory.unwatched(&error);
                }
                return;
            }
        }
        if !first {
            warn!(path = %self.directory.path().display(), "the source's directory was replaced: reading all of it");
        }
        if self.scan() {
            self.directory.recovered();
        }
    }

    fn watch(&self) -> notify::Result<RecommendedWatcher> {
        let inbox = Arc::clone(&self.inbox);
        let mut watcher = notify::recommended_watcher(move |event| inbox.receive(event))?;
        watcher.watch(self.directory.path(), RecursiveMode::NonRecursive)?;
        Ok(watcher)
    }

    /// Returns whether the directory could be read.
    fn scan(&mut self) -> bool {
        self.directory.scan().inspect_err(|error| self.directory.unavailable(error)).is_ok()
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() { Ok((metadata.dev(), metadata.ino())) } else { Err(io::ErrorKind::NotADirectory.into()) }
}

#[cfg(test)]
mod tests;
