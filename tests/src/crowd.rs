//! Guests that ask all the time, over connections that they keep and over new ones, and remember what failed and how long it took.
//!
//! Promises: each request is one that must be answered with 200; a kept connection is left when an answer says that it ends, and not
//! before; a new connection is counted from the moment at which it is asked for, so that time spent waiting to be accepted is in it.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};

use crate::guest::Guest;
use crate::http::{Connection, Request};
use crate::netns::Namespace;
use crate::wait;

/// Pause between two requests on a kept connection: 64 of them ask more than 1,500 times in a second.
const PAUSE: Duration = Duration::from_millis(40);

/// How long a request may take: longer than any restart on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Threads of each guest that open new connections.
const OPENERS: u32 = 2;

/// What to ask for.
const PATH: &str = "/openstack/latest/meta_data.json";

/// What is asked, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// A connection that is kept.
    Kept,
    /// A connection for this request alone.
    New,
}

/// A request that failed.
#[derive(Clone, Debug)]
pub struct Fault {
    /// On what.
    pub on: On,
    /// When it began.
    pub begun: Instant,
    /// Whether the connection was refused.
    pub refused: bool,
    /// What happened.
    pub text: String,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Requests on kept connections.
    pub kept: u64,
    /// Requests on new ones.
    pub new: u64,
    /// What failed.
    pub faults: Vec<Fault>,
    /// How long it went on.
    pub lasted: Duration,
    /// The longest time from asking for a new connection to its answer.
    pub longest: Duration,
}

#[derive(Debug, Default)]
struct State {
    stop: AtomicBool,
    kept: AtomicU64,
    new: AtomicU64,
    seen: Mutex<(Vec<Fault>, Duration)>,
}

/// Guests that ask until this is finished.
#[derive(Debug)]
pub struct Crowd {
    state: Arc<State>,
    threads: Vec<JoinHandle<Result<()>>>,
    started: Instant,
}

impl Crowd {
    /// Starts so many kept connections in all, and so many new ones in each second, spread over the guests.
    ///
    /// # Errors
    /// If there are no threads.
    pub fn start(guests: &[Guest], kept: usize, new: u32) -> Result<Self> {
        let mut crowd = Self { state: Arc::default(), threads: Vec::new(), started: Instant::now() };
        for guest in guests.iter().cycle().take(kept) {
            crowd.add(guest, |state| keep(&state))?;
        }
        let openers = OPENERS * u32::try_from(guests.len())?;
        for guest in guests.iter().cycle().take(usize::try_from(openers)?) {
            crowd.add(guest, move |state| open(&state, Duration::from_secs(1) * openers / new))?;
        }
        Ok(crowd)
    }

    fn add(&mut self, guest: &Guest, work: impl FnOnce(Arc<State>) + Send + 'static) -> Result<()> {
        let (state, namespace) = (Arc::clone(&self.state), Namespace::existing(guest.namespace().name()));
        self.threads.push(std::thread::Builder::new().name("crowd".to_owned()).spawn(move || {
            namespace.enter()?;
            work(state);
            Ok(())
        })?);
        Ok(())
    }

    /// Waits for so many further requests of both kinds.
    ///
    /// # Errors
    /// If they do not come.
    pub fn wait_for(&self, more: u64) -> Result<()> {
        let count = || [&self.state.kept, &self.state.new].map(|count| count.load(Ordering::Relaxed));
        let before = count();
        wait::until("the guests' requests are answered", || {
            let done = count().iter().zip(before).all(|(now, before)| *now >= before + more);
            Ok(done.then_some(()))
        })
    }

    /// Ends it, and returns what was seen.
    ///
    /// # Errors
    /// If a guest was gone, or nothing was asked.
    pub fn finish(self) -> Result<Seen> {
        let lasted = self.started.elapsed();
        self.state.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().map_err(|_| anyhow!("a guest's thread panicked"))??;
        }
        let (faults, longest) = self.state.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let [kept, new] = [&self.state.kept, &self.state.new].map(|count| count.load(Ordering::Relaxed));
        if kept == 0 || new == 0 {
            bail!("nothing was asked: {kept} requests on kept connections, {new} on new ones; {faults:#?}");
        }
        Ok(Seen { kept, new, faults, lasted, longest })
    }
}

impl State {
    fn stops(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn fault(&self, on: On, begun: Instant, error: &anyhow::Error) {
        let refused = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
        let refused = refused.into_iter().any(|cause| cause.kind() == io::ErrorKind::ConnectionRefused);
        let fault = Fault { on, begun, refused, text: format!("{error:#}") };
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).0.push(fault);
    }
}

/// Sends one request, and returns whether the connection ends with its answer.
fn ask(connection: &mut Connection, request: &Request) -> Result<bool> {
    let answer = connection.exchange(request)?;
    if answer.status != 200 {
        bail!("status {}: {:.200}", answer.status, answer.text());
    }
    Ok(answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")))
}

fn keep(state: &State) {
    let request = Request::get(PATH).patience(PATIENCE);
    let mut connection = None;
    while !state.stops() {
        let begun = Instant::now();
        let mut asked = || -> Result<bool> {
            if connection.is_none() {
                connection = Some(request.connect()?);
            }
            connection.as_mut().map_or(Ok(true), |connection| ask(connection, &request))
        };
        match asked() {
            Ok(ends) => {
                state.kept.fetch_add(1, Ordering::Relaxed);
                if ends {
                    connection = None;
                }
            }
            Err(error) => {
                state.fault(On::Kept, begun, &error);
                connection = None;
            }
        }
        // Paces the load; nothing is waited for.
        std::thread::sleep(PAUSE);
    }
}

fn open(state: &State, pace: Duration) {
    let request = Request::get(PATH).patience(PATIENCE);
    while !state.stops() {
        let begun = Instant::now();
        match request.connect().and_then(|mut connection| ask(&mut connection, &request)) {
            Ok(_) => {
                state.new.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => state.fault(On::New, begun, &error),
        }
        let took = begun.elapsed();
        let mut seen = state.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.1 = seen.1.max(took);
        drop(seen);
        // As above.
        std::thread::sleep(pace.saturating_sub(took));
    }
}
