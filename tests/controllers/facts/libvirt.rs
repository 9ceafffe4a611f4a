//! Taps bound by libvirt's domain XML.

use std::fs;
use std::io::Write as _;

use lab::{Domain, NodePlan, Request};
use serde_json::json;

use super::{
    disagreements, is_held, observer, portless, reads, start, tag, wait_bound_by, wait_observer, wait_refused, world,
};

#[test]
fn a_domain_binds_its_tap_and_the_document_follows() {
    let node = start();
    let guest = node.guest("a").undocumented().boot().unwrap();
    node.wait_held(guest.ifindex()).unwrap();
    assert_eq!(observer(&node, "libvirt")["present"], false);
    let held = tag(&node, &guest);
    // Its directory comes later than the daemon.
    Domain::of(&guest).write(&node.domains()).unwrap();
    wait_bound_by(&node, &guest, guest.uuid(), "libvirt");
    assert_eq!(tag(&node, &guest), held, "a held tag carried nobody's data");
    is_held(&guest);
    let port = node.port(guest.tap()).unwrap();
    assert_eq!((port["port"].as_str(), port["project"].as_str()), (Some(guest.port()), Some("project-of-libvirt")));
    node.write(&portless(&guest)).unwrap();
    lab::wait::until("content is served", || Ok((guest.get("/openstack")?.status == 200).then_some(()))).unwrap();
    reads(&guest, guest.uuid());
    // The MAC is the kernel's to enforce, the address is not.
    assert_eq!(
        port["sources"].as_array().unwrap().iter().map(|source| source["prefix"].clone()).collect::<Vec<_>>(),
        ["0.0.0.0/0", "::/0"]
    );
    guest.namespace().ip("link set eth0 down").unwrap();
    guest.namespace().ip("link set eth0 address 02:00:00:00:66:66").unwrap();
    guest.namespace().ip_batch("link set eth0 up\nroute replace 169.254.169.254 dev eth0\n").unwrap();
    let refused = guest.send(&Request::get("/openstack").patience(std::time::Duration::from_millis(300)));
    assert!(refused.is_err(), "another MAC is answered: {refused:?}");
}

#[test]
fn a_document_that_describes_the_port_fills_in_its_sources() {
    let node = start();
    let guest = node.guest("a").undocumented().boot().unwrap();
    Domain::of(&guest).write(&node.domains()).unwrap();
    wait_bound_by(&node, &guest, guest.uuid(), "libvirt");
    let before = tag(&node, &guest);
    node.write(guest.document()).unwrap();
    node.wait_port_shown(guest.tap(), "has the document's sources", |port| {
        port["sources"].as_array().is_some_and(|sources| sources.len() == 1) && port["origin"] == "libvirt"
    })
    .unwrap();
    reads(&guest, guest.uuid());
    // Hot-plugged: the document lacks it again, and the fact alone binds it.
    node.write(&portless(&guest)).unwrap();
    node.wait_port_shown(guest.tap(), "may use any address", |port| {
        port["sources"].as_array().is_some_and(|sources| sources.len() == 2)
    })
    .unwrap();
    reads(&guest, guest.uuid());
    assert_eq!(tag(&node, &guest), before, "one instance, one port, one tag");
}

#[test]
fn an_interface_of_a_libvirt_network_is_the_port_that_its_actual_names() {
    let node = start();
    let guest = node.guest("a").undocumented().boot().unwrap();
    // Its document describes the port, and calls its device by another name: only the port's id ties them together.
    node.write(&guest.document().clone().with_port("devname", "tapelsewhere")).unwrap();
    let mac = lab::guest::mac_text(guest.mac());
    let domain = Domain::new(guest.uuid()).interface("network", guest.tap(), &mac, Some(guest.port()));
    domain.write(&node.domains()).unwrap();
    wait_bound_by(&node, &guest, guest.uuid(), "libvirt");
    node.wait_port_shown(guest.tap(), "is the document's port", |port| {
        port["port"] == guest.port() && port["sources"].as_array().is_some_and(|sources| sources.len() == 1)
    })
    .unwrap();
    reads(&guest, guest.uuid());
}

