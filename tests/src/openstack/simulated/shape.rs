//! Instances of the shapes that `tests/golden` has, as many as are wanted: a document each, and no two alike.
//!
//! Promises: what Nova answers for such a document is known byte for byte (`tests/api` compares each case); the same number
//! gives the same instance.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use metadata_user::record::InstanceRecord;
use metadata_user::source::wire;
use serde_json::{Value, json};
use uuid::{Builder, Uuid};

use crate::golden::Golden;

/// The cases, of which all have the settings of Nova's defaults; half of all instances are of the first.
const CASES: [&str; 10] = [
    "plain",
    "multi-nic",
    "plain",
    "block-devices",
    "plain",
    "gzip-userdata",
    "plain",
    "ipv6-only",
    "plain",
    "injected",
];
/// Names of keys that instances share: a key's name is in Nova's listings.
const KEYS: u32 = 40;
/// Instances of a project.
const OF_PROJECT: u32 = 20;

/// Documents to make others from.
#[derive(Debug)]
pub(super) struct Shapes(Vec<Value>);

impl Shapes {
    /// Reads the cases.
    pub(super) fn read() -> Result<Self> {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
        let read = |case: &&str| {
            let path = golden.join(case).join("instance.json");
            let text = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            Ok(Golden::from_facts(&text)?.document)
        };
        Ok(Self(CASES.iter().map(read).collect::<Result<_>>()?))
    }

    /// Makes the instance of a number.
    pub(super) fn make(&self, number: u32) -> Result<InstanceRecord> {
        let shape = &self.0[number as usize % self.0.len()];
        let mut text = shape.to_string();
        let mut rename = |from: &Value, to: &str| {
            if let Some(from) = from.as_str().filter(|from| !from.is_empty()) {
                text = text.replace(from, to);
            }
        };
        for (place, port) in (0u32..).zip(shape["ports"].as_array().into_iter().flatten()) {
            rename(&port["id"], &uuid("port", number * 8 + place).to_string());
            let [_, a, b, c] = (number * 8 + place).to_be_bytes();
            rename(&port["mac_address"], &format!("fa:16:3e:{a:02x}:{b:02x}:{c:02x}"));
        }
        rename(&shape["uuid"], &uuid("server", number).to_string());
        let project = number / OF_PROJECT;
        rename(&shape["project_id"], &uuid("project", project).simple().to_string());
        let mut document: Value = serde_json::from_str(&text).context("reading a document that was renamed")?;
        document["display_name"] = json!(format!("server-{number}"));
        document["hostname"] = json!(format!("server-{number}"));
        document["metadata"] = json!({"role": "web", "sequence": "0"});
        document["ec2_ids"]["instance_id"] = json!(format!("i-{number:08x}"));
        if document["key_name"].is_string() {
            let key = format!("key-{}", project % KEYS);
            document["keypairs"][0]["name"] = json!(key);
            document["key_name"] = json!(key);
        }
        if document["user_data_b64"].is_null() && number.is_multiple_of(2) {
            let line = "# a line of user data as people write them, more or less\n";
            document["user_data_b64"] = json!(STANDARD.encode(format!("#cloud-config\n{}", line.repeat(26))));
        }
        float(&mut document, number);
        wire::parse(document.to_string().as_bytes()).context("reading a simulated instance's document")
    }
}

/// Gives an instance floating IPs of its own where its shape has some; and one to each third other.
fn float(document: &mut Value, number: u32) {
    let own = json!(std::net::Ipv4Addr::from_bits(0x6440_0000 + number).to_string());
    let mut given = false;
    for fixed in document["ports"].as_array_mut().into_iter().flatten() {
        for fixed in fixed["fixed_ips"].as_array_mut().into_iter().flatten() {
            let is_ipv4 = fixed["ip_address"].as_str().is_some_and(|address| address.contains('.'));
            let had = fixed["floating_ips"].as_array().is_some_and(|floating| !floating.is_empty());
            let gets = is_ipv4 && !given && (had || number.is_multiple_of(3));
            fixed["floating_ips"] = if gets { json!([own]) } else { json!([]) };
            given |= gets;
        }
    }
}

/// Returns an id that is always the same and in no order.
pub(super) fn uuid(kind: &str, number: u32) -> Uuid {
    let mut bytes = [0; 16];
    // FNV-1a, twice.
    for (half, salt) in bytes.chunks_mut(8).zip([0u8, 1]) {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in kind.bytes().chain(number.to_be_bytes()).chain([salt]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        // Its low bits differ most.
        half.copy_from_slice(&(hash ^ hash >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9).swap_bytes().to_be_bytes());
    }
    Builder::from_random_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn instances_are_of_every_shape_and_share_neither_id_nor_mac_nor_floating_ip() {
        let shapes = Shapes::read().unwrap();
        let records: Vec<InstanceRecord> = (0..200).map(|number| shapes.make(number).unwrap()).collect();
        let ids: BTreeSet<_> = records.iter().map(|record| record.uuid).collect();
        assert_eq!(ids.len(), records.len());
        let ports: Vec<_> = records.iter().flat_map(|record| &record.ports).collect();
        assert_eq!(ports.iter().map(|port| port.id).collect::<BTreeSet<_>>().len(), ports.len());
        let macs: BTreeSet<_> = ports.iter().map(|port| port.mac_address.to_string()).collect();
        assert_eq!(macs.len(), ports.len());
        let floating: Vec<_> =
            ports.iter().flat_map(|port| &port.fixed_ips).flat_map(|fixed| &fixed.floating_ips).collect();
        let own: BTreeSet<_> = floating.iter().map(ToString::to_string).collect();
        assert!(own.len() == floating.len() && own.len() > 50, "{} of {}", own.len(), floating.len());
    }
}
