//! libvirt as an observer: the XML of running domains in its run-time directory, watched.
//!
//! Promises:
//! - a file counts as it is once it was closed or renamed into place; one that cannot be read leaves the last good
//!   version, and is named in the state;
//! - a domain whose file is removed has ended [`GRACE`] later, so that a directory that goes as a whole, file by file,
//!   takes no fact away;
//! - while the directory is missing the facts stay; one that comes, or another one in its place, is read as a whole, and
//!   domains that it lacks get [`REPLACED`] to come back.
//!
//! Left out: libvirt's API, which would need its library and a daemon that answers.

pub mod domain;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::report::{Report, Reporter};

/// How long a domain whose file is gone still counts.
const GRACE: Duration = Duration::from_millis(100);

/// The same where the directory was replaced: who fills the new one needs a moment.
const REPLACED: Duration = Duration::from_secs(10);

/// How often it is checked that the directory is still the one that is watched.
const CHECK: Duration = Duration::from_secs(1);

/// Largest document that is read. A status document has about 50 KB, one with hundreds of devices ten times that.
const LARGEST: u64 = 16 << 20;

/// What the watcher reports.
#[derive(Debug)]
enum Notice {
    /// Something happened to this file.
    Touched(String),
    /// Events were lost.
    Rescan,
}

/// Reads and watches the directory until the runtime ends.
pub(super) async fn run(dir: PathBuf, reporter: Reporter) {
    let (sender, mut notices) = mpsc::unbounded_channel();
    let mut domains = Domains {
        dir,
        reporter,
        sender,
        watched: None,
        reports: BTreeMap::new(),
        broken: BTreeMap::new(),
        gone: BTreeMap::new(),
    };
    let mut batch = Vec::new();
    loop {
        let mut changed = domains.check_directory();
        for notice in batch.drain(..) {
            changed |= match notice {
                // What becomes of a missing directory's files is seen when there is one again.
                Notice::Touched(_) if domains.watched.is_none() => false,
                Notice::Touched(name) => domains.touched(name),
                Notice::Rescan => domains.watched.is_some() && domains.scan(GRACE).is_ok(),
            };
        }
        changed |= domains.end_domains(Instant::now());
        if changed && domains.watched.is_some() {
            domains.report();
        }
        let next =
            domains.gone.values().min().map_or(CHECK, |due| due.saturating_duration_since(Instant::now()).min(CHECK));
        // A time-out is the next check.
        let _ = timeout(next, notices.recv_many(&mut batch, usize::MAX)).await;
    }
}

struct Domains {
    dir: PathBuf,
    reporter: Reporter,
    sender: mpsc::UnboundedSender<Notice>,
    /// The watch, and the directory that it is on.
    watched: Option<(RecommendedWatcher, Identity)>,
    /// What each file comes to, by name.
    reports: BTreeMap<String, Report>,
    /// Why a file cannot be used, by name.
    broken: BTreeMap<String, String>,
    /// Files that are gone, and when their domains have ended.
    gone: BTreeMap<String, Instant>,
}

impl Domains {
    /// Watches and reads the directory, unless it is the one that is watched already. Returns whether facts may have
    /// changed.
    fn check_directory(&mut self) -> bool {
        let found = match identity(&self.dir) {
            Ok(found) => found,
            Err(error) => {
                self.unavailable(&error);
                return false;
            }
        };
        if matches!(&self.watched, Some((_, watched)) if *watched == found) {
            return false;
        }
        // The watch comes first, so that nothing that changes during the scan is missed.
        let result = self.watch().map_err(io::Error::other).and_then(|watcher| {
            self.scan(REPLACED)?;
            Ok(watcher)
        });
        match result {
            Ok(watcher) => {
                self.watched = Some((watcher, found));
                true
            }
            Err(error) => {
                self.unavailable(&error);
                false
            }
        }
    }

    fn unavailable(&mut self, error: &io::Error) {
        self.watched = None;
        self.gone.clear();
        match error.kind() {
            io::ErrorKind::NotFound => self.reporter.absent(),
            _ => self.reporter.lost(format!(
                "{}: {error}: give metadatad access to it, or correct facts.libvirt_dir",
                self.dir.display()
            )),
        }
    }

