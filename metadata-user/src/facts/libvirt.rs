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

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::report::{Report, Reporter};
use crate::watched_directory::{Change, WatchedDirectory};

/// How long a domain whose file is gone still counts.
const GRACE: Duration = Duration::from_millis(100);

/// The same where the directory was replaced: who fills the new one needs a moment.
const REPLACED: Duration = Duration::from_secs(10);

/// Largest document that is read. A status document has about 50 KB, one with hundreds of devices ten times that.
const LARGEST: u64 = 16 << 20;

/// How long nothing may happen until it is looked again who has ended.
const IDLE: Duration = Duration::from_secs(3600);

/// Reads and watches the directory until the runtime ends.
pub(super) async fn run(dir: PathBuf, reporter: Reporter) {
    // libvirt renames its files into place: there is nothing to wait for.
    follow(WatchedDirectory::new(dir.clone(), is_domain, Duration::ZERO), dir, reporter).await;
}

async fn follow(watched: WatchedDirectory, dir: PathBuf, reporter: Reporter) {
    let mut domains =
        Domains { dir, reporter, watched, reports: BTreeMap::new(), broken: BTreeMap::new(), gone: BTreeMap::new() };
    loop {
        let idle = Instant::now() + IDLE;
        let due = domains.gone.values().min().copied().unwrap_or(idle);
        let changed = match timeout_at(due, domains.watched.next()).await {
            Err(_) => domains.end_domains(Instant::now()),
            Ok(Change::Unavailable(error)) => {
                domains.unavailable(&error);
                false
            }
            Ok(Change::All(names, is_other)) => {
                domains.scan(names, if is_other { REPLACED } else { GRACE });
                true
            }
            Ok(Change::Some(names)) => {
                let mut changed = false;
                for name in names {
                    changed |= domains.touched(name);
                }
                domains.end_domains(Instant::now()) || changed
            }
        };
        if changed {
            domains.report();
        }
        domains.reporter.limited(domains.watched.problem());
    }
}

struct Domains {
    dir: PathBuf,
    reporter: Reporter,
    watched: WatchedDirectory,
    /// What is in each file, by name.
    reports: BTreeMap<String, Report>,
    /// Why a file cannot be used, by name.
    broken: BTreeMap<String, String>,
    /// Files that are gone, and when their domains have ended.
    gone: BTreeMap<String, Instant>,
}

impl Domains {
    fn unavailable(&mut self, error: &io::Error) {
        self.gone.clear();
        match error.kind() {
            io::ErrorKind::NotFound => self.reporter.absent(),
            _ => self.reporter.lost(format!(
                "{}: {error}: give metadatad access to it, or correct facts.libvirt_dir",
                self.dir.display()
            )),
        }
    }

    /// Reads every file. Domains without one end after this time.
    fn scan(&mut self, names: BTreeSet<String>, grace: Duration) {
        let due = Instant::now() + grace;
        for name in self.reports.keys().chain(self.broken.keys()).filter(|name| !names.contains(*name)) {
            self.gone.insert(name.clone(), due);
        }
        for name in names {
            self.touched(name);
        }
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
        if due.is_empty() {
            return false;
        }
        if !self.watched.is_same() {
            // It went as a whole, or another one is in its place: the next look at it says more.
            self.gone.extend(due.into_iter().map(|name| (name, now + GRACE)));
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

fn is_domain(name: &str) -> bool {
    name.ends_with(".xml") && !name.starts_with('.')
}
