//! Which cloud a Nova answers for: told from another one, or from a Nova whose database was lost, by the ids of its services.
//!
//! Nova gives each of its services (conductors, schedulers, compute services) an id when the service first reports, in the
//! database of its cell. It is random, never changes, survives upgrades, renamed endpoints and a restored backup, and a fresh
//! database does not have it; the database of the API has to be intact as well, since it says where the cells are. No single id need live
//! for years: a cloud is the same as long as it still has half of the ids that were kept, and whoever keeps them keeps newer ones as
//! hosts come and go.
//!
//! Left out, since they do not tell: Keystone's catalogue (the same before a fresh Nova), flavors and aggregates (chosen by
//! operators, or none).

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use uuid::Uuid;

/// Most ids that are kept: enough to outlive the replacement of hosts, and small in etcd (2.4 KB).
const KEPT: usize = 64;

/// The ids of Nova's services: what a cloud is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudId(BTreeSet<Uuid>);

/// A text that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the identity of a cloud: ids of Nova's services, separated by blanks")]
pub struct CloudIdError;

/// `GET /os-services`.
#[derive(Debug, Deserialize)]
pub(super) struct ServicesAnswer {
    services: Vec<ServiceFields>,
}

#[derive(Debug, Deserialize)]
struct ServiceFields {
    /// Absent where the service's cell is down.
    id: Option<Uuid>,
}

impl ServicesAnswer {
    /// Returns the cloud; `None` without any service.
    pub(super) fn cloud(self) -> Option<CloudId> {
        let ids: BTreeSet<Uuid> = self.services.into_iter().filter_map(|service| service.id).collect();
        (!ids.is_empty()).then_some(CloudId(ids))
    }
}

impl CloudId {
    /// Returns whether a Nova that has the services `now` is the cloud that this was taken from.
    #[must_use]
    pub fn is_still(&self, now: &Self) -> bool {
        let left = self.0.intersection(&now.0).count();
        2 * left >= self.0.len() && left > 0
    }
}

/// A sample of the ids: always the same ones as long as they are there.
impl fmt::Display for CloudId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, id) in self.0.iter().take(KEPT).enumerate() {
            let blank = if number == 0 { "" } else { " " };
            write!(f, "{blank}{id}")?;
        }
        Ok(())
    }
}

impl FromStr for CloudId {
    type Err = CloudIdError;

    fn from_str(text: &str) -> Result<Self, CloudIdError> {
        let ids: Result<BTreeSet<Uuid>, _> = text.split_ascii_whitespace().map(Uuid::parse_str).collect();
        ids.ok().filter(|ids| !ids.is_empty()).map(Self).ok_or(CloudIdError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cloud(ids: std::ops::Range<u128>) -> CloudId {
        CloudId(ids.map(Uuid::from_u128).collect())
    }

    #[test]
    fn a_cloud_outlives_its_hosts_and_a_fresh_database_is_another() {
        let kept: CloudId = cloud(0..200).to_string().parse().expect("an identity");
        assert_eq!(kept, cloud(0..64));
        assert!(kept.is_still(&cloud(0..200)) && kept.is_still(&cloud(30..230)));
        assert!(!kept.is_still(&cloud(1000..1200)) && !kept.is_still(&cloud(60..260)));
        assert!(cloud(0..1).is_still(&cloud(0..1)) && !cloud(0..1).is_still(&cloud(1..2)));
        assert_eq!("".parse::<CloudId>(), Err(CloudIdError));
        assert_eq!("x".parse::<CloudId>(), Err(CloudIdError));
    }

    #[test]
    fn services_of_a_cell_that_is_down_do_not_count() {
        let answer = |text: &str| serde_json::from_str::<ServicesAnswer>(text).expect("an answer").cloud();
        let one = r#"{"services": [{"binary": "nova-compute", "host": "a", "status": "UNKNOWN"},
            {"id": "00000000-0000-0000-0000-000000000000", "binary": "nova-conductor"}]}"#;
        assert_eq!(answer(one), Some(cloud(0..1)));
        assert_eq!(answer(r#"{"services": []}"#), None);
    }
}
