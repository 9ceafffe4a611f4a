//! From Nova's answers back to a document: captured ones, and those of documents of every shape.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use lab::golden::Golden;
use metadata_user::api::{Cloud, Content, NovaPages, Page, RenderedInstance, Status, check_path};
use metadata_user::controller::derive::{self, Derived, Facts, PortFacts};
use metadata_user::record::{InstanceId, InstanceRecord, PortRecord};
use metadata_user::source::wire;
use serde_json::Value;

use crate::case::Case;
use crate::properties::get;
use crate::{ask, compare, expect};

/// Returns what Nova answered in a case, as a controller reads it: by path, as far as paths are spelled plainly.
pub(crate) fn pages(case: &Case) -> NovaPages {
    let mut pages = BTreeMap::new();
    for row in &case.rows {
        let path = row.path.trim_matches('/');
        let is_plain = row.method == "GET" && !path.contains(['%', '?', '#', '*', ':']) && row.path.starts_with('/');
        let is_own = !["identity", "password"].contains(&&*row.group);
        if !is_plain || !is_own || check_path(path).is_err() && !path.ends_with("/password") {
            continue;
        }
        let page = match row.answer.status {
            200 => Page::found(row.answer.content_type.as_deref(), row.answer.body.clone().into()),
            404 => Page::not_found(),
            _ => continue,
        };
        pages.insert(path.to_owned(), page);
    }
    NovaPages::new(case.record().uuid, pages)
}

/// Returns what Neutron says of an instance's ports.
pub(crate) fn ports(record: &InstanceRecord) -> Vec<PortFacts> {
    let port = |port: &PortRecord| PortFacts {
        id: port.id,
        mac_address: port.mac_address,
        fixed_ips: port.fixed_ips.iter().map(|ip| ip.ip_address.ip()).collect(),
        allowed_address_pairs: port.allowed_address_pairs.clone(),
        port_security: port.port_security,
        network: Some(port.network.id),
        tap: None,
    };
    record.ports.iter().map(port).collect()
}

/// Derives, and checks what holds for every derivation.
fn derived(pages: &NovaPages, ports: &[PortFacts], image: Option<&str>, cloud: &Arc<Cloud>) -> Derived {
    let derived = derive::derive(&Facts { pages, ports, image }, cloud).unwrap_or_else(|error| panic!("{error}"));
    let mut backwards = ports.to_vec();
    backwards.reverse();
    let again = derive::derive(&Facts { pages, ports: &backwards, image }, cloud).expect("the same");
    assert!(again.document == derived.document, "the order of Neutron's ports shows");
    assert!(wire::parse(&derived.document).expect("a document") == derived.record);
    let differences = derive::differences(pages, &derived.record, cloud);
    assert!(differences.is_empty(), "{differences:?}");
    for port in ports {
        let of_document = derived.record.ports.iter().find(|other| other.id == port.id).expect("every port");
        assert_eq!(of_document.mac_address, port.mac_address);
        assert_eq!(of_document.port_security, port.port_security);
        let mut addresses: Vec<_> = of_document.fixed_ips.iter().map(|ip| ip.ip_address.ip()).collect();
        let mut expected = port.fixed_ips.clone();
        addresses.sort_unstable();
        expected.sort_unstable();
        expected.dedup();
        assert_eq!(addresses, expected);
    }
    derived
}

fn image(golden: &Golden) -> Option<String> {
    golden.document["image_ref"].as_str().map(str::to_owned)
}

