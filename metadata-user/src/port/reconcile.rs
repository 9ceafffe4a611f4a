//! What a tap should be: a pure decision from the documents that name it.

use super::Owner;
use crate::{
    config::{self, Unbound},
    store::Claim,
};

/// What a tap should be.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// Served with this claim's instance.
    Bound(Claim),
    /// Answered with 503.
    Held,
    /// Not touched.
    Passed,
    /// Answered with 503, for this reason.
    Refused(String),
}

/// Decides from the claims of all documents on a tap.
#[must_use]
pub fn wanted(claims: &[Claim], rules: &config::Ports) -> Wanted {
    match claims {
        [] => match rules.unbound {
            Unbound::Hold => Wanted::Held,
            Unbound::Pass => Wanted::Passed,
        },
        [claim] => Wanted::Bound(claim.clone()),
        several => {
            let ports: Vec<_> = several
                .iter()
                .map(|claim| format!("port {} of instance {}", claim.port.id.0, claim.instance.0))
                .collect();
            Wanted::Refused(format!("claimed by {}: remove all but one", ports.join(" and ")))
        }
    }
}

/// Tells whether a tag may stay when its tap goes from one owner to another (`None`: held).
///
/// A held tag never carried an instance's data, so it may become anybody's; an instance's stays only its own.
#[must_use]
pub fn keeps_tag(current: Option<Owner>, next: Option<Owner>) -> bool {
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
    use crate::store::record::{InstanceId, PortId};

    fn owner(instance: u128, port: Option<u128>) -> Option<Owner> {
        Some(Owner {
            instance: InstanceId(Uuid::from_u128(instance)),
            port: port.map(|id| PortId(Uuid::from_u128(id))),
        })
    }

    #[test]
    fn a_tag_stays_with_its_instance_and_port() {
        for (current, next, expected) in [
            (None, None, true),
            (None, owner(1, Some(1)), true),
            (owner(1, Some(1)), owner(1, Some(1)), true),
            (owner(1, None), owner(1, Some(1)), true),
            (owner(1, Some(1)), owner(2, Some(1)), false),
            (owner(1, None), owner(2, Some(1)), false),
            (owner(1, Some(1)), owner(1, Some(2)), false),
            (owner(1, Some(1)), None, false),
        ] {
            assert_eq!(keeps_tag(current, next), expected, "{current:?} to {next:?}");
        }
    }
}
