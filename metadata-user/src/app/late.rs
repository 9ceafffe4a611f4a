//! What guests did at the old daemon of a take-over between its last snapshot and its exit: passwords that they posted, first reads of
//! user data, and attributes that they wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::admin::wire::{GuestAttributes, Late, Password, UserData};
use crate::api::{self, Content};
use crate::record::{Attributes, InstanceId};
use crate::store::{Kept, Store};

/// What was known at one moment.
#[derive(Debug)]
pub(super) struct Known {
    posted: BTreeSet<InstanceId>,
    read: BTreeSet<InstanceId>,
    attributes: BTreeMap<InstanceId, Arc<Attributes>>,
}

impl Known {
    /// Returns what a store knows now.
    pub(super) fn of(store: &Store) -> Self {
        let (mut posted, mut read, mut attributes) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
        for kept in store.kept() {
            let id = kept.content.uuid();
            posted.extend(posted_text(&kept).map(|_| id));
            read.extend(kept.user_data_read.map(|_| id));
            attributes.extend(kept.attributes.map(|attributes| (id, attributes)));
        }
        Self { posted, read, attributes }
    }

    /// Returns what the store has come to know since.
    pub(super) fn since(&self, store: &Store) -> Late {
        let mut late = Late::default();
        for kept in store.kept() {
            let id = kept.content.uuid();
            if let Some(text) = posted_text(&kept).filter(|_| !self.posted.contains(&id)) {
                late.passwords.push(Password::new(id.to_string(), Some(text)));
            }
            if let Some(at) = kept.user_data_read.filter(|_| !self.read.contains(&id)) {
                late.user_data.push(UserData { instance: id.to_string(), read_at: Some(at) });
            }
            if kept.attributes != self.attributes.get(&id).cloned() {
                let attributes = kept.attributes.as_ref().map(|attributes| attributes.texts()).unwrap_or_default();
                late.attributes.push(GuestAttributes { instance: id.to_string(), attributes });
            }
        }
        late
    }
}

/// Adds it to a store, except what that knows already.
pub(super) fn keep(late: Late, store: &Store) {
    for Password { instance, password, .. } in late.passwords {
        let password = password.and_then(api::Password::new);
        if let (Ok(id), Some(password)) = (instance.parse(), password) {
            store.set_password(id, password);
        }
    }
    for UserData { instance, read_at } in late.user_data {
        if let (Ok(id), Some(at)) = (instance.parse(), read_at) {
            store.note_user_data_read(id, at);
        }
    }
    for GuestAttributes { instance, attributes } in late.attributes {
        if let Ok(id) = instance.parse() {
            // The instance may be gone.
            let _ = store.change_attributes(id, |kept| {
                *kept = Attributes::of_texts(&attributes);
                Ok(true)
            });
        }
    }
}

/// Nova keeps what is posted to its instances.
fn posted_text(kept: &Kept) -> Option<String> {
    match &kept.content {
        Content::Rendered(instance) => instance.posted().map(|password| password.as_str().to_owned()),
        Content::NovaPages(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Cloud;
    use crate::store::tests::{id, record};

    fn store() -> Store {
        let store = Store::new(Cloud::default());
        for number in 1..=3 {
            store.put(record(number, "p", &[]));
        }
        store
    }

    fn password(text: &str) -> api::Password {
        api::Password::new(text.to_owned()).expect("a password")
    }

    #[test]
    fn what_was_not_known_is_handed_on_and_kept_where_it_is_not_known() {
        let (old, new) = (store(), store());
        old.set_password(id(1), password("early"));
        old.note_user_data_read(id(1), 10);
        let known = Known::of(&old);
        assert_eq!(known.since(&old), Late::default());
        old.set_password(id(2), password("late"));
        old.note_user_data_read(id(3), 20);
        new.note_user_data_read(id(3), 21);
        old.change_attributes(id(2), |attributes| attributes.set("a", "b", "c", 1)).expect("kept");
        keep(known.since(&old), &new);
        let posted = |number| new.get(id(number)).and_then(|instance| instance.posted().cloned());
        assert_eq!([posted(1), posted(2), posted(3)], [None, Some(password("late")), None]);
        assert_eq!(new.attributes(id(2)), old.attributes(id(2)));
        assert_eq!([1, 2, 3].map(|number| new.user_data_read(id(number))), [None, None, Some(21)]);
    }
}
