//! Where a connection is between its requests, so that one timer is enough for all its time-outs, and it is known
//! whether it may give way to another.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::Times;
use super::request_line::Framing;

/// What a connection is at. Each leads to the next, and the last to the first.
mod phase {
    /// Nothing of a next request has come, and all answers are with the kernel.
    pub(super) const IDLE: u8 = 0;
    /// A request has begun to come.
    pub(super) const RECEIVING: u8 = 1;
    /// A request is complete.
    pub(super) const ANSWERING: u8 = 2;
    /// Its answer is complete, and not yet all written.
    pub(super) const WRITING: u8 = 3;
    /// A request is complete, and waits for a change: the connection may give way, which ends the wait.
    pub(super) const WAITING: u8 = 4;
}

/// Bytes per second that a guest must take of its answers, once the kernel has no room for more of them: a thousandth of
/// what the slowest of paths here carries.
const LEAST_RATE: u64 = 32 << 10;

/// Pause before another look whether a connection that has been kept long enough has a request.
const AGED_LOOK: Duration = Duration::from_millis(100);

/// No request has begun since it was last asked.
const NOT_BEGUN: u64 = u64::MAX;
/// A request has begun that has a chunked body.
const CHUNKED: u64 = u64::MAX - 1;

/// Where a connection is. Written by its one task; read by that, and by whoever looks for a connection to give way.
#[derive(Debug)]
pub(super) struct Progress {
    start: Instant,
    times: Times,
    phase: AtomicU8,
    /// Microseconds from `start` to the last byte in either direction.
    moved: AtomicU64,
    /// Microseconds from `start` to the last byte of the request that is answered.
    received: AtomicU64,
    /// Microseconds from `start` to the first byte of the request that is coming in, plus 1; 0: none is.
    receiving: AtomicU64,
    /// The length of the body of the request that hyper has begun with, or one of the constants above.
    begun: AtomicU64,
    cut: AtomicBool,
    /// The hop limit that the stream is to have, before it writes again; 0: the one that it has.
    hop_limit: AtomicU8,
    must_leave: AtomicBool,
    unread: AtomicBool,
    leave: Notify,
    is_held: AtomicBool,
    half_closed: Notify,
    /// Microseconds from `start` to when the kernel had no room for more of an answer, plus 1; 0: it has.
    blocked: AtomicU64,
    /// Microseconds that the guest is behind [`LEAST_RATE`] with what it takes, without the time since `blocked`.
    behind: AtomicU64,
    /// Microseconds from `start` to the end of the wait for a change, plus 1; 0: no request waits for one.
    waits_until: AtomicU64,
    /// The wait for a change is over.
    wait_over: Notify,
    /// Another time-out is next than a moment ago.
    retimed: Notify,
    /// It was answered, and is looked at again in a moment: see [`super::recheck`].
    is_rechecked: AtomicBool,
    /// Requests that have begun; 2: two or more.
    requests: AtomicU8,
}

/// A request that waits for its content.
#[derive(Debug)]
pub(super) struct Held<'a>(&'a Progress);

/// A request that waits for a change.
#[derive(Debug)]
pub(super) struct Waiting<'a>(&'a Progress);

impl Drop for Waiting<'_> {
    /// From here on, the request counts as if its last byte had just come.
    fn drop(&mut self) {
        let Self(progress) = self;
        let now = progress.now();
        progress.moved.store(now, Ordering::Relaxed);
        progress.received.store(now, Ordering::Relaxed);
        if progress.receiving.load(Ordering::Relaxed) > 0 {
            // A next request came meanwhile.
            progress.receiving.store(now + 1, Ordering::Relaxed);
        }
        progress.phase.store(phase::ANSWERING, Ordering::Relaxed);
        progress.waits_until.store(0, Ordering::Relaxed);
        progress.retimed.notify_one();
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.is_held.store(false, Ordering::Relaxed);
    }
}

