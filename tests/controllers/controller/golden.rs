//! The captured cases through the whole chain: Nova's APIs, controller, etcd, node, guest.
//!
//! Nova is the real one, with the facts of the cases in its databases; Keystone is the cloud's. Neutron is the stand-in
//! `tests/controllers/nova/neutron.py`, as the ports of the cases are in no real one.

use lab::controller::{Controller, ControllerPlan, HOST, World};
use lab::http::Request;
use lab::nova::facts;
use lab::openstack::Cloud;
use lab::{Guest, Node};
use serde_json::Value;

use super::patiently;
use crate::nova::cloud::{Answer, Ask, addresses, uuid};
use crate::nova::golden::{ANSWERS, Asked, CONFIGURED, WHOLE, Whole, answers};
use crate::openstack::CLOUD;

/// What a controller asks of a Nova that the lab has filled.
pub(super) fn plan(whole: &Whole, metadata: &str) -> ControllerPlan {
    let (nova, neutron) = (whole.compute.url(), whole.nova.neutron_url());
    let apis = format!("[nova]\nendpoint = \"{nova}/v2.1\"\n[neutron]\nendpoint = \"{neutron}\"\n");
    ControllerPlan::named("c1").metadata(metadata).further(&apis)
}

/// A node and a controller that has read everything. `tables` is `[cloud]` of both, `ports` what they can reach besides.
fn in_step<'a>(
    cloud: &'a Cloud,
    whole: &Whole,
    metadata: (&str, u16),
    tables: &str,
    ports: &[u16],
) -> (World<'a>, Controller) {
    let reached = [&[whole.compute.port(), whole.nova.neutron_port(), metadata.1], ports].concat();
    let world = World::reaching(cloud, tables, &reached).unwrap();
    let plan = plan(whole, &format!("endpoints = [{:?}]", metadata.0)).further(tables);
    let mut controller = plan.make(&world).unwrap();
    controller.start().unwrap();
    controller.wait_in_step().unwrap();
    world.node.start_daemon().unwrap();
    (world, controller)
}

/// Boots the guest of a case, with its first interface.
fn boot(node: &Node, facts: &Value) -> Guest {
    let vif = &facts["network_info"][0];
    let id = vif["id"].as_str().unwrap();
    let mut mac = [0; 6];
    for (octet, part) in mac.iter_mut().zip(vif["address"].as_str().unwrap().split(':')) {
        *octet = u8::from_str_radix(part, 16).unwrap();
    }
    let tap = vif["devname"].as_str().map_or_else(|| format!("tap{}", &id[..11]), str::to_owned);
    let guest = node.guest(&uuid(facts)).mac(mac).tap(&tap).undocumented();
    let ipv4 = addresses(facts).into_iter().find(|address| address.is_ipv4());
    let guest = match ipv4 {
        Some(address) => guest.ipv4(&format!("{address}/24")),
        None => guest.ipv6_only(),
    };
    let guest = guest.boot().unwrap();
    node.wait_bound(guest.ifindex()).unwrap();
    guest
}

/// Asks as a guest, over IPv4 if it has an address of it.
fn of_guest(guest: &Guest, asks: &[(Ask, Option<Answer>)]) -> Vec<Answer> {
    let request = Request::get("/");
    let request = if guest.ipv4().is_some() { request } else { request.over_ipv6() };
    let answers = guest.namespace().run(|| {
        let ask = |(ask, _): &(Ask, _)| {
            let mut connection = request.connect()?;
            connection.send_raw(&ask.bytes(&[]))?;
            let answer = connection.wait_closed()?;
            Ok(Answer::parse(&answer).expect("HTTP").without_seed())
        };
        asks.iter().map(ask).collect()
    });
    answers.unwrap()
}

/// Compares what guests read with what Nova answered. Returns how many answers were compared, and the pages beside documents.
fn compare(world: &World<'_>, controller: &Controller, asked: &[Asked]) -> (usize, usize) {
    let known = controller.instances().unwrap();
    let (mut compared, mut beside) = (0, 0);
    for Asked { case, facts, answers } in asked {
        let instance = known.iter().find(|known| known.instance == uuid(facts)).expect("the instance is known");
        assert_eq!(instance.error, None, "{case}");
        if facts["network_info"].as_array().is_some_and(Vec::is_empty) {
            // Nobody can ask.
            assert_eq!(world.document(HOST, &uuid(facts)).unwrap(), None, "{case}");
            continue;
        }
        let pages: Vec<_> = instance.pages.iter().map(|page| format!("{}: {}", page.path, page.reason)).collect();
        beside += pages.len();
        println!("{case}: {} requests, pages beside the document: {pages:?}", answers.len());
        let guest = boot(&world.node, facts);
        // What the services for vendor data answer comes a moment later.
        let is_vendor_data =
            |(ask, _): &&(Ask, _)| ask.method == "GET" && ask.target == "/openstack/latest/vendor_data2.json";
        let vendor_data = answers.iter().find(is_vendor_data).expect("a request for vendor data");
        patiently(&format!("the guest of {case} reads {:?}", vendor_data.1), || {
            let answer = of_guest(&guest, std::slice::from_ref(vendor_data)).pop();
            Ok((answer == vendor_data.1).then_some(()))
        })
        .unwrap();
        for ((ask, of_nova), ours) in answers.iter().zip(of_guest(&guest, answers)) {
            match of_nova {
                Some(of_nova) => assert_eq!(ours, *of_nova, "{case} {ask:?}"),
                None => assert_eq!(ours.status, 404, "Nova crashes: {case} {ask:?}"),
            }
            compared += 1;
        }
    }
    (compared, beside)
}

#[test]
fn every_captured_case_reaches_its_guest_as_nova_answers_it() {
    let (cloud, whole) = (CLOUD.get().unwrap(), WHOLE.get().unwrap());
    let asked = ANSWERS.get().unwrap();
    let (world, controller) = in_step(&cloud, &whole, (&whole.nova.url(), whole.nova.port()), "", &[]);
    let (compared, beside) = compare(&world, &controller, &asked);
    println!("{compared} answers compared, {beside} pages beside documents");
    assert!(compared > 3000, "{compared}");
    assert_eq!(beside, 0);
    let status = controller.status().unwrap();
    assert_eq!(status.problems, Vec::<String>::new());
}

#[test]
fn vendor_data_and_a_domain_reach_guests_as_nova_answers_them_where_cloud_has_the_same() {
    let (cloud, whole) = (CLOUD.get().unwrap(), WHOLE.get().unwrap());
    let configured = whole.nova.configured_metadata_api(&facts(CONFIGURED).unwrap()).unwrap();
    let port = configured.application.port();
    let asked = answers(port, &[CONFIGURED]).unwrap();
    let metadata = (&*configured.application.url(), port);
    let (world, controller) = in_step(&cloud, &whole, metadata, &configured.cloud, &[configured.targets]);
    let (compared, beside) = compare(&world, &controller, &asked);
    println!("{compared} answers compared, {beside} pages beside documents");
    assert!(compared > 300, "{compared}");
    assert_eq!(beside, 0);
}
