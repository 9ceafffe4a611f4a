//! What is measured.

use std::time::Duration;

/// The size of the cloud, and what becomes of it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Instances.
    pub instances: u32,
    /// Compute hosts.
    pub nodes: u32,
    /// Instances that change at once.
    pub changes: u32,
    /// Instances that change one after the other.
    pub paced: u32,
    /// How many of these a second.
    pub pace: u32,
    /// Whether each phase waits for all that comes of it before the next begins.
    pub settles: bool,
    /// How long nothing changes.
    pub quiet: Duration,
    /// The controller's `reconcile.requests_per_second`.
    pub rate: u32,
    /// The controller's `reconcile.requests`.
    pub requests: u32,
    /// The controller's `reconcile.list_interval`, in whole seconds.
    pub list_interval: Duration,
    /// How long Nova's metadata API remembers an instance.
    pub cache: Duration,
    /// The time that each request takes in OpenStack.
    pub delay: Duration,
}

impl Plan {
    /// Returns the controller's table `[reconcile]`.
    pub(super) fn reconcile(&self) -> String {
        format!(
            "[reconcile]\nrequests_per_second = {}\nrequests = {}\nlist_interval = {}\n",
            self.rate,
            self.requests,
            self.list_interval.as_secs()
        )
    }

    /// Returns for how long there must be no request for a quiet period to begin. Listings and slow reads go on.
    pub(super) fn calm(&self) -> Duration {
        (self.list_interval / 4).min(Duration::from_secs(2))
    }
}
