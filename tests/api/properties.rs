//! Documents of every shape that the schema allows, and requests of every shape.

use std::sync::Arc;

use metadata_user::api::{Answer, Cloud, Date, RenderedInstance, Reply, Request, StaticVendordata, Status};
use metadata_user::source::wire;
use proptest::prelude::*;
use proptest::{collection, option};
use serde_json::{Map, Value, json};

const VERSIONS: [&str; 11] = [
    "2012-08-10",
    "2013-04-04",
    "2013-10-17",
    "2015-10-15",
    "2016-06-30",
    "2016-10-06",
    "2017-02-22",
    "2018-08-27",
    "2020-10-14",
    "2025-04-04",
    "latest",
];

const EC2_VERSIONS: [&str; 10] = [
    "1.0",
    "2007-01-19",
    "2007-03-01",
    "2007-08-29",
    "2007-10-10",
    "2007-12-15",
    "2008-02-01",
    "2008-09-01",
    "2009-04-04",
    "latest",
];

/// Any text: quotes, control characters, characters beyond the BMP; now and then a huge one.
fn text() -> BoxedStrategy<String> {
    prop_oneof![
        8 => any::<String>(),
        4 => "[ -~]{0,24}",
        1 => Just("\"\\/\u{0}\u{7f}\u{2028}\u{feff}\u{fffd}🙂".to_owned()),
        1 => (any::<char>(), 10_000_usize..70_000).prop_map(|(c, count)| c.to_string().repeat(count)),
    ]
    .boxed()
}

fn uuid() -> impl Strategy<Value = String> {
    "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
}

fn mac() -> impl Strategy<Value = String> {
    "[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}"
}

fn ip() -> impl Strategy<Value = String> {
    any::<std::net::IpAddr>().prop_map(|ip| ip.to_string())
}

fn cidr() -> impl Strategy<Value = String> {
    prop_oneof![
        (any::<std::net::Ipv4Addr>(), 0..=32).prop_map(|(ip, length)| format!("{ip}/{length}")),
        (any::<std::net::Ipv6Addr>(), 0..=128).prop_map(|(ip, length)| format!("{ip}/{length}")),
    ]
}

fn flag() -> impl Strategy<Value = Value> {
    any::<bool>().prop_map(Value::from)
}

fn value(strategy: impl Strategy<Value = String> + 'static) -> BoxedStrategy<Value> {
    strategy.prop_map(Value::from).boxed()
}

/// A field that may be null.
fn nullable(strategy: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    prop_oneof![1 => Just(Value::Null), 4 => strategy].boxed()
}