#[test]
fn captured_answers_become_documents_that_give_them_again() {
    let cases = Case::all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")).expect("the cases");
    let mut report = String::new();
    for case in &cases {
        let (pages, facts) = (pages(case), ports(&case.record()));
        let cloud = Arc::new(case.golden.cloud.settings());
        let derived = derived(&pages, &facts, image(&case.golden).as_deref(), &cloud);
        let (given, beside) = (pages.pages().count(), derived.beside.len());
        println!(
            "{}: {given} pages of Nova, {beside} beside a document of {} bytes",
            case.name,
            derived.document.len()
        );
        for page in &derived.beside {
            report += &format!("{}: {}: {}\n", case.name, page.path, page.reason);
        }
        // Every captured request, not only what was read ahead.
        let mut guest = ask::Guest::of(derived.record, case);
        let mut expectations = expect::Expectations::new(case);
        for row in &case.rows {
            let (expected, _) = expectations.of(row);
            if let Some(what) = compare::difference(row, &expected, &guest.ask(row)) {
                report += &format!("{}: {} {}\n{what}\n", case.name, row.method, row.shown_path());
            }
        }
        // Without Neutron's help the answers are the same; a page may be needed.
        if !case.record().ports.iter().all(|port| !port.listed) {
            let alone = derive::derive(&Facts { pages: &pages, ports: &[], image: None }, &cloud).expect("a document");
            assert!(derive::differences(&pages, &alone.record, &cloud).is_empty(), "{}", case.name);
        }
    }
    assert!(report.is_empty(), "{report}");
}

/// Returns everything that a record renders to, as Nova would list it.
pub(crate) fn crawled(instance: &RenderedInstance) -> NovaPages {
    let mut pages = BTreeMap::new();
    let mut queue = vec![String::new(), "openstack".to_owned(), "openstack/content/0000".to_owned()];
    while let Some(path) = queue.pop() {
        let target = format!("/{}", path.replace('%', "%25").replace('?', "%3f").replace('#', "%23"));
        let answer = get(instance, &target);
        if answer.status != Status::Ok {
            pages.insert(path, Page::not_found());
            continue;
        }
        let segments: Vec<&str> = path.split('/').collect();
        let is_listing = match segments[..] {
            [""] | ["openstack"] | ["openstack", _] => true,
            ["openstack", ..] => false,
            [_] | [_, "meta-data"] | [_, "meta-data", "placement" | "block-device-mapping" | "public-keys"] => true,
            [_, "meta-data", "public-keys", _] => true,
            _ => false,
        };
        if is_listing {
            let is_keys = path.ends_with("/public-keys");
            let text = String::from_utf8(answer.body.to_vec()).expect("text");
            // A key's name may have line breaks.
            let names = if is_keys { vec!["0", "0/_name"] } else { text.split('\n').collect() };
            queue.extend(names.into_iter().map(|name| {
                let name = name.trim_end_matches('/');
                if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") }
            }));
            if segments[0] == "openstack" && segments.len() == 2 {
                queue.extend(
                    ["network_data.json", "version", "user_data", "vendor_data2.json"]
                        .map(|name| format!("{path}/{name}")),
                );
            }
        }
        pages.insert(path, Page::found(answer.content_type.as_deref(), answer.body));
    }
    NovaPages::new(instance.record().uuid, pages)
}

/// Checks a document: what it renders to is derived from.
pub(crate) fn check(document: &Value, beside: bool) -> Result<(), String> {
    let record = Arc::new(wire::parse(document.to_string().as_bytes()).map_err(|error| error.to_string())?);
    let cloud = Arc::new(Cloud::default());
    let instance = RenderedInstance::new(Arc::clone(&record), Arc::clone(&cloud));
    let pages = crawled(&instance);
    let derived = derived(&pages, &ports(&record), record.image_ref.as_deref(), &cloud);
    if !beside && !derived.beside.is_empty() {
        let differences =
            derive::differences(&pages, &InstanceRecord { pages: Vec::new(), ..derived.record.clone() }, &cloud);
        let shown: Vec<String> = differences
            .iter()
            .take(4)
            .map(|one| format!("{}: {}\n  {}\n  {}", one.path, one.reason, one.nova, one.ours))
            .collect();
        return Err(format!("{}\nof {document:#}", shown.join("\n")));
    }
    assert_eq!(Content::Rendered(Arc::new(instance)).uuid(), InstanceId(derived.record.uuid.0));
    Ok(())
}
