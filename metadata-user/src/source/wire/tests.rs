//! Tests of `source::wire`.

use std::num::NonZeroU32;

use serde_json::{Value, json};

use super::{MAX_DOCUMENT, parse, read_back, schema, work, write};
use crate::policy::{AccessOverrides, PolicyOverrides, PortLimitsOverrides, PrivilegedPaths, SessionMode, UserData};
use crate::record::InstanceRecord;

mod debug;
mod notices;
mod nulls;
mod pages;
mod size;

const SHORT: &str = r#"{
  "uuid": "0171c6ae-ed6b-4787-bf6b-45a1db501aa3",
  "project_id": "demo",
  "ports": [{"id": "71d7b07f-b17f-4aea-bf5c-9a565fd3c8b2", "mac_address": "fa:16:3e:11:22:01"}]
}"#;

/// Returns the short document with further fields.
fn with(fields: &str) -> String {
    SHORT.replace("\"project_id\": \"demo\",", &format!("\"project_id\": \"demo\", {fields},"))
}

fn read(document: &str) -> InstanceRecord {
    parse(document.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{document}"))
}

#[test]
fn three_fields_are_enough() {
    let record = read(SHORT);
    assert_eq!(&*record.hostname, "server-0171c6ae-ed6b-4787-bf6b-45a1db501aa3");
    assert_eq!(record.display_name.as_deref(), Some(&*record.hostname));
    assert_eq!(&*record.ec2_ids.instance_id, "i-40f244f0");
    assert_eq!(record.ec2_ids.ami_id, None);
    assert_eq!(record.reservation_id.as_deref(), Some("r-40f244f0"));
    assert_eq!(record.launch_index, Some(0));
    assert_eq!(record.root_device_name.as_deref(), Some("/dev/vda"));
    assert_eq!(record.user_data, None);
    let port = &record.ports[0];
    assert_eq!(port.device_name(), "tap71d7b07f-b1");
    assert!(port.port_security && port.listed);
    assert!(port.sources().is_empty() && port.network.subnets.is_empty());
}

#[test]
fn a_policy_is_what_the_document_says_otherwise() {
    assert_eq!(read(SHORT).policy, PolicyOverrides::default());
    for nothing in ["null", "{}", r#"{"connections_per_port": null}"#] {
        assert_eq!(read(&with(&format!("\"policy\": {nothing}"))).policy, PolicyOverrides::default());
    }
    let record = read(&with(
        r#""policy": {"connections_per_port": 2000, "connections_per_instance": 3000,
                      "requests_per_second": 0, "request_burst": 5}"#,
    ));
    let number = std::num::NonZeroU32::new;
    let expected = PolicyOverrides {
        connections_per_port: number(2000),
        connections_per_instance: number(3000),
        requests_per_second: Some(0),
        request_burst: number(5),
        ..PolicyOverrides::default()
    };
    assert_eq!(record.policy, expected);
    let mut written = Vec::new();
    write(&record, &mut written).expect("written");
    assert_eq!(read_back(&written).expect("reads back"), record);
    for (name, user_data) in UserData::NAMES {
        let access = format!(r#"{{"metadata": false, "ipv6": false, "ec2": true, "user_data": "{name}"}}"#);
        let record = read(&with(&format!("\"policy\": {access}")));
        let expected = AccessOverrides {
            metadata: Some(false),
            ipv6: Some(false),
            ec2: Some(true),
            user_data: Some(user_data),
            ..AccessOverrides::default()
        };
        assert_eq!(record.policy.access, expected);
        let mut written = Vec::new();
        write(&record, &mut written).expect("written");
        assert_eq!(read_back(&written).expect("reads back"), record);
    }
    let limits = r#""policy": {"new_connections_per_second": 0, "new_connections_burst": 7, "packets_per_second": 8,
        "packets_burst": 9, "impersonation_guard": true}"#;
    let limits = read(&with(limits));
    let expected = PortLimitsOverrides {
        new_connections_per_second: Some(0),
        new_connections_burst: NonZeroU32::new(7),
        packets_per_second: Some(8),
        packets_burst: NonZeroU32::new(9),
    };
    assert_eq!((limits.policy.port_limits, limits.policy.impersonation_guard), (expected, Some(true)));
    let mut written = Vec::new();
    write(&limits, &mut written).expect("written");
    assert_eq!(read_back(&written).expect("reads back"), limits);
    for (mode, session) in SessionMode::NAMES {
        for (list, privileged) in [
            ("[]", PrivilegedPaths::NONE),
            (r#"["everything"]"#, PrivilegedPaths::EVERYTHING),
            (r#"["token", "token", "identity"]"#, PrivilegedPaths::TOKEN.and(PrivilegedPaths::IDENTITY)),
        ] {
            let access = format!(r#"{{"session": "{mode}", "hop_limit": 2, "privileged": {list}}}"#);
            let record = read(&with(&format!("\"policy\": {access}")));
            let expected = AccessOverrides {
                session: Some(session),
                hop_limit: Some(2),
                privileged: Some(privileged),
                ..AccessOverrides::default()
            };
            assert_eq!(record.policy.access, expected);
            let mut written = Vec::new();
            write(&record, &mut written).expect("written");
            assert_eq!(read_back(&written).expect("reads back"), record);
        }
    }
    for (policy, expected) in [
        (r#"{"packets_burst": 0}"#, "at policy.packets_burst: 0 at once is out of range"),
        (r#"{"packets_per_second": 1000001}"#, "at policy.packets_per_second: 1000001 for each second"),
        (r#"{"new_connections_burst": 0}"#, "at policy.new_connections_burst: 0 at once"),
        (r#"{"new_connections_per_second": 2000000}"#, "at policy.new_connections_per_second: 2000000"),
        (r#"{"session": "on"}"#, "at policy.session: "),
        (r#"{"hop_limit": 0}"#, "at policy.hop_limit: 0 is out of range"),
        (r#"{"hop_limit": 65}"#, "at policy.hop_limit: 65 is out of range"),
        (r#"{"privileged": ["root"]}"#, "at policy.privileged[0]: "),
        (r#"{"user_data": "once"}"#, "at policy.user_data: "),
        (r#"{"connections_per_port": 0}"#, "at policy.connections_per_port: 0 connections would"),
        (r#"{"connections_per_port": -1}"#, "at policy.connections_per_port: "),
        (r#"{"connections_per_instance": 0}"#, "at policy.connections_per_instance: 0 connections would"),
        (r#"{"request_burst": 0}"#, "at policy.request_burst: a burst of 0 requests would"),
        (r#"{"connections": 1}"#, "at policy.connections: unknown field"),
    ] {
        let error = parse(with(&format!("\"policy\": {policy}")).as_bytes()).expect_err(policy).to_string();
        assert!(error.contains(expected), "{policy}: {error}");
    }
}

#[test]
fn a_host_name_is_made_of_the_display_name() {
    for (name, expected) in [
        ("Web Server_1", "web-server-1"),
        ("über.Büro", "über-büro"),
        ("日本", "Server-0171c6ae-ed6b-4787-bf6b-45a1db501aa3"),
        ("", "Server-0171c6ae-ed6b-4787-bf6b-45a1db501aa3"),
        ("-.x.-", "x"),
    ] {
        let record = read(&with(&format!("\"display_name\": {name:?}")));
        assert_eq!(&*record.hostname, expected);
        assert_eq!(record.display_name.as_deref(), Some(name));
    }
}

#[test]
fn host_names_are_those_that_nova_stores() {
    let longest = "a".repeat(255);
    for name in ["a", "web-1", "web.example.org", "Web_1", ".", "münchen-1", &longest] {
        let record = read(&with(&format!("\"hostname\": {name:?}")));
        assert_eq!(&*record.hostname, name);
    }
    let too_long = "a".repeat(256);
    for (name, expected) in [
        ("", "at hostname: the host name is empty; write one, or leave the field out"),
        ("a b", "at hostname: a host name cannot contain ' '; use letters, digits, dashes"),
        ("a\n", "a host name cannot contain '\\n'; "),
        ("a\tb", "a host name cannot contain '\\t'; "),
        ("a\0", "a host name cannot contain '\\0'; "),
        ("../a", "a host name cannot contain '/'; "),
        ("ÄB", "a host name cannot contain 'Ä'; "),
        ("日本", "a host name cannot contain '日'; "),
        ("a×b", "a host name cannot contain '×'; "),
        (&too_long, "the host name has 256 characters; use at most 255"),
    ] {
        let document = with(&format!("\"hostname\": {}", json!(name)));
        let error = parse(document.as_bytes()).expect_err(name).to_string();
        assert!(error.contains(expected), "{error}\n  does not say: {expected}");
    }
}

#[test]
fn a_record_keeps_a_host_name_that_documents_may_not_give_any_more() {
    let mut record = read(SHORT);
    record.hostname = "of an/earlier version".into();
    let mut written = Vec::new();
    write(&record, &mut written).unwrap();
    assert!(parse(&written).is_err());
    assert_eq!(read_back(&written).unwrap(), record);
}

#[test]
fn a_tap_is_named_by_either_key() {
    let tap = |fields: &str| {
        let document = SHORT.replace("\"mac_address\"", &format!("{fields}, \"mac_address\""));
        parse(document.as_bytes()).map(|record| record.ports[0].tap.clone()).map_err(|error| error.to_string())
    };
    for (fields, expected) in [
        (r#""tap": "tap7""#, Some("tap7")),
        (r#""devname": "tap7""#, Some("tap7")),
        (r#""tap": "tap7", "devname": "tap7""#, Some("tap7")),
        (r#""tap": "tap7", "devname": null"#, Some("tap7")),
        (r#""tap": null, "devname": "tap7""#, Some("tap7")),
        (r#""tap": null"#, None),
        (r#""devname": null"#, None),
        (r#""listed": true"#, Some("tap71d7b07f-b1")),
    ] {
        assert_eq!(tap(fields), Ok(expected.map(Into::into)), "{fields}");
    }
    for (fields, expected) in [
        (
            r#""devname": "tap8", "tap": "tap7""#,
            "at ports[0].tap: \"tap\" is \"tap7\" and \"devname\" is \"tap8\"; both name the port's tap: keep one",
        ),
        (r#""tap": "a/b""#, "at ports[0].tap: \"a/b\" is not the name of a network device; "),
        (r#""devname": "a b""#, "at ports[0].devname: \"a b\" is not the name of a network device; "),
        (r#""tap": """#, "at ports[0].tap: \"\" is not the name of a network device; "),
    ] {
        let error = tap(fields).expect_err(fields);
        assert!(error.contains(expected), "{error}\n  does not say: {expected}");
    }
}

#[test]
fn a_record_is_written_with_its_tap() {
    let mut written = Vec::new();
    write(&read(SHORT), &mut written).unwrap();
    let document: Value = serde_json::from_slice(&written).unwrap();
    assert_eq!(document["ports"][0]["tap"], "tap71d7b07f-b1");
    assert_eq!(document["ports"][0].get("devname"), None);
}

#[test]
fn a_byte_order_mark_is_accepted_and_other_encodings_are_named() {
    let marked = [b"\xef\xbb\xbf", SHORT.as_bytes()].concat();
    assert_eq!(parse(&marked).unwrap(), read(SHORT));
    let error = |bytes: &[u8]| parse(bytes).unwrap_err().to_string();
    let wide: Vec<u8> = SHORT.encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(error(&wide), "line 1, column 1, at document: it is UTF-16; save it as UTF-8");
    let latin: Vec<u8> = with("\"display_name\": \"K?ln\"").bytes().map(|b| if b == b'?' { 0xf6 } else { b }).collect();
    assert_eq!(
        error(&latin),
        "line 3, column 43, at display_name: the byte 0xf6 is not UTF-8 but Latin-1, Windows-1252 or the like; \
         save it as UTF-8"
    );
    let broken = [b"\xef\xbb\xbf", with("\"nonsense\": 1").as_bytes()].concat();
    assert!(error(&broken).starts_with("line 3, column 34, at nonsense: "), "as without the mark");
}

#[test]
fn what_is_not_json_has_its_own_remedy() {
    for (document, expected) in [
        (format!("{SHORT}\0"), "trailing characters; remove what follows the document's last brace"),
        (format!("{SHORT}{SHORT}"), "trailing characters; remove what follows"),
        (with("\"display_name\": \"\\ud83d\""), "at display_name: "),
        (with("\"display_name\": \"\\ud83d\""), "both halves of its \\u escape"),
        (with("\"display_name\": \"a\tb\""), "write it as an escape, like \\n"),
        (with("\"display_name\": \"C:\\dir\""), "write a backslash as \\\\"),
        (with("'flavor': 1"), "put the key in double quotes"),
        (with("\"flavor\": NaN"), "look for a missing comma"),
        (SHORT.replace("}]", "},]"), "trailing comma; remove the comma"),
        (String::new(), "the text ends too early"),
    ] {
        let error = parse(document.as_bytes()).expect_err(&document).to_string();
        assert!(error.contains(expected), "{error}\n  does not say: {expected}\n{document}");
    }
}

#[test]
fn choices_are_texts() {
    let value = |value: &str| with(&format!("\"block_device_mapping\": [{{\"source_type\": {value}}}]"));
    for (given, expected) in [
        ("1", "at block_device_mapping[0].source_type: invalid type: integer `1`, expected a text in quotes; write"),
        ("null", "source_type: invalid type: null, expected a text in quotes; the field is required: write a value"),
        (
            "{\"image\": null}",
            "at block_device_mapping[0].source_type: invalid type: object, expected a text in quotes; ",
        ),
        (
            "\"img\"",
            "source_type: unknown variant `img`, expected one of `image`, `volume`, `snapshot`, `blank`; write one",
        ),
    ] {
        let error = parse(value(given).as_bytes()).expect_err(given).to_string();
        assert!(error.contains(expected), "{error}\n  does not say: {expected}");
    }
}

#[test]
fn types_have_their_names_in_json() {
    for (fields, expected) in [
        ("\"keypairs\": {}", "at keypairs: invalid type: object, expected an array; "),
        ("\"ec2_ids\": 1", "at ec2_ids: invalid type: integer `1`, expected an object; "),
        ("\"ec2_ids\": \"x\"", "at ec2_ids: invalid type: string \"x\", expected an object; "),
        ("\"metadata\": [1]", "at metadata: invalid type: array, expected an object of texts; "),
        (
            "\"dedicated_cpus\": [-1]",
            "at dedicated_cpus[0]: invalid value: integer `-1`, expected an integer from 0 to ",
        ),
        ("\"launch_index\": 1e3", "at launch_index: invalid type: floating point `1000.0`, expected an integer; "),
    ] {
        let error = parse(with(fields).as_bytes()).expect_err(fields).to_string();
        assert!(error.contains(expected), "{error}\n  does not say: {expected}");
    }
}

#[test]
fn remedies_stay_apart_from_texts_with_semicolons() {
    for (fields, problem, remedy) in [
        (r#""a; b": 1"#, "unknown field `a; b`, expected one of ", "correct its spelling or remove it"),
        (
            r#""ec2_ids": {"instance_id": ""}"#,
            "the text is empty",
            "write one, or leave the field out if it is optional",
        ),
        (r#""metadata": {"a; b": "1", "a; b": "2"}"#, "the key \"a; b\" occurs twice", "keep one of them"),
    ] {
        let error = parse(with(fields).as_bytes()).expect_err(fields);
        assert!(error.problem.starts_with(problem), "{error}");
        assert_eq!(error.remedy, remedy, "{error}");
    }
}

#[test]
fn keys_complete_each_other() {
    let keys = |fields: &str| {
        let record = read(&with(fields));
        let names = record.keypairs.iter().map(|pair| pair.name.to_string()).collect::<Vec<_>>().join(",");
        (record.key_name.unwrap_or_default(), record.key_data.unwrap_or_default(), names)
    };
    let expected = |name: &str, data: &str, pairs: &str| (name.into(), data.into(), pairs.to_owned());
    assert_eq!(keys(r#""key_name": "k", "key_data": "d""#), expected("k", "d", "k"));
    assert_eq!(keys(r#""key_name": "k", "key_data": "d", "keypairs": []"#), expected("k", "d", ""));
    assert_eq!(keys(r#""keypairs": [{"name": "k", "public_key": "d"}]"#), expected("k", "d", "k"));
    assert_eq!(keys(r#""key_name": null, "keypairs": [{"name": "k", "public_key": "d"}]"#), expected("", "d", "k"));
    assert_eq!(keys(r#""key_name": """#), expected("", "", ""));
}

#[test]
fn addresses_find_their_subnets() {
    let document = SHORT.replace(
        "\"mac_address\": \"fa:16:3e:11:22:01\"",
        r#""mac_address": "FA:16:3E:11:22:01",
           "fixed_ips": [{"ip_address": "2001:DB8::5"}, {"ip_address": "10.0.0.5", "floating_ips": ["203.0.113.1"]}],
           "allowed_address_pairs": [{"ip_address": "10.9.0.0/16", "mac_address": "02:00:00:00:00:01"},
                                     {"ip_address": "10.0.0.9"}],
           "network": {"subnets": [{"cidr": "10.0.0.0/24"}, {"cidr": "2001:db8::/64"}]}"#,
    );
    let record = read(&document);
    let port = &record.ports[0];
    assert_eq!(port.network.subnets[0].fixed_ips, [1]);
    assert_eq!(port.network.subnets[1].fixed_ips, [0]);
    assert_eq!(record.local_ipv4.as_deref(), Some("10.0.0.5"));
    let sources: Vec<String> = port.sources().iter().map(|(mac, net)| format!("{mac} {net}")).collect();
    assert_eq!(
        sources,
        [
            "fa:16:3e:11:22:01 2001:db8::5/128",
            "fa:16:3e:11:22:01 10.0.0.5/32",
            "02:00:00:00:00:01 10.9.0.0/16",
            "fa:16:3e:11:22:01 10.0.0.9/32"
        ]
    );
}

#[test]
fn errors_name_place_field_and_remedy() {
    for (document, expected) in [
        (format!("\n [{SHORT}]"), "line 2, column 2, at document: this is a list; write one object"),
        (with("\"nonsense\": 1"), "line 3, column 34, at nonsense: unknown field `nonsense`"),
        (with("\"user_data\": 1"), "line 3, column 38, at user_data: invalid type: integer `1`, expected a string"),
        (
            with("\"user_data\": \"\", \"user_data_b64\": \"\""),
            "line 3, column 59, at user_data_b64: the user data is given twice; keep user_data or user_data_b64",
        ),
        (with("\"user_data_b64\": \"a\""), "line 3, column 44, at user_data_b64: not base64: the length is not"),
        (with("\"metadata\": {\"a\": \"1\", \"a\": \"2\"}"), "the key \"a\" occurs twice; keep one of them"),
        (
            with("\"metadata\": {\"a\": 1}"),
            "line 3, column 43, at metadata.a: invalid type: integer `1`, expected a string; ",
        ),
        (with("\"hostname\": \"\""), "line 3, column 37, at hostname: the host name is empty; "),
        (
            SHORT.replace("fa:16", "fa-16"),
            "line 4, column 93, at ports[0].mac_address: \"fa-16:3e:11:22:01\" is not a MAC",
        ),
        (
            SHORT.replace("71d7b07f-", "71d7b07f"),
            "at ports[0].id: \"71d7b07fb17f-4aea-bf5c-9a565fd3c8b2\" is not a UUID; ",
        ),
        (
            SHORT.replace("\"project_id\": \"demo\",", ""),
            "line 5, column 1, at document: missing field `project_id`; add",
        ),
        (
            SHORT.replace(", \"mac_address\": \"fa:16:3e:11:22:01\"", ""),
            "at ports[0]: missing field `mac_address`; add",
        ),
        (SHORT.replace("\"demo\",", "\"demo\""), "line 4, column 3, at "),
        (SHORT[..60].to_owned(), "the text ends too early"),
        (
            with("\"device_metadata\": [{\"type\": \"nic\"}]"),
            "line 3, column 45, at device_metadata[0].mac: a nic without \"mac\"; add the field",
        ),
        (
            with("\"device_metadata\": [{\"type\": \"disk\", \"vlan\": 1}]"),
            "at device_metadata[0].vlan: \"vlan\" does not go with this type of device; remove",
        ),
        (
            with("\"launch_index\": 1.5"),
            "at launch_index: invalid type: floating point `1.5`, expected an integer; write",
        ),
    ] {
        let error = parse(document.as_bytes()).expect_err(&document).to_string();
        assert!(error.contains(expected), "{error}\n  does not say: {expected}\n{document}");
    }
}

#[test]
fn errors_in_a_port_have_their_place() {
    for (fields, expected) in [
        ("\"devname\": \"a/b\"", "at ports[0].devname: \"a/b\" is not the name of a network device; "),
        (
            "\"fixed_ips\": [{\"ip_address\": \"10.0.0.5\"}], \"network\": {\"subnets\": [{\"cidr\": \"10.1.0.0/24\"}]}",
            "at ports[0].fixed_ips[0].ip_address: 10.0.0.5 is in none of the network's subnets; correct the address",
        ),
        ("\"fixed_ips\": [{\"ip_address\": \"10.0.0.5/24\"}]", "is not an IP address; write"),
        (
            "\"fixed_ips\": [{\"ip_address\": \"10.0.0.5\", \"subnet_id\": \"x\"}]",
            "at ports[0].fixed_ips[0].subnet_id: no subnet has the id \"x\"; give that id",
        ),
        (
            "\"network\": {\"subnets\": [{\"cidr\": \"10.1.0.0\"}]}",
            "at ports[0].network.subnets[0].cidr: \"10.1.0.0\" is not a CIDR",
        ),
    ] {
        let document = SHORT.replace("\"mac_address\"", &format!("{fields}, \"mac_address\""));
        let error = parse(document.as_bytes()).expect_err(&document).to_string();
        assert!(error.contains(expected), "{error}\n  does not say: {expected}\n{document}");
    }
}
