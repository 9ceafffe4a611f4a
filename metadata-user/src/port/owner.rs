//! The owner of a tag, and when a tag may stay with its tap.
//!
//! Promises: a tag that carried the data of an instance is never kept for another instance or port.

use crate::record::{InstanceId, PortId};

/// The owner of a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The instance.
    pub instance: InstanceId,
    /// The port; `None` if only the kernel knows of the binding, which keeps no ports, or an observer that does not know it.
    pub port: Option<PortId>,
}

/// Tells whether a tag may stay when its tap goes from one owner to another (`None`: held).
///
/// A held tag never carried an instance's data, so it may become any instance's; an instance's tag stays only its own.
#[must_use]
pub(super) fn keeps_tag(current: Option<Owner>, next: Option<Owner>) -> bool {
    match (current, next) {
        (None, _) => true,
        (Some(current), Some(next)) => {
            current.instance == next.instance && (current.port.is_none() || current.port == next.port)
        }
        (Some(_), None) => false,
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::store::tests::id;

    fn owner(instance: u128, number: Option<u128>) -> Option<Owner> {
        Some(Owner { instance: id(instance), port: number.map(|number| PortId(Uuid::from_u128(number))) })
    }

    #[test]
    fn a_tag_stays_with_its_instance_and_port() {
        for (current, next, expected) in [
            (None, None, true),
            (None, owner(1, Some(1)), true),
            (None, owner(1, None), true),
            (owner(1, Some(1)), owner(1, Some(1)), true),
            (owner(1, None), owner(1, Some(1)), true),
            (owner(1, None), owner(1, None), true),
            (owner(1, Some(1)), owner(1, None), false),
            (owner(1, Some(1)), owner(2, Some(1)), false),
            (owner(1, None), owner(2, Some(1)), false),
            (owner(1, None), owner(2, None), false),
            (owner(1, Some(1)), owner(1, Some(2)), false),
            (owner(1, Some(1)), None, false),
        ] {
            assert_eq!(keeps_tag(current, next), expected, "{current:?} to {next:?}");
        }
    }
}
