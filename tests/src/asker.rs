//! A guest that asks the same thing again and again, at a fixed rate, and knows which answers are right.
//!
//! Promises: each request is on a connection of its own and has a bounded time; an answer counts as wrong unless it has
//! status 200 and one of the bodies allowed at the moment at which it was asked or came; the rate is kept in the long
//! run: a request that took long is followed by others at once.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};

use crate::guest::Guest;
use crate::http::Request;
use crate::netns::Namespace;

/// Longest time that one request may take.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Number of faults that are described; the others are only counted.
const TOLD: usize = 5;

/// The bodies that are correct now.
type Allowed = Arc<Mutex<BTreeSet<Vec<u8>>>>;

/// A guest that sends requests until it is stopped.
#[derive(Debug)]
pub struct Asker {
    allowed: Allowed,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Report>>>,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Requests.
    pub asked: u64,
    /// Answers that were not right.
    pub wrong: u64,
    /// Requests without a whole answer.
    pub failed: u64,
    /// Descriptions of the first of both.
    pub faults: Vec<String>,
    /// The longest that a request took.
    pub slowest: Duration,
    /// How long was asked.
    pub lasted: Duration,
}

impl Report {
    /// Succeeds if every request was answered rightly, and about as many were sent as the rate asks for.
    ///
    /// # Errors
    /// What was wrong.
    pub fn perfect(&self) -> Result<()> {
        if self.wrong + self.failed > 0 || self.asked == 0 {
            bail!("{} asked, {} wrong, {} failed: {:#?}", self.asked, self.wrong, self.failed, self.faults);
        }
        Ok(())
    }
}

impl Asker {
    /// Starts to ask from the guest for a path, this often in a second, and to expect this body.
    ///
    /// # Errors
    /// If there is no thread.
    pub fn start(guest: &Guest, path: &str, rate: u32, body: &[u8]) -> Result<Self> {
        let allowed: Allowed = Arc::new(Mutex::new(BTreeSet::from([body.to_vec()])));
        let stop = Arc::new(AtomicBool::new(false));
        let namespace = Namespace::existing(guest.namespace().name());
        let request = Request::get(path).patience(PATIENCE);
        let thread = std::thread::Builder::new().name(format!("asker {}", guest.name())).spawn({
            let (allowed, stop) = (Arc::clone(&allowed), Arc::clone(&stop));
            move || {
                namespace.enter()?;
                Ok(ask(&request, Duration::from_secs(1) / rate, &allowed, &stop))
            }
        })?;
        Ok(Self { allowed, stop, thread: Some(thread) })
    }

    /// From here on, this body is right too. Call it before the change that brings it.
    pub fn allow(&self, body: &[u8]) {
        lock(&self.allowed).insert(body.to_vec());
    }

    /// From here on, only this body is right. Call it after the change was seen.
    pub fn only(&self, body: &[u8]) {
        *lock(&self.allowed) = BTreeSet::from([body.to_vec()]);
    }

    /// Stops, and returns the results.
    ///
    /// # Errors
    /// If the guest was gone.
    pub fn finish(mut self) -> Result<Report> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().ok_or_else(|| anyhow!("it has ended"))?;
        thread.join().map_err(|_| anyhow!("the asker panicked"))?
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn lock(allowed: &Allowed) -> MutexGuard<'_, BTreeSet<Vec<u8>>> {
    allowed.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ask(request: &Request, pace: Duration, allowed: &Allowed, stop: &AtomicBool) -> Report {
    let mut report = Report::default();
    let start = Instant::now();
    let mut due = start;
    while !stop.load(Ordering::Relaxed) {
        let before = lock(allowed).clone();
        let asked = Instant::now();
        let answer = request.send();
        report.asked += 1;
        report.slowest = report.slowest.max(asked.elapsed());
        let fault = match answer {
            Ok(answer) if answer.status == 200 => {
                let is_right = before.contains(&answer.body) || lock(allowed).contains(&answer.body);
                (!is_right).then(|| {
                    report.wrong += 1;
                    format!("body {:.200}", answer.text())
                })
            }
            Ok(answer) => {
                report.wrong += 1;
                Some(format!("status {}, body {:.200}", answer.status, answer.text()))
            }
            Err(error) => {
                report.failed += 1;
                Some(format!("{error:#}"))
            }
        };
        if let Some(fault) = fault.filter(|_| report.faults.len() < TOLD) {
            report.faults.push(format!("after {:?}: {fault}", asked.duration_since(start)));
        }
        due += pace;
        // Paces the load; nothing is waited for.
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    report.lasted = start.elapsed();
    report
}
