//! A take-over, in the daemon that runs already: it passes its sockets to the new daemon, and exits once that one answers guests.
//!
//! The order, and why:
//! 1. the ports' thread is paused: from here on only the new daemon changes the kernel;
//! 2. the snapshot is written, and its thread is paused: the new daemon reads it, and from then on writes it; so is the thread that writes
//!    images of config drives;
//! 3. the new daemon gets the listening sockets. Guests' connections are still accepted and answered here;
//! 4. the new daemon answers guests: connections end here in order, within `http.drain_timeout`;
//! 5. what guests did meanwhile is passed on ([`super::late`]), and this process exits.
//!
//! Promises: if the new daemon exits, or is not ready within [`PATIENCE`], this one continues as before.

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
use crate::hold::{Held, Holder, hold};
use crate::port;
use crate::sockets::passing;
use crate::store::Store;

/// How long the new daemon may take until it answers guests: ten seconds for its source, and some for thousands of taps.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long it may take to read what is sent to it.
const SENDING: Duration = Duration::from_secs(5);

/// What the new daemon sends when it answers guests.
pub(super) const READY: u8 = b'R';

/// What can be handed over.
pub(super) struct HandOver {
    /// Connections of daemons that ask to take over.
    pub(super) requests: mpsc::Receiver<Blocking>,
    pub(super) ports: mpsc::Sender<port::Request>,
    /// Of the threads that write files: the snapshot's, and that of config drives.
    pub(super) writers: Vec<Holder>,
    pub(super) store: Arc<Store>,
    pub(super) sockets: Copies,
}

/// What was handed over.
pub(super) struct HandedOver {
    stream: UnixStream,
    known: Known,
    held: Vec<Held>,
}

impl HandOver {
    /// Completes when another daemon has taken over.
    pub(super) async fn completed(&mut self) -> HandedOver {
        loop {
            let Some(stream) = self.requests.recv().await else { std::future::pending().await };
            info!("another daemon is taking over");
            match self.hand_over(stream).await {
                Ok(handed_over) => return handed_over,
                Err(error) => warn!(%error, "the other daemon has not taken over: continuing"),
            }
        }
    }

    async fn hand_over(&self, stream: Blocking) -> io::Result<HandedOver> {
        let mut held = Vec::new();
        let (request, standing, ports) = hold();
        let ended = || io::Error::other("the ports' thread has ended");
        self.ports.send(port::Request::StandStill(request)).await.map_err(|_| ended())?;
        standing.await.map_err(|_| ended())?;
        held.push(ports);
        for writer in &self.writers {
            held.extend(writer.hold().await);
        }
        let known = Known::of(&self.store);
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(SENDING))?;
        passing::send(&stream, &self.sockets)?;
        stream.set_nonblocking(true)?;
        let mut stream = UnixStream::from_std(stream)?;
        let answer = timeout(PATIENCE, stream.read_u8()).await;
        match answer.map_err(|_| io::Error::other(format!("it did not answer guests within {PATIENCE:?}")))? {
            Ok(READY) => Ok(HandedOver { stream, known, held }),
            Ok(_) => Err(io::Error::other("it sent an unknown message")),
            Err(_) => Err(io::Error::other("it has exited")),
        }
    }
}

impl HandedOver {
    /// Passes on what guests have done since. No request may be in flight.
    pub(super) async fn finish(mut self, store: &Store) {
        let late = serde_json::to_vec(&self.known.since(store)).unwrap_or_default();
        match timeout(SENDING, self.stream.write_all(&late)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                warn!(%error, "cannot pass the last passwords and first reads of user data to the new daemon")
            }
            Err(_) => {
                warn!("cannot pass the last passwords and first reads of user data to the new daemon: it does not read")
            }
        }
        // Paused until the process exits.
        std::mem::forget(self.held);
    }
}
