//! Listening sockets that outlive the process: opened, or taken over from an earlier daemon, and kept for the next one.
//!
//! Promises: the service manager keeps the sockets that this process listens on, and no others.

use std::net::TcpListener;
use std::os::fd::{AsFd as _, OwnedFd};

use tracing::{info, warn};

use super::{AppError, answering};
use crate::config::Config;
use crate::dataplane::responder::ResponderNetns;
use crate::sockets::kept::{Kept, Listening};
use crate::sockets::store;

/// Names, and copies of listening sockets.
pub(super) type Copies = Vec<(String, OwnedFd)>;

/// Sockets of a former daemon, and those that are in use already.
#[derive(Debug)]
pub(super) struct Listeners {
    /// Those of a former daemon.
    pub(super) kept: Kept,
    used: Copies,
    /// Of these, those that the service manager does not keep yet.
    new: Vec<String>,
}

impl Listeners {
    /// Returns what the service manager has kept, if anything.
    pub(super) fn in_store() -> Self {
        Self::of(store::kept().unwrap_or_else(|error| {
            warn!(%error, "cannot use the sockets that the service manager has kept: opening new ones");
            Kept::default()
        }))
    }

    /// Returns these.
    pub(super) fn of(kept: Kept) -> Self {
        Self { kept, used: Vec::new(), new: Vec::new() }
    }

    /// Returns the socket, and has it kept if it is new.
    pub(super) fn use_socket(&mut self, listening: Listening<TcpListener>) -> TcpListener {
        let Listening { name, socket, was_kept } = listening;
        match socket.as_fd().try_clone_to_owned() {
            Ok(copy) => {
                self.new.extend((!was_kept).then(|| name.clone()));
                self.used.push((name, copy));
            }
            Err(error) => warn!(%error, name, "a listening socket cannot be kept: a restart will refuse connections"),
        }
        socket
    }

    /// Makes or takes the sockets that guests connect to: one of each kind for each thread.
    pub(super) fn guests(&mut self, config: &Config, netns: &ResponderNetns) -> Result<answering::Sockets, AppError> {
        let (threads, patience) = (config.http.threads, config.http.idle_timeout);
        let mut listen = |port| -> Result<Vec<_>, AppError> {
            let sockets = netns.listen(port, threads, patience, &mut self.kept)?;
            let kept = sockets.iter().filter(|socket| socket.was_kept).count();
            if kept > 0 {
                info!(port, kept, opened = sockets.len() - kept, "listening where a former daemon did");
            }
            Ok(sockets.into_iter().map(|socket| self.use_socket(socket)).collect())
        };
        let plain = listen(config.responder.port)?;
        let tls = config.https.as_ref().map(|https| listen(https.port)).transpose()?;
        Ok(answering::Sockets { plain, tls: tls.unwrap_or_default() })
    }

    /// Closes sockets that are no longer used, has the service manager keep the new ones, and returns copies of all for the next daemon.
    pub(super) fn settle(self) -> Copies {
        // First, as new ones may have the same names.
        for (name, unfit) in self.kept.close() {
            info!(name, "closed a socket of a former daemon: {unfit}");
            if let Err(error) = store::remove(&name) {
                warn!(%error, name, "cannot remove a socket from the service manager's store");
            }
        }
        for (name, socket) in self.used.iter().filter(|(name, _)| self.new.contains(name)) {
            if let Err(error) = store::put(name, socket) {
                warn!(%error, name, "a listening socket cannot be kept: a restart will refuse connections");
            }
        }
        self.used
    }
}
