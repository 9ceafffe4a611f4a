//! The state of one local instance: its requester, what was read, and the requests of its guest that wait for Nova.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU32;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, Semaphore, SemaphorePermit, oneshot};
use tokio::time::Instant;

use crate::allowance::Allowance;
use crate::api::Password;
use crate::nova_metadata::client::Requester;
use crate::origin::Outcome;

/// Paths that a guest asked for and that stay read: most of all versions of both trees. The oldest makes room.
const KEPT: usize = 256;
/// Paths that a guest may ask Nova for at once, and one more every second: a crawl of everything is through at once, and
/// endless names cost Nova no more than that.
const BURST: NonZeroU32 = NonZeroU32::new(512).expect("not zero");
/// Passwords that a guest may post at once, and one more every [`BETWEEN_POSTS`]: Nova takes one, and empty ones.
const POSTS: NonZeroU32 = NonZeroU32::new(8).expect("not zero");
const BETWEEN_POSTS: Duration = Duration::from_secs(5);
/// Requests of one guest that Nova is asked at a time, of the places that there are for guests: the others wait for each
/// other, and not other guests for them.
const AT_A_TIME: usize = 1;
/// How long a posted password counts, though Nova does not show it yet: its cache lasts 15 s by default.
pub(super) const POSTED: Duration = Duration::from_secs(60);

/// Result of the last attempt to read an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum InstanceState {
    /// Not read yet.
    New,
    /// Read.
    Current,
    /// Nova does not answer, or not for this instance.
    Unavailable,
    /// Nova answered 404, this many times in a row.
    Unknown(u32),
    /// No observer reports its project.
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
    /// When all of it was read last.
    read_at: Option<Instant>,
    /// How often it was compared with Nova since.
    checks: usize,
    fingerprint: Option<u64>,
    kept: VecDeque<String>,
    waiting: HashMap<String, Vec<oneshot::Sender<Outcome>>>,
    pages: Allowance,
    posts: Allowance,
    posted: Option<(Password, Instant)>,
}

/// What to do about a guest that asks for a page.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Read it.
    Read,
    /// It is being read already.
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
            checks: 0,
            fingerprint: None,
            kept: VecDeque::new(),
            waiting: HashMap::new(),
            pages: Allowance::new(BURST, Duration::from_secs(1)),
            posts: Allowance::new(POSTS, BETWEEN_POSTS),
            posted: None,
        };
        Self { inner: Mutex::new(inner), changed: Notify::new(), turns: Semaphore::new(AT_A_TIME) }
    }

    pub(super) fn requester(&self) -> Option<Requester> {
        self.lock().who.clone()
    }

    /// Sets the requester, and has the instance read again if it differs.
    pub(super) fn set_requester(&self, who: Option<Requester>) {
        let mut inner = self.lock();
        if inner.who != who {
            inner.who = who;
            drop(inner);
            self.changed.notify_one();
        }
    }

    /// Sets the fingerprint, and returns whether it differs from one that was known before.
    pub(super) fn set_fingerprint(&self, fingerprint: Option<u64>) -> bool {
        let mut inner = self.lock();
        let before = inner.fingerprint;
        inner.fingerprint = fingerprint.or(before);
        before.is_some() && before != inner.fingerprint
    }

    /// Records that the instance is no longer local: nothing of it is kept from now on.
    pub(super) fn mark_gone(&self) {
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

    /// Records the result of an attempt to read the instance.
    pub(super) fn set_state(&self, state: InstanceState) {
        self.lock().state = state;
    }

    /// Records that all of it was read.
    pub(super) fn mark_read(&self) {
        let mut inner = self.lock();
        (inner.read_at, inner.checks) = (Some(Instant::now()), 0);
    }

    /// Returns the number of the next comparison with Nova since all of it was read.
    pub(super) fn next_check(&self) -> usize {
        let mut inner = self.lock();
        inner.checks += 1;
        inner.checks - 1
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

    /// Returns whether the guest may post a password now.
    pub(super) fn may_post(&self) -> bool {
        self.lock().posts.take()
    }

    /// Waits until Nova may be asked for this guest, until the permit is dropped.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.turns.acquire().await.ok()
    }

    /// Ends the read of a page: everyone who waits for it gets the outcome.
    pub(super) fn finish(&self, path: &str, outcome: Outcome) {
        for done in self.lock().waiting.remove(path).into_iter().flatten() {
            // The receiver is gone if its guest has disconnected.
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
        let task = InstanceTask::new(None);
        let ask = |path: &str| task.ask(path, oneshot::channel().0);
        assert_eq!((ask("a"), ask("a")), (Turn::Read, Turn::Wait));
        let read = (0..600).filter(|number| ask(&format!("x{number}")) == Turn::Read).count();
        assert_eq!(read, 511);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!([ask("y1"), ask("y2"), ask("y3")], [Turn::Read, Turn::Read, Turn::Refuse]);
        let room = (0..262).filter_map(|number| task.keep(&format!("x{number}"))).collect::<Vec<_>>();
        assert_eq!((room.len(), room[0].as_str(), task.kept().len()), (6, "x0", KEPT));
        assert_eq!(task.keep("x261"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn passwords_are_bounded_and_disconnected_requests_are_forgotten() {
        let task = InstanceTask::new(None);
        assert_eq!((0..100).filter(|_| task.may_post()).count(), 8);
        tokio::time::advance(BETWEEN_POSTS).await;
        assert_eq!((task.may_post(), task.may_post()), (true, false));
        for _ in 0..1000 {
            task.ask("a", oneshot::channel().0);
        }
        assert!(task.lock().waiting["a"].len() <= 1);
    }

    #[tokio::test]
    async fn all_who_wait_for_a_page_get_its_outcome() {
        let task = InstanceTask::new(None);
        let (first, second) = (oneshot::channel(), oneshot::channel());
        task.ask("a", first.0);
        task.ask("a", second.0);
        task.finish("a", Outcome::Fetched);
        assert_eq!((first.1.await, second.1.await), (Ok(Outcome::Fetched), Ok(Outcome::Fetched)));
    }
}
