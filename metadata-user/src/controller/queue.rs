//! Which instance is read next, and when: pure, without a clock or I/O.
//!
//! Promises:
//! - every push is followed by a job that starts after it, and whose end drops the push's receipt. Pushes of an instance that waits are one
//!   job; what is pushed while its job runs is another, which starts when that ends;
//! - never two jobs of one instance at once;
//! - the more urgent first, and of the same urgency in the order of their pushes;
//! - an instance whose job fails waits with a back-off, up to [`LONGEST_DELAY`], and then joins the end, so it delays no other. A new change
//!   of it is tried at once;
//! - a push for a later time is followed by a job that starts at that time or after it: Nova learns of what Neutron has changed some
//!   seconds after Neutron has said so;
//! - while a service does not answer, one job at a time tries it, with a back-off, each for another instance: nothing is lost, and a
//!   service that comes back is not met by everything at once;
//! - memory is bounded by the number of instances, and of receipts that are held: one per push that has one, until they are dropped by
//!   [`Queue::retain_receipts`].
//!
//! `round` decides when unchanged instances are read again, `lag` keeps how long changes took.

mod lag;
mod round;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

pub use lag::Lag;
pub use round::Round;

use crate::backoff::Backoff;
use crate::record::InstanceId;

/// Longest delay between attempts for an instance that fails.
pub const LONGEST_DELAY: Duration = Duration::from_secs(120);
/// Delays for an instance that fails while others do not.
const INSTANCE_BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), LONGEST_DELAY, 50);
/// Delays between attempts while a service does not answer: its return is noticed within the longest.
const SERVICE_BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10), 50);

/// How soon an instance is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Nothing is known to have changed.
    Slow,
    /// A change was written, and there may be more that could not be read yet.
    Again,
    /// Something has changed.
    Change,
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What is written is what was read, or the instance is gone with certainty.
    Done,
    /// Nothing is wrong, and what there is to read is too old: it is to be read again after this time.
    TooOld(Duration),
    /// Something is wrong with this instance alone.
    Failed,
    /// A service that all jobs need does not answer.
    Unavailable,
}

/// An instance to read now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// Which.
    pub id: InstanceId,
    /// The greatest urgency of what was pushed.
    pub urgency: Urgency,
    /// Since when the oldest of what was pushed waits.
    pub since: Instant,
    /// Whether a notification was among it: one with a receipt.
    pub is_notified: bool,
    /// Attempts that have failed since the last one that did not.
    pub failures: u32,
}

/// How much waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Instances with a change that is not written: waiting, running, or delayed by a failure.
    pub changed: usize,
    /// Instances without one that wait to be read, or are.
    pub slow: usize,
    /// Instances that are to be read at a later time.
    pub later: usize,
    /// Jobs that run.
    pub running: usize,
    /// Instances whose last attempt failed.
    pub failing: usize,
    /// Since when the oldest change waits that is not written.
    pub oldest_change: Option<Instant>,
    /// Attempts in a row at which a service did not answer.
    pub unavailable: u32,
}

/// The instances to read. `R` is kept for each push until its change is written.
#[derive(Debug)]
pub struct Queue<R = ()> {
    entries: HashMap<InstanceId, Entry<R>>,
    /// What may run now, in order. The number grows from push to push.
    ready: BTreeMap<Reverse<Urgency>, BTreeSet<(u64, InstanceId)>>,
    /// What waits after an attempt that came to nothing, and until when.
    delayed: BTreeSet<(Instant, InstanceId)>,
    /// What was pushed for a later time, one for each instance.
    later: HashMap<InstanceId, (Instant, Read<R>)>,
    later_due: BTreeSet<(Instant, InstanceId)>,
    running: usize,
    outage: Option<Outage>,
    serial: u64,
}

#[derive(Debug)]
struct Entry<R> {
    waiting: Option<Read<R>>,
    place: Place,
    running: Option<Read<R>>,
    failures: u32,
}

/// Pushes that one job reads for.
#[derive(Debug)]
struct Read<R> {
    urgency: Urgency,
    since: Instant,
    is_notified: bool,
    receipts: Vec<R>,
}

/// Where what waits of an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Nothing waits, or it waits for the end of the running job.
    None,
    Ready(u64),
    Delayed(Instant),
}

/// A service does not answer.
#[derive(Clone, Copy, Debug)]
struct Outage {
    attempts: u32,
    until: Instant,
    trying: Option<InstanceId>,
}

