//! The listener for fuzzers: connections in memory instead of a socket's, and everything else as in [`super::run`].

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::DuplexStream;

use super::Guests;
use super::connection;
use super::listener;
use super::progress::Progress;
use super::record;
use super::turns::Turns;
use crate::drain::Drain;

/// What accepts the connections.
#[derive(Clone, Debug)]
pub struct Listener {
    guests: Arc<Guests>,
    turns: Arc<Turns>,
}

impl Listener {
    /// Returns one that serves these guests.
    #[must_use]
    pub fn new(guests: Arc<Guests>) -> Self {
        Self { guests, turns: Arc::default() }
    }

    /// Lets connections take turns. Never completes.
    pub async fn take_turns(&self) {
        self.turns.run().await;
    }

    /// Serves a connection from this address until it ends.
    ///
    /// # Errors
    /// If it is refused.
    pub async fn serve(&self, stream: DuplexStream, peer: SocketAddr, drain: &Drain) -> io::Result<()> {
        record::accepted(&self.guests.counters);
        let terms = self.guests.terms.get();
        let progress = Arc::new(Progress::new(terms.times));
        let (guest, permit) = self.guests.admit(peer, &progress).map_err(|refusal| {
            record::refused(&self.guests, peer, refusal);
            io::Error::other(refusal)
        })?;
        let place = listener::place(&guest, progress, terms, &self.turns);
        connection::serve_placed(stream, guest, place, drain.clone()).await;
        drop(permit);
        Ok(())
    }
}
