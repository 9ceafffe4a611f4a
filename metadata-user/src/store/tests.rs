//! Tests of `store`.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ipnet::IpNet;
use uuid::Uuid;

use super::*;
use crate::record::{Ec2Ids, MacAddress, NetworkRecord, PortId};

/// A record with one port per device name.
pub(crate) fn record(number: u128, project: &str, devices: &[&str]) -> InstanceRecord {
    let ports = (1u8..).zip(devices).map(|(place, device)| PortRecord {
        id: PortId(Uuid::from_u128(number << 8 | u128::from(place))),
        mac_address: MacAddress([0xfa, 0x16, 0x3e, 0, 0, place]),
        tap: Some((*device).into()),
        port_security: true,
        listed: true,
        vif_type: "bridge".into(),
        fixed_ips: Vec::new(),
        allowed_address_pairs: Vec::new(),
        security_groups: Vec::new(),
        network: NetworkRecord { id: Uuid::from_u128(7), mtu: None, injected: false, subnets: Vec::new() },
    });
    InstanceRecord {
        pages: Vec::new(),
        notices: None,
        uuid: id(number),
        project_id: project.into(),
        display_name: None,
        hostname: "host".into(),
        availability_zone: None,
        launch_index: None,
        reservation_id: None,
        flavor: None,
        image_ref: None,
        ec2_ids: Ec2Ids { instance_id: "i-00000001".into(), ami_id: None, kernel_id: None, ramdisk_id: None },
        key_name: None,
        key_data: None,
        keypairs: Vec::new(),
        metadata: Vec::new(),
        user_data: None,
        root_device_name: None,
        default_ephemeral_device: None,
        default_swap_device: None,
        block_device_mapping: Vec::new(),
        devices: Vec::new(),
        dedicated_cpus: Vec::new(),
        security_groups: Vec::new(),
        local_ipv4: None,
        password: None,
        boot_roles: None,
        policy: crate::policy::PolicyOverrides::default(),
        ports: ports.collect(),
    }
}

fn password(text: &str) -> Password {
    Password::new(text.to_owned()).expect("a password")
}

pub(crate) fn id(number: u128) -> InstanceId {
    InstanceId(Uuid::from_u128(number))
}

/// Returns the taps whose claims changed since the last call.
fn devices(changes: &mut Changes) -> Vec<String> {
    changes.take().into_iter().flat_map(|change| change.taps).collect()
}

#[test]
fn an_equal_record_changes_nothing() {
    let store = Store::new(Cloud::default());
    let mut changes = store.subscribe();
    assert!(store.put(record(1, "p", &["tap1"])));
    let first = store.get(id(1)).expect("there");
    assert_eq!(devices(&mut changes), ["tap1"]);
    assert!(!store.put(record(1, "p", &["tap1"])));
    assert!(Arc::ptr_eq(&first, &store.get(id(1)).expect("there")));
    assert!(devices(&mut changes).is_empty());
}

#[test]
fn changes_name_the_devices_whose_claims_differ() {
    let store = Store::new(Cloud::default());
    let mut changes = store.subscribe();
    store.put(record(1, "p", &["tap1", "tap2"]));
    assert_eq!(devices(&mut changes), ["tap1", "tap2"]);

    let mut content = record(1, "p", &["tap1", "tap2"]);
    content.hostname = "other".into();
    assert!(store.put(content));
    assert!(devices(&mut changes).is_empty(), "content alone moves no port");

    let mut sources = record(1, "p", &["tap1", "tap2"]);
    sources.ports[1].allowed_address_pairs = vec![crate::record::AddressPair {
        ip_address: IpNet::from(std::net::IpAddr::from([10, 0, 0, 1])),
        mac_address: None,
    }];
    store.put(sources);
    assert_eq!(devices(&mut changes), ["tap2"]);

    store.put(record(1, "q", &["tap1", "tap2"]));
    assert_eq!(devices(&mut changes), ["tap1", "tap2"], "the project is part of a claim");
    let mut policy = record(1, "q", &["tap1", "tap2"]);
    policy.policy.port_limits.packets_per_second = Some(7);
    store.put(policy);
    assert_eq!(devices(&mut changes), ["tap1", "tap2"], "the policy is of every port");
    store.put(record(1, "q", &["tap1", "tap2"]));
    assert_eq!(devices(&mut changes), ["tap1", "tap2"]);
    store.put(record(1, "q", &["tap2", "tap3"]));
    assert_eq!(devices(&mut changes), ["tap1", "tap2", "tap3"], "tap2 is another port now");
    assert!(store.remove(id(1)));
    assert_eq!(devices(&mut changes), ["tap2", "tap3"]);
    assert!(!store.remove(id(1)));
    assert!(store.is_empty() && store.claims("tap2").is_empty());
}

