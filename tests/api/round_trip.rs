//! Documents of every shape, to records and back; to answers and back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use metadata_user::source::wire;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::derive;
use crate::properties::document;

/// Returns a document of which every port has an id of its own.
fn valid() -> impl Strategy<Value = Value> {
    document().prop_map(|mut document| {
        if let Some(ports) = document["ports"].as_array_mut() {
            ports.dedup_by(|a, b| a["id"] == b["id"]);
        }
        document
    })
}

/// Returns the address of this number in a network, as far as the network has so many.
fn address(cidr: &str, number: usize) -> Option<String> {
    let (network, length) = cidr.split_once('/')?;
    let length: u32 = length.parse().ok()?;
    let number = u128::try_from(number).ok()?;
    let address: IpAddr = match network.parse().ok()? {
        IpAddr::V4(network) => {
            let host = u32::MAX.checked_shr(length).unwrap_or(0);
            Ipv4Addr::from(u32::from(network) & !host | u32::try_from(number).ok()? & host).into()
        }
        IpAddr::V6(network) => {
            let host = u128::MAX.checked_shr(length).unwrap_or(0);
            Ipv6Addr::from(u128::from(network) & !host | number & host).into()
        }
    };
    Some(address.to_string())
}

/// Returns a document of which every address is in its subnet, as in Neutron.
fn of_neutron() -> impl Strategy<Value = Value> {
    valid().prop_map(|mut document| {
        for port in document["ports"].as_array_mut().into_iter().flatten() {
            let subnets = port["network"]["subnets"].clone();
            for (number, ip) in port["fixed_ips"].as_array_mut().into_iter().flatten().enumerate() {
                let subnet = ip["subnet_id"].as_str().and_then(|id| id.parse::<usize>().ok());
                let cidr = subnet.and_then(|place| subnets[place]["cidr"].as_str());
                if let Some(address) = cidr.and_then(|cidr| address(cidr, number + 2)) {
                    ip["ip_address"] = json!(address);
                }
            }
        }
        document
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_record_that_is_written_reads_back_as_it_was(document in valid()) {
        let record = wire::parse(document.to_string().as_bytes()).unwrap();
        let mut written = Vec::new();
        wire::write(&record, &mut written).unwrap();
        prop_assert!(!written.contains(&b'\n'));
        prop_assert_eq!(&wire::parse(&written).unwrap(), &record);
        let short = wire::document(&record).unwrap();
        prop_assert_eq!(&wire::parse(&short).unwrap(), &record);
        let short = serde_json::from_slice::<Value>(&short).unwrap().to_string();
        prop_assert!(short.len() < written.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_a_document_renders_to_becomes_a_document_without_pages(document in of_neutron()) {
        derive::check(&document, false).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn what_any_document_renders_to_becomes_a_document(document in valid()) {
        derive::check(&document, true).map_err(TestCaseError::fail)?;
    }
}
