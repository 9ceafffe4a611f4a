//! Which subnet of a port's network an address belongs to.
//!
//! Promises: finding a subnet takes time bounded by the number of prefix lengths, not by the number of subnets.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;

use super::super::document::SubnetDocument;
use super::super::work;

/// The subnets that a document gives, by id and by network. Of equal ones the first counts.
#[derive(Default)]
pub(super) struct Index {
    by_id: HashMap<Box<str>, usize>,
    by_network: HashMap<IpNet, usize>,
    prefix_lengths: BTreeSet<u8>,
}

impl Index {
    /// Indexes subnets.
    pub(super) fn of(subnets: &[SubnetDocument]) -> Self {
        let mut index = Self::default();
        for (place, subnet) in subnets.iter().enumerate() {
            work::step();
            if let Some(id) = &subnet.id {
                index.by_id.entry(id.clone()).or_insert(place);
            }
            index.by_network.entry(subnet.cidr.0.trunc()).or_insert(place);
            index.prefix_lengths.insert(subnet.cidr.0.prefix_len());
        }
        index
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_network.is_empty()
    }

    /// Returns the first subnet with an id.
    pub(super) fn with_id(&self, id: &str) -> Option<usize> {
        work::step();
        self.by_id.get(id).copied()
    }

    /// Returns the first subnet that holds an address.
    pub(super) fn that_holds(&self, address: IpAddr) -> Option<usize> {
        let networks = self.prefix_lengths.iter().filter_map(|length| IpNet::new(address, *length).ok());
        networks
            .filter_map(|network| {
                work::step();
                self.by_network.get(&network.trunc()).copied()
            })
            .min()
    }
}