impl Progress {
    pub(super) fn new(times: Times) -> Self {
        Self {
            start: Instant::now(),
            times,
            phase: AtomicU8::new(phase::IDLE),
            moved: AtomicU64::new(0),
            received: AtomicU64::new(0),
            receiving: AtomicU64::new(0),
            begun: AtomicU64::new(NOT_BEGUN),
            cut: AtomicBool::new(false),
            hop_limit: AtomicU8::new(0),
            must_leave: AtomicBool::new(false),
            unread: AtomicBool::new(false),
            leave: Notify::new(),
            is_held: AtomicBool::new(false),
            half_closed: Notify::new(),
            blocked: AtomicU64::new(0),
            behind: AtomicU64::new(0),
            waits_until: AtomicU64::new(0),
            wait_over: Notify::new(),
            retimed: Notify::new(),
            is_rechecked: AtomicBool::new(false),
            requests: AtomicU8::new(0),
        }
    }

    /// hyper begins with a request whose body has this length; `None`: it is chunked.
    pub(super) fn begin(&self, body: Option<u64>) {
        let requests = self.requests.load(Ordering::Relaxed);
        self.requests.store((requests + 1).min(2), Ordering::Relaxed);
        self.begun.store(body.map_or(CHUNKED, |length| length.min(CHUNKED - 1)), Ordering::Relaxed);
    }

    /// Tells whether the guest has used the connection for more than one request.
    pub(super) fn is_kept(&self) -> bool {
        self.requests.load(Ordering::Relaxed) > 1
    }

    /// Returns how long the body of the request is that hyper has begun with since the last call.
    pub(super) fn take_begun(&self) -> Option<Framing> {
        match self.begun.load(Ordering::Relaxed) {
            NOT_BEGUN => None,
            begun => {
                self.begun.store(NOT_BEGUN, Ordering::Relaxed);
                Some(if begun == CHUNKED { Framing::Chunked } else { Framing::Length(begun) })
            }
        }
    }

    /// The handshake of TLS is complete.
    pub(super) fn secured(&self) {
        self.receiving.store(0, Ordering::Relaxed);
        self.phase.store(phase::IDLE, Ordering::Relaxed);
    }

    /// The request is complete.
    pub(super) fn received(&self) {
        self.receiving.store(0, Ordering::Relaxed);
        // Its last byte has just been read, so no clock is asked for this.
        self.received.store(self.moved.load(Ordering::Relaxed), Ordering::Relaxed);
        self.phase.store(phase::ANSWERING, Ordering::Relaxed);
    }

    /// Returns how long ago the last byte of the request came that is answered.
    pub(super) fn since_received(&self) -> Duration {
        Duration::from_micros(self.now().saturating_sub(self.received.load(Ordering::Relaxed)))
    }

    /// hyper has all of the answer.
    pub(super) fn answered(&self) {
        if self.phase.load(Ordering::Relaxed) == phase::ANSWERING {
            self.phase.store(phase::WRITING, Ordering::Relaxed);
        }
    }

    /// The kernel has all that hyper has.
    pub(super) fn flushed(&self) {
        if self.phase.load(Ordering::Relaxed) == phase::WRITING {
            self.phase.store(phase::IDLE, Ordering::Relaxed);
        }
    }

