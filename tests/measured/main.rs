//! Real controllers, measured: how soon a change is seen, how long a start takes, and that nothing is left over of what happens to a
//! node. It runs alone, after the tests of controllers: `cargo xtask test controllers`.
#![allow(clippy::unwrap_used, reason = "tests end where something is not as they need it")]

use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use etcd_client::{Client, PutOptions, Txn, TxnOp};
use hdrhistogram::Histogram;
use lab::{Document, Etcd, EtcdPlan, Node, NodePlan, Request};
use serde_json::json;

const CHANGES: u32 = 1000;
const INSTANCES: u32 = 10_000;
const USER_DATA: &str = "/openstack/latest/user_data";

fn key(uuid: &str) -> String {
    format!("/metadatad/nodes/n/instances/{uuid}")
}

fn world() -> Result<(Node, Etcd)> {
    let plan = EtcdPlan::default();
    let source = format!("kind = \"etcd\"\n[source.etcd]\nendpoints = {:?}\nnode = \"n\"\n", plan.endpoints());
    // The guest asks as fast as it can.
    let node = NodePlan::default().source(&source).further("[http]\nrequests_per_second = 0\n").make()?;
    let etcd = plan.start(node.namespace())?;
    Ok((node, etcd))
}

/// Runs `work` with a client of etcd, inside the node's namespace.
fn with_client<T: Send>(node: &Node, etcd: &Etcd, work: impl AsyncFnOnce(Client) -> Result<T> + Send) -> Result<T> {
    node.namespace().run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { work(Client::connect(etcd.endpoints(), None).await?).await })
    })
}

#[test]
fn a_change_in_etcd_is_seen_by_its_guest_within_twenty_milliseconds() {
    let (node, etcd) = world().unwrap();
    node.start_daemon().unwrap();
    let guest = node.guest("a").document(|document| document.with_user_data(b"start")).at_once().boot().unwrap();
    etcd.put(&key(guest.uuid()), &guest.document().text()).unwrap();
    node.wait_bound(guest.ifindex()).unwrap();
    let (changes, inbox) = mpsc::channel::<u32>();
    let (document, node, etcd) = (guest.document(), &node, &etcd);
    let seen = std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            with_client(node, etcd, async move |mut client| {
                while let Ok(change) = inbox.recv() {
                    let document = document.clone().with_user_data(change.to_string().as_bytes());
                    client.put(key(document.uuid()), document.text(), None::<PutOptions>).await?;
                }
                Ok(())
            })
        });
        let seen = guest.namespace().run(move || {
            let mut seen = Histogram::<u64>::new(3).context("a histogram")?;
            let request = Request::get(USER_DATA);
            let mut connection = request.connect()?;
            for change in 0..CHANGES {
                let start = Instant::now();
                changes.send(change)?;
                while connection.exchange(&request)?.text() != change.to_string() {
                    anyhow::ensure!(start.elapsed() < lab::wait::PATIENCE, "change {change} is not seen");
                }
                seen.record(u64::try_from(start.elapsed().as_micros())?)?;
            }
            drop(changes);
            Ok(seen)
        });
        writer.join().unwrap().unwrap();
        seen.unwrap()
    });
    let [p50, p99, most] = [seen.value_at_quantile(0.5), seen.value_at_quantile(0.99), seen.max()];
    println!("{CHANGES} changes, from etcd's put to the guest's eyes: p50 {p50} µs, p99 {p99} µs, at most {most} µs");
    assert!(p99 < 20_000, "p99 is {p99} µs");
}

#[test]
fn ten_thousand_instances_are_read_from_etcd_within_three_seconds() {
    let (node, etcd) = world().unwrap();
    with_client(&node, &etcd, async |mut client| {
        for numbers in (1..=INSTANCES).collect::<Vec<_>>().chunks(100) {
            let puts: Vec<_> = numbers
                .iter()
                .map(|number| {
                    let [_, _, high, low] = number.to_be_bytes();
                    let mac = lab::guest::mac_text([0xfa, 0x16, 0x3e, 8, high, low]);
                    let port = json!({"id": lab::guest::port_id(*number), "mac_address": mac});
                    let uuid = format!("{number:08x}-0000-4000-9000-000000000000");
                    let document = Document::new(&uuid, &format!("guest-{number}"), port).with_user_data(&[b'x'; 1024]);
                    TxnOp::put(key(&uuid), document.text(), None)
                })
                .collect();
            client.txn(Txn::new().and_then(puts)).await?;
        }
        Ok(())
    })
    .unwrap();
    let start = Instant::now();
    node.start_daemon().unwrap();
    let ready = start.elapsed();
    assert_eq!(node.status().unwrap()["source"]["instances"], INSTANCES);
    println!("{INSTANCES} instances with 1 KiB of user data read from etcd; the daemon is ready after {ready:?}");
    assert!(ready < Duration::from_secs(3), "{ready:?}");
}

/// `cargo xtask soak`, as short as it can be: it shows that the soak itself works, and a loss of everything that is done once.
#[test]
fn a_node_to_which_everything_has_happened_is_as_before() {
    let report = lab::soak::run(&lab::soak::Plan::shortest(), |line| println!("{line}")).unwrap();
    println!("{report}");
}
