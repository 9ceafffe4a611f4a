//! A directory of files that others write: which of them to read again, and when.
//!
//! Promises:
//! - a file is reported when it is complete: once it was closed or renamed into place and left alone for a moment, or was
//!   written to for so long that waiting is of no use;
//! - symbolic links are followed, of files and of the directory itself: every directory on the way is watched, so that a
//!   target that is written, replaced or swapped is seen at once; what no watch reports is found by looking at each
//!   link's target every [`CHECK`];
//! - a directory that is replaced, that comes, or of which events were lost, is reported as a whole;
//! - without inotify, be it that no instance or no watch is left, everything is looked at every [`CHECK`], and
//!   [`WatchedDirectory::problem`] says so, with the remedy; watching is tried again now and then. Where inotify reports
//!   nothing, as on network file systems, changes are found every [`SWEEP`];
//! - looking takes at most a twentieth of a CPU, however many files there are.
//!
//! Left out: reading files, and what they mean; directories below this one.

mod files;
mod pending;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use crate::links;
use crate::privilege;
use files::Files;
use pending::Pending;

/// How often it is checked that the directory is still the one that is watched, and links still lead where they led.
pub(crate) const CHECK: Duration = Duration::from_secs(1);

/// How often everything is looked at, for changes that no watch reports.
pub(crate) const SWEEP: Duration = Duration::from_secs(30);

/// How often watching is tried again where it failed.
const RETRY: Duration = Duration::from_secs(10);

/// The least time between two looks that events ask for.
const TOGETHER: Duration = Duration::from_millis(20);

/// How many times as long as a look took is waited until the next.
const REST: u32 = 19;

/// The most directories beside the directory itself that are watched: beyond them, links are looked at every [`CHECK`].
const MOST_LINKED: usize = 256;

/// What has happened.
#[derive(Debug)]
pub(crate) enum Change {
    /// These are the names of all files: read all of them, and forget others. True if another directory, or the first
    /// one after a time without, is in the path's place.
    All(BTreeSet<String>, bool),
    /// Read these again; some may be gone.
    Some(BTreeSet<String>),
    /// The directory cannot be read. Reported every [`CHECK`].
    Unavailable(io::Error),
}

/// What a watcher calls its thread: it answers the first request for a watch.
const THREAD: &str = "notify-rs inotify loop";

/// Makes a watcher that calls this.
type Make = fn(Box<dyn Fn(notify::Result<notify::Event>) + Send>) -> notify::Result<RecommendedWatcher>;

/// Device, inode and birth of a directory: inodes are used again at once.
type Identity = (u64, u64, Option<SystemTime>);

/// The directory. See the module.
pub(crate) struct WatchedDirectory {
    path: PathBuf,
    accepts: fn(&str) -> bool,
    inbox: Arc<Inbox>,
    /// Which directory was reported last; `None`: none is there.
    found: Option<Identity>,
    watcher: Option<RecommendedWatcher>,
    /// Makes watchers.
    make: Make,
    linked: LinkedDirectories,
    files: Files,
    problem: Option<String>,
    /// The problem is another one than before.
    has_news: bool,
    check_at: Instant,
    sweep_at: Instant,
    watch_at: Instant,
    /// No look before.
    rest_until: Instant,
}

/// What the watchers' threads leave. Bounded by the number of names in the directory.
#[derive(Debug)]
struct Inbox {
    mail: Mutex<Mail>,
    arrived: Notify,
}

#[derive(Debug)]
struct Mail {
    pending: Pending,
    /// Something happened where links are, or lead to.
    linked: bool,
    /// Events were lost.
    lost: bool,
}

/// Watches on directories that links lead through. A watcher of its own, since two paths of one directory share a watch.
#[derive(Default)]
struct LinkedDirectories {
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    reported: bool,
}

impl WatchedDirectory {
    /// Prepares to watch the files of a directory that `accepts` accepts by name. A file is reported when it was left
    /// alone for `quiet` after it was closed.
    pub(crate) fn new(path: PathBuf, accepts: fn(&str) -> bool, quiet: Duration) -> Self {
        let now = Instant::now();
        let mail = Mail { pending: Pending::new(quiet), linked: false, lost: false };
        Self {
            path,
            accepts,
            inbox: Arc::new(Inbox { mail: Mutex::new(mail), arrived: Notify::new() }),
            found: None,
            watcher: None,
            make: |receive| notify::recommended_watcher(receive),
            linked: LinkedDirectories::default(),
            files: Files::default(),
            problem: None,
            has_news: false,
            check_at: now,
            sweep_at: now,
            watch_at: now,
            rest_until: now,
        }
    }

