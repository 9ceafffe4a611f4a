//! `metadatad snapshot`: content that travels from one node to another, and what is refused on the way.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use lab::{Guest, Node, NodePlan, daemon, wait};
use serde_json::Value;

/// Runs `metadatad snapshot`, and returns exit status, output and error.
fn run(node: &Node, words: &[&str]) -> (Option<i32>, Vec<u8>, String) {
    let words = [&["snapshot"], words].concat();
    let output = daemon::verb(node.namespace(), node.config(), &words).unwrap().output().unwrap();
    (output.status.code(), output.stdout, String::from_utf8_lossy(&output.stderr).into_owned())
}

fn verified(node: &Node, words: &[&str]) -> Value {
    let (code, out, error) = run(node, &[&["verify", "--json"], words].concat());
    assert_eq!(code, Some(0), "{error}");
    serde_json::from_slice(&out).unwrap()
}

fn private(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn wait_written(node: &Node) {
    wait::until("the instance is written", || Ok((node.status()?["snapshot"]["instances"] == 1).then_some(())))
        .unwrap();
}

/// A node with one guest, whose content is on disk.
fn world() -> (Node, Guest) {
    let node = Node::start().unwrap();
    let guest = node.guest("a").document(|document| document.with_user_data(b"the-user-data")).boot().unwrap();
    wait_written(&node);
    (node, guest)
}

#[test]
fn content_goes_to_another_node_that_serves_it_without_its_source() {
    let (node, guest) = world();
    // While the daemon runs.
    let own = verified(&node, &[]);
    assert_eq!((&own["instances"], &own["sealed"], &own["source"]), (&1.into(), &true.into(), &"directory".into()));
    let (key, copy) = (node.path("other.key"), node.path("copy"));
    private(&key, b"0123456789abcdef0123456789abcdef");
    let (key, copy) = (key.to_str().unwrap(), copy.to_str().unwrap());
    let (code, _, error) = run(&node, &["export", copy, "--for-key", key]);
    assert_eq!(code, Some(0), "{error}");
    assert_eq!(fs::metadata(copy).unwrap().permissions().mode() & 0o7777, 0o600);
    assert!(!fs::read(copy).unwrap().windows(13).any(|window| window == b"the-user-data"));
    let (code, _, error) = run(&node, &["verify", copy]);
    assert!(code == Some(65) && error.contains("sealed with the key"), "{error}");
    assert_eq!(verified(&node, &[copy, "--key", key])["instances"], 1);
    let (code, stream, error) = run(&node, &["export"]);
    assert_eq!(code, Some(0), "{error}");
    assert!(stream.starts_with(b"metadatad snapshot 1\n"), "standard output has the same");

    // Its source has no document, so what it serves is from the copy.
    let other = NodePlan::default().make().unwrap();
    fs::remove_dir_all(other.instances()).unwrap();
    let import = |words: &[&str]| run(&other, &[&["import", copy], words].concat());
    let (code, _, error) = import(&[]);
    assert!(code == Some(65) && error.contains("sealed with the key"), "{error}");
    let (code, _, error) = import(&["--key", key]);
    assert!(code == Some(65) && error.contains("is of the source"), "{error}");
    let (code, out, error) = import(&["--key", key, "--any-source"]);
    assert_eq!(code, Some(0), "{error}");
    assert!(String::from_utf8_lossy(&out).contains(": 1 instances as of"), "{out:?}");
    assert_eq!(verified(&other, &[])["instances"], 1);
    other.start_daemon().unwrap();
    let path = "/openstack/latest/user_data";
    assert_eq!(other.ask(&["get", guest.uuid(), path, "--secrets"]).unwrap(), "the-user-data");
    let (code, _, error) = import(&["--key", key, "--any-source"]);
    assert!(code == Some(69) && error.contains("stop it first"), "{error}");
}

#[test]
fn what_is_refused_leaves_the_snapshot_that_there_is() {
    let (node, _guest) = world();
    let copy = node.path("copy");
    let name = copy.to_str().unwrap();
    assert_eq!(run(&node, &["export", name, "--clear"]).0, Some(0));
    let clear = fs::read(&copy).unwrap();
    assert!(clear.windows(4).any(|window| window == b"uuid"), "it is in the clear");
    assert_eq!(verified(&node, &[name])["sealed"], false);
    let (code, sealed, _) = run(&node, &["export", "-"]);
    assert_eq!(code, Some(0));
    node.stop_daemon().unwrap();
    let before = fs::read(node.snapshot()).unwrap();
    let newer = [b"metadatad snapshot 9", &sealed[b"metadatad snapshot 1".len()..]].concat();
    let mut altered = sealed.clone();
    *altered.last_mut().unwrap() ^= 1;
    let mut altered_clear = clear.clone();
    *altered_clear.last_mut().unwrap() ^= 1;
    for (bytes, expected) in [
        (newer, "from a newer metadatad"),
        (altered, "damaged or was altered"),
        (sealed[..sealed.len() / 2].to_vec(), "torn"),
        (altered_clear, "damaged or was altered"),
        (b"something else\n\n\n".to_vec(), "not a snapshot of metadatad"),
    ] {
        private(&copy, &bytes);
        for verb in ["verify", "import"] {
            let (code, _, error) = run(&node, &[verb, name]);
            assert!(code == Some(65) && error.contains(expected), "{verb}: {error}");
        }
        assert_eq!(fs::read(node.snapshot()).unwrap(), before);
    }
    for bytes in [sealed, clear] {
        private(&copy, &bytes);
        let (code, _, error) = run(&node, &["import", name]);
        assert_eq!(code, Some(0), "{error}");
        assert_eq!(verified(&node, &[])["instances"], 1);
    }
    fs::remove_file(node.snapshot()).unwrap();
    assert_eq!(run(&node, &["verify"]).0, Some(66));
}