#[test]
fn a_disagreement_is_refused_counted_once_explained_and_healed() {
    let node = start();
    let guest = node.guest("a").boot().unwrap();
    reads(&guest, guest.uuid());
    let rival = "ffffffff-0000-4000-9000-00000000000a";
    Domain::new(rival).with(&guest).write(&node.domains()).unwrap();
    wait_refused(&node, &guest, &["libvirt says instance ffffffff", "the document of", "correct the domain"]);
    is_held(&guest);
    assert_eq!(disagreements(&node), 1);
    // A refusal that lasts is one, however its reason changes.
    node.write(&guest.document().clone().with("user_data", "changed")).unwrap();
    let second = "ffffffff-0000-4000-9000-00000000000b";
    Domain::new(second).with(&guest).write(&node.domains()).unwrap();
    wait_refused(&node, &guest, &["libvirt says instance ffffffff", "libvirt says instance ffffffff"]);
    assert_eq!(disagreements(&node), 1);
    assert!(node.told(&["status"]).unwrap().contains("1 disagreements"));
    Domain::new(rival).remove(&node.domains()).unwrap();
    Domain::new(second).remove(&node.domains()).unwrap();
    wait_bound_by(&node, &guest, guest.uuid(), "document");
    reads(&guest, guest.uuid());
    // A MAC that differs is one more.
    let mac = "fa:16:3e:ff:ff:ff";
    Domain::new(guest.uuid()).interface("bridge", guest.tap(), mac, Some(guest.port())).write(&node.domains()).unwrap();
    wait_refused(&node, &guest, &[mac, "MAC"]);
    assert_eq!(disagreements(&node), 2);
    Domain::of(&guest).write(&node.domains()).unwrap();
    wait_bound_by(&node, &guest, guest.uuid(), "libvirt");
    reads(&guest, guest.uuid());
}

#[test]
fn interfaces_of_one_domain_come_and_go_while_it_runs() {
    let node = start();
    let first = node.guest("a").undocumented().boot().unwrap();
    let mut second = node.guest("b").undocumented().boot().unwrap();
    node.write(&portless(&first)).unwrap();
    Domain::of(&first).write(&node.domains()).unwrap();
    wait_bound_by(&node, &first, first.uuid(), "libvirt");
    reads(&first, first.uuid());
    let (before, request) = (tag(&node, &first), Request::get("/openstack"));
    let mut connection = first.namespace().run(|| request.connect()).unwrap();
    assert_eq!(connection.exchange(&request).unwrap().status, 200);
    // Hot-plugged, the file written in place this time.
    let both = Domain::of(&first).with(&second);
    let path = node.domains().join(format!("instance-{}.xml", first.uuid()));
    fs::write(&path, both.text()).unwrap();
    wait_bound_by(&node, &second, first.uuid(), "libvirt");
    reads(&second, first.uuid());
    // Unplugged: first the tap, then the XML.
    let index = second.ifindex();
    second.unplug(&node).unwrap();
    node.wait_unknown(index).unwrap();
    Domain::of(&first).write(&node.domains()).unwrap();
    wait_observer(&node, "libvirt", "has one fact", |observer| observer["facts"] == 1);
    // The same link, plugged again, is nobody's.
    second.plug(&node, None).unwrap();
    node.wait_held(second.ifindex()).unwrap();
    is_held(&second);
    assert_eq!(connection.exchange(&request).unwrap().status, 200, "the first interface was left alone");
    assert_eq!(tag(&node, &first), before);
}

