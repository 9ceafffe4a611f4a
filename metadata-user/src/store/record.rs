//! What the daemon knows of an instance. No serialisation: the wire form is `source::wire`.

use uuid::Uuid;

/// An instance's UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceId(pub Uuid);

/// A port's UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId(pub Uuid);
