use super::parse;
use crate::record::InstanceRecord;

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
    assert_eq!(&*record.ec2_ids.instance_id, "i-0171c6ae");
    assert_eq!(record.ec2_ids.ami_id, None);
    assert_eq!(record.reservation_id.as_deref(), Some("r-0171c6ae"));
    assert_eq!(record.launch_index, Some(0));
    assert_eq!(record.root_device_name.as_deref(), Some("/dev/vda"));
    assert_eq!(record.user_data, None);
    let port = &record.ports[0];
    assert_eq!(port.device_name(), "tap71d7b07f-b1");
    assert!(port.port_security && port.listed);
    assert!(port.sources().is_empty() && port.network.subnets.is_empty());
}

#[test]
fn a_host_name_is_made_of_the_display_name() {
    for (name, expected) in [
        ("Web Server_1", "web-server-1"),
        ("über.Büro", "ber.bro"),
        ("日本", "server-0171c6ae-ed6b-4787-bf6b-45a1db501aa3"),
        ("-.x.-", "x"),
    ] {
        let record = read(&with(&format!("\"display_name\": {name:?}")));
        assert_eq!(&*record.hostname, expected);
        assert_eq!(record.display_name.as_deref(), Some(name));
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
            "line 3, column 59, at user_data_b64: the user data is there twice; keep user_data or user_data_b64",
        ),
        (with("\"user_data_b64\": \"a\""), "line 3, column 44, at user_data_b64: not base64: the length is not"),
        (with("\"metadata\": {\"a\": \"1\", \"a\": \"2\"}"), "the key \"a\" is there twice; keep one of them"),
        (
            with("\"metadata\": {\"a\": 1}"),
            "line 3, column 43, at metadata.a: invalid type: integer `1`, expected a string; ",
        ),
        (with("\"hostname\": \"\""), "line 3, column 38, at hostname: the text is empty; "),
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
        (with("\"launch_index\": 1.5"), "at launch_index: invalid type: floating point `1.5`, expected i64; write"),
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
