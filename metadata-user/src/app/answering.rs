//! The threads that answer guests.
//!
//! Promises: each has a listening socket and a runtime of its own, so a connection is accepted, read and answered on one
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

use crate::drain::Drain;
use crate::http::{self, Guests};
use crate::privilege;
use crate::readiness::Readiness;
use crate::worker::Worker;

/// Starts a thread for each socket. The set yields their results; a thread that panics yields an error.
///
/// # Errors
/// If a thread cannot be started.
pub(super) fn start(
    listeners: Vec<TcpListener>,
    guests: &Arc<Guests>,
    readiness: &Readiness,
    drain: &Drain,
) -> io::Result<JoinSet<io::Result<()>>> {
    let mut ends = JoinSet::new();
    for listener in listeners {
        let (guests, readiness, drain) = (Arc::clone(guests), readiness.clone(), drain.clone());
        let (end, ended) = oneshot::channel();
        let worker = Worker::spawn_as(&privilege::GUESTS, "guests", async move |_| {
            // The receiver is gone during shutdown.
            let _ = end.send(answer(listener, guests, readiness, drain).await);
        })?;
        worker.detach();
        ends.spawn(async move { ended.await.unwrap_or_else(|_| Err(io::Error::other("a thread panicked"))) });
    }
    Ok(ends)
}

/// Accepts guests' connections once every tap is bound to its instance; the kernel's backlog holds them until then.
async fn answer(listener: TcpListener, guests: Arc<Guests>, readiness: Readiness, drain: Drain) -> io::Result<()> {
    readiness.not_waiting_for("ports").await;
    http::run(listener, guests, drain).await
}
