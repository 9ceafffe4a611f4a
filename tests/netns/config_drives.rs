//! Images of config drives that the daemon keeps (`[configdrive] auto`), for an instance with an SR-IOV port.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use lab::{Document, Node, NodePlan, wait};
use serde_json::{Value, json};

use crate::metrics::value;
use crate::restart::SmallDisk;

const UUID: &str = "cccccccc-0000-4000-9000-000000000001";

/// An instance whose guest has a function of a network card for itself.
fn instance(user_data: &str) -> Document {
    let port = json!({"id": "cccccccc-0000-4000-8000-000000000001", "mac_address": "fa:16:3e:00:00:c1", "vif_type": "hw_veb",
        "fixed_ips": [{"ip_address": "10.0.0.5"}]});
    Document::new(UUID, "sr-iov", port).with("user_data", user_data)
}

fn plan() -> NodePlan {
    NodePlan::default().config_drives("auto = \"unreachable-ports\"\n")
}

fn image(node: &Node) -> PathBuf {
    node.drives().join(format!("{UUID}.iso"))
}

fn holds(node: &Node, text: &str) -> bool {
    fs::read(image(node)).is_ok_and(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
}

fn state(node: &Node) -> Value {
    node.status().unwrap()["config_drives"].clone()
}

/// Waits until the daemon says why images are not as they should be, and returns that.
fn problem(node: &Node) -> String {
    wait::until("the problem is shown", || Ok(node.status()?["config_drives"]["error"].as_str().map(str::to_owned)))
        .unwrap()
}

#[test]
fn an_image_is_there_when_the_daemon_is_ready_follows_its_instance_outlives_daemons_and_goes_with_it() {
    let node = plan().make().unwrap();
    node.write(&instance("the-first-user-data")).unwrap();
    node.start_daemon().unwrap();
    assert!(holds(&node, "the-first-user-data"), "there is no image though the daemon is ready");
    let found = fs::metadata(image(&node)).unwrap();
    assert_eq!((found.mode() & 0o7777, found.uid(), found.gid()), (0o600, 0, 0));
    assert_eq!(fs::metadata(node.drives()).unwrap().mode() & 0o7777, 0o711);
    let guest = node.guest("a").boot().unwrap();
    assert_eq!(guest.read_uuid(false).unwrap(), guest.uuid());
    let directory = node.drives().display().to_string();
    assert_eq!(state(&node), json!({"directory": directory, "current": 1, "waiting": 0, "failed": 0}));
    let metrics = node.metrics().unwrap();
    assert_eq!(value(&metrics, "metadatad_config_drives{state=\"current\"}"), Some(1.0));
    assert_eq!(value(&metrics, "metadatad_config_drives_up"), Some(1.0));
    node.ask(&["status", "--check"]).unwrap();
    let threads = node.security().unwrap().threads;
    let thread = threads.iter().find(|thread| thread.name == "config-drives").unwrap();
    let capabilities: Vec<_> = thread.capabilities.iter().map(|held| held.name.as_str()).collect();
    assert_eq!(capabilities, ["CAP_CHOWN"]);
    assert!(thread.landlock.as_deref().unwrap().starts_with(&format!("changes only {directory} ")), "{thread:?}");

    let inode = || fs::metadata(image(&node)).unwrap().ino();
    let first = inode();
    node.write(&instance("the-second-user-data")).unwrap();
    wait::until("the changed image", || Ok(holds(&node, "the-second-user-data").then_some(()))).unwrap();
    let second = inode();
    assert_ne!(second, first, "it was changed in place");

    node.stop_daemon().unwrap();
    assert_eq!(inode(), second, "for guests that start meanwhile");
    node.start_daemon().unwrap();
    node.kill_daemon().unwrap();
    node.start_daemon().unwrap();
    node.take_over().unwrap();
    assert_eq!(inode(), second, "one that is current was exchanged");
    node.write(&instance("the-third-user-data")).unwrap();
    wait::until("the changed image", || Ok(holds(&node, "the-third-user-data").then_some(()))).unwrap();

    node.remove_document(UUID).unwrap();
    let names = || fs::read_dir(node.drives()).unwrap().count();
    wait::until("the image is gone", || Ok((names() == 0).then_some(()))).unwrap();
    assert_eq!(guest.read_uuid(false).unwrap(), guest.uuid());
}

#[test]
fn an_instance_that_is_gone_while_the_daemon_is_stopped_has_no_image_after_its_start() {
    let node = plan().make().unwrap();
    node.write(&instance("user data")).unwrap();
    node.start_daemon().unwrap();
    node.stop_daemon().unwrap();
    node.remove_document(UUID).unwrap();
    node.start_daemon().unwrap();
    wait::until("the image is gone", || Ok((!image(&node).exists()).then_some(()))).unwrap();
    node.write(&instance("user data")).unwrap();
    wait::until("the image is there", || Ok(image(&node).exists().then_some(()))).unwrap();

    node.stop_daemon().unwrap();
    let off = fs::read_to_string(node.config()).unwrap().replace("auto = \"unreachable-ports\"\n", "");
    fs::write(node.config(), off).unwrap();
    node.start_daemon().unwrap();
    assert_eq!(fs::read_dir(node.drives()).unwrap().count(), 0, "images are switched off");
    assert_eq!(state(&node), Value::Null);
}

#[test]
fn a_group_that_there_is_not_and_a_directory_that_cannot_be_used_are_named_and_guests_are_answered() {
    let node = plan().config_drives("group = \"no-such-group\"\n").make().unwrap();
    node.write(&instance("user data")).unwrap();
    node.start_daemon().unwrap();
    let error = problem(&node);
    assert!(error.contains("no group no-such-group (configdrive.group)"), "{error}");
    assert_eq!(fs::metadata(image(&node)).unwrap().mode() & 0o7777, 0o600, "for root alone");
    assert!(node.ask(&["status", "--check"]).is_err());
    for words in [&["status"], &["doctor"]] {
        let text = node.told(words).unwrap();
        assert!(text.contains("no group no-such-group"), "{text}");
    }

    let with = |from: &str, to: &str| {
        node.stop_daemon().unwrap();
        fs::write(node.config(), fs::read_to_string(node.config()).unwrap().replace(from, to)).unwrap();
        node.start_daemon().unwrap();
    };
    // There on every Debian.
    with("no-such-group", "nogroup");
    let nogroup = nix::unistd::Group::from_name("nogroup").unwrap().unwrap().gid.as_raw();
    let found = fs::metadata(image(&node)).unwrap();
    assert_eq!((found.mode() & 0o7777, found.uid(), found.gid()), (0o640, 0, nogroup));
    assert_eq!(state(&node)["error"], Value::Null);

    with("/config-drives\"", "/no/such/directory\"");
    let error = problem(&node);
    assert!(error.contains("/no/such/directory cannot be used") && error.contains("restart metadatad"), "{error}");
    let guest = node.guest("a").boot().unwrap();
    assert_eq!(guest.read_uuid(false).unwrap(), guest.uuid());
}

#[test]
fn a_full_file_system_is_named_and_the_image_is_written_when_there_is_room() {
    let node = plan().make().unwrap();
    let disk = SmallDisk::mount(node.drives(), "1m");
    disk.fill();
    node.write(&instance("user data")).unwrap();
    node.start_daemon().unwrap();
    let error = problem(&node);
    assert!(error.contains("No space left") && error.contains("make room in"), "{error}");
    assert_eq!(state(&node)["failed"], 1);
    assert!(!image(&node).exists());
    let guest = node.guest("a").boot().unwrap();
    assert_eq!(guest.read_uuid(false).unwrap(), guest.uuid());
    disk.clear();
    wait::until("it is written", || Ok(holds(&node, "user data").then_some(()))).unwrap();
    wait::until("the problem is over", || Ok(node.status()?["config_drives"]["error"].is_null().then_some(())))
        .unwrap();
}
