//! Paths of the service's own, beyond Nova's trees.

/// A path of the service's own. What is there is in `extensions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// `/openstack/latest/capabilities`: what this node offers, with its limits.
    Capabilities,
    /// `/openstack/latest/events`: maintenance that is scheduled.
    Events,
    /// `/openstack/latest/events/ID/acknowledge`: where the guest acknowledges one of them.
    Acknowledgement,
    /// `/latest/meta-data/tags` and what is below: the instance's tags.
    Tags,
    /// `/openstack/latest/guest-attributes` and what is below: what the guest writes for its operator.
    Attributes,
    /// `/openstack/latest/identity`: a token that says what the instance is, signed.
    Token,
    /// `dynamic` of a version of the EC2 tree, and what is below: the instance identity document.
    Dynamic,
}

/// Where the tags are. EC2 has them in its newest version.
pub(super) const TAGS: &str = "latest/meta-data/tags";

/// Where the guest's attributes are, below `openstack/`.
pub(super) const ATTRIBUTES: &str = "latest/guest-attributes";

/// Where EC2's instance identity document is, below a version.
pub(super) const DYNAMIC: &str = "dynamic";
/// The directory below [`DYNAMIC`].
pub(super) const INSTANCE_IDENTITY: &str = "instance-identity";

impl Own {
    /// Returns what is at a path below `openstack/`.
    pub(super) fn in_openstack(path: &str) -> Option<Self> {
        match path {
            "latest/capabilities" => Some(Self::Capabilities),
            "latest/events" => Some(Self::Events),
            "latest/identity" => Some(Self::Token),
            _ if is_at(path, ATTRIBUTES) => Some(Self::Attributes),
            _ => acknowledged(path).map(|_| Self::Acknowledgement),
        }
    }

    /// Returns what is at a path of the EC2 tree.
    pub(super) fn in_ec2(path: &str) -> Option<Self> {
        if is_at(path, TAGS) {
            return Some(Self::Tags);
        }
        let is_dynamic = path.split_once('/').is_some_and(|(_, rest)| is_at(rest, DYNAMIC));
        is_dynamic.then_some(Self::Dynamic)
    }

    /// Tells whether what is there is signed, which `http` does.
    #[must_use]
    pub fn is_signed(self) -> bool {
        match self {
            Self::Capabilities | Self::Events | Self::Acknowledgement | Self::Tags | Self::Attributes => false,
            Self::Token | Self::Dynamic => true,
        }
    }
}

/// Returns the id of the event that is acknowledged at a path below `openstack/`.
fn acknowledged(path: &str) -> Option<&str> {
    let id = path.strip_prefix("latest/events/")?.strip_suffix("/acknowledge")?;
    (!id.contains('/')).then_some(id)
}

/// Returns the id of the event that a request for this target acknowledges.
#[must_use]
pub fn acknowledged_event(target: &str) -> Option<String> {
    let path = super::route::path(target)?;
    acknowledged(path.strip_prefix("openstack/")?).map(str::to_owned)
}

/// Tells whether a path is this place, or below it.
fn is_at(path: &str, place: &str) -> bool {
    path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
