//! What guests read while etcd is away, hangs, forgets, is replaced or loses its leader: always the right thing.

use lab::{Asker, Etcd, EtcdPlan, Guest, Node};

use super::{USER_DATA, boot, change, is_well, key, source_state, wait_reads, wait_source, world};

/// Requests in a second, of one guest.
const RATE: u32 = 200;

fn watched_world(plan: EtcdPlan) -> (Node, Etcd, Guest, Asker) {
    let (node, etcd) = world(plan).unwrap();
    node.start_daemon().unwrap();
    let guest = boot(&node, &etcd, "a").unwrap();
    wait_source(&node, "etcd is followed", is_well).unwrap();
    let asker = Asker::start(&guest, USER_DATA, RATE, b"0").unwrap();
    (node, etcd, guest, asker)
}

/// Changes the guest's user data, and has the asker see it.
fn change_seen(etcd: &Etcd, guest: &Guest, asker: &Asker, user_data: &str) {
    asker.allow(user_data.as_bytes());
    change(etcd, guest, user_data).unwrap();
    wait_reads(guest, user_data).unwrap();
    asker.only(user_data.as_bytes());
}

fn finish(asker: Asker, what: &str) {
    let report = asker.finish().unwrap();
    println!("{what}: {} asked in {:?}, slowest {:?}", report.asked, report.lasted, report.slowest);
    report.perfect().unwrap();
}

#[test]
fn guests_are_answered_while_etcd_is_stopped_and_followed_on_without_reading_all_again() {
    let (node, etcd, guest, asker) = watched_world(EtcdPlan::default());
    etcd.stop(0).unwrap();
    let state = wait_source(&node, "the loss is reported", |state| !state["error"].is_null()).unwrap();
    assert!(state["error"].as_str().unwrap().contains("cannot be reached"), "{state:#}");
    assert!(!state["lagging_since"].is_null() && state["endpoints"][0]["in_use"] == false, "{state:#}");
    assert_eq!(state["instances"], 1);
    etcd.start_all().unwrap();
    wait_source(&node, "etcd is followed again", is_well).unwrap();
    change_seen(&etcd, &guest, &asker, "1");
    assert_eq!(source_state(&node).unwrap()["resyncs"], 0);
    finish(asker, "etcd stopped and started");
}

#[test]
fn a_change_while_the_connection_was_lost_is_caught_up_also_after_compaction() {
    let (node, etcd, guest, asker) = watched_world(EtcdPlan::default());
    let other = boot(&node, &etcd, "b").unwrap();
    // It hangs, then dies.
    etcd.pause(0).unwrap();
    wait_source(&node, "the hanging member is noticed", |state| !state["lagging_since"].is_null()).unwrap();
    etcd.kill(0).unwrap();
    etcd.start_all().unwrap();
    wait_source(&node, "etcd is followed again", is_well).unwrap();
    finish(asker, "etcd hanging, killed and started");
    // Stopped, the daemon cannot follow what comes now.
    let process = nix::unistd::Pid::from_raw(i32::try_from(node.daemon_id().unwrap()).unwrap());
    nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGSTOP).unwrap();
    etcd.stop(0).unwrap();
    etcd.start_all().unwrap();
    change(&etcd, &guest, "1").unwrap();
    change(&etcd, &guest, "2").unwrap();
    etcd.etcdctl(&["del", &key(other.uuid())]).unwrap();
    let revision = etcd.etcdctl(&["get", "x", "--write-out=json"]).unwrap();
    let revision: serde_json::Value = serde_json::from_str(&revision).unwrap();
    etcd.etcdctl(&["compact", &revision["header"]["revision"].to_string()]).unwrap();
    nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGCONT).unwrap();
    wait_reads(&guest, "2").unwrap();
    node.wait_held(other.ifindex()).unwrap();
    let state = wait_source(&node, "etcd is followed again", is_well).unwrap();
    assert_eq!(state["resyncs"], 1, "{state:#}");
}