fn list(strategy: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Value> {
    collection::vec(strategy, 0..3).prop_map(Value::from).boxed()
}

/// An object with the required fields and any of the optional ones.
fn object(
    required: Vec<(&'static str, BoxedStrategy<Value>)>,
    optional: Vec<(&'static str, BoxedStrategy<Value>)>,
) -> BoxedStrategy<Value> {
    let required =
        required.into_iter().map(|(name, strategy)| strategy.prop_map(move |value| Some((name, value))).boxed());
    let optional = optional
        .into_iter()
        .map(|(name, strategy)| option::of(strategy).prop_map(move |value| value.map(|value| (name, value))).boxed());
    let fields: Vec<BoxedStrategy<Option<(&str, Value)>>> = required.chain(optional).collect();
    let object = |fields: Vec<Option<(&str, Value)>>| -> Map<String, Value> {
        fields.into_iter().flatten().map(|(name, value)| (name.to_owned(), value)).collect()
    };
    fields.prop_map(move |fields| Value::Object(object(fields))).boxed()
}

fn choice(names: &'static [&'static str]) -> BoxedStrategy<Value> {
    proptest::sample::select(names).prop_map(Value::from).boxed()
}

fn subnet() -> BoxedStrategy<Value> {
    let route = object(vec![("destination", value(cidr()))], vec![("nexthop", nullable(value(ip())))]);
    object(
        vec![("cidr", value(cidr()))],
        vec![
            ("gateway_ip", nullable(value(ip()))),
            ("dns_nameservers", list(value(ip()))),
            ("host_routes", list(route)),
            ("enable_dhcp", flag().boxed()),
            ("dhcp_server", nullable(value(ip()))),
            ("ipv6_address_mode", nullable(choice(&["slaac", "dhcpv6-stateful", "dhcpv6-stateless"]))),
        ],
    )
}

/// Gives every subnet an id, and addresses to those that are asked for.
fn network_and_addresses() -> BoxedStrategy<(Value, Value)> {
    let fixed_ip = |index: usize| {
        object(
            vec![("ip_address", value(ip())), ("subnet_id", Just(json!(index.to_string())).boxed())],
            vec![("floating_ips", list(value(ip())))],
        )
    };
    let network = object(
        vec![],
        vec![
            ("id", value(uuid())),
            ("mtu", nullable(any::<u32>().prop_map(Value::from).boxed())),
            ("injected", flag().boxed()),
        ],
    );
    (network, collection::vec(subnet(), 0..4))
        .prop_flat_map(move |(mut network, mut subnets)| {
            for (index, subnet) in subnets.iter_mut().enumerate() {
                subnet["id"] = json!(index.to_string());
            }
            let count = subnets.len();
            network["subnets"] = Value::from(subnets);
            let addresses = if count == 0 { Just(json!([])).boxed() } else { list((0..count).prop_flat_map(fixed_ip)) };
            (Just(network), addresses)
        })
        .boxed()
}

fn port() -> BoxedStrategy<Value> {
    let pair = object(vec![("ip_address", value(cidr()))], vec![("mac_address", nullable(value(mac())))]);
    let port = object(
        vec![("id", value(uuid())), ("mac_address", value(mac()))],
        vec![
            ("tap", nullable(value("[a-z0-9-]{1,15}"))),
            ("vif_type", value(text())),
            ("port_security", flag().boxed()),
            ("listed", flag().boxed()),
            ("allowed_address_pairs", list(pair)),
            ("security_groups", list(value(text()))),
        ],
    );
    (port, option::of(network_and_addresses()), list(object(vec![("ip_address", value(ip()))], vec![])))
        .prop_map(|(mut port, network, addresses)| {
            match network {
                Some((network, addresses)) => {
                    port["network"] = network;
                    port["fixed_ips"] = addresses;
                }
                None => port["fixed_ips"] = addresses,
            }
            port
        })
        .boxed()
}

fn device() -> BoxedStrategy<Value> {
    let bus = object(vec![("type", choice(&["pci", "usb", "scsi", "ide", "xen"]))], vec![("address", value(text()))]);
    let common = || vec![("bus", nullable(bus.clone())), ("tags", nullable(list(value(text()))))];
    let kind = |name: &'static str| ("type", Just(json!(name)).boxed());
    let number = || nullable(any::<u32>().prop_map(Value::from).boxed());
    prop_oneof![
        object(
            vec![kind("nic"), ("mac", value(mac()))],
            [common(), vec![("vlan", number()), ("vf_trusted", flag().boxed())]].concat()
        ),
        object(
            vec![kind("disk")],
            [common(), vec![("serial", nullable(value(text()))), ("path", nullable(value(text())))]].concat()
        ),
        object(vec![kind("share"), ("share_id", value(text())), ("tag", value(text()))], common()),
    ]
    .boxed()
}

pub(crate) fn document() -> BoxedStrategy<Value> {
    let keypair =
        object(vec![("name", value(text())), ("public_key", value(text()))], vec![("type", choice(&["ssh", "x509"]))]);
    let disk = object(
        vec![("source_type", choice(&["image", "volume", "snapshot", "blank"]))],
        vec![
            ("destination_type", choice(&["volume", "local"])),
            ("device_name", nullable(value(text()))),
            ("guest_format", nullable(prop_oneof![choice(&["swap"]), value(text())].boxed())),
        ],
    );
    let ids = object(
        vec![],
        vec![
            ("instance_id", value("i-[0-9a-f]{8}")),
            ("ami_id", nullable(value(text()))),
            ("kernel_id", nullable(value(text()))),
            ("ramdisk_id", nullable(value(text()))),
        ],
    );
    let metadata = collection::hash_map(text(), text(), 0..4)
        .prop_map(|pairs| Value::Object(pairs.into_iter().map(|(key, value)| (key, value.into())).collect()))
        .boxed();
    let optional_text = || nullable(value(text()));
    object(
        vec![
            ("uuid", value(uuid())),
            ("project_id", value(".{1,40}")),
            ("ports", collection::vec(port(), 1..4).prop_map(Value::from).boxed()),
        ],
        vec![
            ("display_name", optional_text()),
            ("hostname", value("[0-9A-Za-z._-]{1,255}")),
            ("availability_zone", optional_text()),
            ("launch_index", nullable(any::<i64>().prop_map(Value::from).boxed())),
            ("reservation_id", optional_text()),
            ("flavor", optional_text()),
            ("image_ref", optional_text()),
            ("kernel_id", optional_text()),
            ("ramdisk_id", optional_text()),
            ("ec2_ids", ids),
            ("key_name", optional_text()),
            ("key_data", optional_text()),
            ("keypairs", list(keypair)),
            ("metadata", metadata),
            ("user_data", optional_text()),
            ("root_device_name", optional_text()),
            ("default_ephemeral_device", optional_text()),
            ("default_swap_device", optional_text()),
            ("block_device_mapping", list(disk)),
            ("device_metadata", nullable(list(device()))),
            ("dedicated_cpus", list(any::<u32>().prop_map(Value::from))),
            ("security_groups", nullable(list(value(text())))),
            ("local_ipv4", optional_text()),
            ("password", optional_text()),
            ("boot_roles", optional_text()),
            ("policy", nullable(policy())),
        ],
    )
}

fn policy() -> BoxedStrategy<Value> {
    let (rate, burst) = (0..=1_000_000u32, 1..=1_000_000u32);
    (1..=u32::MAX, any::<u32>(), rate.clone(), burst.clone(), rate, burst, any::<bool>())
        .prop_map(|(connections, requests, new_connections, new_burst, packets, packets_burst, guard)| {
            json!({
                "connections_per_port": connections,
                "connections_per_instance": connections,
                "requests_per_second": requests,
                "request_burst": connections,
                "new_connections_per_second": new_connections,
                "new_connections_burst": new_burst,
                "packets_per_second": packets,
                "packets_burst": packets_burst,
                "impersonation_guard": guard,
            })
        })
        .boxed()
}

/// Any JSON that an operator may write.
fn vendordata() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        flag(),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(Value::from),
        value(text()),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            collection::hash_map(any::<String>(), inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
    .boxed()
}

fn instance(document: &Value, cloud: Cloud) -> RenderedInstance {
    let text = document.to_string();
    let record = wire::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    RenderedInstance::new(Arc::new(record), Arc::new(cloud))
}

pub(crate) fn get(instance: &RenderedInstance, path: &str) -> Answer {
    let reply = instance.reply(&Request {
        method: "GET",
        target: path,
        accept: None,
        content_length: None,
        body: b"",
        today: || Date::new(2026, 11, 23),
        seed: &|seed| seed.fill(7),
    });
    reply.into_answer().expect("an answer")
}

fn read_json(answer: &Answer) -> Value {
    assert!(answer.body.iter().all(|byte| (b' '..=b'~').contains(byte)), "not one line of ASCII");
    serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{error}: {:?}", answer.body))
}

/// Compares values; numbers that are spelled differently may be the same.
fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|((a, left), (b, right))| a == b && is_same(left, right))
        }
        _ => a == b,
    }
}

