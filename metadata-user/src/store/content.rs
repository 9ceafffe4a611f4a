//! What the store holds of an instance: a record with its renderings, or answers that are copied.

use std::sync::Arc;

use crate::api::{NovaPages, RenderedInstance};
use crate::policy::PolicyOverrides;
use crate::record::InstanceId;

/// An instance. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Content {
    /// Answers are rendered from a document.
    Rendered(Arc<RenderedInstance>),
    /// Answers are those of an unchanged OpenStack.
    NovaPages(Arc<NovaPages>),
}

impl Content {
    /// Returns the instance's id.
    #[must_use]
    pub fn uuid(&self) -> InstanceId {
        match self {
            Self::Rendered(instance) => instance.record().uuid,
            Self::NovaPages(copied) => copied.uuid(),
        }
    }

    /// Returns what the instance may do, where that differs from the configuration.
    #[must_use]
    pub fn policy(&self) -> PolicyOverrides {
        match self {
            Self::Rendered(instance) => instance.record().policy,
            Self::NovaPages(_) => PolicyOverrides::default(),
        }
    }

    /// Returns the answers from a document, if they are such.
    #[must_use]
    pub fn rendered(self) -> Option<Arc<RenderedInstance>> {
        match self {
            Self::Rendered(instance) => Some(instance),
            Self::NovaPages(_) => None,
        }
    }

    /// Returns the copied answers, if they are such.
    #[must_use]
    pub fn nova_pages(self) -> Option<Arc<NovaPages>> {
        match self {
            Self::Rendered(_) => None,
            Self::NovaPages(copied) => Some(copied),
        }
    }
}
