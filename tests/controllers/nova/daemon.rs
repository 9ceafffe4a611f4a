//! The whole daemon: an instance that libvirt knows, and a real guest.

use std::fs;

use lab::agent::SECRET;
use lab::nova::{Nova, facts};
use lab::{Asker, NodePlan, wait};

const HOSTNAME: &str = "/latest/meta-data/hostname";

#[test]
fn a_guest_reads_nova_and_the_secret_stays_one() {
    let source = "kind = 'nova'\n[source.nova]\nendpoints = ['http://127.0.0.1:@PORT']\n\
                  shared_secret_file = '@DIR/secret'\nrefresh_interval = '1s'\n";
    let further = "[log]\nfilter = 'trace'\n";
    let node = NodePlan::default().source(source).further(further).make().unwrap();
    let guest = node.guest("a").undocumented().boot().unwrap();
    let mut facts = facts("plain").unwrap();
    facts["instance"]["uuid"] = guest.uuid().into();
    facts["instance"]["project_id"] = "project-of-libvirt".into();
    let nova = node.namespace().run(|| Nova::start(std::slice::from_ref(&facts))).unwrap();
    let directory = node.path("").display().to_string();
    let config = fs::read_to_string(node.config()).unwrap().replace("@PORT", &nova.port().to_string());
    fs::write(node.config(), config.replace("@DIR", directory.trim_end_matches('/'))).unwrap();
    fs::write(node.path("secret"), SECRET).unwrap();
    fs::set_permissions(node.path("secret"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    lab::domain::Domain::of(&guest).write(&node.domains()).unwrap();
    node.start_daemon().unwrap();
    node.wait_bound(guest.ifindex()).unwrap();
    wait::until("the guest reads its own", || {
        let answer = guest.get("/openstack/latest/meta_data.json")?;
        Ok((answer.status == 200 && answer.json()?["uuid"] == guest.uuid()).then_some(()))
    })
    .unwrap();
    let status = node.status().unwrap();
    assert_eq!(status["source"]["kind"], "nova");
    assert!(status["source"]["error"].is_null(), "{status}");
    let limits = fs::read_to_string(format!("/proc/{}/limits", node.daemon_id().unwrap())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert!(core.split_whitespace().filter(|word| *word == "0").count() == 2, "{core}");

    let hostname = guest.get(HOSTNAME).unwrap();
    assert_eq!(hostname.status, 200);
    let asker = Asker::start(&guest, HOSTNAME, 200, &hostname.body).unwrap();
    nova.stop();
    assert_eq!(guest.get("/openstack/latest/meta_data.json").unwrap().status, 200, "Nova is not asked");
    assert_eq!(guest.get("/latest/api/token").unwrap().status, 404, "what Nova lacks is known, too");
    wait::until("its absence is shown", || Ok(node.status()?["source"]["error"].is_string().then_some(()))).unwrap();
    node.namespace().run(|| nova.resume()).unwrap();
    wait::until("its return is shown", || Ok(node.status()?["source"]["error"].is_null().then_some(()))).unwrap();
    asker.finish().unwrap().perfect().unwrap();

    nova.stop();
    node.kill_daemon().unwrap();
    node.start_daemon().unwrap();
    let restored = guest.get(HOSTNAME).unwrap();
    assert_eq!((restored.status, restored.body), (200, hostname.body), "the node has it on disk");
    let log = node.log();
    assert!(log.contains("Nova asked") && !log.contains(SECRET), "the log names the secret");
    assert!(!node.told(&["status", "--json"]).unwrap().contains(SECRET));
}
