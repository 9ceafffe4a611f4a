//! A bounded number of connections, for sockets on which each carries one request.
//!
//! Promises: there are never more than so many; where all places are taken, whoever has sent nothing for longest makes one, so
//! silent clients lock nobody out; a connection that has its request never gives way.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// The places of one listening socket.
#[derive(Debug)]
pub struct Places {
    free: Arc<Semaphore>,
    silent: Arc<Silents>,
}

/// A place for a connection that is not there yet. `None`: the semaphore is closed, which never happens.
pub type Room = Option<OwnedSemaphorePermit>;

/// Connections that have not sent a request yet, from the oldest on. Each token ends its connection.
#[derive(Debug, Default)]
struct Silents(Mutex<VecDeque<Arc<CancellationToken>>>);

impl Silents {
    fn remove(&self, leave: &Arc<CancellationToken>) {
        self.0.lock().retain(|other| !Arc::ptr_eq(other, leave));
    }

    fn end_oldest(&self) {
        if let Some(leave) = self.0.lock().pop_front() {
            leave.cancel();
        }
    }
}

impl Places {
    /// Makes so many.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(count)), silent: Arc::default() }
    }

    /// Completes when there is a place. Cancel-safe.
    pub async fn room(&self) -> Room {
        if let Ok(room) = Arc::clone(&self.free).try_acquire_owned() {
            return Some(room);
        }
        self.silent.end_oldest();
        Arc::clone(&self.free).acquire_owned().await.ok()
    }

    /// Takes the place for a connection, which has sent nothing yet.
    #[must_use]
    pub fn take(&self, room: Room) -> Place {
        let leave = Arc::new(CancellationToken::new());
        self.silent.0.lock().push_back(Arc::clone(&leave));
        Place { leave, silent: Arc::clone(&self.silent), _room: room }
    }
}

/// The place of a connection, given back by `Drop`.
#[derive(Debug)]
pub struct Place {
    leave: Arc<CancellationToken>,
    silent: Arc<Silents>,
    _room: Room,
}

impl Place {
    /// The connection has sent its request: it keeps its place.
    pub fn spoke(&self) {
        self.silent.remove(&self.leave);
    }

    /// Completes when the connection has to make room. Cancel-safe.
    pub async fn leave(&self) {
        self.leave.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.silent.remove(&self.leave);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_is_silent_longest_makes_room_and_whoever_has_asked_does_not() {
        let places = Places::new(2);
        let asked = places.take(places.room().await);
        asked.spoke();
        let silent = places.take(places.room().await);
        let next = places.room();
        tokio::pin!(next);
        assert!(futures_util::poll!(&mut next).is_pending(), "both places are taken");
        silent.leave().await;
        drop(silent);
        let third = places.take(next.await);
        assert!(!asked.leave.is_cancelled() && !third.leave.is_cancelled());
        drop((asked, third));
        assert!(places.silent.0.lock().is_empty());
        assert_eq!(places.free.available_permits(), 2);
    }
}