#[test]
fn claims_of_several_documents_on_a_device_are_all_there() {
    let store = Store::new(Cloud::default());
    store.put(record(2, "p", &["tap1"]));
    store.put(record(1, "q", &["tap1", "tap9"]));
    let claims = store.claims("tap1");
    let instances: Vec<_> = claims.iter().map(|claim| claim.instance).collect();
    assert_eq!(instances, [id(1), id(2)]);
    assert_eq!(claims[0].project, ProjectId::from("q"));
    store.remove(id(1));
    assert_eq!(store.claims("tap1").len(), 1);
    assert!(store.claims("tap9").is_empty());
}

#[test]
fn the_first_password_is_kept_until_the_instance_goes() {
    let store = Store::new(Cloud::default());
    assert_eq!(store.set_password(id(1), password("x")), Written::Unavailable, "no such instance");
    store.put(record(1, "p", &["tap1"]));
    assert_eq!(store.set_password(id(1), password("first")), Written::Kept);
    assert_eq!(store.set_password(id(1), password("second")), Written::Exists);
    let mut content = record(1, "p", &["tap1"]);
    content.hostname = "other".into();
    store.put(content);
    let instance = store.get(id(1)).expect("there");
    assert_eq!(instance.password().map(Password::as_str), Some("first"));
    store.remove(id(1));
    store.put(record(1, "p", &["tap1"]));
    assert!(store.get(id(1)).expect("there").password().is_none());
}

#[test]
fn a_password_of_the_document_goes_with_it_and_a_posted_one_can_be_cleared() {
    let store = Store::new(Cloud::default());
    let with =
        |password: Option<&str>| InstanceRecord { password: password.map(Into::into), ..record(1, "p", &["tap1"]) };
    let reads = || store.get(id(1)).expect("there").password().map(|password| password.as_str().to_owned());
    store.put(with(Some("documented")));
    assert_eq!(store.set_password(id(1), password("posted")), Written::Exists);
    assert_eq!(store.clear_password(id(1)), ClearedPassword::InDocument);
    store.put(with(None));
    assert_eq!(reads(), None, "it was the document's");
    assert_eq!(store.set_password(id(1), password("posted")), Written::Kept);
    store.put(with(Some("documented")));
    assert_eq!(reads().as_deref(), Some("documented"));
    store.put(with(None));
    assert_eq!(reads().as_deref(), Some("posted"));
    assert_eq!(store.clear_password(id(1)), ClearedPassword::Cleared);
    assert_eq!((reads(), store.clear_password(id(1))), (None, ClearedPassword::None));
    assert_eq!(store.set_password(id(1), password("again")), Written::Kept);
    assert_eq!(store.clear_password(id(9)), ClearedPassword::NoInstance);
    store.put_nova_pages(NovaPages::new(id(3), []));
    assert_eq!(store.clear_password(id(3)), ClearedPassword::KeptByNova);
}

