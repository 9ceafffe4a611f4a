//! `ec2/VERSION/meta-data.json` of a config drive: what is below `meta-data/`, as one object.
//!
//! Promises: from a record it is what Nova writes, byte for byte. From answers alone, keys have Nova's order and values Nova's
//! types, as far as answers tell: what is printed as `None` is null where Nova can have a null, and the devices of
//! `block-device-mapping` may stand in another order.
//!
//! - A listing leads nowhere but down: what is in it and is no plain name, such as `..`, or is further down than Nova has anything, is left out.
//!
//! Nova writes the versions [`VERSIONS`] only (its `config_drive_skip_versions`); their objects are equal.

use bytes::Bytes;
use serde_json::{Map, Value as Json};

use super::tree::{self, Leaf, NULL, Value};
use crate::api::json;
use crate::record::{Address, InstanceRecord, PortRecord};

/// The versions that are on a config drive.
pub(in crate::api) const VERSIONS: [&str; 2] = ["2009-04-04", "latest"];

/// The directory that the object has the values of.
const DIRECTORY: &str = "meta-data";

/// Nova's order.
const ORDER: [&str; 22] = [
    "ami-id",
    "ami-launch-index",
    "ami-manifest-path",
    "instance-id",
    "hostname",
    "local-ipv4",
    "reservation-id",
    "security-groups",
    "public-keys",
    "local-hostname",
    "public-hostname",
    "public-ipv4",
    "instance-type",
    "block-device-mapping",
    "kernel-id",
    "ramdisk-id",
    "placement",
    "instance-action",
    // Below block-device-mapping.
    "ami",
    "root",
    "ephemeral0",
    "swap",
];

/// Returns the object of a record.
pub(in crate::api) fn render(record: &InstanceRecord, hostname: &str) -> Bytes {
    let mut object = Map::new();
    let has_address = has_ipv4(&record.ports);
    for Leaf { path, value, .. } in tree::leaves(record, hostname) {
        let path = path.split_once('/').map_or(&*path, |(_, path)| path);
        // Over HTTP it is then the address that the request came from.
        let value = if path == "local-ipv4" && !has_address { Value::Null } else { value };
        insert(&mut object, path, value.into());
    }
    json::to_vec(&object).into()
}

/// Returns the object that answers give. `read` returns the body at a path below the version, if there is one.
///
/// # Errors
/// Those of `read`.
pub(in crate::api) fn collect<E>(read: &mut dyn FnMut(&str) -> Result<Option<Bytes>, E>) -> Result<Bytes, E> {
    Ok(json::to_vec(&directory(read, DIRECTORY)?).into())
}

/// Most directories above a value; Nova has two, EC2 six (`network/interfaces/macs/MAC/ipv4-associations/`).
const DEEPEST: usize = 8;

fn directory<E>(read: &mut dyn FnMut(&str) -> Result<Option<Bytes>, E>, path: &str) -> Result<Map<String, Json>, E> {
    let mut object = Map::new();
    if path.split('/').count() > DEEPEST {
        return Ok(object);
    }
    let listing = read(path)?.unwrap_or_default();
    let listing = String::from_utf8_lossy(&listing);
    let mut lines: Vec<&str> = listing.lines().filter(|line| !line.is_empty()).collect();
    let is_keys = path.ends_with("/public-keys");
    lines.sort_by_key(|line| {
        let name = line.trim_end_matches('/');
        ORDER.iter().position(|known| *known == name).unwrap_or(ORDER.len())
    });
    for line in lines {
        let value = match (line.strip_suffix('/'), line.split_once('=')) {
            (Some(name), _) if is_plain(name) => {
                Some((name, Json::Object(directory(read, &format!("{path}/{name}"))?)))
            }
            (None, Some((number, _))) if is_keys && is_plain(number) => {
                let mut key = Map::from_iter([("_name".to_owned(), Json::from(line))]);
                key.append(&mut directory(read, &format!("{path}/{number}"))?);
                Some((number, Json::Object(key)))
            }
            (None, _) if is_plain(line) => {
                read(&format!("{path}/{line}"))?.map(|body| (line, value(line, &String::from_utf8_lossy(&body)).into()))
            }
            _ => None,
        };
        object.extend(value.map(|(name, value)| (name.to_owned(), value)));
    }
    Ok(object)
}

/// Tells whether a name means itself in a path.
fn is_plain(name: &str) -> bool {
    name.bytes().any(|byte| byte != b'.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':'))
}

/// Returns what Nova has where it prints this.
fn value(name: &str, text: &str) -> Value {
    match name {
        "ami-launch-index" => text.parse().map_or(Value::Null, Value::Number),
        "security-groups" => Value::List(text.lines().map(Into::into).collect()),
        "local-ipv4" if text.parse::<std::net::Ipv4Addr>().is_err() => Value::Null,
        // Never null.
        "instance-id" | "hostname" | "local-hostname" | "public-hostname" | "public-ipv4" => {
            Value::Text(text.to_owned())
        }
        _ if text == NULL => Value::Null,
        _ => Value::Text(text.to_owned()),
    }
}

impl From<Value> for Json {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Number(number) => number.into(),
            Value::Text(text) => text.into(),
            Value::List(names) => names.into_iter().map(String::from).collect(),
        }
    }
}

