//! When the content of an instance is removed: it is not on this node any more, or Nova does not know it.
//!
//! Promises: nothing is removed that Nova could not supply again, and nothing for a Nova that knows no instance at all.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::MutexGuard;
use tracing::info;

use super::local_instance::InstanceState;
use super::{AGAIN, Shared, spread};
use crate::record::InstanceId;

/// Number of other instances that Nova is asked for before its 404 for an instance is believed.
const COMPARED: usize = 3;

impl Shared {
    /// Queues instances for the removal of their content, unless they are local again by then.
    pub(super) fn leave(&self, ids: Vec<InstanceId>) {
        if !ids.is_empty() {
            self.lock_leaving().extend(ids);
            self.left.notify_one();
        }
    }

    /// Removes the content of instances that are no longer local, once Nova answers and could supply it again: until then
    /// it is all that a returning guest has.
    pub(super) async fn sweep(self: Arc<Self>) {
        loop {
            self.left.notified().await;
            loop {
                let mut leaving: Vec<_> = std::mem::take(&mut *self.lock_leaving()).into_iter().collect();
                leaving.retain(|id| !self.lock().contains_key(id) && self.store.served(*id).is_some());
                let Some(one) = leaving.first().copied() else { break };
                if self.client.answers(one).await {
                    leaving.retain(|id| !self.lock().contains_key(id) && self.store.remove(*id));
                    if !leaving.is_empty() {
                        info!(
                            instances = leaving.len(),
                            "content of instances that are no longer on this node is removed"
                        );
                    }
                } else {
                    self.lock_leaving().extend(leaving);
                    tokio::time::sleep(spread(AGAIN)).await;
                }
                self.publish();
            }
        }
    }

    /// Returns whether Nova knows another local instance, or there is none to compare with. A Nova that has lost its
    /// database, or no longer reads the instance from the headers, answers 404 for every instance.
    pub(super) async fn knows_another(&self, id: InstanceId) -> bool {
        let mut others: Vec<_> = {
            let tasks = self.lock();
            let others = tasks.iter().filter(|(other, _)| **other != id);
            others
                .filter_map(|(_, other)| Some((other.state() != InstanceState::Current, other.requester()?)))
                .collect()
        };
        others.sort_unstable_by_key(|(is_doubtful, who)| (*is_doubtful, who.instance));
        for (_, who) in others.iter().take(COMPARED) {
            if self.client.knows(who).await {
                return true;
            }
        }
        others.is_empty()
    }

    fn lock_leaving(&self) -> MutexGuard<'_, BTreeSet<InstanceId>> {
        self.leaving.lock()
    }
}
