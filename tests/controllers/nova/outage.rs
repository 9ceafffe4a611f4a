//! A Nova that is down, refuses, or does not know an instance: three states, and content that stays.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lab::nova::{Nova, another, facts};

use super::cloud::{Ask, Node, uuid};
use super::{DELETED, NOVA};

/// How long Nova is away. A minute shows no more than this, and can be asked for.
fn away() -> Duration {
    let seconds = std::env::var("METADATAD_NOVA_AWAY").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(2))
}

#[test]
fn while_nova_is_away_guests_read_what_they_did() {
    let facts = facts("plain").unwrap();
    let nova = Nova::start(std::slice::from_ref(&facts)).unwrap();
    let node = Node::start(&[nova.url()], "refresh_interval = '1s'\nconnect_timeout = '1s'\n");
    node.boot(&facts);
    node.wait_current();
    let id = uuid(&facts);
    let paths = ["/openstack/latest/meta_data.json", "/latest/meta-data/hostname", "/openstack/latest/user_data"];
    let expected = paths.map(|path| node.get(&id, path).without_seed());
    let stop = AtomicBool::new(false);
    let asked = std::thread::scope(|scope| {
        let asker = scope.spawn(|| {
            let (start, mut asked) = (Instant::now(), 0u32);
            while !stop.load(Ordering::Relaxed) {
                let which = asked as usize % paths.len();
                let answer = node.get(&id, paths[which]).without_seed();
                assert_eq!(answer, expected[which], "after {asked} requests");
                asked += 1;
                // 200 a second; paces the load, nothing is waited for.
                let due = start + Duration::from_millis(5) * asked;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            (asked, start.elapsed())
        });
        nova.stop();
        let down = node.wait("Nova is reported to be down", |state| state.error.is_some());
        assert!(down.error.as_ref().unwrap().contains("cannot be asked"), "{down:?}");
        assert!(down.lagging_since.is_some() && down.instances == 1 && down.broken.is_empty());
        // How long it stays away is what is tested.
        std::thread::sleep(away());
        nova.resume().unwrap();
        let resumed = Instant::now();
        node.wait("Nova is reported to be back", |state| state.error.is_none() && state.lagging_since.is_none());
        eprintln!("in step again {:?} after Nova was back", resumed.elapsed());
        stop.store(true, Ordering::Relaxed);
        asker.join().unwrap()
    });
    eprintln!("{} requests in {:?}, none wrong, none failed", asked.0, asked.1);
}

#[test]
fn while_nova_hangs_known_absence_is_404_without_waiting() {
    // The source's `read_timeout` is 10 s: an answer that asks Nova takes at least that.
    const AT_ONCE: Duration = Duration::from_secs(3);
    let mut facts = facts("plain").unwrap();
    facts["instance"]["user_data_b64"] = serde_json::Value::Null;
    let nova = Nova::start(std::slice::from_ref(&facts)).unwrap();
    let node = Node::start(&[nova.url()], "refresh_interval = '1s'\n");
    node.boot(&facts);
    node.wait_current();
    let id = uuid(&facts);
    let put = Ask { method: "PUT".to_owned(), ..Ask::get("/latest/api/token") };
    let absent = [
        "/latest/user-data",
        "/2009-04-04/user-data",
        "/1.0/user-data",
        "/openstack/latest/user_data",
        "/latest/api/token",
        "/latest/dynamic/instance-identity/document",
        "/latest/meta-data/iam/info",
        "/latest/meta-data/iam/security-credentials/",
        "/latest/meta-data/tags/instance/",
        "/latest/meta-data/network/interfaces/macs/",
        "/2009-04-04/dynamic/instance-identity/document",
    ];
    let present = ["/1.0/meta-data/hostname", "/1.0/meta-data/", "/2007-01-19/meta-data/instance-id", "/1.0/"];
    let asks: Vec<_> = std::iter::once((put, 404))
        .chain(absent.map(|path| (Ask::get(path), 404)))
        .chain(present.map(|path| (Ask::get(path), 200)))
        .collect();
    let expected: Vec<_> = asks.iter().map(|(ask, _)| ask.of_nova(nova.port(), &facts)).collect();

    let hang = nova.hang().unwrap();
    // Before the source has noticed it, and after: `error` is set once Nova has been waited for in vain.
    for noticed in [false, true] {
        if noticed {
            node.wait("Nova is reported to hang", |state| state.error.is_some());
        }
        for ((ask, status), expected) in asks.iter().zip(&expected) {
            let start = Instant::now();
            let answer = node.ask(&id, ask);
            let took = start.elapsed();
            assert_eq!(answer.status, *status, "{} {}", ask.method, ask.target);
            if let Some(expected) = expected {
                assert_eq!((answer.status, &answer.body), (expected.status, &expected.body), "{}", ask.target);
            }
            assert!(took < AT_ONCE, "{} {} took {took:?}", ask.method, ask.target);
        }
    }
    drop(hang);
    node.wait("Nova is reported to be back", |state| state.error.is_none() && state.lagging_since.is_none());
}

#[test]
fn a_wrong_secret_is_told_and_loses_nothing() {
    let facts = facts("plain").unwrap();
    let nova = NOVA.get().unwrap();
    let node = Node::with_secret(&[nova.url()], "", "another secret");
    node.boot(&facts);
    let state = node.wait("the secret is refused", |state| state.error.is_some());
    let error = state.error.as_ref().unwrap();
    assert!(error.contains("refuses the signature") && error.contains("shared_secret_file"), "{error}");
    assert!(state.endpoints[0].error.as_ref().unwrap().1.contains("secret"), "{state:?}");
    assert!(!format!("{state:?}").contains("another secret"));
    assert!(state.broken.is_empty(), "it is no matter of the instance: {state:?}");
    assert_eq!(node.get(&uuid(&facts), "/openstack").status, 503);
    lab::wait::until("the daemon does not wait for it", || Ok(node.readiness.pending().is_empty().then_some(())))
        .unwrap();
}

#[test]
fn an_instance_that_nova_does_not_know_is_told_and_goes_after_some_words() {
    let plain = facts("plain").unwrap();
    let (known, stranger) = (another(&plain, DELETED), another(&plain, 999));
    let nova = NOVA.get().unwrap();
    let node = Node::start(&[nova.url()], "refresh_interval = '1s'\n");
    for facts in [&plain, &known, &stranger] {
        node.boot(facts);
    }
    let state = node.wait("one is unknown", |state| state.broken.len() == 1 && state.instances == 2);
    assert_eq!((state.broken[0].name.clone(), state.error.clone()), (uuid(&stranger), None));
    assert!(state.broken[0].problem.contains("does not know") && !state.broken[0].serves_last_good);
    assert_eq!(node.get(&uuid(&stranger), "/openstack").status, 503);
    assert_eq!(node.get(&uuid(&known), "/openstack").status, 200);

    nova.delete(&uuid(&known)).unwrap();
    let state = node.wait("the deleted one is unknown", |state| state.broken.len() == 2);
    assert!(state.broken.iter().any(|broken| broken.name == uuid(&known) && broken.serves_last_good), "{state:?}");
    assert_eq!(node.get(&uuid(&known), "/openstack").status, 200, "one word is not enough");
    node.wait("its content is gone", |state| state.instances == 1);
    assert_eq!(node.get(&uuid(&known), "/openstack").status, 503);

    node.shut_off(&plain);
    node.wait("who does not live here has no content", |state| state.instances == 0);
    assert_eq!(node.get(&uuid(&plain), "/openstack").status, 503);
}

#[test]
fn without_a_project_nothing_is_asked_and_that_is_told() {
    let mut facts = facts("plain").unwrap();
    let nova = NOVA.get().unwrap();
    let node = Node::start(&[nova.url()], "");
    let project = facts["instance"]["project_id"].take();
    node.boot(&facts);
    let state = node.wait("it is reported", |state| !state.broken.is_empty());
    assert!(state.broken[0].problem.contains("project"), "{state:?}");
    facts["instance"]["project_id"] = project;
    node.boot(&facts);
    node.wait_current();
    assert!(node.state().broken.is_empty());
}

#[test]
fn while_nova_is_away_a_guest_that_comes_back_finds_its_content() {
    let plain = facts("plain").unwrap();
    let other = another(&plain, 3);
    let nova = Nova::start(&[plain.clone(), other.clone()]).unwrap();
    let node = Node::start(&[nova.url()], "refresh_interval = '1s'\nconnect_timeout = '1s'\n");
    node.boot(&plain);
    node.boot(&other);
    node.wait("both are read", |state| state.instances == 2 && state.lagging_since.is_none());
    nova.stop();
    // Nova is not known to be down yet: that must not matter.
    node.shut_off(&plain);
    node.shut_off(&other);
    node.wait("Nova is asked before anything goes", |state| state.error.is_some());
    assert_eq!(node.state().instances, 2);
    node.boot(&plain);
    assert_eq!(node.get(&uuid(&plain), "/openstack/latest/meta_data.json").status, 200);
    nova.resume().unwrap();
    node.wait("who is not here goes with the first answer", |state| state.instances == 1);
    assert_eq!(node.get(&uuid(&other), "/openstack").status, 503);
    assert_eq!(node.get(&uuid(&plain), "/openstack/latest/meta_data.json").status, 200);
}
