//! A guest that asks the same thing again and again, at a fixed rate, and knows which answers are right.
//!
//! Promises: each request is on a connection of its own and has a bounded time; an answer counts as wrong unless it has
//! status 200 and is what it may be at the moment at which it was asked or came ([`Bodies`], [`Values`]); the rate is kept in the
//! long run: a request that took long is followed by others at once.

mod right;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};

pub use right::{Bodies, Right, Values};

use crate::guest::Guest;
use crate::http::Request;
use crate::netns::Namespace;
use crate::wait;

/// Longest time that one request may take.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Number of faults that are described; the others are only counted.
const TOLD: usize = 5;

/// A guest that sends requests until it is stopped.
#[derive(Debug)]
pub struct Asker<R = Bodies> {
    right: Arc<Mutex<R>>,
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

    /// Returns the requests per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a count of requests, for people")]
        let asked = self.asked as f64;
        asked / self.lasted.as_secs_f64().max(0.001)
    }
}

impl Asker {
    /// Starts to ask from the guest for a path, this often in a second, and to expect this body.
    ///
    /// # Errors
    /// If there is no thread.
    pub fn start(guest: &Guest, path: &str, rate: u32, body: &[u8]) -> Result<Self> {
        Self::judge(guest, path, rate, Bodies::new(body))
    }

    /// From here on, this body is right too. Call it before the change that brings it.
    pub fn allow(&self, body: &[u8]) {
        lock(&self.right).allow(body);
    }

    /// From here on, only this body is right. Call it after the change was seen.
    pub fn only(&self, body: &[u8]) {
        lock(&self.right).only(body);
    }
}

impl Asker<Values> {
    /// Starts to ask from the guest of an instance for its properties, this often in a second. Its property `value` has this value.
    ///
    /// # Errors
    /// If there is no thread.
    pub fn follow(guest: &Guest, instance: &str, rate: u32, value: u64) -> Result<Self> {
        Self::judge(guest, Values::PATH, rate, Values::new(instance, value))
    }

    /// From here on, this value and those before it are right too, down to the one that was read last. Call it before it is set.
    pub fn allow(&self, value: u64) {
        lock(&self.right).allow(value);
    }

    /// Waits until the guest has read the last value that was allowed: from then on, only that one is right.
    ///
    /// # Errors
    /// If it does not come within this time.
    pub fn wait_newest(&self, patience: Duration) -> Result<()> {
        wait::until_within(patience, "the guest reads the newest value", || {
            Ok(lock(&self.right).has_newest().then_some(()))
        })
    }
}

impl<R: Right> Asker<R> {
    /// Starts to ask from the guest for a path, this often in a second.
    fn judge(guest: &Guest, path: &str, rate: u32, right: R) -> Result<Self> {
        let right = Arc::new(Mutex::new(right));
        let stop = Arc::new(AtomicBool::new(false));
        let namespace = Namespace::existing(guest.namespace().name());
        let request = Request::get(path).patience(PATIENCE);
        let thread = std::thread::Builder::new().name(format!("asker {}", guest.name())).spawn({
            let (right, stop) = (Arc::clone(&right), Arc::clone(&stop));
            move || {
                namespace.enter()?;
                Ok(ask(&request, Duration::from_secs(1) / rate, &right, &stop))
            }
        })?;
        Ok(Self { right, stop, thread: Some(thread) })
    }
}

impl<R> Asker<R> {
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

impl<R> Drop for Asker<R> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn lock<R>(right: &Mutex<R>) -> MutexGuard<'_, R> {
    right.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ask<R: Right>(request: &Request, pace: Duration, right: &Mutex<R>, stop: &AtomicBool) -> Report {
    let mut report = Report::default();
    let start = Instant::now();
    let mut due = start;
    while !stop.load(Ordering::Relaxed) {
        let before = lock(right).now();
        let asked = Instant::now();
        let answer = request.send();
        report.asked += 1;
        report.slowest = report.slowest.max(asked.elapsed());
        let fault = match answer {
            Ok(answer) if answer.status == 200 => lock(right).fault(&before, &answer),
            Ok(answer) => Some(format!("status {}, body {:.200}", answer.status, answer.text())),
            Err(error) => {
                report.failed += 1;
                note(&mut report, asked.duration_since(start), &format!("{error:#}"));
                None
            }
        };
        if let Some(fault) = fault {
            report.wrong += 1;
            note(&mut report, asked.duration_since(start), &fault);
        }
        due += pace;
        // Paces the load; nothing is waited for.
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    report.lasted = start.elapsed();
    report
}

fn note(report: &mut Report, after: Duration, fault: &str) {
    if report.faults.len() < TOLD {
        report.faults.push(format!("after {after:?}: {fault}"));
    }
}