    /// Returns since when the connection is idle; `None` while it has a request that does not wait for a change.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let is_idle = matches!(self.phase.load(Ordering::Relaxed), phase::IDLE | phase::WAITING);
        is_idle.then(|| self.at(self.moved.load(Ordering::Relaxed)))
    }

    /// Makes the connection give its place to another: it ends when what has arrived of a request is answered.
    pub(super) fn make_leave(&self) {
        self.must_leave.store(true, Ordering::Relaxed);
        self.leave.notify_one();
        self.end_wait();
    }

    /// Notes whether it was answered, and is looked at again in a moment.
    pub(super) fn set_rechecked(&self, is_rechecked: bool) {
        self.is_rechecked.store(is_rechecked, Ordering::Relaxed);
    }

    /// Tells whether it was answered, and is looked at again in a moment.
    pub(super) fn is_rechecked(&self) -> bool {
        self.is_rechecked.load(Ordering::Relaxed)
    }

    /// Makes [`Self::has_unread`] valid from here on, as for a connection that must leave, without waking it.
    pub(super) fn leave_quietly(&self) {
        self.must_leave.store(true, Ordering::Relaxed);
    }

    /// Completes when the connection has been without a request for this time. Cancel-safe.
    pub(super) async fn silent_for(&self, time: Duration) {
        loop {
            match self.idle_since() {
                Some(since) if since.elapsed() >= time => return,
                Some(since) => sleep_until(since + time).await,
                None => sleep(time).await,
            }
        }
    }

    /// Tells whether [`Self::make_leave`] was called.
    pub(super) fn must_leave(&self) -> bool {
        self.must_leave.load(Ordering::Relaxed)
    }

    /// Completes when [`Self::make_leave`] was called. Cancel-safe.
    pub(super) async fn leave_requested(&self) {
        self.leave.notified().await;
    }

    /// Notes whether bytes of a request have arrived that hyper has not read.
    pub(super) fn set_unread(&self, unread: bool) {
        self.unread.store(unread, Ordering::Relaxed);
    }

    /// Tells whether bytes of a request have arrived that hyper has not read. Known only of one that must leave.
    pub(super) fn has_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }

    /// Returns how long a complete request may wait for its answer.
    pub(super) fn patience(&self) -> Duration {
        self.times.request.min(self.times.idle)
    }

    /// Marks the request as waiting for a change until the value is dropped. The connection's own time-out ends the wait, so that it has
    /// no timer of its own.
    pub(super) fn wait(&self, until: Instant) -> Waiting<'_> {
        let until = until.saturating_duration_since(self.start).as_micros();
        let until = u64::try_from(until).unwrap_or(u64::MAX - 1).saturating_add(1);
        self.waits_until.store(until, Ordering::Relaxed);
        self.phase.store(phase::WAITING, Ordering::Relaxed);
        self.retimed.notify_one();
        Waiting(self)
    }

    /// Ends a wait for a change, if there is one.
    pub(super) fn end_wait(&self) {
        if self.waits_until.load(Ordering::Relaxed) > 0 {
            // As if its time had always been over.
            self.waits_until.store(1, Ordering::Relaxed);
            self.wait_over.notify_one();
        }
    }

    /// Tells whether the time of the wait for a change is over.
    pub(super) fn is_wait_over(&self) -> bool {
        self.waits_until.load(Ordering::Relaxed).checked_sub(1).is_none_or(|until| self.at(until) <= Instant::now())
    }

    /// Completes when a wait for a change may be over, as its time is, or the connection has to give way. Cancel-safe.
    pub(super) async fn wait_may_be_over(&self) {
        self.wait_over.notified().await;
    }

    /// Marks the request as waiting for its content until the value is dropped: meanwhile the stream checks whether its guest leaves.
    pub(super) fn hold(&self) -> Held<'_> {
        self.is_held.store(true, Ordering::Relaxed);
        Held(self)
    }

    /// Tells whether a request waits for its content.
    pub(super) fn is_held(&self) -> bool {
        self.is_held.load(Ordering::Relaxed)
    }

    /// Notes that the guest will send nothing more: it has left, or waits for its last answer.
    pub(super) fn half_closed(&self) {
        self.half_closed.notify_one();
    }

    /// Completes when [`Self::half_closed`] was called. Cancel-safe.
    pub(super) async fn guest_closed(&self) {
        self.half_closed.notified().await;
    }

    /// What leaves from here on has this hop limit.
    pub(super) fn limit_hops(&self, hop_limit: u8) {
        self.hop_limit.store(hop_limit, Ordering::Relaxed);
    }

    /// Returns the hop limit that was set since the last call.
    pub(super) fn take_hop_limit(&self) -> Option<u8> {
        match self.hop_limit.load(Ordering::Relaxed) {
            0 => None,
            hop_limit => {
                self.hop_limit.store(0, Ordering::Relaxed);
                Some(hop_limit)
            }
        }
    }

    /// Whatever is unsent must not leave.
    pub(super) fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }

    /// Tells whether [`Self::cut`] was called.
    pub(super) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }

    /// Returns how long the guest may take to acknowledge what it was sent before the connection ended.
    pub(super) fn patience_for_end(&self) -> Duration {
        self.times.request
    }

    /// All is answered, and nothing more will be read: the connection may give way at any time.
    pub(super) fn ending(&self) {
        self.phase.store(phase::IDLE, Ordering::Relaxed);
    }

    /// Completes when a request takes too long, an answer is taken too slowly, or the connection was idle for too long.
    pub(super) async fn expired(&self) {
        loop {
            let now = Instant::now();
            if let Some(until) = self.waits_until.load(Ordering::Relaxed).checked_sub(1) {
                if timeout_at(self.at(until), self.retimed.notified()).await.is_err() {
                    self.end_wait();
                    // Dropping what waits is the next thing that happens.
                    self.retimed.notified().await;
                }
                continue;
            }
            let mut deadline = match self.receiving.load(Ordering::Relaxed) {
                0 => self.at(self.moved.load(Ordering::Relaxed)) + self.times.idle,
                since => self.at(since - 1) + self.times.request,
            };
            if let Some(since) = self.blocked.load(Ordering::Relaxed).checked_sub(1) {
                let behind = Duration::from_micros(self.behind.load(Ordering::Relaxed));
                deadline = deadline.min(self.at(since) + self.times.request.saturating_sub(behind));
            }
            if deadline <= now {
                return;
            }
            // A request may begin while this sleeps, so it never sleeps longer than one may take.
            let _ = timeout_at(deadline.min(now + self.times.request), self.retimed.notified()).await;
        }
    }

    /// Completes when the connection has been kept for as long as it may, and has no request; one that always has waits no
    /// longer than a request may take.
    pub(super) async fn aged(&self) {
        if self.times.connection.is_zero() {
            std::future::pending::<()>().await;
        }
        let end = self.start + self.times.connection;
        sleep_until(end).await;
        while self.idle_since().is_none() && Instant::now() < end + self.times.request {
            sleep(AGED_LOOK).await;
        }
    }

    /// Bytes have come.
    pub(super) fn read(&self) {
        let now = self.now();
        self.moved.store(now, Ordering::Relaxed);
        self.unread.store(false, Ordering::Relaxed);
        if self.receiving.load(Ordering::Relaxed) == 0 {
            self.receiving.store(now + 1, Ordering::Relaxed);
        }
        if !matches!(self.phase.load(Ordering::Relaxed), phase::ANSWERING | phase::WAITING) {
            self.phase.store(phase::RECEIVING, Ordering::Relaxed);
        }
    }

    /// So many bytes were sent.
    pub(super) fn written(&self, bytes: usize) {
        let now = self.now();
        self.moved.store(now, Ordering::Relaxed);
        let mut behind = self.behind.load(Ordering::Relaxed);
        if let Some(since) = self.blocked.load(Ordering::Relaxed).checked_sub(1) {
            self.blocked.store(0, Ordering::Relaxed);
            behind += now - since;
        }
        if behind > 0 {
            let worth = (bytes as u64).saturating_mul(1_000_000) / LEAST_RATE;
            self.behind.store(behind.saturating_sub(worth), Ordering::Relaxed);
        }
    }

    /// The kernel has no room for more of an answer.
    pub(super) fn blocked(&self) {
        if self.blocked.load(Ordering::Relaxed) == 0 {
            self.blocked.store(self.now() + 1, Ordering::Relaxed);
        }
    }

    fn at(&self, microseconds: u64) -> Instant {
        self.start + Duration::from_micros(microseconds)
    }

    fn now(&self) -> u64 {
        let elapsed = self.start.elapsed();
        elapsed.as_secs().saturating_mul(1_000_000).saturating_add(elapsed.subsec_micros().into())
    }
}
