//! An instance's content, of whichever kind, and the one question that is asked of it: what becomes of a request.
//!
//! Promises: whoever answers guests sees a [`Reply`], and never which kind of content it came from.

use std::sync::Arc;

use super::{Answer, NovaPages, Page, RenderedInstance, Request, Write};
use crate::policy::PolicyOverrides;
use crate::record::{InstanceId, Notices, PortRecord, ProjectId};

/// The content of an instance. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Content {
    /// Answers are rendered from a document.
    Rendered(Arc<RenderedInstance>),
    /// Answers are those of an unchanged OpenStack.
    NovaPages(Arc<NovaPages>),
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// This answer.
    Answer(Answer),
    /// Keep what the guest wrote; [`super::Written::answer`] is the answer.
    Keep(Write),
    /// Only the controller knows: let it read this path, then ask again.
    Fetch(String),
}

impl Reply {
    /// Returns the answer, if nothing has to be done before it.
    #[must_use]
    pub fn into_answer(self) -> Option<Answer> {
        match self {
            Self::Answer(answer) => Some(answer),
            Self::Keep(_) | Self::Fetch(_) => None,
        }
    }
}

impl Content {
    /// Returns what becomes of a request.
    #[must_use]
    pub fn reply(&self, request: &Request<'_>) -> Reply {
        match self {
            Self::Rendered(instance) => instance.reply(request),
            Self::NovaPages(pages) => pages.reply(request),
        }
    }

    /// Returns the instance's id.
    #[must_use]
    pub fn uuid(&self) -> InstanceId {
        match self {
            Self::Rendered(instance) => instance.record().uuid,
            Self::NovaPages(pages) => pages.uuid(),
        }
    }

    /// Returns the instance's project, where it is known.
    #[must_use]
    pub fn project(&self) -> Option<&ProjectId> {
        match self {
            Self::Rendered(instance) => Some(&instance.record().project_id),
            Self::NovaPages(pages) => pages.project(),
        }
    }

    /// Returns what its document says beyond what Nova has; `None`: nothing.
    #[must_use]
    pub fn notices(&self) -> Option<&Notices> {
        match self {
            Self::Rendered(instance) => instance.record().notices.as_deref(),
            Self::NovaPages(_) => None,
        }
    }

    /// Returns the names of the taps that its document gives to its ports; none where there is no document.
    #[must_use]
    pub fn taps(&self) -> Vec<String> {
        match self {
            Self::Rendered(instance) => instance.record().ports.iter().map(PortRecord::device_name).collect(),
            Self::NovaPages(_) => Vec::new(),
        }
    }

    /// Tells whether this is the instance's host name, with or without its domain, or the name that its owner gave it.
    #[must_use]
    pub fn is_named(&self, name: &str) -> bool {
        let is_host = |host: &str| host == name || host.split_once('.').is_some_and(|(host, _)| host == name);
        match self {
            Self::Rendered(instance) => {
                is_host(&instance.hostname()) || instance.record().display_name.as_deref() == Some(name)
            }
            Self::NovaPages(pages) => pages.page("latest/meta-data/hostname").and_then(Page::text).is_some_and(is_host),
        }
    }

    /// Returns what the guest reads as its password; `None`: there is none.
    #[must_use]
    pub fn password(&self) -> Option<String> {
        match self {
            Self::Rendered(instance) => instance.password().map(|password| password.as_str().to_owned()),
            Self::NovaPages(pages) => {
                let password = pages.password();
                (!password.is_empty()).then(|| String::from_utf8_lossy(&password).into_owned())
            }
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

    /// Tells whether user data and image are those of an earlier content of the instance, as far as both are known. If not,
    /// it is being rebuilt, and boots for the first time again.
    #[must_use]
    pub fn boots_as(&self, earlier: &Self) -> bool {
        match (self, earlier) {
            (Self::Rendered(this), Self::Rendered(earlier)) => {
                let (this, earlier) = (this.record(), earlier.record());
                this.user_data == earlier.user_data && this.image_ref == earlier.image_ref
            }
            (Self::NovaPages(this), Self::NovaPages(earlier)) => {
                ["latest/user-data", "latest/meta-data/ami-id"].into_iter().all(|path| {
                    let both = this.page(path).zip(earlier.page(path));
                    both.is_none_or(|(this, earlier)| this == earlier)
                })
            }
            // Another source of the same instance.
            (Self::Rendered(_), Self::NovaPages(_)) | (Self::NovaPages(_), Self::Rendered(_)) => true,
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

    /// Returns Nova's pages, if they are such.
    #[must_use]
    pub fn nova_pages(self) -> Option<Arc<NovaPages>> {
        match self {
            Self::Rendered(_) => None,
            Self::NovaPages(pages) => Some(pages),
        }
    }
}
