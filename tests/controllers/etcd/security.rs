//! Users, roles, passwords and certificates; the commands are those of docs/etcd.md.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use lab::{EtcdPlan, Node, NodePlan, Tls};
use metadata_user::config::etcd;

use super::passwords::{Controller, post};
use super::{NODE, boot, change, is_well, key, source, wait_reads, wait_source};
use crate::leader;

const ROOT: &str = "root:r00t";
const GUIDE: &str = include_str!("../../../docs/etcd.md");

fn secret(node: &Node, name: &str, text: &str) -> String {
    let path = node.path(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

/// Runs the commands of the guide's section of this name, for these words in it.
fn guided(etcd: &lab::Etcd, section: &str, words: &[(&str, &str)]) {
    let text = GUIDE.split(&format!("<!-- {section} -->")).nth(1).unwrap();
    let commands: Vec<_> =
        text.split("```").nth(1).unwrap().lines().filter(|line| line.starts_with("etcdctl")).collect();
    assert!(!commands.is_empty());
    for command in commands {
        let mut command = command.to_owned();
        for (word, with) in words {
            command = command.replace(word, with);
        }
        let command: Vec<_> = command.split_whitespace().skip(1).map(|word| word.trim_matches('\'')).collect();
        etcd.etcdctl(&command).unwrap();
    }
}

/// A node whose daemon is to log in as a user of its own.
fn locked(arguments: &[&str]) -> (Node, lab::Etcd) {
    let mut plan = EtcdPlan::default();
    for argument in arguments {
        plan = plan.argument(argument);
    }
    locked_by(plan, "")
}

/// As [`locked`], with this etcd, and further keys of `[source.etcd]`.
fn locked_by(plan: EtcdPlan, further: &str) -> (Node, lab::Etcd) {
    let node = NodePlan::default();
    let made = node.clone().make().unwrap();
    let password = made.path("password").display().to_string();
    let further = format!("username = \"node-{NODE}\"\npassword_file = \"{password}\"\n{further}");
    rewrite(&made, &source(&plan.endpoints(), &further));
    let etcd = plan.start(made.namespace()).unwrap();
    guided(&etcd, "node", &[("NODE", NODE), ("PASSWORD", "s3cret")]);
    guided(&etcd, "node", &[("NODE", "node-2"), ("PASSWORD", "other")]);
    guided(&etcd, "controller", &[("PASSWORD", "c0ntrol")]);
    guided(&etcd, "root", &[("PASSWORD", "r00t")]);
    etcd.become_user(Some("controller:c0ntrol"));
    secret(&made, "password", "s3cret\n");
    (made, etcd)
}

/// Replaces `[source]` in the configuration.
fn rewrite(node: &Node, source: &str) {
    let text = fs::read_to_string(node.config()).unwrap();
    let (head, rest) = text.split_once("[source]\n").unwrap();
    let (_, tail) = rest.split_once("[admin]").unwrap();
    fs::write(node.config(), format!("{head}[source]\n{source}\n\n[admin]{tail}")).unwrap();
}

#[test]
fn a_role_confines_a_node_to_its_own_prefix() {
    let (node, etcd) = locked(&[]);
    node.start_daemon().unwrap();
    let guest = boot(&node, &etcd, "a").unwrap();
    assert_eq!(guest.read_uuid(false).unwrap(), guest.uuid());
    let own = format!("node-{NODE}:s3cret");
    assert!(etcd.etcdctl_as(Some(&own), &["get", &key(guest.uuid())]).unwrap().contains(guest.uuid()));
    let others = key(guest.uuid()).replace(NODE, "node-2");
    etcd.etcdctl(&["put", &others, "x"]).unwrap();
    for refused in [
        vec!["get", others.as_str()],
        vec!["get", "/metadatad/nodes/", "--prefix"],
        vec!["put", &key(guest.uuid()), "x"],
        vec!["del", &key(guest.uuid())],
        // A name that only starts the same.
        vec!["get", "/metadatad/nodes/node-10/instances/x"],
        vec!["put", "/metadatad/passwords/node-10/x", "x"],
        vec!["get", "/metadatad/passwords/", "--prefix"],
        vec!["get", "/metadatad/controller/cloud"],
    ] {
        let error = format!("{:#}", etcd.etcdctl_as(Some(&own), &refused).unwrap_err());
        assert!(error.contains("permission denied"), "{refused:?}: {error}");
    }
}

#[test]
fn a_wrong_password_and_a_missing_permission_are_told_apart_and_survived() {
    let (node, etcd) = locked(&[]);
    node.start_daemon().unwrap();
    let guest = boot(&node, &etcd, "a").unwrap();
    let says = |what: &'static str| {
        move |state: &serde_json::Value| state["error"].as_str().is_some_and(|error| error.contains(what))
    };
    secret(&node, "password", "wrong");
    etcd.kill(0).unwrap();
    etcd.start_all().unwrap();
    wait_source(&node, "a wrong password", says("user name or password is wrong")).unwrap();
    assert!(!node.log().contains("s3cret"), "the password is in the log");
    secret(&node, "password", "s3cret");
    wait_source(&node, "all is well", is_well).unwrap();
    etcd.etcdctl_as(Some(ROOT), &["user", "revoke-role", &format!("node-{NODE}"), &format!("node-{NODE}")]).unwrap();
    etcd.kill(0).unwrap();
    etcd.start_all().unwrap();
    wait_source(&node, "a missing permission", says("permission denied")).unwrap();
    assert_eq!(guest.read_uuid(false).unwrap(), guest.uuid());
    etcd.etcdctl_as(Some(ROOT), &["user", "grant-role", &format!("node-{NODE}"), &format!("node-{NODE}")]).unwrap();
    wait_source(&node, "all is well", is_well).unwrap();
    fs::remove_file(node.path("password")).unwrap();
    etcd.kill(0).unwrap();
    etcd.start_all().unwrap();
    wait_source(&node, "a missing file", says("source.etcd.password_file")).unwrap();
    assert_eq!(guest.read_uuid(false).unwrap(), guest.uuid());
}

#[test]
fn a_login_that_has_expired_is_renewed() {
    let (node, etcd) = locked(&["--auth-token-ttl=1"]);
    node.start_daemon().unwrap();
    let guest = boot(&node, &etcd, "a").unwrap();
    wait_source(&node, "etcd is followed", is_well).unwrap();
    // The token that the watch was made with expires, since nothing uses it. Only time does that.
    let start = std::time::Instant::now();
    let over = std::time::Duration::from_secs(3);
    lab::wait::until("the login's time is over", || Ok((start.elapsed() > over).then_some(()))).unwrap();
    change(&etcd, &guest, "1").unwrap();
    wait_reads(&guest, "1").unwrap();
    etcd.kill(0).unwrap();
    etcd.start_all().unwrap();
    change(&etcd, &guest, "2").unwrap();
    wait_reads(&guest, "2").unwrap();
    wait_source(&node, "all is well", is_well).unwrap();
}

#[test]
fn a_client_certificate_opens_etcd_and_a_wrong_authority_is_told() {
    let node = NodePlan::default().make().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let tls = Tls::make(directory.path()).unwrap();
    let plan = EtcdPlan::default().tls(tls.clone());
    let table = |ca: &Path, identity: bool| {
        let mut further = format!("ca_file = \"{}\"\n", ca.display());
        if identity {
            further += &format!(
                "cert_file = \"{}\"\nkey_file = \"{}\"\n",
                tls.client_cert.display(),
                tls.client_key.display()
            );
        }
        source(&plan.endpoints(), &further)
    };
    rewrite(&node, &table(&tls.ca, true));
    let etcd = plan.clone().start(node.namespace()).unwrap();
    node.start_daemon().unwrap();
    let guest = boot(&node, &etcd, "a").unwrap();
    assert_eq!(guest.read_uuid(false).unwrap(), guest.uuid());
    node.stop_daemon().unwrap();
    let other = tempfile::tempdir().unwrap();
    let foreign = Tls::make(other.path()).unwrap();
    // Whether etcd's complaint about a missing certificate arrives before it hangs up is chance.
    for (ca, identity, what, remedy) in [
        (&foreign.ca, true, "invalid peer certificate", "correct source.etcd.ca_file"),
        (&tls.ca, false, "", "certificate"),
    ] {
        rewrite(&node, &table(ca, identity));
        node.start_daemon().unwrap();
        let state = wait_source(&node, "TLS fails", |state| !state["error"].is_null()).unwrap();
        let error = state["error"].as_str().unwrap();
        assert!(error.contains(what) && error.contains(remedy), "{error}");
        node.stop_daemon().unwrap();
    }
}

/// The roles of the guide, with passwords and TLS: the controller leads, writes documents and answers; the node reads them and passes
/// a password on.
#[test]
fn the_roles_of_controller_and_node_are_enough_for_both() {
    let directory = tempfile::tempdir().unwrap();
    let tls = Tls::make(directory.path()).unwrap();
    let files = format!(
        "ca_file = {:?}\ncert_file = {:?}\nkey_file = {:?}\npasswords = \"controller\"\n",
        tls.ca, tls.client_cert, tls.client_key
    );
    let (node, etcd) = locked_by(EtcdPlan::default().tls(tls.clone()), &files);
    node.start_daemon().unwrap();
    let guest = boot(&node, &etcd, "a").unwrap();
    let settings = etcd::Etcd {
        user: Some(etcd::User {
            name: "controller".to_owned(),
            password_file: secret(&node, "controller_password", "c0ntrol").into(),
        }),
        tls: Some(etcd::Tls {
            ca_file: Some(tls.ca.clone()),
            identity: Some(etcd::Identity { cert_file: tls.client_cert.clone(), key_file: tls.client_key.clone() }),
        }),
        ..leader::settings(&etcd.endpoints())
    };
    let controller = Controller::start(node.namespace(), settings, "one");
    assert_eq!(post(&guest, "kept").0, 200);
    controller.write(guest.uuid(), &guest.document().clone().with_user_data(b"by the controller").text());
    wait_reads(&guest, "by the controller").unwrap();
    controller.end();
    let left = etcd.etcdctl_as(Some(ROOT), &["get", "/metadatad/passwords/", "--prefix", "--keys-only"]).unwrap();
    assert_eq!(left.trim(), "", "the node has taken its request away, and the answer");
}
