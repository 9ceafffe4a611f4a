//! A guest's password: Nova's to take, once.

use lab::nova::{Nova, another, facts};

use super::cloud::{Ask, Node, uuid};
use super::{NOVA, POSTING};

const PATH: &str = "/openstack/latest/password";

#[test]
fn a_password_is_written_through_and_read_back() {
    let facts = another(&facts("multi-nic").unwrap(), POSTING);
    let nova = NOVA.get().unwrap();
    let node = Node::start(&[nova.url()], "refresh_interval = '1s'\n");
    node.boot(&facts);
    node.wait_current();
    let id = uuid(&facts);
    assert_eq!(node.get(&id, PATH).body, b"");
    let too_long = "x".repeat(1021);
    assert_eq!(node.ask(&id, &Ask::post(PATH, &too_long)).status, 400);
    let posted = node.ask(&id, &Ask::post(PATH, "cipher"));
    assert_eq!((posted.status, posted.text().as_str()), (200, ""));
    assert_eq!(node.get(&id, PATH).text(), "cipher", "at once");
    assert_eq!(node.get(&id, "/openstack/2018-08-27/password").text(), "cipher", "in every version");
    assert_eq!(node.get(&id, "/openstack/2013-04-04/password").text(), "cipher", "in one that is read through");
    assert_eq!(node.ask(&id, &Ask::post(PATH, "other")).status, 409);
    lab::wait::until("Nova has it", || {
        let answer = Ask::get(PATH).of_nova(nova.port(), &facts).expect("an answer");
        Ok((answer.text() == "cipher").then_some(()))
    })
    .unwrap();
}

#[test]
fn without_nova_a_password_is_not_taken() {
    let facts = facts("multi-nic").unwrap();
    let nova = Nova::start(std::slice::from_ref(&facts)).unwrap();
    let node = Node::start(&[nova.url()], "");
    node.boot(&facts);
    node.wait_current();
    nova.stop();
    let id = uuid(&facts);
    assert_eq!(node.ask(&id, &Ask::post(PATH, "cipher")).status, 503);
    assert_eq!(node.get(&id, PATH).body, b"", "nobody has it");
    nova.resume().unwrap();
    lab::wait::until("it is taken", || Ok((node.ask(&id, &Ask::post(PATH, "cipher")).status == 200).then_some(())))
        .unwrap();
}
