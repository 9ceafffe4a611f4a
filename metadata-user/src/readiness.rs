//! Readiness: whether the daemon has everything that it needs before a guest may be answered.
//!
//! Promises: the daemon becomes ready when the last [`Blocker`] is dropped, and stays ready; every blocker has a name.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

#[derive(Debug, Default)]
struct Shared {
    pending: Mutex<Vec<&'static str>>,
    changed: Notify,
}

/// The state of readiness. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Shared>);

/// Something that readiness waits for, until it is dropped.
#[derive(Debug)]
#[must_use = "readiness waits only while this lives"]
pub struct Blocker {
    name: &'static str,
    shared: Arc<Shared>,
}

impl Readiness {
    /// Returns a state that nothing blocks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds something to wait for. Take all blockers before the first is dropped.
    pub fn wait_for(&self, name: &'static str) -> Blocker {
        self.lock().push(name);
        Blocker { name, shared: Arc::clone(&self.0) }
    }

    /// Returns the names of the remaining blockers, oldest first; none when ready.
    #[must_use]
    pub fn pending(&self) -> Vec<&'static str> {
        self.lock().clone()
    }

    /// Completes when no blocker is left. Cancel-safe.
    pub async fn ready(&self) {
        self.until(|pending| pending.is_empty()).await;
    }

    /// Completes when no blocker of this name is left. Cancel-safe.
    pub async fn not_waiting_for(&self, name: &'static str) {
        self.until(|pending| !pending.contains(&name)).await;
    }

    async fn until(&self, condition: impl Fn(&[&'static str]) -> bool) {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            // Registered before the check, so that a blocker dropped in between is not missed.
            changed.as_mut().enable();
            if condition(&self.lock()) {
                return;
            }
            changed.await;
        }
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, Vec<&'static str>> {
        self.0.pending.lock()
    }
}

impl Drop for Blocker {
    fn drop(&mut self) {
        let mut pending = self.shared.pending.lock();
        if let Some(at) = pending.iter().position(|name| *name == self.name) {
            pending.remove(at);
        }
        drop(pending);
        self.shared.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::Readiness;

    #[tokio::test]
    async fn ready_when_the_last_blocker_is_dropped() {
        let readiness = Readiness::new();
        let (source, ports) = (readiness.wait_for("source"), readiness.wait_for("ports"));
        assert_eq!(readiness.pending(), ["source", "ports"]);
        let waiting = tokio::spawn({
            let readiness = readiness.clone();
            async move { readiness.ready().await }
        });
        drop(source);
        tokio::task::yield_now().await;
        assert_eq!(readiness.pending(), ["ports"]);
        assert!(!waiting.is_finished());
        drop(ports);
        waiting.await.expect("becomes ready");
        readiness.ready().await;
    }
}
