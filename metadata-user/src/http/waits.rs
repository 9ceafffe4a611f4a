//! How many requests wait for a change, of each instance and in all.
//!
//! Promises: no more of an instance than its policy allows; an instance of which none waits costs nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::mapref::entry::Entry;

use crate::record::InstanceId;
use crate::table::Table;

/// The requests that wait now.
#[derive(Debug, Default)]
pub(super) struct Waits {
    by_instance: Table<InstanceId, usize>,
    open: AtomicUsize,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct WaitPlace {
    waits: Arc<Waits>,
    instance: InstanceId,
}

impl Waits {
    /// Lets a request of an instance wait; `None`: as many do as may.
    pub(super) fn enter(self: &Arc<Self>, instance: InstanceId, most: usize) -> Option<WaitPlace> {
        match self.by_instance.entry(instance) {
            Entry::Occupied(count) if *count.get() >= most => return None,
            Entry::Vacant(_) if most == 0 => return None,
            entry => *entry.or_default() += 1,
        }
        self.open.fetch_add(1, Ordering::Relaxed);
        Some(WaitPlace { waits: Arc::clone(self), instance })
    }

    /// Returns how many there are.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

impl Drop for WaitPlace {
    fn drop(&mut self) {
        let Self { waits, instance } = self;
        waits.open.fetch_sub(1, Ordering::Relaxed);
        if let Entry::Occupied(mut count) = waits.by_instance.entry(*instance) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_counted_by_instance_and_those_that_ended_cost_nothing() {
        let (waits, [one, other]) = (Arc::<Waits>::default(), [1, 2].map(|id| InstanceId(uuid::Uuid::from_u128(id))));
        assert!(waits.enter(one, 0).is_none());
        let first = waits.enter(one, 2).expect("a place");
        let second = waits.enter(one, 2).expect("a place");
        assert!(waits.enter(one, 2).is_none());
        let third = waits.enter(other, 1).expect("another instance's");
        assert_eq!(waits.open(), 3);
        drop(second);
        let again = waits.enter(one, 2).expect("given back");
        drop((first, third, again));
        assert!(waits.open() == 0 && waits.by_instance.is_empty());
    }
}
