//! The threads that answer guests.
//!
//! Promises: each has listening sockets and a runtime of its own, so a connection is accepted, read and answered on one
//! thread from its first to its last byte; none wakes another, and nothing else runs on them. The kernel spreads the
//! connections over the sockets. Before it accepts anything, a thread has given up every privilege
//! ([`privilege::GUESTS`]): what a request needs from outside is asked of other threads, over channels.
//!
//! They end with the process: by then, draining has waited for requests in flight.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::Shared;
use super::watchdog::{Watchdog, Work};
use crate::drain::Drain;
use crate::http::{self, Guests, Listeners};
use crate::privilege;
use crate::readiness::Readiness;
use crate::worker::Worker;

/// The sockets that guests connect to: one of each kind for each thread.
pub(super) struct Sockets {
    pub(super) plain: Vec<TcpListener>,
    /// None where `[https]` is off.
    pub(super) tls: Vec<TcpListener>,
}

/// Starts a thread for each plain socket, watched by the watchdog. The set yields their results; a thread that panics yields an error.
///
/// # Errors
/// If a thread cannot be started.
pub(super) fn start(sockets: Sockets, shared: &Shared, watchdog: &mut Watchdog) -> io::Result<JoinSet<io::Result<()>>> {
    let mut ends = JoinSet::new();
    let mut tls = sockets.tls.into_iter();
    for plain in sockets.plain {
        let listeners = Listeners { plain, tls: tls.next().zip(shared.https.clone()) };
        let (guests, readiness, drain) = (Arc::clone(&shared.guests), shared.readiness.clone(), shared.drain.clone());
        let (end, ended) = oneshot::channel();
        let pulse = watchdog.add_thread("guests", Work::Answers);
        let worker = Worker::spawn_as(&privilege::GUESTS, "guests", async move |_| {
            // On this thread: its runtime has no other.
            tokio::spawn(pulse.beat());
            // The receiver is gone during shutdown.
            let _ = end.send(answer(listeners, guests, readiness, drain).await);
        })?;
        worker.detach();
        ends.spawn(async move { ended.await.unwrap_or_else(|_| Err(io::Error::other("a thread panicked"))) });
    }
    Ok(ends)
}

/// Accepts guests' connections once every tap is bound to its instance; the kernel's backlog holds them until then.
async fn answer(listeners: Listeners, guests: Arc<Guests>, readiness: Readiness, drain: Drain) -> io::Result<()> {
    readiness.not_waiting_for("ports").await;
    http::run(listeners, guests, drain).await
}
