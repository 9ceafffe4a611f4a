//! Which instance a tag belongs to, and for how long.
//!
//! Promises:
//! - a tag is the name of one binding of one interface; it is bound to at most one instance in its whole life, and never
//!   used again, so an answer found through a tag is never another instance's;
//! - when a binding ends, its leases are cancelled: connections that hold one close without another byte;
//! - an unknown tag is refused; its instance is never guessed.
//!
//! Left out: how tags come to be (`port`) and what an instance may read (`store`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio_util::sync::CancellationToken;

use crate::record::{InstanceId, PortId};
use crate::table::Table;

/// The number in an identity address: see [`metadata_ebpf::addr`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(pub u32);

/// What a tag is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// This port of this instance.
    Bound {
        /// The instance that is served.
        instance: InstanceId,
        /// The port, for logs; `None`: the observer that reports the instance of this tap does not report the port.
        port: Option<PortId>,
    },
    /// No instance yet, or none for certain: the answer is 503, so that the guest asks again.
    Held,
}

#[derive(Debug)]
struct Binding {
    identity: ArcSwap<Identity>,
    /// Wakes those who wait for another identity.
    bound: Notify,
    /// Set before `ended` is cancelled: requests look at it, and it takes no lock.
    has_ended: AtomicBool,
    ended: CancellationToken,
    /// The guest used its last connection for more than one request.
    keeps_connections: AtomicBool,
}

/// A connection's lease on a binding. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Lease(Arc<Binding>);

impl Lease {
    /// Returns what the tag is bound to now; `None` once the binding has ended.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        (!self.has_ended()).then(|| self.last_identity())
    }

    /// Returns what the tag is bound to, or was when its binding ended: for records of what happened, not for answers.
    #[must_use]
    pub fn last_identity(&self) -> Identity {
        **self.0.identity.load()
    }

    /// Completes when the binding gets another identity after this call, polled before or not. Cancel-safe.
    pub fn next_identity(&self) -> Notified<'_> {
        self.0.bound.notified()
    }

    /// Returns whether the binding has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.0.has_ended.load(Ordering::Acquire)
    }

    /// Returns whether the guest used the connection that ended last for more than one request.
    #[must_use]
    pub fn keeps_connections(&self) -> bool {
        self.0.keeps_connections.load(Ordering::Relaxed)
    }

    /// Notes that of a connection that ends.
    pub fn note_kept(&self, is_kept: bool) {
        // Mostly it is as before, and other threads read it.
        if self.keeps_connections() != is_kept {
            self.0.keeps_connections.store(is_kept, Ordering::Relaxed);
        }
    }

    /// Completes when the binding has ended. Cancel-safe.
    pub async fn ended(&self) {
        self.0.ended.cancelled().await;
    }
}

/// All live bindings. Written by the ports' task, read by connections.
#[derive(Debug, Default)]
pub struct Identities {
    bindings: Table<Tag, Arc<Binding>>,
}

impl Identities {
    /// Returns an empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a lease on the tag's binding, or `None` if the tag is not bound (any more).
    #[must_use]
    pub fn lease(&self, tag: Tag) -> Option<Lease> {
        self.bindings.get(&tag).map(|binding| Lease(Arc::clone(&binding)))
    }

    /// Adds a binding, gives a held one its instance, or one without a known port its port.
    ///
    /// # Errors
    /// [`Rebound`] if the tag is already bound to another instance or port: that needs a new tag.
    pub fn bind(&self, tag: Tag, identity: Identity) -> Result<(), Rebound> {
        let binding = self.bindings.entry(tag).or_insert_with(|| {
            Arc::new(Binding {
                identity: ArcSwap::from_pointee(Identity::Held),
                bound: Notify::new(),
                has_ended: AtomicBool::new(false),
                ended: CancellationToken::new(),
                keeps_connections: AtomicBool::new(false),
            })
        });
        let current = binding.identity.load_full();
        if *current == identity {
            return Ok(());
        }
        let may_become = match (&*current, &identity) {
            (Identity::Held, _) => true,
            (Identity::Bound { instance, port: None }, Identity::Bound { instance: next, .. }) => instance == next,
            _ => false,
        };
        if !may_become {
            return Err(Rebound { tag });
        }
        binding.identity.store(Arc::new(identity));
        binding.bound.notify_waiters();
        Ok(())
    }

    /// Ends a binding: its leases are cancelled and the tag is unknown from here on.
    pub fn end(&self, tag: Tag) {
        if let Some((_, binding)) = self.bindings.remove(&tag) {
            binding.has_ended.store(true, Ordering::Release);
            binding.ended.cancel();
        }
    }

    /// Returns the number of live bindings.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bindings.len()
    }

    /// Returns whether there is no live binding.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bindings.is_empty()
    }
}

/// A tag was about to be bound to another instance or port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tag {} is already bound to another port", tag.0)]
pub struct Rebound {
    /// The tag.
    pub tag: Tag,
}
