//! The embedded source: a directory of `*.json`, one document per instance, watched.
//!
//! Promises:
//! - a file counts when it is complete: [`QUIET`] after it was closed or renamed into place, so a half-written one
//!   neither replaces good content nor stays reported as broken;
//! - a document may be a symbolic link, and so may the directory: a target that is written, replaced or swapped counts as
//!   the file itself would;
//! - if the target of a link is removed, its instance ends, as when a file is removed. If the target is out of reach,
//!   since its directory is missing or another one (a file system that is not mounted), the instance stays as it was,
//!   and the link is reported;
//! - a file that cannot be used is reported once per content, by name, line and column, with the remedy, and the last
//!   good version of its instance stays served;
//! - the second file that names an instance is refused, and both are named;
//! - while the directory is missing the content stays; when it is back, it is read again as a whole;
//! - shutdown waits at most for the document that is being read.
//!
//! Left out: sub-directories; hidden files, and names that do not end in `.json`; documents over
//! 16 MiB.
//!
//! It runs on a thread of its own, since reading files blocks.

mod documents;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::yield_now;
use tracing::{info, warn};

use super::SourceView;
use super::wire::DocumentError;
use crate::readiness::Blocker;
use crate::record::InstanceRecord;
use crate::state_view::StateView;
use crate::store::Store;
use crate::watched_directory::{Change, WatchedDirectory};
use crate::worker::{Stop, Worker};
use documents::DocumentDirectory;
pub(crate) use documents::read;

/// How long a file must be left alone, once it was closed or renamed, before it is read. Editors and `cp` are done
/// within a few milliseconds; a guest does not notice it.
pub const QUIET: Duration = Duration::from_millis(50);

/// Reads a document. A parameter so that this module knows no format.
pub type Parse = fn(&[u8]) -> Result<InstanceRecord, DocumentError>;

/// The running source. Dropping it ends it.
#[derive(Debug)]
pub struct Directory {
    state: SourceView,
    _worker: Worker,
}

impl Directory {
    /// Starts to read and watch the directory. `first_scan` is dropped after the first scan, or the first failure.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(path: PathBuf, parse: Parse, store: Arc<Store>, first_scan: Blocker) -> io::Result<Self> {
        let watched = WatchedDirectory::new(path.clone(), is_document, QUIET);
        Self::start_with(watched, DocumentDirectory::new(path, parse, store), first_scan)
    }

    fn start_with(watched: WatchedDirectory, directory: DocumentDirectory, first_scan: Blocker) -> io::Result<Self> {
        let state = StateView::new(directory.state());
        let mut task = Task { directory, state: state.clone(), watched };
        let worker = Worker::spawn("source", async move |mut stop: Stop| {
            tokio::select! {
                // First, since a task that always has something to read would otherwise never stop.
                biased;
                () = stop.requested() => {}
                never = task.run(first_scan) => match never {},
            }
        })?;
        Ok(Self { state, _worker: worker })
    }

    /// Returns a view of its state.
    #[must_use]
    pub fn state(&self) -> SourceView {
        self.state.clone()
    }
}

/// Returns the file's name if it is one of a document.
pub(crate) fn document_name(path: &Path) -> Option<&str> {
    path.file_name().and_then(OsStr::to_str).filter(|name| is_document(name))
}

fn is_document(name: &str) -> bool {
    name.ends_with(".json") && !name.starts_with('.')
}

struct Task {
    directory: DocumentDirectory,
    state: SourceView,
    watched: WatchedDirectory,
}

impl Task {
    /// Follows the directory; never completes.
    async fn run(&mut self, first_scan: Blocker) -> std::convert::Infallible {
        let mut first_scan = Some(first_scan);
        loop {
            match self.watched.next().await {
                Change::Unavailable(error) => self.directory.unavailable(&error),
                Change::All(names, is_other) => {
                    let path = self.directory.path().display();
                    if first_scan.is_none() && !self.directory.is_unavailable() {
                        match is_other {
                            true => warn!(%path, "the source's directory was replaced: rescanning it"),
                            false => info!(%path, "inotify events of the source were lost: rescanning the directory"),
                        }
                    }
                    let names = self.directory.known_and(names);
                    self.load(names).await;
                    self.directory.scanned();
                    self.available();
                }
                Change::Some(names) => {
                    self.load(names).await;
                    self.available();
                }
            }
            self.state.publish(self.directory.state());
            first_scan = None;
        }
    }

    /// Reads documents again. Checks after each whether to stop.
    async fn load(&mut self, names: BTreeSet<String>) {
        for name in self.directory.in_order(names) {
            self.directory.load(&name);
            yield_now().await;
        }
    }

    fn available(&mut self) {
        match self.watched.problem() {
            Some(problem) => self.directory.unwatched(problem.to_owned()),
            None => self.directory.recovered(),
        }
    }
}

#[cfg(test)]
mod tests;
