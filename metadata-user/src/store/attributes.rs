//! What guests wrote about themselves: kept beside the slots, so that an instance without any costs nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Change, Store};
use crate::record::{AttributeError, Attributes, InstanceId};

impl Store {
    /// Returns what an instance's guest wrote; `None`: nothing.
    #[must_use]
    pub fn attributes(&self, id: InstanceId) -> Option<Arc<Attributes>> {
        self.attributes.get(&id).map(|attributes| Arc::clone(&attributes))
    }

    /// Changes what an instance's guest wrote. `change` says whether it changed anything, and so does this.
    ///
    /// # Errors
    /// Those of `change`; [`AttributeError::NoInstance`] if the instance is gone.
    pub fn change_attributes(
        &self,
        id: InstanceId,
        change: impl FnOnce(&mut Attributes) -> Result<bool, AttributeError>,
    ) -> Result<bool, AttributeError> {
        let mut index = self.lock();
        self.served(id).ok_or(AttributeError::NoInstance)?;
        let mut attributes = self.attributes(id).map(Arc::unwrap_or_clone).unwrap_or_default();
        if !change(&mut attributes)? {
            return Ok(false);
        }
        if attributes.is_empty() {
            self.attributes.remove(&id);
        } else {
            self.attributes.insert(id, Arc::new(attributes));
        }
        index.revision.changes += 1;
        index.subscribers.publish(&Change { instance: id, taps: BTreeSet::new(), document: false, removed: false });
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use crate::api::Cloud;
    use crate::record::AttributeError;
    use crate::store::Store;
    use crate::store::tests::{id, record};

    #[test]
    fn attributes_are_of_an_instance_that_is_there_and_go_with_it() {
        let store = Store::new(Cloud::default());
        let write = || store.change_attributes(id(1), |attributes| attributes.set("a", "b", "c", 1));
        assert_eq!(write(), Err(AttributeError::NoInstance));
        store.put(record(1, "p", &["tap1"]));
        let before = store.revision();
        assert_eq!((write(), write()), (Ok(true), Ok(false)));
        assert_eq!(store.revision().changes, before.changes + 1, "the snapshot is written once");
        let generation = store.generation(id(1));
        assert!(store.kept()[0].attributes.is_some());
        store.put(record(1, "other", &["tap1"]));
        assert!(
            store.attributes(id(1)).is_some() && store.generation(id(1)) > generation,
            "another document keeps them"
        );
        store.remove(id(1));
        assert_eq!(store.attributes(id(1)), None);
        store.put(record(1, "p", &["tap1"]));
        assert_eq!(store.attributes(id(1)), None);
        assert!(store.attributes.is_empty());
    }
}
