//! The slot of one instance: its content, the generation of that, when its user data was first read, and the wake-up of those
//! who wait for it.
//!
//! Promises: a wake-up concerns one instance; what changes between a look and the wait for the next change wakes too; a
//! slot that nobody waits for costs no more than its content, and one without content exists only while somebody waits.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use crate::api::Content;

/// A slot.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// `None`: the instance is not known (yet, or any more).
    content: Option<Content>,
    generation: u64,
    /// In seconds of Unix time.
    user_data_read: Option<u64>,
    waiting: Option<Waiting>,
}

/// Those who wait for a slot.
#[derive(Debug)]
struct Waiting {
    wake: Arc<Notify>,
    count: usize,
}

impl Slot {
    /// Returns the content, if there is one.
    pub(super) fn content(&self) -> Option<&Content> {
        self.content.as_ref()
    }

    /// Returns the number of the store's change that this content is from.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns when the user data was first read, in seconds of Unix time.
    pub(super) fn user_data_read(&self) -> Option<u64> {
        self.user_data_read
    }

    /// Changes when the user data was first read; `None`: not yet.
    pub(super) fn set_user_data_read(&mut self, at: Option<u64>) {
        self.user_data_read = at;
    }

    /// Changes the content, and wakes those who wait for that. User data that changed has not been read yet.
    pub(super) fn set(&mut self, content: Option<Content>, generation: u64) {
        let is_same_boot = self.content.as_ref().zip(content.as_ref()).is_some_and(|(old, new)| new.boots_as(old));
        if !is_same_boot {
            self.user_data_read = None;
        }
        self.content = content;
        self.generation = generation;
        if let Some(waiting) = &self.waiting {
            waiting.wake.notify_waiters();
        }
    }

    /// Tells whether the slot may go: it has no content, and nobody waits for it.
    pub(super) fn is_unused(&self) -> bool {
        self.content.is_none() && self.waiting.is_none()
    }

    /// Adds one who waits: [`Self::leave`] must follow.
    pub(super) fn join(&mut self) {
        let new = || Waiting { wake: Arc::new(Notify::new()), count: 0 };
        self.waiting.get_or_insert_with(new).count += 1;
    }

    /// Removes one who waited.
    pub(super) fn leave(&mut self) {
        if let Some(waiting) = &mut self.waiting {
            waiting.count -= 1;
            if waiting.count == 0 {
                self.waiting = None;
            }
        }
    }

    /// Returns the next change from this call on; `None` if nobody has joined.
    pub(super) fn next_change(&self) -> Option<OwnedNotified> {
        // `notify_waiters` wakes what was made before it, polled or not.
        self.waiting.as_ref().map(|waiting| Arc::clone(&waiting.wake).notified_owned())
    }
}
