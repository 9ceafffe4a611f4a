//! The side of a take-over that runs already: it gives its sockets to the next daemon, and ends when that one answers guests.
//!
//! The order, and why:
//! 1. the ports' thread stands still: from here on only the next daemon changes the kernel;
//! 2. the snapshot is written, and its thread stands still: the next daemon reads it, and then writes it;
//! 3. the next daemon gets the listening sockets. Guests' connections are accepted and answered here all the time;
//! 4. the next daemon answers guests: connections that there are end here in order, within `http.drain_timeout`;
//! 5. what guests did meanwhile is handed on ([`super::late`]), and this process ends.
//!
//! Promises: if the next daemon ends, or is not ready within [`PATIENCE`], this one goes on as before.

use std::io;
use std::os::unix::net::UnixStream as Blocking;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{info, warn};

use super::late::Known;
use super::listening::Copies;
use crate::hold::{Held, hold};
use crate::port;
use crate::snapshot::Holder;
use crate::sockets::passing;
use crate::store::Store;

/// How long the next daemon may take until it answers guests: its source has ten seconds, and a node with thousands of taps takes
/// some for these.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long it may take to read what is sent to it.
const SENDING: Duration = Duration::from_secs(5);

/// What the next daemon sends when it answers guests.
pub(super) const READY: u8 = b'R';

/// What can be handed over.
pub(super) struct HandOver {
    /// Connections of daemons that want to take over.
    pub(super) requests: mpsc::Receiver<Blocking>,
    pub(super) ports: mpsc::Sender<port::Request>,
    pub(super) snapshot: Option<Holder>,
    pub(super) store: Arc<Store>,
    pub(super) sockets: Copies,
}

/// What was handed over.
pub(super) struct HandedOver {
    stream: UnixStream,
    known: Known,
    _held: Vec<Held>,
}

impl HandOver {
    /// Completes when another daemon has taken over.
    pub(super) async fn completed(&mut self) -> HandedOver {
        loop {
            let Some(stream) = self.requests.recv().await else { std::future::pending().await };
            info!("another daemon is taking over");
            match self.hand_over(stream).await {
                Ok(handed_over) => return handed_over,
                Err(error) => warn!(%error, "another daemon has not taken over: going on"),
            }
        }
    }

    async fn hand_over(&self, stream: Blocking) -> io::Result<HandedOver> {
        let mut held = Vec::new();
        let (request, standing, ports) = hold();
        let ended = |_| io::Error::other("the ports' thread has ended");
        self.ports
            .send(port::Request::StandStill(request))
            .await
            .map_err(|_| io::Error::other("the ports' thread has ended"))?;
        standing.await.map_err(ended)?;
        held.push(ports);
        if let Some(snapshot) = &self.snapshot {
            held.extend(snapshot.hold().await);
        }
        let known = Known::of(&self.store);
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(SENDING))?;
        passing::send(&stream, &self.sockets)?;
        stream.set_nonblocking(true)?;
        let mut stream = UnixStream::from_std(stream)?;
        let answer = timeout(PATIENCE, stream.read_u8()).await;
        match answer.map_err(|_| io::Error::other(format!("it does not answer guests after {PATIENCE:?}")))? {
            Ok(READY) => Ok(HandedOver { stream, known, _held: held }),
            Ok(_) => Err(io::Error::other("it sends something else")),
            Err(_) => Err(io::Error::other("it has ended")),
        }
    }
}

impl HandedOver {
    /// Hands on what guests have done since. No request may be in flight any more.
    pub(super) async fn finish(mut self, store: &Store) {
        let late = serde_json::to_vec(&self.known.since(store)).unwrap_or_default();
        match timeout(SENDING, self.stream.write_all(&late)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "the next daemon does not learn what guests did last"),
            Err(_) => warn!("the next daemon does not learn what guests did last: it does not read"),
        }
        // Until the process ends, what stands still has to stand still.
        std::mem::forget(self._held);
    }
}
