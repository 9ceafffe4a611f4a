//! Paths of the service's own, beyond Nova's trees.

/// A path of the service's own. What is there is in `extensions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// `/openstack/latest/capabilities`: what this node offers, with its limits.
    Capabilities,
}

impl Own {
    /// Returns what is at a path below `openstack/`.
    pub(super) fn in_openstack(path: &str) -> Option<Self> {
        (path == "latest/capabilities").then_some(Self::Capabilities)
    }
}