/// Encodes every byte of a path, so that any name can be asked for.
fn encoded(path: &str) -> String {
    path.bytes().map(|byte| if byte == b'/' { "/".to_owned() } else { format!("%{byte:02x}") }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_document_renders_to_json_in_every_version(mut document in document(), vendordata in vendordata()) {
        // Ids of ports may not come twice; so rare by chance that the first one may go.
        if let Some(ports) = document["ports"].as_array_mut() {
            ports.dedup_by(|a, b| a["id"] == b["id"]);
        }
        let cloud = Cloud { vendordata_static: StaticVendordata::from(&vendordata), ..Cloud::default() };
        let (once, again) = (instance(&document, cloud.clone()), instance(&document, cloud));
        for version in VERSIONS {
            for name in ["meta_data.json", "network_data.json", "vendor_data.json", "vendor_data2.json"] {
                let path = format!("/openstack/{version}/{name}");
                let answer = get(&once, &path);
                prop_assert_eq!(&answer, &get(&once, &path));
                prop_assert_eq!(&answer, &get(&again, &path));
                if answer.status == Status::Ok {
                    read_json(&answer);
                } else {
                    prop_assert!(name.starts_with("vendor") && version < "2016-10-06");
                }
            }
        }
        let static_data = read_json(&get(&once, "/openstack/latest/vendor_data.json"));
        prop_assert!(is_same(&static_data, &vendordata), "{static_data} {vendordata}");
        let meta_data = read_json(&get(&once, "/openstack/latest/meta_data.json"));
        let record = once.record();
        prop_assert_eq!(meta_data["name"].as_str(), record.display_name.as_deref());
        prop_assert_eq!(meta_data["hostname"].as_str(), Some(&*format!("{}.novalocal", record.hostname)));
        prop_assert_eq!(meta_data["project_id"].as_str(), document["project_id"].as_str());
        prop_assert_eq!(meta_data["random_seed"].as_str().map(str::len), Some(684));
        let metadata = document.get("metadata").filter(|metadata| **metadata != json!({}));
        prop_assert_eq!(meta_data.get("meta"), metadata);
        for (key, value) in metadata.and_then(Value::as_object).into_iter().flatten() {
            // A name with slashes or dots of its own is another path.
            if !key.is_empty() && !key.split('/').any(|part| matches!(part, "" | "." | "..")) {
                let answer = get(&once, &format!("/latest/meta-data/meta-data/{}", encoded(key)));
                prop_assert_eq!(std::str::from_utf8(&answer.body).ok(), value.as_str());
            }
        }
    }

    #[test]
    fn every_key_that_is_listed_leads_to_its_value(
        keys in collection::hash_set(prop_oneof![any::<String>(), "[a-c./%?#= \\n]{0,5}", "(%25|%2[fF]|%61|é|a|/){1,3}"], 0..12),
    ) {
        let metadata: Map<String, Value> = keys.iter().map(|key| (key.clone(), format!("value of {key}").into())).collect();
        let document = json!({
            "uuid": "0171c6ae-ed6b-4787-bf6b-45a1db501aa3", "project_id": "p", "metadata": metadata,
            "ports": [{"id": "71d7b07f-b17f-4aea-bf5c-9a565fd3c8b2", "mac_address": "fa:16:3e:11:22:01"}],
        });
        let instance = instance(&document, Cloud::default());
        let mut listings = Vec::new();
        for tree in EC2_VERSIONS.iter().flat_map(|version| [format!("/{version}"), format!("/ec2/{version}")]) {
            let directory = format!("{tree}/meta-data/meta-data/");
            let listing = get(&instance, &directory);
            if listing.status == Status::Ok {
                listings.push(listing.body.clone());
            }
            for line in listing.body.split(|byte| *byte == b'\n').filter(|_| listing.status == Status::Ok) {
                let key = std::str::from_utf8(line).expect("text");
                prop_assert!(keys.contains(key), "{:?}", key);
                prop_assert_eq!(key.lines().next(), Some(key.trim()));
                let value = format!("value of {key}");
                let as_a_url = |safe: &str| -> String {
                    let plain = |byte: u8| byte.is_ascii_alphanumeric() || safe.as_bytes().contains(&byte);
                    key.bytes()
                        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
                        .collect()
                };
                // As it is, as a browser or a library of URLs writes it, and with nothing left as it is.
                for spelling in [key.to_owned(), as_a_url("/-_.~"), as_a_url("-_.~"), encoded(key)] {
                    let answer = get(&instance, &format!("{directory}{spelling}"));
                    prop_assert_eq!(std::str::from_utf8(&answer.body), Ok(&*value), "{:?} in {}", spelling, tree);
                }
            }
        }
        prop_assert!(listings.windows(2).all(|pair| pair[0] == pair[1]));
        let plain = keys.iter().filter(|key| key.chars().all(|c| c.is_ascii_alphanumeric()) && !key.is_empty()).count();
        let listed = listings.first().map_or(0, |listing| listing.split(|byte| *byte == b'\n').count());
        prop_assert!(listed >= plain, "{} of {} plain keys are listed", listed, plain);
    }

    #[test]
    fn everything_that_an_ec2_listing_names_is_there(document in document()) {
        let instance = instance(&document, Cloud::default());
        for version in ["1.0", "2007-08-29", "2008-02-01", "latest"] {
            let listing = get(&instance, &format!("/{version}/meta-data/"));
            prop_assert_eq!(listing.status, Status::Ok);
            let names = String::from_utf8(listing.body.to_vec()).expect("text");
            prop_assert!(names.lines().is_sorted_by_key(|name| name.trim_end_matches('/')), "{}", names);
            for name in names.lines() {
                let answer = get(&instance, &format!("/{version}/meta-data/{name}"));
                prop_assert_eq!(answer.status, Status::Ok, "{}", name);
            }
        }
    }

    #[test]
    fn any_request_is_answered(
        method in prop_oneof!["GET|HEAD|POST|PUT|OPTIONS|get", "[A-Z]{1,8}"],
        target in prop_oneof![
            any::<String>(),
            "/(openstack|ec2|latest|1.0)?(/(latest|2012-08-10|content|meta-data|user-data|password|%[0-9a-g]{2}|\\.\\.|)){0,4}",
        ],
        accept in option::of(prop_oneof![any::<String>(), "[a-z*/;=q.,\" 01]{0,20}"]),
        body in collection::vec(any::<u8>(), 0..1100),
        has_length in any::<bool>(),
    ) {
        let document = json!({
            "uuid": "0171c6ae-ed6b-4787-bf6b-45a1db501aa3", "project_id": "p", "user_data": "x",
            "ports": [{"id": "71d7b07f-b17f-4aea-bf5c-9a565fd3c8b2", "mac_address": "fa:16:3e:11:22:01"}],
        });
        let reply = instance(&document, Cloud::default()).reply(&Request {
            method: &method,
            target: &target,
            accept: accept.as_deref(),
            content_length: has_length.then_some(body.len() as u64),
            body: &body,
            today: || Date::new(2026, 11, 23),
            seed: &|_| {},
        });
        match reply {
            Reply::Answer(answer) => prop_assert!(answer.status != Status::Conflict),
            Reply::Keep(_) => prop_assert!(method == "POST" && !body.is_empty()),
            Reply::Fetch(path) => prop_assert!(false, "a document has no {path} to be read"),
        }
    }

    #[test]
    fn any_text_is_a_document_or_an_error_with_a_place(text in prop_oneof![
        collection::vec(any::<u8>(), 0..200),
        document().prop_map(|document| document.to_string().into_bytes()),
    ], cut in any::<proptest::sample::Index>(), byte in any::<u8>()) {
        let mut text = text;
        if !text.is_empty() {
            let at = cut.index(text.len());
            text[at] = byte;
        }
        if let Err(error) = wire::parse(&text) {
            prop_assert!(error.line >= 1 && error.column >= 1 && !error.path.is_empty() && !error.remedy.is_empty());
        }
    }
}