#[test]
fn an_empty_cluster_takes_nothing_away_until_the_operator_accepts_it() {
    let (node, etcd, guest, asker) = watched_world(EtcdPlan::default());
    let gone = boot(&node, &etcd, "b").unwrap();
    let before = wait_source(&node, "two instances", |state| state["instances"] == 2).unwrap();
    etcd.replace().unwrap();
    let state = wait_source(&node, "the other cluster is reported", |state| !state["unconfirmed"].is_null()).unwrap();
    let error = state["error"].as_str().unwrap().to_owned();
    assert!(error.contains("metadatad source accept") && error.contains("no documents for 2"), "{error}");
    assert_eq!((&state["cluster"], &state["instances"]), (&before["cluster"], &2.into()));
    assert_eq!(gone.read_uuid(false).unwrap(), gone.uuid());
    // What is written into the new cluster counts.
    change_seen(&etcd, &guest, &asker, "1");
    let state = source_state(&node).unwrap();
    assert_eq!(state["unconfirmed"], serde_json::json!([gone.uuid()]));
    assert!(node.told(&["source"]).unwrap().contains(&format!("unconfirmed  {}", gone.uuid())));
    // A resync asks again, and a further break of the connection too.
    etcd.kill(0).unwrap();
    etcd.start_all().unwrap();
    wait_source(&node, "etcd is followed again", |state| state["lagging_since"].is_null()).unwrap();
    assert_eq!(gone.read_uuid(false).unwrap(), gone.uuid());
    let output = node.ask(&["source", "accept"]).unwrap();
    assert_eq!(output, "accepted; 1 instances are no longer served\n");
    node.wait_held(gone.ifindex()).unwrap();
    let state = wait_source(&node, "all is well", is_well).unwrap();
    assert_ne!(state["cluster"], before["cluster"]);
    assert!(node.ask(&["source", "accept"]).unwrap_err().to_string().contains("nothing to accept"));
    finish(asker, "etcd replaced by an empty cluster");
}

/// The procedure of docs/etcd.md.
#[test]
fn an_etcd_that_is_restored_from_its_snapshot_is_accepted_when_what_it_lacks_was_written_again() {
    let (node, etcd, guest, asker) = watched_world(EtcdPlan::default());
    let directory = tempfile::tempdir().unwrap();
    let backup = directory.path().join("backup.db");
    etcd.etcdctl(&["snapshot", "save", backup.to_str().unwrap()]).unwrap();
    assert!(etcd.etcdctl(&["snapshot", "status", backup.to_str().unwrap()]).is_ok());
    let [late, forgotten] = ["b", "c"].map(|name| boot(&node, &etcd, name).unwrap());
    wait_source(&node, "three instances", |state| state["instances"] == 3).unwrap();
    etcd.stop_all().unwrap();
    etcd.restore_snapshot(&backup).unwrap();
    etcd.start_all().unwrap();
    let state = wait_source(&node, "what is not there is named", |state| !state["unconfirmed"].is_null()).unwrap();
    assert_eq!(state["unconfirmed"].as_array().unwrap().len(), 2, "{state:#}");
    for guest in [&guest, &late, &forgotten] {
        assert_eq!(guest.read_uuid(false).unwrap(), guest.uuid());
    }
    etcd.put(&key(late.uuid()), &late.document().text()).unwrap();
    let only = serde_json::json!([forgotten.uuid()]);
    wait_source(&node, "one is written again", |state| state["unconfirmed"] == only).unwrap();
    assert_eq!(node.ask(&["source", "accept"]).unwrap(), "accepted; 1 instances are no longer served\n");
    node.wait_held(forgotten.ifindex()).unwrap();
    wait_source(&node, "all is well", is_well).unwrap();
    assert_eq!(late.read_uuid(false).unwrap(), late.uuid());
    finish(asker, "etcd restored from a snapshot of its own");
}

#[test]
fn a_restored_backup_takes_nothing_away_and_what_it_lacks_may_be_written_again() {
    let (node, etcd, guest, asker) = watched_world(EtcdPlan::default());
    etcd.stop_all().unwrap();
    etcd.back_up("backup").unwrap();
    etcd.start_all().unwrap();
    let late = boot(&node, &etcd, "b").unwrap();
    change_seen(&etcd, &guest, &asker, "1");
    etcd.stop_all().unwrap();
    etcd.restore("backup").unwrap();
    // What the backup has is served: it is as explicit as it was before.
    asker.allow(b"0");
    etcd.start_all().unwrap();
    let state = wait_source(&node, "the backup is reported", |state| !state["unconfirmed"].is_null()).unwrap();
    assert!(state["error"].as_str().unwrap().contains("went back"), "{state:#}");
    assert_eq!(late.read_uuid(false).unwrap(), late.uuid());
    wait_reads(&guest, "0").unwrap();
    asker.only(b"0");
    etcd.put(&key(late.uuid()), &late.document().text()).unwrap();
    wait_source(&node, "all is well", is_well).unwrap();
    finish(asker, "etcd restored from a backup");
}

