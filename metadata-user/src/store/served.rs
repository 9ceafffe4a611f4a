//! What the store holds of an instance: a record with its renderings, or answers that are copied.

use std::sync::Arc;

use super::record::InstanceId;
use crate::api::{Copied, Instance};

/// An instance. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Served {
    /// Answers are rendered from a document.
    Record(Arc<Instance>),
    /// Answers are those of an unchanged OpenStack.
    Copied(Arc<Copied>),
}

impl Served {
    /// Returns the instance's id.
    #[must_use]
    pub fn uuid(&self) -> InstanceId {
        match self {
            Self::Record(instance) => instance.record().uuid,
            Self::Copied(copied) => copied.uuid(),
        }
    }

    /// Returns the answers from a document, if they are such.
    #[must_use]
    pub fn record(self) -> Option<Arc<Instance>> {
        match self {
            Self::Record(instance) => Some(instance),
            Self::Copied(_) => None,
        }
    }

    /// Returns the copied answers, if they are such.
    #[must_use]
    pub fn copied(self) -> Option<Arc<Copied>> {
        match self {
            Self::Record(_) => None,
            Self::Copied(copied) => Some(copied),
        }
    }
}
