//! What changes in the store, as a stream: one for all who follow it.
//!
//! Promises: every change reaches every subscriber, or a later change of the same instance that includes it; a slow
//! subscriber holds one entry for each instance that changed, however often it did, and gives the memory back when it has
//! read them; changes come in the order in which their instances first changed.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::record::InstanceId;

/// What changed of an instance since the subscriber last heard of it. What it is now, the store tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The instance.
    pub instance: InstanceId,
    /// Taps that a document names, and whose claims or policy may have changed.
    pub taps: BTreeSet<String>,
    /// Whether its document, or what Nova answers for it, came, changed or went. If not, only its posted password or its
    /// dynamic vendor data changed.
    pub document: bool,
    /// Whether it went, even if it came back since.
    pub removed: bool,
}

/// Most entries for which memory is kept when nothing is pending.
const KEPT: usize = 64;

impl Change {
    /// Adds a later change of the same instance.
    fn merge(&mut self, later: &Self) {
        self.taps.extend(later.taps.iter().cloned());
        self.document |= later.document;
        self.removed |= later.removed;
    }
}

/// The changes that a subscriber has not read.
#[derive(Debug, Default)]
struct Pending {
    order: VecDeque<InstanceId>,
    changes: HashMap<InstanceId, Change>,
    closed: bool,
}

impl Pending {
    /// Takes the first ones, at most this many.
    fn take(&mut self, most: usize) -> Vec<Change> {
        let Self { order, changes, .. } = self;
        let count = most.min(order.len());
        let taken = order.drain(..count).filter_map(|instance| changes.remove(&instance)).collect();
        if order.is_empty() {
            // All instances change at a start, and then hardly any.
            order.shrink_to(KEPT);
            changes.shrink_to(KEPT);
        }
        taken
    }
}

#[derive(Debug, Default)]
struct Queue {
    pending: Mutex<Pending>,
    wake: Notify,
}

/// A subscriber's end.
#[derive(Debug)]
pub struct Changes(Arc<Queue>);

impl Changes {
    /// Waits for changes and returns them, at most `most` at a time; `None` when the store is gone. Cancel-safe.
    pub async fn next(&mut self, most: usize) -> Option<Vec<Change>> {
        loop {
            {
                let mut pending = self.0.pending.lock();
                if most > 0 && !pending.order.is_empty() {
                    return Some(pending.take(most));
                }
                if pending.closed {
                    return None;
                }
            }
            // A change since then has left a permit.
            self.0.wake.notified().await;
        }
    }

    /// Returns the changes that are there, without waiting.
    pub fn take(&mut self) -> Vec<Change> {
        self.0.pending.lock().take(usize::MAX)
    }
}

/// All subscribers. Dropping it ends their streams, after what they have not read.
#[derive(Debug, Default)]
pub(super) struct Subscribers(Vec<Weak<Queue>>);

impl Subscribers {
    pub(super) fn add(&mut self) -> Changes {
        let queue = Arc::new(Queue::default());
        self.0.push(Arc::downgrade(&queue));
        Changes(queue)
    }

    pub(super) fn publish(&mut self, change: &Change) {
        self.0.retain(|queue| {
            let Some(queue) = queue.upgrade() else { return false };
            {
                let mut pending = queue.pending.lock();
                let Pending { order, changes, .. } = &mut *pending;
                changes.entry(change.instance).and_modify(|known| known.merge(change)).or_insert_with(|| {
                    order.push_back(change.instance);
                    change.clone()
                });
            }
            queue.wake.notify_one();
            true
        });
    }
}

impl Drop for Subscribers {
    fn drop(&mut self) {
        for queue in self.0.iter().filter_map(Weak::upgrade) {
            queue.pending.lock().closed = true;
            queue.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::id;

    fn change(instance: u128, tap: Option<&str>, removed: bool) -> Change {
        let taps = tap.into_iter().map(ToOwned::to_owned).collect();
        Change { instance: id(instance), taps, document: tap.is_some(), removed }
    }

    #[tokio::test]
    async fn a_slow_subscriber_holds_one_entry_for_each_instance() {
        let mut subscribers = Subscribers::default();
        let (mut slow, other) = (subscribers.add(), subscribers.add());
        drop(other);
        for round in 0..10_000 {
            subscribers.publish(&change(2, None, false));
            subscribers.publish(&change(1, Some(if round % 2 == 0 { "a" } else { "b" }), round == 5));
        }
        assert_eq!(subscribers.0.len(), 1);
        let one = slow.next(1).await.expect("a change");
        assert_eq!(one, [change(2, None, false)], "the first to change comes first");
        let rest = slow.next(9).await.expect("a change");
        let taps = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        assert_eq!(rest, [Change { instance: id(1), taps, document: true, removed: true }]);
        subscribers.publish(&change(3, None, true));
        drop(subscribers);
        assert_eq!(slow.next(9).await.expect("what was there before the end"), [change(3, None, true)]);
        assert_eq!(slow.next(9).await, None);
    }

    #[tokio::test]
    async fn a_change_while_nobody_waits_wakes_the_next_wait() {
        let mut subscribers = Subscribers::default();
        let mut changes = subscribers.add();
        for round in 1..100 {
            let waiting = tokio::spawn(async move { (changes.next(9).await, changes) });
            if round % 2 == 0 {
                tokio::task::yield_now().await;
            }
            subscribers.publish(&change(round, None, false));
            let (seen, back) = waiting.await.expect("no panic");
            assert_eq!(seen.expect("a change"), [change(round, None, false)]);
            changes = back;
        }
    }
}
