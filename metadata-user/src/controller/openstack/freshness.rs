//! Whether what Nova's metadata API answers is older than what its compute API says: pure.
//!
//! Each worker of Nova's metadata API keeps an instance for `metadata_cache_expiration` (15 s by default) and knows of no change
//! meanwhile; the compute API reads the database. So what both say is compared. What only the metadata API says (block devices,
//! user data, keys) is read again when the cache is over.
//!
//! Left out: what the two may say differently for good, such as the availability zone.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::server::{Server, ServerAddress};
use crate::api::Page;

/// Returns what is older in these pages, if anything is.
pub(super) fn behind(server: &Server, pages: &BTreeMap<String, Page>) -> Option<&'static str> {
    let documents = pages.iter().filter(|(path, _)| path.ends_with("/meta_data.json"));
    documents
        .filter_map(|(_, page)| in_meta_data(server, page))
        .chain(in_network_data(server, pages))
        .chain(in_ec2(server, pages))
        .next()
}

/// Returns what is older in a `meta_data.json`.
pub(super) fn in_meta_data(server: &Server, page: &Page) -> Option<&'static str> {
    let found: Value = serde_json::from_slice(page.body()).ok()?;
    let text = |key: &str| found.get(key).and_then(Value::as_str);
    let no_properties = serde_json::Map::new();
    let properties = found.get("meta").and_then(Value::as_object).unwrap_or(&no_properties);
    let same = properties.len() == server.metadata.len()
        && server.metadata.iter().all(|(key, value)| properties.get(key).and_then(Value::as_str) == Some(value));
    if !same {
        return Some("properties");
    }
    if text("name").is_some_and(|name| name != server.name) {
        return Some("the name");
    }
    // Nova may add a domain to it.
    let hostname = server.hostname.as_deref().zip(text("hostname"));
    hostname.is_some_and(|(expected, found)| !found.starts_with(expected)).then_some("the host name")
}

/// Returns whether interfaces that Nova has are missing.
fn in_network_data(server: &Server, pages: &BTreeMap<String, Page>) -> Option<&'static str> {
    let found: Value = serde_json::from_slice(pages.get("openstack/latest/network_data.json")?.body()).ok()?;
    let links = found.get("links")?.as_array()?;
    let macs: BTreeSet<String> = links
        .iter()
        .filter_map(|link| link.get("ethernet_mac_address")?.as_str().map(str::to_ascii_lowercase))
        .collect();
    let mut expected = server.addresses.iter().filter_map(|address| address.mac.as_deref());
    expected.any(|mac| !macs.contains(&mac.to_ascii_lowercase())).then_some("interfaces")
}

fn in_ec2(server: &Server, pages: &BTreeMap<String, Page>) -> Option<&'static str> {
    let text = |name: &str| pages.get(&format!("latest/meta-data/{name}")).filter(|page| page.is_found())?.text();
    let ipv4 = |is_floating| {
        let fitting = move |address: &&ServerAddress| address.is_floating == is_floating && address.address.is_ipv4();
        server.addresses.iter().filter(fitting).map(|address| address.address.to_string()).collect::<BTreeSet<_>>()
    };
    if let Some(found) = text("public-ipv4")
        && !fits(found, &ipv4(true))
    {
        return Some("floating IPs");
    }
    if let Some(found) = text("local-ipv4")
        && !ipv4(false).is_empty()
        && !fits(found, &ipv4(false))
    {
        return Some("fixed addresses");
    }
    if let (Some(found), Some(expected)) = (text("security-groups"), &server.security_groups)
        && found.lines().collect::<BTreeSet<_>>() != expected.iter().map(String::as_str).collect()
    {
        return Some("security groups");
    }
    let flavor = text("instance-type").zip(server.flavor.as_deref());
    flavor.is_some_and(|(found, expected)| found != expected).then_some("the flavor")
}

/// Returns whether a page with one address, or none, fits what there is.
fn fits(found: &str, expected: &BTreeSet<String>) -> bool {
    if expected.is_empty() { found.is_empty() } else { expected.contains(found) }
}

#[cfg(test)]
mod tests {
    use super::super::server::tests::server;
    use super::*;

    fn pages(changed: &[(&str, &str)]) -> BTreeMap<String, Page> {
        let meta_data = r#"{"meta": {"role": "web"}, "name": "web 1", "hostname": "web-1.novalocal"}"#;
        let mut pages = BTreeMap::from([
            ("openstack/latest/meta_data.json", meta_data),
            ("openstack/2012-08-10/meta_data.json", meta_data),
            ("openstack/latest/network_data.json", r#"{"links": [{"ethernet_mac_address": "fa:16:3e:00:00:01"}]}"#),
            ("latest/meta-data/public-ipv4", "203.0.113.5"),
            ("latest/meta-data/local-ipv4", "10.0.0.5"),
            ("latest/meta-data/security-groups", "default\nweb"),
            ("latest/meta-data/instance-type", "m1.small"),
        ]);
        pages.extend(changed.iter().copied());
        let page = |body: &str| Page::found(Some("text/plain"), bytes::Bytes::copy_from_slice(body.as_bytes()));
        pages.into_iter().map(|(path, body)| (path.to_owned(), page(body))).collect()
    }

    #[test]
    fn what_is_older_is_named() {
        assert_eq!(behind(&server(), &pages(&[])), None);
        for (path, body, expected) in [
            ("openstack/2012-08-10/meta_data.json", r#"{"meta": {"role": "db"}, "name": "web 1"}"#, "properties"),
            ("openstack/latest/meta_data.json", r#"{"name": "web 1"}"#, "properties"),
            ("openstack/latest/meta_data.json", r#"{"meta": {"role": "web"}, "name": "old"}"#, "the name"),
            ("openstack/latest/network_data.json", r#"{"links": []}"#, "interfaces"),
            ("latest/meta-data/public-ipv4", "", "floating IPs"),
            ("latest/meta-data/public-ipv4", "203.0.113.6", "floating IPs"),
            ("latest/meta-data/local-ipv4", "10.0.0.6", "fixed addresses"),
            ("latest/meta-data/security-groups", "default", "security groups"),
            ("latest/meta-data/instance-type", "m1.tiny", "the flavor"),
        ] {
            assert_eq!(behind(&server(), &pages(&[(path, body)])), Some(expected), "{path} {body}");
        }
    }

    #[test]
    fn what_nova_does_not_say_is_not_compared() {
        let mut server = server();
        server.security_groups = None;
        server.flavor = None;
        let pages = pages(&[("latest/meta-data/security-groups", ""), ("latest/meta-data/instance-type", "x")]);
        assert_eq!(behind(&server, &pages), None);
    }
}
