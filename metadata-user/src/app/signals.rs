//! The signals that the daemon reacts to: those that end it, and SIGHUP, which reloads its configuration.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::reload::Reloader;

/// The signals that end the daemon, and the one that it reloads on.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for a signal that ends the daemon, and returns its name. SIGHUP reloads the configuration meanwhile.
    pub(super) async fn next(&mut self, reloader: &mut Reloader) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hang_up.recv() => reloader.reload().await,
            }
        }
    }
}