#[test]
fn answers_of_targets_outlive_a_change_but_not_the_instance() {
    let store = Store::new(Cloud::default());
    let mut changes = store.subscribe();
    assert!(!store.set_dynamic(id(1), "a", Value::Null), "no such instance");
    store.put(record(1, "p", &["tap1"]));
    assert!(store.set_dynamic(id(1), "a", Value::from(1)));
    assert!(store.set_dynamic(id(1), "b", Value::from(2)));
    let held = store.get(id(1)).expect("there");
    assert!(!store.set_dynamic(id(1), "a", Value::from(1)));
    assert!(Arc::ptr_eq(&held, &store.get(id(1)).expect("there")), "an equal answer changes nothing");
    let mut content = record(1, "p", &["tap1"]);
    content.hostname = "other".into();
    store.put(content);
    assert_eq!(*store.get(id(1)).expect("there").dynamic(), *held.dynamic());
    let seen = changes.take();
    assert_eq!(seen.len(), 1, "one entry for an instance");
    assert!(seen[0].document && !seen[0].removed);
    store.set_dynamic(id(1), "a", Value::from(2));
    assert!(changes.take().iter().all(|change| !change.document && change.taps.is_empty()));
    store.remove(id(1));
    store.put(record(1, "p", &["tap1"]));
    assert!(store.get(id(1)).expect("there").dynamic().is_empty());
    assert!(changes.take()[0].removed, "though it came back");
}

#[test]
fn readers_see_whole_records_while_writers_write() {
    let store = Arc::new(Store::new(Cloud::default()));
    store.put(record(1, "p0", &["tap-shared", "tap0"]));
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (store, stop) = (Arc::clone(&store), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut reads = 0;
                while !stop.load(Ordering::Relaxed) || reads < 100 {
                    let instance = store.get(id(1)).expect("never absent");
                    let record = instance.record();
                    let number = record.project_id.as_str().trim_start_matches('p').to_owned();
                    assert_eq!(record.ports[1].device_name(), format!("tap{number}"));
                    assert_eq!(store.claims("tap-shared").len(), 1);
                    reads += 1;
                }
            })
        })
        .collect();
    for round in 1..500 {
        let name = format!("tap{round}");
        store.put(record(1, &format!("p{round}"), &["tap-shared", &name]));
    }
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.join().expect("a reader saw a torn state");
    }
}

#[test]
fn copied_answers_stand_beside_records_and_replace_them() {
    let store = Store::new(Cloud::default());
    let copied = |number| NovaPages::new(id(number), [("".to_owned(), crate::api::Page::not_found())]);
    store.put(record(1, "p", &["tap1"]));
    store.put(record(2, "p", &["tap2"]));
    let mut changes = store.subscribe();
    assert!(store.put_nova_pages(copied(1)) && !store.put_nova_pages(copied(1)));
    assert_eq!(devices(&mut changes), ["tap1"], "a copy claims no device");
    assert!(store.claims("tap1").is_empty() && store.get(id(1)).is_none() && store.nova_pages(id(1)).is_some());
    assert_eq!(store.set_password(id(1), password("x")), Written::Unavailable);
    assert!(store.put(record(1, "p", &["tap1"])));
    assert_eq!(devices(&mut changes), ["tap1"]);
    store.put_nova_pages(copied(3));
    assert_eq!(store.keep_only(|id| id == self::id(2)), [id(1), id(3)]);
    assert!(store.served(id(3)).is_none());
}

#[test]
fn a_generation_grows_with_each_change_and_is_never_used_again() {
    let store = Store::new(Cloud::default());
    assert_eq!(store.generation(id(1)), None);
    let mut last = 0;
    let mut grows = |store: &Store| {
        let generation = store.generation(id(1)).expect("there");
        assert!(generation > last, "{generation} after {last}");
        last = generation;
    };
    store.put(record(1, "p", &["tap1"]));
    grows(&store);
    store.put(record(2, "p", &["tap2"]));
    store.set_dynamic(id(1), "a", Value::from(1));
    grows(&store);
    assert_eq!(store.set_password(id(1), password("x")), Written::Kept);
    grows(&store);
    store.remove(id(1));
    assert_eq!(store.generation(id(1)), None);
    store.put(record(1, "p", &["tap1"]));
    grows(&store);
    assert_eq!(store.revision(), Revision { changes: 6, removals: 1 });
}