impl<R> Default for Queue<R> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            ready: BTreeMap::new(),
            delayed: BTreeSet::new(),
            later: HashMap::new(),
            later_due: BTreeSet::new(),
            running: 0,
            outage: None,
            serial: 0,
        }
    }
}

impl<R> Read<R> {
    fn new(urgency: Urgency, since: Instant, receipt: Option<R>) -> Self {
        Self { urgency, since, is_notified: receipt.is_some(), receipts: receipt.into_iter().collect() }
    }

    /// Takes over what another one is for.
    fn join(&mut self, other: Self) {
        self.urgency = self.urgency.max(other.urgency);
        self.since = self.since.min(other.since);
        self.is_notified |= other.is_notified;
        self.receipts.extend(other.receipts);
    }
}

impl<R> Queue<R> {
    /// Returns an empty queue.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an instance to read, because of something that waits since `since`. The receipt is dropped when a job that started after this
    /// has ended well.
    pub fn push(&mut self, id: InstanceId, urgency: Urgency, since: Instant, receipt: Option<R>) {
        self.add(id, Read::new(urgency, since, receipt));
    }

    /// As [`Self::push`], for a time to come. Of several, the latest counts.
    pub fn push_at(&mut self, due: Instant, id: InstanceId, urgency: Urgency, since: Instant, receipt: Option<R>) {
        let mut read = Read::new(urgency, since, receipt);
        let mut due = due;
        if let Some((before, earlier)) = self.later.remove(&id) {
            self.later_due.remove(&(before, id));
            due = due.max(before);
            read.join(earlier);
        }
        self.later_due.insert((due, id));
        self.later.insert(id, (due, read));
    }

    /// Returns the next job, if there is one of at least this urgency, and marks it as running.
    pub fn next(&mut self, least: Urgency, now: Instant) -> Option<Job> {
        while let Some(&(due, id)) = self.delayed.first()
            && due <= now
        {
            self.place(id);
        }
        while let Some(&(due, id)) = self.later_due.first()
            && due <= now
        {
            self.later_due.pop_first();
            if let Some((_, read)) = self.later.remove(&id) {
                self.add(id, read);
            }
        }
        if let Some(outage) = self.outage
            && (outage.trying.is_some() || now < outage.until)
        {
            return None;
        }
        let mut ready = self.ready.range(..=Reverse(least));
        let &(_, id) = ready.find_map(|(_, waiting)| waiting.first())?;
        self.unplace(id);
        let entry = self.entries.get_mut(&id)?;
        let read = entry.waiting.take()?;
        let Read { urgency, since, is_notified, .. } = read;
        let job = Job { id, urgency, since, is_notified, failures: entry.failures };
        entry.running = Some(read);
        self.running += 1;
        if let Some(outage) = &mut self.outage {
            outage.trying = Some(id);
        }
        Some(job)
    }