    fn watch(&self) -> notify::Result<RecommendedWatcher> {
        let sender = self.sender.clone();
        let mut watcher = notify::recommended_watcher(move |event| receive(&sender, event))?;
        watcher.watch(&self.dir, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    }

    /// Reads every file. Domains without one end after this time.
    fn scan(&mut self, grace: Duration) -> io::Result<()> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            names.extend(domain_name(&entry?.path()).map(str::to_owned));
        }
        let due = Instant::now() + grace;
        for name in self.reports.keys().chain(self.broken.keys()).filter(|name| !names.contains(name)) {
            self.gone.insert(name.clone(), due);
        }
        for name in names {
            self.touched(name);
        }
        Ok(())
    }

    /// Reads a file. Returns whether its content, or whether it can be read, has changed.
    fn touched(&mut self, name: String) -> bool {
        match read(&self.dir.join(&name)) {
            Ok(None) => {
                if self.reports.contains_key(&name) || self.broken.contains_key(&name) {
                    self.gone.entry(name).or_insert(Instant::now() + GRACE);
                }
                false
            }
            Ok(Some(report)) => {
                self.gone.remove(&name);
                let mended = self.broken.remove(&name).is_some();
                self.reports.insert(name, report.clone()).as_ref() != Some(&report) || mended
            }
            Err(problem) => {
                self.gone.remove(&name);
                self.broken.insert(name, problem.clone()).as_ref() != Some(&problem)
            }
        }
    }

    /// Forgets domains that have ended. Returns whether there were any.
    fn end_domains(&mut self, now: Instant) -> bool {
        let due: Vec<_> = self.gone.iter().filter(|(_, due)| **due <= now).map(|(name, _)| name.clone()).collect();
        let same = |domains: &Self| {
            let found = identity(&domains.dir).ok();
            domains.watched.as_ref().is_some_and(|(_, watched)| found == Some(*watched))
        };
        if due.is_empty() || !same(self) {
            return false;
        }
        for name in &due {
            self.gone.remove(name);
            // It may have come back without an event that was read yet.
            if !self.dir.join(name).exists() {
                self.reports.remove(name);
                self.broken.remove(name);
            }
        }
        true
    }

    fn report(&mut self) {
        let facts = self.reports.values().flat_map(|report| report.facts.clone()).collect();
        let unreachable_ports = self.reports.values().flat_map(|report| report.unreachable_ports.clone()).collect();
        let unreadable = self.broken.iter().map(|(name, problem)| {
            let kept = if self.reports.contains_key(name) { "; its last good version stays in use" } else { "" };
            format!("{name}: {problem}{kept}")
        });
        let unreadable = unreadable.collect();
        self.reporter.update(Report { facts, unreachable_ports, unreadable });
    }
}

/// Reads a file; `None`: there is none.
fn read(path: &Path) -> Result<Option<Report>, String> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
        Ok(found) if !found.is_file() => return Err("it is not a regular file".to_owned()),
        Ok(found) if found.len() > LARGEST => return Err(format!("it is larger than {LARGEST} bytes")),
        Ok(_) => {}
    }
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
        Ok(text) => domain::parse(&text).map(Some).map_err(|error| error.to_string()),
    }
}

/// Called on the watcher's thread: must not block.
fn receive(sender: &mpsc::UnboundedSender<Notice>, event: notify::Result<notify::Event>) {
    // Nobody listens while the daemon ends.
    match event {
        Ok(event) if !event.need_rescan() => {
            if settles(event.kind) {
                for name in event.paths.iter().filter_map(|path| domain_name(path)) {
                    let _ = sender.send(Notice::Touched(name.to_owned()));
                }
            }
        }
        Ok(_) | Err(_) => {
            let _ = sender.send(Notice::Rescan);
        }
    }
}

/// Whether a file may be complete, or gone, after an event.
fn settles(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) | EventKind::Create(_) | EventKind::Modify(ModifyKind::Data(_)) => false,
        _ => true,
    }
}

/// Returns the file's name if it is one of a domain.
fn domain_name(path: &Path) -> Option<&str> {
    let name = path.file_name().and_then(OsStr::to_str)?;
    (name.ends_with(".xml") && !name.starts_with('.')).then_some(name)
}

/// Device, inode and birth of a directory: inodes are used again at once.
type Identity = (u64, u64, Option<SystemTime>);

fn identity(path: &Path) -> io::Result<Identity> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    Ok((metadata.dev(), metadata.ino(), metadata.created().ok()))
}
