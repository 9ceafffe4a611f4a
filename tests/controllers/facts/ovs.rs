//! Taps bound by Open vSwitch's database.

use std::fs;

use lab::{Domain, Guest, Node, Ovsdb, Request};

use super::{
    disagreements, is_held, observer, portless, reads, start, tag, wait_bound_by, wait_observer, wait_refused, world,
};

/// A node with a guest that only facts can bind, and then the database.
fn switched() -> (Node, Guest, Ovsdb) {
    let (node, guest) = world();
    let ovsdb = Ovsdb::start(&node.ovsdb()).unwrap();
    (node, guest, ovsdb)
}

#[test]
fn the_database_binds_a_tap_moves_it_and_lets_it_go() {
    // The database comes later than the daemon.
    let (node, guest, ovsdb) = switched();
    ovsdb.plug(guest.tap(), &guest, guest.uuid()).unwrap();
    wait_bound_by(&node, &guest, guest.uuid(), "Open vSwitch");
    reads(&guest, guest.uuid());
    let (before, request) = (tag(&node, &guest), Request::get("/openstack/latest/meta_data.json"));
    let mut connection = guest.namespace().run(|| request.connect()).unwrap();
    assert_eq!(connection.exchange(&request).unwrap().json().unwrap()["uuid"], guest.uuid());
    let heir = "ffffffff-0000-4000-9000-00000000001a";
    node.write(&portless(&guest).with("uuid", heir)).unwrap();
    ovsdb.plug(guest.tap(), &guest, heir).unwrap();
    wait_bound_by(&node, &guest, heir, "Open vSwitch");
    assert_eq!(connection.wait_closed().unwrap(), b"");
    reads(&guest, heir);
    assert_ne!(tag(&node, &guest), before);
    ovsdb.unplug(guest.tap()).unwrap();
    node.wait_held(guest.ifindex()).unwrap();
    is_held(&guest);
}

#[test]
fn with_hybrid_plugging_the_tap_beside_the_row_is_bound() {
    let (node, guest, ovsdb) = switched();
    ovsdb.plug(&guest.tap().replacen("tap", "qvo", 1), &guest, guest.uuid()).unwrap();
    wait_bound_by(&node, &guest, guest.uuid(), "Open vSwitch");
    reads(&guest, guest.uuid());
    assert!(observer(&node, "Open vSwitch")["unreachable_ports"].is_null());
}

#[test]
fn a_tap_that_libvirt_plugged_is_bound_by_its_vm_id() {
    let (node, guest, ovsdb) = switched();
    ovsdb.plug_as(guest.tap(), &guest, &[("vm-id", guest.uuid())]).unwrap();
    wait_bound_by(&node, &guest, guest.uuid(), "Open vSwitch");
    reads(&guest, guest.uuid());
    // A row that names two instances is refused, and heals.
    ovsdb.plug_as(guest.tap(), &guest, &[("vm-uuid", "ffffffff-0000-4000-9000-00000000001c")]).unwrap();
    wait_refused(&node, &guest, &["Open vSwitch says instance ffffffff", guest.uuid(), "external_ids of interface"]);
    is_held(&guest);
    assert_eq!(disagreements(&node), 1);
    ovsdb.plug_as(guest.tap(), &guest, &[("vm-uuid", guest.uuid())]).unwrap();
    wait_bound_by(&node, &guest, guest.uuid(), "Open vSwitch");
    reads(&guest, guest.uuid());
}

#[test]
fn two_observers_agree_disagree_and_agree_again() {
    let (node, guest, ovsdb) = switched();
    Domain::of(&guest).write(&node.domains()).unwrap();
    ovsdb.plug(guest.tap(), &guest, guest.uuid()).unwrap();
    wait_bound_by(&node, &guest, guest.uuid(), "Open vSwitch");
    reads(&guest, guest.uuid());
    ovsdb.plug(guest.tap(), &guest, "ffffffff-0000-4000-9000-00000000001b").unwrap();
    wait_refused(&node, &guest, &["Open vSwitch says instance", "libvirt says instance", "external_ids", "domain"]);
    is_held(&guest);
    assert_eq!(disagreements(&node), 1);
    ovsdb.plug(guest.tap(), &guest, guest.uuid()).unwrap();
    wait_bound_by(&node, &guest, guest.uuid(), "Open vSwitch");
    reads(&guest, guest.uuid());
    assert_eq!(disagreements(&node), 1);
}

#[test]
fn guests_stay_bound_while_the_database_or_the_daemon_is_away() {
    let (node, guest, ovsdb) = switched();
    ovsdb.plug(guest.tap(), &guest, guest.uuid()).unwrap();
    wait_bound_by(&node, &guest, guest.uuid(), "Open vSwitch");
    let (before, request) = (tag(&node, &guest), Request::get("/openstack"));
    let mut connection = guest.namespace().run(|| request.connect()).unwrap();
    assert_eq!(connection.exchange(&request).unwrap().status, 200);
    drop(ovsdb);
    wait_observer(&node, "Open vSwitch", "is away", |observer| {
        observer["present"] == false && observer["error"].is_string() && observer["facts"] == 1
    });
    assert_eq!(connection.exchange(&request).unwrap().status, 200);
    // A killed server leaves its socket, in the way of the next.
    let _ = fs::remove_file(node.ovsdb());
    let _ovsdb = Ovsdb::start(&node.ovsdb()).unwrap();
    wait_observer(&node, "Open vSwitch", "is back", |observer| {
        observer["present"] == true && observer["error"].is_null()
    });
    assert_eq!(connection.exchange(&request).unwrap().status, 200);
    assert_eq!(tag(&node, &guest), before);
    node.kill_daemon().unwrap();
    node.start_daemon().unwrap();
    reads(&guest, guest.uuid());
    assert_eq!(tag(&node, &guest), before);
}

#[test]
fn rows_that_cannot_be_read_are_named() {
    let node = start();
    let guest = node.guest("a").undocumented().boot().unwrap();
    let ovsdb = Ovsdb::start(&node.ovsdb()).unwrap();
    ovsdb.plug(guest.tap(), &guest, "no-instance").unwrap();
    wait_observer(&node, "Open vSwitch", "names a row", |observer| {
        observer["unreadable"][0].as_str().is_some_and(|row| row.contains(guest.tap()) && row.contains("no-instance"))
    });
    is_held(&guest);
}
