//! One instance that lives here, and what is going on for it.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, Semaphore, SemaphorePermit, oneshot};
use tokio::time::Instant;

use super::client::Requester;
use crate::api::Password;
use crate::origin::Outcome;

/// Paths that a guest asked for and that stay read: most of all versions of both trees. The oldest makes room.
const KEPT: usize = 256;
/// Paths that a guest may ask Nova for at once, and one more every second: a crawl of everything is through at once, and
/// endless names cost Nova no more than that.
const BURST: f64 = 512.0;
/// Passwords that a guest may post at once, and one more every [`BETWEEN_POSTS`]: Nova takes one, and empty ones.
const POSTS: f64 = 8.0;
const BETWEEN_POSTS: Duration = Duration::from_secs(5);
/// Requests of one guest that Nova is asked at a time, of the places that there are for guests: the others wait for each
/// other, and not other guests for them.
const AT_A_TIME: usize = 1;
/// How long a posted password counts, though Nova does not show it yet: its cache lasts 15 s by default.
pub(super) const POSTED: Duration = Duration::from_secs(60);

/// How an instance is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum InstanceState {
    /// Not read yet.
    New,
    /// Read.
    Current,
    /// Nova cannot be asked.
    Unavailable,
    /// Nova says 404, so many times.
    Unknown(u32),
    /// No observer knows its project.
    WithoutProject,
}

/// An instance.
#[derive(Debug)]
pub(super) struct InstanceTask {
    inner: Mutex<Inner>,
    /// Something of it changed: read it again.
    pub(super) changed: Notify,
    turns: Semaphore,
}

#[derive(Debug)]
struct Inner {
    who: Option<Requester>,
    state: InstanceState,
    gone: bool,
    read_at: Option<Instant>,
    kept: VecDeque<String>,
    waiting: HashMap<String, Vec<oneshot::Sender<Outcome>>>,
    pages: Allowance,
    posts: Allowance,
    posted: Option<(Password, Instant)>,
}

/// What a guest may do at once, and again with time.
#[derive(Debug)]
struct Allowance {
    most: f64,
    left: f64,
    every: Duration,
    counted_at: Instant,
}

impl Allowance {
    fn new(most: f64, every: Duration) -> Self {
        Self { most, left: most, every, counted_at: Instant::now() }
    }

    fn take(&mut self) -> bool {
        let now = Instant::now();
        let earned = now.duration_since(self.counted_at).as_secs_f64() / self.every.as_secs_f64();
        (self.left, self.counted_at) = ((self.left + earned).min(self.most), now);
        let is_left = self.left >= 1.0;
        self.left -= if is_left { 1.0 } else { 0.0 };
        is_left
    }
}

/// What to do about a guest that asks for a page.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Read it.
    Read,
    /// Somebody reads it.
    Wait,
    /// It asked for too many.
    Refuse,
}

impl InstanceTask {
    pub(super) fn new(who: Option<Requester>) -> Self {
        let inner = Inner {
            who,
            state: InstanceState::New,
            gone: false,
            read_at: None,
            kept: VecDeque::new(),
            waiting: HashMap::new(),
            pages: Allowance::new(BURST, Duration::from_secs(1)),
            posts: Allowance::new(POSTS, BETWEEN_POSTS),
            posted: None,
        };
        Self { inner: Mutex::new(inner), changed: Notify::new(), turns: Semaphore::new(AT_A_TIME) }
    }

    pub(super) fn who(&self) -> Option<Requester> {
        self.lock().who.clone()
    }

    /// Takes in what the facts say now.
    pub(super) fn is(&self, who: Option<Requester>) {
        let mut inner = self.lock();
        if inner.who != who {
            inner.who = who;
            drop(inner);
            self.changed.notify_one();
        }
    }

    /// It lives here no longer: nothing of it is to be kept from here on.
    pub(super) fn go(&self) {
        let mut inner = self.lock();
        inner.gone = true;
        inner.waiting.clear();
    }

    pub(super) fn is_gone(&self) -> bool {
        self.lock().gone
    }

    pub(super) fn state(&self) -> InstanceState {
        self.lock().state.clone()
    }

