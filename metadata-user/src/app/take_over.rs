//! A take-over, in the new daemon: `metadatad run --take-over`. [`super::hand_over`] has the order of steps.
//!
//! Promises: until [`TakeOver::commit`] the other daemon continues if this one exits, whatever the reason; if none runs, this one starts
//! as usual.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::hand_over::READY;
use super::{AppError, Shared, late};
use crate::admin::client::{Client, ClientError};
use crate::admin::socket::Beside;
use crate::privilege;
use crate::sockets::kept::Kept;
use crate::sockets::passing;
use crate::store::Store;
use crate::worker::Worker;

/// How long the other daemon may take to write its snapshot and to pause its ports.
const LETTING_GO: Duration = Duration::from_secs(60);

/// How long the other daemon may still answer on the admin socket, after it has closed the connection to this one, if it is stopping:
/// longer than the default of `http.drain_timeout`.
const ENDING: Duration = Duration::from_secs(10);

/// Pause between two checks.
const LOOK: Duration = Duration::from_millis(100);

/// Why a take-over failed.
#[derive(Debug, thiserror::Error)]
pub enum TakeOverError {
    /// The running daemon cannot be asked, or refuses.
    #[error(
        "asking the running daemon to hand over; if its version does not support that, stop it and start this one without --take-over"
    )]
    Asking(#[source] ClientError),
    /// It did not send its sockets, or disconnected too early.
    #[error("taking over from the running daemon")]
    Stream(#[source] io::Error),
}

/// The end of a take-over.
pub(super) type TakenOver = oneshot::Receiver<Result<(), TakeOverError>>;

/// A take-over in progress.
pub(super) struct TakeOver {
    stream: UnixStream,
}

impl TakeOver {
    /// Asks the running daemon, and returns its listening sockets; `None`: no daemon runs.
    pub(super) async fn begin(socket: &Path) -> Result<Option<(Self, Kept)>, TakeOverError> {
        let stream = match Client::new(socket).take_over().await {
            Ok(stream) => stream,
            Err(ClientError::Unreachable { .. }) => {
                info!("no daemon to take over from: starting as usual");
                return Ok(None);
            }
            Err(error) => return Err(TakeOverError::Asking(error)),
        };
        Self::receive(stream).map(Some).map_err(TakeOverError::Stream)
    }

    fn receive(stream: std::os::unix::net::UnixStream) -> io::Result<(Self, Kept)> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(LETTING_GO))?;
        let sockets = passing::receive(&stream)?;
        info!(sockets = sockets.len(), "taking over from the running daemon");
        stream.set_nonblocking(true)?;
        Ok((Self { stream: UnixStream::from_std(stream)? }, Kept::new(sockets)))
    }

    /// Ends the other daemon as soon as guests are answered here. A thread of its own does so, which may rename the admin socket, and
    /// keeps what the other daemon passes on last. The receiver gets an error if the other daemon continues.
    pub(super) fn commit(self, admin: Beside, shared: &Shared) -> Result<TakenOver, AppError> {
        let (readiness, store) = (shared.readiness.clone(), Arc::clone(&shared.store));
        let (sender, taken_over) = oneshot::channel();
        let worker = Worker::spawn_as(&privilege::TAKE_OVER, "take-over", async move |_| {
            readiness.not_waiting_for("ports").await;
            // The receiver is gone during shutdown.
            let _ = sender.send(self.end_other(admin, &store).await);
        });
        worker.map_err(AppError::Runtime)?.detach();
        Ok(taken_over)
    }

    async fn end_other(mut self, admin: Beside, store: &Store) -> Result<(), TakeOverError> {
        if let Err(error) = self.stream.write_u8(READY).await {
            if !ends(&admin).await {
                return Err(TakeOverError::Stream(error));
            }
            warn!(%error, "the other daemon exited by itself");
        }
        if let Err(error) = admin.replace() {
            warn!(%error, "the admin socket cannot be renamed: it keeps the suffix .new");
        }
        info!("taken over: the other daemon finishes its connections");
        let mut text = Vec::new();
        match self.stream.read_to_end(&mut text).await.map(|_| serde_json::from_slice(&text)) {
            Ok(Ok(late)) => late::keep(late, store),
            Ok(Err(error)) => {
                warn!(%error, "the last passwords and first reads of user data at the other daemon are lost")
            }
            Err(error) => warn!(%error, "the last passwords and first reads of user data at the other daemon are lost"),
        }
        info!("the other daemon has exited");
        Ok(())
    }
}

/// Tells whether the other daemon is stopping: it may have got a signal, and finishes its connections first.
async fn ends(admin: &Beside) -> bool {
    let deadline = Instant::now() + ENDING;
    while admin.is_answered() {
        if Instant::now() >= deadline {
            return false;
        }
        sleep(LOOK).await;
    }
    true
}

/// Completes with the error of a take-over that has failed; never otherwise.
pub(super) async fn failed(taken_over: Option<&mut TakenOver>) -> Result<Infallible, TakeOverError> {
    let Some(taken_over) = taken_over else { return pending().await };
    match taken_over.await {
        Ok(Err(error)) => Err(error),
        _ => pending().await,
    }
}