#[test]
fn three_members_lose_their_leader_hang_and_lose_each_other() {
    let (node, etcd, guest, asker) = watched_world(EtcdPlan::default().members(3));
    let leader = etcd.leader().unwrap();
    etcd.kill(leader).unwrap();
    etcd.wait_healthy().unwrap();
    change_seen(&etcd, &guest, &asker, "1");
    wait_source(&node, "etcd is followed", is_well).unwrap();
    etcd.start_all().unwrap();
    // The member in use hangs: its connection stays, and nothing comes.
    let in_use = |state: &serde_json::Value| {
        let endpoints = state["endpoints"].as_array().unwrap();
        endpoints.iter().position(|endpoint| endpoint["in_use"] == true)
    };
    let state = wait_source(&node, "a member is in use", |state| in_use(state).is_some()).unwrap();
    let hanging = in_use(&state).unwrap();
    etcd.pause(hanging).unwrap();
    wait_source(&node, "another member is in use", |state| in_use(state).is_some_and(|member| member != hanging))
        .unwrap();
    let state = source_state(&node).unwrap();
    assert!(!state["endpoints"][hanging]["error"].is_null(), "{state:#}");
    etcd.resume(hanging).unwrap();
    etcd.wait_healthy().unwrap();
    change_seen(&etcd, &guest, &asker, "2");
    // A member that is alone has no leader, and must not be believed to be in step.
    let alone = in_use(&source_state(&node).unwrap()).unwrap();
    let others: Vec<_> = (0..3).filter(|member| *member != alone).collect();
    for other in &others {
        etcd.kill(*other).unwrap();
    }
    let state = wait_source(&node, "the loss is reported", |state| !state["error"].is_null()).unwrap();
    let lone = state["endpoints"][alone]["error"].as_str().unwrap_or_default();
    assert!(lone.contains("no leader") || lone.contains("no answer in time"), "{state:#}");
    etcd.start_all().unwrap();
    wait_source(&node, "etcd is followed again", is_well).unwrap();
    change_seen(&etcd, &guest, &asker, "3");
    assert_eq!(source_state(&node).unwrap()["resyncs"], 0);
    finish(asker, "three members");
}

#[test]
fn a_value_that_cannot_be_used_keeps_the_last_good_one_and_is_told_by_key() {
    let (node, etcd, guest, asker) = watched_world(EtcdPlan::default());
    let broken = |state: &serde_json::Value| state["broken"].as_array().cloned().unwrap_or_default();
    let other = "0000000a-0000-4000-9000-00000000000b";
    let swapped = guest.document().text().replace(guest.uuid(), other);
    for (key, value, problem) in [
        (key(guest.uuid()), "{\"uuid\": 1", "line 1"),
        (key(guest.uuid()), swapped.as_str(), "its key names"),
        (key("not-an-instance"), "{}", "UUID"),
        (key(&guest.uuid().to_uppercase().replace("-4000-", "-400A-")), "{}", "lower case"),
    ] {
        etcd.put(&key, value).unwrap();
        let state = wait_source(&node, "the broken document is reported", |state| {
            broken(state).iter().any(|found| {
                found["name"] == key.as_str() && found["problem"].as_str().unwrap_or_default().contains(problem)
            })
        })
        .unwrap();
        assert_eq!(state["instances"], 1, "{state:#}");
    }
    assert_eq!(broken(&source_state(&node).unwrap()).len(), 3);
    for found in broken(&source_state(&node).unwrap()) {
        etcd.etcdctl(&["put", "ignored", "x"]).unwrap();
        assert_eq!(found["serves_last_good"], found["name"] == key(guest.uuid()).as_str(), "{found:#}");
        if found["name"] != key(guest.uuid()).as_str() {
            etcd.etcdctl(&["del", found["name"].as_str().unwrap()]).unwrap();
        }
    }
    change_seen(&etcd, &guest, &asker, "1");
    wait_source(&node, "nothing is broken", |state| broken(state).is_empty()).unwrap();
    assert_eq!(node.log().matches("document refused").count(), 4, "each once");
    finish(asker, "broken documents");
}
