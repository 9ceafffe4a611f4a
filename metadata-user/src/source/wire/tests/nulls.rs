//! `null` in every field: absent where the field is optional, refused by name where it is required; the schema agrees.

use super::*;

/// A document that has every kind of object.
fn full() -> Value {
    json!({
        "uuid": "0171c6ae-ed6b-4787-bf6b-45a1db501aa3",
        "project_id": "demo",
        "ec2_ids": {},
        "policy": {},
        "keypairs": [{"name": "k", "public_key": "d"}],
        "block_device_mapping": [{"source_type": "image"}],
        "device_metadata": [
            {"type": "nic", "mac": "fa:16:3e:11:22:01", "bus": {"type": "pci"}},
            {"type": "disk"},
            {"type": "share", "share_id": "s", "tag": "t"}
        ],
        "ports": [{
            "id": "71d7b07f-b17f-4aea-bf5c-9a565fd3c8b2",
            "mac_address": "fa:16:3e:11:22:01",
            "fixed_ips": [{"ip_address": "10.0.0.5"}],
            "allowed_address_pairs": [{"ip_address": "10.0.0.9"}],
            "network": {"subnets": [{"cidr": "10.0.0.0/24", "host_routes": [{"destination": "10.1.0.0/16"}]}]}
        }],
        "pages": {"a": {"text": "x"}, "b": {"base64": "eA=="}},
        "events": [{"id": "e", "type": "stop", "time": "2026-12-01T02:00:00Z"}]
    })
}

/// Where each kind of object is in it.
const PLACES: [(&str, &str); 15] = [
    ("", ""),
    ("Ec2IdsDocument", "/ec2_ids"),
    ("PolicyDocument", "/policy"),
    ("KeyPairDocument", "/keypairs/0"),
    ("BlockDeviceDocument", "/block_device_mapping/0"),
    ("DeviceDocument", "/device_metadata/0"),
    ("BusDocument", "/device_metadata/0/bus"),
    ("PortDocument", "/ports/0"),
    ("FixedIpDocument", "/ports/0/fixed_ips/0"),
    ("AddressPairDocument", "/ports/0/allowed_address_pairs/0"),
    ("NetworkDocument", "/ports/0/network"),
    ("SubnetDocument", "/ports/0/network/subnets/0"),
    ("PageDocument", "/pages/a"),
    ("EventDocument", "/events/0"),
    ("RouteDocument", "/ports/0/network/subnets/0/host_routes/0"),
];

/// Fields that are required with one type of device, or one form of page, only.
const OF_TYPE: [(&str, &str, &str); 5] = [
    ("mac", "/device_metadata/0", "/device_metadata/1"),
    ("share_id", "/device_metadata/2", "/device_metadata/0"),
    ("tag", "/device_metadata/2", "/device_metadata/0"),
    ("text", "/pages/a", "/pages/b"),
    ("base64", "/pages/b", "/pages/a"),
];

/// Reads the document with a field at a place set to null.
fn with_null(place: &str, field: &str) -> Result<InstanceRecord, String> {
    let mut document = full();
    document.pointer_mut(place).expect(place)[field] = Value::Null;
    parse(document.to_string().as_bytes()).map_err(|error| error.to_string())
}

/// Whether a schema lets null pass.
fn takes_null(schema: &Value) -> bool {
    let is_null = |name: &Value| name == "null";
    match schema.get("type") {
        Some(Value::Array(names)) => names.iter().any(is_null),
        Some(name) => is_null(name),
        None => schema["anyOf"].as_array().is_some_and(|some| some.iter().any(takes_null)),
    }
}

#[test]
fn null_is_absent_in_optional_fields_and_refused_by_name_in_required_ones() {
    let schema = schema();
    let objects = schema["$defs"].as_object().unwrap().iter().filter(|(_, one)| one.get("properties").is_some());
    let names: Vec<&str> = objects.map(|(name, _)| &**name).collect();
    for name in &names {
        assert!(PLACES.iter().any(|(known, _)| known == name), "{name} has no place in this test's document");
    }
    assert_eq!(PLACES.len(), names.len() + 1);
    let mut optional = 0;
    for (name, place) in PLACES {
        let object = if name.is_empty() { &schema } else { &schema["$defs"][name] };
        let is_required =
            |field: &str| object["required"].as_array().is_some_and(|all| all.iter().any(|one| one == field));
        for (field, value) in object["properties"].as_object().unwrap() {
            assert_ne!(takes_null(value), is_required(field), "the schema of {name}.{field}");
            if is_required(field) {
                let error = with_null(place, field).expect_err(field);
                assert!(error.contains(&format!("{field}: ")) && error.contains("null"), "{error}");
                assert!(error.ends_with("; the field is required: write a value"), "{error}");
                continue;
            }
            optional += 1;
            match OF_TYPE.iter().find(|(known, ..)| known == field) {
                Some((_, needs, other)) => {
                    let error = with_null(needs, field).expect_err(field);
                    assert!(error.contains(field), "{error}");
                    assert!(with_null(other, field).is_ok(), "{field}");
                }
                None => assert!(with_null(place, field).is_ok(), "{place}/{field}: {:?}", with_null(place, field)),
            }
        }
    }
    assert!(optional > 50, "{optional}");
}

#[test]
fn null_is_the_same_as_absent_but_for_the_fields_that_say_otherwise() {
    // Nova tells these from absent ones; their descriptions in the schema say so.
    const OWN_MEANING: [&str; 15] = [
        "content_type",
        "display_name",
        "launch_index",
        "reservation_id",
        "key_name",
        "key_data",
        "root_device_name",
        "local_ipv4",
        "ami_id",
        "kernel_id",
        "ramdisk_id",
        "tap",
        "devname",
        "serial",
        "path",
    ];
    let absent = parse(full().to_string().as_bytes()).unwrap();
    let schema = schema();
    for (name, place) in PLACES {
        let object = if name.is_empty() { &schema } else { &schema["$defs"][name] };
        for field in object["properties"].as_object().unwrap().keys() {
            let is_given = full().pointer(place).unwrap().get(field).is_some();
            if !is_given && !OWN_MEANING.contains(&&**field) {
                assert_eq!(with_null(place, field), Ok(absent.clone()), "{place}/{field}");
            }
        }
    }
}

#[test]
fn null_in_a_list_or_as_a_value_of_metadata_is_refused() {
    for (fields, expected) in [
        (r#""metadata": {"a": null}"#, "at metadata.a: invalid type: null, expected a string; write a text, or remove"),
        (
            r#""security_groups": [null]"#,
            "at security_groups[0]: invalid type: null, expected a string; write a value, or",
        ),
        (r#""keypairs": [null]"#, "at keypairs[0]: invalid type: null"),
    ] {
        let error = parse(with(fields).as_bytes()).expect_err(fields).to_string();
        assert!(error.contains(expected), "{error}\n  does not say: {expected}");
    }
}