#[test]
fn a_port_that_moves_to_another_instance_takes_no_data_along() {
    let node = start();
    let guest = node.guest("a").undocumented().boot().unwrap();
    let heir = "ffffffff-0000-4000-9000-00000000000c";
    node.write(&portless(&guest)).unwrap();
    node.write(&portless(&guest).with("uuid", heir)).unwrap();
    Domain::of(&guest).write(&node.domains()).unwrap();
    wait_bound_by(&node, &guest, guest.uuid(), "libvirt");
    let (before, request) = (tag(&node, &guest), Request::get("/openstack/latest/meta_data.json"));
    let mut connection = guest.namespace().run(|| request.connect()).unwrap();
    assert_eq!(connection.exchange(&request).unwrap().json().unwrap()["uuid"], guest.uuid());
    // The heir's domain is there before the other has lost it: nobody's for as long.
    Domain::new(heir).with(&guest).write(&node.domains()).unwrap();
    wait_refused(&node, &guest, &[heir, guest.uuid()]);
    assert_eq!(connection.wait_closed().unwrap(), b"");
    is_held(&guest);
    Domain::new(guest.uuid()).write(&node.domains()).unwrap();
    wait_bound_by(&node, &guest, heir, "libvirt");
    reads(&guest, heir);
    assert_ne!(tag(&node, &guest), before);
}

#[test]
fn a_migration_to_this_node_is_served_in_whatever_order_its_parts_come() {
    let node = start();
    fs::create_dir(node.domains()).unwrap();
    for order in ["xml tap document", "document xml tap", "tap document xml", "xml document tap"] {
        let mut guest = node.guest("a").undocumented().boot().unwrap();
        guest.unplug(&node).unwrap();
        for part in order.split(' ') {
            match part {
                "xml" => Domain::of(&guest).incoming().write(&node.domains()).unwrap(),
                "tap" => guest.plug(&node, None).unwrap(),
                _ => node.write(&portless(&guest)).unwrap(),
            }
        }
        wait_bound_by(&node, &guest, guest.uuid(), "libvirt");
        let before = tag(&node, &guest);
        lab::wait::until("content is served", || Ok((guest.get("/openstack")?.status == 200).then_some(()))).unwrap();
        reads(&guest, guest.uuid());
        // It runs.
        Domain::of(&guest).write(&node.domains()).unwrap();
        reads(&guest, guest.uuid());
        assert_eq!(tag(&node, &guest), before, "{order}");
        // And away again: the domain ends here, its tap goes, its document last.
        let index = guest.ifindex();
        Domain::of(&guest).remove(&node.domains()).unwrap();
        guest.unplug(&node).unwrap();
        node.wait_unknown(index).unwrap();
        wait_observer(&node, "libvirt", "has no fact", |observer| observer["facts"] == 0);
        node.remove_document(guest.uuid()).unwrap();
    }
}

#[test]
fn half_a_document_leaves_the_last_good_one() {
    let (node, guest) = world();
    let (domain, path) = (Domain::of(&guest), node.domains().join(format!("instance-{}.xml", guest.uuid())));
    domain.write(&node.domains()).unwrap();
    wait_bound_by(&node, &guest, guest.uuid(), "libvirt");
    let before = tag(&node, &guest);
    let text = domain.text();
    let mut file = fs::File::create(&path).unwrap();
    file.write_all(&text.as_bytes()[..text.len() / 2]).unwrap();
    reads(&guest, guest.uuid());
    drop(file);
    fs::write(node.domains().join("garbage.xml"), b"\xff\xfe<<<").unwrap();
    wait_observer(&node, "libvirt", "names two files", |observer| {
        observer["unreadable"].as_array().is_some_and(|files| files.len() == 2)
    });
    let shown = observer(&node, "libvirt")["unreadable"].to_string();
    assert!(shown.contains("not complete XML") && shown.contains("; its last good version stays in use"), "{shown}");
    assert!(shown.contains("garbage.xml: "), "{shown}");
    reads(&guest, guest.uuid());
    fs::write(&path, &text).unwrap();
    fs::remove_file(node.domains().join("garbage.xml")).unwrap();
    wait_observer(&node, "libvirt", "is well", |observer| observer["unreadable"].is_null());
    assert_eq!(tag(&node, &guest), before);
}

