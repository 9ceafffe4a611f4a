//! Paths of the service's own, beyond Nova's trees.

/// A path of the service's own. What is there is in `extensions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// `/openstack/latest/capabilities`: what this node offers, with its limits.
    Capabilities,
    /// `/openstack/latest/events`: maintenance that is scheduled.
    Events,
    /// `/latest/meta-data/tags` and what is below: the instance's tags.
    Tags,
}

/// Where the tags are. EC2 has them in its newest version.
pub(super) const TAGS: &str = "latest/meta-data/tags";

impl Own {
    /// Returns what is at a path below `openstack/`.
    pub(super) fn in_openstack(path: &str) -> Option<Self> {
        match path {
            "latest/capabilities" => Some(Self::Capabilities),
            "latest/events" => Some(Self::Events),
            _ => None,
        }
    }

    /// Returns what is at a path of the EC2 tree.
    pub(super) fn in_ec2(path: &str) -> Option<Self> {
        let rest = path.strip_prefix(TAGS)?;
        (rest.is_empty() || rest.starts_with('/')).then_some(Self::Tags)
    }
}
