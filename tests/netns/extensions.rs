//! docs/guest-extensions.md: a guest and its operator get what the page shows.

use lab::{Guest, Node, NodePlan, Page, command};
use serde_json::{Value, json};

fn page() -> Page {
    Page::read("docs/guest-extensions.md").unwrap()
}

/// The page's node, and the instance that it speaks of.
fn world(page: &Page) -> (Node, Guest) {
    let node = NodePlan::default().further(&page.blocks("toml").concat()).start().unwrap();
    let plan = node.guest("web-1").document(|document| {
        document.with("ec2_ids", json!({"instance_id": "i-83f2a1c4"})).with("availability_zone", "nova")
    });
    let guest = plan.boot().unwrap();
    (node, guest)
}

#[test]
fn the_sessions_that_the_page_shows_are_what_a_guest_and_its_operator_get() {
    let page = page();
    let (node, guest) = world(&page);
    page.run_session(&node, &guest).unwrap();
}

/// The text of cloud-config's only command, as YAML reads it.
fn run_command(page: &Page) -> String {
    let [yaml] = page.blocks("yaml")[..] else { panic!("one block of cloud-config") };
    let (_, command) = yaml.split_once("runcmd:\n  - ").unwrap();
    command.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn cloud_configs_command_gives_the_operator_every_host_key() {
    let page = page();
    let (node, guest) = world(&page);
    let keys = tempfile::tempdir().unwrap();
    let texts = ["ecdsa", "ed25519", "rsa"].map(|kind| (kind, format!("ssh-{kind} AAAA{kind} root@web-1\n")));
    for (kind, text) in &texts {
        std::fs::write(keys.path().join(format!("ssh_host_{kind}_key.pub")), text).unwrap();
    }
    let script = run_command(&page).replace("/etc/ssh", keys.path().to_str().unwrap());
    let mut shell = guest.namespace().command("sh").unwrap();
    command::run(shell.args(["-ec", &script]).env("no_proxy", "*"), "").unwrap();
    let shown = node.ask(&["guest-attributes", guest.uuid(), "--json"]).unwrap();
    let expected: Value = texts.into_iter().map(|(kind, text)| (kind.to_owned(), text)).collect();
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap()["attributes"], json!({"hostkeys": expected}));
}