#[test]
fn a_directory_that_goes_and_comes_moves_no_port() {
    let (node, guest) = world();
    let domain = Domain::of(&guest);
    domain.write(&node.domains()).unwrap();
    wait_bound_by(&node, &guest, guest.uuid(), "libvirt");
    let (before, request) = (tag(&node, &guest), Request::get("/openstack"));
    let mut connection = guest.namespace().run(|| request.connect()).unwrap();
    assert_eq!(connection.exchange(&request).unwrap().status, 200);
    // File by file, as `rm -r` does.
    fs::remove_dir_all(node.domains()).unwrap();
    wait_observer(&node, "libvirt", "is gone", |observer| {
        observer["present"] == false && observer["error"].as_str().is_some_and(|error| error.contains("stays"))
    });
    assert_eq!(connection.exchange(&request).unwrap().status, 200);
    fs::create_dir(node.domains()).unwrap();
    wait_observer(&node, "libvirt", "is back", |observer| observer["present"] == true);
    assert_eq!(connection.exchange(&request).unwrap().status, 200);
    domain.write(&node.domains()).unwrap();
    assert_eq!(connection.exchange(&request).unwrap().status, 200);
    assert_eq!(tag(&node, &guest), before);
}

#[test]
fn a_restarted_daemon_keeps_tags_that_facts_gave() {
    let (node, guest) = world();
    Domain::of(&guest).write(&node.domains()).unwrap();
    wait_bound_by(&node, &guest, guest.uuid(), "libvirt");
    let before = tag(&node, &guest);
    for _ in 0..3 {
        node.kill_daemon().unwrap();
        node.start_daemon().unwrap();
        reads(&guest, guest.uuid());
        assert_eq!(tag(&node, &guest), before);
    }
}

#[test]
fn interfaces_without_a_tap_are_named() {
    let node = start();
    let uuid = "ffffffff-0000-4000-9000-00000000000d";
    Domain::new(uuid)
        .interface("vhostuser", "vhu1", "fa:16:3e:00:00:01", None)
        .interface("hostdev", "", "fa:16:3e:00:00:02", None)
        .interface("direct", "macvtap0", "fa:16:3e:00:00:03", None)
        .write(&node.domains())
        .unwrap();
    wait_observer(&node, "libvirt", "names three interfaces", |observer| {
        observer["unreachable_ports"].as_array().is_some_and(|devices| devices.len() == 3)
    });
    let shown = node.told(&["status"]).unwrap();
    for word in ["vhu1 of", "fa:16:3e:00:00:02 of", "macvtap0 of", "config drive", uuid] {
        assert!(shown.contains(word), "{word}: {shown}");
    }
}

#[test]
fn beside_other_agents_facts_alone_take_no_port() {
    let node = NodePlan::default().unbound("pass").start().unwrap();
    let guest = node.guest("a").undocumented().boot().unwrap();
    Domain::of(&guest).write(&node.domains()).unwrap();
    wait_observer(&node, "libvirt", "has a fact", |observer| observer["facts"] == 1);
    assert_eq!(node.port(guest.tap()).unwrap()["state"], json!("passed"));
    node.write(&portless(&guest)).unwrap();
    wait_bound_by(&node, &guest, guest.uuid(), "libvirt");
    reads(&guest, guest.uuid());
}

#[test]
fn facts_can_be_switched_off() {
    let node = NodePlan::default().make().unwrap();
    let text = fs::read_to_string(node.config()).unwrap();
    fs::write(node.config(), text.replace("[facts]\n", "[facts]\nlibvirt = \"off\"\nopenvswitch = \"off\"\n")).unwrap();
    let guest = node.guest("a").undocumented().at_once().boot().unwrap();
    Domain::of(&guest).write(&node.domains()).unwrap();
    node.start_daemon().unwrap();
    assert_eq!(node.port(guest.tap()).unwrap()["state"], json!("held"));
    assert!(node.status().unwrap()["facts"].is_null());
}