    pub(super) fn stands(&self, state: InstanceState) {
        let mut inner = self.lock();
        if state == InstanceState::Current {
            inner.read_at = Some(Instant::now());
        }
        inner.state = state;
    }

    /// How long ago all of it was read.
    pub(super) fn age(&self) -> Option<Duration> {
        self.lock().read_at.map(|at| at.elapsed())
    }

    /// A guest asks for a page. Concurrent requests for one are one.
    pub(super) fn ask(&self, path: &str, done: oneshot::Sender<Outcome>) -> Turn {
        let mut inner = self.lock();
        if let Some(waiting) = inner.waiting.get_mut(path) {
            // A guest may come and go, again and again.
            waiting.retain(|done| !done.is_closed());
            waiting.push(done);
            return Turn::Wait;
        }
        if !inner.pages.take() {
            return Turn::Refuse;
        }
        inner.waiting.insert(path.to_owned(), vec![done]);
        Turn::Read
    }

    /// Tells whether the guest may post a password now.
    pub(super) fn may_post(&self) -> bool {
        self.lock().posts.take()
    }

    /// Waits until Nova may be asked for this guest, until the permit is dropped.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.turns.acquire().await.ok()
    }

    /// Tells those who wait for a page.
    pub(super) fn tell(&self, path: &str, outcome: Outcome) {
        for done in self.lock().waiting.remove(path).into_iter().flatten() {
            // Whoever went does not want to know.
            let _ = done.send(outcome);
        }
    }

    /// Remembers a path to be read with the others. Returns the one that makes room.
    pub(super) fn keep(&self, path: &str) -> Option<String> {
        let mut inner = self.lock();
        if inner.kept.iter().any(|kept| kept == path) {
            return None;
        }
        inner.kept.push_back(path.to_owned());
        if inner.kept.len() > KEPT { inner.kept.pop_front() } else { None }
    }

    pub(super) fn kept(&self) -> Vec<String> {
        self.lock().kept.iter().cloned().collect()
    }

    pub(super) fn posted(&self, password: Password) {
        self.lock().posted = Some((password, Instant::now()));
    }

    /// Returns the password that was posted a moment ago.
    pub(super) fn fresh_password(&self) -> Option<Password> {
        let inner = self.lock();
        inner.posted.as_ref().filter(|(_, at)| at.elapsed() < POSTED).map(|(password, _)| password.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn endless_paths_are_bounded_and_equal_ones_are_one() {
        let resident = InstanceTask::new(None);
        let ask = |path: &str| resident.ask(path, oneshot::channel().0);
        assert_eq!((ask("a"), ask("a")), (Turn::Read, Turn::Wait));
        let read = (0..600).filter(|number| ask(&format!("x{number}")) == Turn::Read).count();
        assert_eq!(read, 511);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!([ask("y1"), ask("y2"), ask("y3")], [Turn::Read, Turn::Read, Turn::Refuse]);
        let room = (0..262).filter_map(|number| resident.keep(&format!("x{number}"))).collect::<Vec<_>>();
        assert_eq!((room.len(), room[0].as_str(), resident.kept().len()), (6, "x0", KEPT));
        assert_eq!(resident.keep("x261"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn passwords_are_bounded_and_those_who_left_are_forgotten() {
        let resident = InstanceTask::new(None);
        assert_eq!((0..100).filter(|_| resident.may_post()).count(), 8);
        tokio::time::advance(BETWEEN_POSTS).await;
        assert_eq!((resident.may_post(), resident.may_post()), (true, false));
        for _ in 0..1000 {
            resident.ask("a", oneshot::channel().0);
        }
        assert!(resident.lock().waiting["a"].len() <= 1);
    }

    #[tokio::test]
    async fn all_who_wait_for_a_page_are_told() {
        let resident = InstanceTask::new(None);
        let (first, second) = (oneshot::channel(), oneshot::channel());
        resident.ask("a", first.0);
        resident.ask("a", second.0);
        resident.tell("a", Outcome::Fetched);
        assert_eq!((first.1.await, second.1.await), (Ok(Outcome::Fetched), Ok(Outcome::Fetched)));
    }
}
