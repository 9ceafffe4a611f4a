//! A guest that reads its user data all the time, over connections that it keeps and new ones, over IPv4 and IPv6, and knows what
//! it may be.
//!
//! Promises: an answer counts as wrong unless it has status 200 and a body that was right when it was asked for or when it came; a
//! request that fails leaves the connection, so a daemon that is killed costs one at most.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};

use crate::guest::Guest;
use crate::http::Request;
use crate::netns::Namespace;
use crate::wait;

/// What is read.
pub(super) const PATH: &str = "/openstack/latest/user_data";

/// Pause between two requests.
const PAUSE: Duration = Duration::from_millis(20);

/// Requests on a kept connection before a new one.
const KEPT: u32 = 10;

#[derive(Debug, Default)]
struct State {
    allowed: Mutex<BTreeSet<Vec<u8>>>,
    stop: AtomicBool,
    asked: AtomicU64,
    faults: Mutex<Vec<String>>,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// Requests.
    pub(super) asked: u64,
    /// Those without an answer: as many as the daemon was killed at most.
    pub(super) cut: u64,
}

/// A reader.
#[derive(Debug)]
pub(super) struct Reader {
    name: String,
    state: Arc<State>,
    thread: Option<JoinHandle<Result<u64>>>,
}

impl Reader {
    /// Starts to read; this body is right.
    pub(super) fn start(guest: &Guest, body: &str) -> Result<Self> {
        let state = Arc::new(State::default());
        lock(&state.allowed).insert(body.as_bytes().to_vec());
        let namespace = Namespace::existing(guest.namespace().name());
        let thread = std::thread::Builder::new().name("reader".to_owned()).spawn({
            let state = Arc::clone(&state);
            move || {
                namespace.enter()?;
                Ok(read(&state))
            }
        })?;
        Ok(Self { name: guest.name().to_owned(), state, thread: Some(thread) })
    }

    /// From here on this body is right too.
    pub(super) fn allow(&self, body: &str) {
        lock(&self.state.allowed).insert(body.as_bytes().to_vec());
    }

    /// From here on only this body is right.
    pub(super) fn only(&self, body: &str) {
        *lock(&self.state.allowed) = BTreeSet::from([body.as_bytes().to_vec()]);
    }

    /// Waits for more answers.
    pub(super) fn wait_for(&self, more: u64) -> Result<()> {
        let before = self.state.asked.load(Ordering::Relaxed);
        wait::until(&format!("{} goes on reading", self.name), || {
            Ok((self.state.asked.load(Ordering::Relaxed) >= before + more).then_some(()))
        })
    }

    /// Ends it. The daemon was killed so many times meanwhile.
    ///
    /// # Errors
    /// What was wrong, or failed without a kill.
    pub(super) fn finish(mut self, kills: u64) -> Result<Read> {
        self.state.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("it has ended")?;
        let cut = thread.join().map_err(|_| anyhow!("the reader panicked"))??;
        let faults = lock(&self.state.faults);
        if cut > kills || faults.len() as u64 > cut {
            bail!("{}: {cut} requests failed, the daemon was killed {kills} times: {faults:#?}", self.name);
        }
        Ok(Read { asked: self.state.asked.load(Ordering::Relaxed), cut })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns how many requests got no answer.
fn read(state: &State) -> u64 {
    let (mut cut, mut number) = (0, 0u32);
    let (mut connection, mut request) = (None, Request::get(PATH));
    while !state.stop.load(Ordering::Relaxed) {
        if number.is_multiple_of(KEPT) {
            connection = None;
        }
        if connection.is_none() {
            request = Request::get(PATH).patience(wait::PATIENCE);
            if (number / KEPT).is_multiple_of(2) {
                request = request.over_ipv6();
            }
        }
        number = number.wrapping_add(1);
        let before = lock(&state.allowed).clone();
        let mut asked = || {
            let mut current = match connection.take() {
                Some(connection) => connection,
                None => request.connect()?,
            };
            let answer = current.exchange(&request)?;
            anyhow::Ok((current, answer))
        };
        match asked() {
            Ok((current, answer)) => {
                let is_right = before.contains(&answer.body) || lock(&state.allowed).contains(&answer.body);
                if answer.status != 200 || !is_right {
                    lock(&state.faults).push(format!("status {}, body {:.200}", answer.status, answer.text()));
                }
                let ends = answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
                connection = (!ends).then_some(current);
                state.asked.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                cut += 1;
                lock(&state.faults).push(format!("{error:#}"));
            }
        }
        // Paces the load; nothing is waited for.
        std::thread::sleep(PAUSE);
    }
    cut
}