    /// Says why the directory is not watched but looked at now and then, and the remedy.
    pub(crate) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Tells whether the directory in the path's place is the one that was reported last.
    pub(crate) fn is_same(&self) -> bool {
        self.found.is_some() && identity(&self.path).ok() == self.found
    }

    /// Waits until something has happened.
    pub(crate) async fn next(&mut self) -> Change {
        loop {
            if let Some(change) = self.look(Instant::now()) {
                return change;
            }
            // A time-out is the next look.
            let _ = timeout_at(self.next_look(), self.inbox.arrived.notified()).await;
        }
    }

    /// Looks at what is due.
    fn look(&mut self, now: Instant) -> Option<Change> {
        let (mut due, linked, lost) = {
            let mut mail = self.inbox.mail.lock();
            let lost = std::mem::take(&mut mail.lost);
            // What waits for its rest stays.
            let linked = now >= self.rest_until && std::mem::take(&mut mail.linked);
            (mail.pending.take_due(now), linked, lost)
        };
        let unsettled = now >= self.rest_until && self.files.is_unsettled();
        if now >= self.check_at || linked || lost || unsettled {
            self.check_at = now + CHECK;
            match identity(&self.path) {
                Err(error) => return Some(self.unavailable(error)),
                Ok(found) if lost || self.found != Some(found) => return Some(self.begin(found, now)),
                Ok(_) if self.watcher.is_none() && now >= self.watch_at => self.watch(now),
                Ok(_) => {}
            }
            if now >= self.rest_until {
                let everything = now >= self.sweep_at || self.watcher.is_none();
                match self.files.sweep(&self.path, self.accepts, everything) {
                    Ok(changed) => due.extend(changed),
                    Err(error) => return Some(self.unavailable(error)),
                }
                if everything {
                    self.sweep_at = now + SWEEP;
                }
                self.watch_links();
                self.rest(now);
            }
        }
        let news = std::mem::take(&mut self.has_news);
        if self.found.is_none() || due.is_empty() && !news {
            // What becomes of a missing directory's files is seen when there is one again.
            return None;
        }
        let due: BTreeSet<String> = due.into_iter().collect();
        self.files.note(&self.path, &due);
        if self.files.take_relinked() {
            self.watch_links();
        }
        Some(Change::Some(due))
    }

    fn next_look(&self) -> Instant {
        let mail = self.inbox.mail.lock();
        let soon = (mail.linked || self.files.is_unsettled()).then_some(self.rest_until);
        [mail.pending.next_due(), soon].into_iter().flatten().fold(self.check_at, Instant::min)
    }

    fn unavailable(&mut self, error: io::Error) -> Change {
        self.found = None;
        self.watcher = None;
        self.problem = None;
        self.files = Files::default();
        self.inbox.mail.lock().pending.clear();
        self.watch_links();
        Change::Unavailable(error)
    }

    /// Watches a directory and lists its files.
    fn begin(&mut self, found: Identity, now: Instant) -> Change {
        let is_other = self.found.replace(found) != Some(found);
        if is_other || self.watcher.is_none() {
            // The watch comes first, so that nothing that changes meanwhile is missed.
            self.watch(now);
        }
        self.files = Files::default();
        let listed = self.files.sweep(&self.path, self.accepts, true);
        let names = match listed {
            Ok(_) => self.files.names(),
            Err(error) => return self.unavailable(error),
        };
        self.sweep_at = now + SWEEP;
        self.watch_links();
        self.rest(now);
        Change::All(names, is_other)
    }

    fn rest(&mut self, began: Instant) {
        let now = Instant::now();
        self.rest_until = now + (now.duration_since(began) * REST).max(TOGETHER);
    }

