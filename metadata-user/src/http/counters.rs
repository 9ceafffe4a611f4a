//! What happened on guests' connections.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// The statuses that are counted one by one; others share the last place.
const STATUSES: [u16; 12] = [200, 400, 401, 403, 404, 405, 409, 411, 413, 431, 500, 503];

/// Counters of all guests together.
#[derive(Debug, Default)]
pub struct Counters {
    pub(super) accepted: AtomicU64,
    pub(super) refused_unknown: AtomicU64,
    pub(super) refused_port_limit: AtomicU64,
    pub(super) refused_total_limit: AtomicU64,
    pub(super) gave_way: AtomicU64,
    pub(super) binding_ended: AtomicU64,
    pub(super) timed_out: AtomicU64,
    pub(super) malformed: AtomicU64,
    pub(super) claimed_identity: AtomicU64,
    pub(super) waited: AtomicU64,
    answers: [AtomicU64; STATUSES.len() + 1],
}

/// The counters' values at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Connections now.
    pub open: usize,
    /// Connections that were accepted.
    pub accepted: u64,
    /// Connections refused because nobody is known behind their address.
    pub refused_unknown: u64,
    /// Connections refused because their port has too many.
    pub refused_port_limit: u64,
    /// Connections refused because there are too many in all.
    pub refused_total_limit: u64,
    /// Idle connections that were closed because another needed their place.
    pub gave_way: u64,
    /// Connections cut because their binding ended.
    pub binding_ended: u64,
    /// Connections closed because nothing came, or too slowly.
    pub timed_out: u64,
    /// Connections closed because what came was not HTTP.
    pub malformed: u64,
    /// Requests with a header by which Neutron's agents tell Nova who is asking. From a guest it means nothing.
    pub claimed_identity: u64,
    /// Requests that came before their content, and waited for it.
    pub waited: u64,
    /// Answers by status; 0 stands for all statuses that have no place of their own.
    pub answers: BTreeMap<u16, u64>,
}

/// Adds one.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counters {
    pub(super) fn answered(&self, status: u16) {
        let place = STATUSES.iter().position(|known| *known == status).unwrap_or(STATUSES.len());
        count(&self.answers[place]);
    }

    pub(super) fn snapshot(&self, open: usize) -> Snapshot {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Snapshot {
            open,
            accepted: value(&self.accepted),
            refused_unknown: value(&self.refused_unknown),
            refused_port_limit: value(&self.refused_port_limit),
            refused_total_limit: value(&self.refused_total_limit),
            gave_way: value(&self.gave_way),
            binding_ended: value(&self.binding_ended),
            timed_out: value(&self.timed_out),
            malformed: value(&self.malformed),
            claimed_identity: value(&self.claimed_identity),
            waited: value(&self.waited),
            answers: STATUSES
                .into_iter()
                .chain([0])
                .zip(&self.answers)
                .map(|(status, counter)| (status, value(counter)))
                .filter(|(_, count)| *count > 0)
                .collect(),
        }
    }
}