/// Puts a value at a path of objects.
fn insert(object: &mut Map<String, Json>, path: &str, value: Json) {
    match path.split_once('/') {
        None => {
            object.insert(path.to_owned(), value);
        }
        Some((name, rest)) => {
            let below = object.entry(name).or_insert_with(|| Json::Object(Map::new()));
            if let Json::Object(below) = below {
                insert(below, rest, value);
            }
        }
    }
}

fn has_ipv4(ports: &[PortRecord]) -> bool {
    let is_ipv4 = |address: &Address| address.ip().is_ipv4();
    ports.iter().filter(|port| port.listed).flat_map(PortRecord::addresses).any(|ip| is_ipv4(&ip.ip_address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{BlockDevice, Ec2Ids};
    use crate::store::tests::record;

    fn device(name: Option<&str>, volume: bool, format: Option<&str>) -> BlockDevice {
        BlockDevice {
            device_name: name.map(Into::into),
            is_volume: volume,
            is_blank: !volume,
            guest_format: format.map(Into::into),
        }
    }

    fn instance() -> InstanceRecord {
        InstanceRecord {
            launch_index: Some(3),
            ec2_ids: Ec2Ids {
                instance_id: "i-1".into(),
                ami_id: None,
                kernel_id: Some("aki-2".into()),
                ramdisk_id: None,
            },
            key_name: Some("ke\u{fc}".into()),
            key_data: Some("ssh x\n".into()),
            security_groups: vec!["a".into(), "b".into()],
            local_ipv4: Some("192.0.2.1".into()),
            root_device_name: Some("/dev/vda".into()),
            default_swap_device: Some("/dev/vdb".into()),
            block_device_mapping: vec![
                device(Some("/dev/vdc"), true, None),
                device(None, true, None),
                device(Some("/dev/vde"), false, None),
                device(Some("/dev/vdf"), false, Some("swap")),
            ],
            ..record(1, "p", &[])
        }
    }

    const REST: &str = r#""reservation-id": null, "security-groups": ["a", "b"], "public-keys": {"0": {"_name": "0=ke\u00fc", "openssh-key": "ssh x\n"}}, "local-hostname": "host.d", "public-hostname": "host.d", "public-ipv4": "", "instance-type": null, "block-device-mapping": {"ami": "vda", "root": "/dev/vda", "swap": "/dev/vdf", "ebs0": null, "ebs1": "/dev/vdc", "ephemeral0": "/dev/vde"}, "kernel-id": "aki-2", "placement": {"availability-zone": null}, "instance-action": "none"}"#;

    #[test]
    fn a_record_gives_novas_object_with_nulls_numbers_and_lists() {
        let text = render(&instance(), "host.d");
        let start = r#"{"ami-id": null, "ami-launch-index": 3, "ami-manifest-path": "FIXME", "instance-id": "i-1", "hostname": "host.d", "local-ipv4": null, "#;
        assert_eq!(std::str::from_utf8(&text).unwrap(), format!("{start}{REST}"));
    }

    #[test]
    fn a_listing_that_leads_in_a_circle_or_elsewhere_ends() {
        let names = "../\n./\n/\n?x/\n%2e%2e/\na b/\n..\nhostname\nloop/\npublic-keys/";
        let collected = collect::<()>(&mut |path| {
            let is_key = path.ends_with("/public-keys");
            let body = if is_key {
                "..=x\n?=y\n0=z\n../"
            } else if path.ends_with("/hostname") {
                "h"
            } else {
                names
            };
            assert!(!path.contains("..") && !path.contains(['?', '%']), "{path}");
            Ok(Some(body.into()))
        });
        let object: Json = serde_json::from_slice(&collected.unwrap()).unwrap();
        assert_eq!((&object["hostname"], &object["loop"]["hostname"]), (&"h".into(), &"h".into()));
        assert_eq!(object["public-keys"]["0"]["_name"], "0=z");
    }

    #[test]
    fn answers_give_the_same_values() {
        let tree = super::super::Tree::render(&instance(), "host.d");
        let collected = collect::<()>(&mut |path| Ok(tree.get(super::super::LAST, path))).unwrap();
        let [expected, found] =
            [&render(&instance(), "host.d"), &collected].map(|text| serde_json::from_slice::<Json>(text).unwrap());
        // Who asked has an address here.
        let mut found = found;
        assert_eq!(found["local-ipv4"], "192.0.2.1");
        found["local-ipv4"] = Json::Null;
        assert_eq!(found, expected);
        let keys = |value: &Json| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&found), keys(&expected), "in Nova's order");
    }
}