    fn watch(&mut self, now: Instant) {
        self.watcher = None;
        self.watch_at = now + RETRY;
        let (inbox, accepts) = (Arc::clone(&self.inbox), self.accepts);
        let watcher = privilege::with_helpers(THREAD, || {
            let mut watcher = (self.make)(Box::new(move |event| inbox.receive(event, accepts)))?;
            watcher.watch(&self.path, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        let problem = match watcher {
            Ok(watcher) => {
                self.watcher = Some(watcher);
                // What happened before the watch.
                self.sweep_at = now;
                None
            }
            Err(error) => Some(format!(
                "the directory {} cannot be watched, and is looked at every {} s instead: {}",
                self.path.display(),
                CHECK.as_secs(),
                remedy(&error)
            )),
        };
        self.has_news |= problem != self.problem;
        self.problem = problem;
    }

    /// Watches the directories that links lead through now.
    fn watch_links(&mut self) {
        self.files.take_relinked();
        let mut wanted = self.files.linked_directories(&self.path);
        if let Ok(route) = links::follow(&self.path) {
            wanted.extend(route.directories);
        }
        // Those that do not fit are looked at.
        let wanted: BTreeSet<_> = wanted.into_iter().take(MOST_LINKED).collect();
        if wanted == self.linked.watched {
            return;
        }
        if wanted.is_empty() {
            self.linked = LinkedDirectories::default();
            return;
        }
        if let Err(error) = privilege::with_helpers(THREAD, || self.linked.watch(wanted, &self.inbox, self.make))
            && !std::mem::replace(&mut self.linked.reported, true)
        {
            warn!(
                path = %self.path.display(),
                "targets of symbolic links are looked at every {} s, as they cannot be watched: {}",
                CHECK.as_secs(),
                remedy(&error)
            );
        }
    }
}

impl LinkedDirectories {
    fn watch(&mut self, wanted: BTreeSet<PathBuf>, inbox: &Arc<Inbox>, make: Make) -> notify::Result<()> {
        let watcher = match &mut self.watcher {
            Some(watcher) => watcher,
            none => {
                let inbox = Arc::clone(inbox);
                none.insert(make(Box::new(move |event| inbox.receive_linked(event)))?)
            }
        };
        for gone in self.watched.difference(&wanted) {
            // With a directory goes its watch.
            let _ = watcher.unwatch(gone);
        }
        let mut result = Ok(());
        let before = std::mem::take(&mut self.watched);
        for directory in wanted {
            let watched = before.contains(&directory) || {
                let watched = watcher.watch(&directory, RecursiveMode::NonRecursive);
                let is_watched = watched.is_ok();
                // One that has gone meanwhile is no problem.
                if directory.exists() {
                    result = result.and(watched);
                }
                is_watched
            };
            if watched {
                self.watched.insert(directory);
            }
        }
        result
    }
}

impl Inbox {
    /// Called on the watcher's thread: must not block.
    fn receive(&self, event: notify::Result<notify::Event>, accepts: fn(&str) -> bool) {
        let mut mail = self.mail.lock();
        match event {
            Ok(event) if !event.need_rescan() => {
                let Some(settled) = settles(event.kind) else { return };
                let now = Instant::now();
                for path in &event.paths {
                    match path.file_name().and_then(OsStr::to_str) {
                        Some(name) if accepts(name) => mail.pending.touched(name, now, settled),
                        // Links may lead through it.
                        _ => mail.linked = true,
                    }
                }
            }
            Ok(_) | Err(_) => mail.lost = true,
        }
        self.arrived.notify_one();
    }

    /// As [`Self::receive`], of directories that links lead through.
    fn receive_linked(&self, event: notify::Result<notify::Event>) {
        if event.is_ok_and(|event| settles(event.kind).is_none()) {
            return;
        }
        self.mail.lock().linked = true;
        self.arrived.notify_one();
    }
}

/// Whether an event may change a file, and if so whether it also completes one.
fn settles(kind: EventKind) -> Option<bool> {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(true),
        EventKind::Access(_) => None,
        EventKind::Create(_) | EventKind::Modify(ModifyKind::Data(_)) => Some(false),
        _ => Some(true),
    }
}

/// Says why a directory cannot be watched, and what to do.
fn remedy(error: &notify::Error) -> String {
    use nix::libc::{EMFILE, ENFILE, ENOSPC};
    let code = match &error.kind {
        notify::ErrorKind::MaxFilesWatch => Some(ENOSPC),
        notify::ErrorKind::Io(error) => error.raw_os_error(),
        _ => None,
    };
    match code {
        Some(EMFILE) => "no inotify instance is left for this user; raise fs.inotify.max_user_instances, or, if the \
                         daemon has used up its open files, LimitNOFILE"
            .to_owned(),
        Some(ENOSPC) => "no inotify watch is left for this user; raise fs.inotify.max_user_watches".to_owned(),
        Some(ENFILE) => "no file can be opened on this machine; raise fs.file-max".to_owned(),
        _ => crate::error_text::chain(error),
    }
}

fn identity(path: &Path) -> io::Result<Identity> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    Ok((metadata.dev(), metadata.ino(), metadata.created().ok()))
}

#[cfg(test)]
mod tests;