/// Counts wake-ups.
#[derive(Default)]
struct Woken(AtomicUsize);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_waiter_is_woken_by_its_own_instance_only_and_leaves_nothing_behind() {
    let store = Store::new(Cloud::default());
    {
        let waiter = store.wait(id(1));
        let mut content = std::pin::pin!(waiter.content());
        let woken = Arc::new(Woken::default());
        let waker = Arc::clone(&woken).into();
        let mut context = std::task::Context::from_waker(&waker);
        assert!(content.as_mut().poll(&mut context).is_pending());
        assert!(store.is_empty() && store.served(id(1)).is_none() && store.ids().is_empty() && !store.remove(id(1)));
        for number in 2..1000 {
            store.put(record(number, "p", &["tap"]));
        }
        assert_eq!(woken.0.load(Ordering::SeqCst), 0, "others wake nobody");
        store.put(record(1, "p", &["tap1"]));
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert!(content.as_mut().poll(&mut context).is_ready());
    }
    store.keep_only(|_| false);
    drop((store.wait(id(1)), store.wait(id(1))));
    assert_eq!(store.slots.len(), 0, "an empty slot goes with the last who waits");
}

#[test]
fn no_wake_up_is_lost_between_a_look_and_a_wait() {
    let store = Arc::new(Store::new(Cloud::default()));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    for round in 0..2000 {
        let (reader, writer) = (Arc::clone(&store), Arc::clone(&store));
        let waiting = runtime.spawn(async move { reader.wait(id(round)).content().await.uuid() });
        // Beside the waiter, at any moment of its look.
        let writing = runtime.spawn(async move { writer.put(record(round, "p", &["tap"])) });
        // A lost wake-up would hang here, and the runner says which test it was.
        assert_eq!(runtime.block_on(waiting).expect("no panic"), id(round));
        assert!(runtime.block_on(writing).expect("no panic"));
    }
}

#[test]
fn user_data_that_was_read_stays_read_until_the_instance_boots_anew() {
    let with = |data: &'static str, image: &str| InstanceRecord {
        user_data: Some(data.as_bytes().into()),
        image_ref: Some(image.into()),
        ..record(1, "p", &["tap1"])
    };
    let store = Store::new(Cloud::default());
    store.note_user_data_read(id(1), 5);
    assert_eq!(store.user_data_read(id(1)), None, "there is no such instance");
    store.put(with("a", "1"));
    let before = store.revision().changes;
    store.note_user_data_read(id(1), 5);
    store.note_user_data_read(id(1), 6);
    assert_eq!(store.user_data_read(id(1)), Some(5), "the first time counts");
    assert_eq!(store.revision().changes, before + 1, "which is to be kept on disk");
    store.put(InstanceRecord { hostname: "other".into(), ..with("a", "1") });
    store.set_password(id(1), password("x"));
    assert_eq!(store.user_data_read(id(1)), Some(5), "nothing of it changes what it boots with");
    for (data, image) in [("b", "1"), ("b", "2")] {
        store.put(with(data, image));
        assert_eq!(store.user_data_read(id(1)), None, "{data} {image}");
        store.note_user_data_read(id(1), 7);
    }
    assert!(store.reset_user_data(id(1)) && store.user_data_read(id(1)).is_none());
    store.note_user_data_read(id(1), 8);
    store.remove(id(1));
    assert!(!store.reset_user_data(id(1)));
    store.put(with("b", "2"));
    assert_eq!(store.user_data_read(id(1)), None, "an instance of the same id");
}

#[test]
fn what_nova_says_of_a_rebuilt_instance_is_read_anew() {
    let pages = |data: Option<&str>, image: &str| {
        let page = |text: &str| crate::api::Page::found(None, text.to_owned().into());
        let data = data.map(|data| ("latest/user-data".to_owned(), page(data)));
        NovaPages::new(id(1), data.into_iter().chain([("latest/meta-data/ami-id".to_owned(), page(image))]))
    };
    let store = Store::new(Cloud::default());
    store.put_nova_pages(pages(Some("a"), "1"));
    store.note_user_data_read(id(1), 5);
    store.put_nova_pages(pages(None, "1"));
    assert_eq!(store.user_data_read(id(1)), Some(5), "a page that is not known says nothing");
    store.put_nova_pages(pages(Some("a"), "2"));
    assert_eq!(store.user_data_read(id(1)), None, "another image");
}