    /// Notes how a job ended. `random` is what shortens the delay after a failure ([`crate::backoff::random`]).
    pub fn done(&mut self, id: InstanceId, outcome: Outcome, now: Instant, random: u32) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let Some(read) = entry.running.take() else { return };
        self.running -= 1;
        entry.failures = match outcome {
            Outcome::Done | Outcome::TooOld(_) => 0,
            Outcome::Failed => entry.failures.saturating_add(1),
            Outcome::Unavailable => entry.failures,
        };
        let failures = entry.failures;
        let has_changed = entry.waiting.is_some();
        self.note_service(id, outcome, now, random);
        match outcome {
            Outcome::Done => drop(read),
            Outcome::TooOld(_) | Outcome::Failed | Outcome::Unavailable => self.join(id, read),
        }
        match outcome {
            Outcome::TooOld(after) if !has_changed => self.delay(id, now + after),
            Outcome::Failed if !has_changed => {
                self.delay(id, now + INSTANCE_BACKOFF.delay(failures, random));
            }
            _ => self.place(id),
        }
    }

    /// Returns when [`Self::next`] may have a job that it has not now: `None`, not before a push or the end of a job.
    #[must_use]
    pub fn wake(&self) -> Option<Instant> {
        let due = self.delayed.first().into_iter().chain(self.later_due.first()).map(|&(due, _)| due).min();
        match self.outage {
            Some(Outage { trying: Some(_), .. }) => None,
            Some(outage) if self.ready.values().all(BTreeSet::is_empty) => due.map(|due| due.max(outage.until)),
            Some(outage) => Some(outage.until),
            None => due,
        }
    }

    /// Returns how much waits. Looks at every entry: for status and metrics.
    #[must_use]
    pub fn backlog(&self) -> Backlog {
        let unavailable = self.outage.map_or(0, |outage| outage.attempts);
        let mut backlog = Backlog { running: self.running, unavailable, ..Backlog::default() };
        for entry in self.entries.values() {
            let reads = || entry.waiting.iter().chain(&entry.running);
            let oldest = reads().filter(|read| read.urgency == Urgency::Change).map(|read| read.since).min();
            match oldest {
                Some(since) => {
                    backlog.changed += 1;
                    backlog.oldest_change = Some(backlog.oldest_change.map_or(since, |oldest| oldest.min(since)));
                }
                None => backlog.slow += 1,
            }
            backlog.failing += usize::from(entry.failures > 0);
        }
        backlog.later = self.later.len();
        backlog
    }

    /// Returns whether nothing waits and nothing runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.later.is_empty()
    }

    /// Drops the receipts that are not needed any more. Looks at every one.
    pub fn retain_receipts(&mut self, mut is_needed: impl FnMut(&R) -> bool) {
        let entries = self.entries.values_mut().flat_map(|entry| entry.waiting.iter_mut().chain(&mut entry.running));
        for read in entries.chain(self.later.values_mut().map(|(_, read)| read)) {
            read.receipts.retain(&mut is_needed);
        }
    }

    fn add(&mut self, id: InstanceId, read: Read<R>) {
        let place = self.entries.get(&id).map(|entry| entry.place);
        // A change ends the delay after a failure: it may be what was missing.
        let stays = matches!(place, Some(Place::Delayed(_))) && read.urgency == Urgency::Slow;
        self.join(id, read);
        if !stays {
            self.place(id);
        }
    }

    /// Adds to what waits of an instance, and leaves it where it is.
    fn join(&mut self, id: InstanceId, read: Read<R>) {
        let new = Entry { waiting: None, place: Place::None, running: None, failures: 0 };
        let entry = self.entries.entry(id).or_insert(new);
        match &mut entry.waiting {
            Some(waiting) => waiting.join(read),
            waiting @ None => *waiting = Some(read),
        }
    }

    /// Puts what waits of an instance where it may run, unless its job runs; forgets an instance of which nothing waits or runs.
    fn place(&mut self, id: InstanceId) {
        let Some(entry) = self.entries.get(&id) else { return };
        let Some(waiting) = &entry.waiting else {
            if entry.running.is_none() {
                self.entries.remove(&id);
            }
            return;
        };
        if entry.running.is_some() {
            return;
        }
        let (urgency, place) = (waiting.urgency, entry.place);
        // What waits already keeps its turn.
        let serial = match place {
            Place::Ready(serial) if self.ready(urgency).contains(&(serial, id)) => return,
            _ => {
                self.serial += 1;
                self.serial
            }
        };
        self.unplace(id);
        self.ready(urgency).insert((serial, id));
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.place = Place::Ready(serial);
        }
    }

    fn delay(&mut self, id: InstanceId, until: Instant) {
        self.unplace(id);
        self.delayed.insert((until, id));
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.place = Place::Delayed(until);
        }
    }

    fn unplace(&mut self, id: InstanceId) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        match std::mem::replace(&mut entry.place, Place::None) {
            Place::None => {}
            Place::Ready(serial) => {
                for waiting in self.ready.values_mut() {
                    waiting.remove(&(serial, id));
                }
            }
            Place::Delayed(until) => {
                self.delayed.remove(&(until, id));
            }
        }
    }

    fn ready(&mut self, urgency: Urgency) -> &mut BTreeSet<(u64, InstanceId)> {
        self.ready.entry(Reverse(urgency)).or_default()
    }

    /// Notes whether the services answer. Jobs that were running when the outage began end it as well, if they were answered.
    fn note_service(&mut self, id: InstanceId, outcome: Outcome, now: Instant, random: u32) {
        if outcome != Outcome::Unavailable {
            self.outage = None;
            return;
        }
        let attempts = match self.outage {
            None => 1,
            Some(outage) if outage.trying == Some(id) => outage.attempts.saturating_add(1),
            Some(_) => return,
        };
        let until = now + SERVICE_BACKOFF.delay(attempts, random);
        self.outage = Some(Outage { attempts, until, trying: None });
    }
}

#[cfg(test)]
mod tests;
