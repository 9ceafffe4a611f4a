//! Who is asking, and what they may read.

use std::future::{Future, ready};
use std::sync::Arc;

use crate::api::Date;
use crate::clock;
use crate::identity::{Identity, Lease};
use crate::origin::{Origin, Outcome, Want};
use crate::policy::PolicyOverrides;
use crate::record::InstanceId;
use crate::store::{Content, Store};

/// What may be read on a connection.
pub trait Access: Send + Sync + 'static {
    /// Says who is asking, now.
    fn resolve(&self) -> Resolution;

    /// Keeps the password that the guest posted, unless there is one. Returns whether it is kept.
    fn keep_password(&self, instance: InstanceId, password: Arc<str>) -> bool;

    /// Asks the controller, and waits for what becomes of it.
    fn ask(&self, _: InstanceId, _: Want) -> impl Future<Output = Outcome> + Send {
        ready(Outcome::Unavailable)
    }

    /// Returns the date, UTC.
    fn today(&self) -> Date {
        clock::today()
    }

    /// Completes when nothing may be read any more.
    fn ended(&self) -> impl Future<Output = ()> + Send;

    /// Names the connection in the log.
    fn name(&self) -> u32;
}

/// Who is asking.
#[derive(Clone, Debug)]
pub enum Resolution {
    /// Nobody any more: close without an answer.
    Ended,
    /// Somebody whose content is not there (yet).
    NotReady,
    /// This instance.
    Ready(Content),
}

/// What the holder of a lease may read.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) tag: u32,
    pub(super) lease: Lease,
    pub(super) store: Arc<Store>,
    pub(super) origin: Option<Origin>,
}

impl Guest {
    /// Returns what the connection's instance may do, where that differs from the configuration.
    pub(super) fn policy(&self) -> PolicyOverrides {
        match self.resolve() {
            Resolution::Ready(content) => content.policy(),
            Resolution::NotReady | Resolution::Ended => PolicyOverrides::default(),
        }
    }
}

impl Access for Guest {
    fn resolve(&self) -> Resolution {
        let Some(identity) = self.lease.identity() else {
            return Resolution::Ended;
        };
        match &*identity {
            Identity::Held => Resolution::NotReady,
            Identity::Bound { instance, .. } => {
                self.store.served(*instance).map_or(Resolution::NotReady, Resolution::Ready)
            }
        }
    }

    fn keep_password(&self, instance: InstanceId, password: Arc<str>) -> bool {
        self.store.set_password(instance, password)
    }

    async fn ask(&self, instance: InstanceId, want: Want) -> Outcome {
        match &self.origin {
            Some(origin) => origin.ask(instance, want).await,
            None => Outcome::Unavailable,
        }
    }

    async fn ended(&self) {
        self.lease.ended().await;
    }

    fn name(&self) -> u32 {
        self.tag
    }
}
